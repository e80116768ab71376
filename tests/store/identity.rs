//! The number of the run rises while values are written.

use std::fs;
use std::time::Duration;

use davkv::store::{IdentifyError, Precondition};

use crate::common::{OWNER_FILE, Volume, eventually};
use crate::rig::Rig;

const PATIENCE: Duration = Duration::from_secs(20);

fn number(volume: &Volume) -> u64 {
    let file = fs::read(volume.dir().join(OWNER_FILE)).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["ended"], false);
    file["run"]["number"].as_u64().unwrap()
}

#[test]
fn an_index_is_out_of_date_soon_after_the_next_write_also_if_the_master_never_stops() {
    let rig = Rig::with(3, |options| options.raise_every = Duration::from_millis(100));
    for written in 1..3_u64 {
        let (copied, before) = rig.copy_index(&format!("copy{written}"));
        rig.replace(format!("value {written}").as_bytes(), Precondition::Always).unwrap();
        eventually("the number rises", PATIENCE, || rig.volumes.iter().all(|volume| number(volume) > before));
        let started = rig.start_with(&copied).map(drop);
        assert!(matches!(started, Err(IdentifyError::Outdated)), "{started:?}");
    }
    assert_eq!(rig.read(None).unwrap(), b"value 2");
}

#[test]
fn the_number_stays_while_nothing_is_written() {
    let rig = Rig::with(3, |options| options.raise_every = Duration::from_millis(10));
    rig.replace(b"value", Precondition::Always).unwrap();
    let numbers = || rig.volumes.iter().map(number).collect::<Vec<_>>();
    eventually("the number rises", PATIENCE, || numbers().iter().all(|number| *number > 1));
    // the intent of the attempt and its end may each be one more
    let (mut last, mut same) = (numbers(), 0);
    eventually("the number stays", PATIENCE, || {
        let now = numbers();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 25
    });
}

/// The number that it would rise to is the one that the clone has begun with.
#[test]
fn a_store_whose_machine_was_cloned_ends_instead_of_raising_its_number() {
    let rig = Rig::with(3, |options| options.raise_every = Duration::from_millis(100));
    let (copied, before) = rig.copy_index("clone");
    rig.settle_copy(&copied);
    let clone = rig.start_with(&copied).unwrap();
    rig.replace(b"value", Precondition::Always).unwrap();
    let ended = rig.store().taken_over();
    eventually("the first one ends", PATIENCE, || ended.is_cancelled());
    assert!(rig.volumes.iter().all(|volume| number(volume) == before + 1));
    assert!(!clone.taken_over().is_cancelled());
    rig.runtime.block_on(clone.stop(PATIENCE));
}
