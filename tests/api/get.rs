//! GET and HEAD: redirects, and replicas that are down or damaged.

use std::fs;
use std::time::{Duration, SystemTime};

use davkv::key::{Key, Name};

use crate::common::http::get_url;
use crate::common::{Cluster, eventually};
use crate::rig::{PATIENCE, cluster, hex_md5, missing, placement, put, refused, refuses, replicas_on_disk};

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
    missing(&cluster.request("HEAD", "/none", b""));
}

#[test]
fn get_of_a_missing_key_is_404() {
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
fn an_empty_query_is_ignored() {
    let cluster = cluster();
    put(&cluster, "/key?", b"value");
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.fetch("/key?").text(), "value");
}

#[test]
fn fallback_redirects_to_the_key_percent_encoded_again() {
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
fn get_is_500_when_all_replicas_are_missing() {
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
fn damage_is_logged_as_an_error() {
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
fn a_torn_replica_is_skipped() {
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

/// A volume may roll back to such a file in a power cut, if it forgets a deletion and the write that
/// followed.
#[test]
fn a_replica_that_is_older_than_its_record_is_skipped() {
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
    // REBALANCE has copied a good replica to the same volume
    for other in others {
        fs::remove_file(other).unwrap();
    }
    assert_eq!(cluster.fetch("/key").text(), "newer");
}

/// A restore that doesn't keep file times leaves such replicas.
#[test]
fn replicas_that_are_newer_than_their_record_are_served() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for replica in replicas_on_disk(&cluster, "/key") {
        let file = fs::File::options().write(true).open(replica).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_mins(1)).unwrap();
    }
    assert_eq!(cluster.fetch("/key").text(), "value");
}

#[test]
fn a_volume_that_is_down_is_skipped() {
    let mut cluster = cluster();
    put(&cluster, "/key", b"value");
    cluster.volumes[0].kill();
    cluster.volumes[2].kill();
    for _ in 0..20 {
        assert_eq!(cluster.fetch("/key").text(), "value");
    }
}
