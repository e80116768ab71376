//! What moves when volumes, subvolumes or replicas are added, removed, or renamed.

use std::collections::BTreeMap;

use davkv::clock::Timestamp;
use davkv::index::Loaded;
use davkv::index::notes::Note;
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Record, State};
use md5::{Digest as _, Md5};

use crate::common;
use crate::rig::{REPLICAS, Random, Rig, block_on, contents, key, keys, open};

#[test]
fn an_added_volume_gets_its_share_and_nothing_else_moves() {
    let mut rig = Rig::new(3);
    let model = rig.fill(30, &mut Random::new());
    let before = contents(&rig.db());
    rig.add_volume();
    let added = rig.addresses()[3].clone();
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    rig.assert_tidy(&rig.addresses(), &model);
    let after = contents(&rig.db());
    assert_eq!(after.intents, BTreeMap::new());
    let (mut moved, mut copied) = (0, 0);
    for (key, record) in &after.records {
        let new: Vec<_> =
            record.replicas.iter().filter(|one| !before.records[key].replicas.contains(one)).collect();
        assert!(new.iter().all(|replica| replica.place.volume() == added), "{key}: {new:?}");
        assert_eq!(record.modified, before.records[key].modified, "{key}");
        moved += new.len() as u64;
        copied += record.size.unwrap() * new.len() as u64;
    }
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (moved, moved));
    assert_eq!((ended.figure("copied"), ended.figure("repaired")), (copied, 0));
    assert_eq!((ended.figure("objects"), ended.figure("failures")), (30, 0));
    let bytes: usize = model.values().map(|(_, value)| value.len()).sum();
    assert_eq!(ended.figure("bytes"), bytes as u64);
}

#[test]
fn a_second_run_changes_nothing() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.add_volume();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    let before = contents(&rig.db());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    for name in ["moved", "repaired", "dropped", "copied", "failures"] {
        assert_eq!(ended.figure(name), 0, "{name}");
    }
    assert_eq!(contents(&rig.db()), before);
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn every_key_is_balanced_and_served_afterwards() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.add_volume();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.serve(&[]);
    for (key, (state, value)) in &model {
        if *state == State::Unlinked {
            rig.expect("GET", key, b"", 404);
            rig.expect("RELINK", key, b"", 204);
        }
        let answer = rig.send("GET", key, b"");
        assert_eq!(answer.header("key-balance"), Some("balanced"), "{key}");
        assert!(common::http::get_url(answer.header("location").unwrap()).body == *value, "{key}");
    }
}

#[test]
fn draining_empties_the_volume() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    assert!(!rig.volumes[3].files().is_empty());
    let left = &rig.addresses()[..3];
    rig.rebalance(left, &[]).assert_done();
    assert_eq!(rig.volumes[3].files(), []);
    rig.assert_tidy(left, &model);
}

#[test]
fn values_move_when_the_number_of_subvolumes_changes() {
    let mut rig = Rig::new(3);
    let model = rig.fill(10, &mut Random::new());
    rig.rebalance(&rig.addresses(), &["--subvolumes", "1"]).assert_done();
    let files = rig.files();
    assert_eq!(files.len(), model.len() * REPLICAS);
    assert!(files.keys().all(|(_, path)| !path.starts_with("sv")), "{:?}", files.keys());
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn replicas_are_added_and_surplus_ones_are_deleted() {
    let mut rig = Rig::new(4);
    let model = rig.fill(10, &mut Random::new());
    let ended = rig.rebalance(&rig.addresses(), &["--replicas", "4"]);
    ended.assert_done();
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (10, 0));
    assert_eq!(rig.files().len(), 40);
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (0, 10));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn unlinked_keys_stay_unlinked_and_move_too() {
    let mut rig = Rig::new(4);
    rig.serve(&[]);
    let keys = keys(12);
    for key in &keys {
        rig.expect("PUT", key, b"value", 201);
        rig.expect("UNLINK", key, b"", 204);
    }
    rig.end_master();
    let left = &rig.addresses()[..3];
    assert!(rig.rebalance(left, &[]).assert_done().figure("moved") > 0);
    let unlinked = |key: &Key| (key.clone(), (State::Unlinked, b"value".to_vec()));
    rig.assert_tidy(left, &keys.iter().map(unlinked).collect());
}

/// Parts of uploads are values as well.
#[test]
fn parts_of_uploads_move_too() {
    let mut rig = Rig::new(4);
    let index = open(&rig.db(), true);
    let mut rows = Vec::new();
    for number in 1..=12 {
        let (part, name) = (Key::part(7, number), Name::Generation(100 + u64::from(number)));
        let replicas: Vec<_> = (0..REPLICAS).map(|rank| rig.replica(&part, rank, name)).collect();
        for rank in 0..REPLICAS {
            rig.lay(&part, rank, name, b"part");
        }
        let (md5, size) = (Some(Md5::digest(b"part").into()), Some(4));
        let record = Record {
            state: State::Live,
            replicas,
            md5,
            size,
            modified: Some(Timestamp::from_millis(1)),
            headers: Vec::new(),
        };
        rows.push((part, Loaded { record: Some(record.encode()), intents: Vec::new() }));
    }
    let (replicas, headers) = (Vec::new(), Vec::new());
    let begun = Record { state: State::Live, replicas, md5: None, size: None, modified: None, headers };
    block_on(async {
        index.load(rows).await.unwrap();
        // the master deletes parts without an upload
        index.set_note(&Note::Upload(Key::new(b"/uploaded"), 7), Some(&begun)).await.unwrap();
        index.reserve_beyond(1000).await.unwrap();
    });
    index.close();
    rig.serve(&[]);
    rig.expect("PUT", &key("/object"), b"value", 201);
    rig.end_master();
    let before = contents(&rig.db()).parts;
    let left = &rig.addresses()[..3];
    let ended = rig.rebalance(left, &[]);
    ended.assert_done();
    assert_eq!((ended.figure("objects"), ended.figure("bytes"), ended.figure("failures")), (13, 53, 0));
    assert!(rig.volumes[3].files().is_empty());
    let after = contents(&rig.db()).parts;
    let files = rig.files();
    let placement = Placement::new(left.to_vec(), REPLICAS, 10);
    for (part, record) in &after {
        let places: Vec<_> = record.replicas.iter().map(|replica| replica.place.clone()).collect();
        assert_eq!(places, placement.wanted(part), "{part}");
        assert!(record.replicas.iter().all(|one| files[&rig.stored(part, one)] == b"part"), "{part}");
        assert_eq!(*record, Record { replicas: record.replicas.clone(), ..before[part].clone() }, "{part}");
    }
    assert_eq!((after.len(), files.len()), (12, 13 * REPLICAS));
}

/// To the placement, another spelling of an address is another volume; but the files are the same.
#[test]
fn respelled_volumes_are_refused_before_anything_is_copied() {
    let mut rig = Rig::new(3);
    let model = rig.fill(20, &mut Random::new());
    let respelled: Vec<_> =
        rig.addresses().iter().map(|address| address.replace("127.0.0.1", "localhost")).collect();
    let before = rig.files();
    let ended = rig.rebalance(&respelled, &[]);
    let remedy = format!("name it {}=HOST:PORT in --volumes", rig.addresses()[0]);
    assert!(ended.code == Some(1) && ended.err.contains(&remedy), "{ended:?}");
    assert_eq!(rig.files(), before);
    // as the remedy says: the names stay, and nothing moves
    let renamed: Vec<_> =
        rig.addresses().iter().zip(&respelled).map(|(name, address)| format!("{name}={address}")).collect();
    let ended = rig.rebalance(&renamed, &[]);
    assert_eq!(ended.assert_done().figure("moved"), 0);
    assert_eq!(rig.files(), before);
    rig.assert_tidy(&rig.addresses(), &model);
}
