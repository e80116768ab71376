//! A write that fails, and what follows.
//!
//! LevelDB begins a new log every 16 MiB. In a directory that was moved away it can't, and so the write fails; it is
//! found again when the directory is back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::index::Index;
use crate::index::notes::Note;
use crate::index::steps::{Conditions, Precondition};
use crate::record::State;

const OPTIONS: Options = Options { create: true, cache_bytes: 1 << 20, sync: false };

struct Rig {
    index: Index,
    tempdir: TempDir,
}

impl Rig {
    fn new() -> Self {
        let tempdir = TempDir::new().unwrap();
        let index = Index::open(&tempdir.path().join("db"), OPTIONS).unwrap();
        Self { index, tempdir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tempdir.path().join(name)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Writes until a write fails, and returns its key.
    async fn fail(&self) -> Key {
        for number in 0..64 {
            let key = Key::new(format!("/large/{number}").as_bytes());
            let record = Record { headers: vec![("x".into(), "x".repeat(32 << 10)); 32], ..record() };
            let loaded = Loaded { record: Some(record.encode()), intents: Vec::new() };
            if self.index.load(vec![(key.clone(), loaded)]).await.is_err() {
                return key;
            }
        }
        panic!("every write succeeded");
    }

    /// A write fails, for want of the directory.
    async fn failed() -> Self {
        let rig = Self::new();
        rig.set(b"early").await.unwrap();
        rig.rename("db", "away");
        rig.fail().await;
        rig
    }

    async fn set(&self, bucket: &[u8]) -> Result<(), IndexError> {
        self.index.set_note(&note(bucket), Some(&record())).await
    }

    async fn has(&self, bucket: &[u8]) -> bool {
        self.index.note(&note(bucket)).await.unwrap().is_some()
    }

    fn bytes_in_logs(&self) -> u64 {
        let files = fs::read_dir(self.path("db")).unwrap().map(|entry| entry.unwrap());
        let logs = files.filter(|file| file.path().extension().is_some_and(|of| of == "log"));
        logs.map(|log| log.metadata().unwrap().len()).sum()
    }
}

fn note(bucket: &[u8]) -> Note {
    Note::Bucket(bucket.to_vec())
}

fn record() -> Record {
    let (md5, size, modified) = (None, None, None);
    Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
}

#[tokio::test]
async fn after_a_failed_write_reads_go_on_and_writes_do_once_the_index_is_opened_again() {
    let rig = Rig::failed().await;
    assert!(!rig.index.is_fresh());
    rig.index.failed().await;
    let number = rig.index.number().await;
    assert!(rig.set(b"late").await.is_err() && number.is_err());
    rig.index.reopen().await.unwrap_err();
    assert!(rig.has(b"early").await && !rig.index.is_fresh(), "reads go on");
    rig.rename("away", "db");
    rig.set(b"late").await.unwrap_err();
    rig.index.reopen().await.unwrap();
    assert!(rig.index.is_fresh() && rig.has(b"early").await);
    rig.set(b"late").await.unwrap();
    let numbers = [rig.index.number().await.unwrap(), rig.index.number().await.unwrap()];
    assert!(numbers.is_sorted() && rig.has(b"late").await);
    // and once more
    rig.rename("db", "away");
    rig.fail().await;
    rig.rename("away", "db");
    rig.index.reopen().await.unwrap();
    assert!(rig.has(b"late").await);
}

/// Whatever came of it, an attempt learns it, and another opening doesn't change it.
#[tokio::test]
async fn what_came_of_a_failed_write_is_final_once_the_index_is_opened_again() {
    let rig = Rig::new();
    rig.rename("db", "away");
    let key = rig.fail().await;
    rig.index.resolve(&key, 1, &[]).await.unwrap_err();
    rig.rename("away", "db");
    rig.index.reopen().await.unwrap();
    rig.index.resolve(&key, 1, &[]).await.unwrap();
    let found = rig.index.look(&key).await.unwrap();
    rig.index.reopen().await.unwrap();
    assert_eq!(rig.index.look(&key).await.unwrap().is_some(), found.is_some());
}

/// Somebody put another index there, an old copy for example: it knows nothing of what this master has done since.
#[tokio::test]
async fn only_the_index_that_was_open_is_opened_again() {
    let rig = Rig::failed().await;
    Index::open(&rig.path("other"), OPTIONS).unwrap().close();
    rig.rename("other", "db");
    let error = rig.index.reopen().await.unwrap_err();
    assert!(error.to_string().contains("not the one that was opened"), "{error}");
    assert!(rig.has(b"early").await, "reads go on");
    fs::remove_dir_all(rig.path("db")).unwrap();
    rig.index.reopen().await.unwrap_err();
    assert!(!rig.path("db").exists(), "no new index is made");
    rig.rename("away", "db");
    rig.index.reopen().await.unwrap();
}

#[tokio::test]
async fn an_index_that_cannot_be_opened_again_fails_until_it_can() {
    let rig = Rig::failed().await;
    rig.rename("away", "db");
    let current = rig.path("db").join("CURRENT");
    let manifest = fs::read(&current).unwrap();
    fs::write(&current, "damaged").unwrap();
    rig.index.reopen().await.unwrap_err();
    let error = rig.index.note(&note(b"early")).await.unwrap_err();
    assert!(error.to_string().contains("CURRENT"), "{error}");
    assert!(rig.set(b"late").await.is_err() && !rig.index.is_fresh());
    rig.index.reopen().await.unwrap_err();
    let other = Index::open(&rig.path("db"), OPTIONS).err().unwrap();
    assert!(other.to_string().contains("in use"), "nobody else opens it meanwhile: {other}");
    fs::write(&current, manifest).unwrap();
    rig.index.reopen().await.unwrap();
    assert!(rig.has(b"early").await && rig.index.is_fresh());
}

#[tokio::test]
async fn a_dump_does_not_keep_the_index_from_being_opened_again_and_is_not_taken_for_whole() {
    let rig = Rig::failed().await;
    rig.rename("away", "db");
    let (_page, dump) = rig.index.dump(|_, _| false).await.unwrap().page().await.unwrap();
    rig.index.reopen().await.unwrap();
    let error = dump.unwrap().page().await.err().unwrap();
    assert!(error.to_string().contains("new dump"), "{error}");
}

/// goleveldb skips records in LevelDB's log.
#[tokio::test]
async fn an_index_in_use_is_closed_without_a_log() {
    let rig = Rig::new();
    rig.set(b"one").await.unwrap();
    let number = rig.index.number().await.unwrap();
    let key = Key::new(b"/key");
    let intent = Intent { id: number, files: Vec::new() };
    rig.index.begin(&key, intent, Conditions::on(Precondition::Always)).await.unwrap();
    let dump = rig.index.dump(|_, _| false).await.unwrap();
    assert!(rig.bytes_in_logs() > 0);
    rig.index.shut().await.unwrap();
    assert_eq!(rig.bytes_in_logs(), 0);
    assert!(dump.page().await.is_err() && rig.set(b"two").await.is_err() && !rig.index.is_fresh());
    let error = rig.index.look(&key).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    rig.index.shut().await.unwrap();
    rig.index.reopen().await.unwrap_err();
    let again = Index::open(&rig.path("db"), OPTIONS).unwrap();
    assert!(again.note(&note(b"one")).await.unwrap().is_some(), "others may open it");
}
