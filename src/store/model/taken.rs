//! Writes that are under way, or begin, while another program with a copy of the index takes the volumes over: they are
//! refused, as that program's index doesn't have them.

use super::calls::World;
use super::setup::started;
use super::step::Shape;
use super::terms::KEYS;
use super::unclaimed::{always, attempt};
use crate::error::Error;
use crate::record::{Headers, State};
use crate::store::caller::Caller;
use crate::store::{BucketError, Precondition};

#[tokio::test(start_paused = true)]
async fn a_value_that_is_stored_meanwhile_does_not_take_effect() {
    let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
    let store = started(&world).await;
    let (attempt, record) = attempt(&world, &store, key, &caller, always()).await;
    store.taken_over().cancel();
    assert!(matches!(attempt.take_effect(record).await, Err(Error::Unreachable)));
    assert_eq!(world.state().entry(key).record, None);
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_that_waits_for_its_key_meanwhile() {
    let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
    let store = started(&world).await;
    let (attempt, record) = attempt(&world, &store, key, &caller, always()).await;
    let claim = store.0.claims.take(key, &caller).await.unwrap();
    let goes_on = async {
        tokio::task::yield_now().await;
        store.taken_over().cancel();
        drop(claim);
    };
    // polled in this order
    let (written, ()) = tokio::join!(biased; attempt.take_effect(record), goes_on);
    assert!(matches!(written, Err(Error::Unreachable)), "{written:?}");
    assert_eq!(world.state().entry(key).record, None);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_refused_leaves_the_index_as_it_was() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;
    store.put(key, Shape::Whole.upload(1)).await.unwrap();
    let upload = store.begin_upload(key, Headers::new()).await.unwrap();
    let entry = world.state().entry(key);
    store.taken_over().cancel();
    let refused = [
        store.delete(key).await,
        store.remove(key, Precondition::Always).await,
        store.set_state(key, State::Unlinked).await,
        store.put(&KEYS[1], Shape::Whole.upload(2)).await,
        store.begin_upload(key, Headers::new()).await.map(drop),
        store.abort_upload(key, upload).await,
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::Unreachable))), "{refused:?}");
    let made = store.buckets(true).create("bucket").await;
    assert!(matches!(made, Err(BucketError::Store(Error::Unreachable))), "{made:?}");
    let world = world.state();
    assert_eq!(world.entry(key).record, entry.record);
    assert_eq!((world.entry(&KEYS[1]).record, world.index.notes.len()), (None, 1));
}
