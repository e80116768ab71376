//! The master's view of volumes that are neither healthy nor dead: the real master over volumes whose answers
//! the test scripts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::http::{Connection, head, request};
use common::{Fake, Master, Recorded, Reply, Response, eventually};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::volume::{Addresses, Timeouts, Volumes};
use tokio::runtime::{Builder, Runtime};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Longer than the master keeps a volume down after the few outages of these tests.
const PATIENCE: Duration = Duration::from_secs(40);

/// The path that the master requests to find out whether a volume is healthy.
const PROBE: &str = "/00/00/probe";
/// Those of a master that isn't told otherwise.
const SUBVOLUMES: usize = 10;

const READERS: usize = 64;

/// A volume that is healthy until it is made sick; then it answers 500 to the requests that `illness`
/// selects.
struct SickVolume {
    fake: Fake,
    is_sick: Arc<AtomicBool>,
}

impl SickVolume {
    fn new(illness: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        Self::answering(Reply::Status(500), illness)
    }

    /// One that gives another answer than 500 while it is sick.
    fn answering(reply: Reply, illness: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        let is_sick = Arc::new(AtomicBool::new(false));
        let sick = Arc::clone(&is_sick);
        let script = move |request: &Recorded| {
            if sick.load(Ordering::SeqCst) && illness(request) { reply.clone() } else { Reply::Serve }
        };
        Self { fake: Fake::new(script), is_sick }
    }

    /// Behaves like a disk that was remounted read-only.
    fn that_deletes_nothing() -> Self {
        Self::new(|request| request.method == "DELETE")
    }

    fn set_sick(&self, is_sick: bool) {
        self.is_sick.store(is_sick, Ordering::SeqCst);
    }

    fn count(&self, method: &str) -> usize {
        let requests = self.fake.requests();
        requests.iter().filter(|request| request.method == method && request.target != PROBE).count()
    }

    fn most_deletions_of_a_file(&self) -> usize {
        let mut deletions = BTreeMap::<String, usize>::new();
        for request in self.fake.requests().into_iter().filter(|request| request.method == "DELETE") {
            *deletions.entry(request.target).or_default() += 1;
        }
        deletions.into_values().max().unwrap_or(0)
    }

    /// How often it was probed: how often all its markers were read, but for twice at the start.
    fn probes(&self) -> usize {
        (self.fake.identified() / SUBVOLUMES).saturating_sub(2)
    }
}

struct Rig {
    master: Master,
    volumes: Vec<SickVolume>,
    _tempdir: tempfile::TempDir,
}

impl Rig {
    fn new(volumes: Vec<SickVolume>, replicas: usize) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = volumes.iter().map(|sick| sick.fake.addr()).collect();
        let flags = ["--replicas", &replicas.to_string()];
        let master = Master::start(&tempdir.path().join("db"), &addresses, &flags);
        Self { master, volumes, _tempdir: tempdir }
    }

    fn status(&self, method: &str, target: &str) -> u16 {
        request(&self.master.addr(), method, target, &[], if method == "PUT" { b"value" } else { b"" }).status
    }

    /// Stores `count` values, and returns their keys with the index of their first volumes.
    fn store(&self, count: usize) -> Vec<(String, usize)> {
        let keys = (0..count).map(|number| format!("/key{number}"));
        let stored = keys.map(|key| {
            assert_eq!(self.status("PUT", &key), 201);
            let answer = request(&self.master.addr(), "HEAD", &key, &[], b"");
            let volumes = answer.header("key-volumes").unwrap();
            let on = |sick: &SickVolume| volumes.starts_with(&sick.fake.addr());
            let volume = self.volumes.iter().position(on).unwrap();
            (key, volume)
        });
        stored.collect()
    }

    /// Runs many readers at once; each GETs its key `times` times.
    fn read(&self, times: usize, key: impl Fn(usize) -> String + Sync) {
        let (addr, key) = (self.master.addr(), &key);
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let addr = &addr;
                scope.spawn(move || {
                    let mut connection = Connection::open(None, addr).unwrap();
                    for _ in 0..times {
                        connection.send(&head(addr, "GET", key(reader).as_bytes(), &[], 0)).unwrap();
                        assert!(matches!(connection.receive("GET").unwrap().status, 302 | 503));
                    }
                });
            }
        });
    }

    /// The master's log lines about the health of volumes.
    fn health_lines(&self) -> Vec<String> {
        let log = self.master.log();
        let lines = log.lines().filter(|line| line.contains("volume is") || line.contains("volume flaps"));
        lines.map(str::to_owned).collect()
    }
}

/// The most often that a flapping volume can have come up since then: its holds last 0.5 s, 1 s, 2 s, …
fn most_returns(since: Instant) -> usize {
    let halves = usize::try_from(since.elapsed().as_millis() / 500).unwrap();
    (halves + 1).ilog2() as usize
}

/// Runs a function once, on the thread that logs that a volume is up again, before that thread continues.
struct OnReturn(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl<S: tracing::Subscriber> Layer<S> for OnReturn {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Message(bool);
        impl Visit for Message {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                self.0 |= format!("{value:?}") == "volume is up again";
            }
        }
        let mut message = Message(false);
        event.record(&mut message);
        let act = self.0.lock().unwrap().take_if(|_| message.0);
        if let Some(act) = act {
            act();
        }
    }
}

#[test]
fn a_volume_that_fails_at_the_moment_of_its_return_is_used_again() {
    let probes_fail = Arc::new(AtomicBool::new(true));
    let fail_too = Arc::clone(&probes_fail);
    let sick = SickVolume::new(move |request| request.target != PROBE || fail_too.load(Ordering::SeqCst));
    let timeouts = Timeouts { request: Duration::from_secs(5), stream: Duration::from_secs(5) };
    let runtime = Runtime::new().unwrap();
    let volume = Volumes::new(Addresses::default(), timeouts).named(&sick.fake.addr());
    let fails = Arc::clone(&volume);
    let fail = move |runtime: &Runtime, paths: [&str; 3]| {
        for path in paths {
            assert!(runtime.block_on(fails.head(path)).is_err());
        }
        fails.is_down()
    };
    let (again, (told, tells)) = (fail.clone(), mpsc::channel());
    // on a separate runtime, because the volume's runtime waits for this function
    let again =
        move || again(&Builder::new_current_thread().enable_all().build().unwrap(), ["/d", "/e", "/f"]);
    let act = move || told.send(std::thread::spawn(again).join().unwrap()).unwrap();
    let subscriber = tracing_subscriber::registry().with(OnReturn(Mutex::new(Some(Box::new(act)))));
    tracing::subscriber::set_global_default(subscriber).unwrap();

    sick.set_sick(true);
    assert!(fail(&runtime, ["/a", "/b", "/c"]), "three files fail, and the volume isn't down");
    probes_fail.store(false, Ordering::SeqCst);
    assert!(tells.recv_timeout(PATIENCE).unwrap(), "three other files fail, and the volume isn't down");
    sick.set_sick(false);
    eventually("the volume is up", PATIENCE, || !volume.is_down());
}

#[test]
fn a_volume_whose_files_all_failed_is_used_again_after_recovery() {
    // the probe's path is still a 404, so that each probe finds the volume healthy
    let files_fail = |request: &Recorded| request.method == "HEAD" && request.target != PROBE;
    let rig = Rig::new(vec![SickVolume::new(files_fail)], 1);
    rig.store(READERS);
    rig.volumes[0].set_sick(true);
    rig.read(50, |reader| format!("/key{reader}"));
    rig.volumes[0].set_sick(false);
    eventually("values are stored on the volume", PATIENCE, || rig.status("PUT", "/new") == 201);
}

#[test]
fn a_volume_that_fails_deletions_is_retried_at_growing_intervals() {
    let rig = Rig::new(vec![SickVolume::that_deletes_nothing()], 1);
    let (keys, sick) = (rig.store(50), &rig.volumes[0]);
    let since = Instant::now();
    sick.set_sick(true);
    for (key, _) in &keys {
        assert_eq!(rig.status("DELETE", key), 204);
    }
    eventually("the volume flaps", PATIENCE, || sick.probes() >= 4);
    let (probes, deletions, lines) = (sick.probes(), sick.count("DELETE"), rig.health_lines());
    // upper bound on how often the volume was up
    let times_up = most_returns(since) + 1;
    // one when a hold is over, and one for each of the three files that take the volume down
    assert!(probes <= 4 * times_up, "{probes} probes while up {times_up} times");
    // those three, and the requests that were under way
    assert!(deletions <= 25 * times_up, "{deletions} deletions while up {times_up} times");
    assert!(lines.len() <= 2 + times_up, "up {times_up} times:\n{}", lines.join("\n"));
}

#[test]
fn the_return_of_a_volume_does_not_retry_deletions_on_other_volumes() {
    let rig = Rig::new(vec![SickVolume::that_deletes_nothing(), SickVolume::that_deletes_nothing()], 1);
    let keys = rig.store(60);
    let of = |volume: usize| keys.iter().filter(move |(_, on)| *on == volume).map(|(key, _)| key);
    let [flaps, waits] = [0, 1].map(|volume| &rig.volumes[volume]);
    let since = Instant::now();
    rig.volumes.iter().for_each(|sick| sick.set_sick(true));
    // a single failing file doesn't take its volume down
    assert_eq!(rig.status("DELETE", of(1).next().unwrap()), 204);
    for key in of(0) {
        assert_eq!(rig.status("DELETE", key), 204);
    }
    eventually("deletions on the flapping volume are retried", PATIENCE, || {
        flaps.most_deletions_of_a_file() >= 5
    });
    let deletions = waits.count("DELETE");
    // one by the request and one by the reaper at once, then after 1 s, 2 s, 4 s, …
    let most = 2 + usize::try_from((since.elapsed().as_secs() + 1).ilog2()).unwrap();
    assert!(deletions <= most, "{deletions} deletions, more than {most}");
}

#[test]
fn an_unreadable_file_does_not_take_its_volume_down() {
    let rotten = |request: &Recorded| request.method == "HEAD" && request.target != PROBE;
    let rig = Rig::new(vec![SickVolume::new(rotten), SickVolume::new(|_| false)], 2);
    rig.store(1);
    rig.volumes[0].set_sick(true);
    rig.read(50, |_| "/key0".to_owned());
    assert_eq!(rig.status("PUT", "/new"), 201);
    let lines = rig.health_lines();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn only_readers_of_an_unreadable_file_are_sent_to_other_volumes() {
    let (rotten, whole) = ("/key0", "/key1");
    let is_of = |key: &str| {
        let path = Key::new(key.as_bytes()).path(Name::Plain);
        move |request: &Recorded| request.method == "HEAD" && request.target.ends_with(&path)
    };
    let rig = Rig::new(vec![SickVolume::new(is_of(rotten)), SickVolume::new(|_| false)], 2);
    rig.store(2);
    let sick = &rig.volumes[0];
    let asked_for = |key| {
        let requests = sick.fake.requests();
        requests.iter().filter(|request| is_of(key)(request)).count()
    };
    let before = [rotten, whole].map(asked_for);
    sick.set_sick(true);
    for _ in 0..50 {
        assert_eq!([rotten, whole].map(|key| rig.status("GET", key)), [302, 302]);
    }
    // without that, half of the readers would ask this volume first
    assert!(asked_for(rotten) - before[0] <= 1, "{} more", asked_for(rotten) - before[0]);
    assert!(asked_for(whole) > before[1], "the volume of a readable file is skipped");
}

#[test]
fn a_read_only_volume_still_serves_values_without_other_replicas() {
    let rig = Rig::new(vec![SickVolume::that_deletes_nothing()], 1);
    let keys = rig.store(20);
    rig.volumes[0].set_sick(true);
    let mut kept = keys.iter().map(|(key, _)| key);
    let last = kept.next_back().unwrap();
    for key in kept {
        assert_eq!(rig.status("DELETE", key), 204);
    }
    let mut new = (0..).map(|number| format!("/new{number}"));
    eventually("the volume is down", PATIENCE, || rig.status("PUT", &new.next().unwrap()) == 503);
    // whether the volume is held down, or up for a moment
    for _ in 0..50 {
        assert_eq!(rig.status("GET", last), 302);
    }
}

#[test]
fn a_master_without_descriptors_takes_no_volume_for_down() {
    let rig = Rig::new((0..3).map(|_| SickVolume::new(|_| false)).collect(), 3);
    let addr = rig.master.addr();
    let mut client = Connection::open(None, &addr).unwrap();
    let mut ask = |method: &str, target: &str, body: &[u8]| {
        client.send(&[&head(&addr, method, target.as_bytes(), &[], body.len()), body].concat()).unwrap();
        client.receive(method).unwrap()
    };
    // the thread that serves this client has no connection to a volume yet
    assert_eq!(ask("GET", "/?alive", b"").status, 200);
    rig.master.limit_descriptors(Some(3));
    for _ in 0..4 {
        let answer = ask("PUT", "/key", b"value");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    }
    rig.master.limit_descriptors(None);
    let answer = ask("PUT", "/key", b"value");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let log = rig.master.log();
    assert_eq!(log.matches("the master lacks descriptors for connections to volumes").count(), 1, "{log}");
    assert!(!log.contains("volume is down"), "{log}");
}

/// More than one piece of a body, so that a master can't send it again.
const LONG: usize = 1 << 20;

/// Four volumes, of which some are full, and a master that keeps two replicas.
struct FullVolumes {
    master: Master,
    volumes: Vec<SickVolume>,
    placement: Placement,
    _tempdir: tempfile::TempDir,
}

impl FullVolumes {
    fn new() -> Self {
        // they answer as soon as they lack room, and close
        let volume = || SickVolume::answering(Reply::StatusAfter(0, 507), |request| request.method == "PUT");
        let volumes: Vec<_> = (0..4).map(|_| volume()).collect();
        let tempdir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = volumes.iter().map(|sick| sick.fake.addr()).collect();
        let flags = ["--replicas", "2"];
        let master = Master::start(&tempdir.path().join("db"), &addresses, &flags);
        let placement = Placement::new(addresses, 2, SUBVOLUMES.try_into().unwrap());
        Self { master, volumes, placement, _tempdir: tempdir }
    }

    fn fill(&self, count: usize) {
        self.volumes[..count].iter().for_each(|volume| volume.set_sick(true));
    }

    /// Keys that two full volumes come first for.
    fn unlucky(&self, prefix: &str) -> impl Iterator<Item = String> {
        let full: Vec<String> = self.volumes[..2].iter().map(|volume| volume.fake.addr()).collect();
        let is_unlucky = move |key: &String| {
            let wanted = self.placement.wanted(&Key::new(key.as_bytes()));
            wanted.iter().all(|place| full.iter().any(|volume| volume == place.volume()))
        };
        (0..).map(move |n| format!("/{prefix}{n}")).filter(is_unlucky)
    }

    fn put(&self, key: &str, length: usize) -> Response {
        request(&self.master.addr(), "PUT", key, &[], &vec![7; length])
    }
}

#[test]
fn no_client_is_told_that_the_volumes_are_full_while_enough_have_room() {
    let store = FullVolumes::new();
    store.fill(2);
    let first = store.unlucky("a").next().unwrap();
    let refusal = store.put(&first, LONG);
    assert_eq!((refusal.status, refusal.header("retry-after")), (503, Some("1")), "{}", refusal.text());
    assert_eq!(store.put(&first, LONG).status, 201);
    for key in store.unlucky("b").take(16) {
        assert_eq!(store.put(&key, LONG).status, 201);
    }
    let asked: usize = store.volumes[..2].iter().map(|volume| volume.count("PUT")).sum();
    assert!(asked < 16, "full volumes were tried {asked} times");
    // fewer than two have room, as far as the master comes to know
    store.fill(3);
    let statuses: Vec<u16> = store.unlucky("c").take(3).map(|key| store.put(&key, LONG).status).collect();
    assert_eq!(statuses, [507; 3]);
}

#[test]
fn a_value_of_one_piece_goes_on_to_volumes_with_room_at_once() {
    let store = FullVolumes::new();
    store.fill(2);
    for key in store.unlucky("a").take(4) {
        assert_eq!(store.put(&key, 100).status, 201);
    }
    store.fill(3);
    for key in store.unlucky("b").take(2) {
        assert_eq!(store.put(&key, 100).status, 507);
    }
    store.volumes.iter().for_each(|volume| volume.set_sick(false));
    // nothing was told to have room, and the value is stored
    assert_eq!(store.put("/c", 100).status, 201);
}
