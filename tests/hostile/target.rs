//! A master under attack, and its state before the attack.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use davkv::key::Key;

use crate::answer::{Answer, parse};
use crate::common::http::{Response, request};
use crate::common::{Cluster, Volume, eventually};

/// Where the master redirects readers of keys that don't exist, so that each requested key is repeated in a
/// `Location`.
const FALLBACK: &str = "fallback.example:80";

/// A value that hostile requests must not change.
const VICTIM: &str = "/victim";

/// Sent after a hostile request on the same connection. It is longer than any body that a mutated length
/// announces.
const PROBE: &[u8] = b"GET /victim HTTP/1.1\r\nHost: a-name.that-makes-this.longer-than-ninety-nine.bytes.example\r\nX: yz\r\n\r\n";

/// All statuses of the native API. 503 is for a key with many interrupted uploads.
const ANSWERS: [u16; 14] = [100, 200, 201, 204, 302, 400, 403, 404, 405, 409, 411, 414, 431, 503];

/// Additional statuses of the S3 API.
const S3_ANSWERS: [u16; 6] = [206, 304, 307, 412, 416, 501];

/// Upper bound on the growth of the master's peak memory, in bytes. Most of it is LevelDB's, whose tables in
/// memory have 4 MiB each; after 400,000 inputs it stops growing.
const GROWTH: u64 = 32 * 1024 * 1024;

/// The number of attacking threads.
const CLIENTS: usize = 4;

/// Upper bound on the connections to volumes that the master keeps open: one for each request that can be
/// under way at a time, of the clients and of as many that have disconnected.
const TO_VOLUMES: usize = 3 * 2 * CLIENTS;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Target {
    pub(crate) cluster: Cluster,
    pid: u32,
    descriptors: usize,
    memory: u64,
    tried: AtomicUsize,
    /// The number of answers by status.
    answers: Mutex<BTreeMap<u16, usize>>,
    fresh: AtomicUsize,
}

impl Target {
    /// A master over three volumes that has served a few requests.
    pub(crate) fn new(flags: &[&str]) -> Self {
        // leftovers are deleted soon, and no volume is too slow
        let ours = ["--cache 1", "--readergrace 1s", "--quarantine 1s", "--voltimeout 10s"];
        let ours: Vec<&str> = ours.iter().flat_map(|flag| flag.split(' ')).collect();
        let cluster = Cluster::new(3, &[&ours, flags].concat());
        let pid = cluster.master.pid();
        let target = Self {
            cluster,
            pid,
            descriptors: 0,
            memory: 0,
            tried: AtomicUsize::default(),
            answers: Mutex::default(),
            fresh: AtomicUsize::default(),
        };
        assert_eq!(target.cluster.request("PUT", VICTIM, b"unharmed").status, 201);
        target.still_serves("nothing yet");
        let (_, descriptors) = target.descriptors();
        Self { descriptors, memory: target.cluster.master.peak_memory(), ..target }
    }

    /// As [`Target::new`], with a fallback.
    pub(crate) fn with_fallback() -> Self {
        Self::new(&["--fallback", FALLBACK])
    }

    /// Sends these bytes, ends the sending side, and returns the answers.
    #[track_caller]
    pub(crate) fn send(&self, what: &str, input: &[u8]) -> Vec<Answer> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        let shown = || {
            let shown = &input[..input.len().min(300)];
            format!("{what}: {}", shown.escape_ascii())
        };
        let bytes = self.converse(input).unwrap_or_else(|error| panic!("{error} after {}", shown()));
        let heads = input.windows(4).any(|four| four == b"HEAD");
        let answers = parse(&bytes, heads)
            .unwrap_or_else(|error| panic!("{error}, in {} after {}", bytes.escape_ascii(), shown()));
        for answer in &answers {
            let is_known =
                ANSWERS.contains(&answer.status) || (answer.is_s3() && S3_ANSWERS.contains(&answer.status));
            assert!(is_known, "{answer:?} after {}", shown());
            // the location of a new bucket is its path
            let is_ours = |location| self.is_ours(location) || (answer.is_s3() && answer.status == 200);
            let location = answer.header("location").is_none_or(is_ours);
            assert!(location, "{answer:?} after {}", shown());
            *self.answers.lock().unwrap().entry(answer.status).or_default() += 1;
        }
        answers
    }

    /// Sends a request and another one after it, on the same connection. Asserts that the first gets one of
    /// these statuses (0: no answer), and that the connection then serves the second one or closes.
    #[track_caller]
    pub(crate) fn attack(&self, what: &str, input: &[u8], statuses: &[u16]) {
        let answers = self.send(what, &[input, PROBE].concat());
        let finals: Vec<_> = answers.iter().filter(|answer| answer.status != 100).collect();
        let first = finals.first().map_or(0, |answer| answer.status);
        let shown = input[..input.len().min(300)].escape_ascii();
        assert!(statuses.contains(&first), "{what}: {first} is not among {statuses:?} after {shown}");
        let served_on = |answer: &Answer| answer.header("etag").is_some();
        let ended = |answer: &Answer| answer.last || answer.status >= 400;
        let sound = finals.last().is_none_or(|answer| served_on(answer) || ended(answer));
        assert!(
            sound,
            "{what}: the connection neither served the next request nor closed: {answers:?} after {shown}"
        );
    }

    /// Asserts that a new key can be written, read and deleted.
    #[track_caller]
    pub(crate) fn still_serves(&self, after: &str) {
        let key = format!("/fresh/{}", self.fresh.fetch_add(1, Ordering::Relaxed));
        for (method, body, status) in [("PUT", "value", 201), ("GET", "", 302), ("DELETE", "", 204)] {
            let answer = self.cluster.request(method, &key, body.as_bytes());
            assert_eq!(answer.status, status, "{method} after {after}: {}", answer.text());
        }
    }

    /// Asserts that the state is as before, except for what well-formed requests have stored; prints how many
    /// inputs were tried.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self) {
        self.assert_unharmed_but_grown_by(GROWTH);
    }

    /// As [`Target::assert_unharmed`], where the master's peak memory may grow by `most` bytes.
    #[track_caller]
    pub(crate) fn assert_unharmed_but_grown_by(&self, most: u64) {
        println!("inputs tried: {}", self.tried.load(Ordering::Relaxed));
        println!("answers by status: {:?}", self.answers.lock().unwrap());
        self.still_serves("all");
        let victim = self.cluster.fetch(VICTIM);
        assert_eq!((victim.status, victim.text().as_str()), (200, "unharmed"));
        assert_eq!(self.cluster.master.pid(), self.pid);
        let growth = self.cluster.master.peak_memory() - self.memory;
        println!("peak memory: {} KiB more than at first", growth / 1024);
        assert!(growth < most, "the master grew by {growth} bytes");
        self.assert_log_is_clean();
        let mut untidy = Vec::new();
        eventually("the volumes hold only the live keys' files", PATIENCE, || {
            let before = std::mem::replace(&mut untidy, self.untidy());
            if !untidy.is_empty() && untidy != before {
                println!("not yet tidy: {untidy:?}");
            }
            untidy.is_empty()
        });
        self.await_descriptors();
    }

    /// Waits until the master has no more descriptors than before.
    #[track_caller]
    pub(crate) fn await_descriptors(&self) {
        eventually("the descriptors are closed", PATIENCE, || {
            let (to_volumes, others) = self.descriptors();
            others <= self.descriptors && to_volumes <= TO_VOLUMES
        });
    }

    /// The master's open descriptors, except its index's files: connections to volumes, and others.
    fn descriptors(&self) -> (usize, usize) {
        let db = self.cluster.tempdir.path().join("db");
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).unwrap();
        let volumes: Vec<String> =
            self.cluster.volumes.iter().map(|volume| tcp_table_form(&volume.addr())).collect();
        let to_volumes: BTreeSet<String> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|columns| volumes.iter().any(|volume| volume == columns[2]))
            .map(|columns| format!("socket:[{}]", columns[9]))
            .collect();
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let (ours, others): (Vec<_>, Vec<_>) = links
            .filter(|link| !link.starts_with(&db))
            .partition(|link| link.to_str().is_some_and(|link| to_volumes.contains(link)));
        (ours.len(), others.len())
    }

    /// Everything that the master sends until it closes the connection, which it must do because no more
    /// input follows.
    fn converse(&self, input: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.cluster.master.addr())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // the master may refuse and close before it has read everything; its answer counts more than the
        // failed send
        drop(stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write)));
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(bytes),
        }
    }

    /// Whether a location is exactly that of a volume's file, or of a key at the fallback.
    fn is_ours(&self, location: &str) -> bool {
        let Some((server, path)) = location.strip_prefix("http://").and_then(|rest| rest.split_once('/'))
        else {
            return false;
        };
        let extra = if server == FALLBACK {
            "-._~%/"
        } else if self.cluster.volumes.iter().any(|volume| volume.addr() == server) {
            "+/=-_,~"
        } else {
            return false;
        };
        path.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    }

    /// Lists all keys in a state.
    #[track_caller]
    fn keys(&self, query: &str) -> BTreeSet<String> {
        let answer: Response = request(&self.cluster.master.addr(), "GET", query, &[], b"");
        let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        list["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    /// Files of neither a listed key nor a part of an upload, and files that are not on exactly three
    /// volumes.
    fn untidy(&self) -> Vec<String> {
        let keys = self.keys("/?list").into_iter().chain(self.keys("/?unlinked"));
        let mut missing: BTreeMap<String, i32> = keys.map(|key| (key, 3)).collect();
        let mut untidy = Vec::new();
        for (path, _) in self.cluster.volumes.iter().flat_map(Volume::files) {
            let key = Key::from_path(&path["sv00".len()..]).map(|(key, _)| key);
            if let Some(part) = key.as_ref().filter(|key| key.as_part().is_some()) {
                *missing.entry(part.to_string()).or_insert(3) -= 1;
                continue;
            }
            let key = key.map(|key| key.as_bytes().to_vec());
            match key.and_then(|key| missing.get_mut(String::from_utf8(key).ok()?.as_str())) {
                Some(missing) => *missing -= 1,
                None => untidy.push(path),
            }
        }
        missing.retain(|_, missing| *missing != 0);
        untidy.extend(missing.into_iter().map(|(key, missing)| format!("{key} lacks {missing}")));
        untidy
    }

    /// Asserts that no log line is broken, and that none reports an error or a panic.
    #[track_caller]
    fn assert_log_is_clean(&self) {
        for line in self.cluster.master.log().lines() {
            let (time, rest) = line.split_at_checked(27).unwrap_or((line, ""));
            let level = rest.split_whitespace().next();
            let is_ours =
                time.starts_with("20") && time.ends_with('Z') && matches!(level, Some("INFO" | "WARN"));
            assert!(is_ours && !line.contains(|c: char| c.is_control()), "{line:?}");
        }
    }
}

/// Calls `attack` with each of the 256 bytes, several at a time.
pub(crate) fn for_each_byte(attack: impl Fn(u8) + Sync) {
    let next = AtomicUsize::new(0);
    by_all_clients(|| {
        while let Ok(byte) = u8::try_from(next.fetch_add(1, Ordering::Relaxed)) {
            attack(byte);
        }
    });
}

/// Runs `work` on several threads at once.
pub(crate) fn by_all_clients(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(&work);
        }
    });
}

/// An IPv4 address in the form of /proc/net/tcp: `0100007F:1F90` for 127.0.0.1:8080.
fn tcp_table_form(addr: &str) -> String {
    let addr: std::net::SocketAddrV4 = addr.parse().unwrap();
    format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port())
}
