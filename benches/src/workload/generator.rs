//! What the benchmarks themselves cost an operation: keys, values, their checks, draws. No engine takes part.

use std::hint::black_box;

use crate::error::{Result, fault};
use crate::generate::{Random, Scrambled, Values, chunk_key, numbered_key, path_key, user_key};
use crate::measure::Recorder;
use crate::workload::Session;

const NUM: u64 = 1_000_000;

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let (num, seed, key_bytes) = (session.num_or(NUM), session.arguments.seed, session.arguments.key_size);
    let values = Values::new(seed, session.arguments.value_size.unwrap_or(100));
    let mut key = Vec::new();
    let part = |session: &mut Session<'_>, name: &str, mut work: Box<dyn FnMut(u64) + '_>| -> Result<()> {
        let row = session.measured_alone(name, |_| {
            (0..num).for_each(&mut *work);
            Ok(num)
        })?;
        session.emit(row)
    };
    let mut random = Random::new(seed, 1);
    part(
        session,
        "numbered keys, drawn",
        Box::new(|_| numbered_key(black_box(random.below(num)), key_bytes, &mut key)),
    )?;
    let mut key = Vec::new();
    part(
        session,
        "keys of chunks",
        Box::new(|number| {
            black_box(chunk_key(seed, number));
        }),
    )?;
    part(session, "paths", Box::new(|number| path_key(black_box(number), &mut key)))?;
    let (zipf, mut random, mut key) = (Scrambled::new(num), Random::new(seed, 2), Vec::new());
    part(
        session,
        "YCSB's keys, zipfian",
        Box::new(|_| user_key(black_box(zipf.draw(&mut random)), &mut key)),
    )?;
    let mut value = Vec::new();
    part(session, "values", Box::new(|number| values.fill(black_box(number), 7, &mut value)))?;
    let (mut value, mut wrong) = (Vec::new(), 0_u64);
    values.fill(3, 7, &mut value);
    part(
        session,
        "checks of values",
        Box::new(|_| wrong += u64::from(!values.check(black_box(3), black_box(&value)))),
    )?;
    let mut recorder = Recorder::new(1);
    part(session, "times of calls", Box::new(|_| drop(recorder.time(1, || Ok(())))))?;
    if wrong == 0 { Ok(()) } else { fault("a value that was just made is not recognised") }
}
