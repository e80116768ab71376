//! A queue of volumes that are up again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Addresses of volumes that returned. Each is in the queue at most once.
#[derive(Debug, Default)]
pub(super) struct Returns {
    waiting: Mutex<BTreeSet<String>>,
    noted: Notify,
}

impl Returns {
    pub(super) fn note(&self, address: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned());
        self.noted.notify_one();
    }

    /// Waits for a volume that returned, and takes it from the queue. Cancel-safe.
    pub(super) async fn next(&self) -> String {
        loop {
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(address) => return address,
                None => self.noted.notified().await,
            }
        }
    }
}
