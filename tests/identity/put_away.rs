//! Values that are stored on the mount point of a disk that has just vanished. minikeyvalue's template takes them.

use std::fs;
use std::path::PathBuf;

use crate::common::{Cluster, Volume, eventually};
use crate::rig::*;

fn cluster(replicas: &str) -> Cluster {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = |number| Volume::start_as_minikeyvalue(&tempdir.path().join(format!("volume{number}")));
    let volumes = (0..3).map(volume).collect();
    Cluster::over(volumes, tempdir, &["--replicas", replicas])
}

/// The disks of a volume, which are mounted at its subvolumes.
struct Disks<'a> {
    volume: &'a Volume,
    aside: PathBuf,
}

impl<'a> Disks<'a> {
    fn new(volume: &'a Volume) -> Self {
        let aside = volume.dir().with_extension("disks");
        fs::create_dir(&aside).unwrap();
        Self { volume, aside }
    }

    fn all(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let names = (0..10).map(|number| format!("sv{number:02X}"));
        names.map(|name| (self.volume.dir().join(&name), self.aside.join(name)))
    }

    /// Leaves the empty mount points.
    fn unmount(&self) {
        for (at, aside) in self.all() {
            fs::rename(&at, &aside).unwrap();
            make_as(&at, &aside);
        }
    }

    /// Hides what was stored on the mount points, and tells how many files those were.
    fn mount(&self) -> usize {
        let lost = self.volume.paths().len();
        for (at, aside) in self.all() {
            fs::remove_dir_all(&at).unwrap();
            fs::rename(aside, at).unwrap();
        }
        lost
    }
}

/// Stores values while the disks of the first volume are away; returns the keys of those that were stored.
fn store_while_away(cluster: &Cluster) -> Vec<String> {
    let disks = Disks::new(&cluster.volumes[0]);
    for round in 0.. {
        disks.unmount();
        let keys: Vec<_> = (0..30).map(|number| format!("/round{round}/key{number}")).collect();
        let mut stored = keys.clone();
        stored.retain(|key| cluster.request("PUT", key, &value(key)).status == 201);
        // they are missed soon
        eventually("the disks are missed", PATIENCE, || {
            cluster.master.log().matches("it takes no part").count() > round
        });
        let lost = disks.mount();
        eventually("the volume takes part again", PATIENCE, || {
            let verified = format!("verified volume=\"{}\"", cluster.volumes[0].addr());
            cluster.master.log().matches(&verified).count() > round
        });
        // else they were missed just before
        if lost > 0 {
            return stored;
        }
    }
    unreachable!()
}

#[test]
fn a_value_that_went_to_a_mount_point_gets_its_replica_when_the_disk_is_back() {
    let cluster = cluster("2");
    let keys = store_while_away(&cluster);
    let files = || cluster.volumes.iter().map(|volume| volume.paths().len()).sum::<usize>();
    eventually("all replicas are there", PATIENCE, || files() == 2 * keys.len());
    assert!(cluster.master.log().contains("its disk was away when it was stored: repaired"));
    assert_all_there(&cluster.master, &keys);
}

#[test]
fn a_value_that_went_to_a_mount_point_and_has_no_other_replica_is_named() {
    let cluster = cluster("1");
    let keys = store_while_away(&cluster);
    let is_lost = |key: &&String| read(&cluster.master, key) == Err(500);
    let is_named = |key: &String| {
        let log = cluster.master.log();
        let mut lines = log.lines().filter(|line| line.contains("no other replica is whole"));
        lines.any(|line| line.contains("ERROR") && line.contains(&format!("key={key} ")))
    };
    let lost: Vec<_> = keys.iter().filter(is_lost).collect();
    assert!(!lost.is_empty());
    eventually("each lost value is named", PATIENCE, || lost.iter().all(|key| is_named(key)));
}
