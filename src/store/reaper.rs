//! The reaper: deletes the files that closed intents name, until the volumes confirm that they are
//! gone.
//!
//! An intent whose requests were all answered ends with a round in which every deletion is confirmed
//! (204 or 404). After a request that went unanswered, or a crash, a delayed PUT may still land: the
//! files are deleted at once and again soon after, but only a round begun a quarantine after that
//! ends the intent, and until then its names stay burnt. (A PUT whose body was never sent to its end leaves
//! no doubt: no file can come of it.)
//!
//! It works from a queue in memory that is filled once at start-up; the index is scanned again only
//! after the queue was too full to take more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::Core;
use crate::index::IndexError;
use crate::key::Key;
use crate::record::Replica;

/// At most so many intents are in memory, some 200 bytes each.
#[cfg(not(test))]
const QUEUE: usize = 100_000;
/// So few that the unit tests' two keys can have more.
#[cfg(test)]
const QUEUE: usize = 3;

/// At most so many keys are worked at a time.
const WORKERS: usize = 16;

/// After a doubtful request the files are deleted again this much later, because what was on its way
/// mostly lands soon or never.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Pauses after rounds that failed double from the first to the last of these.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// A key that a request is writing is tried again after this.
const BUSY: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Reaper {
    queue: Mutex<Queue>,
    changed: Notify,
    open: Arc<Mutex<HashMap<u64, Opened>>>,
}

/// An attempt that goes on without the key's claim.
struct Opened {
    key: Key,
    /// A later one has ended, which would have replaced whatever this one had stored.
    overtaken: bool,
}

/// Keeps the reaper off an attempt that goes on without the key's claim.
pub(super) struct Open {
    id: u64,
    all: Arc<Mutex<HashMap<u64, Opened>>>,
}

impl Open {
    /// Whether an attempt that began later has taken effect, whatever the key held. What this one would
    /// store may be taken for stored just before, and replaced.
    pub(super) fn is_overtaken(&self) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&self.id).is_some_and(|own| own.overtaken)
    }

    /// Takes effect, whatever the key held.
    pub(super) fn overtake(&self, key: &Key) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, other) in all.iter_mut().filter(|(id, other)| **id < self.id && other.key == *key) {
            other.overtaken = true;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[derive(Default)]
struct Queue {
    /// By the time when they are due.
    jobs: BTreeMap<(Instant, u64), Job>,
    /// The index has intents that are not in here.
    overflowed: bool,
}

struct Job {
    key: Key,
    /// The intent's.
    id: u64,
    /// Since when no request of the attempt can have been sent.
    closed: Instant,
    /// Whether all its requests were answered.
    certain: bool,
    /// It was found in the index, and nobody has had the key's claim since, or it goes without one: its
    /// attempt may still be under way.
    found: bool,
    /// The files that are still to be confirmed; all, if that isn't known.
    left: Option<Vec<Replica>>,
    /// Rounds in a row that didn't confirm everything.
    failures: u32,
}

impl Job {
    fn new(key: &Key, id: u64, certain: bool) -> Self {
        let closed = Instant::now();
        Self { key: key.clone(), id, closed, certain, found: false, left: None, failures: 0 }
    }
}

impl Reaper {
    /// Takes on a closed intent. `certain`: all requests of its attempt were answered.
    pub(super) fn add(&self, key: &Key, id: u64, certain: bool, delay: Duration) {
        let now = Instant::now();
        self.push(now + delay, Job::new(key, id, certain));
    }

    /// Until what is returned is dropped, the attempt of that number is under way.
    pub(super) fn keep_off(&self, key: &Key, id: u64) -> Open {
        let opened = Opened { key: key.clone(), overtaken: false };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, opened);
        Open { id, all: Arc::clone(&self.open) }
    }

    fn is_open(&self, id: u64) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// What tells of an attempt without the key's claim whether it is under way.
    pub(super) fn watch(&self) -> impl Fn(u64) -> bool + Send + 'static {
        let open = Arc::clone(&self.open);
        move |id| open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn push(&self, due: Instant, job: Job) {
        let mut queue = self.queue();
        if queue.jobs.len() < QUEUE {
            queue.jobs.insert((due, job.id), job);
        } else {
            queue.overflowed = true;
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// The next job, when it is due; the time to wait for otherwise.
    fn next(&self) -> std::result::Result<Job, Option<Instant>> {
        let mut queue = self.queue();
        match queue.jobs.first_entry() {
            Some(job) if job.key().0 <= Instant::now() => Ok(job.remove()),
            first => Err(first.map(|job| job.key().0)),
        }
    }

    /// A volume is back: what failed before is tried at once.
    fn hurry(&self) {
        let mut queue = self.queue();
        let (failed, others) =
            std::mem::take(&mut queue.jobs).into_iter().partition(|(_, job): &(_, Job)| job.failures > 0);
        queue.jobs = others;
        let now = Instant::now();
        let failed: BTreeMap<(Instant, u64), Job> = failed;
        queue.jobs.extend(failed.into_values().map(|job| ((now, job.id), job)));
    }

    /// True once when the queue has room again after it was too full to take all there is.
    fn wants_scan(&self) -> bool {
        let mut queue = self.queue();
        queue.jobs.len() <= QUEUE / 2 && std::mem::take(&mut queue.overflowed)
    }

    /// The intents that are in the queue.
    fn queued(&self) -> HashSet<u64> {
        self.queue().jobs.values().map(|job| job.id).collect()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps until the store stops.
pub(super) async fn run(store: Arc<Core>) {
    let workers = Arc::new(Semaphore::new(WORKERS));
    loop {
        let mut wait = match store.reaper.next() {
            Ok(job) => {
                let Ok(worker) = Arc::clone(&workers).acquire_owned().await else { return };
                let working = Arc::clone(&store);
                store.tasks.spawn(async move {
                    let key = job.key.clone();
                    if AssertUnwindSafe(working.reap(job)).catch_unwind().await.is_err() {
                        tracing::error!(%key, "the reaper panicked");
                        working.hand_over(&key);
                    }
                    drop(worker);
                    // it may have been the last before a scan
                    working.reaper.changed.notify_one();
                });
                if store.stopping.is_cancelled() {
                    return;
                }
                continue;
            }
            Err(wait) => wait,
        };
        if workers.available_permits() == WORKERS && store.reaper.wants_scan() {
            // readers may still be on their way to the files of any
            let Err(error) = store.take_up_intents(store.options.reader_grace).await else { continue };
            tracing::error!(%error, "intents can't be read");
            store.reaper.queue().overflowed = true;
            wait = Some(Instant::now() + BACKOFF[1]);
        }
        let due = async {
            match wait {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = store.stopping.cancelled() => return,
            () = store.volumes.returned() => store.reaper.hurry(),
            () = store.reaper.changed.notified() => {}
            () = due => {}
        }
    }
}

impl Core {
    /// Queues all intents of the index that aren't in the queue, to be due after that delay, and tells how
    /// many there are. What their requests came to is not known any more.
    pub(super) async fn take_up_intents(&self, delay: Duration) -> std::result::Result<usize, IndexError> {
        let queued = self.reaper.queued();
        let (mut start, mut found) = (Vec::new(), 0);
        loop {
            let page = self.index.intents_page(&start).await?;
            for (key, intents) in page.rows {
                found += intents.len();
                for intent in intents.into_iter().filter(|intent| !queued.contains(&intent.id)) {
                    let job = Job { found: true, ..Job::new(&key, intent.id, false) };
                    self.reaper.push(job.closed + delay, job);
                }
            }
            match page.next {
                Some(next) => start = next,
                None => return Ok(found),
            }
        }
    }

    /// Queues the intents that whoever worked on the key before it panicked has left.
    pub(super) fn hand_over(&self, key: &Key) {
        match self.index.get(key) {
            Ok(entry) => {
                for intent in entry.intents {
                    let job = Job { found: true, ..Job::new(key, intent.id, false) };
                    self.reaper.push(job.closed + BACKOFF[1], job);
                }
            }
            Err(error) => tracing::error!(%key, %error, "intents stay until the next start"),
        }
    }

    /// One round on all intents of the index; returns the number of files that no volume confirmed to
    /// be gone. The intents stay, as long as a request of an earlier run may still be on its way.
    pub(super) async fn reap_once(&self) -> std::result::Result<u64, IndexError> {
        let (mut start, mut left) = (Vec::new(), 0);
        loop {
            let page = self.index.intents_page(&start).await?;
            for (key, intents) in page.rows {
                for intent in intents {
                    left += self.delete_files(&key, &intent.files).await.left.len() as u64;
                }
            }
            match page.next {
                Some(next) => start = next,
                None => return Ok(left),
            }
        }
    }

    /// One round on one intent.
    async fn reap(&self, mut job: Job) {
        if self.reaper.is_open(job.id) {
            job.found = true;
            self.reaper.push(Instant::now() + BUSY, job);
            return;
        }
        let Some(claim) = self.claims.take_to_reap(&job.key) else {
            self.reaper.push(Instant::now() + BUSY, job);
            return;
        };
        let begun = Instant::now();
        if std::mem::take(&mut job.found) {
            job.closed = begun;
        }
        let entry = match self.index.get(&job.key) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::error!(key = %job.key, %error, "an intent can't be read");
                self.reaper.push(begun + BACKOFF[1], job);
                return;
            }
        };
        let Some(intent) = entry.intents.iter().find(|intent| intent.id == job.id) else { return };
        let round = self.delete_files(&job.key, job.left.as_ref().unwrap_or(&intent.files)).await;
        if !round.certain {
            // this round's own deletion may land later
            (job.certain, job.closed) = (false, Instant::now());
        }
        if !round.left.is_empty() {
            job.left = Some(round.left);
            let pause = BACKOFF[0].saturating_mul(1 << job.failures.min(16)).min(BACKOFF[1]);
            job.failures = job.failures.saturating_add(1);
            self.reaper.push(Instant::now() + pause, job);
            return;
        }
        job.failures = 0;
        let all = job.left.take().is_none();
        let settled = job.closed + self.options.quarantine;
        if job.certain || (all && begun >= settled) {
            if let Err(error) = self.end_intent(&job.key, &entry, job.id).await {
                tracing::error!(key = %job.key, %error, "an intent stays until the next start");
            }
        } else {
            let again = AGAIN_AFTER.iter().map(|after| job.closed + *after).find(|again| *again > begun);
            self.reaper.push(again.unwrap_or(settled).min(settled), job);
        }
        drop(claim);
    }
}
