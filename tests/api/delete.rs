//! DELETE, UNLINK, RELINK and REBALANCE.

use std::fs::{self, File};

use davkv::key::Key;

use crate::common::{Cluster, eventually};
use crate::rig::{
    PATIENCE, cluster, eventually_no_files, keys, placement, put, refuses, replicas_on_disk, stored,
};

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
fn requests_for_a_missing_key_are_404() {
    let cluster = cluster();
    for method in ["GET", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refuses(&cluster, method, "/none", b"", 404);
    }
}

#[test]
fn with_protect_a_delete_needs_an_unlink_first() {
    let cluster = Cluster::new(3, &["--protect"]);
    put(&cluster, "/key", b"value");
    refuses(&cluster, "DELETE", "/key", b"", 403);
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    refuses(&cluster, "RELINK", "/key", b"", 404);
}

#[test]
fn unlink_hides_the_key_and_keeps_the_value() {
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
fn rebalance_moves_the_value_to_its_placement() {
    let mut cluster = Cluster::new(4, &[]);
    let key = Key::new(b"/key");
    let wanted = placement(&cluster).wanted(&key);
    let missing = cluster.volumes.iter().position(|volume| volume.addr() == wanted[1].volume()).unwrap();
    cluster.volumes[missing].kill();
    put(&cluster, "/key", b"value");
    let before = cluster.request("GET", "/key", b"");
    assert_eq!(before.header("key-balance"), Some("unbalanced"));

    cluster.volumes[missing].restart();
    eventually("the value is rebalanced", PATIENCE, || {
        cluster.request("REBALANCE", "/key", b"").status == 204
    });
    let after = cluster.request("GET", "/key", b"");
    let places: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    assert_eq!(after.header("key-balance"), Some("balanced"));
    assert_eq!(after.header("key-volumes"), Some(&*places.join(",")));
    assert_eq!(after.header("content-md5"), before.header("content-md5"));
    assert_eq!(cluster.fetch("/key").text(), "value");
}

/// A value of which the volumes have these bytes, by rank.
fn rotten(bytes: [&[u8]; 3]) -> Cluster {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for (file, bytes) in replicas_on_disk(&cluster, "/key").into_iter().zip(bytes) {
        // with the time that it had: the system's clock for files may lag behind, and an older file would be stale
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, bytes).unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    }
    cluster
}

#[test]
fn rebalance_replaces_a_rotten_replica_that_it_reads() {
    for torn in 1..3 {
        let mut bytes = [b"wrong", &b"value"[..], b"value"];
        bytes[torn] = b"torn";
        let cluster = rotten(bytes);
        assert_eq!(cluster.request("REBALANCE", "/key", b"").status, 204);
        eventually("all replicas are good", PATIENCE, || {
            let stored = stored(&cluster);
            stored[&b"/key"[..]].iter().filter(|bytes| *bytes == b"value").count() == 3
        });
        fs::remove_file(&replicas_on_disk(&cluster, "/key")[3 - torn]).unwrap();
        for _ in 0..10 {
            assert_eq!(cluster.fetch("/key").text(), "value");
        }
    }
}

#[test]
fn rebalance_of_a_value_without_a_good_replica_is_500_and_changes_nothing() {
    let cluster = rotten([b"wrong", b"wrong", b"torn"]);
    let (before, replicas) = (stored(&cluster), cluster.request("GET", "/key", b""));
    refuses(&cluster, "REBALANCE", "/key", b"", 500);
    assert_eq!(stored(&cluster), before);
    assert_eq!(cluster.request("GET", "/key", b"").header("key-volumes"), replicas.header("key-volumes"));
}
