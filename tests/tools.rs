//! The offline tools, run as an operator runs them: `davkv-rebuild` and `davkv-rebalance` on real volumes.
//!
//! A test fills a [`Rig`], by a master or by hand, ends the master, runs a tool, and compares what the index
//! names with what lies on the volumes. Random choices come from a seed, which is printed; `DAVKV_SEED`
//! sets it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]
#![allow(clippy::print_stdout, reason = "the seed of a failed run is needed to repeat it")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use common::{Fake, Gate, Master, Order, Reply, Response, Stage, Volume, eventually, free_port, request};
use davkv::index::{Index, Options};
use davkv::key::{Key, Name};
use davkv::leveldb::{self, Database};
use davkv::placement::Placement;
use davkv::record::{Intent, Record, Replica, State};
use md5::{Digest as _, Md5};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const REBUILD: &str = env!("CARGO_BIN_EXE_davkv-rebuild");
const REBALANCE: &str = env!("CARGO_BIN_EXE_davkv-rebalance");

const PATIENCE: Duration = Duration::from_secs(40);

const REPLICAS: usize = 3;

/// What is stored: each key's state and value.
type Model = BTreeMap<Key, (State, Vec<u8>)>;

/// A file: number of the volume, and path below its directory.
type Stored = (usize, String);

/// `SplitMix64`.
struct Random(u64);

impl Random {
    /// Seeded anew, or by `DAVKV_SEED`.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let given = std::env::var("DAVKV_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
        println!("DAVKV_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn value(&mut self) -> Vec<u8> {
        let length = 1 + self.below(3000);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn key(text: &str) -> Key {
    Key::new(text.as_bytes())
}

/// Keys of all kinds: plain ones, ones whose base64 has a `/` within, at its end, or twice, and ones whose
/// names are cut into pieces.
fn keys(count: usize) -> Vec<Key> {
    let one = |n: usize| match n % 6 {
        0 => format!("/plain/{n}"),
        1 => format!("/??{n}??{n}"),
        2 => format!("/ÿÿÿ{n}/ÿ?ÿ?"),
        3 => format!("/{n:02}?????"),
        4 => format!("/long{n}/{}", "?a".repeat(20 + n % 9)),
        _ => format!("/{n}{}", "x".repeat(2046 - n.to_string().len())),
    };
    let keys: Vec<_> = (0..count).map(|n| key(&one(n))).collect();
    if count >= 6 {
        assert!(keys.iter().any(|key| !key.has_plain_name()), "one that only a generation name fits");
        assert!(keys.iter().any(|key| key.path(Name::Plain).contains('~')), "one that is cut");
    }
    keys
}

/// What a program has said.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// A figure of the summary: the count, or the exact number of bytes.
    #[track_caller]
    fn figure(&self, name: &str) -> u64 {
        let line = self.out.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {self:?}"));
        let bytes = line.split_once('(').and_then(|(_, rest)| rest.strip_suffix(" bytes)"));
        let count = || line.split_whitespace().nth(1).unwrap().trim_end_matches(',');
        bytes.unwrap_or_else(count).parse().unwrap()
    }

    #[track_caller]
    fn assert_done(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// What it said to the operator, without its log.
    fn said(&self) -> Vec<&str> {
        self.err.lines().filter(|line| !line.contains("Z  WARN ")).collect()
    }

    /// That it failed with this one line, and nothing else was said.
    #[track_caller]
    fn assert_one_line(&self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.said().len(), 1, "{self:?}");
        assert!(self.said()[0].contains(part), "no {part:?} in {self:?}");
        assert_eq!(self.out, "");
    }
}

fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn tool(program: &str, db: &Path, volumes: &[String], flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--db").arg(db).arg("--volumes").arg(volumes.join(",")).args(flags);
    command
}

/// All that an index holds.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    records: BTreeMap<Key, Record>,
    intents: BTreeMap<Key, Vec<Intent>>,
}

#[track_caller]
fn contents(db: &Path) -> Contents {
    let options = Options { create: false, cache_bytes: 1 << 20, sync: false };
    let index = Index::open(db, options).unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut records, mut intents) = (BTreeMap::new(), BTreeMap::new());
        let mut start = Some(Vec::new());
        while let Some(from) = start {
            let page = index.page(b"/", &from, None).await.unwrap();
            records.extend(page.rows);
            start = page.next;
        }
        let mut start = Some(Vec::new());
        while let Some(from) = start {
            let page = index.intents_page(&from).await.unwrap();
            intents.extend(page.rows);
            start = page.next;
        }
        Contents { records, intents }
    })
}

/// Volumes, gates before them where a test wants some, and perhaps a master.
struct Rig {
    // in this order: the master goes first, the directory last
    master: Option<Master>,
    gates: Vec<Gate>,
    volumes: Vec<Volume>,
    tempdir: tempfile::TempDir,
}

impl Rig {
    fn new(volumes: usize) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let mut rig = Self { master: None, gates: Vec::new(), volumes: Vec::new(), tempdir };
        for _ in 0..volumes {
            rig.add_volume();
        }
        rig
    }

    /// A gate before each volume.
    fn gated(volumes: usize) -> Self {
        // a gate keeps two connections per request
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        let mut rig = Self::new(volumes);
        rig.gates = rig.volumes.iter().map(Gate::before).collect();
        rig
    }

    fn add_volume(&mut self) {
        let dir = self.tempdir.path().join(format!("volume{}", self.volumes.len()));
        self.volumes.push(Volume::start(&dir));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tempdir.path().join(name)
    }

    /// The master's index.
    fn db(&self) -> PathBuf {
        self.path("db")
    }

    /// The volumes, or the gates before them.
    fn addresses(&self) -> Vec<String> {
        if self.gates.is_empty() {
            self.volumes.iter().map(Volume::addr).collect()
        } else {
            self.gates.iter().map(Gate::addr).collect()
        }
    }

    /// A master over these volumes, in place of the one that runs.
    fn serve_on(&mut self, volumes: &[String], flags: &[&str]) {
        self.end_master();
        self.master = Some(Master::start(&self.db(), volumes, flags));
    }

    /// A master over all volumes.
    fn serve(&mut self, flags: &[&str]) {
        self.serve_on(&self.addresses(), flags);
    }

    #[track_caller]
    fn end_master(&mut self) {
        if let Some(mut master) = self.master.take() {
            let status = master.terminate();
            assert!(status.success(), "{status}\n{}", master.log());
        }
    }

    fn send(&self, method: &str, key: &Key, body: &[u8]) -> Response {
        request(&self.master.as_ref().unwrap().addr(), method, key.to_string(), &[], body)
    }

    #[track_caller]
    fn expect(&self, method: &str, key: &Key, body: &[u8], status: u16) {
        let answer = self.send(method, key, body);
        assert_eq!(answer.status, status, "{method} {key}: {}", answer.text());
    }

    /// A store of that many keys, every fifth of them unlinked; the master has ended.
    fn fill(&mut self, count: usize, random: &mut Random) -> Model {
        self.serve(&[]);
        let mut model = Model::new();
        for (n, key) in keys(count).into_iter().enumerate() {
            let value = random.value();
            self.expect("PUT", &key, &value, 201);
            let state = if n % 5 == 4 { State::Unlinked } else { State::Live };
            if state == State::Unlinked {
                self.expect("UNLINK", &key, b"", 204);
            }
            model.insert(key, (state, value));
        }
        self.end_master();
        model
    }

    /// Where the file of that rank lies, with all volumes in use.
    fn replica(&self, key: &Key, rank: usize, name: Name) -> Replica {
        let placement = Placement::new(self.addresses(), REPLICAS, 10);
        Replica { place: placement.rank(key)[rank].clone(), name }
    }

    fn stored(&self, key: &Key, replica: &Replica) -> Stored {
        let volume = self.addresses().iter().position(|address| address == replica.place.volume());
        let path = format!("{}{}", replica.place.directory(), key.path(replica.name));
        (volume.unwrap(), path.trim_start_matches('/').to_owned())
    }

    fn file(&self, (volume, path): &Stored) -> PathBuf {
        self.volumes[*volume].dir().join(path)
    }

    /// Lays a file of the key on the volume of that rank, as a PUT would have.
    fn lay(&self, key: &Key, rank: usize, name: Name, value: &[u8]) -> Stored {
        let stored = self.stored(key, &self.replica(key, rank, name));
        lay(&self.file(&stored), value);
        stored
    }

    fn rebuild(&self, db: &Path, flags: &[&str]) -> Ended {
        run(&mut tool(REBUILD, db, &self.addresses(), flags))
    }

    fn rebalance(&self, volumes: &[String], flags: &[&str]) -> Ended {
        run(&mut tool(REBALANCE, &self.db(), volumes, flags))
    }

    /// What lies on the volumes.
    fn files(&self) -> BTreeMap<Stored, Vec<u8>> {
        let volumes = self.volumes.iter().enumerate();
        volumes.flat_map(|(n, volume)| volume.files().into_iter().map(move |(p, v)| ((n, p), v))).collect()
    }

    /// That each key's whole value lies where these volumes want it, and no other file anywhere.
    #[track_caller]
    fn assert_tidy(&self, volumes: &[String], model: &Model) {
        let seen = contents(&self.db());
        assert_eq!(seen.records.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
        let placement = Placement::new(volumes.to_vec(), REPLICAS, 10);
        let files = self.files();
        let mut named = BTreeSet::new();
        for (key, record) in &seen.records {
            let (state, value) = &model[key];
            assert_eq!(record.state, *state, "{key}");
            assert_eq!(record.md5, Some(Md5::digest(value).into()), "{key}");
            assert_eq!(record.size, Some(value.len() as u64), "{key}");
            let places: Vec<_> = record.replicas.iter().map(|replica| replica.place.clone()).collect();
            assert_eq!(places, placement.wanted(key), "{key} lies elsewhere");
            for replica in &record.replicas {
                let stored = self.stored(key, replica);
                assert!(files.get(&stored) == Some(value), "{key}: {stored:?} is missing or wrong");
                named.insert(stored);
            }
        }
        let surplus: Vec<_> = files.keys().filter(|file| !named.contains(*file)).collect();
        assert!(surplus.is_empty(), "{surplus:?}, intents {:?}", seen.intents);
    }
}

/// Makes the file, in directories in which the volume's workers, which may be another user's, can delete it.
fn lay(path: &Path, bytes: &[u8]) {
    let new: Vec<_> = path.ancestors().skip(1).take_while(|directory| !directory.exists()).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for directory in new {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

/// Whether volumes hold as many files as whole values of these keys take.
fn is_as_many(rig: &Rig, model: &Model) -> bool {
    rig.volumes.iter().map(|volume| volume.files().len()).sum::<usize>() == model.len() * REPLICAS
}

/// Holds the nth of these requests on all gates taken together.
fn hold(gates: &[Gate], method: &'static str, n: usize, order: Order) {
    let seen = Arc::new(AtomicUsize::new(0));
    for gate in gates {
        let seen = Arc::clone(&seen);
        gate.rule(move |m, _| (m == method && seen.fetch_add(1, Ordering::SeqCst) + 1 == n).then_some(order));
    }
}

fn is_held(gates: &[Gate], method: &str) -> bool {
    gates.iter().any(|gate| gate.count(method, Stage::Held) + gate.count(method, Stage::AnswerHeld) > 0)
}

fn open_and_release(gates: &[Gate], method: &str) {
    for gate in gates {
        gate.open();
        gate.release();
    }
    eventually("nothing is held", PATIENCE, || !is_held(gates, method));
}

/// A program in the background, ended with its value.
struct Background(Child);

impl Background {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until the request is held; panics when the program ended without it.
    #[track_caller]
    fn wait_for(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        eventually(what, PATIENCE, || {
            let held = condition();
            assert!(held || self.0.try_wait().unwrap().is_none(), "it ended before this: {what}");
            held
        });
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // of one that has ended, nothing is left to do
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

// rebuild: the index comes back

/// A store after a random history: plain and generation names, a volume that came later, keys that were
/// deleted, unlinked, written again and moved. The master has ended.
fn random_history() -> (Rig, Model) {
    let mut random = Random::new();
    let mut rig = Rig::new(3);
    let keys = keys(30);
    let mut model = Model::new();
    for (phase, flags) in [&[][..], &["--names", "generation"], &[]].into_iter().enumerate() {
        if phase == 1 {
            rig.add_volume();
        }
        rig.serve(flags);
        for _ in 0..80 {
            let key = &keys[random.below(keys.len())];
            match (model.get(key).map(|(state, _)| *state), random.below(5)) {
                (None, _) => {
                    let value = random.value();
                    rig.expect("PUT", key, &value, 201);
                    model.insert(key.clone(), (State::Live, value));
                }
                (Some(_), 0 | 1) => {
                    rig.expect("DELETE", key, b"", 204);
                    model.remove(key);
                }
                (Some(State::Live), 2) => {
                    rig.expect("UNLINK", key, b"", 204);
                    model.get_mut(key).unwrap().0 = State::Unlinked;
                }
                (Some(State::Live), _) => rig.expect("REBALANCE", key, b"", 204),
                (Some(State::Unlinked), _) => {
                    rig.expect("RELINK", key, b"", 204);
                    model.get_mut(key).unwrap().0 = State::Live;
                }
            }
        }
    }
    rig.end_master();
    assert!(!model.is_empty() && model.len() < keys.len(), "a history of some use");
    (rig, model)
}

#[test]
fn rebuild_from_the_index_equals_it() {
    let (rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    let ended = rig.rebuild(&rebuilt, &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    assert_eq!(contents(&rebuilt), contents(&rig.db()));
    let unlinked = model.values().filter(|(state, _)| *state == State::Unlinked).count();
    let bytes: usize = model.values().map(|(_, value)| value.len()).sum();
    assert!(ended.out.contains(&format!("objects    {}, {unlinked} of them unlinked\n", model.len())));
    assert_eq!(ended.figure("bytes"), bytes as u64);
    for name in ["incomplete", "leftovers", "junk", "lost", "failures"] {
        assert_eq!(ended.figure(name), 0, "{name}");
    }
}

/// A key that was deleted while a file of it still waited, after a REBALANCE, for readers to leave, comes
/// back hidden: volumes can't tell it from the rest of a failed write.
#[test]
fn rebuild_from_the_volumes_alone_equals_the_index_but_for_states_and_md5s() {
    let (rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    rig.rebuild(&rebuilt, &[]).assert_done();
    let (old, new) = (contents(&rig.db()), contents(&rebuilt));
    for (key, record) in &old.records {
        let mut expected = Record { state: State::Live, ..record.clone() };
        let found = new.records.get(key);
        expected.md5 = found.and_then(|found| found.md5).and(record.md5);
        assert_eq!(found, Some(&expected), "{key}");
    }
    let on_volumes = |key: &Key, files: Vec<Replica>| -> BTreeSet<Stored> {
        files.iter().map(|file| rig.stored(key, file)).filter(|file| rig.file(file).exists()).collect()
    };
    let intended = |contents: &Contents, key: &Key| {
        let intents = contents.intents.get(key).into_iter().flatten();
        on_volumes(key, intents.flat_map(|intent| intent.files.clone()).collect())
    };
    for (key, record) in new.records.iter().filter(|(key, _)| !model.contains_key(key)) {
        assert_eq!(record.state, State::Unlinked, "{key} is revived");
        assert_eq!(on_volumes(key, record.replicas.clone()), intended(&old, key), "{key}");
    }
    for key in model.keys() {
        assert_eq!(intended(&new, key), intended(&old, key), "{key}");
    }
}

#[test]
fn a_rebuilt_store_serves_and_goes_on() {
    let (mut rig, model) = random_history();
    let rebuilt = rig.path("rebuilt");
    rig.rebuild(&rebuilt, &["--names", "plain"]).assert_done();
    rig.master = Some(Master::start(&rebuilt, &rig.addresses(), &[]));
    for (key, (_, value)) in &model {
        let answer = rig.send("GET", key, b"");
        assert_eq!(answer.status, 302, "{key}: {}", answer.text());
        let got = common::http::get_url(answer.header("location").unwrap());
        assert!(got.body == *value, "{key}");
        rig.expect("DELETE", key, b"", 204);
        rig.expect("PUT", key, b"new", 201);
    }
}

#[test]
fn generations_after_a_rebuild_are_new_ones() {
    let mut rig = Rig::new(3);
    let one = key("/key");
    for rank in 0..3 {
        rig.lay(&one, rank, Name::Generation(1 << 40), b"value");
    }
    rig.rebuild(&rig.db(), &[]).assert_done();
    rig.serve(&["--names", "generation"]);
    rig.expect("DELETE", &one, b"", 204);
    rig.expect("PUT", &one, b"new", 201);
    rig.end_master();
    let newer = |replica: &Replica| matches!(replica.name, Name::Generation(n) if n > 1 << 40);
    assert!(contents(&rig.db()).records[&one].replicas.iter().all(newer));
}

#[test]
fn a_deleted_key_is_not_revived() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let (kept, deleted) = (key("/kept"), key("/deleted"));
    rig.expect("PUT", &kept, b"value", 201);
    rig.expect("PUT", &deleted, b"value", 201);
    rig.expect("DELETE", &deleted, b"", 204);
    rig.end_master();
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    assert_eq!(contents(&rig.path("rebuilt")).records.keys().collect::<Vec<_>>(), [&kept]);
}

/// A store whose key `/deleted` was deleted while a volume was down, which then came back.
fn deleted_with_a_volume_down() -> (Rig, Key, Stored) {
    let mut rig = Rig::new(4);
    let deleted = key("/deleted");
    rig.serve(&[]);
    rig.expect("PUT", &deleted, b"value", 201);
    let left = rig.stored(&deleted, &rig.replica(&deleted, 1, Name::Plain));
    rig.volumes[left.0].kill();
    rig.expect("DELETE", &deleted, b"", 204);
    rig.master.as_mut().unwrap().kill();
    rig.master = None;
    rig.volumes[left.0].restart();
    assert!(rig.file(&left).exists());
    (rig, deleted, left)
}

#[test]
fn a_key_deleted_while_a_volume_was_down_is_not_revived_from_the_index() {
    let (rig, deleted, left) = deleted_with_a_volume_down();
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    let new = contents(&rig.path("rebuilt"));
    assert!(new.records.is_empty());
    let intended = new.intents[&deleted].iter().flat_map(|intent| &intent.files);
    assert!(intended.map(|file| rig.stored(&deleted, file)).any(|file| file == left));
}

#[test]
fn a_key_deleted_while_a_volume_was_down_is_hidden_without_the_index() {
    let (rig, deleted, _) = deleted_with_a_volume_down();
    let ended = rig.rebuild(&rig.path("rebuilt"), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /deleted\n");
    assert_eq!(contents(&rig.path("rebuilt")).records[&deleted].state, State::Unlinked);
}

#[test]
fn what_replaced_it_wins_over_the_file_that_a_volume_kept() {
    let (mut rig, deleted, left) = deleted_with_a_volume_down();
    rig.volumes[left.0].kill();
    rig.serve(&[]);
    rig.expect("PUT", &deleted, b"newer", 201);
    rig.master.as_mut().unwrap().kill();
    rig.master = None;
    rig.volumes[left.0].restart();
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    let (old, new) = (contents(&rig.db()), contents(&rig.path("rebuilt")));
    assert_eq!(new.records[&deleted].replicas, old.records[&deleted].replicas);
    let intended: Vec<_> = new.intents[&deleted].iter().flat_map(|intent| &intent.files).collect();
    assert_eq!(intended.iter().map(|file| rig.stored(&deleted, file)).collect::<Vec<_>>(), [left]);
}

#[test]
fn the_one_file_of_an_interrupted_write_is_hidden_and_reported() {
    let rig = Rig::new(3);
    rig.lay(&key("/half written"), 0, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /half%20written\n");
    assert!(ended.out.starts_with("objects    1, 1 of them unlinked\n"), "{ended:?}");
    assert_eq!(ended.figure("incomplete"), 1);
    assert_eq!(contents(&rig.db()).records[&key("/half written")].state, State::Unlinked);
}

#[test]
fn the_one_file_of_an_interrupted_write_is_live_with_keep_suspects() {
    let rig = Rig::new(3);
    rig.lay(&key("/half"), 0, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &["--keep-suspects"]);
    ended.assert_done();
    assert_eq!(ended.err, "on too few volumes: /half\n");
    assert!(ended.out.starts_with("objects    1, 0 of them unlinked\n"), "{ended:?}");
    assert_eq!(contents(&rig.db()).records[&key("/half")].state, State::Live);
}

#[test]
fn a_value_on_half_of_its_volumes_is_live_and_incomplete() {
    let rig = Rig::new(3);
    rig.lay(&key("/half"), 1, Name::Plain, b"value");
    rig.lay(&key("/half"), 2, Name::Plain, b"value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!((ended.err.as_str(), ended.figure("incomplete")), ("", 1));
    assert_eq!(contents(&rig.db()).records[&key("/half")].state, State::Live);
}

#[test]
fn a_write_cut_short_does_not_hide_the_value_before_it() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let cut = rig.lay(&key("/key"), 0, Name::Generation(9), b"newer value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    let new = contents(&rig.db());
    assert!(new.records[&key("/key")].replicas.iter().all(|replica| replica.name == Name::Plain));
    let intended = new.intents[&key("/key")].iter().flat_map(|intent| &intent.files);
    assert_eq!(intended.map(|file| rig.stored(&key("/key"), file)).collect::<Vec<_>>(), [cut]);
}

/// A replica was moved away and back: its plain name was burnt, and the file of that name still waits to be
/// deleted beside the new one.
#[test]
fn two_equal_files_on_one_volume_are_one_replica() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    rig.lay(&key("/key"), 0, Name::Generation(9), b"value");
    rig.rebuild(&rig.db(), &[]).assert_done();
    let replicas = contents(&rig.db()).records[&key("/key")].replicas.clone();
    let volumes: BTreeSet<_> = replicas.iter().map(|replica| replica.place.volume().to_owned()).collect();
    assert_eq!(volumes.len(), 3, "{replicas:?}");
}

#[test]
fn zero_size_files_are_no_values() {
    let mut rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/empty"), rank, Name::Plain, b"");
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("objects"), ended.figure("leftovers")), (1, 3));
    assert_eq!(contents(&rig.db()).records.keys().collect::<Vec<_>>(), [&key("/key")]);
    rig.serve(&[]);
    eventually("the empty files are gone", PATIENCE, || rig.files().len() == 3);
}

// rebuild: an older index

#[test]
fn keys_of_the_older_index_that_are_on_no_volume_are_reported() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/lost"), b"value", 201);
    rig.expect("PUT", &key("/kept"), b"value", 201);
    rig.end_master();
    for rank in 0..3 {
        let lost = rig.replica(&key("/lost"), rank, Name::Plain);
        fs::remove_file(rig.file(&rig.stored(&key("/lost"), &lost))).unwrap();
    }
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    assert_eq!(ended.err, "in the older index, and on no volume: /lost\n");
    assert_eq!((ended.figure("lost"), ended.figure("objects")), (1, 1));
}

/// A copy of the index is older than the value: another of the same size has come in its place.
#[test]
fn the_md5_of_an_older_value_is_not_kept_for_a_newer_one() {
    let mut rig = Rig::new(3);
    let one = key("/key");
    rig.serve(&[]);
    rig.expect("PUT", &one, b"older", 201);
    rig.end_master();
    let old = rig.path("old");
    fs::rename(rig.db(), &old).unwrap();
    for rank in 0..3 {
        let newer = rig.lay(&one, rank, Name::Plain, b"newer");
        let later = SystemTime::now() + Duration::from_secs(1000);
        File::options().append(true).open(rig.file(&newer)).unwrap().set_modified(later).unwrap();
    }
    rig.rebuild(&rig.db(), &["--from", old.to_str().unwrap()]).assert_done();
    let md5 = contents(&rig.db()).records[&one].md5;
    assert_ne!(md5, Some(Md5::digest(b"older").into()));
}

#[test]
fn an_older_index_in_use_is_refused() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_one_line(1, "in use");
    assert!(!rig.path("rebuilt").exists());
}

#[test]
fn an_older_index_that_is_missing_is_refused() {
    let rig = Rig::new(3);
    let ended = rig.rebuild(&rig.db(), &["--from", rig.path("nowhere").to_str().unwrap()]);
    ended.assert_one_line(1, "nowhere");
    assert!(!rig.db().exists() && !rig.path("nowhere").exists());
}

#[test]
fn an_existing_index_is_not_overwritten() {
    let mut rig = Rig::new(3);
    rig.fill(6, &mut Random::new());
    let before = contents(&rig.db());
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "overwrites nothing");
    assert_eq!(contents(&rig.db()), before);
}

#[test]
fn a_file_in_the_place_of_the_index_is_left_alone() {
    let rig = Rig::new(3);
    fs::write(rig.db(), "mine").unwrap();
    let ended = rig.rebuild(&rig.db(), &[]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{ended:?}");
    assert_eq!(fs::read(rig.db()).unwrap(), b"mine");
}

#[test]
fn an_index_in_a_directory_that_is_missing_is_refused() {
    let rig = Rig::new(3);
    rig.rebuild(&rig.path("missing/db"), &[]).assert_one_line(1, "missing/db");
}

// rebuild: volumes that can't be read

/// That a rebuild with a volume that answers every request for a path that `script` knows with these bytes
/// fails; all others get an empty listing.
#[track_caller]
fn assert_unreadable(script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) {
    let rig = Rig::new(2);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    let fake =
        Fake::new(move |request| Reply::Raw(script(&request.target).unwrap_or_else(|| ok("[\r\n]\r\n"))));
    let mut volumes = rig.addresses();
    volumes.push(fake.addr());
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &[]));
    ended.assert_one_line(1, &format!("can't list http://{}/", fake.addr()));
    assert!(!rig.db().exists());
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", body)
}

const SUBVOLUME: &str = r#"[{"name":"sv00","type":"directory","mtime":"Sat, 21 Nov 2026 03:05:00 GMT"}]"#;

#[test]
fn a_volume_that_is_down_fails_the_rebuild() {
    let rig = Rig::new(2);
    let mut volumes = rig.addresses();
    volumes.push(format!("127.0.0.1:{}", free_port()));
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &[]));
    ended.assert_one_line(1, &format!("can't list http://{}/", volumes[2]));
    assert!(!rig.db().exists());
}

#[test]
fn a_volume_that_never_answers_fails_the_rebuild() {
    let rig = Rig::new(2);
    let fake = Fake::new(|_| Reply::HangAfter(0));
    let mut volumes = rig.addresses();
    volumes.push(fake.addr());
    let flags = ["--voltimeout", "100ms", "--streamtimeout", "100ms"];
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &flags));
    ended.assert_one_line(1, &format!("can't list http://{}/", fake.addr()));
    assert!(!rig.db().exists());
}

#[test]
fn a_volume_that_answers_with_errors_fails_the_rebuild() {
    for status in ["500 Oops", "403 Forbidden", "404 Not Found", "204 No Content", "206 Partial Content"] {
        assert_unreadable(move |_| Some(answer(status, "")));
    }
}

#[test]
fn a_redirect_instead_of_a_listing_fails_the_rebuild() {
    assert_unreadable(|_| {
        Some(
            b"HTTP/1.1 301 Moved\r\nLocation: /x/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        )
    });
}

#[test]
fn an_error_in_a_subdirectory_fails_the_rebuild() {
    assert_unreadable(|path| Some(if path == "/" { ok(SUBVOLUME) } else { answer("500 Oops", "") }));
}

#[test]
fn a_directory_that_went_away_while_listing_fails_the_rebuild() {
    assert_unreadable(|path| Some(if path == "/" { ok(SUBVOLUME) } else { answer("404 Not Found", "") }));
}

#[test]
fn a_listing_cut_by_the_connection_fails_the_rebuild() {
    let whole = ok(SUBVOLUME);
    assert_unreadable(move |_| Some(whole[..whole.len() - 3].to_vec()));
}

#[test]
fn a_chunked_listing_without_its_last_chunk_fails_the_rebuild() {
    let chunk = format!("{:x}\r\n{SUBVOLUME}\r\n", SUBVOLUME.len());
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    assert_unreadable(move |path| (path == "/").then(|| format!("{head}{chunk}").into_bytes()));
}

#[test]
fn a_listing_that_ends_early_fails_the_rebuild() {
    for length in [0, 1, 40, SUBVOLUME.len() - 1] {
        assert_unreadable(move |path| (path == "/").then(|| ok(&SUBVOLUME[..length])));
    }
}

#[test]
fn a_listing_in_html_fails_the_rebuild() {
    assert_unreadable(|_| Some(ok("<html><body><a href=\"sv00/\">sv00/</a></body></html>")));
}

#[test]
fn a_listing_of_something_else_fails_the_rebuild() {
    for body in ["{}", "null", "[1]", "[[]]", r#"[{"name":"a","type":"file"}]"#, "[]x", "\u{0}"] {
        assert_unreadable(move |_| Some(ok(body)));
    }
}

#[test]
fn what_is_no_http_fails_the_rebuild() {
    assert_unreadable(|_| Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()));
}

#[test]
fn a_rebuild_that_failed_can_be_run_again() {
    let mut rig = Rig::new(3);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    rig.lay(&key("/key"), 1, Name::Plain, b"value");
    rig.volumes[2].kill();
    assert_eq!(rig.rebuild(&rig.db(), &[]).code, Some(1));
    rig.volumes[2].restart();
    rig.rebuild(&rig.db(), &[]).assert_done();
    assert_eq!(contents(&rig.db()).records.len(), 1);
}

#[test]
fn a_value_that_must_be_compared_and_cannot_be_read_fails_the_rebuild() {
    let rig = Rig::gated(3);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    rig.lay(&key("/key"), 1, Name::Generation(9), b"other");
    for gate in &rig.gates {
        gate.rule(|_, target| target.contains(',').then_some(Order::Answer(500)));
    }
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "can't read");
    assert!(!rig.db().exists());
}

// rebuild: junk

/// That these files on a volume, beside a value, are reported, and nothing else happens to them.
#[track_caller]
fn assert_junk(paths: &[OsString], shown: &[&str]) {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    for path in paths {
        lay(&rig.volumes[0].dir().join(path), b"junk");
    }
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    let mut lines: Vec<_> = ended.err.lines().map(str::to_owned).collect();
    lines.sort();
    let mut expected: Vec<_> =
        shown.iter().map(|path| format!("junk, left alone: {}/{path}", rig.addresses()[0])).collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(ended.figure("junk"), shown.len() as u64);
    assert_eq!(contents(&rig.db()).records.keys().collect::<Vec<_>>(), [&key("/key")]);
    for path in paths {
        assert_eq!(fs::read(rig.volumes[0].dir().join(path)).unwrap(), b"junk");
    }
}

#[track_caller]
fn assert_all_junk(paths: &[&str]) {
    assert_junk(&paths.iter().map(OsString::from).collect::<Vec<_>>(), paths);
}

#[test]
fn names_that_are_no_base64_are_junk() {
    assert_all_junk(&["sv00/aa/bb/not base64", "sv00/aa/bb/L2tl*", "sv00/aa/bb/README.txt", "sv03/aa/bb/~"]);
}

#[test]
fn names_in_the_wrong_directory_are_junk() {
    // base64 of "/key", which lies in 1a/f7
    assert_all_junk(&["sv00/aa/bb/L2tleQ==", "sv00/aa/bb/L2tleQ", "aa/bb/L2tleQ==", "sv00/L2tleQ=="]);
}

#[test]
fn generation_names_that_are_not_ours_are_junk() {
    let path = |tail: &str| format!("sv00{}{tail}", &key("/key").path(Name::Plain).replace("L2tleQ==", ""));
    let paths = [
        path("L2tleQ==,1"),
        path("L2tleQ==,000000000000000G"),
        path("L2tleQ==,000000000000000F"),
        path("L2tleQ==,0000000000000001,"),
        path(",0000000000000001"),
    ];
    assert_all_junk(&paths.each_ref().map(String::as_str));
}

#[test]
fn temporary_names_of_nginx_are_junk() {
    assert_all_junk(&["sv00/aa/bb/0000000012", "sv00/aa/bb/L2tleQ==.0000000012", "0000000012"]);
}

#[test]
fn files_beside_the_layout_are_junk() {
    assert_all_junk(&["file", "sv00/file", "sv00/aa/file", "sv00/aa/bb/L2/nested/file"]);
}

/// What stands in a directory that can't hold values is not looked at.
#[test]
fn directories_beside_the_layout_are_junk_as_a_whole() {
    let paths =
        ["lost+found/deep/file", "svXX/file", "sv00/AA/file", "sv00/aa/b/file", "sv00/aa/bb/a b/file"];
    let shown = ["lost+found", "svXX", "sv00/AA", "sv00/aa/b", "sv00/aa/bb/a b"];
    assert_junk(&paths.map(OsString::from), &shown);
}

#[test]
fn names_that_are_not_utf8_are_junk() {
    let paths = [b"sv00/aa/bb/\xff\xfe".to_vec(), b"sv00/aa/bb/dir\xff/file".to_vec(), b"\xff".to_vec()];
    let shown = ["sv00/aa/bb/\u{fffd}\u{fffd}", "sv00/aa/bb/dir\u{fffd}", "\u{fffd}"];
    assert_junk(&paths.map(OsString::from_vec), &shown);
}

#[test]
fn names_that_would_break_a_terminal_or_the_listing_are_junk() {
    let paths =
        ["sv00/aa/bb/a\u{1b}[31m", "sv00/aa/bb/new\nline", "sv00/aa/bb/\"},{", "sv00/aa/bb/back\\slash"];
    let shown = [
        "sv00/aa/bb/a\\u{1b}[31m",
        "sv00/aa/bb/new\\nline",
        "sv00/aa/bb/\\\"},{",
        "sv00/aa/bb/back\\\\slash",
    ];
    assert_junk(&paths.map(OsString::from), &shown);
}

#[test]
fn the_volumes_own_files_are_not_mentioned() {
    let rig = Rig::new(3);
    lay(&rig.volumes[0].dir().join("body_temp/0000000001"), b"half a value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "");
}

#[test]
fn symbolic_links_and_special_files_do_no_harm() {
    let rig = Rig::new(3);
    let dir = rig.volumes[0].dir().join("sv00/aa/bb");
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/nonexistent", dir.join("dangling")).unwrap();
    std::os::unix::fs::symlink(rig.volumes[0].dir(), dir.join("loop")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.figure("objects"), 0);
}

// rebuild: interrupted, and at the same time

#[test]
fn a_rebuild_killed_while_listing_can_be_run_again() {
    let mut random = Random::new();
    let mut rig = Rig::gated(3);
    rig.fill(12, &mut random);
    let listings = |rig: &Rig| -> usize {
        let lists = |gate: &Gate| gate.requests().iter().filter(|(method, ..)| method == "GET").count();
        rig.gates.iter().map(lists).sum()
    };
    let before = listings(&rig);
    rig.rebuild(&rig.path("first"), &[]).assert_done();
    let total = listings(&rig) - before;
    for _ in 0..5 {
        hold(&rig.gates, "GET", 1 + random.below(total), Order::Hold);
        let db = rig.path("rebuilt");
        let mut rebuild = Background::start(&mut tool(REBUILD, &db, &rig.addresses(), &[]));
        rebuild.wait_for("a listing is held", || is_held(&rig.gates, "GET"));
        rebuild.kill();
        open_and_release(&rig.gates, "GET");
        assert!(!db.exists());
    }
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    assert_eq!(contents(&rig.path("rebuilt")), contents(&rig.path("first")));
    assert!(!rig.path("rebuilt.rebuilding").exists());
}

#[test]
fn a_rebuild_killed_while_judging_can_be_run_again() {
    let mut rig = Rig::gated(3);
    rig.fill(10, &mut Random::new());
    rig.lay(&key("/key"), 0, Name::Generation(8), b"value");
    rig.lay(&key("/key"), 1, Name::Generation(9), b"value");
    // the first file that is read for its bytes
    let compared = |_: &str, target: &str| target.contains(',').then_some(Order::Hold);
    rig.gates.iter().for_each(|gate| gate.rule(compared));
    let db = rig.path("rebuilt");
    let mut rebuild = Background::start(&mut tool(REBUILD, &db, &rig.addresses(), &[]));
    rebuild.wait_for("a value is being read", || is_held(&rig.gates, "GET"));
    rebuild.kill();
    open_and_release(&rig.gates, "GET");
    assert!(!db.exists());
    rig.rebuild(&db, &[]).assert_done();
    assert_eq!(contents(&db).records.len(), 11);
}

#[test]
fn of_two_rebuilds_at_once_the_second_is_refused() {
    let rig = Rig::gated(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    hold(&rig.gates, "GET", 2, Order::Hold);
    let flags = ["--voltimeout", "1m"];
    let mut first = Background::start(&mut tool(REBUILD, &rig.db(), &rig.addresses(), &flags));
    first.wait_for("a listing is held", || is_held(&rig.gates, "GET"));
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "another rebuild is running");
    open_and_release(&rig.gates, "GET");
    assert_eq!(first.wait(), Some(0));
    assert_eq!(contents(&rig.db()).records.len(), 1);
}

// rebuild: back to minikeyvalue

/// All rows of an index that minikeyvalue's master would read.
fn rows(db: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let database = Database::open(db, &leveldb::Options { create: false, ..Default::default() }).unwrap();
    let mut rows = BTreeMap::new();
    let mut iter = database.iter(false);
    iter.seek_to_first();
    while iter.valid() {
        rows.insert(iter.key().to_vec(), iter.value().to_vec());
        iter.next();
    }
    iter.status().unwrap();
    rows
}

#[test]
fn minikeyvalues_records_name_every_key() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let readable = |key: &Key| key.has_plain_name() && !key.path(Name::Plain).contains('~');
    let keys: Vec<_> = keys(20).into_iter().filter(readable).collect();
    for (n, key) in keys.iter().enumerate() {
        rig.expect("PUT", key, b"value", 201);
        if n % 3 == 0 {
            rig.expect("UNLINK", key, b"", 204);
        }
    }
    rig.end_master();
    let (old, rebuilt) = (rig.db(), rig.path("rebuilt"));
    let flags = ["--records", "minikeyvalue", "--from", old.to_str().unwrap()];
    rig.rebuild(&rebuilt, &flags).assert_done();
    let old = contents(&old);
    let expected = old.records.iter().map(|(key, record)| {
        assert!(record.md5.is_some());
        (key.as_bytes().to_vec(), record.encode_minikeyvalue().unwrap())
    });
    assert_eq!(rows(&rebuilt), expected.collect());
}

#[test]
fn minikeyvalues_records_without_an_older_index_have_no_md5() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    rig.rebuild(&rig.db(), &["--records", "minikeyvalue"]).assert_done();
    let places: Vec<_> = (0..3).map(|rank| rig.replica(&key("/key"), rank, Name::Plain).place).collect();
    let text = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(rows(&rig.db()), BTreeMap::from([(b"/key".to_vec(), text.into_bytes())]));
    let record = Record::decode(&rows(&rig.db())[b"/key".as_slice()]).unwrap();
    assert_eq!((record.state, record.md5, record.size), (State::Live, None, None));
}

#[test]
fn keys_that_minikeyvalue_cannot_read_are_named_and_fail_the_run() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/old"), rank, Name::Plain, b"value");
        rig.lay(&key("/new"), rank, Name::Generation(7), b"value");
        rig.lay(&key("/empty"), rank, Name::Plain, b"");
    }
    let ended = rig.rebuild(&rig.db(), &["--records", "minikeyvalue"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err, "its file has a name that minikeyvalue can't read: /new\n");
    assert_eq!((ended.figure("objects"), ended.figure("failures")), (1, 1));
    assert_eq!(rows(&rig.db()).keys().collect::<Vec<_>>(), [b"/old"]);
}

// rebalance

#[test]
fn an_added_volume_gets_what_it_must_and_nothing_else_moves() {
    let mut rig = Rig::new(3);
    let model = rig.fill(30, &mut Random::new());
    let before = contents(&rig.db());
    rig.add_volume();
    let added = rig.addresses()[3].clone();
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "");
    rig.assert_tidy(&rig.addresses(), &model);
    let after = contents(&rig.db());
    assert_eq!(after.intents, BTreeMap::new());
    let (mut moved, mut copied) = (0, 0);
    for (key, record) in &after.records {
        let new: Vec<_> =
            record.replicas.iter().filter(|one| !before.records[key].replicas.contains(one)).collect();
        assert!(new.iter().all(|replica| replica.place.volume() == added), "{key}: {new:?}");
        assert_eq!(record.modified, before.records[key].modified, "{key}");
        moved += new.len() as u64;
        copied += record.size.unwrap() * new.len() as u64;
    }
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (moved, moved));
    assert_eq!((ended.figure("copied"), ended.figure("repaired")), (copied, 0));
    assert_eq!((ended.figure("objects"), ended.figure("failures")), (30, 0));
    let bytes: usize = model.values().map(|(_, value)| value.len()).sum();
    assert_eq!(ended.figure("bytes"), bytes as u64);
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.add_volume();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    let before = contents(&rig.db());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    for name in ["moved", "repaired", "dropped", "copied", "failures"] {
        assert_eq!(ended.figure(name), 0, "{name}");
    }
    assert_eq!(contents(&rig.db()), before);
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn every_key_is_balanced_and_served_afterwards() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.add_volume();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.serve(&[]);
    for (key, (state, value)) in &model {
        if *state == State::Unlinked {
            rig.expect("GET", key, b"", 404);
            rig.expect("RELINK", key, b"", 204);
        }
        let answer = rig.send("GET", key, b"");
        assert_eq!(answer.header("key-balance"), Some("balanced"), "{key}");
        assert!(common::http::get_url(answer.header("location").unwrap()).body == *value, "{key}");
    }
}

#[test]
fn draining_empties_the_volume() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    assert!(!rig.volumes[3].files().is_empty());
    let left = &rig.addresses()[..3];
    rig.rebalance(left, &[]).assert_done();
    assert_eq!(rig.volumes[3].files(), []);
    rig.assert_tidy(left, &model);
}

#[test]
fn other_subvolumes_are_moved_to() {
    let mut rig = Rig::new(3);
    let model = rig.fill(10, &mut Random::new());
    rig.rebalance(&rig.addresses(), &["--subvolumes", "1"]).assert_done();
    let files = rig.files();
    assert_eq!(files.len(), model.len() * REPLICAS);
    assert!(files.keys().all(|(_, path)| !path.starts_with("sv")), "{:?}", files.keys());
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn more_replicas_are_made_and_surplus_ones_go() {
    let mut rig = Rig::new(4);
    let model = rig.fill(10, &mut Random::new());
    let ended = rig.rebalance(&rig.addresses(), &["--replicas", "4"]);
    ended.assert_done();
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (10, 0));
    assert_eq!(rig.files().len(), 40);
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!((ended.figure("moved"), ended.figure("dropped")), (0, 10));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_the_run_then_does() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    rig.add_volume();
    // the first volume is drained, and on the second a replica is missing, another torn
    let damaged: Vec<_> = rig.volumes[1].files().into_iter().take(2).collect();
    fs::remove_file(rig.volumes[1].dir().join(&damaged[0].0)).unwrap();
    fs::write(rig.volumes[1].dir().join(&damaged[1].0), &damaged[1].1[1..]).unwrap();
    let wanted = &rig.addresses()[1..];
    let (index, files) = (contents(&rig.db()), rig.files());
    let planned = rig.rebalance(wanted, &["--dry-run"]);
    planned.assert_done();
    assert_eq!(contents(&rig.db()), index);
    assert!(rig.files() == files);
    let done = rig.rebalance(wanted, &[]);
    done.assert_done();
    for name in ["objects", "bytes", "moved", "repaired", "dropped", "failures"] {
        assert_eq!(planned.figure(name), done.figure(name), "{name}");
    }
    assert_eq!(planned.figure("to"), done.figure("copied"));
    assert!(done.figure("moved") > 0 && done.figure("repaired") > 0);
    rig.assert_tidy(wanted, &model);
}

#[test]
fn a_dry_run_tells_of_failures_as_the_run_does() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.volumes[0].kill();
    let failed =
        |ended: &Ended| -> BTreeSet<String> { ended.said().into_iter().map(str::to_owned).collect() };
    let planned = rig.rebalance(&rig.addresses(), &["--dry-run"]);
    assert_eq!(planned.code, Some(1), "{planned:?}");
    assert_eq!(planned.figure("failures"), model.len() as u64);
    let done = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(failed(&planned), failed(&done));
}

#[test]
fn a_missing_replica_is_made_good() {
    let mut rig = Rig::new(3);
    let model = rig.fill(6, &mut Random::new());
    let (missing, _) = rig.volumes[1].files().swap_remove(0);
    fs::remove_file(rig.volumes[1].dir().join(missing)).unwrap();
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("repaired"), ended.figure("moved")), (1, 0));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_torn_replica_is_made_good() {
    let mut rig = Rig::new(3);
    let model = rig.fill(6, &mut Random::new());
    for (torn, value) in rig.volumes[1].files() {
        fs::write(rig.volumes[1].dir().join(torn), &value[..value.len() / 2]).unwrap();
    }
    let ended = rig.rebalance(&rig.addresses(), &[]);
    ended.assert_done();
    assert_eq!((ended.figure("repaired"), ended.figure("moved")), (6, 0));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn a_wrong_replica_is_not_copied() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.end_master();
    let model = Model::from([(key("/key"), (State::Live, b"value".to_vec()))]);
    // one is missing, one has other bytes of the same length, and one is good
    let stored = |rank| rig.stored(&key("/key"), &rig.replica(&key("/key"), rank, Name::Plain));
    fs::write(rig.file(&stored(0)), b"wrong").unwrap();
    fs::remove_file(rig.file(&stored(1))).unwrap();
    rig.rebalance(&rig.addresses(), &[]);
    let made_good = &contents(&rig.db()).records[&key("/key")].replicas[1];
    assert_eq!(fs::read(rig.file(&rig.stored(&key("/key"), made_good))).unwrap(), b"value");
    assert_eq!(
        contents(&rig.db()).records[&key("/key")].md5,
        Some(Md5::digest(&model[&key("/key")].1).into())
    );
}

#[test]
fn a_value_without_any_whole_replica_fails_and_is_kept() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/damaged"), b"value", 201);
    rig.expect("PUT", &key("/good"), b"value", 201);
    rig.end_master();
    for rank in 0..3 {
        let stored = rig.stored(&key("/damaged"), &rig.replica(&key("/damaged"), rank, Name::Plain));
        fs::write(rig.file(&stored), b"v").unwrap();
    }
    let (before, files) = (contents(&rig.db()), rig.files());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().filter(|line| line.starts_with("failed: /damaged: ")).count(), 1);
    assert_eq!((ended.figure("failures"), ended.figure("objects")), (1, 2));
    assert_eq!(contents(&rig.db()), before);
    assert!(rig.files() == files);
}

#[test]
fn unlinked_keys_stay_unlinked_and_move_too() {
    let mut rig = Rig::new(4);
    rig.serve(&[]);
    let keys = keys(12);
    for key in &keys {
        rig.expect("PUT", key, b"value", 201);
        rig.expect("UNLINK", key, b"", 204);
    }
    rig.end_master();
    let left = &rig.addresses()[..3];
    assert!(rig.rebalance(left, &[]).assert_done().figure("moved") > 0);
    let unlinked = |key: &Key| (key.clone(), (State::Unlinked, b"value".to_vec()));
    rig.assert_tidy(left, &keys.iter().map(unlinked).collect());
}

#[test]
fn a_lost_volume_can_be_forgotten() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    let lost = rig.addresses()[3].clone();
    rig.volumes[3].kill();
    for (file, _) in rig.volumes[3].files() {
        fs::remove_file(rig.volumes[3].dir().join(file)).unwrap();
    }
    let left = &rig.addresses()[..3];
    rig.rebalance(left, &["--forget", &lost]).assert_done();
    rig.assert_tidy(left, &model);
    assert_eq!(contents(&rig.db()).intents, BTreeMap::new());
}

#[test]
fn files_that_wait_for_a_forgotten_volume_are_forgotten() {
    let mut rig = Rig::new(4);
    let mut model = rig.fill(30, &mut Random::new());
    let lost = rig.addresses()[3].clone();
    rig.volumes[3].kill();
    rig.serve(&[]);
    for (key, _) in model.clone().into_iter().step_by(2) {
        rig.expect("DELETE", &key, b"", 204);
        model.remove(&key);
    }
    rig.end_master();
    let waiting = |seen: &Contents| {
        let files = seen.intents.values().flatten().flat_map(|intent| &intent.files);
        files.filter(|file| file.place.volume() == lost).count() as u64
    };
    let before = waiting(&contents(&rig.db()));
    assert!(before > 0);
    let ended = rig.rebalance(&rig.addresses()[..3], &["--forget", &lost]);
    ended.assert_done();
    assert_eq!(ended.figure("forgotten"), before);
    assert_eq!(waiting(&contents(&rig.db())), 0);
}

/// A store of which the fourth volume was drained while it was down; it is back.
fn drained_while_down() -> (Rig, Model) {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    let waiting = rig.volumes[3].files().len() as u64;
    rig.volumes[3].kill();
    let ended = rig.rebalance(&rig.addresses()[..3], &[]);
    assert_eq!((ended.code, ended.figure("failures")), (Some(1), 0), "{ended:?}");
    assert_eq!(ended.figure("pending"), waiting);
    rig.volumes[3].restart();
    (rig, model)
}

#[test]
fn a_volume_drained_while_it_was_down_is_emptied_by_the_next_run() {
    let (rig, model) = drained_while_down();
    let left = &rig.addresses()[..3];
    let ended = rig.rebalance(left, &[]);
    ended.assert_done();
    assert!(!ended.out.contains("pending"), "{ended:?}");
    assert_eq!(rig.volumes[3].files(), []);
    rig.assert_tidy(left, &model);
}

#[test]
fn a_volume_drained_while_it_was_down_is_emptied_by_the_master() {
    let (mut rig, model) = drained_while_down();
    let left = rig.addresses()[..3].to_vec();
    rig.serve_on(&left, &[]);
    eventually("the drained volume is empty", PATIENCE, || rig.volumes[3].files().is_empty());
    rig.end_master();
    rig.assert_tidy(&left, &model);
}

#[test]
fn a_volume_that_is_needed_and_down_fails_its_keys_and_no_others() {
    let mut rig = Rig::new(4);
    let model = rig.fill(40, &mut Random::new());
    rig.add_volume();
    let down = rig.addresses()[0].clone();
    let placement = Placement::new(rig.addresses(), REPLICAS, 10);
    let needs = |key: &&Key| placement.wanted(key).iter().any(|place| place.volume() == down);
    let (failed, done): (Vec<_>, Vec<_>) = model.keys().partition(needs);
    rig.volumes[0].kill();
    let before = contents(&rig.db());
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let name =
        |line: &str| line.strip_prefix("failed: ").map(|rest| rest.split(": ").next().unwrap().to_owned());
    let named: BTreeSet<_> = ended.err.lines().filter_map(name).collect();
    assert_eq!(named, failed.iter().map(ToString::to_string).collect());
    assert_eq!(ended.figure("failures"), failed.len() as u64);
    let after = contents(&rig.db());
    for key in failed {
        assert_eq!(after.records[key], before.records[key]);
    }
    for key in done {
        let places: Vec<_> = after.records[key].replicas.iter().map(|one| one.place.clone()).collect();
        assert_eq!(places, placement.wanted(key), "{key}");
    }
    rig.volumes[0].restart();
    rig.rebalance(&rig.addresses(), &[]).assert_done();
    rig.serve(&[]);
    eventually("what waited for the volume is gone", PATIENCE, || is_as_many(&rig, &model));
    rig.end_master();
    rig.assert_tidy(&rig.addresses(), &model);
}

/// Drains one volume after the other, is killed at a request each time, and run again; the request that was
/// under way then still takes effect. The master clears up.
fn assert_survives_kills(method: &'static str, order: Order) {
    let mut random = Random::new();
    let mut rig = Rig::gated(4);
    let model = rig.fill(24, &mut random);
    let mut left = Vec::new();
    for round in 0..4 {
        left = rig.addresses();
        left.remove(round);
        hold(&rig.gates, method, 1 + random.below(4), order);
        let mut rebalance = Background::start(&mut tool(REBALANCE, &rig.db(), &left, &[]));
        rebalance.wait_for("a request is held", || is_held(&rig.gates, method));
        rebalance.kill();
        rig.gates.iter().for_each(Gate::open);
        rig.rebalance(&left, &[]).assert_done();
        open_and_release(&rig.gates, method);
    }
    eventually("all requests are over", PATIENCE, || {
        rig.gates.iter().all(|gate| gate.count(method, Stage::Arrived) == 0)
    });
    rig.serve_on(&left, &["--quarantine", "1s"]);
    eventually("the rests of all runs are gone", PATIENCE, || is_as_many(&rig, &model));
    rig.end_master();
    rig.assert_tidy(&left, &model);
}

#[test]
fn a_run_killed_before_a_copy_arrives_can_be_repeated() {
    assert_survives_kills("PUT", Order::Hold);
}

#[test]
fn a_run_killed_after_a_copy_was_made_can_be_repeated() {
    assert_survives_kills("PUT", Order::HoldAnswer);
}

#[test]
fn a_run_killed_before_a_deletion_arrives_can_be_repeated() {
    assert_survives_kills("DELETE", Order::Hold);
}

#[test]
fn a_run_killed_after_a_deletion_can_be_repeated() {
    assert_survives_kills("DELETE", Order::HoldAnswer);
}

#[test]
fn a_run_killed_while_it_looks_can_be_repeated() {
    assert_survives_kills("HEAD", Order::Hold);
}

#[test]
fn rebalancing_while_the_master_runs_is_refused() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.rebalance(&rig.addresses(), &[]).assert_one_line(1, "in use");
    rig.rebalance(&rig.addresses(), &["--dry-run"]).assert_one_line(1, "in use");
    rig.expect("GET", &key("/key"), b"", 302);
}

#[test]
fn rebalancing_a_missing_index_is_refused() {
    let rig = Rig::new(3);
    rig.rebalance(&rig.addresses(), &[]).assert_one_line(1, "there is no index");
    assert!(!rig.db().exists());
}

#[test]
fn rebalancing_what_is_no_index_is_refused() {
    let rig = Rig::new(3);
    lay(&rig.db().join("file"), b"mine");
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{ended:?}");
    assert_eq!(fs::read_dir(rig.db()).unwrap().count(), 1);
}

// flags

/// The program with exactly these arguments, and no environment.
fn with_arguments(program: &str, line: &str) -> Ended {
    run(Command::new(program).env_clear().args(line.split_whitespace().map(OsStr::new)))
}

#[track_caller]
fn assert_usage(program: &str, lines: &[&str]) {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    for line in lines {
        let ended = with_arguments(program, &line.replace("DB", db.to_str().unwrap()));
        ended.assert_one_line(2, "--help");
        assert!(ended.err.starts_with("davkv-re"), "{ended:?}");
    }
    assert_eq!(fs::read_dir(tempdir.path()).unwrap().count(), 0);
}

const WRONG_FOR_BOTH: [&str; 15] = [
    "",
    "--db DB",
    "--volumes a:1,b:1,c:1",
    "--db DB --volumes",
    "--db DB --volumes a:1,b:1",
    "--db DB --volumes a:1,b:1,a:1",
    "--db DB --volumes a:1,b:1,c:x",
    "--db DB --volumes a:1,b:1,c:1/sv00",
    "--db DB --volumes http://a:1,b:1,c:1",
    "--db DB --volumes a:1,b:1,c:1 --replicas 0",
    "--db DB --volumes a:1,b:1,c:1 --replicas 4",
    "--db DB --volumes a:1,b:1,c:1 --subvolumes 257",
    "--db DB --volumes a:1,b:1,c:1 --jobs 0",
    "--db DB --volumes a:1,b:1,c:1 --voltimeout fast",
    "--db DB --volumes a:1,b:1,c:1 surplus",
];

#[test]
fn wrong_flags_of_rebuild_are_one_line() {
    assert_usage(REBUILD, &WRONG_FOR_BOTH);
    assert_usage(
        REBUILD,
        &[
            "--db DB --volumes a:1,b:1,c:1 --records other",
            "--db DB --volumes a:1,b:1,c:1 --from",
            "--db DB --volumes a:1,b:1,c:1 --keep-suspects=maybe",
            "--db DB --volumes a:1,b:1,c:1 --dry-run",
            "--db DB --volumes a:1,b:1,c:1 --port 3000",
        ],
    );
}

#[test]
fn wrong_flags_of_rebalance_are_one_line() {
    assert_usage(REBALANCE, &WRONG_FOR_BOTH);
    assert_usage(
        REBALANCE,
        &[
            "--db DB --volumes a:1,b:1,c:1 --forget",
            "--db DB --volumes a:1,b:1,c:1 --forget http://d:1",
            "--db DB --volumes a:1,b:1,c:1 --from x",
            "--db DB --volumes a:1,b:1,c:1 --port 3000",
        ],
    );
}

#[test]
fn a_volume_both_used_and_forgotten_is_a_wrong_flag() {
    assert_usage(REBALANCE, &["--db DB --volumes a:1,b:1,c:1 --forget c:1"]);
}

#[test]
fn help_and_version_are_no_mistakes() {
    for program in [REBUILD, REBALANCE] {
        for line in ["--help", "--version"] {
            let ended = with_arguments(program, line);
            assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
            assert!(ended.out.contains("davkv-re"), "{ended:?}");
        }
    }
}

/// Another spelling of a volume is another volume to the placement, and the same files.
#[test]
fn volumes_that_are_called_otherwise_lose_nothing() {
    let mut rig = Rig::new(3);
    rig.serve(&["--subvolumes", "1"]);
    let model: Vec<(Key, Vec<u8>)> = keys(20).into_iter().map(|key| (key, b"a value".to_vec())).collect();
    for (key, value) in &model {
        rig.expect("PUT", key, value, 201);
    }
    rig.end_master();
    let respelled: Vec<_> =
        rig.addresses().iter().map(|address| address.replace("127.0.0.1", "localhost")).collect();
    rig.rebalance(&respelled, &["--subvolumes", "1"]).assert_done();
    let seen = contents(&rig.db());
    let files = rig.files();
    for (key, value) in &model {
        let whole = files.iter().filter(|((_, path), bytes)| {
            let names = seen.records[key].replicas.iter().map(|replica| key.path(replica.name));
            *bytes == value && names.into_iter().any(|name| path.ends_with(name.trim_start_matches('/')))
        });
        assert_eq!(whole.count(), REPLICAS, "{key}");
    }
}

#[test]
fn a_misspelt_volume_to_forget_is_told() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.fill(3, &mut Random::new());
    rig.end_master();
    let ended = rig.rebalance(&rig.addresses(), &["--forget", "nowhere:1"]);
    assert!(ended.assert_done().said().iter().any(|line| line.contains("--forget nowhere:1")));
}
