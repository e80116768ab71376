//! Volumes without room: what can't be moved there stays where it is.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use davkv::key::Key;
use davkv::placement::Placement;
use davkv::record::State;

use crate::common::{Disk, Gate, MARKER, Order, Volume};
use crate::rig::{Ended, Model, REPLICAS, Random, Rig, contents, key};

/// A store on three volumes, some of whose keys are to move to a fourth; and those keys.
fn with_a_fourth() -> (Rig, Model, Vec<Key>) {
    let mut rig = Rig::gated(3);
    let model = rig.fill(40, &mut Random::new());
    rig.add_volume();
    rig.gates.push(Gate::before(&rig.volumes[3]));
    let placement = Placement::new(rig.addresses(), REPLICAS, 10);
    let fourth = rig.addresses()[3].clone();
    let moves = |key: &&Key| placement.wanted(key).iter().any(|place| place.volume() == fourth);
    let moves: Vec<Key> = model.keys().filter(moves).cloned().collect();
    assert!(!moves.is_empty());
    (rig, model, moves)
}

/// From now on, the volume takes its markers, and answers this status to every other PUT.
fn fill_up(gate: &Gate, status: u16) {
    gate.rule(move |method, target| {
        (method == "PUT" && !target.contains(MARKER)).then_some(Order::Answer(status))
    });
}

#[track_caller]
fn assert_unbalanced(ended: &Ended, count: usize, full: &str) {
    assert_eq!(ended.assert_done().figure("unbalanced"), count as u64);
    let lines: Vec<_> = ended.out.lines().filter(|line| line.contains(full)).collect();
    assert!(lines.len() == 1 && lines[0].ends_with(full), "{ended:?}");
    assert_eq!((ended.said().len(), ended.figure("failures")), (0, 0), "{ended:?}");
}

#[test]
fn what_a_full_volume_does_not_take_stays_where_it_is_and_is_no_failure() {
    for status in [500, 507] {
        let (rig, model, moves) = with_a_fourth();
        let before = contents(&rig.db()).records;
        fill_up(&rig.gates[3], status);
        let ended = rig.rebalance(&rig.addresses(), &[]);
        assert_unbalanced(&ended, moves.len(), &rig.addresses()[3]);
        assert_eq!(contents(&rig.db()).records, before);
        // again and again
        assert_unbalanced(&rig.rebalance(&rig.addresses(), &[]), moves.len(), &rig.addresses()[3]);
        rig.gates[3].open();
        assert!(!rig.rebalance(&rig.addresses(), &[]).assert_done().out.contains("unbalanced"));
        rig.assert_tidy(&rig.addresses(), &model);
    }
}

#[test]
fn what_a_full_disk_does_not_take_stays_where_it_is() {
    let tempdir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::tmpfs(&tempdir.path().join("disk"), "20m") else { return };
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let value = vec![7; 1 << 20];
    let keys = (0..16).map(|n| key(&format!("/{n}")));
    let model: Model = keys.map(|key| (key, (State::Live, value.clone()))).collect();
    for key in model.keys() {
        rig.expect("PUT", key, &value, 201);
    }
    rig.end_master();
    rig.volumes.push(Volume::start(&disk.dir().join("volume")));
    let ballast = disk.dir().join("ballast");
    // so that it has its markers
    rig.serve(&[]);
    rig.end_master();
    fill(&ballast);
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert!(ended.assert_done().figure("unbalanced") > 0, "{ended:?}");
    assert_eq!(rig.volumes[3].files(), []);
    fs::remove_file(ballast).unwrap();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.assert_tidy(&rig.addresses(), &model);
    // its files, before their disk
    drop(rig);
}

/// What is left on a full disk, in bytes: room for the markers.
const LEFT: u64 = 32 << 10;

fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    let mut written = 0;
    while file.write_all(&[0; 4096]).is_ok() {
        written += 4096;
    }
    file.set_len(written - LEFT).unwrap();
}

#[test]
fn a_key_that_cannot_keep_its_replicas_is_a_failure() {
    let (rig, model, _) = with_a_fourth();
    // the first volume is drained: all keys should lie on the others, one of which is full
    fill_up(&rig.gates[3], 507);
    let before = contents(&rig.db()).records;
    let ended = rig.rebalance(&rig.addresses()[1..], &[]);
    assert_eq!((ended.code, ended.figure("failures")), (Some(1), model.len() as u64), "{ended:?}");
    assert!(!ended.out.contains("unbalanced"), "{ended:?}");
    assert!(ended.said().iter().all(|line| line.contains("full")), "{ended:?}");
    assert_eq!(contents(&rig.db()).records, before);
}

#[test]
fn a_key_that_has_lost_a_replica_on_a_full_volume_is_a_failure() {
    let mut rig = Rig::gated(3);
    rig.fill(6, &mut Random::new());
    let (lost, _) = rig.volumes[1].files().swap_remove(0);
    fs::remove_file(rig.volumes[1].dir().join(lost)).unwrap();
    fill_up(&rig.gates[1], 507);
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!((ended.code, ended.figure("failures")), (Some(1), 1), "{ended:?}");
    rig.gates[1].open();
    assert_eq!(rig.rebalance(&rig.addresses(), &[]).assert_done().figure("repaired"), 1);
}
