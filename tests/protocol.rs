//! The specification of the write protocol.
//!
//! For each point at which the master can die, and for each way in which a volume can fail, the tests check
//! what the index and the volumes hold afterwards, and that only whole live values are left soon after the
//! restart.
//!
//! How to read a test: `rig.crash_in(…)` kills the master when a request has reached a given point, and
//! returns what is left: the files that the index's record names, those that its intents name, and those on
//! the volumes. A file is the index of a volume and a name. Each call of [`Rig::look`] also checks the
//! invariants: **the index names every file on the volumes**, and **every file is a whole value**.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::http::{self, Connection, Response, head, request, try_request};
use common::{Gate, Master, Order, Stage, Volume, eventually};
use davkv::index::{Index, Options};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Replica, State};

const PATIENCE: Duration = Duration::from_secs(30);

const KEY: &str = "/key";
const OLD: &[u8] = b"the value that was there first";
const NEW: &[u8] = b"the value that came later, and is longer";
const WRONG_MD5: &str = "00000000000000000000000000000000";

/// Needs many writes, and exceeds every buffer on the way.
fn long() -> Vec<u8> {
    (0..4_000_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect()
}

/// A file of the key: the index of its volume, and its name.
type File = (usize, Name);

/// What the index and the volumes hold of a key.
#[derive(Debug)]
struct Seen {
    /// the record's state, if there is one
    state: Option<State>,
    /// the files that the record names
    recorded: Vec<File>,
    /// the files that intents name
    intended: Vec<File>,
    /// the files that lie on the volumes
    stored: Vec<File>,
}

impl Seen {
    fn is_nothing(&self) -> bool {
        self.state.is_none() && self.intended.is_empty() && self.stored.is_empty()
    }
}

/// The plain names on these volumes.
fn plain(volumes: impl IntoIterator<Item = usize>) -> Vec<File> {
    volumes.into_iter().map(|volume| (volume, Name::Plain)).collect()
}

fn volumes_of(files: &[File]) -> Vec<usize> {
    files.iter().map(|(volume, _)| *volume).collect()
}

fn all_generation(files: &[File]) -> bool {
    files.iter().all(|(_, name)| matches!(name, Name::Generation(_)))
}

/// Real volumes, a gate before each, and a master that knows the gates.
struct Rig {
    // fields drop in this order: the master first, the directory last
    master: Master,
    gates: Vec<Gate>,
    volumes: Vec<Volume>,
    addresses: Vec<String>,
    db: PathBuf,
    key: String,
    _tempdir: tempfile::TempDir,
}

impl Rig {
    /// A store on `volumes` volumes, with a gate in front of each.
    fn new(volumes: usize, flags: &[&str]) -> Self {
        Self::with_spare(volumes, 0, flags)
    }

    /// A store on `used` volumes, and `spare` ones that the master doesn't know yet.
    fn with_spare(used: usize, spare: usize, flags: &[&str]) -> Self {
        Self::build(used, used + spare, true, flags)
    }

    /// The master talks to the volumes directly, so that killing or pausing a volume has its full effect.
    fn ungated(volumes: usize) -> Self {
        Self::build(volumes, volumes, false, &[])
    }

    fn build(used: usize, all: usize, behind_gates: bool, flags: &[&str]) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let start = |n| Volume::start(&tempdir.path().join(format!("volume{n}")));
        let volumes: Vec<_> = (0..all).map(start).collect();
        let gates: Vec<_> =
            if behind_gates { volumes.iter().map(Gate::before).collect() } else { Vec::new() };
        let addresses: Vec<_> = if behind_gates {
            gates.iter().map(Gate::addr).collect()
        } else {
            volumes.iter().map(Volume::addr).collect()
        };
        let db = tempdir.path().join("db");
        let master = Master::start(&db, &addresses[..used], flags);
        Self { master, gates, volumes, addresses, db, key: KEY.to_owned(), _tempdir: tempdir }
    }

    fn send(&self, method: &str, body: &[u8]) -> Response {
        request(&self.master.addr(), method, &self.key, &[], body)
    }

    fn status(&self, method: &str, body: &[u8]) -> u16 {
        self.send(method, body).status
    }

    /// GETs the key and follows the redirect.
    fn fetch(&self) -> Response {
        let answer = self.send("GET", b"");
        match answer.header("location") {
            Some(location) if answer.status == 302 => http::get_url(location),
            _ => answer,
        }
    }

    /// Sends the request on a new thread.
    fn begin(&self, method: &'static str, body: &[u8]) -> JoinHandle<io::Result<Response>> {
        let (addr, key, body) = (self.master.addr(), self.key.clone(), body.to_vec());
        std::thread::spawn(move || try_request(None, &addr, method, key.as_bytes(), &[], &body))
    }

    /// Gives this order at all gates.
    fn order(&self, method: &str, order: Order) {
        for gate in &self.gates {
            gate.order(method, order);
        }
    }

    fn open_gates(&self) {
        for gate in &self.gates {
            gate.open();
        }
    }

    /// Sends the request, kills the master when `reached` holds, and looks.
    fn crash_in(&mut self, method: &'static str, body: &[u8], reached: impl Fn(&Self) -> bool) -> Seen {
        let sent = self.begin(method, body);
        eventually("the request reaches the point of the crash", PATIENCE, || reached(self));
        self.master.kill();
        assert!(sent.join().unwrap().is_err(), "{method} was answered before the crash");
        self.look()
    }

    /// Kills the master, whatever it is doing, and looks.
    fn crash(&mut self) -> Seen {
        self.master.kill();
        self.look()
    }

    /// What the index and the volumes hold of the key; the master must be down.
    fn look(&self) -> Seen {
        let options = Options { create: false, cache_bytes: 1 << 20, sync: false };
        let index = Index::open(&self.db, options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let entry = runtime.block_on(index.entry(&self.id())).unwrap();
        let files = |replicas: Vec<Replica>| {
            let mut files: Vec<_> = replicas.iter().map(|replica| self.file(replica)).collect();
            files.sort_unstable();
            files
        };
        let intended = entry.intents.into_iter().flat_map(|intent| intent.files).collect();
        let state = entry.record.as_ref().map(|record| record.state);
        let recorded = entry.record.map_or_else(Vec::new, |record| record.replicas);
        let stored = self.stored();
        let seen = Seen {
            state,
            recorded: files(recorded),
            intended: files(intended),
            stored: stored.keys().copied().collect(),
        };
        for (file, bytes) in &stored {
            assert!(
                seen.recorded.contains(file) || seen.intended.contains(file),
                "the index doesn't name {file:?}: {seen:?}"
            );
            assert!(bytes == OLD || bytes == NEW || *bytes == long(), "{file:?} is not a whole value");
        }
        seen
    }

    fn id(&self) -> Key {
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(&self.key).collect();
        Key::new(&decoded)
    }

    fn file(&self, replica: &Replica) -> File {
        let volume = self.addresses.iter().position(|address| address == replica.place.volume());
        (volume.unwrap(), replica.name)
    }

    /// All files on the volumes, with their bytes. Panics if a file is not the key's.
    fn stored(&self) -> BTreeMap<File, Vec<u8>> {
        let mut stored = BTreeMap::new();
        for (number, volume) in self.volumes.iter().enumerate() {
            for (path, bytes) in volume.files() {
                let (_subvolume, path) = path.split_at(path.find('/').unwrap());
                let (key, name) = Key::from_path(path).expect("the path of a key's file");
                assert_eq!(key, self.id());
                stored.insert((number, name), bytes);
            }
        }
        stored
    }

    /// The number of volumes that hold a file.
    fn holding(&self) -> usize {
        self.volumes.iter().filter(|volume| !volume.files().is_empty()).count()
    }

    /// The first `used` volumes, by their rank for the key.
    fn rank(&self, used: usize) -> Vec<usize> {
        let volumes = self.addresses[..used].to_vec();
        let placement = Placement::new(volumes, 3, 10);
        let places = placement.rank(&self.id());
        places.iter().map(|place| self.file(&Replica { place: place.clone(), name: Name::Plain }).0).collect()
    }

    /// Waits until the volumes hold exactly three whole replicas of `value` (or nothing at all), and asserts
    /// that this value is served.
    #[track_caller]
    fn assert_nothing_but(&self, value: Option<&[u8]>) {
        let files = if value.is_some() { 3 } else { 0 };
        eventually("the volumes hold only whole live values", PATIENCE, || {
            let stored = self.stored();
            stored.len() == files && stored.values().all(|bytes| Some(bytes.as_slice()) == value)
        });
        let answer = self.fetch();
        match value {
            Some(value) => assert!(answer.status == 200 && answer.body == value),
            None => assert_eq!(answer.status, 404),
        }
    }

    /// After a crash: starts the master again, and asserts that only `value` is left and that the key can be
    /// written.
    #[track_caller]
    fn assert_recovers_to(&mut self, value: Option<&[u8]>) {
        self.open_gates();
        self.master.restart();
        self.assert_nothing_but(value);
        if value.is_some() {
            assert_eq!(self.status("DELETE", b""), 204);
        }
        assert_eq!(self.status("PUT", NEW), 201);
        self.assert_nothing_but(Some(NEW));
    }

    /// The name under which the value is served now.
    fn served_name(&self) -> Name {
        let answer = self.send("HEAD", b"");
        assert_eq!(answer.status, 302);
        let url = answer.header("location").unwrap();
        let path = url.strip_prefix("http://").unwrap().splitn(3, '/').nth(2).unwrap();
        Key::from_path(&format!("/{path}")).unwrap().1
    }
}

mod crash_during_put {
    use super::*;

    #[test]
    fn before_any_replica_has_bytes_only_the_intent_exists() {
        let mut rig = Rig::new(3, &[]);
        rig.order("PUT", Order::Hold);
        let seen =
            rig.crash_in("PUT", OLD, |rig| rig.gates.iter().all(|gate| gate.count("PUT", Stage::Held) == 1));
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, []);
        rig.assert_recovers_to(None);
    }

    #[test]
    fn with_one_replica_stored_the_intent_names_all_three() {
        let mut rig = Rig::new(3, &[]);
        rig.order("PUT", Order::Hold);
        rig.gates[0].order("PUT", Order::Pass);
        let seen = rig.crash_in("PUT", OLD, |rig| {
            rig.holding() == 1 && rig.gates[1..].iter().all(|gate| gate.count("PUT", Stage::Held) == 1)
        });
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, plain([0]));
        rig.assert_recovers_to(None);
    }

    #[test]
    fn with_all_replicas_stored_and_one_unanswered_there_is_no_record() {
        let mut rig = Rig::new(3, &[]);
        rig.gates[2].order("PUT", Order::HoldAnswer);
        let seen = rig.crash_in("PUT", OLD, |rig| {
            rig.holding() == 3 && rig.gates[2].count("PUT", Stage::AnswerHeld) == 1
        });
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, plain(0..3));
        rig.assert_recovers_to(None);
    }

    #[test]
    fn in_the_middle_of_a_long_value_no_file_exists() {
        let mut rig = Rig::new(3, &[]);
        let mut client = Connection::open(None, &rig.master.addr()).unwrap();
        client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &[], long().len())).unwrap();
        client.send(&long()[..long().len() / 2]).unwrap();
        eventually("all volumes receive the upload", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 1)
        });
        let seen = rig.crash();
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, []);
        rig.assert_recovers_to(None);
        eventually("the partial uploads are gone", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 0)
        });
    }

    #[test]
    fn while_a_replica_is_replaced_the_intent_names_the_new_volume_too() {
        let mut rig = Rig::new(5, &[]);
        let rank = rig.rank(5);
        rig.gates[rank[0]].order("PUT", Order::CutAfter(200_000));
        rig.gates[rank[3]].order("PUT", Order::HoldAnswer);
        let seen =
            rig.crash_in("PUT", &long(), |rig| rig.gates[rank[3]].count("PUT", Stage::AnswerHeld) == 1);
        let sorted = |ranks: &[usize]| {
            let mut files = plain(ranks.iter().copied());
            files.sort_unstable();
            files
        };
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, sorted(&rank[..4]));
        assert_eq!(seen.stored, sorted(&rank[1..4]));
        rig.assert_recovers_to(None);
    }

    #[test]
    fn after_the_201_only_the_record_exists() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        let seen = rig.crash();
        assert_eq!(seen.state, Some(State::Live));
        assert_eq!(seen.recorded, plain(0..3));
        assert_eq!(seen.intended, []);
        assert_eq!(seen.stored, plain(0..3));
        rig.assert_recovers_to(Some(OLD));
    }

    #[test]
    fn a_crash_while_replacing_an_unlinked_value_keeps_it() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("UNLINK", b""), 204);
        rig.gates[0].order("PUT", Order::HoldAnswer);
        let seen = rig.crash_in("PUT", NEW, |rig| rig.stored().len() == 6);
        assert_eq!(seen.state, Some(State::Unlinked));
        assert_eq!(seen.recorded, plain(0..3));
        assert_eq!(volumes_of(&seen.intended), [0, 1, 2]);
        assert!(all_generation(&seen.intended), "{seen:?}");
        rig.open_gates();
        rig.master.restart();
        assert_eq!(rig.status("RELINK", b""), 204);
        rig.assert_nothing_but(Some(OLD));
    }

    /// nginx still carries out requests that were sent before the crash.
    #[test]
    fn a_put_that_arrives_after_a_newer_write_does_no_harm_and_is_reaped() {
        let mut rig = Rig::new(3, &["--quarantine", "15s"]);
        rig.order("PUT", Order::Hold);
        rig.crash_in("PUT", OLD, |rig| rig.gates.iter().all(|gate| gate.count("PUT", Stage::Held) == 1));
        rig.open_gates();
        rig.master.restart();
        assert_eq!(rig.status("PUT", NEW), 201);
        assert!(matches!(rig.served_name(), Name::Generation(_)));
        rig.gates[0].release();
        eventually("the late PUT creates its file", PATIENCE, || {
            // 201 shows that no file had this name
            let requests = rig.gates[0].requests();
            requests.iter().find(|(method, ..)| method == "PUT").unwrap().2 == Stage::Answered(201)
        });
        rig.assert_nothing_but(Some(NEW));
    }

    #[test]
    fn the_plain_name_is_not_reused_during_the_quarantine() {
        let mut rig = Rig::new(3, &["--quarantine", "1s", "--readergrace", "1ms"]);
        rig.order("PUT", Order::Hold);
        rig.crash_in("PUT", OLD, |rig| rig.gates.iter().all(|gate| gate.count("PUT", Stage::Held) == 1));
        rig.open_gates();
        rig.master.restart();
        eventually("the plain name is free again", PATIENCE, || {
            assert_eq!(rig.status("PUT", NEW), 201);
            let name = rig.served_name();
            assert_eq!(rig.status("DELETE", b""), 204);
            name == Name::Plain
        });
        assert!(rig.crash().is_nothing());
    }
}

mod put_and_client_failures {
    use super::*;

    #[test]
    fn a_client_that_disconnects_midway_leaves_nothing() {
        let mut rig = Rig::ungated(3);
        let mut client = Connection::open(None, &rig.master.addr()).unwrap();
        client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &[], long().len())).unwrap();
        client.send(&long()[..long().len() / 2]).unwrap();
        eventually("all volumes receive the upload", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 1)
        });
        drop(client);
        eventually("the partial uploads are gone", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 0)
        });
        eventually("the key can be written", PATIENCE, || match rig.status("PUT", NEW) {
            201 => true,
            status => {
                assert_eq!(status, 409, "only the aborted attempt may block the key");
                false
            }
        });
        rig.assert_nothing_but(Some(NEW));
        let seen = rig.crash();
        assert_eq!(seen.recorded, seen.stored);
    }

    #[test]
    fn a_client_that_disconnects_between_chunks_leaves_nothing() {
        let mut rig = Rig::ungated(3);
        let mut client = Connection::open(None, &rig.master.addr()).unwrap();
        let chunked = [("Transfer-Encoding", "chunked")];
        client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &chunked, 0)).unwrap();
        for piece in long().chunks(65_536).take(10) {
            client.send(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            client.send(&[piece, b"\r\n"].concat()).unwrap();
        }
        eventually("all volumes receive the upload", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 1)
        });
        drop(client);
        eventually("the partial uploads are gone", PATIENCE, || {
            rig.volumes.iter().all(|volume| volume.temporary_files() == 0)
        });
        rig.assert_nothing_but(None);
        assert_eq!(rig.crash().stored, []);
    }

    /// An incomplete value cannot arrive later, so the index keeps no intent for it.
    #[test]
    fn repeated_interrupted_uploads_do_not_block_the_key() {
        let rig = Rig::ungated(3);
        for _ in 0..100 {
            let mut client = Connection::open(None, &rig.master.addr()).unwrap();
            client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &[], long().len())).unwrap();
            client.send(&long()[..100]).unwrap();
            client.finish().unwrap();
            assert_eq!(client.receive("PUT").unwrap().status, 400);
        }
        assert_eq!(rig.status("PUT", NEW), 201);
        rig.assert_nothing_but(Some(NEW));
    }

    #[test]
    fn a_client_that_stops_sending_gets_408_and_leaves_nothing() {
        let rig = Rig::new(3, &["--clienttimeout", "1s"]);
        let mut client = Connection::open(None, &rig.master.addr()).unwrap();
        client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &[], long().len())).unwrap();
        client.send(&long()[..long().len() / 2]).unwrap();
        assert_eq!(client.receive("PUT").unwrap().status, 408);
        assert_eq!(rig.status("PUT", NEW), 201);
        rig.assert_nothing_but(Some(NEW));
    }

    #[test]
    fn a_client_that_disconnects_after_the_last_byte_has_stored_the_value() {
        let mut rig = Rig::new(3, &[]);
        rig.order("PUT", Order::Hold);
        let mut client = Connection::open(None, &rig.master.addr()).unwrap();
        client.send(&head(&rig.master.addr(), "PUT", KEY.as_bytes(), &[], OLD.len())).unwrap();
        client.send(OLD).unwrap();
        eventually("all gates hold the upload", PATIENCE, || {
            rig.gates.iter().all(|gate| gate.count("PUT", Stage::Held) == 1)
        });
        drop(client);
        rig.gates.iter().for_each(Gate::release);
        eventually("the value is served", PATIENCE, || rig.status("GET", b"") == 302);
        let seen = rig.crash();
        assert_eq!((seen.recorded, seen.intended), (plain(0..3), vec![]));
        rig.assert_recovers_to(Some(OLD));
    }

    #[test]
    fn a_wrong_content_md5_leaves_nothing() {
        let mut rig = Rig::new(3, &[]);
        let wrong = [("Content-MD5", WRONG_MD5)];
        assert_eq!(request(&rig.master.addr(), "PUT", KEY, &wrong, OLD).status, 400);
        assert!(rig.crash().is_nothing());
    }

    #[test]
    fn a_wrong_content_md5_does_not_use_up_the_plain_name() {
        let rig = Rig::new(3, &[]);
        let wrong = [("Content-MD5", WRONG_MD5)];
        assert_eq!(request(&rig.master.addr(), "PUT", KEY, &wrong, OLD).status, 400);
        assert_eq!(rig.status("PUT", NEW), 201);
        assert_eq!(rig.served_name(), Name::Plain);
    }
}

mod crash_during_delete {
    use super::*;

    fn held(rig: &Rig, volumes: &[usize], stage: Stage) -> bool {
        volumes.iter().all(|&volume| rig.gates[volume].count("DELETE", stage) == 1)
    }

    fn rig() -> Rig {
        let rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig
    }

    #[test]
    fn before_any_file_is_deleted_the_record_is_gone_and_an_intent_names_the_files() {
        let mut rig = rig();
        rig.order("DELETE", Order::Hold);
        let seen = rig.crash_in("DELETE", b"", |rig| held(rig, &[0, 1, 2], Stage::Held));
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, plain(0..3));
        rig.assert_recovers_to(None);
    }

    #[test]
    fn with_one_file_deleted_the_intent_still_names_all() {
        let mut rig = rig();
        rig.order("DELETE", Order::Hold);
        rig.gates[0].order("DELETE", Order::Pass);
        let seen = rig.crash_in("DELETE", b"", |rig| held(rig, &[1, 2], Stage::Held) && rig.holding() == 2);
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, plain([1, 2]));
        rig.assert_recovers_to(None);
    }

    #[test]
    fn with_all_files_deleted_and_no_answer_the_intent_remains() {
        let mut rig = rig();
        rig.order("DELETE", Order::HoldAnswer);
        let seen = rig.crash_in("DELETE", b"", |rig| held(rig, &[0, 1, 2], Stage::AnswerHeld));
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, []);
        rig.assert_recovers_to(None);
    }

    #[test]
    fn after_the_204_nothing_is_left() {
        let mut rig = rig();
        assert_eq!(rig.status("DELETE", b""), 204);
        assert!(rig.crash().is_nothing());
        rig.assert_recovers_to(None);
    }

    #[test]
    fn a_delete_that_arrives_after_a_newer_write_does_no_harm() {
        let mut rig = rig();
        rig.order("DELETE", Order::Hold);
        rig.crash_in("DELETE", b"", |rig| held(rig, &[0, 1, 2], Stage::Held));
        rig.assert_recovers_to(None);
        for gate in &rig.gates {
            gate.release();
        }
        eventually("the late DELETEs are carried out", PATIENCE, || {
            rig.gates.iter().all(|gate| gate.count("DELETE", Stage::Held) == 0)
                && rig.gates.iter().all(|gate| gate.count("DELETE", Stage::Arrived) == 0)
        });
        rig.assert_nothing_but(Some(NEW));
        let seen = rig.crash();
        assert_eq!(seen.recorded, seen.stored);
    }
}

mod delete_and_volume_failures {
    use super::*;

    #[test]
    fn a_volume_that_is_down_delays_nothing_and_its_file_is_deleted_when_it_returns() {
        let mut rig = Rig::ungated(3);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.volumes[0].kill();
        assert_eq!(rig.status("DELETE", b""), 204);
        assert_eq!(rig.status("GET", b""), 404);
        assert_eq!(rig.stored().into_keys().collect::<Vec<_>>(), plain([0]));
        rig.volumes[0].restart();
        rig.assert_nothing_but(None);
    }

    #[test]
    fn a_volume_that_hangs_delays_nothing_and_its_file_is_deleted_when_it_returns() {
        let rig = Rig::ungated(3);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.volumes[0].pause();
        assert_eq!(rig.status("DELETE", b""), 204);
        assert_eq!(rig.status("GET", b""), 404);
        rig.volumes[0].resume();
        rig.assert_nothing_but(None);
    }

    #[test]
    fn a_volume_that_refuses_deletes_its_file_when_it_recovers() {
        let rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.gates[0].order("DELETE", Order::Answer(500));
        assert_eq!(rig.status("DELETE", b""), 204);
        assert_eq!(rig.stored().into_keys().collect::<Vec<_>>(), plain([0]));
        rig.open_gates();
        rig.assert_nothing_but(None);
    }

    #[test]
    fn the_intent_for_a_volume_that_is_down_survives_a_crash() {
        let mut rig = Rig::ungated(3);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.volumes[0].kill();
        assert_eq!(rig.status("DELETE", b""), 204);
        let seen = rig.crash();
        assert_eq!(seen.state, None);
        assert!(seen.intended.contains(&(0, Name::Plain)), "{seen:?}");
        assert_eq!(seen.stored, plain([0]));
        rig.volumes[0].restart();
        rig.assert_recovers_to(None);
    }

    #[test]
    fn a_delete_that_arrives_after_a_newer_write_does_no_harm() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.gates[0].order("DELETE", Order::Hold);
        assert_eq!(rig.status("DELETE", b""), 204);
        rig.open_gates();
        assert_eq!(rig.status("PUT", NEW), 201);
        rig.gates[0].release();
        eventually("the late DELETE is carried out", PATIENCE, || {
            rig.gates[0].count("DELETE", Stage::Held) == 0
                && rig.gates[0].count("DELETE", Stage::Arrived) == 0
        });
        rig.assert_nothing_but(Some(NEW));
        let seen = rig.crash();
        assert_eq!(seen.recorded, seen.stored);
    }
}

mod crash_after_unlink_and_relink {
    use super::*;

    #[test]
    fn an_unlinked_value_is_hidden_and_kept() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("UNLINK", b""), 204);
        let seen = rig.crash();
        assert_eq!(seen.state, Some(State::Unlinked));
        assert_eq!(seen.intended, []);
        assert_eq!((seen.recorded, seen.stored), (plain(0..3), plain(0..3)));
        rig.master.restart();
        assert_eq!(rig.status("GET", b""), 404);
        assert_eq!(rig.status("RELINK", b""), 204);
        rig.assert_nothing_but(Some(OLD));
    }

    #[test]
    fn a_relinked_value_is_live() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("UNLINK", b""), 204);
        assert_eq!(rig.status("RELINK", b""), 204);
        let seen = rig.crash();
        assert_eq!(seen.state, Some(State::Live));
        assert_eq!(seen.intended, []);
        assert_eq!((seen.recorded, seen.stored), (plain(0..3), plain(0..3)));
        rig.assert_recovers_to(Some(OLD));
    }
}

mod rebalance_and_failures {
    use super::*;

    /// The index of the added volume in these tests.
    const ADDED: usize = 3;

    /// A value on volumes 0 to 2 whose placement is volume 3 instead of the returned one; the master knows
    /// all four.
    fn rig(flags: &[&str]) -> (Rig, usize) {
        let mut rig = Rig::with_spare(3, 1, flags);
        let mut keys = (0..).map(|n| format!("/key{n}"));
        while rig.rank(4)[..3].iter().all(|volume| *volume != ADDED) {
            rig.key = keys.next().unwrap();
        }
        assert_eq!(rig.status("PUT", OLD), 201);
        assert!(rig.master.terminate().success());
        rig.master = Master::start(&rig.db, &rig.addresses, flags);
        let leaving = rig.rank(4)[3];
        assert_eq!(rig.send("HEAD", b"").header("key-balance"), Some("unbalanced"));
        (rig, leaving)
    }

    fn staying(leaving: usize) -> Vec<File> {
        plain((0..4).filter(|volume| *volume != leaving))
    }

    /// Asserts that the value is served, that a REBALANCE moves it, and that nothing else is left.
    #[track_caller]
    fn assert_can_be_balanced(rig: &mut Rig) {
        rig.open_gates();
        rig.master.restart();
        rig.assert_nothing_but(Some(OLD));
        assert_eq!(rig.status("REBALANCE", b""), 204);
        assert_eq!(rig.send("HEAD", b"").header("key-balance"), Some("balanced"));
        assert_eq!(rig.fetch().body, OLD);
        // surplus files wait for readers, but not across a restart
        rig.master.restart();
        rig.assert_nothing_but(Some(OLD));
    }

    #[test]
    fn before_the_copy_the_value_is_where_it_was() {
        let (mut rig, _) = rig(&[]);
        rig.gates[ADDED].order("PUT", Order::Hold);
        let seen = rig.crash_in("REBALANCE", b"", |rig| rig.gates[ADDED].count("PUT", Stage::Held) == 1);
        assert_eq!(seen.state, Some(State::Live));
        assert_eq!((seen.recorded, seen.stored), (plain(0..3), plain(0..3)));
        assert_eq!(seen.intended, plain([ADDED]));
        assert_can_be_balanced(&mut rig);
    }

    #[test]
    fn between_copy_and_commit_an_intent_names_the_copy() {
        let (mut rig, _) = rig(&[]);
        rig.gates[ADDED].order("PUT", Order::HoldAnswer);
        let seen =
            rig.crash_in("REBALANCE", b"", |rig| rig.gates[ADDED].count("PUT", Stage::AnswerHeld) == 1);
        assert_eq!(seen.state, Some(State::Live));
        assert_eq!(seen.recorded, plain(0..3));
        assert_eq!(seen.intended, plain([ADDED]));
        assert_eq!(seen.stored, plain(0..4));
        assert_can_be_balanced(&mut rig);
    }

    #[test]
    fn between_commit_and_deletion_an_intent_names_the_surplus() {
        let (mut rig, leaving) = rig(&[]);
        assert_eq!(rig.status("REBALANCE", b""), 204);
        let seen = rig.crash();
        assert_eq!(seen.state, Some(State::Live));
        assert_eq!(seen.recorded, staying(leaving));
        assert_eq!(seen.intended, plain([leaving]));
        assert_eq!(seen.stored, plain(0..4));
        rig.assert_recovers_to(Some(OLD));
    }

    #[test]
    fn a_copy_that_arrives_after_the_value_has_moved_does_no_harm_and_is_reaped() {
        let (mut rig, leaving) = rig(&["--quarantine", "15s"]);
        rig.gates[ADDED].order("PUT", Order::Hold);
        rig.crash_in("REBALANCE", b"", |rig| rig.gates[ADDED].count("PUT", Stage::Held) == 1);
        rig.open_gates();
        rig.master.restart();
        assert_eq!(rig.status("REBALANCE", b""), 204);
        rig.gates[ADDED].release();
        eventually("the late copy creates its file", PATIENCE, || {
            let requests = rig.gates[ADDED].requests();
            requests.iter().find(|(method, ..)| method == "PUT").unwrap().2 == Stage::Answered(201)
        });
        rig.master.restart();
        rig.assert_nothing_but(Some(OLD));
        let seen = rig.crash();
        assert_eq!(seen.recorded, seen.stored);
        assert!(!volumes_of(&seen.recorded).contains(&leaving), "{seen:?}");
    }

    #[test]
    fn a_target_that_fails_leaves_the_value_where_it_was() {
        for (order, status) in [(Order::Answer(500), 507), (Order::Garbage, 503), (Order::CutAfter(9), 503)] {
            let (mut rig, _) = rig(&[]);
            rig.gates[ADDED].order("PUT", order);
            assert_eq!(rig.status("REBALANCE", b""), status, "{order:?}");
            assert_eq!(rig.fetch().body, OLD);
            let seen = rig.crash();
            assert_eq!((seen.recorded, seen.stored), (plain(0..3), plain(0..3)), "{order:?}");
            assert_can_be_balanced(&mut rig);
        }
    }

    /// The bytes have the right size, so that only the MD5 differs.
    #[test]
    fn a_source_with_wrong_bytes_is_not_copied() {
        let (rig, _) = rig(&[]);
        let mut wrong = OLD.to_vec();
        wrong[3] ^= 1;
        let best = rig.rank(3)[0];
        std::fs::write(rig.volumes[best].dir().join(&rig.volumes[best].files()[0].0), wrong).unwrap();
        assert_eq!(rig.status("REBALANCE", b""), 204);
        assert_eq!(rig.volumes[ADDED].files()[0].1, OLD);
    }

    #[test]
    fn a_missing_and_a_torn_replica_are_repaired() {
        let (mut rig, leaving) = rig(&[]);
        let staying: Vec<_> = (0..3).filter(|volume| *volume != leaving).collect();
        let path = |volume: usize| rig.volumes[volume].dir().join(&rig.volumes[volume].files()[0].0);
        std::fs::remove_file(path(staying[0])).unwrap();
        std::fs::write(path(staying[1]), &OLD[1..]).unwrap();
        assert_eq!(rig.status("REBALANCE", b""), 204);
        rig.master.restart();
        rig.assert_nothing_but(Some(OLD));
    }

    #[test]
    fn an_unlinked_value_stays_unlinked() {
        let (mut rig, leaving) = rig(&[]);
        assert_eq!(rig.status("UNLINK", b""), 204);
        assert_eq!(rig.status("REBALANCE", b""), 204);
        let seen = rig.crash();
        assert_eq!(seen.state, Some(State::Unlinked));
        assert_eq!(seen.recorded, staying(leaving));
    }
}

mod put_and_volume_failures {
    use super::*;

    /// Asserts that a PUT succeeds with three whole replicas elsewhere, when the first volume by rank fails
    /// and there are more volumes than needed.
    #[track_caller]
    fn assert_goes_elsewhere(mut rig: Rig, value: &[u8], fail: impl Fn(&mut Rig, usize)) {
        let bad = rig.rank(rig.volumes.len())[0];
        fail(&mut rig, bad);
        assert_eq!(rig.status("PUT", value), 201);
        let stored = rig.stored();
        let good: Vec<_> = stored.iter().filter(|((volume, _), _)| *volume != bad).collect();
        assert_eq!(good.len(), 3, "{:?}", stored.keys());
        assert!(good.iter().all(|(_, bytes)| *bytes == value), "a replica isn't whole");
        let seen = rig.crash();
        let good: Vec<_> = good.into_iter().map(|(file, _)| *file).collect();
        assert_eq!((seen.state, seen.recorded), (Some(State::Live), good));
    }

    /// Asserts that a PUT gets one of these statuses when one of three volumes fails, that nothing is left,
    /// and that the key can be written after the volume recovers.
    #[track_caller]
    fn assert_refused(
        mut rig: Rig,
        value: &[u8],
        statuses: &[u16],
        fail: impl Fn(&mut Rig, usize),
        mend: impl Fn(&mut Rig, usize),
    ) {
        fail(&mut rig, 1);
        let answer = rig.send("PUT", value);
        assert!(statuses.contains(&answer.status), "{} {}", answer.status, answer.text());
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 503);
        assert_eq!(rig.status("GET", b""), 404);
        mend(&mut rig, 1);
        rig.assert_nothing_but(None);
        eventually("the volume is in use again", PATIENCE, || match rig.status("PUT", NEW) {
            201 => true,
            status => {
                assert_eq!(status, 503, "only the volume's health may block the key");
                false
            }
        });
        rig.assert_nothing_but(Some(NEW));
    }

    fn gate_order(order: Order) -> impl Fn(&mut Rig, usize) {
        move |rig, bad| rig.gates[bad].order("PUT", order)
    }

    fn open(rig: &mut Rig, _: usize) {
        rig.open_gates();
    }

    fn kill(rig: &mut Rig, bad: usize) {
        rig.volumes[bad].kill();
    }

    fn restart(rig: &mut Rig, bad: usize) {
        rig.volumes[bad].restart();
    }

    fn pause(rig: &mut Rig, bad: usize) {
        rig.volumes[bad].pause();
    }

    fn resume(rig: &mut Rig, bad: usize) {
        rig.volumes[bad].resume();
    }

    #[test]
    fn a_volume_that_refuses_connections_is_replaced() {
        assert_goes_elsewhere(Rig::ungated(5), OLD, kill);
    }

    #[test]
    fn a_volume_that_refuses_connections_is_replaced_for_a_long_value() {
        assert_goes_elsewhere(Rig::ungated(5), &long(), kill);
    }

    #[test]
    fn a_needed_volume_that_refuses_connections_causes_503() {
        assert_refused(Rig::ungated(3), OLD, &[503], kill, restart);
    }

    #[test]
    fn a_volume_that_answers_500_is_replaced() {
        assert_goes_elsewhere(Rig::new(5, &[]), OLD, gate_order(Order::Answer(500)));
    }

    #[test]
    fn a_volume_that_answers_500_is_replaced_for_a_long_value() {
        assert_goes_elsewhere(Rig::new(5, &[]), &long(), gate_order(Order::Answer(500)));
    }

    /// nginx answers 500 when its disk is full.
    #[test]
    fn a_needed_volume_that_answers_500_causes_507() {
        assert_refused(Rig::new(3, &[]), OLD, &[507], gate_order(Order::Answer(500)), open);
    }

    #[test]
    fn a_volume_that_answers_507_is_replaced() {
        assert_goes_elsewhere(Rig::new(5, &[]), OLD, gate_order(Order::Answer(507)));
    }

    #[test]
    fn a_needed_volume_that_answers_507_causes_507() {
        assert_refused(Rig::new(3, &[]), &long(), &[507], gate_order(Order::Answer(507)), open);
    }

    #[test]
    fn a_volume_that_answers_garbage_is_replaced() {
        assert_goes_elsewhere(Rig::new(5, &[]), OLD, gate_order(Order::Garbage));
    }

    #[test]
    fn a_needed_volume_that_answers_garbage_causes_503() {
        assert_refused(Rig::new(3, &[]), OLD, &[503], gate_order(Order::Garbage), open);
    }

    #[test]
    fn a_volume_that_closes_midway_is_replaced_by_a_copy_of_a_whole_replica() {
        assert_goes_elsewhere(Rig::new(5, &[]), &long(), gate_order(Order::CutAfter(200_000)));
    }

    #[test]
    fn a_needed_volume_that_closes_midway_causes_503() {
        assert_refused(Rig::new(3, &[]), &long(), &[503], gate_order(Order::CutAfter(200_000)), open);
    }

    #[test]
    fn a_volume_that_answers_500_midway_is_replaced_by_a_copy_of_a_whole_replica() {
        assert_goes_elsewhere(Rig::new(5, &[]), &long(), gate_order(Order::AnswerAfter(200_000, 500)));
    }

    /// A volume that answers midway can't have the whole value.
    #[test]
    fn a_volume_that_answers_201_midway_is_replaced_by_a_copy_of_a_whole_replica() {
        assert_goes_elsewhere(Rig::new(5, &[]), &long(), gate_order(Order::AnswerAfter(200_000, 201)));
    }

    /// The copy is made from the other whole replica.
    #[test]
    fn a_volume_that_closes_midway_is_replaced_though_one_whole_replica_is_unreadable() {
        assert_goes_elsewhere(Rig::new(5, &[]), &long(), |rig, bad| {
            let rank = rig.rank(5);
            rig.gates[bad].order("PUT", Order::CutAfter(200_000));
            rig.gates[rank[1]].order("GET", Order::Answer(500));
        });
    }

    /// A volume that has other bytes than it was sent holds no replica.
    #[test]
    fn a_volume_that_closes_midway_is_replaced_and_so_is_a_rotten_source_of_the_copy() {
        let rig = Rig::new(5, &["--voltimeout", "20s"]);
        let rank = rig.rank(5);
        rig.gates[rank[0]].order("PUT", Order::CutAfter(200_000));
        rig.gates[rank[1]].order("GET", Order::Hold);
        let put = rig.begin("PUT", &long());
        eventually("the copy is made from it", PATIENCE, || {
            rig.gates[rank[1]].count("GET", Stage::Held) == 1
        });
        let (path, mut bytes) = rig.volumes[rank[1]].files().remove(0);
        bytes[0] = !bytes[0];
        fs::write(rig.volumes[rank[1]].dir().join(path), bytes).unwrap();
        rig.open_gates();
        rig.gates[rank[1]].release();
        assert_eq!(put.join().unwrap().unwrap().status, 201);
        rig.assert_nothing_but(Some(&long()));
    }

    #[test]
    fn a_failing_volume_and_its_failing_replacement_are_both_replaced() {
        assert_goes_elsewhere(Rig::new(6, &[]), &long(), |rig, _| {
            let rank = rig.rank(6);
            rig.gates[rank[0]].order("PUT", Order::CutAfter(200_000));
            rig.gates[rank[3]].order("PUT", Order::CutAfter(200_000));
        });
    }

    #[test]
    fn a_volume_that_never_answers_is_replaced() {
        assert_goes_elsewhere(Rig::ungated(5), OLD, pause);
    }

    #[test]
    fn a_volume_that_never_answers_is_replaced_for_a_long_value() {
        assert_goes_elsewhere(Rig::ungated(5), &long(), pause);
    }

    #[test]
    fn a_needed_volume_that_never_answers_causes_503() {
        assert_refused(Rig::ungated(3), OLD, &[503], pause, resume);
    }

    /// The volume has the whole value, but its answer is lost.
    #[test]
    fn a_volume_whose_answer_is_lost_is_replaced_and_an_intent_names_its_file() {
        let mut rig = Rig::new(5, &["--streamtimeout", "2s"]);
        let bad = rig.rank(5)[0];
        rig.gates[bad].order("PUT", Order::HoldAnswer);
        // so that its file stays
        rig.order("DELETE", Order::Answer(500));
        assert_eq!(rig.status("PUT", OLD), 201);
        let seen = rig.crash();
        assert!(!volumes_of(&seen.recorded).contains(&bad), "{seen:?}");
        assert_eq!(seen.recorded.len(), 3);
        assert_eq!(seen.intended, plain([bad]));
        assert_eq!(seen.stored.len(), 4);
        rig.assert_recovers_to(Some(OLD));
    }

    /// The client got a 503, and has written another value since.
    #[test]
    fn a_put_that_a_volume_carries_out_too_late_does_no_harm_and_is_reaped() {
        let mut rig = Rig::new(3, &["--streamtimeout", "1s", "--quarantine", "15s"]);
        rig.gates[1].order("PUT", Order::Hold);
        assert_eq!(rig.status("PUT", OLD), 503);
        rig.open_gates();
        assert_eq!(rig.status("PUT", NEW), 201);
        rig.gates[1].release();
        eventually("the late PUT creates its file", PATIENCE, || {
            let requests = rig.gates[1].requests();
            requests.iter().find(|(method, ..)| method == "PUT").unwrap().2 == Stage::Answered(201)
        });
        rig.assert_nothing_but(Some(NEW));
        let seen = rig.crash();
        assert_eq!(seen.recorded, seen.stored);
    }

    #[test]
    fn an_intent_names_the_files_of_a_refused_value_until_they_are_deleted() {
        let mut rig = Rig::new(3, &[]);
        rig.gates[1].order("PUT", Order::Answer(507));
        rig.order("DELETE", Order::Answer(500));
        assert_eq!(rig.status("PUT", OLD), 507);
        let seen = rig.crash();
        assert_eq!(seen.state, None);
        assert_eq!(seen.intended, plain(0..3));
        assert_eq!(seen.stored, plain([0, 2]));
        rig.assert_recovers_to(None);
    }
}

mod get_and_volume_failures {
    use super::*;

    /// A value on three volumes.
    fn rig(gated: bool) -> Rig {
        let rig = if gated { Rig::new(3, &[]) } else { Rig::ungated(3) };
        assert_eq!(rig.status("PUT", OLD), 201);
        rig
    }

    /// Asserts a 503 rather than a 404, because the key may exist.
    #[track_caller]
    fn assert_unavailable(rig: &Rig) {
        let answer = rig.send("GET", b"");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    }

    /// GETs the value often enough that the replicas are tried in every order.
    #[track_caller]
    fn assert_served(rig: &Rig) {
        for _ in 0..6 {
            let answer = rig.fetch();
            assert_eq!((answer.status, answer.body.as_slice()), (200, OLD), "{}", answer.text());
        }
    }

    #[test]
    fn one_live_replica_is_enough_when_the_others_are_down() {
        let mut rig = rig(false);
        rig.volumes[0].kill();
        rig.volumes[1].kill();
        assert_served(&rig);
    }

    #[test]
    fn one_live_replica_is_enough_when_the_others_hang() {
        let rig = rig(false);
        rig.volumes[0].pause();
        rig.volumes[1].pause();
        assert_served(&rig);
    }

    #[test]
    fn one_live_replica_is_enough_when_the_others_answer_500() {
        let rig = rig(true);
        rig.gates[0].order("HEAD", Order::Answer(500));
        rig.gates[1].order("HEAD", Order::Answer(500));
        assert_served(&rig);
    }

    #[test]
    fn one_live_replica_is_enough_when_the_others_answer_garbage() {
        let rig = rig(true);
        rig.gates[0].order("HEAD", Order::Garbage);
        rig.gates[1].order("HEAD", Order::Garbage);
        assert_served(&rig);
    }

    #[test]
    fn torn_and_missing_replicas_are_skipped() {
        let rig = rig(false);
        let path = |volume: usize| rig.volumes[volume].dir().join(&rig.volumes[volume].files()[0].0);
        std::fs::write(path(0), &OLD[1..]).unwrap();
        std::fs::remove_file(path(1)).unwrap();
        assert_served(&rig);
    }

    #[test]
    fn a_replica_that_was_whole_is_checked_again_only_after_the_recheck_time() {
        let mut rig = Rig::new(3, &["--recheck", "1h"]);
        let looked_at = |rig: &Rig| {
            let requests = rig.gates.iter().flat_map(Gate::requests);
            requests.filter(|(method, ..)| method == "HEAD").count()
        };
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_served(&rig);
        assert_eq!(looked_at(&rig), 0);
        rig.master.restart();
        (0..5).for_each(|_| assert_served(&rig));
        // one check of each replica, when the first reader is sent to it
        assert!((1..=3).contains(&looked_at(&rig)));
    }

    #[test]
    fn with_all_volumes_down_get_is_503_until_they_return() {
        let mut rig = rig(false);
        rig.volumes.iter_mut().for_each(Volume::kill);
        assert_unavailable(&rig);
        rig.volumes.iter_mut().for_each(Volume::restart);
        eventually("the value is served again", PATIENCE, || rig.fetch().body == OLD);
    }

    #[test]
    fn with_all_volumes_hanging_get_is_503_until_they_return() {
        let rig = rig(false);
        rig.volumes.iter().for_each(Volume::pause);
        assert_unavailable(&rig);
        rig.volumes.iter().for_each(Volume::resume);
        eventually("the value is served again", PATIENCE, || rig.fetch().body == OLD);
    }

    #[test]
    fn with_all_volumes_answering_500_get_is_503() {
        let rig = rig(true);
        rig.order("HEAD", Order::Answer(500));
        assert_unavailable(&rig);
    }

    #[test]
    fn with_one_volume_down_and_the_other_replicas_missing_get_is_503() {
        let mut rig = rig(false);
        for volume in &rig.volumes[1..] {
            std::fs::remove_file(volume.dir().join(&volume.files()[0].0)).unwrap();
        }
        rig.volumes[0].kill();
        assert_unavailable(&rig);
    }

    #[test]
    fn with_all_replicas_missing_get_is_500_rather_than_404() {
        let rig = rig(false);
        for volume in &rig.volumes {
            std::fs::remove_file(volume.dir().join(&volume.files()[0].0)).unwrap();
        }
        assert_eq!(rig.status("GET", b""), 500);
    }
}

mod names {
    use super::*;

    #[test]
    fn a_plain_name_for_an_unknown_key() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.crash().recorded, plain(0..3));
    }

    #[test]
    fn a_plain_name_again_after_a_delete_that_all_volumes_have_answered() {
        let mut rig = Rig::new(3, &["--readergrace", "1ms"]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("DELETE", b""), 204);
        let deleted = Instant::now();
        eventually("the readers' grace is over", PATIENCE, || deleted.elapsed() > Duration::from_millis(10));
        assert_eq!(rig.status("PUT", NEW), 201);
        assert_eq!(rig.crash().recorded, plain(0..3));
    }

    /// A plain name would let these readers see the new value before its PUT is done.
    #[test]
    fn a_generation_name_while_readers_may_hold_a_redirect_to_the_deleted_value() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("DELETE", b""), 204);
        assert_eq!(rig.status("PUT", NEW), 201);
        assert_ne!(rig.crash().recorded, plain(0..3));
    }

    #[test]
    fn a_generation_name_while_an_intent_exists() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        rig.gates[0].order("DELETE", Order::Answer(500));
        assert_eq!(rig.status("DELETE", b""), 204);
        assert_eq!(rig.status("PUT", NEW), 201);
        let seen = rig.crash();
        assert!(all_generation(&seen.recorded), "{seen:?}");
    }

    #[test]
    fn a_generation_name_over_an_unlinked_value() {
        let mut rig = Rig::new(3, &[]);
        assert_eq!(rig.status("PUT", OLD), 201);
        assert_eq!(rig.status("UNLINK", b""), 204);
        assert_eq!(rig.status("PUT", NEW), 201);
        let seen = rig.crash();
        assert!(all_generation(&seen.recorded), "{seen:?}");
        assert_eq!(seen.intended, plain(0..3));
        rig.assert_recovers_to(Some(NEW));
    }

    #[test]
    fn a_fresh_generation_for_each_attempt() {
        let mut rig = Rig::new(3, &["--names", "generation"]);
        let mut names = Vec::new();
        for _ in 0..3 {
            assert_eq!(rig.status("PUT", OLD), 201);
            names.push(rig.served_name());
            assert_eq!(rig.status("DELETE", b""), 204);
            rig.crash();
            rig.master.restart();
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!names.contains(&Name::Plain), "{names:?}");
    }

    #[test]
    fn a_generation_name_where_the_plain_name_would_be_a_directory() {
        let mut rig = Rig::new(3, &[]);
        rig.key = "/a%3F".to_owned();
        assert!(!rig.id().has_plain_name());
        assert_eq!(rig.status("PUT", OLD), 201);
        let seen = rig.crash();
        assert!(all_generation(&seen.recorded), "{seen:?}");
        rig.assert_recovers_to(Some(OLD));
    }
}
