//! What a rebuild restores, what it hides, and what it cannot restore.

use std::collections::BTreeSet;

use davkv::key::{Key, Name};
use davkv::record::{Record, Replica, State};

use crate::common::{self, Master, eventually};
use crate::rig::{Contents, Model, PATIENCE, Random, Rig, Stored, as_volumes_know, contents, key, keys};

/// A store after a random history: plain and generation names, a volume that was added later, keys that were
/// deleted, unlinked, written again and moved. The master is stopped.
fn random_history() -> (Rig, Model) {
    let mut random = Random::new();
    let mut rig = Rig::new(3);
    let keys = keys(30);
    let mut model = Model::new();
    for (phase, flags) in [&[][..], &["--names", "generation"], &[]].into_iter().enumerate() {
        if phase == 1 {
            rig.add_volume();
        }
        rig.serve(flags);
        for _ in 0..80 {
            let key = &keys[random.below(keys.len())];
            match (model.get(key).map(|(state, _)| *state), random.below(5)) {
                (None, _) => {
                    let value = random.value();
                    rig.expect("PUT", key, &value, 201);
                    model.insert(key.clone(), (State::Live, value));
                }
                (Some(_), 0 | 1) => {
                    rig.expect("DELETE", key, b"", 204);
                    model.remove(key);
                }
                (Some(State::Live), 2) => {
                    rig.expect("UNLINK", key, b"", 204);
                    model.get_mut(key).unwrap().0 = State::Unlinked;
                }
                (Some(State::Live), _) => rig.expect("REBALANCE", key, b"", 204),
                (Some(State::Unlinked), _) => {
                    rig.expect("RELINK", key, b"", 204);
                    model.get_mut(key).unwrap().0 = State::Live;
                }
            }
        }
    }
    rig.end_master();
    assert!(!model.is_empty() && model.len() < keys.len(), "the history has live and deleted keys");
    (rig, model)
}

#[test]
fn rebuild_from_the_index_equals_it() {
    let (rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    let ended = rig.rebuild(&rebuilt, &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    assert_eq!(contents(&rebuilt), contents(&rig.db()));
    let unlinked = model.values().filter(|(state, _)| *state == State::Unlinked).count();
    let bytes: usize = model.values().map(|(_, value)| value.len()).sum();
    assert!(ended.out.contains(&format!("objects    {}, {unlinked} of them unlinked\n", model.len())));
    assert_eq!(ended.figure("bytes"), bytes as u64);
    for name in ["incomplete", "leftovers", "junk", "lost", "failures"] {
        assert_eq!(ended.figure(name), 0, "{name}");
    }
}

/// A key that was deleted while a surplus file from a REBALANCE still waited for readers is restored as
/// unlinked: on the volumes, this file looks like the rest of a failed write.
#[test]
fn rebuild_from_the_volumes_alone_equals_the_index_but_for_states_md5s_and_milliseconds() {
    let (rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    rig.rebuild(&rebuilt, &[]).assert_done();
    let (old, new) = (contents(&rig.db()), contents(&rebuilt));
    for (key, record) in &old.records {
        let mut expected = Record { state: State::Live, ..record.clone() };
        let found = new.records.get(key);
        expected.md5 = found.and_then(|found| found.md5).and(record.md5);
        expected.modified = record.modified.map(as_volumes_know);
        assert_eq!(found, Some(&expected), "{key}");
    }
    let on_volumes = |key: &Key, files: Vec<Replica>| -> BTreeSet<Stored> {
        files.iter().map(|file| rig.stored(key, file)).filter(|file| rig.file(file).exists()).collect()
    };
    let intended = |contents: &Contents, key: &Key| {
        let intents = contents.intents.get(key).into_iter().flatten();
        on_volumes(key, intents.flat_map(|intent| intent.files.clone()).collect())
    };
    for (key, record) in new.records.iter().filter(|(key, _)| !model.contains_key(key)) {
        assert_eq!(record.state, State::Unlinked, "{key} is revived");
        assert_eq!(on_volumes(key, record.replicas.clone()), intended(&old, key), "{key}");
    }
    for key in model.keys() {
        assert_eq!(intended(&new, key), intended(&old, key), "{key}");
    }
}

#[test]
fn a_rebuilt_store_serves_reads_and_writes() {
    let (mut rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    rig.rebuild(&rebuilt, &["--names", "plain"]).assert_done();
    rig.master = Some(Master::start(&rebuilt, &rig.addresses(), &[]));
    for (key, (_, value)) in &model {
        let answer = rig.send("GET", key, b"");
        assert_eq!(answer.status, 302, "{key}: {}", answer.text());
        let got = common::http::get_url(answer.header("location").unwrap());
        assert!(got.body == *value, "{key}");
        rig.expect("DELETE", key, b"", 204);
        rig.expect("PUT", key, b"new", 201);
    }
}

#[test]
fn generations_after_a_rebuild_are_unused_ones() {
    let mut rig = Rig::new(3);
    let one = key("/key");
    for rank in 0..3 {
        rig.lay(&one, rank, Name::Generation(1 << 40), b"value");
    }
    rig.rebuild(&rig.db(), &[]).assert_done();
    rig.serve(&["--names", "generation"]);
    rig.expect("DELETE", &one, b"", 204);
    rig.expect("PUT", &one, b"new", 201);
    rig.end_master();
    let newer = |replica: &Replica| matches!(replica.name, Name::Generation(n) if n > 1 << 40);
    assert!(contents(&rig.db()).records[&one].replicas.iter().all(newer));
}

#[test]
fn a_deleted_key_is_not_revived() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let (kept, deleted) = (key("/kept"), key("/deleted"));
    rig.expect("PUT", &kept, b"value", 201);
    rig.expect("PUT", &deleted, b"value", 201);
    rig.expect("DELETE", &deleted, b"", 204);
    rig.end_master();
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    assert_eq!(contents(&rig.path("rebuilt")).records.keys().collect::<Vec<_>>(), [&kept]);
}

/// A store whose key `/deleted` was deleted while a volume was down that is back now.
fn deleted_with_a_volume_down() -> (Rig, Key, Stored) {
    let mut rig = Rig::new(4);
    let deleted = key("/deleted");
    rig.serve(&[]);
    rig.expect("PUT", &deleted, b"value", 201);
    let left = rig.stored(&deleted, &rig.replica(&deleted, 1, Name::Plain));
    rig.volumes[left.0].kill();
    rig.expect("DELETE", &deleted, b"", 204);
    rig.master.as_mut().unwrap().kill();
    rig.master = None;
    rig.volumes[left.0].restart();
    assert!(rig.file(&left).exists());
    (rig, deleted, left)
}

#[test]
fn a_key_deleted_while_a_volume_was_down_is_not_revived_from_the_index() {
    let (rig, deleted, left) = deleted_with_a_volume_down();
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    let new = contents(&rig.path("rebuilt"));
    assert!(new.records.is_empty());
    let intended = new.intents[&deleted].iter().flat_map(|intent| &intent.files);
    assert!(intended.map(|file| rig.stored(&deleted, file)).any(|file| file == left));
}

#[test]
fn a_key_deleted_while_a_volume_was_down_is_hidden_without_the_index() {
    let (rig, deleted, _) = deleted_with_a_volume_down();
    let ended = rig.rebuild(&rig.path("rebuilt"), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /deleted\n");
    assert_eq!(contents(&rig.path("rebuilt")).records[&deleted].state, State::Unlinked);
}

#[test]
fn a_newer_value_wins_over_a_stale_file_of_a_volume() {
    let (mut rig, deleted, left) = deleted_with_a_volume_down();
    rig.volumes[left.0].kill();
    rig.serve(&[]);
    rig.expect("PUT", &deleted, b"newer", 201);
    rig.master.as_mut().unwrap().kill();
    rig.master = None;
    rig.volumes[left.0].restart();
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    let (old, new) = (contents(&rig.db()), contents(&rig.path("rebuilt")));
    assert_eq!(new.records[&deleted].replicas, old.records[&deleted].replicas);
    let intended: Vec<_> = new.intents[&deleted].iter().flat_map(|intent| &intent.files).collect();
    assert_eq!(intended.iter().map(|file| rig.stored(&deleted, file)).collect::<Vec<_>>(), [left]);
}

#[test]
fn the_one_file_of_an_interrupted_write_is_hidden_and_reported() {
    let rig = Rig::new(3);
    rig.lay(&key("/half written"), 0, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /half%20written\n");
    assert!(ended.out.starts_with("objects    1, 1 of them unlinked\n"), "{ended:?}");
    assert_eq!(ended.figure("incomplete"), 1);
    assert_eq!(contents(&rig.db()).records[&key("/half written")].state, State::Unlinked);
}

#[test]
fn the_one_file_of_an_interrupted_write_is_live_with_keep_suspects() {
    let rig = Rig::new(3);
    rig.lay(&key("/half"), 0, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &["--keep-suspects"]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /half\n");
    assert!(ended.out.starts_with("objects    1, 0 of them unlinked\n"), "{ended:?}");
    assert_eq!(contents(&rig.db()).records[&key("/half")].state, State::Live);
}

#[test]
fn a_value_on_half_of_its_volumes_is_live_and_incomplete() {
    let rig = Rig::new(3);
    rig.lay(&key("/half"), 1, Name::Plain, b"value");
    rig.lay(&key("/half"), 2, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!((ended.err.as_str(), ended.figure("incomplete")), ("", 1));
    assert_eq!(contents(&rig.db()).records[&key("/half")].state, State::Live);
}

#[test]
fn an_interrupted_write_does_not_hide_the_previous_value() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let cut = rig.lay(&key("/key"), 0, Name::Generation(9), b"newer value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    let new = contents(&rig.db());
    assert!(new.records[&key("/key")].replicas.iter().all(|replica| replica.name == Name::Plain));
    let intended = new.intents[&key("/key")].iter().flat_map(|intent| &intent.files);
    assert_eq!(intended.map(|file| rig.stored(&key("/key"), file)).collect::<Vec<_>>(), [cut]);
}

/// A replica was moved away and back. Its plain name could not be reused, and the file of that name still
/// waits to be deleted beside the new one.
#[test]
fn two_equal_files_on_one_volume_count_as_one_replica() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    rig.lay(&key("/key"), 0, Name::Generation(9), b"value");
    rig.rebuild(&rig.db(), &[]).assert_done();
    let replicas = contents(&rig.db()).records[&key("/key")].replicas.clone();
    let volumes: BTreeSet<_> = replicas.iter().map(|replica| replica.place.volume().to_owned()).collect();
    assert_eq!(volumes.len(), 3, "{replicas:?}");
}

#[test]
fn empty_files_are_not_values() {
    let mut rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/empty"), rank, Name::Plain, b"");
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("objects"), ended.figure("leftovers")), (1, 3));
    assert_eq!(contents(&rig.db()).records.keys().collect::<Vec<_>>(), [&key("/key")]);
    rig.serve(&[]);
    eventually("the empty files are deleted", PATIENCE, || rig.files().len() == 3);
}
