//! The HTTP interface and the command line, each word of them, on the real master over real nginx.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::http::{Connection, Response, get_url, head, request};
use common::{Cluster, Fake, Master, Reply, Volume, eventually, free_port};
use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, MAX_KEY_BYTES, Name};
use davkv::placement::{Place, Placement};
use davkv::record::{Record, Replica, State, hex};
use md5::{Digest as _, Md5};

const PATIENCE: Duration = Duration::from_secs(20);

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"];

/// Three volumes and a master with no flags but the necessary ones.
fn cluster() -> Cluster {
    Cluster::new(3, &[])
}

#[track_caller]
fn put(cluster: &Cluster, target: &str, value: &[u8]) {
    let answer = cluster.request("PUT", target, value);
    assert_eq!(answer.status, 201, "PUT {target}: {}", answer.text());
}

/// PUTs a value with a `Content-MD5`.
fn put_with_md5(cluster: &Cluster, target: &str, md5: &str, value: &[u8]) -> Response {
    request(&cluster.master.addr(), "PUT", target, &[("Content-MD5", md5)], value)
}

/// That an answer is a refusal with this status: one line of text that says why.
#[track_caller]
fn refused(answer: &Response, status: u16) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(text.find('\n'), Some(text.len().max(1) - 1), "not one line: {text:?}");
    assert!(text.len() > 1, "it doesn't say why");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

#[track_caller]
fn refuses(cluster: &Cluster, method: &str, target: &str, body: &[u8], status: u16) {
    refused(&cluster.request(method, target, body), status);
}

/// An upload that stands still: the master has claimed the key, asked for the body, and got the first
/// byte of two.
fn half_an_upload(master: &Master, target: &str) -> Connection {
    let mut connection = Connection::open(None, &master.addr()).unwrap();
    let head = head(&master.addr(), "PUT", target.as_bytes(), &[("Expect", "100-continue")], 2);
    connection.send(&head).unwrap();
    assert_eq!(connection.receive_any("PUT").unwrap().status, 100);
    connection.send(b"1").unwrap();
    connection
}

/// What lies on the volumes: the replicas of each key. Every file must be some key's, on a volume and
/// subvolume where that key belongs.
#[track_caller]
fn stored(cluster: &Cluster) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
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

fn placement(cluster: &Cluster) -> Placement {
    let volumes = cluster.volumes.iter().map(Volume::addr).collect();
    Placement::new(volumes, 3, 10)
}

/// That nothing lies on the volumes any more.
#[track_caller]
fn eventually_no_files(cluster: &Cluster) {
    eventually("no files are left", PATIENCE, || cluster.volumes.iter().all(|v| v.files().is_empty()));
}

/// Where a key's replicas lie on disk, with plain names.
fn replicas_on_disk(cluster: &Cluster, key: &str) -> Vec<std::path::PathBuf> {
    let key = Key::new(key.as_bytes());
    let mut paths = Vec::new();
    for place in placement(cluster).wanted(&key) {
        let volume = cluster.volumes.iter().find(|volume| volume.addr() == place.volume()).unwrap();
        let path = format!("{}{}", place.directory(), key.path(Name::Plain));
        paths.push(volume.dir().join(path.trim_start_matches('/')));
    }
    paths
}

fn hex_md5(value: &[u8]) -> String {
    hex(&Md5::digest(value).into())
}

/// The keys and the `next` of a listing.
#[track_caller]
fn list(cluster: &Cluster, target: &str) -> (Vec<String>, String) {
    list_of(&cluster.master, target)
}

#[track_caller]
fn list_of(master: &Master, target: &str) -> (Vec<String>, String) {
    let answer = request(&master.addr(), "GET", target, &[], b"");
    assert_eq!(answer.status, 200, "GET {target}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (list["keys"].as_array().unwrap().iter().map(text).collect(), text(&list["next"]))
}

fn keys(cluster: &Cluster, target: &str) -> Vec<String> {
    list(cluster, target).0
}

// PUT

#[test]
fn put_stores_all_replicas() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let expected = [(b"/key".to_vec(), vec![b"value".to_vec(); 3])];
    assert_eq!(stored(&cluster), BTreeMap::from(expected));
}

#[test]
fn put_of_a_large_value_round_trips() {
    let cluster = cluster();
    let value: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_be_bytes).collect();
    put(&cluster, "/large", &value);
    assert!(cluster.fetch("/large").body == value);
}

#[test]
fn put_in_chunks_round_trips() {
    let cluster = cluster();
    let chunked = [("Transfer-Encoding", "chunked")];
    let body = b"3\r\nabc\r\n8;extension=1\r\ndefghijk\r\n0\r\nTrailer: x\r\n\r\n";
    let answer = request(&cluster.master.addr(), "PUT", "/key", &chunked, body);
    assert_eq!((answer.status, cluster.fetch("/key").text()), (201, "abcdefghijk".into()));
}

#[test]
fn put_answers_without_a_body() {
    let cluster = cluster();
    let answer = cluster.request("PUT", "/key", b"value");
    assert_eq!(
        (answer.status, answer.header("content-length"), answer.text()),
        (201, Some("0"), String::new())
    );
}

#[test]
fn put_of_an_existing_key_is_403() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    refuses(&cluster, "PUT", "/key", b"second", 403);
    assert_eq!(cluster.fetch("/key").text(), "first");
}

#[test]
fn put_of_an_unlinked_key_replaces_it() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    put(&cluster, "/key", b"second");
    assert_eq!(cluster.fetch("/key").text(), "second");
}

#[test]
fn put_of_a_deleted_key_stores_it_anew() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    put(&cluster, "/key", b"second");
    assert_eq!(cluster.fetch("/key").text(), "second");
}

#[test]
fn a_key_that_is_being_written_is_409_to_every_other_write() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    for method in ["PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refuses(&cluster, method, "/key", b"x", 409);
    }
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert_eq!(cluster.fetch("/key").text(), "12");
}

#[test]
fn a_key_that_is_being_written_does_not_exist_yet() {
    let cluster = cluster();
    let _upload = half_an_upload(&cluster.master, "/key");
    refuses(&cluster, "GET", "/key", b"", 404);
    assert!(keys(&cluster, "/?list").is_empty());
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let cluster = cluster();
    drop(half_an_upload(&cluster.master, "/key"));
    eventually("the key is free", PATIENCE, || cluster.request("PUT", "/key", b"whole").status == 201);
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    eventually_no_files(&cluster);
}

#[test]
fn a_body_that_ends_early_is_400() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    upload.finish().unwrap();
    // the client may read on, or be gone: both ends of the connection are legal
    if let Ok(answer) = upload.receive("PUT") {
        refused(&answer, 400);
    }
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn a_body_that_stalls_is_408() {
    let cluster = Cluster::new(3, &["--clienttimeout", "100ms"]);
    let mut upload = half_an_upload(&cluster.master, "/key");
    refused(&upload.receive("PUT").unwrap(), 408);
}

#[test]
fn put_of_an_empty_value_is_411() {
    let cluster = cluster();
    refuses(&cluster, "PUT", "/key", b"", 411);
}

#[test]
fn put_without_a_length_is_411() {
    let cluster = cluster();
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    connection.send(b"PUT /key HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    refused(&connection.receive("PUT").unwrap(), 411);
}

#[test]
fn put_of_an_empty_value_in_chunks_is_411() {
    let cluster = cluster();
    let chunked = [("Transfer-Encoding", "chunked")];
    refused(&request(&cluster.master.addr(), "PUT", "/key", &chunked, b"0\r\n\r\n"), 411);
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn put_without_a_key_is_400() {
    let cluster = cluster();
    refuses(&cluster, "PUT", "/", b"value", 400);
}

#[test]
fn content_md5_is_base64_or_hex() {
    let cluster = cluster();
    let md5 = Md5::digest(b"value");
    let (base64, digits) = (STANDARD.encode(md5), hex_md5(b"value"));
    for (key, announced) in [("/a", &base64), ("/b", &digits), ("/c", &digits.to_uppercase())] {
        assert_eq!(put_with_md5(&cluster, key, announced, b"value").status, 201, "{announced}");
    }
}

/// As curl -C sends it, to go on with an upload.
#[test]
fn a_part_of_a_value_is_400_and_nothing_is_stored() {
    let cluster = cluster();
    let range = [("Content-Range", "bytes 5-9/10")];
    let answer = request(&cluster.master.addr(), "PUT", "/key", &range, b"value");
    assert_eq!((answer.status, answer.text().contains("send all of it")), (400, true));
    assert_eq!(cluster.request("GET", "/key", b"").status, 404);
}

#[test]
fn a_wrong_content_md5_is_400_and_nothing_is_stored() {
    let cluster = cluster();
    for announced in [STANDARD.encode(Md5::digest(b"other")), hex_md5(b"other")] {
        refused(&put_with_md5(&cluster, "/key", &announced, b"value"), 400);
    }
    refuses(&cluster, "GET", "/key", b"", 404);
    eventually_no_files(&cluster);
}

#[test]
fn a_malformed_content_md5_is_400() {
    let cluster = cluster();
    for announced in ["", "x", "d41d8cd98f00b204e9800998ecf8427", "AAAA", "gggggggggggggggggggggggggggggggg"]
    {
        refused(&put_with_md5(&cluster, "/key", announced, b"value"), 400);
    }
}

#[test]
fn content_md5_is_checked_even_where_none_is_stored() {
    let cluster = Cluster::new(3, &["--md5sum", "false"]);
    refused(&put_with_md5(&cluster, "/key", &hex_md5(b"other"), b"value"), 400);
    assert_eq!(put_with_md5(&cluster, "/key", &hex_md5(b"value"), b"value").status, 201);
    let answer = cluster.request("GET", "/key", b"");
    assert_eq!((answer.status, answer.header("content-md5"), answer.header("etag")), (302, None, None));
}

#[test]
fn put_with_too_few_volumes_is_503_with_retry_after() {
    let mut cluster = cluster();
    cluster.volumes[1].kill();
    let answer = cluster.request("PUT", "/key", b"value");
    refused(&answer, 503);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn put_on_full_volumes_is_507() {
    let full = Fake::new(|request| Reply::Status(if request.method == "PUT" { 507 } else { 404 }));
    let tempdir = tempfile::tempdir().unwrap();
    let master = Master::start(&tempdir.path().join("db"), &[full.addr()], &["--replicas", "1"]);
    refused(&request(&master.addr(), "PUT", "/key", &[], b"value"), 507);
}

#[test]
fn expect_100_continue_is_honoured() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive_any("PUT").unwrap().status, 201);
}

#[test]
fn a_refusal_comes_instead_of_100_continue() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let targets = [("/key", 403), ("/%FF", 400), ("/a%", 400), ("/new?list", 400)];
    for (target, status) in targets {
        let mut connection = Connection::open(None, &addr).unwrap();
        let head = head(&addr, "PUT", target.as_bytes(), &[("Expect", "100-continue")], 5);
        connection.send(&head).unwrap();
        refused(&connection.receive_any("PUT").unwrap(), status);
    }
}

#[test]
fn a_refusal_comes_before_the_body_is_read() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    connection.send(&head(&addr, "PUT", b"/key", &[], 1 << 40)).unwrap();
    refused(&connection.receive("PUT").unwrap(), 403);
}

#[test]
fn a_refused_client_that_sends_all_first_reads_the_refusal() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    let value = vec![0; 8 << 20];
    connection.send(&head(&addr, "PUT", b"/key", &[], value.len())).unwrap();
    connection.send(&value).unwrap();
    refused(&connection.receive("PUT").unwrap(), 403);
}

#[test]
fn a_connection_serves_many_requests() {
    let cluster = cluster();
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    let requests: [(&str, &[u8], u16); 6] = [
        ("PUT", b"value", 201),
        ("PUT", b"other", 403),
        ("GET", b"", 302),
        ("HEAD", b"", 302),
        ("DELETE", b"", 204),
        ("GET", b"", 404),
    ];
    for (method, body, status) in requests {
        connection.send(&[&head(&addr, method, b"/key", &[], body.len()), body].concat()).unwrap();
        assert_eq!(connection.receive(method).unwrap().status, status, "{method}");
    }
}

// GET and HEAD

#[test]
fn get_redirects_with_all_headers() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let answer = cluster.request("GET", "/key", b"");
    let places: Vec<_> =
        placement(&cluster).wanted(&Key::new(b"/key")).iter().map(ToString::to_string).collect();
    let md5 = hex_md5(b"value");
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("content-md5"), Some(&*md5));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{md5}\"")));
    assert_eq!(answer.header("key-volumes"), Some(&*places.join(",")));
    assert_eq!(answer.header("key-balance"), Some("balanced"));
    assert_eq!(answer.header("content-length"), Some("0"));
    let path = Key::new(b"/key").path(Name::Plain);
    let urls: Vec<_> = places.iter().map(|place| format!("http://{place}{path}")).collect();
    let location = answer.header("location").unwrap();
    assert!(urls.iter().any(|url| url == location), "{location}");
    assert_eq!(get_url(location).text(), "value");
}

#[test]
fn head_answers_as_get() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let header = |method| {
        let answer = cluster.request(method, "/key", b"");
        let names = ["content-md5", "etag", "key-volumes", "key-balance", "content-length"];
        let values = names.map(|name| answer.header(name).map(str::to_owned));
        (answer.status, answer.header("location").is_some(), values)
    };
    assert_eq!(header("HEAD"), header("GET"));
    assert_eq!(cluster.request("HEAD", "/none", b"").status, 404);
}

#[test]
fn get_of_no_key_is_404() {
    let cluster = cluster();
    refuses(&cluster, "GET", "/none", b"", 404);
    refuses(&cluster, "GET", "/", b"", 404);
}

#[test]
fn get_of_an_unlinked_key_is_404() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn a_lone_question_mark_is_no_query() {
    let cluster = cluster();
    put(&cluster, "/key?", b"value");
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.fetch("/key?").text(), "value");
}

#[test]
fn fallback_redirects_to_the_key_encoded_anew() {
    let cluster = Cluster::new(3, &["--fallback", "elsewhere:8000"]);
    put(&cluster, "/key", b"value");
    for (target, path) in [
        ("/none", "/none"),
        ("/a%20b%2fc%3F%c3%a4%25~", "/a%20b/c%3F%C3%A4%25~"),
        ("/a%0D%0ASet-Cookie:%20x%00", "/a%0D%0ASet-Cookie%3A%20x%00"),
        ("//evil/a", "//evil/a"),
        ("/%FF", "/%FF"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = cluster.request(method, target, b"");
            assert_eq!(answer.status, 302, "{target}");
            assert_eq!(answer.header("location"), Some(&*format!("http://elsewhere:8000{path}")));
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    assert_eq!(cluster.fetch("/key").text(), "value");
    refuses(&cluster, "DELETE", "/none", b"", 404);
}

#[test]
fn get_is_503_with_retry_after_when_no_replica_can_be_reached() {
    let mut cluster = cluster();
    put(&cluster, "/key", b"value");
    for volume in &mut cluster.volumes {
        volume.kill();
    }
    let answer = cluster.request("GET", "/key", b"");
    refused(&answer, 503);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn get_is_500_when_all_replicas_are_gone() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for path in replicas_on_disk(&cluster, "/key") {
        fs::remove_file(path).unwrap();
    }
    refuses(&cluster, "GET", "/key", b"", 500);
}

#[test]
fn get_is_500_when_all_replicas_are_torn() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for path in replicas_on_disk(&cluster, "/key") {
        fs::write(path, b"valu").unwrap();
    }
    refuses(&cluster, "GET", "/key", b"", 500);
}

#[test]
fn damage_is_an_error_in_the_log() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for path in replicas_on_disk(&cluster, "/key") {
        fs::remove_file(path).unwrap();
    }
    cluster.request("GET", "/key", b"");
    let error = |line: &str| line.contains("ERROR") && line.contains("/key");
    eventually("the log has the error", PATIENCE, || cluster.master.log().lines().any(error));
}

#[test]
fn a_torn_replica_is_passed_over() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let [gone, torn, _whole] = replicas_on_disk(&cluster, "/key").try_into().unwrap();
    fs::remove_file(gone).unwrap();
    fs::write(torn, b"").unwrap();
    // replicas are tried in random order
    for _ in 0..20 {
        assert_eq!(cluster.fetch("/key").text(), "value");
    }
}

/// As a volume may have it that forgot, in a loss of power, what was deleted and written since.
#[test]
fn a_replica_that_is_older_than_its_record_is_passed_over() {
    let cluster = cluster();
    put(&cluster, "/key", b"newer");
    let [stale, others @ ..]: [_; 3] = replicas_on_disk(&cluster, "/key").try_into().unwrap();
    fs::write(&stale, b"older").unwrap();
    let file = fs::File::options().write(true).open(&stale).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    for _ in 0..20 {
        assert_eq!(cluster.fetch("/key").text(), "newer");
    }
    assert_eq!(cluster.request("REBALANCE", "/key", b"").status, 204);
    // it has made a good one beside it
    for other in others {
        fs::remove_file(other).unwrap();
    }
    assert_eq!(cluster.fetch("/key").text(), "newer");
}

/// As after a restore that didn't keep the times.
#[test]
fn replicas_that_are_younger_than_their_record_are_served() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for replica in replicas_on_disk(&cluster, "/key") {
        let file = fs::File::options().write(true).open(replica).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_mins(1)).unwrap();
    }
    assert_eq!(cluster.fetch("/key").text(), "value");
}

#[test]
fn a_volume_that_is_down_is_passed_over() {
    let mut cluster = cluster();
    put(&cluster, "/key", b"value");
    cluster.volumes[0].kill();
    cluster.volumes[2].kill();
    for _ in 0..20 {
        assert_eq!(cluster.fetch("/key").text(), "value");
    }
}

// DELETE, UNLINK, RELINK, REBALANCE

#[test]
fn delete_removes_the_key_and_its_files() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    refuses(&cluster, "GET", "/key", b"", 404);
    refuses(&cluster, "RELINK", "/key", b"", 404);
    assert!(keys(&cluster, "/?list").is_empty());
    assert!(keys(&cluster, "/?unlinked").is_empty());
    eventually_no_files(&cluster);
}

#[test]
fn delete_leaves_every_other_key_alone() {
    let cluster = cluster();
    for key in ["/key", "/key/", "/key/a", "/ke", "/keyy", "//key"] {
        put(&cluster, key, key.as_bytes());
    }
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    eventually("the files are gone", PATIENCE, || !stored(&cluster).contains_key(b"/key".as_slice()));
    let left: Vec<_> = stored(&cluster).into_keys().collect();
    let expected = ["//key", "/ke", "/key/", "/key/a", "/keyy"].map(|key| key.as_bytes().to_vec());
    assert_eq!(left, expected);
}

#[test]
fn what_needs_a_key_is_404_without() {
    let cluster = cluster();
    for method in ["GET", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refuses(&cluster, method, "/none", b"", 404);
    }
}

#[test]
fn protect_wants_an_unlink_before_a_delete() {
    let cluster = Cluster::new(3, &["--protect"]);
    put(&cluster, "/key", b"value");
    refuses(&cluster, "DELETE", "/key", b"", 403);
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    refuses(&cluster, "RELINK", "/key", b"", 404);
}

#[test]
fn unlink_hides_and_keeps() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let files = stored(&cluster);
    let answer = cluster.request("UNLINK", "/key", b"");
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    assert!(keys(&cluster, "/?list").is_empty());
    assert_eq!(keys(&cluster, "/?unlinked"), ["/key"]);
    assert_eq!(stored(&cluster), files);
    refuses(&cluster, "UNLINK", "/key", b"", 404);
}

#[test]
fn relink_undoes_unlink() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    refuses(&cluster, "RELINK", "/key", b"", 404);
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    assert_eq!(cluster.request("RELINK", "/key", b"").status, 204);
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(keys(&cluster, "/?list"), ["/key"]);
    assert!(keys(&cluster, "/?unlinked").is_empty());
}

#[test]
fn an_unlinked_key_can_be_deleted() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    assert!(keys(&cluster, "/?unlinked").is_empty());
    eventually_no_files(&cluster);
}

#[test]
fn rebalance_of_a_balanced_key_changes_nothing() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let files = stored(&cluster);
    assert_eq!(cluster.request("REBALANCE", "/key", b"").status, 204);
    assert_eq!(stored(&cluster), files);
}

#[test]
fn rebalance_moves_the_value_to_where_the_volumes_want_it() {
    let mut cluster = Cluster::new(4, &[]);
    let key = Key::new(b"/key");
    let wanted = placement(&cluster).wanted(&key);
    let missing = cluster.volumes.iter().position(|volume| volume.addr() == wanted[1].volume()).unwrap();
    cluster.volumes[missing].kill();
    put(&cluster, "/key", b"value");
    let before = cluster.request("GET", "/key", b"");
    assert_eq!(before.header("key-balance"), Some("unbalanced"));

    cluster.volumes[missing].restart();
    eventually("rebalanced", PATIENCE, || cluster.request("REBALANCE", "/key", b"").status == 204);
    let after = cluster.request("GET", "/key", b"");
    let places: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    assert_eq!(after.header("key-balance"), Some("balanced"));
    assert_eq!(after.header("key-volumes"), Some(&*places.join(",")));
    assert_eq!(after.header("content-md5"), before.header("content-md5"));
    assert_eq!(cluster.fetch("/key").text(), "value");
}

// listings

/// A cluster with these keys; each one's value is the key.
fn cluster_with(keys: &[&str]) -> Cluster {
    let cluster = cluster();
    for key in keys {
        put(&cluster, &quote(key), key.as_bytes());
    }
    cluster
}

#[test]
fn list_is_in_byte_order_under_the_prefix() {
    let cluster = cluster_with(&["/b", "/a/2", "/a", "/a/10", "/aa", "/ä", "/Z"]);
    let all = ["/Z", "/a", "/a/10", "/a/2", "/aa", "/b", "/ä"];
    assert_eq!(list(&cluster, "/?list"), (all.map(str::to_owned).to_vec(), String::new()));
    assert_eq!(keys(&cluster, "/a/?list"), ["/a/10", "/a/2"]);
    assert_eq!(keys(&cluster, "/a?list"), ["/a", "/a/10", "/a/2", "/aa"]);
    assert_eq!(keys(&cluster, "/%C3%a4?list"), ["/ä"]);
    assert!(keys(&cluster, "/c?list").is_empty());
}

#[test]
fn list_and_unlinked_are_disjoint() {
    let cluster = cluster_with(&["/a", "/b", "/c", "/d"]);
    for key in ["/b", "/d"] {
        assert_eq!(cluster.request("UNLINK", key, b"").status, 204);
    }
    assert_eq!(keys(&cluster, "/?list"), ["/a", "/c"]);
    assert_eq!(keys(&cluster, "/?unlinked"), ["/b", "/d"]);
    assert_eq!(list(&cluster, "/?unlinked&limit=1"), (vec!["/b".into()], "/d".into()));
}

#[test]
fn an_empty_list_is_whole() {
    let cluster = cluster();
    assert_eq!(cluster.request("GET", "/?list", b"").text().trim(), r#"{"next":"","keys":[]}"#);
}

#[test]
fn start_stays_inside_the_prefix() {
    let cluster = cluster_with(&["/a/1", "/b/1", "/b/2", "/b/3", "/c/1"]);
    for (target, expected) in [
        ("/b/?list&start=/b/2", &["/b/2", "/b/3"][..]),
        ("/b/?list&start=%2Fb%2f11", &["/b/2", "/b/3"]),
        ("/b/?list&start=/a/1", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=/b/4", &[]),
        ("/b/?list&start=/c", &[]),
        ("/b/?list&start=%00intent", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=%FF", &[]),
        ("/b/?start=/b/3&list", &["/b/3"]),
    ] {
        let (found, next) = list(&cluster, target);
        assert_eq!((&*found, &*next), (&*expected.iter().map(|&key| key.to_owned()).collect::<Vec<_>>(), ""));
    }
}

#[test]
fn a_plus_in_start_is_a_space() {
    let cluster = cluster_with(&["/a", "/a b", "/a+b", "/b"]);
    assert_eq!(keys(&cluster, "/?list&start=/a+b"), ["/a b", "/a+b", "/b"]);
    assert_eq!(keys(&cluster, "/?list&start=/a%2Bb"), ["/a+b", "/b"]);
}

#[test]
fn limit_cuts_and_next_goes_on() {
    let cluster = cluster_with(&["/a", "/b", "/c"]);
    let all = vec!["/a".to_owned(), "/b".into(), "/c".into()];
    assert_eq!(list(&cluster, "/?list&limit=2"), (all[..2].to_vec(), "/c".into()));
    assert_eq!(list(&cluster, "/?list&limit=3"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=4"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=0"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=18446744073709551615"), (all, String::new()));
}

#[test]
fn next_never_leaves_the_prefix() {
    let cluster = cluster_with(&["/a/1", "/a/2", "/b/1"]);
    assert_eq!(list(&cluster, "/a/?list&limit=2").1, "");
}

#[test]
fn pages_yield_all_keys_once() {
    let cluster = cluster();
    let all: Vec<String> = (0..1100).map(|n| format!("/p/{n:04} ü+&=")).collect();
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    for key in &all {
        let head = head("x", "PUT", quote(key).as_bytes(), &[], 1);
        connection.send(&[&head, b"v".as_slice()].concat()).unwrap();
        assert_eq!(connection.receive("PUT").unwrap().status, 201);
    }
    for key in all.iter().step_by(7) {
        assert_eq!(cluster.request("UNLINK", &quote(key), b"").status, 204);
    }
    let live: Vec<_> =
        all.iter().enumerate().filter(|(n, _)| n % 7 != 0).map(|(_, key)| key.clone()).collect();
    assert_eq!(keys(&cluster, "/p/?list"), live);
    for limit in [1000, 313, 10] {
        let (mut found, mut start) = (Vec::new(), String::new());
        loop {
            let (page, next) = list(&cluster, &format!("/p/?list&limit={limit}&start={}", quote(&start)));
            found.extend(page);
            if next.is_empty() {
                break;
            }
            start = next;
        }
        assert_eq!(found, live, "limit {limit}");
    }
}

/// A master over an index of these rows, whose volume needn't be there.
fn master_over(db: &Path, rows: Vec<(String, Vec<u8>)>) -> Master {
    let index = Index::open(db, Options { create: true, cache_bytes: 8 << 20, sync: false }).unwrap();
    let rows = rows.into_iter().map(|(key, record)| {
        (Key::new(key.as_bytes()), Loaded { record: Some(record), intents: Vec::new() })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(index.load(rows.collect())).unwrap();
    index.close();
    Master::start(db, &["127.0.0.1:1".to_owned()], &["--replicas", "1"])
}

fn record(state: State) -> Vec<u8> {
    let replicas = vec![Replica { place: Place::new("127.0.0.1:1"), name: Name::Plain }];
    Record { state, replicas, md5: None, size: Some(1), modified: None, headers: Vec::new() }.encode()
}

/// Enough keys for several pages of the index, by bytes and by rows, and whole pages of keys that aren't
/// asked for at the beginning, in the middle and at the end.
#[test]
fn the_index_turns_its_pages_unseen() {
    let tempdir = tempfile::tempdir().unwrap();
    let state_of = |n: usize| if (n / 21_000).is_multiple_of(2) { State::Unlinked } else { State::Live };
    let key = |n: usize| format!("/{n:06}/{}", "long".repeat(n % 16));
    let rows = (0..105_000).map(|n| (key(n), record(state_of(n)))).collect();
    let master = master_over(&tempdir.path().join("db"), rows);
    let of = |state| (0..105_000).filter(move |n| state_of(*n) == state).map(key);
    for (state, query) in [(State::Live, "list"), (State::Unlinked, "unlinked")] {
        let all: Vec<String> = of(state).collect();
        assert!(list_of(&master, &format!("/?{query}")) == (all.clone(), String::new()), "{query}");
        let (found, next) = list_of(&master, &format!("/?{query}&limit=30000"));
        assert!(found == all[..30_000], "{query} with a limit");
        assert_eq!(next, all[30_000]);
        let (found, next) = list_of(&master, &format!("/?{query}&limit=1&start=/050000"));
        let from = all.iter().position(|key| key.as_str() >= "/050000").unwrap();
        assert_eq!((found, next), (all[from..=from].to_vec(), all[from + 1].clone()));
    }
}

/// Damage is an error at the beginning of a listing and a broken answer later on, never a missing key.
#[test]
fn a_damaged_record_breaks_a_list_off() {
    let tempdir = tempfile::tempdir().unwrap();
    let mut damaged = record(State::Unlinked);
    damaged.truncate(damaged.len() - 1);
    let mut rows: Vec<_> = (0..30_000).map(|n| (format!("/{n:06}"), record(State::Live))).collect();
    rows.push(("/025000/damaged".to_owned(), damaged));
    let master = master_over(&tempdir.path().join("db"), rows);
    for query in ["list", "unlinked"] {
        refused(&request(&master.addr(), "GET", format!("/025?{query}"), &[], b""), 500);
        refused(&request(&master.addr(), "GET", format!("/025?{query}&limit=100000"), &[], b""), 500);
        let mut connection = Connection::open(None, &master.addr()).unwrap();
        connection.send(&head(&master.addr(), "GET", format!("/?{query}").as_bytes(), &[], 0)).unwrap();
        assert!(connection.receive("GET").is_err(), "{query} looks whole");
    }
    assert_eq!(list_of(&master, "/024?list").0.len(), 1000);
}

#[test]
fn keys_are_escaped_in_json() {
    let odd = ["/\"quoted\"", "/back\\slash", "/\u{2028}", "/a<b>&'", "/日本😀"];
    let cluster = cluster_with(&odd);
    let found: BTreeSet<_> = keys(&cluster, "/?list").into_iter().collect();
    assert_eq!(found, odd.iter().map(|&key| key.to_owned()).collect());
    let (_, next) = list(&cluster, "/%22?list&limit=0");
    assert_eq!(next, "");
    assert_eq!(list(&cluster, "/?list&limit=1"), (vec![odd[0].into()], odd[3].into()));
}

#[test]
fn head_of_a_list_has_no_body() {
    let cluster = cluster_with(&["/a"]);
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    for _ in 0..2 {
        connection.send(&head(&addr, "HEAD", b"/?list", &[], 0)).unwrap();
        let answer = connection.receive("HEAD").unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
}

#[test]
fn a_bad_limit_is_400() {
    let cluster = cluster();
    for limit in ["", "-1", "+5", "abc", "1.5", "1e3", "0x10", "%31", " ", "18446744073709551616"] {
        let target = format!("/?list&limit={}", limit.replace(' ', "+"));
        refuses(&cluster, "GET", &target, b"", 400);
    }
}

#[test]
fn an_unknown_query_is_400() {
    let cluster = cluster();
    for query in [
        "foo",
        "list=1",
        "list&foo",
        "list&",
        "list&unlinked",
        "list&list",
        "list&limit=1&limit=1",
        "list&start=/a&start=/a",
        "start=/a",
        "limit=1",
        "list&start=%",
        "list&start=%4",
        "list&start=%GG",
        "LIST",
        "list?",
        "=",
        "&",
    ] {
        refuses(&cluster, "GET", &format!("/?{query}"), b"", 400);
    }
}

#[test]
fn a_query_goes_with_get_and_head_only() {
    let cluster = cluster_with(&["/a"]);
    for method in ["PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE", "POST"] {
        refuses(&cluster, method, "/a?list", b"x", 400);
    }
    assert_eq!(cluster.fetch("/a").text(), "/a");
}

#[test]
fn other_methods_are_405_with_allow() {
    let cluster = cluster_with(&["/a"]);
    for method in ["POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "FOO", "get", "Put"] {
        let answer = cluster.request(method, "/a", b"");
        refused(&answer, 405);
        let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(", ").collect();
        assert_eq!(allowed, BTreeSet::from(METHODS));
    }
}

// keys

const UNRESERVED: &str = "-._~";

/// Percent-encodes a key but for alphanumerics, `/` and what else to leave.
fn encode(key: &str, leave: &str) -> Vec<u8> {
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

/// As Python's `urllib.parse.quote` does it.
fn quote(key: &str) -> String {
    String::from_utf8(encode(key, UNRESERVED)).unwrap()
}

/// The ways in which clients write a key.
fn encodings(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let everything = key.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let raw = |byte: &u8| match byte {
        b' ' | b'#' | b'%' | b'?' | b'<' | b'>' | b'`' => format!("%{byte:02X}").into_bytes(),
        other => vec![*other],
    };
    vec![
        ("quote", encode(key, UNRESERVED)),
        ("requests", encode(key, "-._~!$&'()*+,:;=@[]")),
        ("encodeURIComponent", encode(key, "-._~!'()*")),
        // WHATWG's path percent-encode set; a backslash would become a slash
        ("browser", encode(key, "-._~!$&'()*+,:;=@[]|^")),
        // as typed, UTF-8 and all; escaped is what ends a path, begins an escape, or stands in no URL
        ("curl", key.as_bytes().iter().flat_map(raw).collect()),
        ("everything", everything.replacen("%2f", "/", 1).into_bytes()),
    ]
}

/// Stores each key by one encoding and reads it by all; then the volumes hold these keys and no others,
/// and the list has them.
#[track_caller]
fn round_trip(keys: &[String]) {
    let cluster = cluster();
    let addr = cluster.master.addr();
    for (n, key) in keys.iter().enumerate() {
        let encodings = encodings(key);
        let (client, target) = &encodings[n % encodings.len()];
        let answer = request(&addr, "PUT", target, &[], key.as_bytes());
        assert_eq!(answer.status, 201, "PUT {key:?} as {client}: {}", answer.text());
    }
    for key in keys {
        for (client, target) in encodings(key) {
            let answer = request(&addr, "GET", &target, &[], b"");
            assert_eq!(answer.status, 302, "GET {key:?} as {client}: {}", answer.text());
            let value = get_url(answer.header("location").unwrap());
            assert_eq!(value.text(), *key, "as {client}");
        }
    }
    let expected: BTreeMap<_, _> =
        keys.iter().map(|key| (key.clone().into_bytes(), vec![key.clone().into_bytes(); 3])).collect();
    assert_eq!(stored(&cluster), expected);
    let mut sorted = keys.to_vec();
    sorted.sort();
    assert_eq!(self::keys(&cluster, "/?list"), sorted);
    // a deletion takes its own files and no others
    let mut left = expected;
    for key in keys.iter().step_by(2) {
        assert_eq!(cluster.request("DELETE", &quote(key), b"").status, 204);
        left.remove(key.as_bytes());
    }
    eventually("the files are gone", PATIENCE, || stored(&cluster).len() == left.len());
    assert_eq!(stored(&cluster), left);
}

#[test]
fn every_printable_ascii_character_is_its_own_key() {
    let keys: Vec<_> = (0x20_u8..0x7f).map(|byte| format!("/k{}k", char::from(byte))).collect();
    round_trip(&keys);
}

#[test]
fn every_printable_ascii_character_may_end_a_key() {
    let keys: Vec<_> = (0x20_u8..0x7f).map(|byte| format!("/k{}", char::from(byte))).collect();
    round_trip(&keys);
}

#[test]
fn keys_beyond_ascii_round_trip() {
    let keys = [
        "/oë",
        "/日本語/キー",
        "/ключ",
        "/😀",
        "/ÿÿÿ/ÿ",
        "/\u{a0}",
        "/e\u{301}",
        "/é",
        "/\u{feff}",
        "/\u{10ffff}",
    ];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn dots_and_slashes_are_part_of_the_key() {
    let keys = [
        "//",
        "///",
        "/.",
        "/..",
        "/../",
        "/../..",
        "/../../etc/passwd",
        "/a",
        "/a/",
        "//a",
        "/a//",
        "/a//b",
        "/a/b",
        "/a/./b",
        "/a/../b",
        "/b",
        "/.hidden",
        "//evil/a",
        "/evil/a",
        "/sv00/a",
        "/body_temp/a",
        "/http://evil/a",
        "/*",
    ];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn percent_signs_are_decoded_once() {
    round_trip(&["/%", "/%2f", "/%252f", "/%2e%2e/a", "/%00", "/a%0d%0ab", "/100%"].map(str::to_owned));
}

#[test]
fn keys_whose_base64_has_slashes_are_their_own_files() {
    // `?` and `o` in the right places make `/`: inside, at the end, twice, alone
    let keys =
        ["/a?", "/a?b", "/a", "/?", "/??", "/???", "/?????", "/a?/?", "/ab?", "/abc?", "/abcd?", "/oë?"];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn an_encoded_slash_is_a_slash() {
    let cluster = cluster();
    put(&cluster, "/a%2Fb", b"value");
    assert_eq!(cluster.fetch("/a/b").text(), "value");
    refuses(&cluster, "PUT", "/a/b", b"value", 403);
    assert_eq!(keys(&cluster, "/?list"), ["/a/b"]);
}

#[test]
fn keys_of_all_lengths_round_trip() {
    // around the lengths where a name is cut into two and more pieces, and the longest
    let lengths = [2, 3, 188, 189, 190, 191, 192, 380, 381, 382, 571, 1024, 2046, 2047, MAX_KEY_BYTES];
    let keys = lengths.map(|length| format!("/{}", "k".repeat(length - 1)));
    round_trip(&keys);
}

#[test]
fn a_key_that_is_too_long_is_400() {
    let cluster = cluster();
    for character in ["k", "%20"] {
        let target = format!("/{}", character.repeat(MAX_KEY_BYTES));
        refuses(&cluster, "PUT", &target, b"value", 400);
        refuses(&cluster, "GET", &target, b"", 404);
    }
}

#[test]
fn control_characters_are_400() {
    let cluster = cluster();
    for control in (0..0x20).chain([0x7f]).map(|byte: u8| format!("/a%{byte:02x}b")).chain(["/%C2%85".into()])
    {
        refuses(&cluster, "PUT", &control, b"value", 400);
        refuses(&cluster, "GET", &control, b"", 404);
        refuses(&cluster, "DELETE", &control, b"", 404);
    }
    assert!(stored(&cluster).is_empty());
}

#[test]
fn keys_that_are_not_utf_8_are_400() {
    let cluster = cluster();
    for target in ["/%FF", "/%c3", "/%C3%28", "/%ED%A0%80", "/%C0%AF", "/%F5%80%80%80"] {
        refuses(&cluster, "PUT", target, b"value", 400);
        refuses(&cluster, "GET", target, b"", 404);
    }
    let raw = request(&cluster.master.addr(), "PUT", b"/\xff", &[], b"value");
    assert_eq!(raw.status, 400);
}

#[test]
fn broken_escapes_are_400() {
    let cluster = cluster();
    for target in ["/%", "/a%", "/a%4", "/%zz", "/%4z", "/%%41", "/% 41", "/%+1", "/%u0041"] {
        let target = target.replace(' ', "+");
        for method in ["GET", "PUT", "DELETE"] {
            refuses(&cluster, method, &target, b"x", 400);
        }
    }
}

#[test]
fn of_an_absolute_target_the_path_counts() {
    let cluster = cluster();
    put(&cluster, "http://evil/key", b"value");
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.fetch("http://other:99/key").text(), "value");
    let location = cluster.request("GET", "http://evil/key", b"").header("location").unwrap().to_owned();
    assert!(location.starts_with("http://127.0.0.1:"), "{location}");
}

#[test]
fn characters_that_no_url_has_are_400() {
    let cluster = cluster();
    for target in ["/a<b", "/a>b", "/a`b"] {
        assert_eq!(cluster.request("PUT", target, b"value").status, 400, "{target}");
    }
    assert!(keys(&cluster, "/?list").is_empty());
}

#[test]
fn a_fragment_is_no_part_of_the_key() {
    // RFC 3986 section 3.5: clients keep it to themselves, and so does the library that reads the target
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    assert_eq!(cluster.fetch("/key#fragment").text(), "value");
    assert_eq!(cluster.fetch("/key%23fragment").status, 404);
}

// malformed requests

/// Sends these bytes, and returns the answer to the first request among them, and what came after.
fn raw(addr: &str, bytes: &[u8]) -> std::io::Result<(Response, String)> {
    let mut connection = Connection::open(None, addr)?;
    // it may refuse and close before it has read all: then what it said counts
    let sent = connection.send(bytes);
    let answer = connection.receive("GET").map_err(|error| sent.err().unwrap_or(error))?;
    let rest = connection.finish().and_then(|()| connection.rest()).unwrap_or_default();
    Ok((answer, String::from_utf8_lossy(&rest).into_owned()))
}

#[test]
fn malformed_requests_are_4xx_and_harm_nobody() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let many_headers = "X: y\r\n".repeat(1000);
    let huge = "x".repeat(1 << 20);
    let requests = [
        // framing
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nvalue!",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nvalue\r\n0\r\n\r\n",
        // heads
        "GET /key HTTP/1.1\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\nA\0B: c\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n",
        &format!("GET /key HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n"),
        &format!("GET /key HTTP/1.1\r\nHost: x\r\nX: {huge}\r\n\r\n"),
        &format!("GET /{huge} HTTP/1.1\r\nHost: x\r\n\r\n"),
        &format!("{huge} /key HTTP/1.1\r\nHost: x\r\n\r\n"),
        // targets
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET key HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT evil:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT /key HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET evil:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /% HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET\r\n\r\n",
        "GET /key HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /key JUNK/1.1\r\nHost: x\r\n\r\n",
        "GET /key\r\n\r\n",
        // no HTTP at all
        "\0\0\0\0\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
        "hello\r\n\r\n",
        "{\"json\": true}\r\n\r\n",
    ];
    for request in requests {
        let shown: String = request.chars().take(200).collect();
        let (answer, rest) =
            raw(&addr, request.as_bytes()).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(answer.status / 100, 4, "{shown:?}: {answer:?}");
        assert!(!rest.contains("HTTP/1.1 2") && !rest.contains("HTTP/1.1 3"), "{shown:?}: {rest:?}");
    }
    assert_unharmed(&cluster);
}

#[test]
fn requests_cut_short_harm_nobody() {
    let cluster = cluster_with(&["/key"]);
    let addr = cluster.master.addr();
    for request in [
        "",
        "\r\n\r\n",
        "GET",
        "GET /key HTTP/1.1\r\nHost: x\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nval",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nval",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut connection = Connection::open(None, &addr).unwrap();
        connection.send(request.as_bytes()).unwrap();
        // whoever leaves may be told why, or not
        let answer = connection.finish().and_then(|()| connection.rest()).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer:?}");
    }
    assert_unharmed(&cluster);
}

/// That the master lives, has no key but `/key`, and never panicked.
#[track_caller]
fn assert_unharmed(cluster: &Cluster) {
    assert_eq!(cluster.request("GET", "/key", b"").status, 302);
    assert_eq!(keys(cluster, "/?list"), ["/key"]);
    assert!(!cluster.master.log().contains("panic"), "{}", cluster.master.log());
}

#[test]
fn of_two_framings_the_chunks_count_and_the_connection_ends() {
    let cluster = cluster_with(&["/key"]);
    let smuggling = "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                     5\r\nvalue\r\n0\r\n\r\nDELETE /key HTTP/1.1\r\nHost: x\r\n\r\n";
    let (answer, rest) = raw(&cluster.master.addr(), smuggling.as_bytes()).unwrap();
    assert_eq!((answer.status, rest.as_str()), (201, ""));
    assert_eq!(cluster.fetch("/new").text(), "value");
    assert_eq!(cluster.fetch("/key").status, 200);
}

#[test]
fn bytes_beyond_the_length_are_no_request_of_ours() {
    let cluster = cluster();
    let bytes =
        b"PUT /key HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhelloGET /key HTTP/1.1\r\nHost: x\r\n\r\n";
    let (answer, rest) = raw(&cluster.master.addr(), bytes).unwrap();
    assert_eq!(answer.status, 201);
    assert!(!rest.contains("302"), "{rest}");
    assert_eq!(cluster.fetch("/key").text(), "he");
}

#[test]
fn http_1_0_is_served() {
    let cluster = cluster_with(&["/key"]);
    let (answer, _) = raw(&cluster.master.addr(), b"GET /key HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status, 302);
}

// logs

/// What the master has logged since it listens.
fn logged(cluster: &Cluster) -> Vec<String> {
    let log = cluster.master.log();
    log.lines().skip_while(|line| !line.contains("listening")).skip(1).map(str::to_owned).collect()
}

#[test]
fn one_line_per_failed_request_and_none_for_good_ones() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for (method, target) in [
        ("GET", "/key"),
        ("HEAD", "/key"),
        ("GET", "/?list"),
        ("UNLINK", "/key"),
        ("RELINK", "/key"),
        ("REBALANCE", "/key"),
        ("DELETE", "/key"),
    ] {
        assert!(cluster.request(method, target, b"").status < 400, "{method}");
    }
    refuses(&cluster, "PUT", "/empty", b"", 411);
    refuses(&cluster, "POST", "/other", b"x", 405);
    eventually("the failures are logged", PATIENCE, || logged(&cluster).len() >= 2);
    let lines = logged(&cluster);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(["PUT", "/empty", "411"].iter().all(|word| lines[0].contains(word)), "{}", lines[0]);
    assert!(["POST", "/other", "405"].iter().all(|word| lines[1].contains(word)), "{}", lines[1]);
}

#[test]
fn verbose_logs_good_requests() {
    let cluster = Cluster::new(3, &["-v"]);
    put(&cluster, "/key", b"value");
    let good = |line: &str| ["PUT", "/key", "201"].iter().all(|word| line.contains(word));
    eventually("the request is logged", PATIENCE, || cluster.master.log().lines().any(good));
}

#[test]
fn nothing_of_a_request_breaks_a_line_of_the_log() {
    let cluster = Cluster::new(3, &["-v"]);
    for target in
        ["/a%0Ainjected", "/a%1b[31minjected", "/%C2%9Binjected", "/\u{9b}injected", "/\u{2028}injected"]
    {
        cluster.request("PUT", target, b"x");
        cluster.request("GET", target, b"");
    }
    cluster.request("POST", "/last", b"");
    eventually("all is logged", PATIENCE, || cluster.master.log().contains("/last"));
    let log = cluster.master.log();
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("injected")), "{log}");
    assert!(!log.contains('\u{2028}'), "{log:?}");
}

// the end

#[test]
fn an_upload_under_way_at_the_end_is_finished() {
    let mut cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    cluster.master.ask_to_end();
    eventually("new connections are refused", PATIENCE, || {
        TcpStream::connect(cluster.master.addr()).is_err()
    });
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert!(cluster.master.wait().success());
    cluster.master.restart();
    assert_eq!(cluster.fetch("/key").text(), "12");
}

#[test]
fn a_stuck_upload_holds_the_end_back_no_longer_than_the_grace() {
    let mut cluster = Cluster::new(3, &["--grace", "100ms", "--clienttimeout", "1h"]);
    let _upload = half_an_upload(&cluster.master, "/key");
    assert!(cluster.master.terminate().success());
    cluster.master.restart();
    refuses(&cluster, "GET", "/key", b"", 404);
    eventually_no_files(&cluster);
}

#[test]
fn an_idle_connection_does_not_hold_the_end_back() {
    let mut cluster = Cluster::new(3, &["--grace", "1h"]);
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    connection.send(&head(&addr, "GET", b"/none", &[], 0)).unwrap();
    assert_eq!(connection.receive("GET").unwrap().status, 404);
    assert!(cluster.master.terminate().success());
}

// the command line

/// A master that need not come up.
struct Program {
    child: Child,
    output: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_davkv"));
        command.args(arguments).envs(environment.iter().copied());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::<Mutex<String>>::default();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let output = Arc::clone(&output);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    *output.lock().unwrap() += &(line + "\n");
                }
            }
        });
        Self { child, output, reader: Some(reader) }
    }

    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits for its end; its status and all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the program has ended", PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.reader.take().unwrap().join().unwrap();
        (status.unwrap().code(), self.output())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // it may have ended already
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

/// That a master ends with this status and one line that holds these words.
#[track_caller]
fn fails(arguments: &[&str], environment: &[(&str, &str)], status: i32, words: &[&str]) {
    let (ended, output) = Program::start(arguments, environment).end();
    assert_eq!(ended, Some(status), "{arguments:?}: {output}");
    assert_eq!(output.lines().count(), 1, "{arguments:?}: {output}");
    for word in words {
        assert!(output.contains(word), "{arguments:?}: no {word} in {output}");
    }
}

#[test]
fn wrong_flags_are_one_line_that_says_what_to_type() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    let db = db.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 20] = [
        (&[], &["--db", "--volumes"]),
        (&["--volumes", "a:1,b:1,c:1"], &["type --db"]),
        (&["--db", db], &["type --volumes"]),
        (&["--db", db, "--volumes"], &["--volumes"]),
        (&["--db", db, "--volumes", ""], &["--volumes", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,,b:1"], &["--volumes", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,http://b:1,c:1"], &["http://b:1", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:65536,c:1"], &["b:65536", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1/sv00,c:1"], &["b:1/sv00", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1\r\n,c:1"], &["HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1,b:1"], &["b:1", "twice", "once"]),
        (&["--db", db, "--volumes", "a:1,b:1"], &["--replicas 3", "--replicas 1 to 2"]),
        (
            &["--db", db, "--volumes", "a:1,b:1,c:1", "--replicas", "0"],
            &["--replicas 0", "--replicas 1 to 3"],
        ),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--subvolumes", "0"], &["--subvolumes", "1..=256"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--subvolumes", "257"], &["--subvolumes", "1..=256"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--voltimeout", "soon"], &["--voltimeout", "1s"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--voltimeout", "0s"], &["--voltimeout", "1s"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--port", "65536"], &["--port", "65535"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--fallback", "x/y"], &["--fallback", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--volume"], &["--volume", "--volumes"]),
    ];
    for (arguments, words) in cases {
        fails(arguments, &[], 2, words);
    }
    assert!(!Path::new(db).exists());
}

#[test]
fn a_wrong_environment_is_one_line_that_says_what_to_type() {
    let good = [("DAVKV_DB", "db"), ("DAVKV_VOLUMES", "a:1,b:1,c:1")];
    for (name, value, words) in [
        ("DAVKV_VOLUMES", "a:1,b", ["--replicas", "--volumes"]),
        ("DAVKV_REPLICAS", "many", ["--replicas", "many"]),
        ("DAVKV_VOLTIMEOUT", "soon", ["--voltimeout", "1s"]),
        ("DAVKV_PROTECT", "perhaps", ["--protect", "true"]),
    ] {
        fails(&[], &[&good[..], &[(name, value)]].concat(), 2, &words);
    }
}

/// The necessary flags for an index at `db`, with volumes that nobody asks.
fn flags<'a>(db: &'a Path, port: &'a str) -> [&'a str; 8] {
    let db = db.to_str().unwrap();
    ["--db", db, "--volumes", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--port", port, "--address", "127.0.0.1"]
}

#[test]
fn an_index_in_use_is_one_line() {
    let cluster = cluster();
    let port = free_port().to_string();
    fails(&flags(&cluster.tempdir.path().join("db"), &port), &[], 1, &["db", "in use"]);
}

#[test]
fn an_index_without_a_parent_is_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    fails(&flags(&tempdir.path().join("none/db"), "1"), &[], 1, &["none/db", "doesn't exist"]);
}

#[test]
fn what_is_no_index_is_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    let (file, directory) = (tempdir.path().join("file"), tempdir.path().join("directory"));
    fs::write(&file, "text").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("photo.jpeg"), "jpeg").unwrap();
    fails(&flags(&file, "1"), &[], 1, &["file", "not an index"]);
    fails(&flags(&directory, "1"), &[], 1, &["directory", "not an index"]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_port_in_use_is_one_line() {
    let cluster = cluster();
    let addr = cluster.master.addr();
    let port = addr.rsplit(':').next().unwrap();
    fails(&flags(&cluster.tempdir.path().join("other"), port), &[], 1, &[port, "--port"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["--help", "--version"] {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_davkv")).arg(flag).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(text.contains("davkv"), "{text}");
    }
}

#[test]
fn flags_can_come_from_the_environment() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(&tempdir.path().join("volume"));
    let (db, port) = (tempdir.path().join("db"), free_port().to_string());
    let environment = [
        ("DAVKV_DB", db.to_str().unwrap()),
        ("DAVKV_VOLUMES", &volume.addr()),
        ("DAVKV_ADDRESS", "127.0.0.1"),
        ("DAVKV_PORT", &port),
        ("DAVKV_REPLICAS", "1"),
        ("DAVKV_SUBVOLUMES", "1"),
        ("DAVKV_PROTECT", "true"),
        ("DAVKV_FALLBACK", "elsewhere:1"),
        ("DAVKV_MD5SUM", "false"),
    ];
    let program = Program::start(&[], &environment);
    let addr = format!("127.0.0.1:{port}");
    eventually("the master listens", PATIENCE, || program.output().contains(&format!("listening on {addr}")));
    assert_eq!(request(&addr, "PUT", "/key", &[], b"value").status, 201);
    let answer = request(&addr, "GET", "/key", &[], b"");
    assert_eq!(answer.header("key-volumes"), Some(&*volume.addr()));
    assert_eq!(answer.header("content-md5"), None);
    refused(&request(&addr, "DELETE", "/key", &[], b""), 403);
    let answer = request(&addr, "GET", "/none", &[], b"");
    assert_eq!(answer.header("location"), Some("http://elsewhere:1/none"));
}

#[test]
fn a_flag_comes_before_the_environment() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("none/db");
    fails(&flags(&db, "1"), &[("DAVKV_DB", "/other"), ("DAVKV_REPLICAS", "3")], 1, &["none/db"]);
}
