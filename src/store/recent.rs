//! Keys that were deleted a moment ago.
//!
//! A reader may still hold a redirect to a file of theirs. If a new value took the same name, it would be
//! read before its PUT is done, and even if that failed. So the plain name of such a key isn't used.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Key;

/// At most so many hashes of keys are in memory, 8 bytes each and as much again for the table; beyond that,
/// all keys count as deleted.
const MOST: usize = 1 << 20;

/// The keys that were deleted within one period, and perhaps some that were within two.
pub(super) struct Recent {
    period: Duration,
    hasher: RandomState,
    keys: Mutex<Keys>,
}

struct Keys {
    /// Until then, an earlier run may have deleted any key a moment ago.
    any_until: Option<Instant>,
    begun: Instant,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Recent {
    pub(super) fn new(period: Duration) -> Self {
        let keys = Keys {
            any_until: None,
            begun: Instant::now(),
            current: HashSet::new(),
            previous: HashSet::new(),
        };
        Self { period, hasher: RandomState::new(), keys: Mutex::new(keys) }
    }

    /// Notes that an earlier run may have deleted any key.
    pub(super) fn note_any(&self) {
        self.with(|keys| keys.any_until = Some(Instant::now() + self.period));
    }

    /// Notes that the key is deleted.
    pub(super) fn note(&self, key: &Key) {
        self.with(|keys| {
            if keys.current.len() < MOST {
                keys.current.insert(self.hasher.hash_one(key));
            }
        });
    }

    /// Whether the key may have been deleted a moment ago.
    pub(super) fn has(&self, key: &Key) -> bool {
        let key = self.hasher.hash_one(key);
        self.with(|keys| {
            let any = keys.any_until.is_some_and(|until| Instant::now() < until);
            any || [&keys.current, &keys.previous].iter().any(|set| set.len() == MOST || set.contains(&key))
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Keys) -> T) -> T {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now - keys.begun;
        if passed >= self.period {
            // what is older than two periods is forgotten altogether
            let kept = mem::take(&mut keys.current);
            keys.previous = if passed < self.period * 2 { kept } else { HashSet::new() };
            keys.begun = now;
        }
        work(&mut keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_a_period_and_forgotten_after_two() {
        let period = Duration::from_mins(1);
        let recent = Recent::new(period);
        let (key, other) = (Key::new(b"/key"), Key::new(b"/other"));
        tokio::time::advance(period / 2).await;
        recent.note(&key);
        assert!(recent.has(&key) && !recent.has(&other));
        tokio::time::advance(period / 2 + Duration::from_secs(20)).await;
        assert!(recent.has(&key));
        tokio::time::advance(period * 2).await;
        assert!(!recent.has(&key));
    }
}
