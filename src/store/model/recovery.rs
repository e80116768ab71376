//! The index is opened again after a write that failed, while the reaper works.

use std::time::Duration;

use tokio::time::sleep;

use super::calls::World;
use super::fault::{Fault, Kind};
use super::setup::{QUARANTINE, started};
use super::terms::KEYS;
use super::unclaimed::{always, attempt};
use super::world::{Call, Whereabouts};
use crate::store::caller::Caller;
use crate::store::replicas::path;

/// The reaper looks at a key that was handed over to it after a minute, and the index is opened again a second after
/// a write has failed. A write that fails at this time has both happen at once.
const IN_TIME: Duration = Duration::from_secs(59);
/// What a call takes, in milliseconds.
const LATENCY: u8 = 50;

/// What the reaper has read, before the index is opened again, makes the files those of a closed intent. They
/// are files of a record.
#[tokio::test(start_paused = true)]
async fn files_are_not_deleted_because_of_what_was_read_before() {
    for early in (0..200).step_by(10) {
        let (world, key, caller) = (World::default(), &KEYS[0], Caller::default());
        let store = started(&world).await;
        let (attempt, record) = attempt(&world, &store, key, &caller, always()).await;
        let file: Whereabouts =
            (record.replicas[0].place.volume().to_owned(), path(key, &record.replicas[0]));
        store.0.hand_over(key).await;
        sleep(IN_TIME.saturating_sub(Duration::from_millis(early))).await;
        world.state().latencies = vec![LATENCY];
        world.state().reads_return_late = true;
        let next = Call { kind: Kind::Commit, volume: String::new() };
        world.state().armed.push((next, Fault::FailsButKeeps));
        attempt.take_effect(record.clone()).await.unwrap_err();
        sleep(QUARANTINE * 3).await;
        assert_eq!(world.state().violations, [""; 0], "{early} ms");
        assert!(world.state().files.contains_key(&file), "{early} ms");
        assert_eq!(world.state().entry(key).record, Some(record));
        assert!(world.state().is_quiet());
    }
}
