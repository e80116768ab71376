//! The store over real volumes, where no API reaches it yet: overwrites, and reads through the master.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use common::{Gate, Order, Volume, eventually};
use davkv::error::{Error, Result};
use davkv::index::{self, Index};
use davkv::key::Key;
use davkv::placement::Placement;
use davkv::record::Record;
use davkv::store::{Forgotten, Options, Store, Upload, When};
use davkv::volume::{Patience, Volumes};
use http_body_util::Full;
use tokio::runtime::Runtime;

/// How long what the store does in the background may take.
const SOON: Duration = Duration::from_secs(20);

const READER_GRACE: Duration = Duration::from_mins(1);

/// Long enough for several pieces.
fn long() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

struct Rig {
    store: Store,
    key: Key,
    runtime: Runtime,
    gates: Vec<Gate>,
    volumes: Vec<Volume>,
    _tempdir: tempfile::TempDir,
}

impl Rig {
    fn new(reader_grace: Duration, protect: bool) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let volume = |number| Volume::start(&tempdir.path().join(format!("volume{number}")));
        let volumes: Vec<_> = (0..3).map(volume).collect();
        let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
        let runtime = Runtime::new().unwrap();
        let options = Options {
            placement: Placement::new(gates.iter().map(Gate::addr).collect(), 3, 1),
            patience: Patience { request: Duration::from_secs(5), stream: Duration::from_secs(10) },
            client_idle: Duration::from_secs(10),
            md5: true,
            protect,
            generation_names: false,
            quarantine: Duration::from_mins(10),
            reader_grace,
            recheck: Duration::ZERO,
            upload_expiry: Duration::ZERO,
            sweep_every: Duration::from_hours(1),
            forgotten: Forgotten::default(),
        };
        let of_index = index::Options { create: true, cache_bytes: 1 << 20, sync: false };
        let index = Index::open(&tempdir.path().join("db"), of_index).unwrap();
        let store = Store::new(index, Volumes::new(options.patience), options);
        runtime.block_on(store.start()).unwrap();
        Self { store, key: Key::new(b"/bucket/key"), runtime, gates, volumes, _tempdir: tempdir }
    }

    fn replace(&self, value: &[u8], when: When) -> Result<Record> {
        let body = Full::new(Bytes::copy_from_slice(value));
        let upload = Upload { body, length: Some(value.len() as u64), md5: None };
        let headers = vec![("content-type".to_owned(), "a/b".to_owned())];
        self.runtime.block_on(self.store.replace(&self.key, upload, when, |_| Ok(headers)))
    }

    fn begin(&self) -> u64 {
        let headers = vec![("content-type".to_owned(), "c/d".to_owned())];
        self.runtime.block_on(self.store.begin_upload(&self.key, headers)).unwrap()
    }

    fn put_part(&self, upload: u64, number: u16, bytes: &[u8]) -> Result<Record> {
        let body = Full::new(Bytes::copy_from_slice(bytes));
        let body = Upload { body, length: Some(bytes.len() as u64), md5: None };
        self.runtime.block_on(self.store.put_part(&self.key, upload, number, body, |_| Ok(Vec::new())))
    }

    fn parts(&self, upload: u64) -> Vec<(u16, Record)> {
        let (parts, next) = self.runtime.block_on(self.store.parts(&self.key, upload, 1, 100)).unwrap();
        assert_eq!(next, None);
        parts
    }

    fn complete(&self, upload: u64, parts: Vec<(u16, Record)>, when: When) -> Result<Record> {
        let headers = vec![("content-type".to_owned(), "c/d".to_owned())];
        let completed = self.store.complete_upload(&self.key, upload, parts, when, |_| (), |_| Ok(headers));
        self.runtime.block_on(completed)
    }

    fn remove(&self, when: When) -> Result<()> {
        self.runtime.block_on(self.store.remove(&self.key, when))
    }

    /// Reads a part of the value; all, if none is given.
    fn read(&self, part: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.runtime.block_on(async {
            let record = self.store.stat(&self.key).await?;
            let part = part.unwrap_or(0..record.size.unwrap());
            let mut reading = self.store.read(&self.key, record, part).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = reading.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        })
    }

    /// All files on all volumes.
    fn files(&self) -> Vec<PathBuf> {
        let path = |volume: &Volume, path| volume.dir().join(path);
        self.volumes.iter().flat_map(|v| v.paths().into_iter().map(move |p| path(v, p))).collect()
    }
}

#[test]
fn a_value_takes_the_place_of_another_and_brings_its_headers() {
    let rig = Rig::new(Duration::ZERO, false);
    let first = rig.replace(b"one", When::Absent).unwrap();
    assert_eq!(rig.read(None).unwrap(), b"one");
    assert_eq!(first.headers, [("content-type".to_owned(), "a/b".to_owned())]);
    let second = rig.replace(&long(), When::Tagged(first.tag())).unwrap();
    assert_eq!(rig.read(None).unwrap(), long());
    assert_eq!(rig.files().len(), 3, "the files of the second alone");
    assert!(matches!(rig.replace(b"x", When::Tagged(first.tag())), Err(Error::Changed)));
    assert!(matches!(rig.replace(b"x", When::Absent), Err(Error::Exists)));
    assert_eq!(rig.runtime.block_on(rig.store.stat(&rig.key)).unwrap(), second);
    assert!(matches!(rig.remove(When::Tagged(first.tag())), Err(Error::Changed)));
    rig.remove(When::Tagged(second.tag())).unwrap();
    assert!(matches!(rig.read(None), Err(Error::NotFound)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn an_empty_value_is_a_value() {
    let rig = Rig::new(Duration::ZERO, false);
    assert_eq!(rig.replace(b"", When::Always).unwrap().size, Some(0));
    assert_eq!(rig.read(None).unwrap(), b"");
    assert_eq!(rig.files().len(), 3);
    rig.remove(When::Always).unwrap();
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_refused_at_its_end_leaves_what_was_there() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(b"one", When::Always).unwrap();
    let replace = |length, body: &'static [u8]| {
        let upload = Upload { body: Full::new(Bytes::from_static(body)), length, md5: None };
        let finish = |_| Err(Error::WrongMd5);
        rig.runtime.block_on(rig.store.replace(&rig.key, upload, When::Always, finish))
    };
    assert!(matches!(replace(Some(3), b"two"), Err(Error::WrongMd5)));
    assert!(matches!(replace(Some(3), b""), Err(Error::CutShort)));
    assert_eq!(rig.read(None).unwrap(), b"one");
    assert_eq!(rig.files().len(), 3);
}

/// Files that were replaced are kept for their readers, but not so many that nothing more can be begun.
#[test]
fn a_key_that_is_overwritten_again_and_again_stays_writable() {
    let rig = Rig::new(READER_GRACE, false);
    for number in 0..200_u32 {
        rig.replace(&number.to_le_bytes(), When::Always).unwrap();
    }
    assert_eq!(rig.read(None).unwrap(), 199_u32.to_le_bytes());
    rig.remove(When::Always).unwrap();
}

#[test]
fn a_protected_value_is_not_overwritten() {
    let rig = Rig::new(Duration::ZERO, true);
    rig.replace(b"one", When::Always).unwrap();
    assert!(matches!(rig.replace(b"two", When::Always), Err(Error::Protected)));
    // before its body is read, which is shorter than it says
    let upload = Upload { body: Full::new(Bytes::new()), length: Some(3), md5: None };
    let replaced = rig.store.replace(&rig.key, upload, When::Always, |_| Ok(Vec::new()));
    assert!(matches!(rig.runtime.block_on(replaced), Err(Error::Protected)));
    assert_eq!(rig.read(None).unwrap(), b"one");
}

#[test]
fn any_part_can_be_read() {
    let rig = Rig::new(Duration::ZERO, false);
    let value = long();
    rig.replace(&value, When::Always).unwrap();
    let end = value.len() as u64;
    for part in [0..1, 0..end, 1..end, end - 1..end, 1_000_000..2_000_001, 5..5] {
        let [from, to] = [part.start, part.end].map(|at| usize::try_from(at).unwrap());
        assert!(rig.read(Some(part.clone())).unwrap() == value[from..to], "{part:?}");
    }
}

#[test]
fn a_read_goes_on_where_a_volume_fails_in_the_middle_of_it() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(&long(), When::Always).unwrap();
    for gate in &rig.gates[..2] {
        gate.order("GET", Order::HalfAnswer);
    }
    assert!(rig.read(None).unwrap() == long());
    assert!(rig.read(Some(7..2_999_999)).unwrap() == long()[7..2_999_999]);
    rig.gates[2].order("GET", Order::HalfAnswer);
    assert!(matches!(rig.read(None), Err(Error::Unreachable)));
}

/// So that five of them are several pieces each.
const PART: u32 = 1_200_000;

fn parts() -> Vec<Vec<u8>> {
    let part = |number: u32| (0..PART).map(|n| ((n * 7 + number) % 251).to_le_bytes()[0]).collect();
    (0..5).map(part).collect()
}

#[test]
fn an_upload_in_parts_becomes_one_value() {
    let rig = Rig::new(Duration::ZERO, false);
    let upload = rig.begin();
    for (number, part) in (1..).zip(parts()) {
        rig.put_part(upload, number, &part).unwrap();
    }
    let parts_of = rig.parts(upload);
    let record = rig.complete(upload, parts_of, When::Always).unwrap();
    assert_eq!(record.size, Some(5 * u64::from(PART)));
    assert!(rig.read(None).unwrap() == parts().concat());
    eventually("the parts are deleted", SOON, || rig.files().len() == 3);
}

#[test]
fn torn_replicas_are_passed_over_and_if_all_are_that_is_damage() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(b"whole", When::Always).unwrap();
    let files = rig.files();
    std::fs::write(&files[0], b"").unwrap();
    std::fs::write(&files[1], b"who").unwrap();
    for _ in 0..10 {
        assert_eq!(rig.read(None).unwrap(), b"whole");
        assert_eq!(rig.read(Some(4..5)).unwrap(), b"e");
    }
    std::fs::remove_file(&files[2]).unwrap();
    assert!(matches!(rig.read(None), Err(Error::Damaged)));
    assert!(matches!(rig.read(Some(4..5)), Err(Error::Damaged)));
}
