//! Volumes with or without a master, runs of the tools on them, and checks of the result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use davkv::clock::Timestamp;
use davkv::index::notes::{Note, Notes};
use davkv::index::{Index, Options};
use davkv::key::{Key, Name, PARTS};
use davkv::leveldb::{self, Database};
use davkv::placement::Placement;
use davkv::record::{Intent, Record, Replica, State};
use md5::{Digest as _, Md5};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{Gate, Master, Order, Response, Stage, Volume, eventually, request};

pub(crate) const REBUILD: &str = env!("CARGO_BIN_EXE_davkv-rebuild");
pub(crate) const REBALANCE: &str = env!("CARGO_BIN_EXE_davkv-rebalance");

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const REPLICAS: usize = 3;

/// The stored keys, with their states and values.
pub(crate) type Model = BTreeMap<Key, (State, Vec<u8>)>;

/// A file: the index of its volume, and its path below the volume's directory.
pub(crate) type Stored = (usize, String);

/// `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    /// Takes the seed from `DAVKV_SEED`, or chooses one, and prints it.
    pub(crate) fn new() -> Self {
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

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn value(&mut self) -> Vec<u8> {
        let length = 1 + self.below(3000);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text.as_bytes())
}

/// Keys of all kinds: simple ones; ones whose base64 has a `/` inside, at the end, or twice; and ones whose
/// file names are split.
pub(crate) fn keys(count: usize) -> Vec<Key> {
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
        assert!(keys.iter().any(|key| !key.has_plain_name()), "one key has no plain name");
        assert!(keys.iter().any(|key| key.path(Name::Plain).contains('~')), "one key's file name is split");
    }
    keys
}

/// Exit code and output of a program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// A number in the summary: the count, or the exact number of bytes.
    #[track_caller]
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let line = self.out.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {self:?}"));
        let bytes = line.split_once('(').and_then(|(_, rest)| rest.strip_suffix(" bytes)"));
        let count = || line.split_whitespace().nth(1).unwrap().trim_end_matches(',');
        bytes.unwrap_or_else(count).parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_done(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The lines for the operator, without the log.
    pub(crate) fn said(&self) -> Vec<&str> {
        self.err.lines().filter(|line| !line.contains("Z  WARN ")).collect()
    }

    /// Asserts that it failed with this one line and no other output.
    #[track_caller]
    pub(crate) fn assert_one_line(&self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.said().len(), 1, "{self:?}");
        assert!(self.said()[0].contains(part), "no {part:?} in {self:?}");
        assert_eq!(self.out, "");
    }
}

pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) fn tool(program: &str, db: &Path, volumes: &[String], flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--db").arg(db).arg("--volumes").arg(volumes.join(",")).args(flags);
    command
}

/// Everything in an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) records: BTreeMap<Key, Record>,
    pub(crate) parts: BTreeMap<Key, Record>,
    pub(crate) intents: BTreeMap<Key, Vec<Intent>>,
    pub(crate) notes: BTreeMap<Note, Record>,
}

/// Opens an index that no master has open.
#[track_caller]
pub(crate) fn open(db: &Path, create: bool) -> Index {
    let options = Options { create, cache_bytes: 1 << 20, sync: false };
    Index::open(db, options).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[track_caller]
pub(crate) fn contents(db: &Path) -> Contents {
    let index = open(db, false);
    block_on(async {
        let records = async |prefix| {
            let (mut records, mut start) = (BTreeMap::new(), Some(Vec::new()));
            while let Some(from) = start {
                let page = index.page(prefix, &from, None).await.unwrap();
                records.extend(page.rows);
                start = page.next;
            }
            records
        };
        let (records, parts) = (records(b"/").await, records(PARTS).await);
        let (mut intents, mut start) = (BTreeMap::new(), Some(Vec::new()));
        while let Some(from) = start {
            let page = index.intents_page(&from).await.unwrap();
            intents.extend(page.rows);
            start = page.next;
        }
        let mut notes = BTreeMap::new();
        for kind in [Notes::Buckets, Notes::Uploads] {
            let page = index.notes_page(kind, b"", None).await.unwrap();
            assert_eq!(page.next, None, "more notes than the tests make");
            notes.extend(page.rows);
        }
        Contents { records, parts, intents, notes }
    })
}

/// The time that a rebuild gives a value when only its files are known: they have seconds, and a value isn't
/// older than its file.
pub(crate) fn as_volumes_know(modified: Timestamp) -> Timestamp {
    Timestamp::end_of_second(modified.seconds())
}

/// All rows of an index that no master has open, in their stored form.
pub(crate) fn rows(db: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    rows_of(&Database::open(db, &leveldb::Options { create: false, ..Default::default() }).unwrap())
}

/// All rows of a database.
pub(crate) fn rows_of(database: &Database) -> BTreeMap<Vec<u8>, Vec<u8>> {
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

/// Volumes, gates in front of them if a test needs them, and an optional master.
pub(crate) struct Rig {
    // fields drop in this order: the master first, the directory last
    pub(crate) master: Option<Master>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) volumes: Vec<Volume>,
    tempdir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(volumes: usize) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let mut rig = Self { master: None, gates: Vec::new(), volumes: Vec::new(), tempdir };
        for _ in 0..volumes {
            rig.add_volume();
        }
        rig
    }

    /// Volumes with gates in front of them.
    pub(crate) fn gated(volumes: usize) -> Self {
        // a gate uses two connections per request
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        let mut rig = Self::new(volumes);
        rig.gates = rig.volumes.iter().map(Gate::before).collect();
        rig
    }

    pub(crate) fn add_volume(&mut self) {
        let dir = self.tempdir.path().join(format!("volume{}", self.volumes.len()));
        self.volumes.push(Volume::start(&dir));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.tempdir.path().join(name)
    }

    /// The master's index.
    pub(crate) fn db(&self) -> PathBuf {
        self.path("db")
    }

    /// The volumes, or the gates before them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        if self.gates.is_empty() {
            self.volumes.iter().map(Volume::addr).collect()
        } else {
            self.gates.iter().map(Gate::addr).collect()
        }
    }

    /// Starts a master over these volumes, in place of the running one.
    pub(crate) fn serve_on(&mut self, volumes: &[String], flags: &[&str]) {
        self.end_master();
        self.master = Some(Master::start(&self.db(), volumes, flags));
    }

    /// Starts a master over all volumes.
    pub(crate) fn serve(&mut self, flags: &[&str]) {
        self.serve_on(&self.addresses(), flags);
    }

    #[track_caller]
    pub(crate) fn end_master(&mut self) {
        if let Some(mut master) = self.master.take() {
            let status = master.terminate();
            assert!(status.success(), "{status}\n{}", master.log());
        }
    }

    pub(crate) fn send(&self, method: &str, key: &Key, body: &[u8]) -> Response {
        request(&self.master.as_ref().unwrap().addr(), method, key.to_string(), &[], body)
    }

    #[track_caller]
    pub(crate) fn expect(&self, method: &str, key: &Key, body: &[u8], status: u16) {
        let answer = self.send(method, key, body);
        assert_eq!(answer.status, status, "{method} {key}: {}", answer.text());
    }

    /// Stores `count` keys, every fifth of them unlinked, and stops the master.
    pub(crate) fn fill(&mut self, count: usize, random: &mut Random) -> Model {
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

    /// Saves a dump of the master's index in a file of that name.
    #[track_caller]
    pub(crate) fn dump(&self, name: &str) -> PathBuf {
        let answer = request(&self.master.as_ref().unwrap().addr(), "GET", "/?dump", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        fs::write(self.path(name), answer.body).unwrap();
        self.path(name)
    }

    /// The replica of that rank, with all volumes in use.
    pub(crate) fn replica(&self, key: &Key, rank: usize, name: Name) -> Replica {
        let placement = Placement::new(self.addresses(), REPLICAS, 10);
        Replica { place: placement.rank(key)[rank].clone(), name }
    }

    pub(crate) fn stored(&self, key: &Key, replica: &Replica) -> Stored {
        let volume = self.addresses().iter().position(|address| address == replica.place.volume());
        let path = format!("{}{}", replica.place.directory(), key.path(replica.name));
        (volume.unwrap(), path.trim_start_matches('/').to_owned())
    }

    pub(crate) fn file(&self, (volume, path): &Stored) -> PathBuf {
        self.volumes[*volume].dir().join(path)
    }

    /// Creates a file of the key on the volume of that rank, as a PUT would have.
    pub(crate) fn lay(&self, key: &Key, rank: usize, name: Name, value: &[u8]) -> Stored {
        let stored = self.stored(key, &self.replica(key, rank, name));
        lay(&self.file(&stored), value);
        stored
    }

    pub(crate) fn rebuild(&self, db: &Path, flags: &[&str]) -> Ended {
        run(&mut tool(REBUILD, db, &self.addresses(), flags))
    }

    pub(crate) fn rebalance(&self, volumes: &[String], flags: &[&str]) -> Ended {
        run(&mut tool(REBALANCE, &self.db(), volumes, flags))
    }

    /// All files on the volumes.
    pub(crate) fn files(&self) -> BTreeMap<Stored, Vec<u8>> {
        let volumes = self.volumes.iter().enumerate();
        volumes.flat_map(|(n, volume)| volume.files().into_iter().map(move |(p, v)| ((n, p), v))).collect()
    }

    /// Asserts that each key's whole value is at its placement on these volumes, and that there are no other
    /// files.
    #[track_caller]
    pub(crate) fn assert_tidy(&self, volumes: &[String], model: &Model) {
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

/// Creates the file, in directories in which the volume's workers can delete it, even if they run as another
/// user.
pub(crate) fn lay(path: &Path, bytes: &[u8]) {
    let new: Vec<_> = path.ancestors().skip(1).take_while(|directory| !directory.exists()).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for directory in new {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

/// Whether the number of files is that of the replicas of these keys.
pub(crate) fn is_as_many(rig: &Rig, model: &Model) -> bool {
    rig.volumes.iter().map(|volume| volume.files().len()).sum::<usize>() == model.len() * REPLICAS
}

/// Gives this order to the nth of these requests, counted over all gates.
pub(crate) fn hold(gates: &[Gate], method: &'static str, n: usize, order: Order) {
    let seen = Arc::new(AtomicUsize::new(0));
    for gate in gates {
        let seen = Arc::clone(&seen);
        gate.rule(move |m, _| (m == method && seen.fetch_add(1, Ordering::SeqCst) + 1 == n).then_some(order));
    }
}

pub(crate) fn is_held(gates: &[Gate], method: &str) -> bool {
    gates.iter().any(|gate| gate.count(method, Stage::Held) + gate.count(method, Stage::AnswerHeld) > 0)
}

pub(crate) fn open_and_release(gates: &[Gate], method: &str) {
    for gate in gates {
        gate.open();
        gate.release();
    }
    eventually("nothing is held", PATIENCE, || !is_held(gates, method));
}

/// A background program, killed on drop.
pub(crate) struct Background(Child);

impl Background {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until `condition` holds; panics if the program ends before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        eventually(what, PATIENCE, || {
            let held = condition();
            assert!(held || self.0.try_wait().unwrap().is_none(), "the program ended before this: {what}");
            held
        });
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // it may have ended already
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
