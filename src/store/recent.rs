//! Sets that forget: what was noted within the last period or two.
//!
//! **Deleted keys**: a reader may still hold a redirect to a file of the key. If a new value took the same
//! name, the reader would see it before its PUT has ended, or although the PUT fails. So a key that was
//! deleted a moment ago doesn't get its plain name.
//!
//! **Replicas that were seen whole**: readers are redirected to such a replica without another HEAD, so that
//! a popular value costs its volumes one HEAD per period instead of one per reader.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Upper bound on the hashes of one period in memory: 8 bytes each, and as much again for the table.
const MOST: usize = 1 << 20;

/// Holds what was noted within the last period, and some of what was noted in the period before. It stores
/// 64-bit hashes: a collision makes something count as noted that wasn't, which costs a HEAD or a plain name.
pub(super) struct Recent {
    period: Duration,
    /// Whether a full set counts everything as noted.
    all_when_full: bool,
    hasher: RandomState,
    noted: Mutex<Noted>,
}

struct Noted {
    /// Until then, an earlier run may have noted anything.
    any_until: Option<Instant>,
    begun: Instant,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Recent {
    /// A set with that period; with a period of zero it stays empty.
    pub(super) fn new(period: Duration, all_when_full: bool) -> Self {
        let noted = Noted {
            any_until: None,
            begun: Instant::now(),
            current: HashSet::new(),
            previous: HashSet::new(),
        };
        Self { period, all_when_full, hasher: RandomState::new(), noted: Mutex::new(noted) }
    }

    /// Notes that an earlier run may have noted anything.
    pub(super) fn note_any(&self) {
        self.with(|noted| noted.any_until = Some(Instant::now() + self.period));
    }

    pub(super) fn note(&self, what: &impl Hash) {
        let hash = self.hasher.hash_one(what);
        self.with(|noted| {
            if noted.current.len() < MOST {
                noted.current.insert(hash);
            }
        });
    }

    /// Whether it was noted, or may have been.
    pub(super) fn has(&self, what: &impl Hash) -> bool {
        let hash = self.hasher.hash_one(what);
        let has = |noted: &mut Noted| {
            let any = noted.any_until.is_some_and(|until| Instant::now() < until);
            let full = |set: &HashSet<u64>| self.all_when_full && set.len() == MOST;
            any || [&noted.current, &noted.previous].iter().any(|set| full(set) || set.contains(&hash))
        };
        self.with(has).unwrap_or_default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> Option<T> {
        if self.period.is_zero() {
            return None;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now - noted.begun;
        if passed >= self.period {
            // a set that is older than two periods is forgotten altogether
            let kept = mem::take(&mut noted.current);
            noted.previous = if passed < self.period * 2 { kept } else { HashSet::new() };
            noted.begun = now;
        }
        Some(work(&mut noted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_a_period_and_forgotten_after_two() {
        let period = Duration::from_mins(1);
        let recent = Recent::new(period, true);
        let (key, other) = (Key::new(b"/key"), Key::new(b"/other"));
        tokio::time::advance(period / 2).await;
        recent.note(&key);
        assert!(recent.has(&key) && !recent.has(&other));
        tokio::time::advance(period / 2 + Duration::from_secs(20)).await;
        assert!(recent.has(&key));
        tokio::time::advance(period * 2).await;
        assert!(!recent.has(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_period_nothing_is_remembered() {
        let recent = Recent::new(Duration::ZERO, true);
        recent.note_any();
        recent.note(&1);
        assert!(!recent.has(&1));
    }
}
