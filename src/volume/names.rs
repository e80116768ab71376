//! A queue of volumes that are to be looked after.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Names of volumes. Each is in the queue at most once.
#[derive(Debug, Default)]
pub(super) struct Names {
    waiting: Mutex<BTreeSet<String>>,
    noted: Notify,
}

impl Names {
    pub(super) fn note(&self, name: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.noted.notify_one();
    }

    /// Waits for a volume, and takes it from the queue. Cancel-safe.
    pub(super) async fn next(&self) -> String {
        loop {
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(name) => return name,
                None => self.noted.notified().await,
            }
        }
    }
}
