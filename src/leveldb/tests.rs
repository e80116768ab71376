#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::error::refused;
use super::*;

fn create() -> Options {
    Options { create: true, ..Options::default() }
}

fn open(dir: &TempDir) -> Database {
    Database::open(&dir.path().join("db"), &create()).unwrap()
}

fn refusal(path: &Path, options: &Options) -> OpenError {
    Database::open(path, options).err().unwrap()
}

fn put(db: &Database, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    db.write(&batch, false).unwrap();
}

fn all(iter: &mut Iter<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    iter.seek_to_first();
    while iter.valid() {
        records.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next();
    }
    records
}

/// Records that don't compress, so that a few hundred fill many blocks.
fn records(count: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(|n| (format!("/{n:06}").into_bytes(), (0..64).map(|_| byte()).collect())).collect()
}

fn fill(db: &Database, records: &[(Vec<u8>, Vec<u8>)]) {
    let mut batch = Batch::new();
    for (key, value) in records {
        batch.put(key, value);
    }
    db.write(&batch, true).unwrap();
}

fn only_file(dir: &TempDir, extension: &str) -> PathBuf {
    let mut found = fs::read_dir(dir.path().join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|of| of == extension));
    let file = found.next().unwrap();
    assert_eq!(found.next(), None);
    file
}

#[test]
fn a_record_can_be_read_until_it_is_deleted() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    assert_eq!(db.get(b"/key"), Ok(None));
    put(&db, b"/key", b"value");
    assert_eq!(db.get(b"/key"), Ok(Some(b"value".to_vec())));
    assert_eq!(db.get(b"/ke"), Ok(None));
    let mut batch = Batch::default();
    batch.delete(b"/key");
    batch.delete(b"/never");
    db.write(&batch, true).unwrap();
    assert_eq!(db.get(b"/key"), Ok(None));
}

#[test]
fn keys_and_values_are_any_bytes_and_may_be_empty() {
    let dir = TempDir::new().unwrap();
    let every: Vec<u8> = (0..=255).collect();
    let large = vec![7; 3 << 20];
    let pairs: [(&[u8], &[u8]); 5] =
        [(b"", b"of the empty key"), (b"\0", b""), (b"\0\0", b"\0"), (b"a", &large), (&[255; 9], &every)];
    let db = open(&dir);
    for (key, value) in pairs {
        put(&db, key, value);
    }
    for flushed in [false, true] {
        for (key, value) in pairs {
            assert_eq!(db.get(key).unwrap().unwrap(), value, "{flushed}");
        }
        let mut iter = db.iter(true);
        assert_eq!(all(&mut iter), pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
        assert_eq!(iter.status(), Ok(()));
        db.empty_log();
    }
}

#[test]
fn a_batch_is_applied_in_its_order() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let mut batch = Batch::new();
    db.write(&batch, false).unwrap();
    batch.put(b"/a", b"1");
    batch.delete(b"/a");
    batch.put(b"/b", b"1");
    batch.put(b"/b", b"2");
    batch.delete(b"/c");
    batch.put(b"/c", b"3");
    db.write(&batch, false).unwrap();
    assert_eq!(db.get(b"/a"), Ok(None));
    assert_eq!(db.get(b"/b"), Ok(Some(b"2".to_vec())));
    assert_eq!(db.get(b"/c"), Ok(Some(b"3".to_vec())));
    let mut batch = Batch::new();
    batch.delete(b"/c");
    db.write(&batch, true).unwrap();
    assert_eq!(db.get(b"/b"), Ok(Some(b"2".to_vec())));
    assert_eq!(db.get(b"/c"), Ok(None));
}

#[test]
fn a_shared_iterator_keeps_its_database_open() {
    let dir = TempDir::new().unwrap();
    let db = Arc::new(open(&dir));
    put(&db, b"/a", b"1");
    let mut iter = db.shared_iter(false);
    put(&db, b"/b", b"2");
    drop(db);
    assert_eq!(refusal(&dir.path().join("db"), &create()), OpenError::InUse);
    assert_eq!(all(&mut iter), [(b"/a".to_vec(), b"1".to_vec())]);
    drop(iter);
    assert_eq!(all(&mut open(&dir).iter(false)).len(), 2);
}

#[test]
fn an_iterator_starts_without_a_position_ends_after_the_last_record_and_sees_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    for key in [&b"/a"[..], b"/b", b"/c"] {
        put(&db, key, b"v");
    }
    let mut iter = db.iter(true);
    put(&db, b"/bb", b"too late");
    let assert_at_none = |iter: &mut Iter<'_>| {
        iter.next();
        assert!(!iter.valid());
        assert_eq!((iter.key(), iter.value(), iter.status()), (&[][..], &[][..], Ok(())));
    };
    assert_at_none(&mut iter);
    iter.seek(b"/aa");
    assert_eq!((iter.valid(), iter.key(), iter.value()), (true, &b"/b"[..], &b"v"[..]));
    iter.next();
    assert_eq!(iter.key(), b"/c");
    iter.next();
    assert_at_none(&mut iter);
    iter.seek(b"/d");
    assert_at_none(&mut iter);
    iter.seek(b"");
    assert_eq!(iter.key(), b"/a");
    iter.seek_to_first();
    assert_eq!(iter.key(), b"/a");
    let mut iter = db.iter(false);
    iter.seek(b"/bb");
    assert_eq!(iter.value(), b"too late");
}

#[test]
fn records_survive_reopening_whether_or_not_the_log_was_emptied() {
    let dir = TempDir::new().unwrap();
    for round in 0..20_u8 {
        let db = open(&dir);
        for earlier in 0..round {
            assert_eq!(db.get(&[earlier]), Ok(Some(vec![earlier; 3])), "{round}");
        }
        put(&db, &[round], &[round; 3]);
        if round % 2 == 0 {
            db.empty_log();
            drop(db);
            assert_eq!(fs::metadata(only_file(&dir, "log")).unwrap().len(), 0);
        }
    }
}

#[test]
fn a_database_is_open_only_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let db = open(&dir);
    for _ in 0..3 {
        assert_eq!(refusal(&path, &create()), OpenError::InUse);
    }
    put(&db, b"/still", b"open");
    drop(db);
    // goleveldb's lock; flock belongs to the open file, so this file stands for another process
    let held = File::open(path.join("LOCK")).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(refusal(&path, &create()), OpenError::InUse);
    drop(held);
    assert_eq!(open(&dir).get(b"/still"), Ok(Some(b"open".to_vec())));
}

#[test]
fn the_lock_of_another_leveldb_is_reported_as_in_use() {
    let locked = "IO error: lock db/LOCK: Resource temporarily unavailable".to_owned();
    assert_eq!(refused(Error(locked)), OpenError::InUse);
    let denied = "IO error: db/LOCK: Permission denied".to_owned();
    assert_eq!(refused(Error(denied.clone())), OpenError::Other(denied));
}

#[test]
fn only_a_database_or_an_empty_directory_is_opened() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "text").unwrap();
    fs::create_dir(at("photos")).unwrap();
    fs::write(at("photos/1.jpeg"), "").unwrap();
    fs::create_dir(at("torso")).unwrap();
    fs::write(at("torso/000003.log"), "").unwrap();
    fs::create_dir(at("empty")).unwrap();
    let open_only = Options::default();
    for options in [&open_only, &create()] {
        assert_eq!(refusal(&at("file"), options), OpenError::NotADatabase);
        assert_eq!(refusal(&at("photos"), options), OpenError::NotADatabase);
        assert_eq!(refusal(&at("torso"), options), OpenError::NotADatabase);
        assert_eq!(refusal(&at("no/db"), options), OpenError::MissingParent);
        assert_eq!(refusal(&at("file/db"), options), OpenError::MissingParent);
        assert_eq!(refusal(Path::new(""), options), OpenError::MissingParent);
    }
    assert_eq!(refusal(&at("empty"), &open_only), OpenError::Missing);
    assert_eq!(refusal(&at("none"), &open_only), OpenError::Missing);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    assert_eq!(fs::read_dir(at("empty")).unwrap().count(), 0);
    // a creation that was killed before it wrote CURRENT
    for name in ["LOCK", "LOG", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(at("empty").join(name), "half").unwrap();
    }
    drop(Database::open(&at("empty"), &create()).unwrap());
    drop(Database::open(&at("none"), &create()).unwrap());
    drop(Database::open(&at("none"), &open_only).unwrap());
}

#[test]
fn error_messages_have_one_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("two\nlines");
    drop(Database::open(&path, &create()).unwrap());
    fs::write(path.join("CURRENT"), "damaged").unwrap();
    let error = refusal(&path, &create());
    assert_eq!(error.to_string(), "Corruption: CURRENT file does not end with newline");
    fs::write(path.join("CURRENT"), "MANIFEST-999999\n").unwrap();
    let error = refusal(&path, &create()).to_string();
    assert!(error.contains("non-existent file") && !error.contains('\n'), "{error}");
}

/// Whichever byte of a table is damaged, each read returns the right value or an error.
#[test]
fn a_damaged_table_is_an_error_never_absence() {
    let dir = TempDir::new().unwrap();
    let records = records(400);
    let db = open(&dir);
    fill(&db, &records);
    db.empty_log();
    drop(db);
    let table = only_file(&dir, "ldb");
    let whole = fs::read(&table).unwrap();
    let (mut failed_gets, mut failed_scans) = (0, 0);
    let middle = (0..whole.len()).step_by(whole.len() / 16);
    for at in middle.chain(whole.len() - 60..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&table, &bytes).unwrap();
        let db = open(&dir);
        for (key, value) in records.iter().step_by(7) {
            match db.get(key) {
                Ok(found) => assert_eq!(found.as_ref(), Some(value), "byte {at}"),
                Err(_) => failed_gets += 1,
            }
        }
        for fill_cache in [true, false] {
            let mut iter = db.iter(fill_cache);
            let found = all(&mut iter);
            match iter.status() {
                Ok(()) => assert_eq!(found, records, "byte {at}"),
                Err(_) => failed_scans += 1,
            }
        }
    }
    assert!(failed_gets > 16 && failed_scans > 32, "{failed_gets} {failed_scans}");
}

#[test]
fn a_damaged_log_fails_the_opening_and_a_torn_log_loses_only_the_torn_write() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let db = open(&dir);
    put(&db, b"/first", &[1; 100]);
    put(&db, b"/second", &[2; 100]);
    drop(db);
    let log = only_file(&dir, "log");
    let whole = fs::read(&log).unwrap();
    let mut damaged = whole.clone();
    damaged[50] ^= 1;
    fs::write(&log, &damaged).unwrap();
    assert!(matches!(refusal(&path, &create()), OpenError::Other(text) if text.starts_with("Corruption: ")));
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let db = open(&dir);
    assert_eq!(db.get(b"/first"), Ok(Some(vec![1; 100])));
    assert_eq!(db.get(b"/second"), Ok(None));
}

#[test]
fn after_a_failed_write_all_writes_fail_until_the_database_is_reopened() {
    let dir = TempDir::new().unwrap();
    let small = Options { write_buffer_bytes: 64 << 10, ..create() };
    let db = Database::open(&dir.path().join("db"), &small).unwrap();
    put(&db, b"/early", b"value");
    fs::rename(dir.path().join("db"), dir.path().join("away")).unwrap();
    let mut batch = Batch::new();
    batch.put(b"/large", &vec![0; 40 << 10]);
    let error = (0..9).find_map(|_| db.write(&batch, false).err()).unwrap();
    fs::rename(dir.path().join("away"), dir.path().join("db")).unwrap();
    assert_eq!(db.write(&batch, false), Err(error));
    assert_eq!(db.get(b"/early"), Ok(Some(b"value".to_vec())));
    drop(db);
    put(&open(&dir), b"/late", b"value");
}

#[test]
fn a_database_can_be_opened_and_closed_many_times() {
    let dir = TempDir::new().unwrap();
    let small =
        Options { cache_bytes: 0, max_open_files: 0, write_buffer_bytes: 0, max_file_bytes: 0, create: true };
    let records = records(300);
    for round in 0..30 {
        let options = if round % 2 == 0 { small.clone() } else { create() };
        let db = Database::open(&dir.path().join("db"), &options).unwrap();
        fill(&db, &records);
        let mut iter = db.iter(true);
        let mut other = db.iter(false);
        other.seek_to_first();
        assert_eq!(all(&mut iter), records);
        assert_eq!(db.get(other.key()).unwrap().unwrap(), other.value());
    }
}

#[test]
fn threads_can_read_while_one_writes() {
    let dir = TempDir::new().unwrap();
    let small = Options { write_buffer_bytes: 64 << 10, cache_bytes: 1 << 20, ..create() };
    let db = Database::open(&dir.path().join("db"), &small).unwrap();
    let records = records(2000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (key, value) in records.iter().step_by(41) {
                        let found = db.get(key).unwrap();
                        assert!(found.is_none_or(|found| found == *value));
                    }
                    let mut iter = db.iter(true);
                    let found = all(&mut iter);
                    assert_eq!(iter.status(), Ok(()));
                    assert_eq!(found[..], records[..found.len()]);
                }
            });
        }
        for (n, (key, value)) in records.iter().enumerate() {
            let mut batch = Batch::new();
            batch.put(key, value);
            db.write(&batch, n % 100 == 0).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(all(&mut db.iter(true)), records);
}

#[test]
fn closing_empties_the_log_or_tells_that_it_could_not() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    put(&db, b"/key", b"value");
    db.close().unwrap();
    assert_eq!(fs::metadata(only_file(&dir, "log")).unwrap().len(), 0);
    let db = open(&dir);
    put(&db, b"/late", b"value");
    fs::rename(dir.path().join("db"), dir.path().join("away")).unwrap();
    assert!(db.close().is_err());
}

/// Somebody moved the directory of an open database away and put another one there.
#[test]
fn closing_touches_no_other_database() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    put(&db, b"/key", b"old");
    fs::rename(dir.path().join("db"), dir.path().join("away")).unwrap();
    let other = Database::open(&dir.path().join("other"), &create()).unwrap();
    fill(&other, &records(100));
    other.close().unwrap();
    fs::rename(dir.path().join("other"), dir.path().join("db")).unwrap();
    assert!(db.close().is_err());
    assert_eq!(all(&mut open(&dir).iter(true)), records(100));
}
