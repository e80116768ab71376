//! A wrong index, a copy, one that is out of date, two masters.

use std::fs;
use std::path::Path;

use crate::common::{Cluster, MARKER, Master, Volume, eventually, request};
use crate::rig::*;

#[test]
fn a_wrong_db_is_refused_and_makes_no_index() {
    for shape in SHAPES {
        let mut cluster = cluster(shape);
        let keys = keys(8);
        store(&cluster, &keys);
        cluster.master.terminate();
        let typo = cluster.tempdir.path().join("typo");
        let flags = ["--replicas", shape.1, "--subvolumes", shape.2];
        let refused = run(env!("CARGO_BIN_EXE_davkv"), &typo, &addresses(&cluster.volumes), &flags);
        assert_refused(&refused, &["belongs to the store", "there is no index at --db", "davkv-rebuild"]);
        assert!(!typo.exists());
        // either remedy works: the right index …
        cluster.master.restart();
        assert_all_there(&cluster.master, &keys);
        cluster.master.terminate();
        // … or a rebuilt one
        let rebuilt = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &typo, &addresses(&cluster.volumes), &flags);
        assert!(rebuilt.status.success(), "{rebuilt:?}");
        let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
        let mut master = Master::start(&typo, &addresses, &flags);
        assert_all_there(&master, &keys);
        assert!(!master.log().contains("waiting"), "{}", master.log());
        master.terminate();
        // the index that it replaces is out of date from now on
        let db = cluster.tempdir.path().join("db");
        let outdated = run(env!("CARGO_BIN_EXE_davkv"), &db, &addresses.join(","), &flags);
        assert_refused(&outdated, &["out of date", "davkv-rebuild --from"]);
    }
}

#[test]
fn of_two_masters_with_copies_of_an_index_the_later_one_waits_until_the_earlier_has_ended() {
    let mut cluster = Cluster::new(3, &[]);
    let keys = keys(4);
    store(&cluster, &keys);
    let (db, copied) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("copy"));
    copy(&db, &copied);
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let mut later = Master::start(&copied, &addresses, &[]);
    let is_called_a_copy = |log: &str| log.contains("this index is a copy");
    assert!(is_called_a_copy(&later.log()), "{}", later.log());
    assert_eq!(cluster.master.wait().code(), Some(1));
    assert!(cluster.master.log().contains("only one may run"), "{}", cluster.master.log());
    assert_all_there(&later, &keys);
    // the plain names of values that the earlier one may have stored since are left alone
    assert_eq!(request(&later.addr(), "PUT", "/new", &[], b"new").status, 201);
    let plain = cluster.volumes[0].paths().into_iter().find(|path| path.ends_with("/L25ldw=="));
    assert_eq!(plain, None);
    // that it was a copy is said once, as it isn't one any more
    later.restart();
    assert!(!is_called_a_copy(&later.log()), "{}", later.log());
    assert_all_there(&later, &keys);
    drop(later);
    let outdated = run(env!("CARGO_BIN_EXE_davkv"), &db, &addresses.join(","), &[]);
    assert_refused(&outdated, &["out of date"]);
}

#[test]
fn a_moved_index_goes_on_at_once() {
    let mut cluster = Cluster::new(3, &[]);
    let keys = keys(4);
    store(&cluster, &keys);
    cluster.master.terminate();
    let (db, moved) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("moved"));
    copy(&db, &moved);
    fs::remove_dir_all(&db).unwrap();
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&moved, &addresses, &[]);
    assert!(!master.log().contains("copy"), "{}", master.log());
    assert_all_there(&master, &keys);
}

/// What a snapshot of the index's disk brings back: markers of later runs may show up only after the start.
#[test]
fn an_index_that_is_out_of_date_takes_over_no_volume_that_comes_up_later() {
    let mut cluster = Cluster::new(3, &["--replicas", "1"]);
    let keys = keys(6);
    store(&cluster, &keys);
    cluster.master.terminate();
    let (db, old) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("old"));
    copy(&db, &old);
    cluster.master.restart();
    cluster.master.terminate();
    let before = fs::read(cluster.volumes[0].dir().join("sv00").join(MARKER)).unwrap();
    for volume in &mut cluster.volumes {
        volume.stop();
    }
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let mut master = Master::start(&old, &addresses, &["--replicas", "1"]);
    for volume in &mut cluster.volumes {
        volume.restart();
    }
    assert_eq!(master.wait().code(), Some(1));
    assert_eq!(fs::read(cluster.volumes[0].dir().join("sv00").join(MARKER)).unwrap(), before);
    cluster.master.restart();
    assert_all_there(&cluster.master, &keys);
}

#[test]
fn a_volume_that_was_down_while_the_index_was_moved_is_known_later() {
    let mut cluster = Cluster::new(3, &["--replicas", "2"]);
    let keys = keys(6);
    store(&cluster, &keys);
    cluster.master.terminate();
    let (db, moved) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("moved"));
    copy(&db, &moved);
    cluster.volumes[2].stop();
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let mut master = Master::start(&moved, &addresses, &["--replicas", "2"]);
    cluster.volumes[2].restart();
    eventually("the volume takes part", PATIENCE, || {
        master.log().contains(&format!("verified volume={:?}", addresses[2]))
    });
    assert_all_there(&master, &keys);
    master.restart();
    assert_all_there(&master, &keys);
}

/// Puts the files of one directory in the place of another's, which stays the same directory: what a snapshot of a
/// machine or of a file system does when it is rolled back.
fn roll_back(db: &Path, snapshot: &Path) {
    for entry in fs::read_dir(db).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for entry in fs::read_dir(snapshot).unwrap() {
        copy(&entry.unwrap().path(), db);
    }
}

/// Each was taken while the master ran, which then stored further values.
#[test]
fn whatever_the_index_was_before_the_last_values_were_stored_is_out_of_date() {
    let mut cluster = Cluster::new(3, &[]);
    let (before, after) = (["/before".to_owned()], ["/after".to_owned()]);
    store(&cluster, &before);
    let path = |name: &str| cluster.tempdir.path().join(name);
    let (db, snapshot, copied, rebuilt) = (path("db"), path("snapshot"), path("copied"), path("rebuilt"));
    copy(&db, &snapshot);
    copy(&db, &copied);
    let all = addresses(&cluster.volumes);
    let beside = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &rebuilt, &all, &[]);
    assert!(beside.status.success(), "{beside:?}");
    let new = path("new");
    store(&cluster, &after);
    cluster.master.terminate();
    roll_back(&db, &snapshot);
    for old in [&db, &copied, &rebuilt] {
        let outdated = run(env!("CARGO_BIN_EXE_davkv"), old, &all, &[]);
        assert_refused(&outdated, &["out of date", "davkv-rebuild --from"]);
    }
    // the remedy
    let made = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &new, &all, &["--from", snapshot.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&new, &volumes, &[]);
    assert_all_there(&master, &[before, after].concat());
}
