//! How a store begins and ends, and whether it can take values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::standing::{IdentifyError, Standing};
use super::{reaper, recovery, uploads};

/// Takes up the intents that an earlier run left. From then on, what is left over is deleted in the background,
/// and the index is opened again after a write that failed.
pub(super) async fn start(store: &Arc<Core>) -> Result<(), IdentifyError> {
    if store.index.has_numbers().await? {
        store.deleted.note_any();
    }
    take_over(store).await?;
    let found = store.take_up_intents(Duration::ZERO).await?;
    if found > 0 {
        tracing::info!(intents = found, "taking up unfinished attempts of an earlier run");
    }
    store.tasks.spawn(reaper::run(Arc::clone(store)));
    store.tasks.spawn(uploads::sweep_often(Arc::clone(store)));
    store.tasks.spawn(recovery::run(Arc::clone(store)));
    Ok(())
}

/// Takes the volumes over, and from then on looks after those that take no part. Tells how each stands.
pub(super) async fn take_over(store: &Arc<Core>) -> Result<Vec<(String, Standing)>, IdentifyError> {
    if !store.volumes.are_verified() {
        return Ok(Vec::new());
    }
    let standings = store.identify().await?;
    store.tasks.spawn(Arc::clone(store).keep_register(&standings));
    store.tasks.spawn(Arc::clone(store).raise_often());
    Ok(standings)
}

/// Why no value can be stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The index can't be written.
    Index,
    /// Fewer volumes are up than a value needs.
    Volumes {
        /// Those that are.
        up: usize,
        /// Those that are needed.
        needed: usize,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("the index can't be written now, see the master's log"),
            Self::Volumes { up, needed } => write!(f, "{needed} volumes are needed, {up} are up"),
        }
    }
}

impl std::error::Error for NotReady {}

/// Whether values can be stored now, as far as is known without trying.
pub(super) fn check_ready(store: &Core) -> Result<(), NotReady> {
    if !store.index.is_fresh() {
        return Err(NotReady::Index);
    }
    let placement = &store.options.placement;
    let up = placement.volumes().filter(|name| !store.volumes.named(name).is_down()).count();
    let needed = placement.replicas;
    if up < needed { Err(NotReady::Volumes { up, needed }) } else { Ok(()) }
}

/// Lets what runs finish, for at most `grace`, and closes the index, also where something still runs.
pub(super) async fn stop(store: &Core, grace: Duration) {
    store.stopping.cancel();
    store.tasks.close();
    let were_cut_off = tokio::time::timeout(grace, store.tasks.wait()).await.is_err();
    if were_cut_off {
        tracing::warn!("writes were cut off; the next start cleans up after them");
    }
    store.release(were_cut_off).await;
    if let Err(error) = store.index.shut().await {
        tracing::error!(%error, "the index wasn't closed cleanly");
    }
}
