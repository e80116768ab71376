//! An operator's slips, typed as an operator would: a wrong index, a disk that isn't mounted, swapped disks, two masters
//! on one set of volumes, an index that is out of date. Each ends in a refusal with a remedy that works, and no value is
//! lost or comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Cluster, MARKER, Master, Volume, eventually, free_port, request};

const PATIENCE: Duration = Duration::from_secs(40);

/// How many volumes, replicas, and subvolumes a store has.
const SHAPES: [(usize, &str, &str); 4] = [(2, "1", "1"), (3, "1", "10"), (3, "2", "10"), (4, "3", "1")];

fn cluster((volumes, replicas, subvolumes): (usize, &str, &str)) -> Cluster {
    Cluster::new(volumes, &["--replicas", replicas, "--subvolumes", subvolumes])
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/key{number}")).collect()
}

fn value(key: &str) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}

fn store(cluster: &Cluster, keys: &[String]) {
    for key in keys {
        assert_eq!(cluster.request("PUT", key, &value(key)).status, 201, "{key}");
    }
}

/// Reads a key as curl -L does.
fn read(master: &Master, key: &str) -> Result<Vec<u8>, u16> {
    let answer = request(&master.addr(), "GET", key, &[], b"");
    let Some(location) = answer.header("location") else { return Err(answer.status) };
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let answer = request(host, "GET", format!("/{path}"), &[], b"");
    if answer.status == 200 { Ok(answer.body) } else { Err(answer.status) }
}

#[track_caller]
fn assert_all_there(master: &Master, keys: &[String]) {
    for key in keys {
        assert_eq!(read(master, key), Ok(value(key)), "{key}");
    }
}

fn addresses(volumes: &[Volume]) -> String {
    volumes.iter().map(Volume::addr).collect::<Vec<_>>().join(",")
}

/// Runs a program that is expected to end.
fn run(program: &str, db: &Path, volumes: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.arg("--db").arg(db).args(["--volumes", volumes]).args(flags);
    if program == env!("CARGO_BIN_EXE_davkv") {
        command.args(["--address", "127.0.0.1", "--port", &free_port().to_string()]);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "no {parts:?} in {said}");
}

/// Puts an empty directory in the place of a volume's, as an unmounted disk leaves one; the disk is set aside.
fn unmount(volume: &Volume) -> PathBuf {
    let aside = volume.dir().with_extension("unmounted");
    fs::rename(volume.dir(), &aside).unwrap();
    fs::create_dir(volume.dir()).unwrap();
    let owner = fs::metadata(&aside).unwrap();
    std::os::unix::fs::chown(
        volume.dir(),
        Some(std::os::unix::fs::MetadataExt::uid(&owner)),
        Some(std::os::unix::fs::MetadataExt::gid(&owner)),
    )
    .unwrap();
    aside
}

/// Mounts the disk again; what was written to its mount point meanwhile is hidden by that.
fn mount(volume: &Volume, aside: &Path) {
    fs::remove_dir_all(volume.dir()).unwrap();
    fs::rename(aside, volume.dir()).unwrap();
}

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

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn of_two_masters_with_copies_of_an_index_the_later_one_waits_until_the_earlier_has_ended() {
    let mut cluster = Cluster::new(3, &[]);
    let keys = keys(4);
    store(&cluster, &keys);
    let (db, copied) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("copy"));
    copy(&db, &copied);
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let later = Master::start(&copied, &addresses, &[]);
    assert_eq!(cluster.master.wait().code(), Some(1));
    assert!(cluster.master.log().contains("only one may run"), "{}", cluster.master.log());
    assert_all_there(&later, &keys);
    // the plain names of values that the earlier one may have stored since are left alone
    assert_eq!(request(&later.addr(), "PUT", "/new", &[], b"new").status, 201);
    let plain = cluster.volumes[0].paths().into_iter().find(|path| path.ends_with("/L25ldw=="));
    assert_eq!(plain, None);
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
