//! Who may write a key: one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::key::Key;

/// How long a request waits for the reaper, whose rounds are short, before it counts the key as busy.
const REAPER_PATIENCE: Duration = Duration::from_secs(5);

/// The keys that are being written.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<Key, Holder>>);

enum Holder {
    Request,
    /// Requests wait for it, because its work is none of the clients'.
    Reaper(Arc<Notify>),
}

/// The right to write a key. Frees itself.
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: Key,
}

impl Claims {
    /// Claims the key for a request; `None` when another request has it.
    pub(super) async fn take(self: &Arc<Self>, key: &Key) -> Option<Claim> {
        let patient = async {
            loop {
                let freed = {
                    let mut holders = self.holders();
                    match holders.get(key) {
                        None => return Some(self.enter(&mut holders, key, Holder::Request)),
                        Some(Holder::Request) => return None,
                        Some(Holder::Reaper(freed)) => Arc::clone(freed).notified_owned(),
                    }
                };
                freed.await;
            }
        };
        timeout(REAPER_PATIENCE, patient).await.unwrap_or_default()
    }

    /// Claims the key for the reaper; `None` when anybody has it.
    pub(super) fn take_to_reap(self: &Arc<Self>, key: &Key) -> Option<Claim> {
        let mut holders = self.holders();
        let free = !holders.contains_key(key);
        free.then(|| self.enter(&mut holders, key, Holder::Reaper(Arc::default())))
    }

    fn enter(self: &Arc<Self>, holders: &mut HashMap<Key, Holder>, key: &Key, holder: Holder) -> Claim {
        holders.insert(key.clone(), holder);
        Claim { claims: Arc::clone(self), key: key.clone() }
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Key, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let holder = self.claims.holders().remove(&self.key);
        if let Some(Holder::Reaper(freed)) = holder {
            freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_request_at_a_time() {
        let claims = Arc::new(Claims::default());
        let key = Key::new(b"/k");
        let claim = claims.take(&key).await;
        assert!(claim.is_some());
        assert!(claims.take(&key).await.is_none());
        assert!(claims.take_to_reap(&key).is_none());
        assert!(claims.take(&Key::new(b"/other")).await.is_some());
        drop(claim);
        assert!(claims.take(&key).await.is_some());
    }

    #[tokio::test]
    async fn a_request_waits_for_the_reaper() {
        let claims = Arc::new(Claims::default());
        let key = Key::new(b"/k");
        let reaping = claims.take_to_reap(&key);
        assert!(reaping.is_some());
        let (claim, ()) = tokio::join!(claims.take(&key), async {
            tokio::task::yield_now().await;
            drop(reaping);
        });
        assert!(claim.is_some());
    }
}
