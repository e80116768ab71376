//! The store, in a world.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::calls::World;
use super::network::Network;
use super::terms::{REPLICAS, VOLUMES};
use super::world::{Looks, Script};
use crate::index::Index;
use crate::index::simulated::Simulated;
use crate::placement::Placement;
use crate::store::IdentifyError;
use crate::store::core::Core;
use crate::store::{Forgotten, Options, Store};
use crate::volume::{Addresses, Timeouts, Volumes};

/// Each has a marker, so that a start looks at so many files of each volume.
const SUBVOLUMES: u32 = 1;
pub(super) const QUARANTINE: Duration = Duration::from_mins(10);
pub(super) const READER_GRACE: Duration = Duration::from_mins(1);
pub(super) const SWEEP_EVERY: Duration = Duration::from_mins(30);
pub(super) fn options(volumes: &[usize]) -> Options {
    Options {
        placement: Placement::new(
            volumes.iter().map(|rank| VOLUMES[*rank].clone()).collect(),
            REPLICAS,
            SUBVOLUMES,
        ),
        timeouts: Timeouts { request: Duration::from_secs(1), stream: Duration::from_secs(10) },
        client_idle: Duration::from_secs(10),
        md5: true,
        protect: false,
        generation_names: false,
        quarantine: QUARANTINE,
        reader_grace: READER_GRACE,
        recheck: Duration::ZERO,
        upload_expiry: Duration::from_hours(24 * 7),
        sweep_every: SWEEP_EVERY,
        raise_every: Duration::from_mins(1),
        forgotten: Forgotten::default(),
        replaced: Vec::new(),
    }
}

/// A store on three volumes of the world, in which nothing fails but what the test says.
pub(super) async fn started(world: &World) -> Store {
    world.begin(Script::new());
    let options = options(&[0, 1, 2]);
    let store = store(world, options);
    world.start(&store).await.unwrap();
    store
}

impl World {
    /// While the store finds out whose its volumes are.
    pub(super) async fn starting<T>(&self, finding_out: impl Future<Output = T>) -> T {
        let found = finding_out.await;
        let mut world = self.state();
        world.started_at = Some(world.calls.len());
        found
    }

    /// Starts the store.
    pub(super) async fn start(&self, store: &Store) -> Result<(), IdentifyError> {
        self.starting(store.start()).await
    }
}

/// How often markers are looked at where no disk vanishes, so that not all of the time goes by with that.
const RARELY: Duration = Duration::from_mins(10);

/// A store in the world. Replicas that are equally good stay in the record's order, so that a run can be
/// repeated call by call.
pub(super) fn store(world: &World, options: Options) -> Store {
    let looks = world.state().looks;
    let volumes = Volumes::over(Arc::new(Network::of(world)), Addresses::default(), options.timeouts);
    let volumes = match looks {
        Looks::Often => volumes.verified(),
        Looks::Rarely => volumes.verified_every(RARELY),
        Looks::Never => volumes,
    };
    let index = Index::Simulated(Simulated(Arc::new(world.clone())));
    Store(Arc::new(Core::new(index, volumes, options, next)), None)
}

/// Numbers that are all different, and in order.
fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}
