//! The store, in a world.

use std::sync::Arc;
use std::time::Duration;

use super::calls::World;
use super::network::Network;
use super::terms::{REPLICAS, VOLUMES};
use super::world::Script;
use crate::index::Index;
use crate::index::simulated::Simulated;
use crate::placement::Placement;
use crate::store::core::Core;
use crate::store::{Forgotten, Options, Store};
use crate::volume::{Addresses, Timeouts, Volumes};

pub(super) const QUARANTINE: Duration = Duration::from_mins(10);
pub(super) const READER_GRACE: Duration = Duration::from_mins(1);
pub(super) const SWEEP_EVERY: Duration = Duration::from_mins(30);
pub(super) fn options(volumes: &[usize]) -> Options {
    Options {
        placement: Placement::new(volumes.iter().map(|rank| VOLUMES[*rank].clone()).collect(), REPLICAS, 10),
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
    store.start().await.unwrap();
    store
}

/// A store in the world. Replicas that are equally good stay in the record's order, so that a run can be
/// repeated call by call.
pub(super) fn store(world: &World, options: Options) -> Store {
    let volumes = Volumes::over(Arc::new(Network::of(world)), Addresses::default(), options.timeouts);
    let index = Index::Simulated(Simulated(Arc::new(world.clone())));
    Store(Arc::new(Core::new(index, volumes, options, || 0)), None)
}
