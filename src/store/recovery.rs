//! What follows a write of the index that failed, of a full disk for example: the index is opened again as soon as
//! it can be written.
//!
//! Until then reads go on, every write fails, and nothing is deleted ([`Index::is_fresh`](super::Index::is_fresh)).
//! The failed write may turn out to have happened. So, as at a start, all intents of the index that nobody
//! works on are taken up, and parts without an upload are looked for: an attempt that couldn't learn its fate has left
//! them to this.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::core::Core;

/// Pauses before the index is opened again double from the first to the last of these. The last is also how long
/// writes must go well before the next failure counts as the first.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// Opens the index again after each write that failed, until the store stops.
pub(super) async fn run(store: Arc<Core>) {
    let recover = async {
        let (mut pause, mut reopened) = (PAUSES[0], Instant::now());
        loop {
            store.index.failed().await;
            if reopened.elapsed() >= PAUSES[1] {
                pause = PAUSES[0];
            }
            loop {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSES[1]);
                match store.index.reopen().await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, "the index can't be opened again yet"),
                }
            }
            reopened = Instant::now();
            tracing::warn!("the index is open again: writes go on, and what failed is settled");
            store.queue.overflow();
            store.queue.changed.notify_one();
            store.sweep_now.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = store.stopping.cancelled() => {}
        () = recover => {}
    }
}
