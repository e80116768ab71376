//! The reaper's queue: closed intents in memory, by the time when they are due.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::key::Key;
use crate::record::Replica;

/// At most this many intents are in memory, some 200 bytes each.
#[cfg(not(test))]
const CAPACITY: usize = 100_000;
/// So few that the unit tests' two keys can have more.
#[cfg(test)]
const CAPACITY: usize = 3;

/// Jobs by the time when they are due. Where it is full, further intents stay in the index alone, and are
/// found by a scan once there is room again.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<(Instant, u64), Job>,
    /// The index has intents that are not in here.
    overflowed: bool,
}

/// The files of one closed intent, to be deleted.
pub(super) struct Job {
    pub(super) key: Key,
    /// The intent's number.
    pub(super) id: u64,
    /// Since when no request of the attempt can have been sent.
    pub(super) closed: Instant,
    /// Whether all its requests were answered.
    pub(super) all_answered: bool,
    /// Nobody has had the key's claim since the intent was found in the index, or the attempt goes on without a
    /// claim: it may still be under way.
    pub(super) end_unknown: bool,
    /// The files that are still to be confirmed; all, if that isn't known.
    pub(super) left: Option<Vec<Replica>>,
    /// Rounds in a row that didn't confirm everything.
    pub(super) failures: u32,
}

impl Job {
    pub(super) fn new(key: &Key, id: u64, all_answered: bool) -> Self {
        let closed = Instant::now();
        Self { key: key.clone(), id, closed, all_answered, end_unknown: false, left: None, failures: 0 }
    }

    /// Of an intent that was found in the index: what its requests came to is not known.
    pub(super) fn of_unknown_end(key: &Key, id: u64) -> Self {
        Self { end_unknown: true, ..Self::new(key, id, false) }
    }
}

impl Queue {
    /// Takes on a closed intent. `all_answered`: all requests of its attempt were answered.
    pub(super) fn add(&self, key: &Key, id: u64, all_answered: bool, delay: Duration) {
        let now = Instant::now();
        self.push(now + delay, Job::new(key, id, all_answered));
    }

    pub(super) fn push(&self, due: Instant, job: Job) {
        let mut waiting = self.waiting();
        if waiting.jobs.len() < CAPACITY {
            waiting.jobs.insert((due, job.id), job);
        } else {
            waiting.overflowed = true;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// The next job, when it is due; the time to wait for otherwise.
    pub(super) fn next(&self) -> std::result::Result<Job, Option<Instant>> {
        let mut waiting = self.waiting();
        match waiting.jobs.first_entry() {
            Some(job) if job.key().0 <= Instant::now() => Ok(job.remove()),
            first => Err(first.map(|job| job.key().0)),
        }
    }

    /// A volume is up again: the deletions that failed there are due at once.
    pub(super) fn hurry(&self, volume: &str) {
        let mut waiting = self.waiting();
        let waits_for_it = |_: &_, job: &mut Job| {
            let mut left = job.left.iter().flatten();
            job.failures > 0 && left.any(|file| file.place.volume() == volume)
        };
        let hurried: Vec<Job> = waiting.jobs.extract_if(.., waits_for_it).map(|(_, job)| job).collect();
        let now = Instant::now();
        waiting.jobs.extend(hurried.into_iter().map(|job| ((now, job.id), job)));
    }

    /// True once when the queue has room again after it was too full to take all there is.
    pub(super) fn wants_scan(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.jobs.len() <= CAPACITY / 2 && std::mem::take(&mut waiting.overflowed)
    }

    /// Notes that the index has intents that are not in here.
    pub(super) fn overflow(&self) {
        self.waiting().overflowed = true;
    }

    /// The numbers of the intents that are in the queue.
    pub(super) fn ids(&self) -> HashSet<u64> {
        self.waiting().jobs.values().map(|job| job.id).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
