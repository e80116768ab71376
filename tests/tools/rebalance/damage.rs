//! Replicas that are missing, torn or wrong.

use std::fs;

use davkv::key::Name;
use davkv::record::State;

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

/// A store of `/key`, whose value is `value`, with these replicas in the places of its own, by rank: `None` for a file
/// that is missing.
fn damaged(replicas: [Option<&[u8]>; 3]) -> (Rig, Model) {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.end_master();
    for (rank, bytes) in replicas.into_iter().enumerate() {
        let file = rig.file(&rig.stored(&key("/key"), &rig.replica(&key("/key"), rank, Name::Plain)));
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }
    (rig, Model::from([(key("/key"), (State::Live, b"value".to_vec()))]))
}

#[test]
fn a_rotten_source_is_not_copied_and_is_replaced() {
    // sources are read in the order of the record
    for (rotten, bad) in [(0, 1), (0, 2), (1, 0)] {
        for lost in [None, Some(&b"torn"[..])] {
            let mut replicas = [Some(&b"value"[..]); 3];
            (replicas[rotten], replicas[bad]) = (Some(&b"wrong"[..]), lost);
            let (rig, model) = damaged(replicas);
            let ended = rig.rebalance(&rig.addresses(), &[]);
            assert_eq!((ended.assert_done().figure("repaired"), ended.figure("dropped")), (2, 2));
            rig.assert_tidy(&rig.addresses(), &model);
        }
    }
}

#[test]
fn a_rotten_source_on_a_drained_volume_is_dropped() {
    let mut rig = Rig::new(4);
    let model = rig.fill(12, &mut Random::new());
    for (file, value) in rig.volumes[3].files() {
        let rotten: Vec<u8> = value.iter().map(|byte| !byte).collect();
        fs::write(rig.volumes[3].dir().join(file), rotten).unwrap();
    }
    let left = &rig.addresses()[..3];
    assert_eq!(rig.rebalance(left, &[]).assert_done().figure("repaired"), 0);
    rig.assert_tidy(left, &model);
}

#[test]
fn a_value_of_which_only_rotten_replicas_are_left_fails_and_is_kept() {
    let (rotten, torn) = (Some(&b"wrong"[..]), Some(&b"torn"[..]));
    for replicas in [[rotten, None, rotten], [None, None, rotten], [rotten, torn, torn]] {
        let (rig, _) = damaged(replicas);
        let (before, files) = (contents(&rig.db()), rig.files());
        let ended = rig.rebalance(&rig.addresses(), &[]);
        assert_eq!((ended.code, ended.figure("failures")), (Some(1), 1), "{ended:?}");
        let lines = ended.said();
        let lines: Vec<_> = lines.iter().filter(|line| line.starts_with("failed: /key: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains("damaged"), "{ended:?}");
        // the intent of the copy stays for a while
        assert_eq!(contents(&rig.db()).records, before.records);
        assert!(rig.files() == files);
    }
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
