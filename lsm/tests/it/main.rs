//! The engine as its users see it: one binary, a module a subject.
//!
//! The modules say `cfg(test)` so that their helpers too may unwrap and index: a panic is how a test fails.

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod background;
#[cfg(test)]
mod basics;
#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(feature = "zstd")]
#[cfg(test)]
mod dictionaries;
#[cfg(test)]
mod dropping;
#[cfg(test)]
mod events;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixed;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod lost_edit;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod options;
#[cfg(test)]
mod reopening;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod salvage;
#[cfg(test)]
mod support;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod tidy;
#[cfg(feature = "tool")]
#[cfg(test)]
mod tool;
#[cfg(test)]
mod transactions;
#[cfg(test)]
mod turning;
