//! A store written by minikeyvalue is served unchanged, and can be rebuilt from its volumes. The fixture's
//! README says how it was made.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::http::get_url;
use common::{Cluster, Master, Volume};
use davkv::key::{Key, Name};
use davkv::leveldb::{Batch, Database, Options};
use davkv::placement::{Place, Placement};
use davkv::record::{Record, State, hex};
use flate2::read::GzDecoder;
use md5::{Digest as _, Md5};

/// The volumes `v1` to `v5` as the fixture's records name them.
const ADDRESSES: [&str; 5] =
    ["127.0.0.1:4601", "127.0.0.1:4602", "127.0.0.1:4603", "127.0.0.1:4604", "127.0.0.1:4605"];

/// The expected state of a key.
#[derive(serde::Deserialize)]
struct Expected {
    md5: String,
    size: u64,
    state: String,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/minikeyvalue")
}

fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&fs::read(fixture().join("expected.json")).unwrap()).unwrap()
}

/// The expected keys in any of these states, in byte order.
fn keys_expected(states: &[&str]) -> Vec<String> {
    let in_state = expected().into_iter().filter(|(_, expected)| states.contains(&&*expected.state));
    in_state.map(|(key, _)| key).collect()
}

/// Unpacks the fixture's index (`indexdb`) and volumes (`v1` to `v5`).
fn unpack() -> tempfile::TempDir {
    let tempdir = tempfile::tempdir().unwrap();
    let store = GzDecoder::new(File::open(fixture().join("store.tar.gz")).unwrap());
    tar::Archive::new(store).unpack(tempdir.path()).unwrap();
    tempdir
}

/// All rows of an index.
fn rows(database: &Database) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut iter = database.iter(false);
    iter.seek_to_first();
    while iter.valid() {
        rows.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next();
    }
    iter.status().unwrap();
    rows
}

fn open(index: &Path) -> Database {
    Database::open(index, &Options { create: false, ..Options::default() }).unwrap()
}

/// Starts the fixture's volumes on free ports, and replaces their addresses in the records of its index.
/// Otherwise the records stay as minikeyvalue wrote them.
fn served() -> (tempfile::TempDir, Vec<Volume>) {
    let tempdir = unpack();
    let volumes: Vec<_> = (1..=5).map(|n| Volume::start(&tempdir.path().join(format!("v{n}")))).collect();
    let database = open(&tempdir.path().join("indexdb"));
    let mut batch = Batch::new();
    for (key, record) in rows(&database) {
        let mut record = String::from_utf8(record).unwrap();
        for (from, to) in ADDRESSES.iter().zip(&volumes) {
            record = record.replace(from, &to.addr());
        }
        batch.put(&key, record.as_bytes());
    }
    database.write(&batch, true).unwrap();
    (tempdir, volumes)
}

/// The fixture under a davkv master.
fn cluster() -> Cluster {
    let (tempdir, volumes) = served();
    let master = master(&tempdir.path().join("indexdb"), &volumes);
    Cluster { master, volumes, tempdir }
}

fn master(db: &Path, volumes: &[Volume]) -> Master {
    Master::start(db, &addresses(volumes), &[])
}

fn addresses(volumes: &[Volume]) -> Vec<String> {
    volumes.iter().map(Volume::addr).collect()
}

#[track_caller]
fn list(cluster: &Cluster, target: &str) -> Vec<String> {
    let answer = cluster.request("GET", target, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(list["next"], "");
    list["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

fn hex_md5(value: &[u8]) -> String {
    hex(&Md5::digest(value).into())
}

/// A key as a request's target.
fn target(key: &str) -> String {
    Key::new(key.as_bytes()).to_string()
}

/// Asserts that GET leads to the expected value.
#[track_caller]
fn assert_served(cluster: &Cluster, key: &str, expected: &Expected) {
    let answer = cluster.request("GET", &target(key), b"");
    assert_eq!(answer.status, 302, "{key}: {}", answer.text());
    let value = get_url(answer.header("location").unwrap());
    assert_eq!(value.status, 200, "{key}");
    assert_eq!(
        (value.body.len() as u64, hex_md5(&value.body)),
        (expected.size, expected.md5.clone()),
        "{key}"
    );
}

// Formats, without a server.

#[test]
fn records_are_read_and_written_unchanged() {
    let tempdir = unpack();
    let expected = expected();
    let mut found = BTreeMap::new();
    for (key, bytes) in rows(&open(&tempdir.path().join("indexdb"))) {
        let record = Record::decode(&bytes).unwrap();
        assert_eq!(record.encode_minikeyvalue().unwrap(), bytes);
        let key = String::from_utf8(key).unwrap();
        let md5 = hex(&record.md5.unwrap());
        assert_eq!(md5, expected[&key].md5, "{key}");
        found.insert(key, record.state);
    }
    let state = |name: &str| if name == "live" { State::Live } else { State::Unlinked };
    let stored = expected.into_iter().filter(|(_, expected)| expected.state != "deleted");
    assert_eq!(found, stored.map(|(key, expected)| (key, state(&expected.state))).collect());
}

#[test]
fn placement_equals_minikeyvalues() {
    let tempdir = unpack();
    let volumes = ADDRESSES.map(str::to_owned).to_vec();
    let placement = Placement::new(volumes, 3, 10);
    for (key, bytes) in rows(&open(&tempdir.path().join("indexdb"))) {
        let key = Key::new(&key);
        let places: Vec<Place> =
            Record::decode(&bytes).unwrap().replicas.into_iter().map(|replica| replica.place).collect();
        assert_eq!(places, placement.wanted(&key), "{key}");
    }
}

#[test]
fn paths_equal_minikeyvalues() {
    let tempdir = unpack();
    let mut named = BTreeSet::new();
    for (key, bytes) in rows(&open(&tempdir.path().join("indexdb"))) {
        for replica in Record::decode(&bytes).unwrap().replicas {
            let volume = ADDRESSES.iter().position(|&address| address == replica.place.volume()).unwrap() + 1;
            let path = Key::new(&key).path(Name::Plain);
            named.insert(format!("v{volume}{}{path}", replica.place.directory()));
        }
    }
    let mut found = BTreeSet::new();
    for volume in (1..=5).map(|n| format!("v{n}")) {
        for path in files(&tempdir.path().join(&volume)) {
            found.insert(path.strip_prefix(tempdir.path()).unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(found, named);
}

#[test]
fn paths_on_the_volumes_decode_to_their_keys() {
    let tempdir = unpack();
    let expected = expected();
    for volume in (1..=5).map(|n| tempdir.path().join(format!("v{n}"))) {
        for path in files(&volume) {
            let relative = path.strip_prefix(&volume).unwrap().to_str().unwrap();
            let (key, name) = Key::from_path(&relative["sv00".len()..]).expect(relative);
            assert_eq!(name, Name::Plain);
            let expected = &expected[std::str::from_utf8(key.as_bytes()).unwrap()];
            let value = fs::read(&path).unwrap();
            assert_eq!((value.len() as u64, &hex_md5(&value)), (expected.size, &expected.md5), "{key}");
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

// The master over the fixture.

#[test]
fn live_keys_are_served_with_their_bytes_and_md5() {
    let cluster = cluster();
    for (key, expected) in expected().iter().filter(|(_, expected)| expected.state == "live") {
        let answer = cluster.request("GET", &target(key), b"");
        assert_eq!(answer.header("content-md5"), Some(&*expected.md5), "{key}");
        assert_eq!(answer.header("key-volumes").unwrap().split(',').count(), 3, "{key}");
        assert_served(&cluster, key, expected);
    }
}

#[test]
fn unlinked_and_deleted_keys_are_404() {
    let cluster = cluster();
    for key in keys_expected(&["unlinked", "deleted"]) {
        assert_eq!(cluster.request("GET", &target(&key), b"").status, 404, "{key}");
    }
}

#[test]
fn lists_equal_minikeyvalues() {
    let cluster = cluster();
    assert_eq!(list(&cluster, "/?list"), keys_expected(&["live"]));
    assert_eq!(list(&cluster, "/?unlinked"), keys_expected(&["unlinked"]));
}

#[test]
fn every_unlinked_key_can_be_relinked() {
    let cluster = cluster();
    for (key, expected) in expected().iter().filter(|(_, expected)| expected.state == "unlinked") {
        assert_eq!(cluster.request("RELINK", &target(key), b"").status, 204, "{key}");
        assert_served(&cluster, key, expected);
    }
    assert!(list(&cluster, "/?unlinked").is_empty());
}

#[test]
fn every_key_can_be_deleted() {
    let cluster = cluster();
    for key in keys_expected(&["live", "unlinked"]) {
        assert_eq!(cluster.request("DELETE", &target(&key), b"").status, 204, "{key}");
    }
    assert!(list(&cluster, "/?list").is_empty());
    let left: Vec<_> = cluster.volumes.iter().flat_map(Volume::files).map(|(path, _)| path).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_live_key_can_be_rebalanced() {
    let cluster = cluster();
    for (key, expected) in expected().iter().filter(|(_, expected)| expected.state == "live") {
        assert_eq!(cluster.request("REBALANCE", &target(key), b"").status, 204, "{key}");
        let answer = cluster.request("GET", &target(key), b"");
        assert_eq!(answer.header("key-balance"), Some("balanced"), "{key}");
        assert_eq!(answer.header("content-md5"), Some(&*expected.md5), "{key}");
        assert_served(&cluster, key, expected);
    }
}

#[test]
fn a_live_key_is_immutable_and_a_deleted_key_can_be_written() {
    let cluster = cluster();
    for key in keys_expected(&["live"]).iter().step_by(20) {
        assert_eq!(cluster.request("PUT", &target(key), b"new").status, 403, "{key}");
    }
    for key in keys_expected(&["deleted"]) {
        assert_eq!(cluster.request("PUT", &target(&key), b"new").status, 201, "{key}");
        assert_eq!(cluster.fetch(&target(&key)).text(), "new");
    }
}

#[test]
fn changes_survive_a_restart() {
    let mut cluster = cluster();
    let (live, unlinked) = (keys_expected(&["live"]), keys_expected(&["unlinked"]));
    assert_eq!(cluster.request("RELINK", &target(&unlinked[0]), b"").status, 204);
    assert_eq!(cluster.request("UNLINK", &target(&live[0]), b"").status, 204);
    assert_eq!(cluster.request("DELETE", &target(&live[1]), b"").status, 204);
    cluster.master.restart();
    let changed = |keys: &[String], out: &[&String], into: &[&String]| -> Vec<String> {
        let kept = keys.iter().filter(|key| !out.contains(key));
        kept.chain(into.iter().copied()).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    };
    assert_eq!(list(&cluster, "/?list"), changed(&live, &[&live[0], &live[1]], &[&unlinked[0]]));
    assert_eq!(list(&cluster, "/?unlinked"), changed(&unlinked, &[&unlinked[0]], &[&live[0]]));
}

// Rebuilds from the fixture's volumes.

/// Rebuilds an index from the volumes alone, with these additional flags, and serves it.
#[track_caller]
fn rebuilt(tempdir: tempfile::TempDir, volumes: Vec<Volume>, flags: &[&str]) -> Cluster {
    let db = tempdir.path().join("rebuilt");
    let mut rebuild = Command::new(env!("CARGO_BIN_EXE_davkv-rebuild"));
    rebuild.arg("--db").arg(&db).arg("--volumes").arg(addresses(&volumes).join(",")).args(flags);
    let output = rebuild.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let master = master(&db, &volumes);
    Cluster { master, volumes, tempdir }
}

#[test]
fn rebuild_finds_all_keys_and_treats_unlinked_ones_as_live() {
    let (tempdir, volumes) = served();
    let cluster = rebuilt(tempdir, volumes, &[]);
    let keys = keys_expected(&["live", "unlinked"]);
    assert!(keys.iter().any(|key| Key::new(key.as_bytes()).path(Name::Plain).matches('/').count() > 3));
    assert_eq!(list(&cluster, "/?list"), keys);
    assert!(list(&cluster, "/?unlinked").is_empty());
    let expected = expected();
    for key in keys {
        assert_served(&cluster, &key, &expected[&key]);
    }
}

#[test]
fn rebuild_from_the_old_index_keeps_states_and_md5s() {
    let (tempdir, volumes) = served();
    let old = tempdir.path().join("indexdb");
    let cluster = rebuilt(tempdir, volumes, &["--from", old.to_str().unwrap()]);
    assert_eq!(list(&cluster, "/?list"), keys_expected(&["live"]));
    assert_eq!(list(&cluster, "/?unlinked"), keys_expected(&["unlinked"]));
    for (key, expected) in expected().iter().filter(|(_, expected)| expected.state == "live") {
        let answer = cluster.request("GET", &target(key), b"");
        assert_eq!(answer.header("content-md5"), Some(&*expected.md5), "{key}");
        assert_served(&cluster, key, expected);
    }
}

#[test]
fn rebuild_never_overwrites_an_index() {
    let (tempdir, volumes) = served();
    let old = tempdir.path().join("indexdb");
    let before = rows(&open(&old));
    let mut rebuild = Command::new(env!("CARGO_BIN_EXE_davkv-rebuild"));
    rebuild.arg("--db").arg(&old).arg("--volumes").arg(addresses(&volumes).join(","));
    let output = rebuild.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(rows(&open(&old)) == before);
}
