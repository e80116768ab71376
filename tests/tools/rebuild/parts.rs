//! Parts of uploads, and the notes of buckets and uploads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use davkv::clock::Timestamp;
use davkv::index::notes::Note;
use davkv::index::{Index, Loaded};
use davkv::key::{Key, Name};
use davkv::record::{Intent, Record, Replica, State};

use crate::common::{Gate, eventually};
use crate::rig::{
    Contents, PATIENCE, REBUILD, REPLICAS, Rig, Stored, block_on, contents, key, open, run, tool,
};

const UPLOAD: u64 = 100;

/// An index with three parts of an upload and notes of the upload and its bucket; the parts are on the
/// volumes.
pub(crate) struct Parts {
    rig: Rig,
    index: Index,
    records: BTreeMap<Key, Record>,
    notes: BTreeMap<Note, Record>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        let rig = Rig::new(3);
        let index = open(&rig.db(), true);
        block_on(index.reserve_beyond(UPLOAD)).unwrap();
        let mut parts = Self { rig, index, records: BTreeMap::new(), notes: BTreeMap::new() };
        for number in 1..=3 {
            let (key, record) = parts.lay(&Key::part(UPLOAD, number), UPLOAD + u64::from(number));
            parts.load(&key, Some(&record), Vec::new());
            parts.records.insert(key, record);
        }
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        let noted = Record { headers, modified: Some(Timestamp::now()), ..without_replicas() };
        for note in [Note::Bucket(b"bucket".to_vec()), Note::Upload(key("/bucket/object"), UPLOAD)] {
            block_on(parts.index.set_note(&note, Some(&noted))).unwrap();
            parts.notes.insert(note, noted.clone());
        }
        parts
    }

    /// Creates the files of a value on as many volumes as its record names, and returns the record.
    fn lay(&self, key: &Key, generation: u64) -> (Key, Record) {
        let name = Name::Generation(generation);
        let value = format!("value {generation}");
        let files: Vec<Stored> =
            (0..REPLICAS).map(|rank| self.rig.lay(key, rank, name, value.as_bytes())).collect();
        let written = fs::metadata(self.rig.file(&files[0])).unwrap().modified().unwrap();
        // the file's time is the record's, to the second
        let modified = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let modified = Timestamp::from_millis(modified.as_millis().try_into().unwrap());
        for file in &files {
            let file = fs::File::options().append(true).open(self.rig.file(file)).unwrap();
            file.set_modified(written).unwrap();
        }
        let record = Record {
            replicas: self.replicas(key, generation),
            md5: Some([7; 16]),
            size: Some(value.len() as u64),
            modified: Some(modified),
            headers: vec![("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned())],
            ..without_replicas()
        };
        (key.clone(), record)
    }

    fn replicas(&self, key: &Key, generation: u64) -> Vec<Replica> {
        (0..REPLICAS).map(|rank| self.rig.replica(key, rank, Name::Generation(generation))).collect()
    }

    fn load(&self, key: &Key, record: Option<&Record>, intents: Vec<Intent>) {
        let loaded = Loaded { record: record.map(Record::encode), intents };
        block_on(self.index.load(vec![(key.clone(), loaded)])).unwrap();
    }

    pub(crate) fn close(self) -> (Rig, BTreeMap<Key, Record>, BTreeMap<Note, Record>) {
        self.index.close();
        (self.rig, self.records, self.notes)
    }
}

fn without_replicas() -> Record {
    let (md5, size, modified) = (None, None, None);
    Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
}

/// The number of files that the intents of parts name.
fn intended(contents: &Contents) -> usize {
    let parts = contents.intents.iter().filter(|(key, _)| key.as_part().is_some());
    parts.flat_map(|(_, intents)| intents).map(|intent| intent.files.len()).sum()
}

fn from(db: &Path) -> [&str; 2] {
    ["--from", db.to_str().unwrap()]
}

#[test]
fn without_an_older_index_parts_are_left_over_and_the_master_deletes_them() {
    let (mut rig, parts, _) = Parts::new().close();
    for rank in 0..REPLICAS {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let old = rig.path("old");
    fs::rename(rig.db(), &old).unwrap();
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    let figures = ["objects", "parts", "leftovers", "lost", "incomplete", "failures"];
    assert_eq!(figures.map(|name| ended.figure(name)), [1, 0, 9, 0, 0, 0]);
    let new = contents(&rig.db());
    assert_eq!(new.records.keys().collect::<Vec<_>>(), [&key("/key")]);
    assert_eq!((new.parts.len(), intended(&new), new.notes.len()), (0, parts.len() * REPLICAS, 0));
    rig.serve(&[]);
    eventually("the parts are gone", PATIENCE, || rig.files().len() == REPLICAS);
}

#[test]
fn with_the_older_index_parts_and_notes_are_kept() {
    let (rig, parts, notes) = Parts::new().close();
    let ended = rig.rebuild(&rig.path("rebuilt"), &from(&rig.db()));
    ended.assert_done();
    assert_eq!(ended.err, "");
    let figures = ["objects", "bytes", "parts", "leftovers", "lost", "incomplete", "failures"];
    assert_eq!(figures.map(|name| ended.figure(name)), [0, 0, 3, 0, 0, 0, 0]);
    let new = contents(&rig.path("rebuilt"));
    assert_eq!((new.records, new.intents), (BTreeMap::new(), BTreeMap::new()));
    assert_eq!((new.parts, new.notes), (parts, notes));
}

/// The upload was completed or aborted, and its parts were about to be deleted.
#[test]
fn parts_of_an_upload_without_a_note_are_left_over() {
    let parts = Parts::new();
    let upload = Note::Upload(key("/bucket/object"), UPLOAD);
    block_on(parts.index.set_note(&upload, None)).unwrap();
    let (rig, ..) = parts.close();
    let ended = rig.rebuild(&rig.path("rebuilt"), &from(&rig.db()));
    ended.assert_done();
    assert_eq!(["parts", "leftovers", "lost"].map(|name| ended.figure(name)), [0, 9, 0]);
    let new = contents(&rig.path("rebuilt"));
    assert_eq!((new.parts.len(), intended(&new), new.notes.len()), (0, 9, 1));
}

/// The part is newer than the older index, so its checksums and MD5 are unknown, and the upload can't be
/// completed with it.
#[test]
fn a_part_that_the_older_index_does_not_know_is_left_over() {
    let parts = Parts::new();
    parts.lay(&Key::part(UPLOAD, 4), UPLOAD + 4);
    let (rig, known, _) = parts.close();
    let ended = rig.rebuild(&rig.path("rebuilt"), &from(&rig.db()));
    ended.assert_done();
    assert_eq!(["parts", "leftovers"].map(|name| ended.figure(name)), [3, 3]);
    let new = contents(&rig.path("rebuilt"));
    assert_eq!((new.parts, new.intents.keys().collect::<Vec<_>>()), (known, vec![&Key::part(UPLOAD, 4)]));
}

#[test]
fn a_part_that_was_sent_again_after_the_older_index_is_left_over() {
    let parts = Parts::new();
    let again = Key::part(UPLOAD, 2);
    parts.lay(&again, UPLOAD + 9);
    let (rig, mut known, _) = parts.close();
    let ended = rig.rebuild(&rig.path("rebuilt"), &from(&rig.db()));
    ended.assert_done();
    assert_eq!(["parts", "leftovers"].map(|name| ended.figure(name)), [2, 6]);
    let new = contents(&rig.path("rebuilt"));
    known.remove(&again);
    assert_eq!((intended(&new), new.parts), (6, known));
}

/// The part was replaced before the older index was copied; its intent is kept.
#[test]
fn files_named_by_an_intent_of_a_part_stay_with_it() {
    let parts = Parts::new();
    let twice = Key::part(UPLOAD, 2);
    parts.lay(&twice, UPLOAD + 1);
    let intent = Intent { id: 5, files: parts.replicas(&twice, UPLOAD + 1) };
    parts.load(&twice, parts.records.get(&twice), vec![intent.clone()]);
    let (rig, known, _) = parts.close();
    let ended = rig.rebuild(&rig.path("rebuilt"), &from(&rig.db()));
    ended.assert_done();
    assert_eq!(["parts", "leftovers"].map(|name| ended.figure(name)), [3, 0]);
    let new = contents(&rig.path("rebuilt"));
    assert_eq!((new.parts, new.intents), (known, BTreeMap::from([(twice, vec![intent])])));
}

/// Nothing reads such parts, so a volume that can't read one is no obstacle.
#[test]
fn parts_that_are_left_over_are_not_compared() {
    let parts = Parts::new();
    parts.lay(&Key::part(UPLOAD, 2), UPLOAD + 9);
    let (rig, ..) = parts.close();
    let gates: Vec<_> = rig.volumes.iter().map(Gate::before).collect();
    let volumes: Vec<_> = gates.iter().map(Gate::addr).collect();
    let read = |gate: &Gate| {
        gate.requests().iter().filter(|(method, target, _)| method == "GET" && target.contains(',')).count()
    };
    run(&mut tool(REBUILD, &rig.path("rebuilt"), &volumes, &[])).assert_done();
    assert_eq!(gates.iter().map(read).sum::<usize>(), 0);
}

#[test]
fn minikeyvalue_gets_neither_parts_nor_notes() {
    let (rig, ..) = Parts::new().close();
    for rank in 0..REPLICAS {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let [from, old] = from(&rig.db()).map(str::to_owned);
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--records", "minikeyvalue", &from, &old]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    let figures = ["objects", "parts", "leftovers", "failures"];
    assert_eq!(figures.map(|name| ended.figure(name)), [1, 0, 9, 0]);
    let new = contents(&rig.path("rebuilt"));
    assert_eq!(new.records.keys().collect::<Vec<_>>(), [&key("/key")]);
    assert_eq!((new.parts.len(), new.intents.len(), new.notes.len()), (0, 0, 0));
}
