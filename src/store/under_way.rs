//! Attempts that go on without their key's claim: overwrites hold it for each write to the index alone.
//!
//! While such an attempt is under way, the reaper leaves its intent alone. And where a later unconditional
//! overwrite takes effect first, the earlier one may be taken for a value that was stored just before it, and
//! replaced: that is noted here, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::Key;

/// The attempts that are under way, by their numbers.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<u64, Attempt>>>);

struct Attempt {
    key: Key,
    /// A later one has taken effect, which would have replaced whatever this one had stored.
    overtaken: bool,
}

/// The attempt of that number is under way until this is dropped.
pub(super) struct Guard {
    id: u64,
    all: UnderWay,
}

impl UnderWay {
    pub(super) fn enter(&self, key: &Key, id: u64) -> Guard {
        self.attempts().insert(id, Attempt { key: key.clone(), overtaken: false });
        Guard { id, all: self.clone() }
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.attempts().contains_key(&id)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<u64, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Whether an attempt that began later has taken effect, whatever the key held.
    pub(super) fn is_overtaken(&self) -> bool {
        self.all.attempts().get(&self.id).is_some_and(|own| own.overtaken)
    }

    /// Notes that the attempt has taken effect, whatever the key held.
    pub(super) fn overtake(&self, key: &Key) {
        let mut all = self.all.attempts();
        for (_, other) in all.iter_mut().filter(|(id, other)| **id < self.id && other.key == *key) {
            other.overtaken = true;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.all.attempts().remove(&self.id);
    }
}
