//! Stores of minikeyvalue and of davkv 0.1, which know no markers: their adoption, and the ways back.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use davkv::leveldb::{Batch, Database, Options};
use rustix::process::Signal;

use crate::common::{Cluster, Gate, MARKER, Master, Order, Volume, eventually, request};
use crate::rig::*;

fn delete_rows(db: &Path, which: impl Fn(&[u8]) -> bool) {
    let database = Database::open(db, &Options { create: false, ..Options::default() }).unwrap();
    let (mut batch, mut rows) = (Batch::new(), database.iter(false));
    rows.seek_to_first();
    while rows.valid() {
        if which(rows.key()) {
            batch.delete(rows.key());
        }
        rows.next();
    }
    rows.status().unwrap();
    drop(rows);
    database.write(&batch, true).unwrap();
}

/// Takes the identity from a store whose master is down, as if only older programs had ever had it.
fn make_older(cluster: &Cluster) {
    delete_rows(&cluster.tempdir.path().join("db"), |row| {
        row.starts_with(b"\0store") || row.starts_with(b"\0volume")
    });
    cluster.volumes.iter().for_each(Volume::unmark);
}

/// A store with some values, and with a gate before the volume that is adopted last.
struct Gated {
    cluster: Cluster,
    keys: Vec<String>,
    gate: Gate,
    /// With the volumes' names of before.
    volumes: Vec<String>,
}

const FLAGS: [&str; 4] = ["--replicas", "2", "--voltimeout", "300ms"];

impl Gated {
    fn new() -> Self {
        let mut cluster = Cluster::new(3, &FLAGS);
        let keys = keys(24);
        store(&cluster, &keys);
        cluster.master.terminate();
        let last = cluster.volumes.iter().max_by_key(|volume| volume.addr()).unwrap();
        let gate = Gate::before(last);
        let at = |volume: &Volume| {
            let name = volume.addr();
            if name == last.addr() { format!("{name}={}", gate.addr()) } else { name }
        };
        let volumes = cluster.volumes.iter().map(at).collect();
        Self { cluster, keys, gate, volumes }
    }

    /// Kills a master's first start over the older store while it writes the nth of the files on the last volume.
    fn kill_at(&self, nth: usize) {
        let seen = Arc::new(AtomicUsize::new(0));
        let marks = Arc::clone(&seen);
        self.gate.rule(move |method, _| {
            let hangs = method == "MARK" && marks.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
            hangs.then_some(Order::Nothing)
        });
        let mut start = Starting::new(&self.db(), &self.volumes.join(","), &FLAGS);
        eventually("it writes markers", PATIENCE, || seen.load(Ordering::SeqCst) >= nth);
        start.signal(Signal::KILL);
        start.end();
        self.gate.open();
    }

    fn db(&self) -> std::path::PathBuf {
        self.cluster.tempdir.path().join("db")
    }

    fn rebuild(&self, to: &str, flags: &[&str]) -> std::process::Output {
        let to = self.cluster.tempdir.path().join(to);
        run(env!("CARGO_BIN_EXE_davkv-rebuild"), &to, &self.volumes.join(","), &[&FLAGS, flags].concat())
    }
}

/// The first marker, one of those after it, one that is written again, and the owner file.
#[test]
fn an_adoption_that_was_interrupted_is_gone_on_with() {
    for nth in [1, 5, 12, 20] {
        let gated = Gated::new();
        make_older(&gated.cluster);
        gated.kill_at(nth);
        let (db, keys) = (gated.db(), &gated.keys);
        if nth < 10 {
            // a disk without a marker may be any disk
            assert_refused(&gated.rebuild("alone", &[]), &["has no marker", "name the index", "--from"]);
        }
        let rebuilt = gated.rebuild("rebuilt", &["--from", db.to_str().unwrap()]);
        assert!(rebuilt.status.success(), "{nth}: {rebuilt:?}");
        let said = String::from_utf8_lossy(&rebuilt.stdout);
        assert!(said.contains(&format!("objects    {}, 0 of them", keys.len())), "{said}");
        let mut master = Master::start(&db, &gated.volumes, &FLAGS);
        assert_all_there(&master, keys);
        master.restart();
        assert_all_there(&master, keys);
        for volume in &gated.cluster.volumes {
            for number in 0..10 {
                let marker = volume.dir().join(format!("sv{number:02X}")).join(MARKER);
                let marker = fs::read_to_string(marker).unwrap();
                assert_eq!(marker.matches("/sv0").count(), 11, "{marker}");
            }
            assert!(!owner(volume).1);
        }
    }
}

/// One that is empty was adopted as far as anybody but the index knows.
#[test]
fn a_rebuild_goes_on_over_an_empty_volume_only_if_the_last_index_never_had_it() {
    let mut cluster = Cluster::new(3, &["--replicas", "2"]);
    store(&cluster, &keys(6));
    cluster.master.terminate();
    let path = |name: &str| cluster.tempdir.path().join(name);
    let (db, new) = (path("db"), Volume::start(&path("new")));
    let all = format!("{},{}", addresses(&cluster.volumes), new.addr());
    let flags = ["--replicas", "2", "--from", db.to_str().unwrap()];
    let rebuild = |to: &str, flags: &[&str]| run(env!("CARGO_BIN_EXE_davkv-rebuild"), &path(to), &all, flags);
    assert_refused(&rebuild("alone", &flags[..2]), &["has no marker", "leave it out"]);
    let made = rebuild("made", &flags);
    assert!(made.status.success(), "{made:?}");
    // a later state of the index may know it
    let (old, volumes) = (path("old"), all.split(',').map(str::to_owned).collect::<Vec<_>>());
    copy(&db, &old);
    let mut master = Master::start(&db, &volumes, &flags[..2]);
    assert!(master.terminate().success());
    new.unmark();
    let outdated = rebuild("outdated", &["--replicas", "2", "--from", old.to_str().unwrap()]);
    assert_refused(&outdated, &["has no marker", "mount the right disk"]);
}

/// Nothing tells an index that was written for the way back from one that was left behind at the upgrade.
#[test]
fn an_index_of_an_older_program_is_refused_over_a_store_and_a_rebuild_takes_it_over() {
    for records in ["minikeyvalue", "davkv-0.1"] {
        let mut cluster = Cluster::new(3, &[]);
        let keys = keys(8);
        store(&cluster, &keys);
        cluster.master.terminate();
        let path = |name: &str| cluster.tempdir.path().join(name);
        let (db, back, forth, all) = (path("db"), path("back"), path("forth"), addresses(&cluster.volumes));
        let from = |db: &Path| db.to_str().unwrap().to_owned();
        let rebuild = env!("CARGO_BIN_EXE_davkv-rebuild");
        let made = run(rebuild, &back, &all, &["--records", records, "--from", &from(&db)]);
        assert!(made.status.success(), "{made:?}");
        // what the older program does then
        delete_rows(&back, |row| row == b"/key0");
        for volume in &cluster.volumes {
            for path in volume.paths().iter().filter(|path| path.ends_with("/L2tleTA=")) {
                fs::remove_file(volume.dir().join(path)).unwrap();
            }
        }
        let refused = run(env!("CARGO_BIN_EXE_davkv"), &back, &all, &[]);
        assert_refused(&refused, &["belongs to the store", "davkv-rebuild --from"]);
        // the store's own index is no remedy that loses nothing; this is
        let made = run(rebuild, &forth, &all, &["--from", &from(&back)]);
        assert!(made.status.success(), "{made:?}");
        let volumes: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
        let master = Master::start(&forth, &volumes, &[]);
        assert_all_there(&master, &keys[1..]);
        assert_eq!(request(&master.addr(), "GET", "/key0", &[], b"").status, 404);
    }
}

/// One that only old records name: nobody says which subvolumes it has, so what it shows tells whose it is. The other
/// store has values under the same keys.
#[test]
fn a_volume_that_only_old_records_name_is_not_adopted_with_a_disk_of_another_store() {
    let flags = ["--replicas", "1", "--subvolumes", "1"];
    let (mut cluster, mut other) = (Cluster::new(3, &flags), Cluster::new(1, &flags));
    let keys = keys(24);
    store(&cluster, &keys);
    for key in &keys {
        assert_eq!(other.request("PUT", key, b"of another store").status, 201, "{key}");
    }
    cluster.master.terminate();
    other.master.terminate();
    make_older(&cluster);
    let left_out = &cluster.volumes[2];
    let aside = left_out.dir().with_extension("aside");
    fs::rename(left_out.dir(), &aside).unwrap();
    copy(other.volumes[0].dir(), left_out.dir());
    let before = left_out.files();
    let volumes: Vec<_> = cluster.volumes[..2].iter().map(Volume::addr).collect();
    let master = Master::start(&cluster.tempdir.path().join("db"), &volumes, &flags);
    let lies_there = |key: &&String| match read(&master, key) {
        Ok(found) => {
            assert_eq!(found, value(key), "{key}");
            false
        }
        Err(status) => {
            assert_eq!(status, 503, "{key}");
            true
        }
    };
    let there: Vec<_> = keys.iter().filter(lies_there).collect();
    let (deleted, left) = there.split_first().unwrap();
    let is_looked_at = || {
        let log = master.log();
        let mut lines = log.lines().filter(|line| line.contains(&format!("volume={:?}", left_out.addr())));
        lines.any(|line| line.contains("it belongs to the store") || line.contains("adopted"))
    };
    eventually("it is looked at", PATIENCE, is_looked_at);
    assert_eq!(request(&master.addr(), "DELETE", deleted, &[], b"").status, 204);
    assert!(left.iter().all(|key| read(&master, key) == Err(503)), "{}", master.log());
    assert!(left_out.files() == before, "{}", master.log());
    // with its own disk it takes part
    fs::remove_dir_all(left_out.dir()).unwrap();
    fs::rename(aside, left_out.dir()).unwrap();
    eventually("the file is deleted", PATIENCE, || left_out.paths().len() == left.len());
    for key in left {
        assert_eq!(read(&master, key), Ok(value(key)), "{key}");
    }
}
