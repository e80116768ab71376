//! What must hold after the faults have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use davkv::clock::Timestamp;
use davkv::index::notes::{Note, Notes};
use davkv::index::{Entry, Index, Options};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Intent, Record, State};
use md5::{Digest, Md5};

use crate::bench::{Bench, REPLICAS};
use crate::common::{eventually, request};
use crate::linear::{self, Action, Outcome};
use crate::load::{Client, Load, decoded};
use crate::report::assert_doubt_is_rare;

/// How long after a restart the volumes may hold files that the index doesn't name.
pub const TIDY: Duration = Duration::from_secs(10);
/// Longer than the quarantine, during which intents may stay.
const SETTLED: Duration = Duration::from_secs(30);

/// Files by key: the volume's address and subvolume, the name, and the bytes.
type Files = BTreeMap<Key, BTreeSet<(String, Name, Vec<u8>)>>;

impl Bench {
    /// Waits at most `within` until the volumes hold exactly the replicas of what the index lists, and
    /// asserts that a single copy of each key explains what clients saw.
    #[track_caller]
    pub fn assert_tidy_and_explained(&self, load: &Load, within: Duration) {
        let auditor = load.auditor();
        end_open_uploads(load, &auditor);
        eventually("the volumes hold only the values", within, || self.is_tidy(&auditor));
        let shared: Vec<_> = Load::buckets().map(|bucket| format!("/{bucket}/")).collect();
        for key in load.unchecked_keys() {
            for upload in load.uploads.of(&key).iter().filter(|upload| !upload.has_ended()) {
                auditor.list_parts(upload);
            }
            if shared.iter().any(|bucket| key.starts_with(bucket)) {
                auditor.look(&key);
            }
            let mut found = None;
            eventually("the key can be read", SETTLED, || {
                found = auditor.read(&key);
                found.is_some()
            });
            let name = decoded(&key);
            let listed = self.list(&format!("{key}?list")).contains(&name);
            assert_eq!(
                listed,
                found != Some(Outcome::Refused),
                "whether {key} is listed differs from whether it can be read"
            );
        }
        for (register, history) in load.unchecked() {
            linear::check(&history).unwrap_or_else(|violation| panic!("{register:?}: {violation}"));
        }
        load.assert_errors_are_explained();
    }

    /// Whether each listed key, and each part of a listed upload, has its replicas on different volumes, and
    /// there are no other files.
    fn is_tidy(&self, auditor: &Client<'_>) -> bool {
        let listed = self.list("/?list").into_iter().chain(self.list("/?unlinked"));
        let mut missing: BTreeMap<Key, usize> =
            listed.map(|name| (Key::new(name.as_bytes()), REPLICAS)).collect();
        for (key, id) in Load::buckets().flat_map(|bucket| auditor.list_uploads(&bucket)) {
            let upload = u64::from_str_radix(&id, 16).unwrap();
            let parts = auditor.numbers_of_parts(&key, &id);
            missing.extend(parts.into_iter().map(|number| (Key::part(upload, number), REPLICAS)));
        }
        for volume in &self.volumes {
            let mut here = BTreeSet::new();
            for path in volume.paths() {
                let (key, _) =
                    Key::from_path(&path[path.find('/').unwrap()..]).expect("the path of a key's file");
                let Some(left) = missing.get_mut(&key).filter(|left| **left > 0) else { return false };
                if !here.insert(key) {
                    return false;
                }
                *left -= 1;
            }
        }
        missing.values().all(|left| *left == 0)
    }

    /// Checks everything, through the API and in the files, and ends the bench.
    #[track_caller]
    pub fn audit(mut self, load: &Load) {
        self.assert_tidy_and_explained(load, SETTLED);
        assert_no_key_is_stuck(load);
        assert_no_upload_is_stuck(load);
        self.assert_tidy_and_explained(load, SETTLED);
        let open = load.uploads.open().into_keys().collect::<BTreeSet<_>>();
        assert_doubt_is_rare(load);
        let copy = self.tempdir.path().join("copy of the index");
        eventually("all intents are removed", SETTLED, || no_intents(&self.db, &copy));
        assert!(self.master.terminate().success());

        assert_eq!(uploads(&self.db), open, "the uploads with notes");
        let entries = entries(&self.db);
        assert_whole(&entries, &self.files());
        self.assert_rebuilt_index_is_the_same(&entries);
        self.assert_one_rebalance_puts_all_in_place(&entries);
    }

    fn list(&self, target: &str) -> Vec<String> {
        let answer = request(&self.master.addr(), "GET", target, &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        list["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        for (volume, address) in self.volumes.iter().zip(&self.addresses) {
            for (path, bytes) in volume.files() {
                let (directory, path) = path.split_at(path.find('/').unwrap());
                let (key, name) = Key::from_path(path).expect("the path of a key's file");
                files.entry(key).or_default().insert((format!("{address}/{directory}"), name, bytes));
            }
        }
        files
    }

    #[track_caller]
    fn assert_rebuilt_index_is_the_same(&self, live: &BTreeMap<Key, Entry>) {
        let rebuilt = self.tempdir.path().join("rebuilt");
        // the volumes know neither states, MD5s nor headers, and times only to the second
        let forgetful = |record: &Record| {
            let modified = record.modified.map(|modified| Timestamp::from_seconds(modified.seconds()));
            Record { state: State::Live, md5: None, modified, headers: Vec::new(), ..record.clone() }
        };
        self.run(env!("CARGO_BIN_EXE_davkv-rebuild"), &rebuilt, &[]);
        // without notes, an upload's parts are left over
        let rebuilt: BTreeMap<_, _> = entries(&rebuilt).into_iter().filter(is_no_part).collect();
        let live_keys = live.clone().into_iter().filter(is_no_part).collect();
        assert_same(&rebuilt, &live_keys, forgetful);
        let from_old = self.tempdir.path().join("rebuilt from the old one");
        self.run(env!("CARGO_BIN_EXE_davkv-rebuild"), &from_old, &["--from", self.db.to_str().unwrap()]);
        assert_same(&entries(&from_old), live, Record::clone);
        assert_eq!(uploads(&from_old), uploads(&self.db), "the uploads with notes");
    }

    #[track_caller]
    fn assert_one_rebalance_puts_all_in_place(&self, before: &BTreeMap<Key, Entry>) {
        self.run(env!("CARGO_BIN_EXE_davkv-rebalance"), &self.db, &[]);
        let after = entries(&self.db);
        assert_whole(&after, &self.files());
        let placement = Placement::new(self.addresses.clone(), REPLICAS, 10);
        for (key, entry) in &after {
            let record = entry.record.as_ref().unwrap();
            let places: Vec<_> = record.replicas.iter().map(|replica| replica.place.clone()).collect();
            assert_eq!(places, placement.wanted(key), "{key} after a rebalance");
        }
        assert_same(&after, before, |record| Record { replicas: Vec::new(), ..record.clone() });
    }

    #[track_caller]
    fn run(&self, program: &str, db: &Path, flags: &[&str]) {
        let volumes = self.addresses.join(",");
        let output = Command::new(program)
            .args(["--db", db.to_str().unwrap(), "--volumes", &volumes])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Ends the listed uploads. They are the known ones without a known end, and at most as many others as there
/// were begins without an answer; these are aborted.
#[track_caller]
fn end_open_uploads(load: &Load, auditor: &Client<'_>) {
    let known = load.uploads.known();
    for (key, id) in Load::buckets().flat_map(|bucket| auditor.list_uploads(&bucket)) {
        if let Some(upload) = known.get(&id) {
            assert!(!upload.has_ended(), "{key} has the upload {id}, which has ended");
        } else {
            assert!(load.uploads.find_doubtful(&key), "{key} has the upload {id}, which no client began");
            auditor.abort_unknown(&key, &id);
        }
    }
}

/// Asserts that each key can be deleted, written, and read.
#[track_caller]
fn assert_no_key_is_stuck(load: &Load) {
    let mut auditor = load.auditor();
    for key in load.current_keys() {
        auditor.write(&key, Action::Delete);
        assert_eq!(auditor.read(&key), Some(Outcome::Refused), "{key}");
        eventually("the key can be written", SETTLED, || {
            auditor.put(&key);
            matches!(auditor.read(&key), Some(Outcome::Read(_)))
        });
    }
}

/// Asserts that each upload with all its parts can be completed or aborted; some are left open.
#[track_caller]
fn assert_no_upload_is_stuck(load: &Load) {
    let mut auditor = load.auditor();
    for (number, upload) in load.uploads.open().into_values().enumerate() {
        match number % 3 {
            0 if upload.is_whole() => {
                auditor.complete_always(&upload);
                auditor.look(&upload.key);
                auditor.read_by_s3(&upload.key);
            }
            1 => auditor.abort(&upload),
            _ => continue,
        }
        assert!(upload.has_ended(), "{}", upload.key);
    }
}

/// Asserts that each record has its replicas, whole and on different volumes, and that there are no other
/// files.
#[track_caller]
fn assert_whole(entries: &BTreeMap<Key, Entry>, files: &Files) {
    for (key, found) in files {
        assert!(entries.contains_key(key), "{key} has files but is not in the index: {:?}", names(found));
    }
    for (key, entry) in entries {
        assert_eq!(entry.intents, [], "{key}");
        let record = entry.record.as_ref().expect("a key without intents has a record");
        let recorded: BTreeSet<_> =
            record.replicas.iter().map(|replica| (replica.place.as_str(), replica.name)).collect();
        let found = files.get(key).unwrap_or_else(|| panic!("{key} has no file"));
        assert_eq!(recorded, names(found), "the replicas of {key}, by the index and on the volumes");
        let volumes: BTreeSet<_> = record.replicas.iter().map(|replica| replica.place.volume()).collect();
        assert_eq!(volumes.len(), REPLICAS, "{key} has its replicas on different volumes");
        for (place, _, bytes) in found {
            assert_eq!(record.size, Some(bytes.len() as u64), "{key} on {place}");
            assert_eq!(record.md5, Some(Md5::digest(bytes).into()), "{key} on {place}");
        }
    }
}

fn names(files: &BTreeSet<(String, Name, Vec<u8>)>) -> BTreeSet<(&str, Name)> {
    files.iter().map(|(place, name, _)| (place.as_str(), *name)).collect()
}

/// Asserts that both have the same keys, and that `of` their records is the same.
#[track_caller]
fn assert_same(one: &BTreeMap<Key, Entry>, other: &BTreeMap<Key, Entry>, of: impl Fn(&Record) -> Record) {
    assert!(one.keys().eq(other.keys()), "the same keys");
    for (key, entry) in one {
        let sorted = |entry: &Entry| {
            let mut record = of(entry.record.as_ref().unwrap());
            record.replicas.sort();
            record
        };
        assert_eq!(sorted(entry), sorted(&other[key]), "{key}");
        assert_eq!(entry.intents, [], "{key}");
    }
}

/// Whether the index of a running master has no intents. Its files are copied while they are written, so the
/// copy may be unreadable; then the answer is no.
fn no_intents(db: &Path, copy: &Path) -> bool {
    fs::remove_dir_all(copy).ok();
    fs::create_dir(copy).unwrap();
    for file in fs::read_dir(db).unwrap().flatten() {
        if fs::copy(file.path(), copy.join(file.file_name())).is_err() {
            return false;
        }
    }
    let Ok(index) = Index::open(copy, OPTIONS) else { return false };
    intents(&index).is_empty()
}

const OPTIONS: Options = Options { create: false, cache_bytes: 1 << 20, sync: false };

/// Opens an index that no process has open. A process that another test has just forked has its lock, too, until it
/// executes its program.
fn open(db: &Path) -> Index {
    let mut opened = None;
    eventually("the index is in use by no other process", SETTLED, || {
        opened = match Index::open(db, OPTIONS) {
            Err(error) if error.to_string().contains("is in use") => None,
            opened => Some(opened.unwrap()),
        };
        opened.is_some()
    });
    opened.unwrap()
}

fn is_no_part((key, _): &(Key, Entry)) -> bool {
    key.as_part().is_none()
}

/// The ids of the uploads with notes in an index.
fn uploads(db: &Path) -> BTreeSet<String> {
    let index = open(db);
    let (mut uploads, mut start) = (BTreeSet::new(), None);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    loop {
        let page = runtime.block_on(index.notes_page(Notes::Uploads, b"", start.as_ref())).unwrap();
        start = page.next_note();
        uploads.extend(page.rows.into_iter().map(|(note, _)| match note {
            Note::Upload(_, id) => format!("{id:016x}"),
            Note::Bucket(_) => unreachable!(),
        }));
        if start.is_none() {
            return uploads;
        }
    }
}

/// All entries of keys and parts in an index; its master is down.
fn entries(db: &Path) -> BTreeMap<Key, Entry> {
    let index = open(db);
    let (mut entries, mut start) = (BTreeMap::<Key, Entry>::new(), b"/".to_vec());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    loop {
        let page = runtime.block_on(index.page(b"", &start, None)).unwrap();
        entries.extend(
            page.rows.into_iter().map(|(key, record)| (key, Entry { record: Some(record), intents: vec![] })),
        );
        let Some(next) = page.next else { break };
        start = next;
    }
    for (key, intents) in intents(&index) {
        entries.entry(key).or_default().intents = intents;
    }
    entries
}

fn intents(index: &Index) -> Vec<(Key, Vec<Intent>)> {
    let (mut intents, mut start) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    loop {
        let page = runtime.block_on(index.intents_page(&start)).unwrap();
        intents.extend(page.rows);
        let Some(next) = page.next else { return intents };
        start = next;
    }
}
