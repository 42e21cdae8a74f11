//! `versions key`: the passwords of a repository.

use chunkstore::id::ObjectHash;
use chunkstore::repository::{KeyInfo, Repository};
use serde::Serialize;

use crate::args::{self, KeyCommand};
use crate::cost;
use crate::exit::{Exit, Failure};
use crate::password::{self, Password, Source};
use crate::render::table::{Align, Table};
use crate::render::{path, snapshot, time};
use crate::reporter::Reporter;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &args::Key) -> Result<Exit, Failure> {
    let reporter = session.reporter_of_question();
    let mut repository = session.open_repository(&reporter)?;
    match &args.command {
        KeyCommand::List => list(session, &repository, &reporter)?,
        KeyCommand::Add(new) => {
            let password = new_password(new, &reporter)?;
            let label = session.label(new.user.as_deref(), new.host.as_deref());
            let name = repository.add_key(&password, &label, new.password_cost.into(), &reporter)?;
            tell(session, "key_added", "added key", &name, &label);
        }
        KeyCommand::Passwd(new) => {
            let password = new_password(new, &reporter)?;
            let label = session.label(new.user.as_deref(), new.host.as_deref());
            let name = repository.change_key(&password, &label, new.password_cost.into(), &reporter)?;
            tell(session, "key_changed", "the password is changed: key", &name, &label);
        }
        KeyCommand::Remove { key } => {
            let keys = repository.keys(&reporter)?;
            let chosen = choose(&keys, key)?;
            repository.remove_key(&chosen.name, &reporter)?;
            tell(session, "key_removed", "removed key", &chosen.name, &chosen.label);
        }
    }
    Ok(reporter.exit())
}

/// What was done to a key; ours.
#[derive(Serialize)]
struct Done<'a> {
    message_type: &'static str,
    id: String,
    label: &'a str,
}

/// Says what was done to a key.
fn tell(session: &Session, message_type: &'static str, done: &str, name: &ObjectHash, label: &str) {
    // Labels are written by whoever made the key: fit for a terminal they are not.
    let label = path::show(label.as_bytes());
    if session.output.is_json() {
        session.output.json_line(&Done { message_type, id: name.to_string(), label: &label });
    } else {
        session.output.summary(&format!("{done} {} ({label})\n", snapshot::short(name)));
    }
}

fn new_password(new: &args::NewPassword, reporter: &Reporter) -> Result<Password, Failure> {
    let source = new.new_password_file.clone().map_or(Source::Prompt, Source::File);
    if source == Source::Prompt && !password::can_ask() {
        return Err(Failure::Usage(
            "no new password was given, and there is no terminal to ask on: say --new-password-file".into(),
        ));
    }
    let password = reporter.above(|| source.get_new("enter the new password: "))?;
    password.ok_or_else(|| Failure::Usage("a key needs a password".into()))
}

fn choose<'a>(keys: &'a [KeyInfo], id: &str) -> Result<&'a KeyInfo, Failure> {
    let id = id.to_ascii_lowercase();
    let matching: Vec<&KeyInfo> =
        keys.iter().filter(|key| !id.is_empty() && key.name.to_string().starts_with(&id)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::Usage(format!("there is no key {id:?}: `versions key list` lists them"))),
        several => Err(Failure::Usage(format!("{} keys begin with {id:?}: give more digits", several.len()))),
    }
}

/// restic's fields, with ours behind them.
#[derive(Serialize)]
struct Json {
    current: bool,
    id: String,
    #[serde(rename = "userName")]
    user_name: String,
    #[serde(rename = "hostName")]
    host_name: String,
    created: String,
    /// What it costs to try a password on it, by Argon2id.
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

fn list(session: &Session, repository: &Repository, reporter: &Reporter) -> Result<(), Failure> {
    let keys = repository.keys(reporter)?;
    reporter.finish();
    let label = |key: &KeyInfo| path::show(key.label.as_bytes()).into_owned();
    let mut page = session.output.page();
    if session.output.is_json() {
        let all: Vec<Json> = keys
            .iter()
            .map(|key| {
                let label = label(key);
                let (user, host) = label.rsplit_once('@').unwrap_or((&label, ""));
                Json {
                    current: key.current,
                    id: key.name.to_string(),
                    user_name: user.to_owned(),
                    host_name: host.to_owned(),
                    created: time::rfc3339(key.created),
                    memory_kib: key.cost.memory_kib(),
                    passes: key.cost.passes(),
                    lanes: key.cost.lanes(),
                }
            })
            .collect();
        page.json(&all)?;
    } else {
        let mut table = Table::new(&[
            ("ID", Align::Left),
            ("Label", Align::Left),
            ("Created", Align::Left),
            ("Cost", Align::Left),
        ]);
        for key in &keys {
            // As restic marks the one in use.
            let mark = if key.current { "*" } else { " " };
            table.row(vec![
                format!("{mark}{}", snapshot::short(&key.name)),
                label(key),
                time::show(key.created),
                cost::show(key.cost),
            ]);
        }
        page.text(&table.show())?;
    }
    page.finish()
}
