//! `versions target`: this machine's list of the repository's targets.

use chunkstore::repository::TargetInfo;
use serde::Serialize;

use crate::args::{self, TargetCommand};
use crate::exit::{Exit, Failure};
use crate::render::table::{Align, Table};
use crate::render::{path, words};
use crate::session::{Session, target_url};

pub(super) fn run(session: &Session, args: &args::Target) -> Result<Exit, Failure> {
    let reporter = session.reporter_of_question();
    let mut repository = session.open_repository(&reporter)?;
    match &args.command {
        TargetCommand::List => {
            let targets = repository.target_list()?;
            reporter.finish();
            show(session, &targets)?;
        }
        TargetCommand::Add { url } => {
            let url = target_url(url)?;
            repository.add_target(&url, &reporter)?;
            tell(session, "target_added", &url, "added", "`versions mirror` or the next backup fills it");
        }
        TargetCommand::Remove { url } => {
            let url = target_url(url)?;
            repository.remove_target(&url)?;
            tell(session, "target_removed", &url, "forgot", "what it holds stays there");
        }
    }
    Ok(reporter.exit())
}

/// What was done to a target; ours.
#[derive(Serialize)]
struct Done<'a> {
    message_type: &'static str,
    url: &'a str,
}

/// Says what was done to a target, and to a person what that means.
fn tell(session: &Session, message_type: &'static str, url: &str, done: &str, so: &str) {
    if session.output.is_json() {
        session.output.json_line(&Done { message_type, url });
    } else {
        session.output.summary(&format!("{done} {}; {so}\n", path::show(url.as_bytes())));
    }
}

#[derive(Serialize)]
struct Json<'a> {
    url: &'a str,
    listed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn show(session: &Session, targets: &[TargetInfo]) -> Result<(), Failure> {
    let mut page = session.output.page();
    if session.output.is_json() {
        let error = |target: &TargetInfo| target.error.as_ref().map(ToString::to_string);
        let all: Vec<Json<'_>> = targets
            .iter()
            .map(|target| Json { url: &target.url, listed: target.listed, error: error(target) })
            .collect();
        page.json(&all)?;
    } else {
        let mut table = Table::new(&[("Target", Align::Left), ("State", Align::Left)]);
        for target in targets {
            let state = match (&target.error, target.listed) {
                (Some(error), _) => words::of_target(error, &target.url),
                (None, true) => "there".to_owned(),
                (None, false) => "there, named for this run only".to_owned(),
            };
            table.row(vec![path::show(target.url.as_bytes()).into_owned(), state]);
        }
        page.text(&table.show())?;
    }
    page.finish()
}
