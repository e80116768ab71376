//! Shared parts of these tests: requests, refusals, lists, and the contents of the volumes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, Name};
use davkv::placement::{Place, Placement};
use davkv::record::{Record, Replica, State, hex};
use md5::{Digest as _, Md5};

use crate::common::http::{Connection, Response, head, request};
use crate::common::{Cluster, Master, Volume, eventually};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Three volumes and a master with only the required flags.
pub(crate) fn cluster() -> Cluster {
    Cluster::new(3, &[])
}

/// A cluster with these keys; the value of each is its name.
pub(crate) fn cluster_with(keys: &[&str]) -> Cluster {
    let cluster = cluster();
    for key in keys {
        put(&cluster, &quote(key), key.as_bytes());
    }
    cluster
}

#[track_caller]
pub(crate) fn put(cluster: &Cluster, target: &str, value: &[u8]) {
    let answer = cluster.request("PUT", target, value);
    assert_eq!(answer.status, 201, "PUT {target}: {}", answer.text());
}

/// Asserts that an answer is a refusal with this status and one line of text that says why.
#[track_caller]
pub(crate) fn refused(answer: &Response, status: u16) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(text.find('\n'), Some(text.len().max(1) - 1), "not one line: {text:?}");
    assert!(text.len() > 1, "the refusal doesn't say why");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

#[track_caller]
pub(crate) fn refuses(cluster: &Cluster, method: &str, target: &str, body: &[u8], status: u16) {
    let answer = cluster.request(method, target, body);
    if status == 404 && matches!(method, "GET" | "HEAD") {
        missing(&answer);
    } else {
        refused(&answer, status);
    }
}

/// Asserts that a GET or a HEAD found nothing: as minikeyvalue says it, without a body.
#[track_caller]
pub(crate) fn missing(answer: &Response) {
    assert_eq!((answer.status, answer.header("content-length")), (404, Some("0")), "{answer:?}");
    assert_eq!((answer.header("content-type"), answer.text()), (None, String::new()));
}

/// A master over an index of these rows, whose volumes need not exist.
pub(crate) fn master_over(db: &Path, rows: Vec<(String, Vec<u8>)>) -> Master {
    let index = Index::open(db, Options { create: true, cache_bytes: 8 << 20, sync: false }).unwrap();
    let rows = rows.into_iter().map(|(key, record)| {
        (Key::new(key.as_bytes()), Loaded { record: Some(record), intents: Vec::new() })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(index.load(rows.collect())).unwrap();
    index.close();
    Master::start(db, &["127.0.0.1:1".to_owned()], &["--replicas", "1"])
}

/// A record in its stored form.
pub(crate) fn record(state: State) -> Vec<u8> {
    let replicas = vec![Replica { place: Place::new("127.0.0.1:1"), name: Name::Plain }];
    Record { state, replicas, md5: None, size: Some(1), modified: None, headers: Vec::new() }.encode()
}

/// An upload that stands still: the master has claimed the key, asked for the body, and received the first
/// byte of two.
pub(crate) fn half_an_upload(master: &Master, target: &str) -> Connection {
    let mut connection = Connection::open(None, &master.addr()).unwrap();
    let head = head(&master.addr(), "PUT", target.as_bytes(), &[("Expect", "100-continue")], 2);
    connection.send(&head).unwrap();
    assert_eq!(connection.receive_any("PUT").unwrap().status, 100);
    connection.send(b"1").unwrap();
    connection
}

/// The replicas of each key on the volumes. Fails if a file is on a volume or subvolume where its key doesn't
/// belong.
#[track_caller]
pub(crate) fn stored(cluster: &Cluster) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let placement = placement(cluster);
    let mut stored = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
    for volume in &cluster.volumes {
        for (path, value) in volume.files() {
            let (subvolume, rest) = path.split_at("sv00".len());
            let (key, _) = Key::from_path(rest).unwrap_or_else(|| panic!("no key's file: {path}"));
            let place = format!("{}/{subvolume}", volume.addr());
            assert!(placement.wanted(&key).iter().any(|wanted| wanted.as_str() == place), "{key} at {place}");
            stored.entry(key.as_bytes().to_vec()).or_default().push(value);
        }
    }
    stored
}

pub(crate) fn placement(cluster: &Cluster) -> Placement {
    let volumes = cluster.volumes.iter().map(Volume::addr).collect();
    Placement::new(volumes, 3, 10)
}

/// The paths of a key's replicas on disk, with plain names.
pub(crate) fn replicas_on_disk(cluster: &Cluster, key: &str) -> Vec<PathBuf> {
    let key = Key::new(key.as_bytes());
    let mut paths = Vec::new();
    for place in placement(cluster).wanted(&key) {
        let volume = cluster.volumes.iter().find(|volume| volume.addr() == place.volume()).unwrap();
        let path = format!("{}{}", place.directory(), key.path(Name::Plain));
        paths.push(volume.dir().join(path.trim_start_matches('/')));
    }
    paths
}

/// Asserts that the volumes become empty.
#[track_caller]
pub(crate) fn eventually_no_files(cluster: &Cluster) {
    eventually("the volumes are empty", PATIENCE, || cluster.volumes.iter().all(|v| v.files().is_empty()));
}

pub(crate) fn hex_md5(value: &[u8]) -> String {
    hex(&Md5::digest(value).into())
}

/// The keys and the `next` of a list.
#[track_caller]
pub(crate) fn list(cluster: &Cluster, target: &str) -> (Vec<String>, String) {
    list_of(&cluster.master, target)
}

#[track_caller]
pub(crate) fn list_of(master: &Master, target: &str) -> (Vec<String>, String) {
    let answer = request(&master.addr(), "GET", target, &[], b"");
    assert_eq!(answer.status, 200, "GET {target}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (list["keys"].as_array().unwrap().iter().map(text).collect(), text(&list["next"]))
}

pub(crate) fn keys(cluster: &Cluster, target: &str) -> Vec<String> {
    list(cluster, target).0
}

pub(crate) const UNRESERVED: &str = "-._~";

/// Percent-encodes a key, except alphanumerics, `/` and `leave`.
pub(crate) fn encode(key: &str, leave: &str) -> Vec<u8> {
    let mut target = Vec::new();
    for &byte in key.as_bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'/' || leave.as_bytes().contains(&byte) {
            target.push(byte);
        } else {
            target.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    target
}

/// As Python's `urllib.parse.quote` does.
pub(crate) fn quote(key: &str) -> String {
    String::from_utf8(encode(key, UNRESERVED)).unwrap()
}
