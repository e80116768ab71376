//! The owner file: who has a volume.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::common::http::try_request;
use crate::common::{Cluster, Gate, MARKER, Master, OWNER_FILE, Order, Stage, Volume, eventually, request};
use crate::rig::*;

/// The markers of all volumes, with their inodes: a file that is written again gets another one.
fn markers(cluster: &Cluster) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let mut markers = BTreeMap::new();
    for volume in &cluster.volumes {
        for subvolume in fs::read_dir(volume.dir()).unwrap() {
            let path = subvolume.unwrap().path().join(MARKER);
            if path.exists() {
                let inode = fs::metadata(&path).unwrap().ino();
                markers.insert(path.clone(), (inode, fs::read(&path).unwrap()));
            }
        }
    }
    markers
}

#[test]
fn a_marker_is_written_once_and_the_owner_file_by_each_run() {
    let mut cluster = Cluster::new(3, &[]);
    let before = markers(&cluster);
    assert_eq!(before.len(), 3 * 10);
    assert_eq!(owner(&cluster.volumes[0]), (1, false));
    let files = |volume: &Volume| {
        let subvolumes = (0..10).map(|number| volume.dir().join(format!("sv{number:02X}")).join(OWNER_FILE));
        subvolumes.filter(|path| path.exists()).count()
    };
    assert!(cluster.volumes.iter().all(|volume| files(volume) == 1));
    cluster.master.terminate();
    assert_eq!(owner(&cluster.volumes[0]), (1, true));
    cluster.master.restart();
    assert_eq!(owner(&cluster.volumes[0]), (2, false));
    store(&cluster, &keys(3));
    cluster.master.terminate();
    // once more for what was written
    assert_eq!(cluster.volumes.iter().map(owner).collect::<Vec<_>>(), [(3, true); 3]);
    cluster.master.restart();
    cluster.master.kill();
    cluster.master.restart();
    assert_eq!(owner(&cluster.volumes[0]), (5, false));
    assert!(!cluster.master.log().contains("waiting"), "{}", cluster.master.log());
    assert!(markers(&cluster) == before, "a marker was written again");
}

#[test]
fn a_lost_or_garbled_owner_file_is_written_again_and_never_a_refusal() {
    let damaged: [&dyn Fn(&Volume); 5] = [
        &|volume| fs::remove_file(owner_file(volume)).unwrap(),
        &|volume| fs::write(owner_file(volume), "").unwrap(),
        &|volume| fs::write(owner_file(volume), [0; 150]).unwrap(),
        &|volume| fs::write(owner_file(volume), "{\"davkv\":2}").unwrap(),
        &|volume| fs::write(owner_file(volume), "x".repeat(100_000)).unwrap(),
    ];
    let mut cluster = Cluster::new(damaged.len(), &["--voltimeout", "300ms"]);
    let keys = keys(6);
    store(&cluster, &keys);
    cluster.master.terminate();
    for (damage, volume) in damaged.iter().zip(&cluster.volumes) {
        damage(volume);
    }
    cluster.master.restart();
    let log = cluster.master.log();
    assert!(log.contains("another program may still have the volumes"), "{log}");
    assert_eq!(log.matches("verified").count(), damaged.len(), "{log}");
    assert_all_there(&cluster.master, &keys);
    let run = (3, false);
    assert!(cluster.volumes.iter().all(|volume| owner(volume) == run));
    // the same while it runs
    for (damage, volume) in damaged.iter().zip(&cluster.volumes) {
        damage(volume);
    }
    let is_whole = |volume: &Volume| {
        let file = fs::read(volume.dir().join("sv00").join(OWNER_FILE)).unwrap_or_default();
        String::from_utf8_lossy(&file).starts_with("{\"davkv\":1,\"run\"")
    };
    eventually("the owner files are written again", PATIENCE, || cluster.volumes.iter().all(is_whole));
    assert!(cluster.volumes.iter().all(|volume| owner(volume) == run));
    assert!(!cluster.master.log().contains("takes no part"), "{}", cluster.master.log());
}

/// As the first builds with markers wrote it: who has the volume was a part of it.
#[test]
fn a_marker_of_the_earlier_form_is_known() {
    let mut cluster = Cluster::new(3, &["--voltimeout", "300ms"]);
    let keys = keys(3);
    store(&cluster, &keys);
    cluster.master.terminate();
    let run = "\"master\":{\"line\":\"09090909090909090909090909090909\",\"number\":3},\"ended\":true}";
    for (path, (_, marker)) in markers(&cluster) {
        fs::write(path, String::from_utf8(marker).unwrap().replace('}', &format!(",{run}"))).unwrap();
    }
    for volume in &cluster.volumes {
        fs::remove_file(owner_file(volume)).unwrap();
    }
    cluster.master.restart();
    assert_all_there(&cluster.master, &keys);
    assert_eq!(owner(&cluster.volumes[0]), (3, false));
}

/// For want of room, or of rights.
#[test]
fn a_volume_that_refuses_its_owner_file_takes_part() {
    let refusals = [403, 409, 500, 507];
    let mut cluster = Cluster::new(refusals.len(), &[]);
    let keys = keys(6);
    store(&cluster, &keys);
    cluster.master.terminate();
    let gates: Vec<_> = cluster.volumes.iter().map(Gate::before).collect();
    for (gate, status) in gates.iter().zip(refusals) {
        gate.order("MARK", Order::Answer(status));
    }
    let at = |(volume, gate): (&Volume, &Gate)| format!("{}={}", volume.addr(), gate.addr());
    let volumes: Vec<_> = cluster.volumes.iter().zip(&gates).map(at).collect();
    let mut master = Master::start(&cluster.tempdir.path().join("db"), &volumes, &[]);
    let log = master.log();
    assert_eq!(log.matches("its owner file can't be written").count(), refusals.len(), "{log}");
    assert_eq!(log.matches(" INFO verified ").count(), refusals.len(), "{log}");
    assert_all_there(&master, &keys);
    for key in &keys {
        assert_eq!(request(&master.addr(), "DELETE", key, &[], b"").status, 204, "{key}");
    }
    assert!(cluster.volumes.iter().all(|volume| volume.paths().is_empty()));
    assert!(master.terminate().success());
    assert_eq!(cluster.volumes.iter().map(owner).collect::<Vec<_>>(), [(2, true); 4]);
}

/// minikeyvalue's template would take it there.
#[test]
fn an_owner_file_on_a_mount_point_is_no_file_of_a_key() {
    let mut cluster = Cluster::new(2, &["--replicas", "1"]);
    store(&cluster, &keys(4));
    cluster.master.terminate();
    let file = fs::read(owner_file(&cluster.volumes[0])).unwrap();
    let aside = unmount(&cluster.volumes[0]);
    let at = cluster.volumes[0].dir().join("sv00").join(OWNER_FILE);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, file).unwrap();
    cluster.master.restart();
    assert!(cluster.master.log().contains("its disk isn't mounted"), "{}", cluster.master.log());
    mount(&cluster.volumes[0], &aside);
}

#[test]
fn a_master_that_is_stopped_while_it_waits_for_another_ends_at_once_and_cleanly() {
    let mut cluster = Cluster::new(3, &[]);
    let keys = keys(3);
    store(&cluster, &keys);
    let (db, copied) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("copy"));
    copy(&db, &copied);
    let all = addresses(&cluster.volumes);
    // it waits for more than three times as long
    let mut later = Starting::new(&copied, &all, &["--voltimeout", "10m"]);
    eventually("it waits", PATIENCE, || later.log().contains("waiting until it has noticed"));
    later.signal(Signal::TERM);
    assert!(later.end().success(), "{}", later.log());
    assert!(cluster.volumes.iter().all(|volume| owner(volume).1), "the volumes don't know that it has ended");
    // so it could be moved, and goes on at once
    assert_eq!(cluster.master.wait().code(), Some(1));
    let moved = cluster.tempdir.path().join("moved");
    copy(&copied, &moved);
    fs::remove_dir_all(&copied).unwrap();
    let volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&moved, &volumes, &[]);
    assert!(!master.log().contains("waiting"), "{}", master.log());
    assert_all_there(&master, &keys);
}

#[test]
fn a_run_whose_writes_were_cut_off_does_not_say_that_it_has_ended() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.master.terminate();
    let gate = Gate::before(&cluster.volumes[0]);
    let mut volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    volumes[0] = format!("{}={}", volumes[0], gate.addr());
    let flags = ["--grace", "500ms", "--clienttimeout", "10s", "--streamtimeout", "49s"];
    let db = cluster.tempdir.path().join("db");
    let mut master = Master::start(&db, &volumes, &flags);
    gate.order("PUT", Order::Nothing);
    let address = master.addr();
    let put = std::thread::spawn(move || try_request(None, &address, "PUT", b"/key", &[], b"value"));
    eventually("the value is on its way", PATIENCE, || gate.count("PUT", Stage::Arrived) == 1);
    assert!(master.terminate().success());
    assert!(master.log().contains("writes were cut off"), "{}", master.log());
    assert!(put.join().unwrap().map_or(true, |answer| answer.status != 201));
    assert_eq!(cluster.volumes.iter().map(owner).collect::<Vec<_>>(), [(3, false); 3]);
    // so a copy of the index waits
    gate.open();
    let copied = cluster.tempdir.path().join("copy");
    copy(&db, &copied);
    let mut later = Starting::new(&copied, &addresses(&cluster.volumes), &[]);
    eventually("it waits", PATIENCE, || later.log().contains("waiting until it has noticed"));
    later.signal(Signal::TERM);
    assert!(later.end().success(), "{}", later.log());
}

/// The first subvolume, which has the owner file, is another one then.
#[test]
fn the_owner_file_follows_when_the_subvolumes_change() {
    let mut cluster = Cluster::new(3, &[]);
    let keys = keys(6);
    store(&cluster, &keys);
    cluster.master.terminate();
    let (db, old) = (cluster.tempdir.path().join("db"), cluster.tempdir.path().join("old"));
    copy(&db, &old);
    let volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let mut master = Master::start(&db, &volumes, &["--subvolumes", "1"]);
    assert!(!master.log().contains("waiting"), "{}", master.log());
    assert_all_there(&master, &keys);
    let number = |path: &str| {
        let file = fs::read(cluster.volumes[0].dir().join(path).join(OWNER_FILE)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&file).unwrap()["run"]["number"].as_u64().unwrap()
    };
    assert!(number("") > number("sv00"));
    assert!(master.terminate().success());
    let mut outdated = Starting::new(&old, &volumes.join(","), &[]);
    assert_eq!(outdated.end().code(), Some(1));
    assert!(outdated.log().contains("out of date"), "{}", outdated.log());
    cluster.master.restart();
    assert!(!cluster.master.log().contains("waiting"), "{}", cluster.master.log());
    assert_all_there(&cluster.master, &keys);
}
