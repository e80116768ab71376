//! An attempt that goes on without the key's claim, and the reaper.

use std::time::Duration;

use tokio::time::sleep;

use super::case::{KEYS, QUARANTINE, VOLUMES, started};
use super::world::{File, World};
use crate::index::Entry;
use crate::placement::Place;
use crate::record::Replica;
use crate::store::attempt::Attempt;
use crate::store::path;

/// Though the reaper may find its intent: after another write of the key panicked, or when it scans the
/// index because more came up than it had room for.
#[tokio::test(start_paused = true)]
async fn it_keeps_its_files_until_it_ends() {
    let (world, key) = (World::default(), &KEYS[0]);
    let store = started(&world).await;

    let mut attempt = Attempt::begin(&store.0, key, None, Entry::default()).await.unwrap();
    let replica = Replica { place: Place::new(&VOLUMES[0]), name: attempt.own_name() };
    attempt.intend(std::slice::from_ref(&replica)).await.unwrap();
    let file = (VOLUMES[0].clone(), path(key, &replica));
    world.state().files.insert(file.clone(), File::new("bytes".into(), 1, 1));
    store.0.hand_over(key);
    sleep(QUARANTINE * 2).await;
    assert!(world.state().files.contains_key(&file), "a file that is on its way into a record");

    drop(attempt);
    sleep(Duration::from_secs(2)).await;
    assert!(!world.state().files.contains_key(&file), "a file that nobody wants");
    assert!(!world.state().entry(key).intents.is_empty(), "a PUT may still be on its way");
    sleep(QUARANTINE * 2).await;
    assert!(world.state().entry(key).intents.is_empty());
}
