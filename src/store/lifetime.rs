//! How a store begins and ends.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::{reaper, uploads};
use crate::index::IndexError;

/// Takes up the intents that an earlier run left, and reaps and sweeps in the background from then on.
pub(super) async fn start(store: &Arc<Core>) -> Result<(), IndexError> {
    if store.index.first_unreserved().await? > 1 {
        store.deleted.note_any();
    }
    let found = store.take_up_intents(Duration::ZERO).await?;
    if found > 0 {
        tracing::info!(intents = found, "taking up unfinished attempts of an earlier run");
    }
    store.tasks.spawn(reaper::run(Arc::clone(store)));
    store.tasks.spawn(uploads::sweep_often(Arc::clone(store)));
    Ok(())
}

/// Lets what runs finish, for at most `grace`, and closes the index.
pub(super) async fn stop(store: Arc<Core>, grace: Duration) {
    store.stopping.cancel();
    store.tasks.close();
    if tokio::time::timeout(grace, store.tasks.wait()).await.is_err() {
        tracing::warn!("writes were cut off; the next start cleans up after them");
    }
    match Arc::try_unwrap(store) {
        Ok(core) => {
            if let Err(error) = crate::runtime::blocking(move || core.index.close()).await {
                tracing::error!(%error, "the index wasn't closed cleanly");
            }
        }
        Err(_shared) => tracing::debug!("the index is closed by the end of the process"),
    }
}
