//! Replicas that are missing, torn or wrong.

use std::fs;

use davkv::key::Name;
use davkv::record::State;
use md5::{Digest as _, Md5};

use crate::rig::{Model, Random, Rig, contents, key};

#[test]
fn a_missing_replica_is_repaired() {
    let mut rig = Rig::new(3);
    let model = rig.fill(6, &mut Random::new());
    let (missing, _) = rig.volumes[1].files().swap_remove(0);
    fs::remove_file(rig.volumes[1].dir().join(missing)).unwrap();
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("repaired"), ended.figure("moved")), (1, 0));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_torn_replica_is_repaired() {
    let mut rig = Rig::new(3);
    let model = rig.fill(6, &mut Random::new());
    for (torn, value) in rig.volumes[1].files() {
        fs::write(rig.volumes[1].dir().join(torn), &value[..value.len() / 2]).unwrap();
    }
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("repaired"), ended.figure("moved")), (6, 0));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_wrong_replica_is_not_copied() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.end_master();
    let model = Model::from([(key("/key"), (State::Live, b"value".to_vec()))]);
    // the first is missing, the second has other bytes of the same length, and the third is good
    let stored = |rank| rig.stored(&key("/key"), &rig.replica(&key("/key"), rank, Name::Plain));
    fs::write(rig.file(&stored(0)), b"wrong").unwrap();
    fs::remove_file(rig.file(&stored(1))).unwrap();
    rig.rebalance(&rig.addresses(), &[]);
    let made_good = &contents(&rig.db()).records[&key("/key")].replicas[1];
    assert_eq!(fs::read(rig.file(&rig.stored(&key("/key"), made_good))).unwrap(), b"value");
    assert_eq!(
        contents(&rig.db()).records[&key("/key")].md5,
        Some(Md5::digest(&model[&key("/key")].1).into())
    );
}

#[test]
fn a_value_without_any_whole_replica_fails_and_is_kept() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/damaged"), b"value", 201);
    rig.expect("PUT", &key("/good"), b"value", 201);
    rig.end_master();
    for rank in 0..3 {
        let stored = rig.stored(&key("/damaged"), &rig.replica(&key("/damaged"), rank, Name::Plain));
        fs::write(rig.file(&stored), b"v").unwrap();
    }
    let (before, files) = (contents(&rig.db()), rig.files());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().filter(|line| line.starts_with("failed: /damaged: ")).count(), 1);
    assert_eq!((ended.figure("failures"), ended.figure("objects")), (1, 2));
    assert_eq!(contents(&rig.db()), before);
    assert!(rig.files() == files);
}
