//! Downgrades to davkv 0.1, whose records have times in seconds, and upgrades from it.

use std::collections::BTreeMap;
use std::path::Path;

use davkv::clock::Timestamp;
use davkv::index::Loaded;
use davkv::key::{Key, Name};
use davkv::record::{Form, Intent, Record, State};

use super::parts::Parts;
use crate::common::Volume;
use crate::rig::{Contents, REPLICAS, Random, Rig, block_on, contents, open, rows};

/// The only version of records and intents that davkv 0.1 reads.
const VERSION: u8 = 1;

/// The parts of an S3 client's value that only the index knows.
fn headers() -> Vec<(String, String)> {
    [("content-type", "image/jpeg"), ("x-amz-meta-from", "Bali")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// A store with some values with headers, and an upload under way with its parts; no master runs.
fn store() -> Rig {
    let (mut rig, ..) = Parts::new().close();
    let model = rig.fill(12, &mut Random::new());
    let index = open(&rig.db(), false);
    for key in model.keys() {
        let mut after = block_on(index.entry(key)).unwrap();
        after.record.as_mut().unwrap().headers = headers();
        let loaded = Loaded { record: after.record.map(|record| record.encode()), intents: after.intents };
        block_on(index.load(vec![(key.clone(), loaded)])).unwrap();
    }
    index.close();
    rig
}

fn cut_to_seconds(record: &mut Record) {
    let modified = record.modified.unwrap();
    record.modified = Some(Timestamp::from_seconds(modified.seconds()));
}

/// Asserts that davkv 0.1 can read all rows of the index, and that they equal `old` except for milliseconds.
#[track_caller]
fn assert_readable_and_equal(db: &Path, mut old: Contents) {
    for (row, value) in rows(db) {
        let version = if row == b"\0generation" { VERSION } else { value[0] };
        assert_eq!(version, VERSION, "{}", row.escape_ascii());
    }
    let records = old.records.values_mut().chain(old.parts.values_mut()).chain(old.notes.values_mut());
    records.for_each(cut_to_seconds);
    assert_eq!(contents(db), old);
}

#[test]
fn davkv_0_1_gets_everything_from_an_index_but_milliseconds() {
    let rig = store();
    let (old, rebuilt) = (rig.db(), rig.path("rebuilt"));
    assert!(rows(&old).iter().any(|(row, value)| row.starts_with(b"/") && value[0] != VERSION));
    let flags = ["--records", "davkv-0.1", "--from", old.to_str().unwrap()];
    let ended = rig.rebuild(&rebuilt, &flags);
    ended.assert_done();
    assert_eq!(ended.err, "");
    assert_eq!(["objects", "parts", "failures"].map(|name| ended.figure(name)), [12, 3, 0]);
    let old = contents(&old);
    assert_eq!((old.records.len(), old.parts.len(), old.notes.len()), (12, 3, 2));
    assert!(old.records.values().all(|record| record.md5.is_some() && record.headers == headers()));
    assert!(old.records.values().any(|record| record.state == State::Unlinked));
    assert_readable_and_equal(&rebuilt, old);
}

#[test]
fn davkv_0_1_gets_everything_from_a_dump_but_milliseconds() {
    let mut rig = store();
    rig.serve(&[]);
    let dump = rig.dump("dump");
    rig.end_master();
    let rebuilt = rig.path("rebuilt");
    let flags = ["--records", "davkv-0.1", "--from", dump.to_str().unwrap()];
    rig.rebuild(&rebuilt, &flags).assert_done();
    assert_readable_and_equal(&rebuilt, contents(&rig.db()));
}

/// Intents name the files that no record names, for the master to delete.
#[test]
fn davkv_0_1_reads_an_index_made_from_the_volumes_alone() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    for rank in 0..REPLICAS {
        rig.lay(&Key::part(7, 1), rank, Name::Generation(8), b"a part of an upload that nobody knows");
    }
    let rebuilt = rig.path("rebuilt");
    rig.rebuild(&rebuilt, &["--records", "davkv-0.1"]).assert_done();
    let (old, new) = (contents(&rig.db()).records, contents(&rebuilt));
    assert_eq!((new.records.len(), new.intents.len()), (model.len(), 1));
    for (key, record) in &new.records {
        let second = |record: &Record| record.modified.unwrap().seconds();
        assert_eq!(second(record), second(&old[key]), "{key}");
    }
    assert_readable_and_equal(&rebuilt, new);
}

/// No row is converted at once: a record gets the current version when it is next written.
#[test]
fn an_index_of_davkv_0_1_is_served_unchanged_and_loses_nothing_when_written() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    let (old, db) = (rig.path("old"), rig.db());
    let known: BTreeMap<Key, Record> = contents(&db)
        .records
        .into_iter()
        .map(|(key, mut record)| {
            cut_to_seconds(&mut record);
            (key, Record { headers: headers(), ..record })
        })
        .collect();
    std::fs::rename(&db, &old).unwrap();
    let index = open(&db, true);
    let loaded = known.iter().map(|(key, record)| {
        let record = record.encode_in(Form::Davkv01);
        (key.clone(), Loaded { record, intents: Vec::new() })
    });
    block_on(index.load(loaded.collect())).unwrap();
    index.close();
    // nor did it mark the volumes
    rig.volumes.iter().for_each(Volume::unmark);

    rig.serve(&[]);
    for (key, (state, _)) in &model {
        if *state == State::Unlinked {
            rig.expect("GET", key, b"", 404);
            rig.expect("RELINK", key, b"", 204);
        }
        rig.expect("GET", key, b"", 302);
    }
    rig.end_master();
    let expected = known.iter().map(|(key, record)| {
        let state = State::Live;
        (key.clone(), Record { state, ..record.clone() })
    });
    assert_eq!(contents(&db).records, expected.collect());
    let stored = rows(&db);
    for (key, (state, _)) in &model {
        let version = stored[key.as_bytes()][0];
        assert_eq!(version == VERSION, *state == State::Live, "{key} has version {version}");
    }
}

/// It may be one from before the upgrade, whose unfinished attempts have become values since.
#[test]
fn intents_of_an_index_of_davkv_0_1_doom_no_file_of_a_store_with_markers() {
    let mut rig = Rig::new(3);
    let model = rig.fill(6, &mut Random::new());
    let (older, rebuilt) = (rig.path("older"), rig.path("rebuilt"));
    let values = contents(&rig.db()).records;
    let index = open(&older, true);
    let loaded = values.iter().map(|(key, record)| {
        let intents = vec![Intent { id: 7, files: record.replicas.clone() }];
        (key.clone(), Loaded { record: None, intents })
    });
    block_on(index.load(loaded.collect())).unwrap();
    index.close();
    rig.rebuild(&rebuilt, &["--from", older.to_str().unwrap()]).assert_done();
    let seen = contents(&rebuilt);
    assert_eq!((seen.records.len(), seen.intents), (model.len(), BTreeMap::new()));
    assert!(seen.records.iter().all(|(key, record)| record.replicas == values[key].replicas));
}
