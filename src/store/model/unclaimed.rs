//! An attempt that goes on without the key's claim, the reaper, and others who have the claim.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::calls::World;
use super::setup::{QUARANTINE, started};
use super::step::Shape;
use super::terms::{KEYS, VOLUMES};
use super::world::File;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::steps::Conditions;
use crate::key::Key;
use crate::placement::Place;
use crate::record::{Record, Replica, State};
use crate::store::attempt::{Attempt, ClaimMode};
use crate::store::caller::Caller;
use crate::store::claims::Claim;
use crate::store::replicas::path;
use crate::store::{Precondition, Store};

/// Though the reaper may find its intent: after another write of the key panicked, or when it scans the
/// index because more came up than it had room for.
#[tokio::test(start_paused = true)]
async fn it_keeps_its_files_until_it_ends() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;

    let caller = Caller::default();
    let mut attempt = Attempt::begin(&store.0, key, ClaimMode::PerWrite(&caller), always()).await.unwrap();
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

pub(super) fn always() -> Conditions {
    Conditions::on(Precondition::Always)
}

/// An attempt whose file lies on its volume, and the record that it would commit.
pub(super) async fn attempt<'a>(
    world: &World,
    store: &'a Store,
    key: &'a Key,
    caller: &'a Caller,
    conditions: Conditions,
) -> (Attempt<'a>, Record) {
    let mode = ClaimMode::PerWrite(caller);
    let mut attempt = Attempt::begin(&store.0, key, mode, conditions).await.unwrap();
    let replica = Replica { place: Place::new(&VOLUMES[0]), name: attempt.own_name() };
    attempt.intend(std::slice::from_ref(&replica)).await.unwrap();
    let file = (VOLUMES[0].clone(), path(key, &replica));
    world.state().files.insert(file, File::new("bytes".into(), 1, 1));
    let (state, md5, size, modified) = (State::Live, None, Some(5), Some(Timestamp::from_seconds(1)));
    (attempt, Record { state, replicas: vec![replica], md5, size, modified, headers: Vec::new() })
}

#[tokio::test(start_paused = true)]
async fn one_that_a_later_one_overtook_has_come_just_before_it() {
    let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
    let store = started(&world).await;
    let (first, early) = attempt(&world, &store, key, &caller, always()).await;
    let (second, late) = attempt(&world, &store, key, &caller, always()).await;
    second.take_effect(late.clone()).await.unwrap();
    let files = world.state().files.len();
    first.take_effect(early).await.unwrap();
    assert_eq!(world.state().entry(key).record, Some(late));
    assert_eq!(world.state().files.len(), files - 1, "its file is deleted");
}

/// It would have been what the later one found.
#[tokio::test(start_paused = true)]
async fn one_that_a_conditional_one_overtook_is_refused() {
    let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
    let store = started(&world).await;
    let (first, early) = attempt(&world, &store, key, &caller, always()).await;
    let (second, late) = attempt(&world, &store, key, &caller, Conditions::on(Precondition::Absent)).await;
    second.take_effect(late.clone()).await.unwrap();
    assert!(matches!(first.take_effect(early).await, Err(Error::Busy)));
    assert_eq!(world.state().entry(key).record, Some(late));
}

/// The claim of the key, which another writer has.
async fn claimed(store: &Store, key: &Key) -> Claim {
    store.0.claims.take(key, &Caller::default()).await.unwrap()
}

async fn replaced(store: &Store, key: &Key) -> crate::error::Result<Record> {
    store.replace(key, Shape::Whole.upload(1), Precondition::Always, |_| Ok(Vec::new())).await
}

#[tokio::test(start_paused = true)]
async fn one_that_never_gets_the_claim_ends_after_a_minute_and_leaves_nothing_to_do() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;
    let upload = store.begin_upload(key, Vec::new()).await.unwrap();
    let part = store.put_part(key, upload, 1, Shape::Whole.upload(1), |_| Ok(Vec::new())).await.unwrap();
    let files = world.state().files.len();
    let _held = claimed(&store, key).await;

    let begun = Instant::now();
    assert!(matches!(replaced(&store, key).await, Err(Error::Busy)));
    assert_eq!(begun.elapsed().as_secs(), 60);
    let (parts, always) = (vec![(1, part)], Precondition::Always);
    let completed = store.complete_upload(key, upload, parts, always, |_| (), |_| Ok(Vec::new())).await;
    assert!(matches!(completed, Err(Error::Busy)));
    assert_eq!(begun.elapsed().as_secs(), 120);

    assert!(store.0.queue.ids().is_empty());
    assert!(world.state().entry(key).intents.is_empty());
    assert_eq!(world.state().files.len(), files);
    assert!(store.upload(key, upload).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_writes_of_a_request_wait_for_a_minute_together() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;
    replaced(&store, key).await.unwrap();
    let _held = claimed(&store, key).await;
    let request = store.for_request(CancellationToken::new());
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(matches!(replaced(&request, key).await, Err(Error::Busy)));
        assert!(matches!(request.remove(key, Precondition::Always).await, Err(Error::Busy)));
    }
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn one_whose_client_is_gone_ends_unless_it_has_begun() {
    let (world, key, gone) = (World::default(), &KEYS[0], CancellationToken::new());
    let store = started(&world).await;
    let (request, caller) = (store.for_request(gone.clone()), Caller::new(gone.clone()));
    let (early, record) = attempt(&world, &store, key, &caller, always()).await;
    let held = claimed(&store, key).await;

    let begun = Instant::now();
    let (late, removed, ()) =
        tokio::join!(replaced(&request, key), request.remove(key, Precondition::Always), async {
            sleep(Duration::from_secs(1)).await;
            gone.cancel();
        });
    assert!(matches!((late, removed), (Err(Error::Busy), Err(Error::Busy))));
    assert_eq!(begun.elapsed().as_secs(), 1);

    let (effect, ()) = tokio::join!(early.take_effect(record.clone()), async {
        sleep(Duration::from_secs(1)).await;
        drop(held);
    });
    effect.unwrap();
    assert_eq!(world.state().entry(key).record, Some(record));
}

#[tokio::test(start_paused = true)]
async fn one_that_has_begun_waits_for_what_is_left_of_the_minute_and_leaves_its_files_to_the_reaper() {
    let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
    let store = started(&world).await;
    let mut held = claimed(&store, key).await;
    let begun = Instant::now();
    let ((attempt, record), ()) = tokio::join!(attempt(&world, &store, key, &caller, always()), async {
        sleep(Duration::from_secs(40)).await;
        drop(held);
    });
    held = claimed(&store, key).await;
    assert!(matches!(attempt.take_effect(record).await, Err(Error::Busy)));
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(store.0.queue.ids().len(), 1);
    drop(held);
    sleep(QUARANTINE * 2).await;
    assert!(!world.state().has_values() && world.state().entry(key).intents.is_empty());
}
