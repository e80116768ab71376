//! Disks that vanish, return, are swapped, replaced, or another store's.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Cluster, Gate, MARKER, Master, Order, Volume, eventually, request};
use crate::rig::*;

#[test]
fn a_disk_that_vanishes_takes_no_part_and_its_deletions_wait_for_it() {
    for shape in SHAPES {
        let mut cluster = cluster(shape);
        let keys = keys(24);
        store(&cluster, &keys);
        let (gone, stay) = keys.split_at(12);
        let aside = unmount(&cluster.volumes[0]);
        for key in gone {
            assert_eq!(cluster.request("DELETE", key, b"").status, 204, "{key}");
        }
        for key in stay {
            let found = read(&cluster.master, key);
            assert!(
                found == Ok(value(key)) || shape.1 == "1" && matches!(found, Err(503)),
                "{key}: {found:?}"
            );
        }
        eventually("the disk is missed", PATIENCE, || {
            cluster.master.log().contains("its disk isn't mounted")
        });
        assert!(cluster.volumes[0].paths().is_empty(), "nothing is written to the mount point");
        mount(&cluster.volumes[0], &aside);
        eventually("all deletions are made good", PATIENCE, || {
            let files: usize = cluster.volumes.iter().map(|volume| volume.paths().len()).sum();
            files == stay.len() * shape.1.parse::<usize>().unwrap()
        });
        assert_all_there(&cluster.master, stay);
        // also with the disk away at a start
        let aside = unmount(&cluster.volumes[0]);
        cluster.master.restart();
        assert!(cluster.master.log().contains("its disk isn't mounted"), "{}", cluster.master.log());
        mount(&cluster.volumes[0], &aside);
        eventually("the volume takes part again", PATIENCE, || {
            stay.iter().all(|key| read(&cluster.master, key) == Ok(value(key)))
        });
    }
}

#[test]
fn swapped_disks_are_followed_at_the_next_start() {
    for shape in SHAPES {
        let mut cluster = cluster(shape);
        let keys = keys(24);
        store(&cluster, &keys);
        let [one, other] = [0, 1].map(|number| cluster.volumes[number].dir().to_owned());
        let aside = one.with_extension("aside");
        cluster.master.terminate();
        cluster.volumes[0].stop();
        cluster.volumes[1].stop();
        for (from, to) in [(&one, &aside), (&other, &one), (&aside, &other)] {
            fs::rename(from, to).unwrap();
        }
        cluster.volumes[0].restart();
        cluster.volumes[1].restart();
        cluster.master.restart();
        let log = cluster.master.log();
        assert_eq!(log.matches("it is followed").count(), 2, "{log}");
        for volume in &cluster.volumes {
            let line = format!("volume={:?}", volume.addr());
            assert_eq!(log.lines().filter(|logged| logged.contains(&line)).count(), 1, "{log}");
        }
        assert_all_there(&cluster.master, &keys);
        for key in &keys {
            assert_eq!(cluster.request("DELETE", key, b"").status, 204, "{key}");
        }
        eventually("all files are deleted", PATIENCE, || {
            cluster.volumes.iter().all(|volume| volume.paths().is_empty())
        });
    }
}

#[test]
fn an_empty_disk_takes_part_once_it_is_said_to_replace_the_old_one() {
    let mut cluster = Cluster::new(4, &["--replicas", "2"]);
    let keys = keys(24);
    store(&cluster, &keys);
    let aside = unmount(&cluster.volumes[0]);
    let lost = aside.with_extension("lost");
    fs::rename(aside, &lost).unwrap();
    cluster.volumes[0].restart();
    cluster.master.restart();
    let log = cluster.master.log();
    let (_, replaced) = log.split_once("start once with --replaced ").unwrap();
    let replaced = replaced.split_whitespace().next().unwrap().to_owned();
    assert!(replaced.starts_with(&cluster.volumes[0].addr()), "{replaced}");
    cluster.master.terminate();
    let (db, all) = (cluster.tempdir.path().join("db"), addresses(&cluster.volumes));
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let mut master = Master::start(&db, &addresses, &["--replicas", "2", "--replaced", &replaced]);
    let log = master.log();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains(&format!("volume={:?}", addresses[0]))).collect();
    assert!(lines.len() == 1 && lines[0].contains("leave --replaced away"), "{lines:?}");
    assert_all_there(&master, &keys);
    master.terminate();
    let repaired = run(env!("CARGO_BIN_EXE_davkv-rebalance"), &db, &all, &["--replicas", "2"]);
    assert!(repaired.status.success(), "{repaired:?}");
    let files: usize = cluster.volumes.iter().map(|volume| volume.paths().len()).sum();
    assert_eq!(files, 2 * keys.len());
    // the flag that is left where it is does nothing any more
    let mounted = unmount(&cluster.volumes[0]);
    let master = Master::start(&db, &addresses, &["--replicas", "2", "--replaced", &replaced]);
    assert!(master.log().contains("its disk isn't mounted"), "{}", master.log());
    drop(master);
    mount(&cluster.volumes[0], &mounted);
    // the old disk is another volume from now on
    fs::remove_dir_all(cluster.volumes[0].dir()).unwrap();
    fs::rename(lost, cluster.volumes[0].dir()).unwrap();
    let refused = run(env!("CARGO_BIN_EXE_davkv-rebalance"), &db, &all, &["--replicas", "2"]);
    assert_refused(&refused, &["the index means"]);
}

#[test]
fn volumes_of_another_store_are_refused_each_by_its_line() {
    let one = Cluster::new(3, &[]);
    let mut other = Cluster::new(3, &[]);
    store(&one, &keys(3));
    other.master.terminate();
    let (db, foreign) = (other.tempdir.path().join("db"), addresses(&one.volumes));
    let volumes: Vec<_> = one.volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&db, &volumes, &[]);
    let log = master.log();
    assert_eq!(log.matches("it belongs to the store").count(), 3, "{log}");
    assert_eq!(request(&master.addr(), "PUT", "/key0", &[], b"other").status, 503);
    assert_eq!(read(&one.master, "/key0"), Ok(value("/key0")));
    drop(master);
    let refused = run(
        env!("CARGO_BIN_EXE_davkv-rebuild"),
        &other.tempdir.path().join("rebuilt"),
        &foreign,
        &["--from", db.to_str().unwrap()],
    );
    assert_refused(&refused, &["it belongs to the store"]);
}

#[test]
fn a_rebuild_refuses_a_disk_that_is_not_mounted() {
    let mut cluster = Cluster::new(3, &[]);
    store(&cluster, &keys(6));
    cluster.master.terminate();
    let (rebuilt, all) = (cluster.tempdir.path().join("rebuilt"), addresses(&cluster.volumes));
    let subvolume = cluster.volumes[1].dir().join("sv03");
    let aside = subvolume.with_extension("aside");
    fs::rename(&subvolume, &aside).unwrap();
    let refused = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &rebuilt, &all, &[]);
    assert_refused(&refused, &["/sv03 is empty", "mount it"]);
    fs::rename(&aside, &subvolume).unwrap();
    let disk = unmount(&cluster.volumes[1]);
    let refused = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &rebuilt, &all, &[]);
    assert_refused(&refused, &["has no marker", "mount the right disk"]);
    mount(&cluster.volumes[1], &disk);
    assert!(!rebuilt.exists());
    assert!(run(env!("CARGO_BIN_EXE_davkv-rebuild"), &rebuilt, &all, &[]).status.success());
}

/// As with minikeyvalue's template, which serves whatever lies in the directory.
#[test]
fn the_answers_of_a_disk_that_vanished_are_never_absence() {
    let mut cluster = Cluster::new(2, &["--replicas", "1", "--subvolumes", "1"]);
    let keys = keys(10);
    store(&cluster, &keys);
    for volume in &cluster.volumes {
        fs::create_dir_all(volume.dir().join("00/00")).unwrap();
    }
    let marker = cluster.volumes[0].dir().join(MARKER);
    let foreign = fs::read_to_string(&marker).unwrap();
    // another disk of another store, with none of the values
    let aside = unmount(&cluster.volumes[0]);
    fs::create_dir_all(marker.parent().unwrap()).unwrap();
    let mine = foreign.split('"').nth(5).unwrap().to_owned();
    fs::write(&marker, foreign.replace(&mine, "00000000000000000000000000000000")).unwrap();
    for key in &keys {
        let answer = read(&cluster.master, key);
        assert!(answer == Ok(value(key)) || answer == Err(503), "{key}: {answer:?}");
        assert_eq!(cluster.request("DELETE", key, b"").status, 204);
    }
    eventually("the other store is named", PATIENCE, || {
        cluster.master.log().contains("it belongs to the store 00000000000000000000000000000000")
    });
    mount(&cluster.volumes[0], &aside);
    eventually("all files are deleted", PATIENCE, || {
        cluster.volumes.iter().all(|volume| volume.paths().is_empty())
    });
    cluster.master.terminate();
}

#[test]
fn a_volume_that_hangs_delays_no_other_that_returns() {
    let mut cluster = Cluster::new(3, &["--replicas", "1"]);
    let keys = keys(12);
    store(&cluster, &keys);
    cluster.master.terminate();
    let gate = Gate::before(&cluster.volumes[0]);
    let [first, second, third] = [0, 1, 2].map(|number| cluster.volumes[number].addr());
    let volumes = [format!("{first}={}", gate.addr()), second.clone(), third];
    // a look at the one that hangs takes longer than the test
    let flags = ["--replicas", "1", "--voltimeout", "10m"];
    let master = Master::start(&cluster.tempdir.path().join("db"), &volumes, &flags);
    let refused = |volume: &str| {
        let log = master.log();
        let mut lines = log.lines().filter(|line| line.contains("its disk isn't mounted"));
        lines.any(|line| line.contains(&format!("volume=\"{volume}\"")))
    };
    let disks = [0, 1].map(|number| unmount(&cluster.volumes[number]));
    eventually("both are missed", PATIENCE, || refused(&first) && refused(&second));
    let hangs = Arc::new(AtomicBool::new(false));
    let hung = Arc::clone(&hangs);
    gate.rule(move |_, _| {
        hung.store(true, Ordering::SeqCst);
        Some(Order::Nothing)
    });
    eventually("a look hangs", PATIENCE, || hangs.load(Ordering::SeqCst));
    mount(&cluster.volumes[1], &disks[1]);
    let verified = format!("verified volume=\"{second}\"");
    eventually("the other returns", PATIENCE, || master.log().matches(&verified).count() == 2);
}

#[test]
fn each_volume_has_exactly_one_line_at_a_start() {
    let mut cluster = Cluster::new(4, &["--replicas", "2"]);
    store(&cluster, &keys(24));
    cluster.master.terminate();
    let of_others = Cluster::new(1, &["--replicas", "1"]);
    store(&of_others, &keys(1));
    let path = |name: &str| cluster.tempdir.path().join(name);
    let (fresh, unknown) = (Volume::start(&path("fresh")), Volume::start(&path("unknown")));
    let closed = Volume::start_for("192.0.2.1", &path("closed"));
    fs::create_dir_all(unknown.dir().join("sv00/ab/cd")).unwrap();
    fs::write(unknown.dir().join("sv00/ab/cd/L2tleQ=="), "value").unwrap();
    let aside = unmount(&cluster.volumes[1]);
    cluster.volumes[2].kill();
    cluster.volumes[3].pause();
    let expected = [
        (cluster.volumes[0].addr(), "INFO verified "),
        (fresh.addr(), "INFO adopted: "),
        (cluster.volumes[1].addr(), "its disk isn't mounted"),
        (cluster.volumes[2].addr(), "WARN down: "),
        (cluster.volumes[3].addr(), "WARN down: "),
        (closed.addr(), "refused with 403: is this master in the volume's MASTER?"),
        (of_others.volumes[0].addr(), "it belongs to the store "),
        (unknown.addr(), "this index has nothing there"),
    ];
    let addresses: Vec<_> = expected.iter().map(|(address, _)| address.clone()).collect();
    let master = Master::start(&path("db"), &addresses, &["--replicas", "2"]);
    // by then, all that take no part were looked at again
    cluster.volumes[3].resume();
    let hung = format!("verified volume={:?}", addresses[4]);
    eventually("the volume that hung takes part", PATIENCE, || master.log().contains(&hung));
    mount(&cluster.volumes[1], &aside);
    let log = master.log();
    for (address, words) in &expected {
        let lines: Vec<_> =
            log.lines().filter(|line| line.contains(&format!("volume={address:?}"))).collect();
        let more = usize::from(*address == addresses[4]);
        assert!(lines.len() == 1 + more && lines[0].contains(words), "{words}: {lines:#?}");
    }
}

/// The older index means the disk that is gone; that its markers say otherwise is no reason to refuse them.
#[test]
fn an_index_from_before_a_disk_was_replaced_helps_a_rebuild() {
    let mut cluster = Cluster::new(4, &["--replicas", "2"]);
    let keys = keys(24);
    store(&cluster, &keys);
    let path = |name: &str| cluster.tempdir.path().join(name);
    let (db, older, new, all) = (path("db"), path("older"), path("new"), addresses(&cluster.volumes));
    let volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    cluster.master.terminate();
    copy(&db, &older);
    unmount(&cluster.volumes[0]);
    cluster.volumes[0].restart();
    let mut refused = Master::start(&db, &volumes, &["--replicas", "2"]);
    let log = refused.log();
    let replaced =
        log.split_once("start once with --replaced ").unwrap().1.split_whitespace().next().unwrap();
    refused.terminate();
    Master::start(&db, &volumes, &["--replicas", "2", "--replaced", replaced]).terminate();
    let repaired = run(env!("CARGO_BIN_EXE_davkv-rebalance"), &db, &all, &["--replicas", "2"]);
    assert!(repaired.status.success(), "{repaired:?}");
    let outdated = run(env!("CARGO_BIN_EXE_davkv"), &older, &all, &["--replicas", "2"]);
    assert_refused(&outdated, &["out of date", "davkv-rebuild --from"]);
    let from = ["--replicas", "2", "--from", older.to_str().unwrap()];
    let made = run(env!("CARGO_BIN_EXE_davkv-rebuild"), &new, &all, &from);
    assert!(made.status.success(), "{made:?}");
    assert_all_there(&Master::start(&new, &volumes, &["--replicas", "2"]), &keys);
}
