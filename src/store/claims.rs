//! Claims: each key has at most one writer at a time in this process.
//!
//! Waiters aren't served in order: when a key is freed, all of its waiters wake, and the first to enter gets it.
//! All of them pass through `take_within`, which bounds their number and their time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::sleep;

use super::caller::Caller;
use crate::error::{Error, Result};
use crate::index::steps::MAX_INTENTS;
use crate::key::Key;

/// A request waits this long for the reaper, whose rounds are short, and then reports the key as busy.
const REAPER_TIMEOUT: Duration = Duration::from_secs(5);

/// At most this many writes that haven't begun wait for one key. Each occupies a connection, and memory for a piece
/// of its value. When the key is freed, no more of them can begin at once: each needs an intent, and a key has no
/// more than that.
const MAX_WAITERS: usize = MAX_INTENTS;

/// The keys that are being written.
#[derive(Default)]
pub(super) struct Claims(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    held: HashMap<Key, Holder>,
    /// The number of writes that wait for a key and haven't begun; keys that none waits for aren't in here.
    waiters: HashMap<Key, usize>,
}

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

/// For whom a request waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the reaper only.
    ForReaper,
    /// For any holder.
    ForAny,
    /// For any holder, within a write that has begun: such a write isn't refused for the number of others, and goes
    /// on when its caller is gone.
    ToGoOn,
}

impl Wait {
    fn is_for(self, by: By) -> bool {
        by == By::Reaper || self != Self::ForReaper
    }
}

/// The right to write a key. Dropping it frees the key.
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: Key,
}

/// One of the writes that wait for a key, until it is dropped.
struct Waiter<'c> {
    claims: &'c Claims,
    key: &'c Key,
}

impl Claims {
    /// Claims the key for a request, which waits for the reaper at most.
    ///
    /// # Errors
    ///
    /// `Busy` when another request has the key; `TooManyWaiters`.
    pub(super) async fn take(self: &Arc<Self>, key: &Key, caller: &Caller) -> Result<Claim> {
        self.take_within(key, caller, Wait::ForReaper).await
    }

    /// Claims the key for a request that waits for other holders, for as long as its caller waits.
    ///
    /// # Errors
    ///
    /// `Busy` when the caller's time is over, or the caller is gone; `TooManyWaiters`.
    pub(super) async fn wait(self: &Arc<Self>, key: &Key, caller: &Caller) -> Result<Claim> {
        self.take_within(key, caller, Wait::ForAny).await
    }

    /// As [`Claims::wait`], for a write that has begun: it is never one of too many, and goes on when its caller is
    /// gone.
    ///
    /// # Errors
    ///
    /// `Busy` when the caller's time is over.
    pub(super) async fn wait_to_go_on(self: &Arc<Self>, key: &Key, caller: &Caller) -> Result<Claim> {
        self.take_within(key, caller, Wait::ToGoOn).await
    }

    /// Claims the key for the reaper; `None` when the key is claimed.
    pub(super) fn take_to_reap(self: &Arc<Self>, key: &Key) -> Option<Claim> {
        self.enter(key, By::Reaper).ok()
    }

    /// Whether a request has the key.
    pub(super) fn is_requested(&self, key: &Key) -> bool {
        self.keys().held.get(key).is_some_and(|holder| holder.by == By::Request)
    }

    async fn take_within(self: &Arc<Self>, key: &Key, caller: &Caller, wait: Wait) -> Result<Claim> {
        let mut freed = match self.enter(key, By::Request) {
            Ok(claim) => return Ok(claim),
            Err((by, freed)) if wait.is_for(by) => freed,
            Err(_held) => return Err(Error::Busy),
        };
        let has_begun = wait == Wait::ToGoOn;
        let _waiter = (!has_begun).then(|| self.add_waiter(key)).transpose()?;
        let most = if wait == Wait::ForReaper { REAPER_TIMEOUT } else { Duration::MAX };
        let limit = caller.remaining().min(most);
        let acquire = async {
            loop {
                freed.await;
                freed = match self.enter(key, By::Request) {
                    Ok(claim) => return Ok(claim),
                    Err((by, freed)) if wait.is_for(by) => freed,
                    Err(_held) => return Err(Error::Busy),
                };
            }
        };
        let gone = async { if has_begun { pending().await } else { caller.gone().await } };
        let _waiting = caller.waiting();
        tokio::select! {
            biased;
            claim = acquire => claim,
            () = gone => Err(Error::Busy),
            () = sleep(limit) => Err(Error::Busy),
        }
    }

    /// The claim, if the key is free; otherwise the kind of its holder, and a future that ends when it is freed.
    fn enter(self: &Arc<Self>, key: &Key, by: By) -> std::result::Result<Claim, (By, OwnedNotified)> {
        match self.keys().held.entry(key.clone()) {
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

    /// Counts a further write that waits for the key, unless there are too many.
    fn add_waiter<'c>(&'c self, key: &'c Key) -> Result<Waiter<'c>> {
        let mut keys = self.keys();
        let waiters = keys.waiters.entry(key.clone()).or_default();
        if *waiters >= MAX_WAITERS {
            return Err(Error::TooManyWaiters);
        }
        *waiters += 1;
        Ok(Waiter { claims: self, key })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
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
        if let Some(holder) = self.claims.keys().held.remove(&self.key) {
            holder.freed.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut keys = self.claims.keys();
        if let Some(waiters) = keys.waiters.get_mut(self.key) {
            *waiters -= 1;
            if *waiters == 0 {
                keys.waiters.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn claims() -> (Arc<Claims>, Key, Caller) {
        (Arc::default(), Key::new(b"/k"), Caller::default())
    }

    fn is_busy(claim: &Result<Claim>) -> bool {
        matches!(claim, Err(Error::Busy))
    }

    #[tokio::test]
    async fn one_request_at_a_time() {
        let (claims, key, caller) = claims();
        let claim = claims.take(&key, &caller).await.unwrap();
        assert!(claims.is_requested(&key));
        assert!(is_busy(&claims.take(&key, &caller).await));
        assert!(claims.take_to_reap(&key).is_none());
        assert!(claims.take(&Key::new(b"/other"), &caller).await.is_ok());
        drop(claim);
        assert!(!claims.is_requested(&key));
        assert!(claims.take(&key, &caller).await.is_ok());
    }

    #[tokio::test]
    async fn a_patient_caller_waits_until_the_request_releases_the_key() {
        let (claims, key, caller) = claims();
        let held = claims.take(&key, &caller).await.unwrap();
        let (claim, ()) = tokio::join!(claims.wait(&key, &caller), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert!(claim.is_ok());
        assert!(is_busy(&claims.take(&key, &caller).await));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_a_caller_waits_is_a_minute() {
        let (claims, key, caller) = claims();
        let mut held = claims.take(&key, &caller).await.unwrap();
        let begun = Instant::now();
        // it gets the key after 40 s, and waits for it again
        let (claim, ()) = tokio::join!(claims.wait(&key, &caller), async {
            sleep(Duration::from_secs(40)).await;
            drop(held);
        });
        held = claim.unwrap();
        assert!(is_busy(&claims.wait(&key, &caller).await));
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert!(is_busy(&claims.wait_to_go_on(&key, &caller).await));
        assert_eq!(begun.elapsed().as_secs(), 60);
        // and it still gets what is free
        drop(held);
        assert!(claims.wait(&key, &caller).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn writes_that_wait_at_the_same_time_wait_that_minute_together() {
        let (claims, key, caller) = claims();
        let (held, begun) = (claims.take(&key, &caller).await.unwrap(), Instant::now());
        let later = async {
            sleep(Duration::from_secs(20)).await;
            claims.wait(&key, &caller).await.map(drop)
        };
        let free = async {
            sleep(Duration::from_secs(40)).await;
            drop(held);
        };
        let (one, other, ()) = tokio::join!(claims.wait(&key, &caller).map(|one| one.map(drop)), later, free);
        assert!(one.is_ok() && other.is_ok());
        let _held = claims.take(&key, &caller).await.unwrap();
        let (one, other) = tokio::join!(claims.wait(&key, &caller), claims.wait(&key, &caller));
        assert!(is_busy(&one) && is_busy(&other));
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test]
    async fn a_request_waits_for_the_reaper() {
        let (claims, key, caller) = claims();
        let reaping = claims.take_to_reap(&key);
        assert!(reaping.is_some() && !claims.is_requested(&key));
        let (claim, ()) = tokio::join!(claims.take(&key, &caller), async {
            tokio::task::yield_now().await;
            drop(reaping);
        });
        assert!(claim.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_number_wait() {
        let (claims, key, caller) = claims();
        let held = claims.take_to_reap(&key).unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITERS).map(|_| Box::pin(claims.wait(&key, &caller))).collect();
        for claim in &mut waiting {
            assert!(claim.now_or_never().is_none());
        }
        for claim in [claims.wait(&key, &caller).await, claims.take(&key, &caller).await] {
            assert!(matches!(claim, Err(Error::TooManyWaiters)));
        }
        // a write that has begun is no newcomer, and one that can't wait is told the other reason
        let mut begun = Box::pin(claims.wait_to_go_on(&key, &caller));
        assert!((&mut begun).now_or_never().is_none());
        // each that gives up makes room for one
        drop(waiting.pop());
        let mut next = Box::pin(claims.wait(&key, &caller));
        assert!((&mut next).now_or_never().is_none());
        assert!(matches!(claims.wait(&key, &caller).await, Err(Error::TooManyWaiters)));
        drop(held);
        let mut last = claims.take(&key, &caller).await.ok();
        assert!(is_busy(&claims.take(&key, &caller).await));
        let served = join_all(waiting.into_iter().map(|claim| claim.map(|claim| drop(claim.unwrap()))));
        tokio::join!(served, next.map(drop), begun.map(drop), async { drop(last.take()) });
        assert!(claims.keys().waiters.is_empty(), "no number is kept of a key that none waits for");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_waits_no_longer_unless_its_write_has_begun() {
        let (claims, key, gone) = (Arc::<Claims>::default(), Key::new(b"/k"), CancellationToken::new());
        let caller = Caller::new(gone.clone());
        let (held, begun) = (claims.take_to_reap(&key).unwrap(), Instant::now());
        let leaves = async {
            sleep(Duration::from_secs(1)).await;
            gone.cancel();
        };
        let (one, other, ()) = tokio::join!(claims.wait(&key, &caller), claims.take(&key, &caller), leaves);
        assert!(is_busy(&one) && is_busy(&other));
        assert_eq!(begun.elapsed().as_secs(), 1);
        let (claim, ()) = tokio::join!(claims.wait_to_go_on(&key, &caller), async {
            sleep(Duration::from_secs(1)).await;
            drop(held);
        });
        assert!(claim.is_ok());
    }
}
