//! An attempt that goes on without the key's claim, and the reaper.

use std::time::Duration;

use tokio::time::sleep;

use super::calls::World;
use super::setup::{QUARANTINE, started};
use super::terms::{KEYS, VOLUMES};
use super::world::File;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::steps::Conditions;
use crate::key::Key;
use crate::placement::Place;
use crate::record::{Record, Replica, State};
use crate::store::attempt::Attempt;
use crate::store::replicas::path;
use crate::store::{Precondition, Store};

/// Though the reaper may find its intent: after another write of the key panicked, or when it scans the
/// index because more came up than it had room for.
#[tokio::test(start_paused = true)]
async fn it_keeps_its_files_until_it_ends() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;

    let mut attempt = Attempt::begin(&store.0, key, None, always()).await.unwrap();
    let replica = Replica { place: Place::new(&VOLUMES[0]), name: attempt.own_name() };
    attempt.intend(std::slice::from_ref(&replica)).await.unwrap();
    let file = (VOLUMES[0].clone(), path(key, &replica));
    world.state().files.insert(file.clone(), File::new("bytes".into(), 1, 1));
    store.0.hand_over(key).await;
    sleep(QUARANTINE * 2).await;
    assert!(world.state().files.contains_key(&file), "a file that is on its way into a record");

    drop(attempt);
    sleep(Duration::from_secs(2)).await;
    assert!(!world.state().files.contains_key(&file), "a file that nobody wants");
    assert!(!world.state().entry(key).intents.is_empty(), "a PUT may still be on its way");
    sleep(QUARANTINE * 2).await;
    assert!(world.state().entry(key).intents.is_empty());
}

fn always() -> Conditions {
    Conditions::on(Precondition::Always)
}

/// An attempt whose file lies on its volume, and the record that it would commit.
async fn attempt<'a>(
    world: &World,
    store: &'a Store,
    key: &'a Key,
    conditions: Conditions,
) -> (Attempt<'a>, Record) {
    let mut attempt = Attempt::begin(&store.0, key, None, conditions).await.unwrap();
    let replica = Replica { place: Place::new(&VOLUMES[0]), name: attempt.own_name() };
    attempt.intend(std::slice::from_ref(&replica)).await.unwrap();
    let file = (VOLUMES[0].clone(), path(key, &replica));
    world.state().files.insert(file, File::new("bytes".into(), 1, 1));
    let (state, md5, size, modified) = (State::Live, None, Some(5), Some(Timestamp::from_seconds(1)));
    (attempt, Record { state, replicas: vec![replica], md5, size, modified, headers: Vec::new() })
}

#[tokio::test(start_paused = true)]
async fn one_that_a_later_one_overtook_has_come_just_before_it() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;
    let (first, early) = attempt(&world, &store, key, always()).await;
    let (second, late) = attempt(&world, &store, key, always()).await;
    second.take_effect(late.clone()).await.unwrap();
    let files = world.state().files.len();
    first.take_effect(early).await.unwrap();
    assert_eq!(world.state().entry(key).record, Some(late));
    assert_eq!(world.state().files.len(), files - 1, "its file is deleted");
}

/// It would have been what the later one found.
#[tokio::test(start_paused = true)]
async fn one_that_a_conditional_one_overtook_is_refused() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;
    let (first, early) = attempt(&world, &store, key, always()).await;
    let (second, late) = attempt(&world, &store, key, Conditions::on(Precondition::Absent)).await;
    second.take_effect(late.clone()).await.unwrap();
    assert!(matches!(first.take_effect(early).await, Err(Error::Busy)));
    assert_eq!(world.state().entry(key).record, Some(late));
}
