//! `/?ready` and `/?alive`, and an index that can't be written for a while.

use std::fs;

use crate::common::http::request;
use crate::common::{Cluster, Disk, Master, Volume, eventually};
use crate::rig::{PATIENCE, cluster, put, refused, refuses};

fn status(master: &Master, target: &str) -> u16 {
    request(&master.addr(), "GET", target, &[], b"").status
}

#[test]
fn a_load_balancer_needs_no_credentials() {
    let tempdir = tempfile::tempdir().unwrap();
    let keys = tempdir.path().join("keys.toml");
    let key = "[[key]]\naccess = \"a\"\nsecret = \"12345678\"\nbuckets = [\"*\"]\nallow = [\"admin\"]\n";
    fs::write(&keys, key).unwrap();
    let cluster = Cluster::new(3, &["--credentials", keys.to_str().unwrap()]);
    for (target, text) in [("/?ready", "ready\n"), ("/?alive", "alive\n")] {
        let answer = cluster.request("GET", target, b"");
        assert_eq!((answer.status, answer.text()), (200, text.to_owned()));
        let answer = cluster.request("HEAD", target, b"");
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        refuses(&cluster, "PUT", target, b"", 401);
    }
    refuses(&cluster, "GET", "/key?ready", b"", 401);
}

#[test]
fn what_is_no_question_of_a_load_balancer_is_refused() {
    let cluster = cluster();
    for target in ["/key?ready", "/?ready&alive", "/?ready=1", "/?Alive"] {
        refuses(&cluster, "GET", target, b"", 400);
    }
    refuses(&cluster, "PUT", "/?ready", b"", 400);
}

#[test]
fn a_master_is_ready_while_enough_volumes_are_up() {
    let mut cluster = Cluster::new(3, &["--replicas", "2"]);
    cluster.volumes[0].kill();
    // several failures take a volume down
    let write = |number: u32| cluster.request("PUT", &format!("/{number}"), b"v").status;
    (0..20).for_each(|number| assert_eq!(write(number), 201));
    assert_eq!(status(&cluster.master, "/?ready"), 200);
    cluster.volumes[1].kill();
    eventually("the master isn't ready", PATIENCE, || {
        cluster.request("PUT", "/more", b"v");
        status(&cluster.master, "/?ready") == 503
    });
    let answer = cluster.request("GET", "/?ready", b"");
    refused(&answer, 503);
    assert_eq!(answer.text(), "2 volumes are needed, 1 are up\n");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(status(&cluster.master, "/?alive"), 200);
    cluster.volumes[0].restart();
    eventually("the master is ready again", PATIENCE, || status(&cluster.master, "/?ready") == 200);
}

/// What a master does whose index can't be written from `fill` on, until `clear`.
fn recovers(cluster: &Cluster, fill: impl FnOnce(), clear: impl FnOnce()) {
    put(cluster, "/before", b"before");
    put(cluster, "/deleted", b"deleted");
    let pid = cluster.master.pid();
    fill();
    let long = "x".repeat(1000);
    let write = |number: u32| cluster.request("PUT", &format!("/{long}{number}"), b"v").status;
    let failed = (0..10_000).find(|number| write(*number) == 500).expect("the index takes everything");
    assert_eq!(status(&cluster.master, "/?alive"), 200);
    let answer = cluster.request("GET", "/?ready", b"");
    refused(&answer, 503);
    assert!(answer.text().contains("index"), "{}", answer.text());
    assert_eq!(cluster.fetch("/before").text(), "before", "reads go on");
    refuses(cluster, "DELETE", "/deleted", b"", 500);
    assert_eq!(cluster.fetch("/deleted").text(), "deleted", "no file of it is deleted");
    clear();
    eventually("the master is ready again", PATIENCE, || status(&cluster.master, "/?ready") == 200);
    put(cluster, "/after", b"after");
    for (key, value) in [("/before", "before"), ("/after", "after")] {
        assert_eq!(cluster.fetch(key).text(), value);
    }
    // it may have happened, or not
    let deleted = cluster.request("DELETE", "/deleted", b"").status;
    assert!(matches!(deleted, 204 | 404), "{deleted}");
    let again = write(failed);
    assert!(matches!(again, 201 | 403), "{again}");
    assert_eq!(cluster.master.pid(), pid, "by itself");
    assert_eq!(cluster.master.log().matches("nothing is written or deleted").count(), 1, "told once");
}

#[test]
fn a_master_whose_index_could_not_grow_goes_on_by_itself_when_it_can() {
    for flags in [&[][..], &["--sync"]] {
        let mut cluster = Cluster::new(3, flags);
        let master = &cluster.master;
        recovers(&cluster, || master.limit_files(Some(64 << 10)), || master.limit_files(None));
        cluster.master.restart();
        assert_eq!(cluster.fetch("/after").text(), "after");
    }
}

#[test]
fn a_master_whose_index_disk_was_full_goes_on_by_itself_when_it_has_room() {
    let tempdir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::tmpfs(&tempdir.path().join("disk"), "4m") else { return };
    let volumes: Vec<_> = (0..3).map(|n| Volume::start(&tempdir.path().join(format!("volume{n}")))).collect();
    let addresses: Vec<_> = volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&disk.dir().join("db"), &addresses, &[]);
    let cluster = Cluster { master, volumes, tempdir: tempfile::tempdir().unwrap() };
    let ballast = disk.dir().join("ballast");
    let fill = || {
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    recovers(&cluster, fill, || fs::remove_file(&ballast).unwrap());
    // its files, before their disk
    drop(cluster);
}
