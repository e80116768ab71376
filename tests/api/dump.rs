//! The dump of the index.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use davkv::clock::Timestamp;
use davkv::index::{self, Entry, Index, Options};
use davkv::key::{Key, Name};
use davkv::record::{Record, State};

use crate::common::Master;
use crate::common::http::{Connection, Response, head, request};
use crate::common::{Gate, Order, Stage, Volume, eventually};
use crate::rig::{
    PATIENCE, cluster, cluster_with, hex_md5, master_over, placement, record, refused, refuses,
};

const OPTIONS: Options = Options { create: true, cache_bytes: 8 << 20, sync: false };

#[track_caller]
fn dumped(master: &Master) -> Response {
    let answer = request(&master.addr(), "GET", "/?dump", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    answer
}

/// The index that a dump makes, in a temporary directory, and the time at which the dump was taken.
fn loaded(dump: &[u8]) -> (Index, u64, tempfile::TempDir) {
    let tempdir = tempfile::tempdir().unwrap();
    let path = tempdir.path().join("db");
    let taken = index::load_dump(dump, &path, OPTIONS, |_| ()).unwrap();
    (Index::open(&path, OPTIONS).unwrap(), taken, tempdir)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_dump_holds_live_and_unlinked_keys() {
    let cluster = cluster_with(&["/a", "/b", "/ä"]);
    assert_eq!(cluster.request("UNLINK", "/b", b"").status, 204);
    assert_eq!(cluster.request("DELETE", "/a", b"").status, 204);
    let before = now();
    let answer = dumped(&cluster.master);
    let (index, taken, _tempdir) = loaded(&answer.body);
    // the master rounds its clock up to the next millisecond, which may be the next second
    assert!((before..=Timestamp::now().seconds()).contains(&taken), "{taken}");
    assert_eq!(entry(&index, b"/a"), Entry::default());
    for (text, state) in [("/b", State::Unlinked), ("/ä", State::Live)] {
        let key = Key::new(text.as_bytes());
        let Entry { record, intents } = entry(&index, text.as_bytes());
        let record = record.unwrap();
        let places: Vec<_> = record.replicas.iter().map(|replica| replica.place.clone()).collect();
        assert_eq!((record.state, places), (state, placement(&cluster).wanted(&key)), "{text}");
        assert!(record.replicas.iter().all(|replica| replica.name == Name::Plain), "{text}");
        let md5 = record.md5.as_ref().map(davkv::record::hex);
        assert_eq!((md5, record.size), (Some(hex_md5(text.as_bytes())), Some(text.len() as u64)), "{text}");
        assert_eq!(intents, [], "{text}");
    }
}

#[test]
fn the_dump_of_an_empty_index_is_complete() {
    let cluster = cluster();
    let (index, ..) = loaded(&dumped(&cluster.master).body);
    assert!(!block_on(index.has_numbers()).unwrap());
}

/// Of two keys written one after the other, a dump never has the later one alone, wherever in the dump they
/// stand. A write that is acknowledged before the dump begins is in it.
#[test]
fn a_dump_is_a_snapshot_while_writes_continue() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(&tempdir.path().join("volume"));
    let db = tempdir.path().join("db");
    drop(master_with_a_large_index(&db));
    let master = Master::start(&db, &[volume.addr()], &["--replicas", "1"]);
    let addr = master.addr();
    let (pairs, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let write = || {
        // the bound is never reached, but ends the loop if the test fails
        while !enough.load(Ordering::SeqCst) && pairs.load(Ordering::SeqCst) < 20_000 {
            for prefix in ["z", "a"] {
                let key = format!("/{prefix}/{:06}", pairs.load(Ordering::SeqCst));
                assert_eq!(request(&addr, "PUT", key, &[], b"v").status, 201);
            }
            pairs.fetch_add(1, Ordering::SeqCst);
        }
    };
    let written = || pairs.load(Ordering::SeqCst);
    let (dump, begun) = std::thread::scope(|scope| {
        scope.spawn(write);
        eventually("some pairs are written", PATIENCE, || written() > 10);
        let mut connection = Connection::open(None, &addr).unwrap();
        connection.send(&head(&addr, "GET", b"/?dump", &[], 0)).unwrap();
        connection.wait().unwrap();
        let begun = written();
        eventually("more pairs are written", PATIENCE, || written() > begun + 10);
        enough.store(true, Ordering::SeqCst);
        (connection.receive("GET").unwrap().body, begun)
    });
    let (path, mut rows) = (tempdir.path().join("again"), 0);
    index::load_dump(&*dump, &path, OPTIONS, |more| rows += more).unwrap();
    let index = Index::open(&path, OPTIONS).unwrap();
    let (earlier, later) = (records(&index, b"/z/"), records(&index, b"/a/"));
    assert!(earlier == later || earlier == later + 1, "{earlier} and {later}");
    assert!((10..=begun + 1).contains(&later), "{later} of {begun}");
    // plus rows for the generation counter, the store and its volume
    assert_eq!(rows, LARGE + earlier + later + 3);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn entry(index: &Index, key: &[u8]) -> Entry {
    block_on(index.entry(&Key::new(key))).unwrap()
}

/// The number of keys with this prefix, each of which has a readable record.
fn records(index: &Index, prefix: &[u8]) -> u64 {
    let page = block_on(index.page(prefix, b"", None)).unwrap();
    assert_eq!(page.next, None);
    page.rows.len() as u64
}

/// Its intent would delete the file that is about to become the value.
#[test]
fn a_value_that_is_being_written_is_not_in_a_dump() {
    let tempdir = tempfile::tempdir().unwrap();
    let volumes: Vec<_> =
        (1..=3).map(|n| Volume::start(&tempdir.path().join(format!("volume{n}")))).collect();
    let gates: Vec<Gate> = volumes.iter().map(Gate::before).collect();
    let addresses: Vec<String> = gates.iter().map(Gate::addr).collect();
    let master = Master::start(&tempdir.path().join("db"), &addresses, &[]);
    for gate in &gates {
        gate.rule(|method, _| (method == "PUT").then_some(Order::Hold));
    }
    let addr = master.addr();
    let put = std::thread::spawn(move || request(&addr, "PUT", "/key", &[], b"value").status);
    eventually("an upload to a volume is under way", PATIENCE, || {
        gates.iter().any(|gate| gate.count("PUT", Stage::Held) > 0)
    });
    let (index, ..) = loaded(&dumped(&master).body);
    assert_eq!(entry(&index, b"/key"), Entry::default());
    for gate in &gates {
        gate.open();
        gate.release();
    }
    assert_eq!(put.join().unwrap(), 201);
    let (index, ..) = loaded(&dumped(&master).body);
    assert!(entry(&index, b"/key").record.is_some());
}

#[test]
fn a_dump_names_files_of_deleted_values_on_volumes_that_are_down() {
    let mut cluster = cluster_with(&["/key"]);
    cluster.volumes[0].kill();
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    let (index, ..) = loaded(&dumped(&cluster.master).body);
    let Entry { record, intents } = entry(&index, b"/key");
    let addr = cluster.volumes[0].addr();
    let files = intents.iter().flat_map(|intent| &intent.files);
    assert!(files.into_iter().any(|file| file.place.volume() == addr), "{intents:?}");
    assert_eq!(record, None);
}

#[test]
fn a_dump_allows_only_get() {
    let cluster = cluster_with(&["/a"]);
    for method in ["PUT", "POST", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refuses(&cluster, method, "/?dump", b"x", 400);
    }
    assert_eq!(cluster.request("HEAD", "/?dump", b"").status, 400);
}

#[test]
fn a_dump_takes_no_key_and_no_other_parameter() {
    let cluster = cluster_with(&["/a"]);
    for target in ["/a?dump", "/a/?dump", "//?dump", "/?dump=1", "/?dump=", "/?dump&", "/?&dump", "/?DUMP"] {
        refuses(&cluster, "GET", target, b"", 400);
    }
    for query in ["dump&dump", "dump&list", "list&dump", "dump&start=/a", "dump&limit=1", "dump&foo"] {
        refuses(&cluster, "GET", &format!("/?{query}"), b"", 400);
    }
}

const LARGE: u64 = 1000;

/// A master whose dump is larger than the buffers of a connection that nobody reads.
fn master_with_a_large_index(db: &Path) -> Master {
    let mut record = Record::decode(&record(State::Live)).unwrap();
    record.headers = vec![("x-amz-meta-long".to_owned(), "x".repeat(60_000))];
    master_over(db, (0..LARGE).map(|n| (format!("/{n:06}"), record.encode())).collect())
}

/// A client that asks for a dump and reads only the status line.
fn stuck(addr: &str) -> Connection {
    let mut connection = Connection::open(None, addr).unwrap();
    connection.send(&head(addr, "GET", b"/?dump", &[], 0)).unwrap();
    let status = connection.line().unwrap();
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    connection
}

#[test]
fn a_third_dump_at_a_time_is_refused_until_a_client_disconnects() {
    let tempdir = tempfile::tempdir().unwrap();
    let master = master_with_a_large_index(&tempdir.path().join("db"));
    let addr = master.addr();
    let (first, _second) = (stuck(&addr), stuck(&addr));
    let third = request(&addr, "GET", "/?dump", &[], b"");
    refused(&third, 503);
    assert_eq!(third.header("retry-after"), Some("1"));
    drop(first);
    let mut whole = None;
    eventually("another dump is accepted", PATIENCE, || {
        let answer = request(&addr, "GET", "/?dump", &[], b"");
        whole = (answer.status == 200).then_some(answer.body);
        whole.is_some()
    });
    let mut rows = 0;
    index::load_dump(&*whole.unwrap(), &tempdir.path().join("again"), OPTIONS, |more| rows += more).unwrap();
    // plus the row of the store, which knows no volume yet
    assert_eq!(rows, LARGE + 1);
}

#[test]
fn clients_that_do_not_read_their_dump_do_not_block_others() {
    let tempdir = tempfile::tempdir().unwrap();
    let master = master_with_a_large_index(&tempdir.path().join("db"));
    let addr = master.addr();
    let _stuck = [stuck(&addr), stuck(&addr)];
    assert_eq!(request(&addr, "GET", "/none", &[], b"").status, 404);
    assert_eq!(request(&addr, "GET", "/0000?list&limit=1", &[], b"").status, 200);
    assert!(master.peak_memory() < 64 << 20, "{} bytes were resident", master.peak_memory());
}

/// Damage is an error at the beginning of a dump and a truncated answer later on, never a missing row.
#[test]
fn a_damaged_record_ends_a_dump_with_an_error() {
    let mut damaged = record(State::Live);
    damaged.truncate(damaged.len() - 1);
    for (at, first_page) in [("/000000", true), ("/029999", false)] {
        let tempdir = tempfile::tempdir().unwrap();
        let mut rows: BTreeMap<_, _> =
            (0..30_000).map(|n| (format!("/{n:06}"), record(State::Live))).collect();
        rows.insert(at.to_owned(), damaged.clone());
        let master = master_over(&tempdir.path().join("db"), rows.into_iter().collect());
        if first_page {
            refused(&request(&master.addr(), "GET", "/?dump", &[], b""), 500);
            continue;
        }
        let mut connection = Connection::open(None, &master.addr()).unwrap();
        connection.send(&head(&master.addr(), "GET", b"/?dump", &[], 0)).unwrap();
        assert!(connection.receive("GET").is_err(), "the dump looks complete");
        eventually("the error is logged", PATIENCE, || master.log().contains("a dump broke off"));
    }
}
