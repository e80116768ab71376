//! Faults at random moments under load: the master killed again and again, a volume killed, frozen or
//! full. What was acknowledged holds, and nothing else is left on the volumes.
//!
//! The moments and values come from a seed, which each test prints; `DAVKV_SEED` sets it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http::{self, Response, try_request};
use common::{Cluster, Gate, Master, Order, Volume, eventually};
use davkv::index::{Index, Options};
use davkv::key::Key;
use davkv::record::Replica;

/// How long after a restart anything may lie around that the index doesn't want.
const TIDY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

const CLIENTS: u64 = 6;
/// Few, so that each is written, read and deleted often.
const KEYS_PER_CLIENT: u64 = 8;

/// Reproducible numbers (`SplitMix64`; Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    /// The seed of this run, printed.
    fn seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = std::env::var("DAVKV_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
        println!("DAVKV_SEED={seed}");
        seed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A value that no other is like, of one piece or of many.
    fn value(&mut self, longest: u64) -> Vec<u8> {
        let length = match self.below(4) {
            0 => longest / 2 + self.below(longest / 2),
            _ => 16 + self.below(4096),
        };
        let mut value = format!("{:016x}", self.next()).into_bytes();
        let mut filler = Random(self.next());
        while value.len() < usize::try_from(length).unwrap() {
            value.extend(filler.next().to_le_bytes());
        }
        value
    }
}

/// What a key may hold: the last acknowledged state, and those that unanswered requests may have made.
/// `None` is no value.
type Possible = Vec<Option<Vec<u8>>>;

/// One client's keys. Nobody else writes them, so their history is known.
struct Client {
    random: Random,
    keys: BTreeMap<String, Possible>,
    /// of values, in bytes
    longest: u64,
}

/// What the clients and the test tell each other.
#[derive(Default)]
struct Load {
    acknowledged: AtomicUsize,
    stop: AtomicBool,
    /// answers with which any request may be refused, without having done anything
    refusals: &'static [u16],
    refused: AtomicUsize,
}

impl Client {
    fn all(seed: u64, longest: u64) -> Vec<Self> {
        let mut random = Random(seed);
        let client = |number: u64| {
            let names = (0..KEYS_PER_CLIENT).map(|key| format!("/client{number}/key{key}"));
            let keys = names.map(|name| (name, vec![None])).collect();
            Self { random: Random(random.next()), keys, longest }
        };
        (0..CLIENTS).map(client).collect()
    }

    /// Sends requests until the load stops, or one gets no answer. A wrong answer panics.
    fn run(&mut self, master: &str, load: &Load) {
        while !load.stop.load(Ordering::Relaxed) {
            let number = usize::try_from(self.random.below(KEYS_PER_CLIENT)).unwrap();
            let name = self.keys.keys().nth(number).unwrap().clone();
            let possible = self.keys.get_mut(&name).unwrap();
            assert_eq!(possible.len(), 1, "what is in doubt was looked at before the load");
            let value = possible[0].clone();
            let (method, body) = match (&value, self.random.below(3)) {
                (None, 0 | 1) => ("PUT", self.random.value(self.longest)),
                (Some(_), 0) => ("DELETE", Vec::new()),
                _ => ("GET", Vec::new()),
            };
            let after = match method {
                "PUT" => Some(body.clone()),
                "DELETE" => None,
                _ => value.clone(),
            };
            possible.push(after.clone());
            let Ok(answer) = try_request(None, master, method, name.as_bytes(), &[], &body) else { return };
            if load.refusals.contains(&answer.status) {
                load.refused.fetch_add(1, Ordering::Relaxed);
                *possible = vec![value];
                continue;
            }
            let expected = match (method, &value) {
                ("PUT", _) => 201,
                ("DELETE", _) => 204,
                (_, Some(_)) => 302,
                (_, None) => 404,
            };
            assert_eq!(answer.status, expected, "{method} {name}: {}", answer.text());
            *possible = vec![after];
            load.acknowledged.fetch_add(1, Ordering::Relaxed);
            if let (302, Some(value)) = (answer.status, &value)
                && let Some(bytes) = follow(&answer)
            {
                assert!(bytes == *value, "{name} was read with wrong bytes");
            }
        }
    }

    /// Each key holds one of the things that it may hold; from now on only that one.
    fn check(&mut self, master: &str) {
        for (name, possible) in &mut self.keys {
            let mut answer = http::request(master, "GET", name, &[], b"");
            eventually("volumes that were down are up", PATIENCE, || {
                if answer.status == 503 {
                    answer = http::request(master, "GET", name, &[], b"");
                }
                answer.status != 503
            });
            let found = match answer.status {
                404 => None,
                302 => Some(follow(&answer).expect("a volume that was just seen to be well")),
                status => panic!("GET {name}: {status} {}", answer.text()),
            };
            let what = |value: &Option<Vec<u8>>| match value {
                None => "nothing".to_owned(),
                Some(value) => {
                    format!(
                        "{} bytes {}",
                        value.len(),
                        String::from_utf8_lossy(&value[..value.len().min(16)])
                    )
                }
            };
            let expected: Vec<_> = possible.iter().map(what).collect();
            assert!(possible.contains(&found), "{name} holds {}, not one of {expected:?}", what(&found));
            *possible = vec![found];
        }
    }

    fn values(&self) -> usize {
        self.keys.values().filter(|possible| possible[0].is_some()).count()
    }
}

/// The bytes behind a redirect; `None` where the volume has gone since.
fn follow(answer: &Response) -> Option<Vec<u8>> {
    let url = answer.header("location").unwrap().strip_prefix("http://").unwrap();
    let (addr, path) = url.split_at(url.find('/').unwrap());
    let answer = try_request(None, addr, "GET", path.as_bytes(), &[], b"").ok()?;
    assert_eq!(answer.status, 200, "{url}");
    Some(answer.body)
}

/// Tells the clients to stop.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// Lets the clients run beside `act`; they end when it does, or when nobody answers them.
    fn run(&self, clients: &mut [Client], master: &str, act: impl FnOnce()) {
        std::thread::scope(|scope| {
            let running = self.start(scope, clients, master);
            // also when `act` panics: the scope waits for the clients before it lets that through
            let stop = StopOnDrop(&self.stop);
            act();
            drop(stop);
            for client in running {
                client.join().unwrap();
            }
        });
        self.stop.store(false, Ordering::Relaxed);
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        clients: &'scope mut [Client],
        master: &'scope str,
    ) -> Vec<std::thread::ScopedJoinHandle<'scope, ()>> {
        clients.iter_mut().map(|client| scope.spawn(move || client.run(master, self))).collect()
    }

    /// Waits until the clients have got so many more answers.
    fn wait_for(&self, answers: usize) {
        let end = self.acknowledged.load(Ordering::Relaxed) + answers;
        eventually("the load goes on", PATIENCE, || self.acknowledged.load(Ordering::Relaxed) >= end);
    }
}

fn check_all(clients: &mut [Client], master: &str) {
    for client in clients {
        client.check(master);
    }
}

/// Soon, the volumes hold three files for each value, and no others.
#[track_caller]
fn assert_tidy(volumes: &[Volume], clients: &[Client]) {
    let values: usize = clients.iter().map(Client::values).sum();
    eventually("nothing lies on the volumes but the values", TIDY, || {
        volumes.iter().map(|volume| volume.files().len()).sum::<usize>() == 3 * values
    });
}

/// The master is down: the index names what is on the volumes, and nothing else.
#[track_caller]
fn assert_index_and_volumes_agree(db: &Path, volumes: &[Volume], addresses: &[String], clients: &[Client]) {
    let options = Options { create: false, cache_bytes: 1 << 20, sync: false };
    let index = Index::open(db, options).unwrap();
    let mut report = String::new();
    let mut found = Vec::new();
    for (volume, address) in volumes.iter().zip(addresses) {
        for (path, bytes) in volume.files() {
            let (directory, path) = path.split_at(path.find('/').unwrap());
            let (key, name) = Key::from_path(path).expect("a key's file");
            let entry = index.get(&key).unwrap();
            let place = format!("{address}/{directory}");
            let is_this = |file: &Replica| file.name == name && file.place.as_str() == place;
            if entry.record.is_some_and(|record| record.replicas.iter().any(is_this)) {
                found.push((key, bytes));
            } else {
                let intended = entry.intents.iter().any(|intent| intent.files.iter().any(is_this));
                let by = if intended { "an intent" } else { "nothing" };
                writeln!(report, "{place} holds a file of {key} ({name:?}) that {by} names").unwrap();
            }
        }
    }
    assert!(report.is_empty(), "{report}");
    for (name, possible) in clients.iter().flat_map(|client| &client.keys) {
        let key = Key::new(name.as_bytes());
        let replicas: Vec<_> = found.iter().filter(|(other, _)| *other == key).map(|(_, b)| b).collect();
        match &possible[0] {
            None => assert!(replicas.is_empty(), "{name} is gone, and has files"),
            Some(value) => assert_eq!(replicas, [value; 3], "the replicas of {name}"),
        }
        let recorded = index.record(&key).unwrap().is_some();
        assert_eq!(recorded, possible[0].is_some(), "{name} in the index");
    }
}

/// Ends the master kindly, and looks at everything.
#[track_caller]
fn assert_sound(mut cluster: Cluster, clients: &[Client]) {
    assert_tidy(&cluster.volumes, clients);
    assert!(cluster.master.terminate().success());
    let addresses: Vec<_> = cluster.volumes.iter().map(Volume::addr).collect();
    let db = cluster.tempdir.path().join("db");
    assert_index_and_volumes_agree(&db, &cluster.volumes, &addresses, clients);
}

#[test]
fn a_master_killed_at_random_moments_loses_nothing_and_leaves_nothing() {
    const ROUNDS: usize = 6;
    let seed = Random::seed();
    let mut random = Random(seed);
    let mut clients = Client::all(seed, 300_000);
    let mut cluster = Cluster::new(3, &[]);
    let load = Load::default();
    for _ in 0..ROUNDS {
        let (master, answers) = (cluster.master.addr(), usize::try_from(random.below(500)).unwrap());
        load.run(&mut clients, &master, || {
            load.wait_for(answers);
            cluster.master.kill();
        });
        cluster.master.restart();
        check_all(&mut clients, &master);
        assert_tidy(&cluster.volumes, &clients);
    }
    assert_sound(cluster, &clients);
}

#[test]
fn a_master_killed_in_the_middle_of_its_recovery_loses_nothing_and_leaves_nothing() {
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let mut cluster = Cluster::new(3, &[]);
    let load = Load::default();
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        load.wait_for(100);
        cluster.master.kill();
    });
    for _ in 0..5 {
        // it listens when it has just taken up what it shall clean up
        cluster.master.restart();
        cluster.master.kill();
    }
    cluster.master.restart();
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
}

#[test]
fn a_master_terminated_under_load_finishes_what_it_began() {
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let mut cluster = Cluster::new(3, &[]);
    let load = Load::default();
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        load.wait_for(200);
        assert!(cluster.master.terminate().success());
    });
    // nothing is left for the next start to clean up
    let db = cluster.tempdir.path().join("db");
    let options = Options { create: false, cache_bytes: 1 << 20, sync: false };
    let index = Index::open(&db, options).unwrap();
    for name in clients.iter().flat_map(|client| client.keys.keys()) {
        assert_eq!(index.get(&Key::new(name.as_bytes())).unwrap().intents, [], "{name}");
    }
    drop(index);
    cluster.master.restart();
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
}

#[test]
fn a_volume_killed_under_load_is_done_without_and_tidied_when_it_is_back() {
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let mut cluster = Cluster::new(4, &[]);
    let load = Load::default();
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        load.wait_for(100);
        cluster.volumes[0].kill();
        load.wait_for(400);
        cluster.volumes[0].restart();
        load.wait_for(100);
    });
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
}

#[test]
fn a_volume_frozen_under_load_is_done_without_and_tidied_when_it_is_back() {
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let cluster = Cluster::new(4, &["--quarantine", "5s"]);
    let load = Load::default();
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        load.wait_for(100);
        cluster.volumes[0].pause();
        load.wait_for(400);
        cluster.volumes[0].resume();
        load.wait_for(100);
    });
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
}

/// Requests to volumes are refused, cut, or carried out late or without an answer, and the master is
/// killed on top.
#[test]
fn nothing_is_lost_or_left_when_all_of_it_happens_at_once() {
    const ROUNDS: usize = 3;
    let seed = Random::seed();
    let mut random = Random(seed);
    let mut clients = Client::all(seed, 300_000);
    let load = Load { refusals: &[409, 503, 507], ..Load::default() };
    let tempdir = tempfile::tempdir().unwrap();
    let volumes: Vec<_> =
        (0..5).map(|number| Volume::start(&tempdir.path().join(format!("volume{number}")))).collect();
    let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
    let addresses: Vec<_> = gates.iter().map(Gate::addr).collect();
    let db = tempdir.path().join("db");
    let flags = ["--voltimeout", "300ms", "--streamtimeout", "1s", "--quarantine", "5s"];
    let mut master = Master::start(&db, &addresses, &flags);
    let address = master.addr();
    for _ in 0..ROUNDS {
        for gate in &gates {
            let mut random = Random(random.next());
            gate.rule(move |method, _| match (method, random.below(100)) {
                ("PUT" | "DELETE", 0) => Some(Order::Hold),
                ("PUT" | "DELETE", 1) => Some(Order::HoldAnswer),
                ("PUT" | "DELETE", 2) => Some(Order::Answer(500)),
                ("PUT", 3) => Some(Order::CutAfter(1000)),
                _ => None,
            });
        }
        let answers = usize::try_from(200 + random.below(300)).unwrap();
        load.run(&mut clients, &address, || {
            let mut polls = 0;
            eventually("the load goes on", PATIENCE, || {
                polls += 1;
                // twice a second: what is held lands late, but within the quarantine
                if polls % 25 == 0 {
                    gates.iter().for_each(Gate::release);
                }
                load.acknowledged.load(Ordering::Relaxed) >= answers
            });
            load.acknowledged.store(0, Ordering::Relaxed);
            master.kill();
        });
        gates.iter().for_each(Gate::open);
        master.restart();
        // what was held before the crash lands after it
        gates.iter().for_each(Gate::release);
        check_all(&mut clients, &address);
    }
    assert_tidy(&volumes, &clients);
    assert!(master.terminate().success());
    assert_index_and_volumes_agree(&db, &volumes, &addresses, &clients);
}

/// A file system of its own, as small as a megabyte; only root can have one.
struct TinyDisk(PathBuf);

impl TinyDisk {
    /// `None`, with the reason printed, where none can be had.
    fn mount(dir: &Path) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(dir.to_owned())),
            Ok(output) => {
                println!("skipped, no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped, no mount: {error}");
                None
            }
        }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // lazily: what still has a file open there is about to end
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// As [`Cluster::new`], where the first volume's disk is tiny. The disk goes last.
fn cluster_with_a_tiny_disk(volumes: usize) -> Option<(Cluster, TinyDisk)> {
    let tempdir = tempfile::tempdir().unwrap();
    let dir = |number: usize| tempdir.path().join(format!("volume{number}"));
    let disk = TinyDisk::mount(&dir(0))?;
    let volumes: Vec<_> = (0..volumes).map(|number| Volume::start(&dir(number))).collect();
    let addresses: Vec<_> = volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&tempdir.path().join("db"), &addresses, &[]);
    Some((Cluster { master, volumes, tempdir }, disk))
}

#[test]
fn a_full_volume_is_done_without_where_there_are_others() {
    let Some((cluster, disk)) = cluster_with_a_tiny_disk(4) else { return };
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let load = Load::default();
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        eventually("the volume is full", PATIENCE, || cluster.volumes[0].log().contains("No space left"));
        load.wait_for(300);
    });
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
    drop(disk);
}

#[test]
fn a_full_volume_that_is_needed_is_a_507_and_never_a_short_value() {
    let Some((cluster, disk)) = cluster_with_a_tiny_disk(3) else { return };
    let seed = Random::seed();
    let mut clients = Client::all(seed, 300_000);
    let load = Load { refusals: &[507], ..Load::default() };
    let master = cluster.master.addr();
    load.run(&mut clients, &master, || {
        eventually("the volume is full", PATIENCE, || load.refused.load(Ordering::Relaxed) >= 20);
    });
    check_all(&mut clients, &master);
    assert_sound(cluster, &clients);
    drop(disk);
}
