//! The memory for pages of answers: of listings, above all. A page stays in memory until its client has read it, and a
//! client may take its time. All pages together take no more than a fixed share of the memory: a request that finds
//! nothing left waits, and is refused if nothing is given back for a while.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// In KiB, so that numbers of permits fit.
const UNIT: usize = 1024;

/// The memory of all pages, in units.
const ALL: usize = 64 * 1024;

/// How long a request waits for memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left of it. A process has one memory.
static LEFT: Semaphore = Semaphore::const_new(ALL);

/// The right to hold some bytes of an answer in memory.
pub(crate) struct Share(SemaphorePermit<'static>);

/// A page and the right to hold it: both go when the page is sent.
struct Page<B> {
    bytes: B,
    _share: Share,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Page<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl Share {
    /// For so many bytes; `None` if too little memory is left for too long.
    pub(crate) async fn take(bytes: usize) -> Option<Self> {
        let taken = timeout(PATIENCE, Self::wait(bytes)).await;
        taken.ok()
    }

    /// For so many bytes, however long that takes.
    pub(crate) async fn wait(bytes: usize) -> Self {
        let permit = LEFT.acquire_many(units(bytes)).await;
        Self(permit.unwrap_or_else(|_closed| unreachable!("nobody closes it")))
    }

    /// Gives back what so many bytes don't need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(units(bytes) as usize)));
    }

    /// Gives back what so many bytes don't need, or takes what they need more and is left: the page exists already,
    /// and if pages waited for more, each with what it has, none would be sent.
    #[cfg(any(feature = "s3", test))]
    pub(crate) fn fit(mut self, bytes: usize) -> Self {
        self.shrink(bytes);
        let missing = (units(bytes) as usize).saturating_sub(self.0.num_permits());
        if let Ok(more) = LEFT.try_acquire_many(units(missing * UNIT)) {
            self.0.merge(more);
        }
        self
    }

    /// The bytes, with the right to hold them.
    pub(crate) fn hold(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Page { bytes, _share: self })
    }
}

/// How many units so many bytes take: at most all, so that even the longest page is sent at last.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).min(ALL)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test that takes shares: they are the process's.
    #[tokio::test(start_paused = true)]
    async fn pages_wait_for_memory_until_others_are_sent_and_no_longer_than_their_patience() {
        let left = || LEFT.available_permits() * UNIT;
        let all = left();
        let most = Share::take(all - 10 * UNIT).await;
        let page = Share::take(10 * UNIT).await.map(|share| share.hold(vec![7; 10 * UNIT]));
        assert!(most.is_some() && page.is_some() && left() == 0);
        assert!(Share::take(1).await.is_none(), "nothing is left");
        let part = page.as_ref().map(|page| page.slice(5..6));
        drop(page);
        assert_eq!(left(), 0, "a part of the page is still to be sent");
        let (further, ()) = tokio::join!(Share::take(2 * UNIT), async { drop(part) });
        assert!(further.is_some() && left() == 8 * UNIT);
        let Some(further) = further else { return };
        let grown = further.fit(9 * UNIT);
        assert_eq!(left(), UNIT);
        let shrunk = grown.fit(100);
        assert_eq!(left(), 9 * UNIT);
        let too_long = shrunk.fit(11 * UNIT);
        assert_eq!(left(), 9 * UNIT, "there isn't as much, and nothing is waited for");
        drop(too_long);
        drop(most);
        assert_eq!(left(), all);
    }
}
