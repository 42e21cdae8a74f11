//! Interrupted: by a signal, politely; by kill -9 at any moment. The next run goes on.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::compare::same;
use crate::sandbox::{Sandbox, lines, message};
use crate::tree::{Random, change, copy, fill};

fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

fn ends_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    panic!("still running {limit:?} after the signal");
}

#[test]
fn a_signal_ends_a_backup_with_130_and_the_next_run_goes_on() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 20, &mut Random::new(21));
    sandbox.init(&[]);
    let first = sandbox.backup();
    for wanted in [Signal::INT, Signal::TERM] {
        // Input that never ends keeps it busy until the signal comes.
        let mut backup = sandbox
            .command(["backup", "--stdin"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = backup.stdin.take().unwrap();
        input.write_all(&Random::new(22).noise(3_000_000)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal(&backup, wanted);
        assert_eq!(ends_within(&mut backup, Duration::from_secs(20)), Some(130));
        drop(input);
    }
    assert_eq!(sandbox.snapshots(), [first]);
    sandbox.expect(0, ["verify", "--read-data"]);
    let second = sandbox.backup();
    copy(&sandbox.tree(), &sandbox.path("then"));
    same(&sandbox.path("then"), &sandbox.restore(&second));
}

/// A backup that waits for more input, what it says, and how it ends when it is asked to stop.
fn stopped(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut backup = sandbox
        .command(["backup", "--stdin"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = backup.stdin.take().unwrap();
    input.write_all(&Random::new(25).noise(1_000_000)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&backup, Signal::TERM);
    assert_eq!(ends_within(&mut backup, Duration::from_secs(20)), Some(130));
    let mut said = String::new();
    backup.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn a_signal_is_answered_at_once() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let said = stopped(&sandbox, &[]);
    let stopping = said.find("stopping").unwrap_or_else(|| panic!("{said}"));
    assert!(stopping < said.find("Fatal: interrupted").unwrap(), "{said}");
    assert!(!stopped(&sandbox, &["--quiet"]).contains("stopping"));
    let json = lines(stopped(&sandbox, &["--json"]).as_bytes());
    assert!(message(&json, "note")["message"].as_str().unwrap().contains("stopping"), "{json:?}");
    assert_eq!(message(&json, "exit_error")["code"], 130);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    // What it waits for here is not ended by the first one.
    let mut waits = sandbox
        .command(["snapshots", "--password-command", "sleep 5"])
        .env_remove("VERSIONS_PASSWORD")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&waits, Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(waits.try_wait().unwrap().is_none());
    signal(&waits, Signal::INT);
    assert_eq!(ends_within(&mut waits, Duration::from_secs(2)), Some(130));
}

/// So many kills; a few by default, the fifty of the proof on request.
fn rounds() -> u64 {
    std::env::var("VERSIONS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5)
}

#[test]
fn kill_9_at_any_moment_loses_nothing() {
    let sandbox = Sandbox::new();
    let tree = sandbox.tree();
    fill(&tree, 150, &mut Random::new(23));
    sandbox.init(&["b"]);
    let start = Instant::now();
    let mut made = vec![sandbox.backup()];
    let whole = start.elapsed();
    copy(&tree, &sandbox.path("then-1"));
    let mut random = Random::new(24);
    for round in 1..=rounds() {
        change(&tree, round);
        let mut backup = sandbox
            .command(["backup".into(), "--quiet".into(), tree.clone()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moment = whole.mul_f64(f64::from(u32::try_from(random.below(1000)).unwrap()) / 1000.0);
        std::thread::sleep(moment);
        let _ = backup.kill();
        let _ = backup.wait();
        // Earlier snapshots are there; the killed one is whole or absent.
        let now = sandbox.snapshots();
        assert!(now.starts_with(&made) && now.len() <= made.len() + 1, "{made:?} {now:?}");
        // A target may be behind the other, by what the killed run brought only to one of them; nothing is damaged.
        let verify = sandbox.command(["verify", "--read-data"]).output().unwrap();
        assert!(matches!(verify.status.code(), Some(0 | 22)), "{verify:?}");
        let then = now.last().unwrap();
        if now.len() > made.len() {
            same_as_now(&sandbox, then);
        }
        // The next run goes on.
        let next = sandbox.backup();
        let then = sandbox.snapshots();
        // One that was killed between its outbox and the first target comes with it.
        let most = made.len() + 2;
        assert!(
            then.starts_with(&now) && then.last() == Some(&next) && then.len() <= most,
            "{now:?} {then:?}"
        );
        made = then;
        copy(&tree, &sandbox.path(format!("then-{}", made.len())));
        sandbox.expect(0, ["verify", "--read-data"]);
        same_as_now(&sandbox, made.last().unwrap());
    }
    same(&sandbox.path("then-1"), &sandbox.restore(&made[0]));
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    same(&sandbox.path("then-1"), &sandbox.restore_on("b", "fresh", &made[0]));
    same_as_now(&sandbox, made.last().unwrap());
}

fn same_as_now(sandbox: &Sandbox, snapshot: &str) {
    same(&sandbox.tree(), &sandbox.restore(snapshot));
}
