//! Reading objects whole and hashing them: all, or a part, what was not read for longest first.
//!
//! Targets are read side by side, each by a thread of its own, an object at a time. What was seen is remembered on the way, so a
//! verification that is stopped goes on where it was with what is oldest by then.

use std::str::FromStr;

use super::holdings::{Holdings, Seen};
use super::survey::{Copy, Survey, Surveyed, check_cancelled, read};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::{Event, Monitor};
use crate::repository::inspect::Inspector;
use crate::repository::layout::{ObjectKind, ObjectName};
use crate::repository::now;

/// Which objects are read whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// None but the small ones, and one copy of each segment.
    #[default]
    Nothing,
    /// Every object on every target.
    All,
    /// One of `count` parts, from 1: which it is in depends on an object's name alone, so that all parts together are everything.
    Part {
        /// Which part, from 1.
        part: u64,
        /// Of how many.
        count: u64,
    },
    /// This share of the bytes of each target, in thousandths of a percent; what was not read for longest.
    Share(u32),
    /// So many bytes of each target; what was not read for longest.
    Bytes(u64),
}

/// As `--read-data-subset` has it: `1/7`, `2.5%`, `500M`.
impl FromStr for ReadData {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{text:?}: a part (1/7), a percentage (2.5%) or a size (500M) is needed"),
            )
        };
        if let Some((part, count)) = text.split_once('/') {
            let (part, count) = (part.parse().map_err(|_| bad())?, count.parse().map_err(|_| bad())?);
            return if (1..=count).contains(&part) { Ok(Self::Part { part, count }) } else { Err(bad()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| bad())?;
            if !(percent > 0.0 && percent <= 100.0) {
                return Err(bad());
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "above 0 and at most 100,000"
            )]
            return Ok(Self::Share((percent * 1000.0).ceil() as u32));
        }
        let unit = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text.get(unit.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(bad()),
        };
        let bytes = unit.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or_else(bad)
    }
}

/// How much is written down at once: a stopped verification loses at most this many results.
const RECORD_COUNT: usize = 64;

/// Reads what `data` says on every target, notes in `survey` and `holdings` what each copy is.
pub(super) fn read_data(
    survey: &mut Survey<'_>,
    data: ReadData,
    holdings: &dyn Holdings,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut plans = Vec::new();
    for index in 0..survey.targets.len() {
        plans.push(plan(survey, index, data, holdings)?);
    }
    let bytes = plans.iter().flatten().map(|(_, length)| length).sum();
    let items = plans.iter().map(|plan| plan.len() as u64).sum();
    monitor.event(Event::Phase { name: "data", bytes: Some(bytes), items: Some(items) });
    let inspector = survey.repository.inspector();
    let results: Vec<Result<Vec<(ObjectName, Copy)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = survey
            .targets
            .iter()
            .zip(&plans)
            .map(|(target, plan)| {
                scope.spawn(move || read_target(target, plan, inspector, holdings, monitor))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    });
    for (index, result) in results.into_iter().enumerate() {
        for (name, copy) in result? {
            if let Some(object) = survey.objects.get_mut(&name) {
                object.set(index, copy);
            }
        }
    }
    Ok(())
}

/// What to read on a target, in this order, with its length.
fn plan(
    survey: &Survey<'_>,
    index: usize,
    data: ReadData,
    holdings: &dyn Holdings,
) -> Result<Vec<(ObjectName, u64)>> {
    let Some(target) = survey.targets.get(index) else { return Ok(Vec::new()) };
    let listed = |(name, object): (&ObjectName, &super::survey::Object)| match object.copies.get(index) {
        Some(Copy::Listed(length)) => Some((*name, *length)),
        _ => None,
    };
    let mut all: Vec<_> = survey.objects.iter().filter_map(listed).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let times = holdings.last_verified(target.url(), &names)?;
    let mut order: Vec<_> = times.into_iter().zip(std::mem::take(&mut all)).collect();
    order.sort();
    let total: u64 = order.iter().map(|(_, (_, length))| length).sum();
    let budget = match data {
        ReadData::Nothing => 0,
        ReadData::All | ReadData::Part { .. } => u64::MAX,
        ReadData::Share(share) => {
            u64::try_from(u128::from(total) * u128::from(share) / 100_000).unwrap_or(total).max(1)
        }
        ReadData::Bytes(bytes) => bytes,
    };
    let mut spent = 0u64;
    let chosen = order.into_iter().map(|(_, object)| object).filter(|(name, _)| is_in_part(name, data));
    let within = |(_, length): &(ObjectName, u64)| {
        let before = spent;
        spent = spent.saturating_add(*length);
        before < budget
    };
    Ok(chosen.take_while(within).collect())
}

fn is_in_part(name: &ObjectName, data: ReadData) -> bool {
    let ReadData::Part { part, count } = data else { return true };
    let number = name
        .hash()
        .map_or(0, |hash| hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    number % count == part - 1
}

fn read_target(
    target: &Surveyed,
    plan: &[(ObjectName, u64)],
    inspector: &Inspector,
    holdings: &dyn Holdings,
    monitor: &dyn Monitor,
) -> Result<Vec<(ObjectName, Copy)>> {
    let mut copies = Vec::with_capacity(plan.len());
    let mut seen = Vec::with_capacity(RECORD_COUNT);
    for (name, length) in plan {
        if target.handle.error().is_some() {
            break;
        }
        let stopped = check_cancelled(monitor);
        if stopped.is_err() || seen.len() >= RECORD_COUNT {
            holdings.record(target.url(), now().seconds, &seen)?;
            seen.clear();
            stopped?;
        }
        let (copy, _) = read(target, inspector, name, monitor)?;
        match &copy {
            Copy::Good(length) => seen.push((*name, Seen::Good(*length))),
            Copy::Bad(_) => seen.push((*name, Seen::Damaged)),
            Copy::Absent | Copy::Listed(_) => {}
        }
        copies.push((*name, copy));
        monitor.event(Event::Advance { bytes: *length, items: 1 });
    }
    holdings.record(target.url(), now().seconds, &seen)?;
    Ok(copies)
}

/// Whether reading the data covers objects of this kind; the others are always read.
pub(super) fn is_data(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Pack | ObjectKind::Segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_understood() {
        for (text, data) in [
            ("1/7", ReadData::Part { part: 1, count: 7 }),
            ("7/7", ReadData::Part { part: 7, count: 7 }),
            ("2.5%", ReadData::Share(2500)),
            ("100%", ReadData::Share(100_000)),
            ("0.0001%", ReadData::Share(1)),
            ("500M", ReadData::Bytes(500 << 20)),
            ("10g", ReadData::Bytes(10 << 30)),
            ("12", ReadData::Bytes(12)),
        ] {
            assert_eq!(text.parse::<ReadData>().unwrap(), data, "{text}");
        }
        for bad in
            ["", "0/7", "8/7", "1/0", "a/b", "0%", "101%", "-1%", "NaN%", "5X", "M", "0", "99999999999T"]
        {
            assert_eq!(bad.parse::<ReadData>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }
}
