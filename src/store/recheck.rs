//! Looks again at values that were stored on a volume since its marker was last seen, once it is back: the disk may
//! have vanished before, and they went to its mount point.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::sleep;

use super::caller::Caller;
use super::core::Core;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::placement::Place;
use crate::record::Replica;
use crate::volume::InDoubt;

/// So many values are looked at, and repaired, at a time.
const AT_A_TIME: usize = 16;

/// Pauses before values are looked at again that are still being written, or can't be repaired yet, double from the
/// first to the last of these.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// What came of a look at a value.
#[derive(PartialEq, Eq)]
enum Outcome {
    Settled,
    /// It is to be looked at again.
    Open,
}

impl Core {
    /// Looks at the values in doubt of that volume until each is whole, or it is clear that it can't be.
    pub(super) async fn recheck(self: Arc<Self>, volume: String) {
        let InDoubt { paths, lacks_some } = self.volumes.named(&volume).take_in_doubt();
        if lacks_some {
            tracing::warn!(
                volume,
                looked_at = paths.len(),
                "it was away, and more values were stored there just before: davkv-rebalance looks at all"
            );
        }
        let mut files: Vec<(Key, Replica)> = paths.iter().filter_map(|path| file(&volume, path)).collect();
        let mut pause = PAUSES[0];
        loop {
            let looks = stream::iter(files).map(|(key, file)| async {
                let outcome = self.recheck_file(&key, &file).await;
                (outcome == Outcome::Open).then_some((key, file))
            });
            let looks = looks.buffer_unordered(AT_A_TIME).filter_map(std::future::ready).collect();
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                open = looks => files = open,
            }
            if files.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = sleep(pause) => pause = (pause * 2).min(PAUSES[1]),
            }
        }
    }

    async fn recheck_file(self: &Arc<Self>, key: &Key, file: &Replica) -> Outcome {
        let Ok(entry) = self.index.entry(key).await else { return Outcome::Open };
        // A record may come to name it, as long as its attempt is under way; the row is read after that, as one that
        // has just ended has written it.
        let mut ids = entry.intents.iter().filter(|intent| intent.files.contains(file)).map(|one| one.id);
        let is_open = ids.any(|id| self.under_way.contains(id) || self.claims.is_requested(key));
        let Ok(record) = self.index.look(key).await else { return Outcome::Open };
        let Some(record) = record.filter(|record| record.replicas.contains(file)) else {
            return if is_open { Outcome::Open } else { Outcome::Settled };
        };
        match self.check(key, file, &record).await {
            Ok(Some(_)) => Outcome::Settled,
            Ok(None) => self.make_good(key, file).await,
            // it went away again
            Err(_) => Outcome::Open,
        }
    }

    /// Repairs a value that lacks this replica.
    async fn make_good(self: &Arc<Self>, key: &Key, file: &Replica) -> Outcome {
        let place = &file.place;
        match self.repair(key).await {
            Ok(()) => {
                tracing::info!(%key, %place, "its disk was away when it was stored: repaired");
                Outcome::Settled
            }
            Err(Error::NotFound) => Outcome::Settled,
            Err(Error::Damaged) => {
                tracing::error!(%key, %place, "its disk was away when it was stored, and no other replica is whole");
                Outcome::Settled
            }
            Err(error) => {
                self.report_not_repaired(key, place, &error);
                Outcome::Open
            }
        }
    }

    async fn repair(self: &Arc<Self>, key: &Key) -> Result<()> {
        let claim = self.claims.wait(key, &Caller::default()).await?;
        self.run(key, |store| async move { store.rebalance(&claim).await.map(drop) }).await
    }
}

/// The file at that path of the volume.
fn file(volume: &str, path: &str) -> Option<(Key, Replica)> {
    let subvolume = path.get(..5).filter(|directory| directory.starts_with("/sv")).unwrap_or_default();
    let (key, name) = Key::from_path(path.strip_prefix(subvolume)?)?;
    Some((key, Replica { place: Place::new(&format!("{volume}{subvolume}")), name }))
}
