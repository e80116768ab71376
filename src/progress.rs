//! The progress of a long run: the library counts, the programs display.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The counters of the current stage of a run.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    total: AtomicU64,
    done: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of the stage.
    pub stage: &'static str,
    /// Units of work in the stage; 0 if unknown.
    pub total: u64,
    /// Units of work done.
    pub done: u64,
}

impl Progress {
    /// Begins a stage with `total` units of work; 0 if unknown.
    pub fn begin(&self, stage: &'static str, total: u64) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *current = stage;
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Adds to the total of the stage, or subtracts from it.
    pub fn more(&self, work: i64) {
        self.total.fetch_add(work.cast_unsigned(), Ordering::Relaxed);
    }

    /// Notes that work was done.
    pub fn step(&self, work: u64) {
        self.done.fetch_add(work, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn now(&self) -> Snapshot {
        let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, done) = (self.total.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        Snapshot { stage, total, done }
    }
}
