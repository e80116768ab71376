//! The reaper: deletes the files that closed intents name, until the volumes confirm that they are
//! gone.
//!
//! An intent whose requests were all answered ends with a round in which every deletion is confirmed
//! (204 or 404). After a request that went unanswered, or a crash, a delayed PUT may still land: the
//! files are deleted at once and again soon after, but only a round begun a quarantine after that
//! ends the intent, and until then its names may not be reused. (A PUT whose body was never sent to its end
//! leaves no doubt: no file can come of it.)
//!
//! It works from a queue in memory that is filled once at start-up; the index is scanned again only
//! after the queue was too full to take more, and after the index was opened again. While the index doesn't show
//! what is on the disk, it waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::core::Core;
use super::queue::Job;
use crate::index::IndexError;
use crate::record::Intent;

/// At most this many keys are worked at a time.
const WORKERS: usize = 16;

/// After a doubtful request the files are deleted again this much later, because what was on its way
/// mostly lands soon or never.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Pauses after rounds that failed double from the first to the last of these.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// A key that a request is writing is tried again after this.
const BUSY: Duration = Duration::from_millis(200);

/// Reaps until the store stops.
pub(super) async fn run(store: Arc<Core>) {
    let workers = Arc::new(Semaphore::new(WORKERS));
    loop {
        let fresh = store.index.is_fresh();
        let next = if fresh { store.queue.next() } else { Err(None) };
        let mut wait = match next {
            Ok(job) => {
                let Ok(worker) = Arc::clone(&workers).acquire_owned().await else { return };
                let working = Arc::clone(&store);
                store.tasks.spawn(async move {
                    let key = job.key.clone();
                    if AssertUnwindSafe(working.reap(job)).catch_unwind().await.is_err() {
                        tracing::error!(%key, "the reaper panicked");
                        working.hand_over(&key).await;
                    }
                    drop(worker);
                    // it may have been the last before a scan
                    working.queue.changed.notify_one();
                });
                if store.stopping.is_cancelled() {
                    return;
                }
                continue;
            }
            Err(wait) => wait,
        };
        if fresh && workers.available_permits() == WORKERS && store.queue.wants_scan() {
            // readers may still be on their way to the files of any
            let Err(error) = store.take_up_intents(store.options.reader_grace).await else { continue };
            tracing::error!(%error, "intents can't be read");
            store.queue.overflow();
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
            volume = store.volumes.returned() => store.queue.hurry(&volume),
            () = store.queue.changed.notified() => {}
            () = due => {}
        }
    }
}

impl Core {
    /// One round on all intents of the index; returns the number of files that no volume confirmed to
    /// be gone. The intents stay, as long as a request of an earlier run may still be on its way.
    pub(super) async fn reap_once(&self) -> std::result::Result<u64, IndexError> {
        let (mut start, mut left) = (Vec::new(), 0);
        loop {
            let page = self.index.intents_page(&start).await?;
            for (key, intents) in page.rows {
                for intent in intents.into_iter().filter(|intent| intent.id >= self.own_from()) {
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
        if self.under_way.contains(job.id) {
            job.end_unknown = true;
            self.queue.push(Instant::now() + BUSY, job);
            return;
        }
        let Some(claim) = self.claims.take_to_reap(&job.key) else {
            self.queue.push(Instant::now() + BUSY, job);
            return;
        };
        let begun = Instant::now();
        // Before the entry is read: a record that this doesn't show yet may name the files. With the claim, nobody
        // writes the key from here on.
        if !self.index.is_fresh() {
            self.queue.push(begun, job);
            return;
        }
        if std::mem::take(&mut job.end_unknown) {
            job.closed = begun;
        }
        let intents = match self.index.entry(&job.key).await {
            Ok(entry) => entry.intents,
            Err(error) => {
                tracing::error!(key = %job.key, %error, "an intent can't be read");
                self.queue.push(begun + BACKOFF[1], job);
                return;
            }
        };
        let Some(intent) = intents.into_iter().find(|intent| intent.id == job.id) else { return };
        let round = self.delete_files(&job.key, job.left.as_ref().unwrap_or(&intent.files)).await;
        if !round.all_answered {
            // this round's own deletion may land later
            (job.all_answered, job.closed) = (false, Instant::now());
        }
        if !round.left.is_empty() {
            job.left = Some(round.left);
            let pause = BACKOFF[0].saturating_mul(1 << job.failures.min(16)).min(BACKOFF[1]);
            job.failures = job.failures.saturating_add(1);
            self.queue.push(Instant::now() + pause, job);
            return;
        }
        job.failures = 0;
        self.end_or_repeat(job, intent, begun).await;
        drop(claim);
    }

    /// After a round in which the volumes confirmed that all files are gone: ends the intent, or has the round
    /// repeated while a request of its attempt may still land.
    async fn end_or_repeat(&self, mut job: Job, intent: Intent, begun: Instant) {
        let all = job.left.take().is_none();
        let settled = job.closed + self.options.quarantine;
        if job.all_answered || (all && begun >= settled) {
            self.end_intent(&job.key, intent).await;
        } else {
            let again = AGAIN_AFTER.iter().map(|after| job.closed + *after).find(|again| *again > begun);
            self.queue.push(again.unwrap_or(settled).min(settled), job);
        }
    }
}
