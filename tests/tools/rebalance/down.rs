//! Volumes that are down: needed ones, drained ones, and lost ones that are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use davkv::key::Key;
use davkv::placement::Placement;

use crate::common::eventually;
use crate::rig::{Contents, Model, PATIENCE, REPLICAS, Random, Rig, contents, is_as_many, rows};

#[test]
fn a_lost_volume_can_be_forgotten() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    let lost = rig.addresses()[3].clone();
    rig.volumes[3].kill();
    for (file, _) in rig.volumes[3].files() {
        fs::remove_file(rig.volumes[3].dir().join(file)).unwrap();
    }
    let left = &rig.addresses()[..3];
    rig.rebalance(left, &["--forget", &lost]).assert_done();
    rig.assert_tidy(left, &model);
    assert_eq!(contents(&rig.db()).intents, BTreeMap::new());
    // nor is its identity kept: the name may be given to another volume
    let known = |name: &String| rows(&rig.db()).contains_key(&[b"\0volume", name.as_bytes()].concat());
    assert!(!known(&lost) && left.iter().all(known));
}

#[test]
fn intents_for_a_forgotten_volume_are_dropped() {
    let mut rig = Rig::new(4);
    let mut model = rig.fill(30, &mut Random::new());
    let lost = rig.addresses()[3].clone();
    rig.volumes[3].kill();
    rig.serve(&[]);
    for (key, _) in model.clone().into_iter().step_by(2) {
        rig.expect("DELETE", &key, b"", 204);
        model.remove(&key);
    }
    rig.end_master();
    let waiting = |seen: &Contents| {
        let files = seen.intents.values().flatten().flat_map(|intent| &intent.files);
        files.filter(|file| file.place.volume() == lost).count() as u64
    };
    let before = waiting(&contents(&rig.db()));
    assert!(before > 0);
    let ended = rig.rebalance(&rig.addresses()[..3], &["--forget", &lost]);
    ended.assert_done();
    assert_eq!(ended.figure("forgotten"), before);
    assert_eq!(waiting(&contents(&rig.db())), 0);
}

/// A store whose fourth volume was drained while it was down, and is back.
fn drained_while_down() -> (Rig, Model) {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    let waiting = rig.volumes[3].files().len() as u64;
    rig.volumes[3].kill();
    let ended = rig.rebalance(&rig.addresses()[..3], &[]);
    assert_eq!((ended.code, ended.figure("failures")), (Some(1), 0), "{ended:?}");
    assert_eq!(ended.figure("pending"), waiting);
    rig.volumes[3].restart();
    (rig, model)
}

#[test]
fn a_volume_drained_while_it_was_down_is_emptied_by_the_next_run() {
    let (rig, model) = drained_while_down();
    let left = &rig.addresses()[..3];
    let ended = rig.rebalance(left, &[]);
    ended.assert_done();
    assert!(!ended.out.contains("pending"), "{ended:?}");
    assert_eq!(rig.volumes[3].files(), []);
    rig.assert_tidy(left, &model);
}

#[test]
fn a_volume_drained_while_it_was_down_is_emptied_by_the_master() {
    let (mut rig, model) = drained_while_down();
    let left = rig.addresses()[..3].to_vec();
    rig.serve_on(&left, &[]);
    eventually("the drained volume is empty", PATIENCE, || rig.volumes[3].files().is_empty());
    rig.end_master();
    rig.assert_tidy(&left, &model);
}

#[test]
fn a_volume_that_is_needed_and_down_fails_its_keys_and_no_others() {
    let mut rig = Rig::new(4);
    let model = rig.fill(40, &mut Random::new());
    rig.add_volume();
    let down = rig.addresses()[0].clone();
    let placement = Placement::new(rig.addresses(), REPLICAS, 10);
    let needs = |key: &&Key| placement.wanted(key).iter().any(|place| place.volume() == down);
    let (failed, done): (Vec<_>, Vec<_>) = model.keys().partition(needs);
    rig.volumes[0].kill();
    let before = contents(&rig.db());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let name =
        |line: &str| line.strip_prefix("failed: ").map(|rest| rest.split(": ").next().unwrap().to_owned());
    let named: BTreeSet<_> = ended.err.lines().filter_map(name).collect();
    assert_eq!(named, failed.iter().map(ToString::to_string).collect());
    assert_eq!(ended.figure("failures"), failed.len() as u64);
    let after = contents(&rig.db());
    for key in failed {
        assert_eq!(after.records[key], before.records[key]);
    }
    for key in done {
        let places: Vec<_> = after.records[key].replicas.iter().map(|one| one.place.clone()).collect();
        assert_eq!(places, placement.wanted(key), "{key}");
    }
    rig.volumes[0].restart();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.serve(&[]);
    eventually("the files that waited for the volume are deleted", PATIENCE, || is_as_many(&rig, &model));
    rig.end_master();
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_misspelt_volume_to_forget_is_reported() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.fill(3, &mut Random::new());
    rig.end_master();
    let ended = rig.rebalance(&rig.addresses(), &["--forget", "nowhere:1"]);
    assert!(ended.assert_done().said().iter().any(|line| line.contains("--forget nowhere:1")));
}
