//! The master's memory is bounded, however many and large the uploads, and however long the list.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::http::{Connection, head};
use common::{Cluster, Master, eventually, may_open};
use davkv::clock::Timestamp;
use davkv::index::{Index, Loaded, Options, load_dump};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Record, Replica, State};

const MIB: u64 = 1 << 20;

/// Upper bound on the master's peak of resident memory.
const MOST: u64 = 64 * MIB;

/// Disk space that the largest test needs: 1 GiB on each of three volumes, and a reserve.
const ROOM: u64 = 5 << 30;

/// Runs these tests one at a time, because each needs gigabytes of disk space.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fastest directory for gigabytes of files: in memory, if there is enough.
fn fast_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room > ROOM { memory.to_owned() } else { std::env::temp_dir() }
}

#[track_caller]
fn assert_small(master: &Master) {
    let peak = master.peak_memory();
    // shown by --nocapture
    eprintln!("peak memory: {} MiB", peak / MIB);
    assert!(peak < MOST, "{} MiB were resident", peak / MIB);
}

/// Sends a value of `length` bytes without holding it in memory; returns the status.
fn upload(addr: &str, target: &str, length: u64) -> u16 {
    let mut connection = Connection::open(None, addr).unwrap();
    let length = usize::try_from(length).unwrap();
    connection.send(&head(addr, "PUT", target.as_bytes(), &[], length)).unwrap();
    let mut piece = vec![0; 1 << 20];
    for n in 0..length / piece.len() {
        piece[..8].copy_from_slice(&n.to_be_bytes());
        connection.send(&piece).unwrap();
    }
    connection.receive("PUT").unwrap().status
}

#[test]
fn memory_is_bounded_during_sixteen_uploads_at_once() {
    let _alone = alone();
    let cluster = Cluster::new_in(&fast_directory(), 3, &[]);
    let addr = cluster.master.addr();
    let uploads: Vec<_> = (0..16)
        .map(|n| {
            let addr = addr.clone();
            std::thread::spawn(move || upload(&addr, &format!("/{n}"), 64 * MIB))
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.join().unwrap(), 201);
    }
    assert_small(&cluster.master);
}

#[test]
fn memory_is_bounded_during_an_upload_of_a_gibibyte() {
    let _alone = alone();
    let cluster = Cluster::new_in(&fast_directory(), 3, &[]);
    assert_eq!(upload(&cluster.master.addr(), "/large", 1024 * MIB), 201);
    assert_small(&cluster.master);
}

#[test]
fn memory_is_bounded_while_an_upload_waits_for_a_slow_volume() {
    let _alone = alone();
    let cluster = Cluster::new_in(&fast_directory(), 3, &["--streamtimeout", "1s"]);
    cluster.volumes[1].pause();
    // the other volumes receive the rest without the slow one, and the value has no third replica
    assert_eq!(upload_until_refused(&cluster.master.addr(), "/large", 256 * MIB), 503);
    assert_small(&cluster.master);
    cluster.volumes[1].resume();
}

/// As [`upload`], for a value that the master may refuse midway.
fn upload_until_refused(addr: &str, target: &str, length: u64) -> u16 {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = usize::try_from(length).unwrap();
    stream.write_all(&head(addr, "PUT", target.as_bytes(), &[], length)).unwrap();
    let piece = vec![0; 1 << 20];
    for _ in 0..length / piece.len() {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    std::str::from_utf8(&status).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Counts the keys of a list as they arrive, without holding them. Reads the body line by line, as chunks and
/// their lengths; keys contain no line ends.
fn count_keys(addr: &str, target: &str) -> usize {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(&head(addr, "GET", target.as_bytes(), &[("Connection", "close")], 0)).unwrap();
    let mut lines = BufReader::new(stream);
    let (mut line, mut quotes, mut last) = (Vec::new(), 0, Vec::new());
    while lines.read_until(b'\n', &mut line).unwrap() > 0 {
        quotes += line.split(|&byte| byte == b'"').count() - 1;
        if !line.trim_ascii().is_empty() {
            last.clone_from(&line);
        }
        line.clear();
    }
    assert_eq!(last, b"0\r\n", "the list is truncated");
    // each key has two quotation marks; `"next":"…","keys":` has six
    (quotes - 6) / 2
}

const KEYS: usize = 1_000_000;

/// An index of a million keys, `/0/0000000` and so on, on volumes that need not exist.
fn load(db: &Path, volumes: &[String]) {
    let placement = Placement::new(volumes.to_vec(), 3, 10);
    let index = Index::open(db, Options { create: true, cache_bytes: 8 << 20, sync: false }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for batch in (0..KEYS).collect::<Vec<_>>().chunks(10_000) {
        let rows = batch.iter().map(|n| {
            let key = Key::new(format!("/{}/{n:07}", n % 10).as_bytes());
            let places = placement.wanted(&key).into_iter();
            let record = Record {
                state: State::Live,
                replicas: places.map(|place| Replica { place, name: Name::Plain }).collect(),
                md5: Some([7; 16]),
                size: Some(1),
                modified: Some(Timestamp::from_seconds(1)),
                headers: Vec::new(),
            };
            (key, Loaded { record: Some(record.encode()), intents: Vec::new() })
        });
        runtime.block_on(index.load(rows.collect())).unwrap();
    }
    index.close();
}

#[test]
fn memory_is_bounded_during_a_list_of_a_million_keys() {
    let _alone = alone();
    let tempdir = tempfile::tempdir_in(fast_directory()).unwrap();
    let volumes = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
    let db = tempdir.path().join("db");
    load(&db, &volumes);
    let master = Master::start(&db, &volumes, &[]);
    assert_eq!(count_keys(&master.addr(), "/?list"), KEYS);
    assert_eq!(count_keys(&master.addr(), "/7/?list"), KEYS / 10);
    assert_eq!(count_keys(&master.addr(), "/?unlinked"), 0);
    assert_eq!(count_keys(&master.addr(), "/?list&limit=999999"), KEYS - 1);
    assert_small(&master);
}

#[test]
fn memory_is_bounded_during_a_dump_of_a_million_keys() {
    let _alone = alone();
    let tempdir = tempfile::tempdir_in(fast_directory()).unwrap();
    let volumes = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
    let db = tempdir.path().join("db");
    load(&db, &volumes);
    let master = Master::start(&db, &volumes, &[]);
    let mut connection = Connection::open(None, &master.addr()).unwrap();
    connection.send(&head(&master.addr(), "GET", b"/?dump", &[], 0)).unwrap();
    let dump = connection.receive("GET").unwrap().body;
    assert_small(&master);
    let options = Options { create: true, cache_bytes: 8 << 20, sync: false };
    let mut rows = 0;
    load_dump(&*dump, &tempdir.path().join("again"), options, |more| rows += more).unwrap();
    // plus the row of the store
    assert_eq!(rows, KEYS as u64 + 1);
}

/// Clients that ask for a list and read nothing of it.
const SILENT: usize = 1500;

/// Upper bound on the memory of their answers, connections and requests.
const MOST_UNREAD: u64 = 128 * MIB;

/// Upper bound on what is kept of that once they are gone, …
const MOST_KEPT: u64 = 32 * MIB;
/// … and how long that takes: the allocator is looked after every 20 seconds.
const GIVEN_BACK: Duration = Duration::from_secs(50);

#[test]
fn memory_is_bounded_while_clients_do_not_read_their_lists_and_given_back_when_they_leave() {
    let _alone = alone();
    if !may_open(SILENT as u64 + 500) {
        return;
    }
    let tempdir = tempfile::tempdir_in(fast_directory()).unwrap();
    let volumes = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
    let db = tempdir.path().join("db");
    load(&db, &volumes);
    let master = Master::start(&db, &volumes, &[]);
    let addr = master.addr();
    assert_eq!(count_keys(&addr, "/7/?list"), KEYS / 10);
    let before = master.resident_memory();
    let silent: Vec<Connection> = (0..SILENT)
        .map(|_| {
            let mut connection = Connection::open_within(Duration::from_mins(1), None, &addr).unwrap();
            connection.send(&head(&addr, "GET", b"/?list", &[], 0)).unwrap();
            connection
        })
        .collect();
    let mut statuses = std::collections::BTreeMap::<String, usize>::new();
    let silent: Vec<Connection> = silent
        .into_iter()
        .map(|mut connection| {
            let status = connection.line().unwrap();
            *statuses.entry(status).or_default() += 1;
            connection
        })
        .collect();
    let peak = master.peak_memory() - before;
    eprintln!("answers: {statuses:?}; {} MiB before, {} MiB more", before / MIB, peak / MIB);
    assert!(
        statuses.keys().all(|status| status.contains(" 200 ") || status.contains(" 503 ")),
        "{statuses:?}"
    );
    assert!(peak < MOST_UNREAD, "{} MiB more than before", peak / MIB);
    drop(silent);
    eventually("the memory is given back", GIVEN_BACK, || master.resident_memory() < before + MOST_KEPT);
    eprintln!("{} MiB in the end", master.resident_memory() / MIB);
    assert_eq!(count_keys(&addr, "/7/?list"), KEYS / 10);
}
