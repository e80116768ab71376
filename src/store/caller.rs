//! Who asks for writes: how long it waits for keys that others are writing, and whether it is still there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a caller waits, in total, for keys that others are writing.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(1);

/// The caller of one or more writes. All clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Caller {
    /// Cancelled once nobody is there to hear of the outcome.
    gone: CancellationToken,
    waits: Arc<Mutex<Waits>>,
}

/// The times during which at least one write of a caller waits.
#[derive(Default)]
struct Waits {
    /// How many wait now, …
    now: usize,
    /// … since when there has been one, …
    since: Option<Instant>,
    /// … and for how long there was one before.
    before: Duration,
}

/// A write of the caller waits until this is dropped.
pub(super) struct Waiting<'c>(&'c Caller);

impl Caller {
    pub(super) fn new(gone: CancellationToken) -> Self {
        Self { gone, waits: Arc::default() }
    }

    /// How much longer the caller waits.
    pub(super) fn remaining(&self) -> Duration {
        let waits = self.waits();
        let current = waits.since.map_or(Duration::ZERO, |since| since.elapsed());
        CLAIM_TIMEOUT.saturating_sub(waits.before + current)
    }

    /// A write begins to wait.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        let mut waits = self.waits();
        waits.now += 1;
        waits.since.get_or_insert_with(Instant::now);
        Waiting(self)
    }

    /// Returns once the caller is gone.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.now -= 1;
        if waits.now == 0
            && let Some(since) = waits.since.take()
        {
            waits.before += since.elapsed();
        }
    }
}
