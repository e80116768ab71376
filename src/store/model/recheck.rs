//! A disk vanishes while a value is stored there, and comes back: the value is in doubt, and looked at again.

use std::time::Duration;

use tokio::time::sleep;
use tracing::level_filters::LevelFilter;

use super::calls::World;
use super::disks::is_marker;
use super::fault::{Fault, Kind};
use super::setup::started;
use super::step::Shape;
use super::terms::{KEYS, VOLUMES};
use super::world::{Call, Looks, Whereabouts};
use crate::logs::Lines;
use crate::record::Replica;
use crate::store::replicas::path;
use crate::store::{Precondition, Store};

/// What an answer takes, in milliseconds.
const LATENCY: u8 = 10;

/// In milliseconds, after which a value takes effect of which one replica was stored early.
const LATE: u64 = 1600;

/// By then, all that was in doubt is settled.
const SETTLED: Duration = Duration::from_secs(30);

/// The volume was away for a moment, and has lost the file.
fn lose(world: &World, store: &Store, file: &Whereabouts) {
    world.state().files.remove(file).unwrap();
    world.state().damaged.insert(file.clone());
    store.0.volumes.named(&file.0).bar();
}

fn at(replica: &Replica) -> Whereabouts {
    (replica.place.volume().to_owned(), path(&KEYS[0], replica))
}

/// The file of an attempt under way on the first volume, once it is there.
async fn file_under_way(world: &World) -> Whereabouts {
    loop {
        let entry = world.state().entry(&KEYS[0]);
        let mut files = entry.intents.iter().flat_map(|intent| &intent.files).map(at);
        if let Some(file) = files.find(|file| file.0 == VOLUMES[0])
            && world.state().files.contains_key(&file)
        {
            return file;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// The attempt may end while it is looked at: what was read of its row before says of no value.
#[tokio::test(start_paused = true)]
async fn a_value_that_takes_effect_meanwhile_is_made_good_whenever_that_is() {
    let mut lost = Vec::new();
    for late in (0..LATE).step_by(5) {
        let world = World::default();
        world.state().looks = Looks::Rarely;
        let store = started(&world).await;
        world.state().latencies = vec![LATENCY];
        world.state().reads_return_late = true;
        let slow = Call { kind: Kind::Stored, volume: VOLUMES[1].clone() };
        world.state().armed.push((slow, Fault::Slow));
        let write = store.replace(&KEYS[0], Shape::Whole.upload(1), Precondition::Always, |_| Ok(Vec::new()));
        let away = async {
            let file = file_under_way(&world).await;
            sleep(Duration::from_millis(late)).await;
            lose(&world, &store, &file);
        };
        let (written, ()) = tokio::join!(write, away);
        written.unwrap();
        sleep(SETTLED).await;
        let record = world.state().entry(&KEYS[0]).record.unwrap();
        if !record.replicas.iter().all(|replica| world.state().files.contains_key(&at(replica))) {
            lost.push(late);
        }
    }
    assert_eq!(lost, [0; 0], "the delays after which a value lacks a replica for good");
}

/// Neither for each value nor each time that one is looked at.
#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_repaired_yet_are_logged_once_a_minute() {
    const MINUTES: usize = 10;
    let log = Lines::default();
    let lines = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(move || lines.clone());
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    let world = World::default();
    world.state().looks = Looks::Rarely;
    let store = started(&world).await;
    for (key, number) in KEYS.iter().zip(1..) {
        store
            .replace(key, Shape::Whole.upload(number), Precondition::Always, |_| Ok(Vec::new()))
            .await
            .unwrap();
    }
    // the others fail, so that nothing can be copied from them
    for volume in &VOLUMES[1..] {
        world.state().sick.insert(volume.clone());
    }
    let on_first: Vec<_> = world.state().files.keys().filter(|file| file.0 == VOLUMES[0]).cloned().collect();
    let values = on_first.into_iter().filter(|file| !is_marker(&file.1));
    values.for_each(|file| {
        world.state().files.remove(&file).unwrap();
        world.state().damaged.insert(file);
    });
    store.0.volumes.named(&VOLUMES[0]).bar();
    sleep(Duration::from_mins(MINUTES as u64)).await;
    let told = log.text().matches("it can't be repaired yet").count();
    assert!((1..=MINUTES + 1).contains(&told), "{told} lines");
}
