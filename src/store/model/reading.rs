//! A read that takes longer than its value is there.

use tokio::time::sleep;

use super::calls::World;
use super::fault::{Fault, Kind, Landing};
use super::setup::{READER_GRACE, started};
use super::step::Shape;
use super::terms::{KEYS, value};
use super::world::Call;
use crate::error::Error;

/// The next value may have the same name by then, and the same size.
#[tokio::test(start_paused = true)]
async fn it_never_goes_on_in_another_value() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;

    store.put(key, Shape::Whole.upload(1)).await.unwrap();
    let record = store.stat(key).await.unwrap();
    let mut reading = store.read(key, record.clone(), 0..record.size.unwrap()).await.unwrap();
    let first = reading.next().await.unwrap().unwrap();
    assert!(value(1).starts_with(&first) && first.len() < value(1).len());

    store.delete(key).await.unwrap();
    sleep(READER_GRACE * 3).await;
    store.put(key, Shape::Whole.upload(2)).await.unwrap();
    assert_eq!(store.stat(key).await.unwrap().replicas, record.replicas, "the same names");
    let volume = record.replicas[0].place.volume().to_owned();
    world.state().armed.push((Call { kind: Kind::Read, volume }, Fault::Unanswered(Landing::Never)));
    assert!(matches!(reading.next().await, Err(Error::Changed)));
}
