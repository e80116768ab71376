//! Claims: each key has at most one writer at a time in this process.
//!
//! Waiters aren't served in order: when a key is freed, all of its waiters wake, and the first to enter gets it.
//! A limit on the number of waiters per key belongs in `take_within`, through which every waiter passes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::timeout;

use crate::key::Key;

/// A request waits this long for the reaper, whose rounds are short, and then reports the key as busy.
const REAPER_TIMEOUT: Duration = Duration::from_secs(5);

/// The keys that are being written.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<Key, Holder>>);

struct Holder {
    by: By,
    freed: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A client's request.
    Request,
    /// The reaper. Requests wait for it, so that background work never makes a client's request fail at once.
    Reaper,
}

/// The right to write a key. Dropping it frees the key.
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: Key,
}

impl Claims {
    /// Claims the key for a request; `None` when another request has it.
    pub(super) async fn take(self: &Arc<Self>, key: &Key) -> Option<Claim> {
        self.take_within(key, REAPER_TIMEOUT, |by| by == By::Reaper).await
    }

    /// Claims the key for a request that waits for other holders, for at most `limit`.
    pub(super) async fn wait(self: &Arc<Self>, key: &Key, limit: Duration) -> Option<Claim> {
        self.take_within(key, limit, |_by| true).await
    }

    /// Claims the key for the reaper; `None` when the key is claimed.
    pub(super) fn take_to_reap(self: &Arc<Self>, key: &Key) -> Option<Claim> {
        self.enter(key, By::Reaper).ok()
    }

    /// Whether a request has the key.
    pub(super) fn is_requested(&self, key: &Key) -> bool {
        self.holders().get(key).is_some_and(|holder| holder.by == By::Request)
    }

    async fn take_within(
        self: &Arc<Self>,
        key: &Key,
        limit: Duration,
        may_wait_for: impl Fn(By) -> bool,
    ) -> Option<Claim> {
        let acquire = async {
            loop {
                match self.enter(key, By::Request) {
                    Ok(claim) => return Some(claim),
                    Err((by, freed)) if may_wait_for(by) => freed.await,
                    Err(_) => return None,
                }
            }
        };
        timeout(limit, acquire).await.unwrap_or_default()
    }

    /// The claim, if the key is free; otherwise the kind of its holder, and a future that ends when it is freed.
    fn enter(self: &Arc<Self>, key: &Key, by: By) -> Result<Claim, (By, OwnedNotified)> {
        match self.holders().entry(key.clone()) {
            Entry::Vacant(place) => {
                place.insert(Holder { by, freed: Arc::default() });
                Ok(Claim { claims: Arc::clone(self), key: key.clone() })
            }
            Entry::Occupied(place) => {
                let holder = place.get();
                Err((holder.by, Arc::clone(&holder.freed).notified_owned()))
            }
        }
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
        if let Some(holder) = self.claims.holders().remove(&self.key) {
            holder.freed.notify_waiters();
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
        assert!(claim.is_some() && claims.is_requested(&key));
        assert!(claims.take(&key).await.is_none());
        assert!(claims.take_to_reap(&key).is_none());
        assert!(claims.take(&Key::new(b"/other")).await.is_some());
        drop(claim);
        assert!(!claims.is_requested(&key));
        assert!(claims.take(&key).await.is_some());
    }

    #[tokio::test]
    async fn a_patient_caller_waits_until_the_request_releases_the_key() {
        let claims = Arc::new(Claims::default());
        let key = Key::new(b"/k");
        let held = claims.take(&key).await;
        assert!(held.is_some());
        let (claim, ()) = tokio::join!(claims.wait(&key, Duration::from_mins(1)), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert!(claim.is_some());
        assert!(claims.take(&key).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_patient_caller_gives_up_at_its_limit() {
        let claims = Arc::new(Claims::default());
        let key = Key::new(b"/k");
        let held = claims.take(&key).await;
        assert!(claims.wait(&key, Duration::from_mins(1)).await.is_none());
        drop(held);
    }

    #[tokio::test]
    async fn a_request_waits_for_the_reaper() {
        let claims = Arc::new(Claims::default());
        let key = Key::new(b"/k");
        let reaping = claims.take_to_reap(&key);
        assert!(reaping.is_some() && !claims.is_requested(&key));
        let (claim, ()) = tokio::join!(claims.take(&key), async {
            tokio::task::yield_now().await;
            drop(reaping);
        });
        assert!(claim.is_some());
    }
}
