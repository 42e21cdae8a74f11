//! Targets: what is said of them.

use crate::sandbox::{Sandbox, lines, message};

#[test]
fn what_was_done_to_a_target_is_told_to_programs() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let url = sandbox.target("b").to_str().unwrap().to_owned();
    for (verb, message_type) in [("add", "target_added"), ("remove", "target_removed")] {
        let said = lines(&sandbox.expect(0, ["target", verb, &url, "--json"]).stdout);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(message(&said, message_type)["url"], url.as_str());
    }
}
