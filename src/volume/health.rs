//! Whether a volume is healthy, as its answers show.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// So many failures in a row, and the volume is down.
const DOWN_AFTER: u32 = 3;

/// A volume that had no room is tried last for so long.
const FULL_FOR: Duration = Duration::from_secs(10);

/// What was observed of one volume.
#[derive(Debug)]
pub(crate) struct Health {
    /// Requests that failed since the last one that didn't.
    failures: AtomicU32,
    down: watch::Sender<bool>,
    probing: AtomicBool,
    since: Instant,
    /// Until when the volume counts as full, in milliseconds since `since`.
    full_until: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            failures: AtomicU32::new(0),
            down: watch::Sender::new(false),
            probing: AtomicBool::new(false),
            since: Instant::now(),
            full_until: AtomicU64::new(0),
        }
    }

    /// The last request succeeded. Reads prefer such volumes.
    pub(crate) fn is_good(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Waits until the volume is down.
    pub(crate) async fn gone_down(&self) {
        // the sender is ours, so waiting can't fail
        drop(self.down.subscribe().wait_for(|down| *down).await);
    }

    /// Notes a success; true when the volume was down before.
    pub(crate) fn succeeded(&self) -> bool {
        // both, because a failure noted at the same time may have left the one without the other
        if self.is_good() && !self.is_down() {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.down.send_replace(false)
    }

    /// Notes a failure; true when it takes the volume down.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= DOWN_AFTER && !self.down.send_replace(true)
    }

    /// True for the one caller that shall probe the volume now.
    pub(crate) fn begin_probing(&self) -> bool {
        !self.probing.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn end_probing(&self) {
        self.probing.store(false, Ordering::Release);
    }

    pub(crate) fn found_full(&self) {
        self.full_until.store(self.now() + millis(FULL_FOR), Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.now() < self.full_until.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_in_a_row_take_a_volume_down_and_one_success_brings_it_back() {
        let health = Health::new();
        assert!(!health.failed() && !health.failed());
        assert!(!health.succeeded(), "it was never down");
        assert!(!health.failed() && !health.is_good() && !health.is_down());
        assert!(!health.failed());
        assert!(health.failed() && health.is_down());
        assert!(!health.failed(), "it is down already");
        assert!(health.succeeded() && health.is_good() && !health.is_down());
    }
}
