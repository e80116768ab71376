//! How far a long run is: counted where the work is done, shown by the programs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters of a run, one stage after the other.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    total: AtomicU64,
    done: AtomicU64,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What is being done.
    pub stage: &'static str,
    /// How much there is to do; 0 if that isn't known.
    pub total: u64,
    /// How much is done.
    pub done: u64,
}

impl Progress {
    /// Begins a stage of which that much is known to be done.
    pub fn begin(&self, stage: &'static str, total: u64) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *current = stage;
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// More to do came to light, or less.
    pub fn more(&self, work: i64) {
        self.total.fetch_add(work.cast_unsigned(), Ordering::Relaxed);
    }

    /// Some of it is done.
    pub fn step(&self, work: u64) {
        self.done.fetch_add(work, Ordering::Relaxed);
    }

    /// Where the run is.
    pub fn now(&self) -> Snapshot {
        let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, done) = (self.total.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        Snapshot { stage, total, done }
    }
}
