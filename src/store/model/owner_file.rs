//! Volumes that refuse their owner files, for want of room or of rights. They can still be read, and what is deleted
//! there makes room.

use std::time::Duration;

use hyper::StatusCode;
use tokio::time::sleep;

use super::calls::World;
use super::setup::{options, started, store};
use super::step::Shape;
use super::terms::KEYS;
use super::world::Script;
use crate::store::Store;

/// For want of rights, for no reason that is known, and for want of room.
const REFUSALS: [StatusCode; 4] = [
    StatusCode::FORBIDDEN,
    StatusCode::CONFLICT,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::INSUFFICIENT_STORAGE,
];

/// In which each volume is looked at many times, and the number of the run rises.
const LONG: Duration = Duration::from_mins(5);

/// No replica can be spared, so that all volumes are needed.
async fn assert_all_take_part(store: &Store, status: StatusCode) {
    for number in 1..3 {
        store.put(&KEYS[1], Shape::Whole.upload(number)).await.unwrap_or_else(|e| panic!("{status}: {e}"));
        store.locate(&KEYS[1]).await.unwrap_or_else(|e| panic!("{status}: {e}"));
        store.delete(&KEYS[1]).await.unwrap_or_else(|e| panic!("{status}: {e}"));
        sleep(LONG).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_begins_to_refuse_it_goes_on() {
    for status in REFUSALS {
        let world = World::default();
        let store = started(&world).await;
        world.state().refuses_markers = Some(status);
        assert_all_take_part(&store, status).await;
        assert_eq!(world.state().violations, [""; 0], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_it_at_a_start_takes_part() {
    for status in REFUSALS {
        let world = World::default();
        started(&world).await.stop(LONG).await;
        world.state().refuses_markers = Some(status);
        world.begin(Script::new());
        let store = store(&world, options(&[0, 1, 2]));
        world.start(&store).await.unwrap();
        assert_all_take_part(&store, status).await;
        assert_eq!(world.state().violations, [""; 0], "{status}");
    }
}
