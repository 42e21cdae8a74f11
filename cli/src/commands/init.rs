//! `versions init`: a new repository on one target or several.

use std::ffi::OsString;

use chunkstore::repository::key::PasswordCost;
use chunkstore::repository::layout::ObjectName;
use chunkstore::repository::{InitOptions, OpenOptions, Protection, Repository};

use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::json;
use crate::session::{Session, target_url};

pub(super) fn run(session: &Session, args: &args::Init) -> Result<Exit, Failure> {
    let repository = make(session, &args.targets.mirror, args.password_cost.into())?;
    drop(repository);
    Ok(Exit::Success)
}

/// Makes the repository and says so.
pub(super) fn make(
    session: &Session,
    mirrors: &[OsString],
    cost: PasswordCost,
) -> Result<Repository, Failure> {
    let mut urls = vec![target_url(session.repo()?)?];
    let options = session.open_options()?;
    for mirror in mirrors {
        urls.push(target_url(mirror)?);
    }
    refuse_what_is_there(&urls, &options)?;
    let password = session.password.get_new("enter a password for the new repository: ")?;
    session.interrupt.check()?;
    let label = session.label(None, None);
    let protection = match &password {
        None => Protection::Unencrypted,
        Some(password) => Protection::Password { password, label: &label, cost },
    };
    let repository = Repository::init(&urls, &options, protection, &InitOptions::default())?;
    let id = repository.id().to_string();
    if session.output.is_json() {
        session.output.json_line(&json::Initialized {
            message_type: "initialized",
            id,
            repository: urls.first().map_or("", String::as_str),
            targets: &urls,
            encrypted: password.is_some(),
        });
    } else {
        let mut text = format!("made repository {id} on {}\n", urls.join(", "));
        match password {
            Some(_) => text.push_str("Keep the password safe: without it nothing can be restored.\n"),
            None => text.push_str("It is not encrypted: whoever can read a target can read the backups.\n"),
        }
        session.output.summary(&text);
    }
    Ok(repository)
}

/// Nobody is asked for a password, twice, to be told then that there is a repository already.
fn refuse_what_is_there(urls: &[String], options: &OpenOptions) -> Result<(), Failure> {
    for url in urls {
        if let Ok(target) = options.connect.open(url)
            && target.length(&ObjectName::Config.key())?.is_some()
        {
            return Err(Failure::Usage(format!("target {url}: a repository is there already")));
        }
    }
    Ok(())
}

/// Whether this machine remembers a repository at the named target: then a place that is empty now is a disk that is not mounted, and no
/// place for a new repository.
pub(super) fn is_remembered(session: &Session) -> Result<bool, Failure> {
    let url = target_url(session.repo()?)?;
    // What cannot be read any more is no memory.
    let memories = session.open_options()?.state.remembered(&mut |_| {})?;
    Ok(memories.iter().any(|memory| memory.target(&url).is_some_and(|target| target.listed)))
}
