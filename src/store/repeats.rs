//! What the log was told of late: a line about the same thing follows a minute later at the earliest, and says how many
//! were left out.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two lines about the same thing.
const PERIOD: Duration = Duration::from_mins(1);

/// Upper bound on the number of things that are remembered; the one that was told the longest ago makes room.
const MOST: usize = 1024;

/// A bounded memory of what was told, by a hash of what it is about.
#[derive(Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    told: Mutex<HashMap<u64, Told>>,
}

struct Told {
    at: Instant,
    left_out: u64,
}

/// How many lines were left out since the last one about the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftOut(u64);

impl LeftOut {
    /// `and 12 more`; nothing if none was left out.
    pub(super) fn more(self) -> Option<String> {
        (self.0 > 0).then(|| format!("and {} more", self.0))
    }
}

impl Repeats {
    /// Whether a line about this is due; `None` if not.
    pub(super) fn is_due(&self, about: &impl Hash) -> Option<LeftOut> {
        let (about, now) = (self.hasher.hash_one(about), Instant::now());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = told.get_mut(&about) {
            if now - last.at < PERIOD {
                last.left_out = last.left_out.saturating_add(1);
                return None;
            }
            let left_out = LeftOut(last.left_out);
            *last = Told { at: now, left_out: 0 };
            return Some(left_out);
        }
        if told.len() >= MOST
            && let Some(oldest) = told.iter().min_by_key(|(_, told)| told.at).map(|(about, _)| *about)
        {
            told.remove(&oldest);
        }
        told.insert(about, Told { at: now, left_out: 0 });
        Some(LeftOut(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_minute_says_how_many_were_left_out() {
        let repeats = Repeats::default();
        assert_eq!(repeats.is_due(&"a"), Some(LeftOut(0)));
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!((repeats.is_due(&"a"), repeats.is_due(&"a")), (None, None));
        assert_eq!(repeats.is_due(&"b"), Some(LeftOut(0)), "another thing");
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!(repeats.is_due(&"a").unwrap().more().unwrap(), "and 2 more");
        assert_eq!(repeats.is_due(&"a"), None);
        tokio::time::advance(PERIOD).await;
        assert_eq!(repeats.is_due(&"b").unwrap().more(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_the_oldest_first() {
        let repeats = Repeats::default();
        for number in 0..=MOST {
            assert_eq!(repeats.is_due(&number), Some(LeftOut(0)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(repeats.told.lock().unwrap().len(), MOST);
        assert_eq!((repeats.is_due(&1_usize), repeats.is_due(&MOST)), (None, None));
        assert_eq!(repeats.is_due(&0_usize), Some(LeftOut(0)), "forgotten");
    }
}
