//! Power cuts. The index and the volumes are on file systems of their own (ext4 on loop devices). A test
//! copies their images at the moment of a cut, mounts the copies in place of the originals, and checks what
//! was acknowledged before.
//!
//! Mounting needs root; without it, each test passes and prints why. Random moments and values come from a
//! seed, which is printed and can be set with `DAVKV_SEED`; `DAVKV_ROUNDS` is the number of random cuts per
//! test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http::{self, Response, try_request};
use common::{Disk, Master, Random, Volume, eventually};
use md5::{Digest, Md5};
use rustix::process::{Pid, Signal, kill_process};

/// How long after a restart the volumes may hold files that the index doesn't name.
const TIDY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// The image is sparse, so that only written blocks take disk space.
const DISK_MEGABYTES: u64 = 64;
const CASE_MEGABYTES: u64 = 512;
/// Far more than all tests together need.
const ROOM: u64 = 2 << 30;

const CLIENTS: u64 = 4;
/// Few, so that each key is written, read and deleted often.
const KEYS_PER_CLIENT: u64 = 6;

/// Default mount options of ext4.
const DEFAULT: Option<&str> = Some("");
/// A directory without a disk of its own, which is never cut.
const NO_DISK: Option<&str> = None;

fn rounds(default: u64) -> u64 {
    std::env::var("DAVKV_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

/// The directory for images: in memory, if there is enough, because otherwise each fsync waits for a real
/// disk.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match rustix::fs::statvfs(memory) {
        Ok(there) if there.f_bavail * there.f_frsize > ROOM => memory.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// A master and volumes, on disks whose power can be cut.
struct Rig {
    // fields drop in this order: the programs before the disks that they use
    master: Master,
    volumes: Vec<Volume>,
    index: Option<Disk>,
    disks: Vec<Option<Disk>>,
    /// holds the images of all the disks
    case: Disk,
    tempdir: tempfile::TempDir,
}

impl Rig {
    /// `index` and `volumes` are the mount options of their disks. Returns `None`, and prints the reason,
    /// where disks are impossible.
    fn new(index: Option<&str>, volumes: &[Option<&str>], flags: &[&str]) -> Option<Self> {
        let tempdir = tempfile::tempdir_in(scratch()).unwrap();
        let path = |name: &str| tempdir.path().join(name);
        let case = Disk::ext4(&path("case"), &path("case.image"), CASE_MEGABYTES, "noatime")?;
        let disk = |name: &str, options: Option<&str>| {
            fs::create_dir(path(name)).unwrap();
            let mount =
                |options| Disk::ext4(&path(name), &case.dir().join(name), DISK_MEGABYTES, options).map(Some);
            options.map_or(Some(None), mount)
        };
        let index = disk("index", index)?;
        let names: Vec<_> = (0..volumes.len()).map(|number| format!("volume{number}")).collect();
        let disks: Option<Vec<_>> =
            names.iter().zip(volumes).map(|(name, options)| disk(name, *options)).collect();
        let disks = disks?;
        let volumes: Vec<_> = names.iter().map(|name| Volume::start(&path(name))).collect();
        let addresses: Vec<_> = volumes.iter().map(Volume::addr).collect();
        let master = Master::start(&path("index/db"), &addresses, flags);
        let rig = Self { master, volumes, index, disks, case, tempdir };
        // the cut of a test must not affect files from the start
        rig.all_disks().for_each(Disk::settle);
        Some(rig)
    }

    fn all_disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().chain([&self.index]).flatten()
    }

    fn db(&self) -> PathBuf {
        self.tempdir.path().join("index/db")
    }

    fn addresses(&self) -> Vec<String> {
        self.volumes.iter().map(Volume::addr).collect()
    }

    /// Cuts the power of the master's and all volumes' disks at one instant, whatever they are doing.
    fn cut(&mut self) {
        let frozen = self.case.freeze();
        // the process exits after the fsync that it may be in, and answers no request before
        kill_process(Pid::from_raw(i32::try_from(self.master.pid()).unwrap()).unwrap(), Signal::KILL)
            .unwrap();
        self.all_disks().for_each(|disk| disk.cut(&copy_of(disk)));
        drop(frozen);
        self.master.kill();
        self.kill_volumes();
    }

    /// Restores power after [`Rig::cut`]: the volumes run again, the master doesn't yet.
    fn come_back(&mut self) {
        self.come_back_without(None);
    }

    /// As [`Rig::come_back`], but the disk of that volume isn't mounted.
    fn come_back_without(&mut self, away: Option<usize>) {
        let away = away.and_then(|number| self.disks[number].as_ref()).map(Disk::dir);
        self.all_disks().for_each(|disk| disk.restore(&copy_of(disk), away == Some(disk.dir())));
        let cut = self.volumes.iter_mut().zip(&self.disks).filter(|(_, disk)| disk.is_some());
        cut.for_each(|(volume, _)| volume.restart());
    }

    /// Mounts the disk of the volume, which was away. No value may have been written to its mount point.
    fn bring_disk(&mut self, number: usize) {
        let volume = &mut self.volumes[number];
        volume.kill();
        // nginx has its own files there
        let bare = volume.paths();
        assert!(bare.is_empty(), "written to the mount point: {bare:?}");
        self.disks[number].as_ref().unwrap().return_again();
        volume.restart();
    }

    /// Cuts and restores the power of all volumes that have disks, at once; the index has no disk.
    fn cut_volumes(&mut self) {
        self.kill_volumes();
        self.all_disks().for_each(|disk| disk.cut(&copy_of(disk)));
        self.come_back();
    }

    fn kill_volumes(&mut self) {
        let cut = self.volumes.iter_mut().zip(&self.disks).filter(|(_, disk)| disk.is_some());
        cut.for_each(|(volume, _)| volume.kill());
    }

    #[track_caller]
    fn expect(&self, method: &str, key: &str, value: &[u8], status: u16) -> Response {
        let answer = self.ask(method, key, value);
        assert_eq!(answer.status, status, "{method} {key}: {}", answer.text());
        answer
    }

    /// Sends a request, and repeats it until the master sees that the volumes are up.
    #[track_caller]
    fn ask(&self, method: &str, key: &str, value: &[u8]) -> Response {
        ask(&self.master.addr(), method, key, value)
    }

    /// The number of files on all volumes.
    fn files(&self) -> usize {
        self.volumes.iter().map(|volume| volume.paths().len()).sum()
    }

    /// The number of volumes that hold the value, whole.
    fn replicas(&self, value: &[u8]) -> usize {
        let lies_there = |volume: &&Volume| volume.files().iter().any(|(_, bytes)| bytes == value);
        self.volumes.iter().filter(lies_there).count()
    }

    /// Replaces the index by one rebuilt from the volumes; the master is down.
    #[track_caller]
    fn rebuild(&self) {
        fs::remove_dir_all(self.db()).unwrap();
        self.tool(env!("CARGO_BIN_EXE_davkv-rebuild"));
    }

    /// Runs a tool, which must succeed, and returns its output.
    #[track_caller]
    fn tool(&self, program: &str) -> String {
        let (db, volumes) = (self.db(), self.addresses().join(","));
        let output =
            Command::new(program).arg("--db").arg(db).args(["--volumes", &volumes]).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }
}

/// The path for the copy of the disk's image.
fn copy_of(disk: &Disk) -> PathBuf {
    disk.dir().with_extension("cut")
}

#[track_caller]
fn ask(master: &str, method: &str, key: &str, value: &[u8]) -> Response {
    let mut answer = None;
    eventually("the volumes that are needed are up", PATIENCE, || {
        let now = http::request(master, method, key, &[], value);
        let sees = now.status != 503;
        answer = Some(now);
        sees
    });
    answer.unwrap()
}

/// The bytes behind a redirect; they must match the answer's MD5.
#[track_caller]
fn follow(answer: &Response) -> Vec<u8> {
    let value = try_follow(answer).expect("the volume was healthy a moment ago");
    value.unwrap_or_else(|status| panic!("the volume answered {status}"))
}

/// As [`follow`], but returns `None` if the volume is gone, and its status if that isn't 200.
#[track_caller]
fn try_follow(answer: &Response) -> Option<Result<Vec<u8>, u16>> {
    let url = answer.header("location").unwrap().strip_prefix("http://").unwrap();
    let (volume, path) = url.split_at(url.find('/').unwrap());
    let value = try_request(None, volume, "GET", path.as_bytes(), &[], b"").ok()?;
    Some(if value.status == 200 { Ok(value.body) } else { Err(value.status) })
}

fn hex_md5(bytes: &[u8]) -> String {
    let digits = |hex: String, byte: &u8| hex + &format!("{byte:02x}");
    Md5::digest(bytes).iter().fold(String::new(), digits)
}

/// A unique value, of one block or of many.
fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(4) {
        0 => 50_000 + random.below(150_000),
        _ => 16 + random.below(8192),
    };
    let mut filler = Random(random.next());
    let mut value = Vec::new();
    while (value.len() as u64) < length {
        value.extend(filler.next().to_le_bytes());
    }
    value
}

/// What is promised of writes when the power is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Acknowledged writes are kept.
    Kept,
    /// The state is one that the index had at some moment since it was last written to disk.
    SomeMoment,
}

/// One client with its keys, which no other client writes, so that their history is known.
struct Client {
    random: Random,
    /// The states that each key may have after a cut, the newest last: no value, or a value.
    keys: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    /// Whether a volume may have no file at a moment, although it did when the master looked.
    disks_vanish: bool,
}

impl Client {
    /// Sends requests until one gets no answer. Panics at a wrong answer.
    fn run(&mut self, master: &str, promise: Promise, answers: &AtomicUsize) {
        loop {
            let number = usize::try_from(self.random.below(KEYS_PER_CLIENT)).unwrap();
            let (name, states) = self.keys.iter_mut().nth(number).unwrap();
            let before = states.last().unwrap().clone();
            let (method, expected) = match (&before, self.random.below(3)) {
                (None, 0 | 1) => ("PUT", 201),
                (None, _) => ("GET", 404),
                (Some(_), 0) => ("DELETE", 204),
                (Some(_), _) => ("GET", 302),
            };
            let body = if method == "PUT" { value(&mut self.random) } else { Vec::new() };
            match method {
                "PUT" => states.push(Some(body.clone())),
                "DELETE" => states.push(None),
                _ => {}
            }
            let Ok(answer) = try_request(None, master, method, name.as_bytes(), &[], &body) else { return };
            assert_eq!(answer.status, expected, "{method} {name}: {}", answer.text());
            if answer.status == 302 {
                match try_follow(&answer) {
                    Some(Ok(value)) => assert!(Some(value) == before, "GET {name} returned wrong bytes"),
                    // its disk has just vanished
                    Some(Err(404)) if self.disks_vanish => continue,
                    Some(Err(other)) => panic!("GET {name}: the volume answered {other}"),
                    None => return,
                }
            }
            if promise == Promise::Kept {
                states.drain(..states.len() - 1);
            }
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// After a cut, asserts that each key has one of its allowed states, and keeps only that one. Unless
    /// everything is promised to be kept, a damage error is allowed, too, and the key can be written again.
    fn check(&mut self, master: &str, promise: Promise) {
        for (name, states) in &mut self.keys {
            let answer = ask(master, "GET", name, b"");
            let found = match answer.status {
                404 => None,
                302 => Some(follow(&answer)),
                500 if promise == Promise::SomeMoment && states.len() > 1 => {
                    assert_eq!(ask(master, "DELETE", name, b"").status, 204, "{name}");
                    *states = vec![None];
                    continue;
                }
                status => panic!("GET {name}: {status} {}", answer.text()),
            };
            assert!(
                states.contains(&found),
                "{name} holds {}, not one of {}",
                seen(found.as_ref()),
                all(states)
            );
            *states = vec![found];
        }
    }

    fn values(&self) -> usize {
        self.keys.values().filter(|states| states.last().unwrap().is_some()).count()
    }
}

fn all(states: &[Option<Vec<u8>>]) -> String {
    states.iter().map(|state| seen(state.as_ref())).collect::<Vec<_>>().join(", ")
}

fn seen(state: Option<&Vec<u8>>) -> String {
    state.map_or("nothing".into(), |value| format!("{} bytes {}", value.len(), hex_md5(value)))
}

/// Clients that write without a pause.
struct Load {
    clients: Vec<Client>,
    promise: Promise,
}

impl Load {
    fn new(random: &mut Random, promise: Promise) -> Self {
        let mut client = |number| {
            let keys = (0..KEYS_PER_CLIENT).map(|key| (format!("/client{number}/key{key}"), vec![None]));
            Client { random: Random(random.next()), keys: keys.collect(), disks_vanish: false }
        };
        Self { clients: (0..CLIENTS).map(&mut client).collect(), promise }
    }

    /// Runs the clients while `act` runs. `act` gets the number of answers so far; it ends the master, and
    /// thereby the clients.
    fn run(&mut self, master: &str, act: impl FnOnce(&AtomicUsize)) {
        let (promise, answers) = (self.promise, &AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for client in &mut self.clients {
                scope.spawn(|| client.run(master, promise, answers));
            }
            act(answers);
        });
    }

    /// Runs the clients until they have had `moment` answers, cuts all disks, and restores power.
    fn run_into_a_cut(&mut self, rig: &mut Rig, moment: u64) {
        let master = rig.master.addr();
        self.run(&master, |answers| {
            wait_for(answers, moment);
            rig.cut();
        });
        rig.come_back();
    }

    fn check(&mut self, master: &str) {
        self.clients.iter_mut().for_each(|client| client.check(master, self.promise));
    }

    /// Deletes a value of each client, if it has any.
    fn delete_some(&mut self, master: &str) {
        for client in &mut self.clients {
            let has_value = |states: &&mut Vec<Option<Vec<u8>>>| states.last().unwrap().is_some();
            let Some((name, states)) = client.keys.iter_mut().find(|(_, states)| has_value(states)) else {
                continue;
            };
            assert_eq!(ask(master, "DELETE", name, b"").status, 204, "{name}");
            *states = vec![None];
        }
    }

    /// All allowed states of all keys.
    fn states(&self) -> impl Iterator<Item = &Option<Vec<u8>>> {
        self.clients.iter().flat_map(|client| client.keys.values().flatten())
    }

    fn values(&self) -> usize {
        self.clients.iter().map(Client::values).sum()
    }
}

fn wait_for(answers: &AtomicUsize, count: u64) {
    eventually("the clients get more answers", PATIENCE, || answers.load(Ordering::Relaxed) as u64 >= count);
}

/// Clients write while all disks are cut, again and again.
fn lose_nothing_and_leave_nothing(rig: &mut Rig, rounds: u64) {
    let mut random = Random::seeded();
    let mut load = Load::new(&mut random, Promise::Kept);
    let master = rig.master.addr();
    for _ in 0..rounds {
        // some cuts come at the very start
        load.run_into_a_cut(rig, random.below(3) * random.below(200));
        rig.master.restart();
        load.check(&master);
        eventually("the volumes hold only the values", TIDY, || rig.files() == 3 * load.values());
    }
}

mod the_master_loses_power {
    use super::*;

    #[test]
    fn with_sync_no_acknowledged_write_is_lost_and_no_stray_file_stays() {
        let Some(mut rig) = Rig::new(DEFAULT, &[NO_DISK; 3], &["--sync"]) else { return };
        lose_nothing_and_leave_nothing(&mut rig, rounds(6));
    }

    /// The index loses writes that were not synced; the volumes have them.
    #[test]
    fn without_sync_the_last_writes_are_lost_and_a_rebuild_finds_them() {
        let Some(mut rig) = Rig::new(DEFAULT, &[NO_DISK; 3], &[]) else { return };
        rig.expect("PUT", "/deleted", b"deleted", 201);
        rig.index.as_ref().unwrap().settle();
        rig.expect("PUT", "/new", b"new", 201);
        rig.expect("DELETE", "/deleted", b"", 204);
        rig.cut();
        rig.come_back();
        rig.master.restart();
        rig.expect("GET", "/new", b"", 404);
        rig.expect("GET", "/deleted", b"", 500);
        rig.master.kill();
        rig.rebuild();
        rig.master.restart();
        assert_eq!(follow(&rig.expect("GET", "/new", b"", 302)), b"new");
        rig.expect("GET", "/deleted", b"", 404);
    }

    /// Each key has a state that it had at some moment: old values are there, and newer ones are whole,
    /// missing, or an error.
    #[test]
    fn without_sync_the_index_rolls_back_and_no_byte_is_wrong() {
        let Some(mut rig) = Rig::new(DEFAULT, &[NO_DISK; 3], &[]) else { return };
        let mut random = Random::seeded();
        let mut load = Load::new(&mut random, Promise::Kept);
        let master = rig.master.addr();
        for _ in 0..rounds(4) {
            let (old, moment) = (random.below(200), random.below(200));
            load.promise = Promise::Kept;
            load.run(&master, |answers| {
                wait_for(answers, old);
                rig.master.kill();
            });
            rig.index.as_ref().unwrap().settle();
            rig.master.restart();
            load.check(&master);
            load.promise = Promise::SomeMoment;
            load.run_into_a_cut(&mut rig, moment);
            rig.master.restart();
            load.check(&master);
        }
    }

    #[test]
    fn without_sync_a_rebuild_restores_all_acknowledged_writes() {
        let Some(mut rig) = Rig::new(DEFAULT, &[NO_DISK; 3], &[]) else { return };
        let mut random = Random::seeded();
        let mut load = Load::new(&mut random, Promise::Kept);
        let master = rig.master.addr();
        for _ in 0..rounds(4) {
            // some cuts come at the very start
            load.run_into_a_cut(&mut rig, random.below(3) * random.below(200));
            rig.rebuild();
            rig.master.restart();
            load.check(&master);
        }
    }
}

#[test]
fn with_sync_everywhere_a_power_cut_of_all_machines_loses_no_acknowledged_write() {
    let Some(mut rig) = Rig::new(DEFAULT, &[Some("sync"); 3], &["--sync"]) else { return };
    lose_nothing_and_leave_nothing(&mut rig, rounds(3));
}

/// A disk vanishes under its running volume, and later all power; the disk is back with the power, or some time after
/// it. What was deleted meanwhile stays so.
#[test]
fn with_sync_everywhere_a_disk_that_vanishes_before_a_power_cut_loses_and_revives_nothing() {
    let Some(mut rig) = Rig::new(DEFAULT, &[Some("sync"); 4], &["--sync"]) else { return };
    let mut random = Random::seeded();
    let mut load = Load::new(&mut random, Promise::Kept);
    load.clients.iter_mut().for_each(|client| client.disks_vanish = true);
    let master = rig.master.addr();
    for round in 0..rounds(4) {
        let away = usize::try_from(random.below(4)).unwrap();
        let (before, meanwhile) = (random.below(200), random.below(3) * random.below(200));
        load.run(&master, |answers| {
            wait_for(answers, before);
            rig.disks[away].as_ref().unwrap().vanish();
            wait_for(answers, before + meanwhile);
            rig.cut();
        });
        let stays_away = round % 2 == 0;
        rig.come_back_without(stays_away.then_some(away));
        rig.master.restart();
        load.check(&master);
        if stays_away {
            load.delete_some(&master);
            rig.bring_disk(away);
        }
        eventually("the volumes hold only the values", PATIENCE, || rig.files() == 3 * load.values());
        load.check(&master);
    }
}

mod a_volume_loses_power {
    use super::*;

    const KEYS: usize = 8;

    /// What a cut leaves of the values' files.
    #[derive(Debug, Default)]
    struct Left {
        missing: usize,
        torn: usize,
        whole: usize,
    }

    fn at_once(_: &Disk) {}

    fn put_values(rig: &Rig) -> Vec<(String, Vec<u8>)> {
        let mut random = Random::seeded();
        let values: Vec<_> = (0..KEYS).map(|key| (format!("/key{key}"), value(&mut random))).collect();
        for (key, value) in &values {
            rig.expect("PUT", key, value, 201);
        }
        values
    }

    /// What is left of the values on a volume with these mount options that is cut after `wait`.
    fn left(options: &str, wait: impl Fn(&Disk)) -> Option<Left> {
        let mut rig = Rig::new(NO_DISK, &[Some(options)], &["--replicas", "1"])?;
        put_values(&rig);
        let before = rig.volumes[0].files();
        wait(rig.disks[0].as_ref().unwrap());
        rig.cut_volumes();
        let after: BTreeMap<_, _> = rig.volumes[0].files().into_iter().collect();
        let mut left = Left::default();
        for (path, bytes) in before {
            match after.get(&path) {
                None => left.missing += 1,
                Some(found) if found.len() < bytes.len() => left.torn += 1,
                Some(found) => {
                    assert!(*found == bytes, "{path} has the right length, but wrong bytes");
                    left.whole += 1;
                }
            }
        }
        Some(left)
    }

    #[test]
    fn by_default_new_values_are_lost_and_those_of_the_last_seconds_are_torn() {
        let Some(left_at_once) = left("", at_once) else { return };
        assert_eq!(left_at_once.whole, 0, "{left_at_once:?}");
        let left_later = left("", Disk::commit_journal).unwrap();
        assert!(left_later.missing == 0 && left_later.torn > 0, "{left_later:?}");
        let left_old = left("", Disk::settle).unwrap();
        assert_eq!(left_old.whole, KEYS, "{left_old:?}");
    }

    #[test]
    fn without_delayed_allocation_new_values_are_lost_and_none_is_torn() {
        for options in ["nodelalloc", "data=journal"] {
            let Some(left_at_once) = left(options, at_once) else { return };
            assert_eq!(left_at_once.torn, 0, "{options}: {left_at_once:?}");
            let left_later = left(options, Disk::commit_journal).unwrap();
            assert_eq!(left_later.whole, KEYS, "{options}: {left_later:?}");
        }
    }

    #[test]
    fn with_sync_no_value_is_lost() {
        let Some(left) = left("sync", at_once) else { return };
        assert_eq!(left.whole, KEYS, "{left:?}");
    }

    /// Cuts a volume with these mount options under load, and counts the files whose contents were never
    /// sent.
    fn torn_under_load(options: &str) -> Option<usize> {
        let mut random = Random::seeded();
        let mut torn = 0;
        for _ in 0..rounds(1) {
            let mut rig = Rig::new(NO_DISK, &[Some(options)], &["--replicas", "1"])?;
            let mut load = Load::new(&mut random, Promise::SomeMoment);
            let (master, moment) = (rig.master.addr(), 50 + random.below(200));
            load.run(&master, |answers| {
                eventually("the clients get more answers", PATIENCE, || {
                    rig.disks[0].as_ref().unwrap().commit_journal();
                    answers.load(Ordering::Relaxed) as u64 >= moment
                });
                rig.cut();
            });
            rig.come_back();
            let sent = |bytes: &Vec<u8>| load.states().any(|state| state.as_ref() == Some(bytes));
            torn += rig.volumes[0].files().iter().filter(|(_, bytes)| !sent(bytes)).count();
            rig.master.restart();
            load.check(&master);
        }
        Some(torn)
    }

    #[test]
    fn by_default_values_are_torn_under_load() {
        let Some(torn) = torn_under_load("") else { return };
        assert!(torn > 0, "no file is torn, so the other tests prove nothing");
    }

    #[test]
    fn without_delayed_allocation_no_value_is_torn_under_load() {
        for options in ["nodelalloc", "data=journal"] {
            let Some(torn) = torn_under_load(options) else { return };
            assert_eq!(torn, 0, "{options}");
        }
    }

    /// One of three volumes is cut after `wait`.
    fn assert_other_replicas_serve_and_the_damage_is_reported_and_repaired(wait: impl Fn(&Disk)) {
        let volumes = [DEFAULT, NO_DISK, NO_DISK];
        let Some(mut rig) = Rig::new(NO_DISK, &volumes, &[]) else { return };
        let values = put_values(&rig);
        wait(rig.disks[0].as_ref().unwrap());
        rig.cut_volumes();
        for (key, value) in &values {
            assert_eq!(rig.replicas(value), 2, "the cut took the value of {key}");
            // replicas are tried in random order
            eventually("the damage is found", PATIENCE, || {
                assert!(follow(&rig.expect("GET", key, b"", 302)) == *value, "{key} has wrong bytes");
                let report =
                    |line: &str| line.contains("replica missing, torn or stale") && line.contains(key);
                rig.master.log().lines().any(report)
            });
        }
        let (by_the_master, by_the_tool) = values.split_at(KEYS / 2);
        for (key, value) in by_the_master {
            rig.expect("REBALANCE", key, b"", 204);
            assert_eq!(rig.replicas(value), 3, "{key}");
        }
        assert!(rig.master.terminate().success());
        let said = rig.tool(env!("CARGO_BIN_EXE_davkv-rebalance"));
        assert!(said.contains(&format!("repaired  {} replicas", by_the_tool.len())), "{said}");
        for (key, value) in &values {
            assert_eq!(rig.replicas(value), 3, "{key}");
        }
        assert_eq!(rig.files(), 3 * KEYS, "torn files are deleted");
        rig.master.restart();
        for (key, value) in &values {
            assert_eq!(rig.expect("GET", key, b"", 302).header("content-md5"), Some(&*hex_md5(value)));
        }
    }

    #[test]
    fn lost_replicas_are_reported_and_repaired_from_the_others() {
        assert_other_replicas_serve_and_the_damage_is_reported_and_repaired(at_once);
    }

    #[test]
    fn torn_replicas_are_reported_and_repaired_from_the_others() {
        assert_other_replicas_serve_and_the_damage_is_reported_and_repaired(Disk::commit_journal);
    }

    /// A rebuild doesn't know sizes, only that no value is empty.
    #[test]
    fn torn_replicas_are_repaired_after_a_rebuild_too() {
        let Some(mut rig) = Rig::new(NO_DISK, &[DEFAULT, NO_DISK, NO_DISK], &[]) else { return };
        let values = put_values(&rig);
        rig.disks[0].as_ref().unwrap().commit_journal();
        rig.cut_volumes();
        rig.master.kill();
        rig.rebuild();
        rig.tool(env!("CARGO_BIN_EXE_davkv-rebalance"));
        rig.master.restart();
        for (key, value) in &values {
            assert_eq!(rig.replicas(value), 3, "{key}");
            assert!(follow(&rig.expect("GET", key, b"", 302)) == *value, "{key} has wrong bytes");
        }
        assert_eq!(rig.files(), 3 * KEYS, "torn files are deleted");
    }

    /// Damage is reported as an error, not as absence or as a short value. The key can be written again.
    fn assert_is_damage(wait: impl Fn(&Disk)) {
        let Some(mut rig) = Rig::new(NO_DISK, &[DEFAULT; 3], &[]) else { return };
        let values = put_values(&rig);
        rig.disks.iter().flatten().for_each(wait);
        rig.cut_volumes();
        for (key, value) in &values {
            rig.expect("GET", key, b"", 500);
            rig.expect("REBALANCE", key, b"", 500);
            rig.expect("PUT", key, value, 403);
            rig.expect("DELETE", key, b"", 204);
            rig.expect("PUT", key, value, 201);
            assert!(follow(&rig.expect("GET", key, b"", 302)) == *value, "{key} has wrong bytes");
        }
        assert_eq!(rig.files(), 3 * KEYS);
    }

    #[test]
    fn a_value_lost_on_all_volumes_is_an_error() {
        assert_is_damage(at_once);
    }

    #[test]
    fn a_value_torn_on_all_volumes_is_an_error() {
        assert_is_damage(Disk::commit_journal);
    }

    fn seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    /// A value is deleted and another of the same length stored; the volume forgets both.
    fn assert_the_deleted_value_is_not_served(options: &str, flags: &[&str]) {
        let Some(mut rig) = Rig::new(NO_DISK, &[Some(options), NO_DISK, NO_DISK], flags) else { return };
        rig.expect("PUT", "/key", b"older", 201);
        rig.disks[0].as_ref().unwrap().settle();
        // file times are in seconds, and a rebuild tolerates a difference of two
        let begun = seconds();
        eventually("some seconds have passed", PATIENCE, || seconds() > begun + 3);
        rig.expect("DELETE", "/key", b"", 204);
        rig.expect("PUT", "/key", b"newer", 201);
        rig.cut_volumes();
        let forgetful = rig.volumes[0].files().iter().any(|(_, bytes)| bytes == b"older");
        assert!(forgetful || options == "sync", "the volume still has the newer value");
        let always_newer = |rig: &Rig| {
            for _ in 0..20 {
                assert_eq!(follow(&rig.expect("GET", "/key", b"", 302)), b"newer");
            }
        };
        always_newer(&rig);
        assert!(rig.master.terminate().success());
        rig.rebuild();
        rig.master.restart();
        always_newer(&rig);
    }

    #[test]
    fn a_deleted_value_is_not_served() {
        assert_the_deleted_value_is_not_served("", &[]);
    }

    #[test]
    fn with_sync_a_deleted_value_is_not_served() {
        assert_the_deleted_value_is_not_served("sync", &[]);
    }

    #[test]
    fn with_generation_names_a_deleted_value_is_not_served() {
        assert_the_deleted_value_is_not_served("", &["--names", "generation"]);
    }
}
