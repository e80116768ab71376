//! Clients that write and read the same keys concurrently, and record what they saw. Half of the keys are
//! written only through the native API, the others through S3, too (see [`s3`](crate::s3)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;

use crate::common::http::{Connection, Response, head};
use crate::common::{Random, eventually};
use crate::linear::{Action, Operation, Outcome, Value, When};
use crate::s3::{self, Part};

/// More clients would make histories hard to check.
const CLIENTS: usize = 6;
/// Few, so that the clients' operations overlap.
const SLOTS: u64 = 12;
/// Keys of the slots from here on are also written through S3.
const SHARED: u64 = 6;
/// After this many operations, a slot gets a new key.
const OPERATIONS: usize = 150;

/// How long a client waits for the next byte of an answer: from the master, longer than the master waits for
/// volumes …
const MASTER_PATIENCE: Duration = Duration::from_secs(20);
/// … and from a volume, before it asks the master again.
const VOLUME_PATIENCE: Duration = Duration::from_secs(1);
/// The pause after a refused connection, or after a redirect to a volume that is gone; …
pub const BACKOFF: Duration = Duration::from_millis(20);
/// … and after an answer that leaves a write in doubt, so that histories don't fill up with doubt.
const BACKOFF_IN_DOUBT: Duration = Duration::from_millis(200);
/// The same while the index can't be written, which leaves every write in doubt for some seconds.
const BACKOFF_WITHOUT_INDEX: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_mins(1);

/// The state that the clients share.
pub struct Load {
    pub master: String,
    /// The maximum size of values, in bytes.
    longest: u64,
    begun: Instant,
    slots: Vec<Mutex<Slot>>,
    histories: Mutex<BTreeMap<Register, Vec<Operation>>>,
    /// The registers with operations that have not been checked yet.
    unchecked: Mutex<BTreeSet<Register>>,
    /// The values by entity tag.
    tags: Mutex<HashMap<String, Value>>,
    pub uploads: s3::Uploads,
    /// When masters died.
    deaths: Mutex<Vec<u64>>,
    /// Intervals in which the master was down.
    absences: Mutex<Vec<(u64, u64)>>,
    /// Intervals in which the index could not be written.
    index_failures: Mutex<Vec<(u64, u64)>>,
    /// Whether it can't be written now.
    index_is_full: AtomicBool,
    /// Writes that were answered with 500.
    errors: Mutex<Vec<Request>>,
    requests: Mutex<Vec<Request>>,
    /// The number of redirects to a volume that was gone.
    retries: AtomicUsize,
    answers: AtomicUsize,
    stop: AtomicBool,
}

/// The subject of a history: a key, or a part of one of its uploads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Register {
    pub key: String,
    pub part: Option<Part>,
}

impl Register {
    pub fn key(key: &str) -> Self {
        Self { key: key.to_owned(), part: None }
    }
}

/// The place of a key, which is replaced when its history gets long.
#[derive(Default)]
struct Slot {
    keys: usize,
    operations: usize,
}

/// One well-formed request, for the statistics.
pub struct Request {
    pub method: &'static str,
    pub called: u64,
    pub answered: u64,
    /// The status of the master's last answer; 0 if there was none.
    pub status: u16,
}

impl Request {
    fn falls_into(&self, times: &[(u64, u64)]) -> bool {
        times.iter().any(|(from, to)| self.called <= *to && *from <= self.answered)
    }
}

/// How a client sends a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    WithLength,
    InChunks,
    /// In `aws-chunked` encoding.
    InS3sChunks,
    /// Completely, but disconnects before the answer.
    Unheard,
    LeavesAfterTheHead,
    LeavesMidway,
    /// Announces more bytes than it sends.
    TooShort,
    WrongMd5,
    /// Sends a byte, another one second later, and disconnects.
    Drips,
}

/// The key for a client's next operation.
struct Chosen {
    key: String,
    /// Whether it may be written through S3, too.
    shared: bool,
    /// A replaced key, to be deleted.
    retired: Option<String>,
}

/// Tells the clients to stop.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    pub fn new(master: String, longest: u64) -> Self {
        Self {
            master,
            longest,
            begun: Instant::now(),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            histories: Mutex::default(),
            unchecked: Mutex::default(),
            tags: Mutex::default(),
            uploads: s3::Uploads::default(),
            deaths: Mutex::default(),
            absences: Mutex::default(),
            index_failures: Mutex::default(),
            index_is_full: AtomicBool::new(false),
            errors: Mutex::default(),
            requests: Mutex::default(),
            retries: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Runs the clients while `act` runs.
    pub fn run(&self, random: &mut Random, act: impl FnOnce(&mut Random)) {
        std::thread::scope(|scope| {
            // also when `act` panics, because the scope waits for the clients before it propagates the panic
            let stop = StopOnDrop(&self.stop);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| Client { number, random: Random(random.next()), load: self })
                .map(|client| scope.spawn(|| client.run()))
                .collect();
            act(random);
            drop(stop);
            for client in clients {
                client.join().unwrap();
            }
        });
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Waits until the clients have got this many more answers.
    #[track_caller]
    pub fn wait_for(&self, answers: usize) {
        let end = self.answers() + answers;
        eventually("the clients get more answers", PATIENCE, || self.answers() >= end || self.stopped());
        assert!(!self.stopped(), "a client has failed");
    }

    /// Waits for a time, during which faults last.
    pub fn let_pass(&self, time: Duration) {
        let end = Instant::now() + time;
        eventually("the time is over", time + PATIENCE, || Instant::now() >= end || self.stopped());
        assert!(!self.stopped(), "a client has failed");
    }

    /// Whether the clients are to stop; one that fails stops all.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    pub fn note_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn retries(&self) -> usize {
        self.retries.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the load began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap()
    }

    /// Records that the master has died: its requests have taken effect by now, or never will.
    pub fn master_died(&self) {
        lock(&self.deaths).push(self.now());
    }

    /// Records that the master was down from `since` until now.
    pub fn master_was_away(&self, since: u64) {
        lock(&self.absences).push((since, self.now()));
    }

    /// Records that the index can't be written from now on.
    pub fn index_is_full(&self) {
        self.index_is_full.store(true, Ordering::Relaxed);
    }

    /// Records that the index could not be written from `since` until now.
    pub fn index_was_full(&self, since: u64) {
        self.index_is_full.store(false, Ordering::Relaxed);
        lock(&self.index_failures).push((since, self.now()));
    }

    pub fn index_could_not_be_written_at(&self, time: u64) -> bool {
        lock(&self.index_failures).iter().any(|(from, to)| (*from..=*to).contains(&time))
    }

    /// The well-formed requests outside the intervals in which the master was down or, for writes, the index
    /// could not be written.
    pub fn requests_while_the_master_was_there(&self) -> Vec<Request> {
        let (absences, index_failures) = (lock(&self.absences), lock(&self.index_failures));
        let there = |request: &Request| {
            let away = request.falls_into(&absences);
            let reads = matches!(request.method, "GET" | "S3 GET" | "S3 HEAD" | "S3 LIST");
            !away && (reads || !request.falls_into(&index_failures))
        };
        std::mem::take(&mut *lock(&self.requests)).into_iter().filter(there).collect()
    }

    /// Asserts that each 500 has a known reason.
    #[track_caller]
    pub fn assert_errors_are_explained(&self) {
        let index_failures = lock(&self.index_failures);
        for error in lock(&self.errors).iter() {
            let Request { method, called, answered, .. } = error;
            assert!(error.falls_into(&index_failures), "{method} {called}–{answered}: 500 without a reason");
        }
    }

    /// The number of requests of that method with that status.
    pub fn count(&self, method: &str, status: u16) -> usize {
        let requests = lock(&self.requests);
        requests.iter().filter(|request| request.method == method && request.status == status).count()
    }

    /// The keys that are currently written.
    pub fn current_keys(&self) -> Vec<String> {
        let name = |(slot, keys): (usize, &Mutex<Slot>)| name(slot as u64, lock(keys).keys);
        self.slots.iter().enumerate().map(name).collect()
    }

    /// The buckets that are written through S3.
    pub fn buckets() -> impl Iterator<Item = String> {
        (SHARED..SLOTS).map(|slot| slot.to_string())
    }

    /// The keys of [`Load::unchecked`].
    pub fn unchecked_keys(&self) -> Vec<String> {
        let unchecked = lock(&self.unchecked);
        unchecked.iter().filter(|register| register.part.is_none()).map(|key| key.key.clone()).collect()
    }

    /// The histories that have changed since the last call. Doubtful operations end with the death of their
    /// master.
    pub fn unchecked(&self) -> Vec<(Register, Vec<Operation>)> {
        let (histories, deaths) = (lock(&self.histories), lock(&self.deaths));
        let settled = |operation: &Operation| {
            let death = deaths.iter().find(|death| **death >= operation.called).copied();
            match operation.outcome {
                Outcome::Doubtful => Operation { answered: death.unwrap_or(u64::MAX), ..*operation },
                _ => *operation,
            }
        };
        let registers = std::mem::take(&mut *lock(&self.unchecked));
        let history = |register: Register| {
            let history = histories[&register].iter().map(settled).collect();
            (register, history)
        };
        registers.into_iter().map(history).collect()
    }

    /// All operations.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.histories).values().flatten().copied().collect()
    }

    /// Records the entity tag of a value before it is sent.
    pub fn will_have_tag(&self, value: Value, tag: &str) {
        lock(&self.tags).insert(tag.to_owned(), value);
    }

    /// The value with the entity tag of an answer.
    #[track_caller]
    pub fn tagged(&self, answer: &Response) -> Value {
        self.value_of(answer.header("etag").expect("an ETag").trim_matches('"'))
    }

    /// The value with that entity tag.
    #[track_caller]
    pub fn value_of(&self, tag: &str) -> Value {
        *lock(&self.tags).get(tag).unwrap_or_else(|| panic!("no value with the tag {tag} was ever sent"))
    }

    /// An additional client for the test itself.
    pub fn auditor(&self) -> Client<'_> {
        Client { number: CLIENTS, random: Random(0), load: self }
    }
}

/// One client. It panics at a wrong answer.
pub struct Client<'a> {
    number: usize,
    pub random: Random,
    pub load: &'a Load,
}

impl Client<'_> {
    fn run(mut self) {
        // a client that fails stops all
        let failing = StopOnDrop(&self.load.stop);
        while !self.load.stopped() {
            let Chosen { key, shared, retired } = self.choose();
            if let Some(retired) = retired {
                self.write(&retired, Action::Delete);
                self.abort_all(&retired);
            }
            if shared && self.random.below(2) == 0 {
                self.act_by_s3(&key);
            } else {
                self.act(&key);
            }
        }
        drop(failing);
    }

    fn act(&mut self, key: &str) {
        match self.random.below(100) {
            0..45 => drop(self.read(key)),
            45..75 => self.put(key),
            75..89 => self.write(key, Action::Delete),
            89..93 => self.write(key, Action::Unlink),
            93..97 => self.write(key, Action::Relink),
            _ => self.write(key, Action::Rebalance),
        }
    }

    /// The key of a slot. If its history is long enough, the slot gets a new key, and usually the old one is
    /// returned to be deleted.
    fn choose(&mut self) -> Chosen {
        let number = self.random.below(SLOTS);
        let mut slot = lock(&self.load.slots[usize::try_from(number).unwrap()]);
        slot.operations += 1;
        let mut retired = None;
        if slot.operations > OPERATIONS {
            retired = (self.random.below(4) > 0).then(|| name(number, slot.keys));
            *slot = Slot { keys: slot.keys + 1, operations: 1 };
        }
        Chosen { key: name(number, slot.keys), shared: number >= SHARED, retired }
    }

    /// Reads the key, and records the outcome. `None`: the master gave no conclusive answer.
    pub fn read(&self, key: &str) -> Option<Outcome> {
        let called = self.load.now();
        loop {
            let answer = self.connect().map(|connection| self.ask(connection, "GET", key));
            let unheard = matches!(answer, Some(None));
            let answer = answer.flatten();
            match answer.as_ref().map_or(0, |answer| answer.status) {
                404 => return Some(self.note_read(key, called, 404, Outcome::Refused)),
                302 => {
                    let url = answer.as_ref().and_then(|answer| answer.header("location")).unwrap();
                    if let Some(value) = self.follow(url) {
                        assert_eq!(self.load.tagged(answer.as_ref().unwrap()), value, "the ETag of {key}");
                        return Some(self.note_read(key, called, 302, Outcome::Read(value)));
                    }
                    self.load.note_retry();
                }
                503 => {
                    self.note_request("GET", called, 503);
                    return None;
                }
                0 if unheard => self.note_request("GET", called, 0),
                0 => {}
                status => panic!("GET {key}: {status}"),
            }
            if self.load.stopped() {
                return None;
            }
            std::thread::sleep(BACKOFF);
        }
    }

    fn note_read(&self, key: &str, called: u64, status: u16, outcome: Outcome) -> Outcome {
        self.note_request("GET", called, status);
        self.note(key, called, Action::Get, outcome);
        outcome
    }

    /// The number of the value behind a redirect; `None` if the volume or the file is gone.
    fn follow(&self, url: &str) -> Option<Value> {
        let (addr, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let answer = Connection::open_within(VOLUME_PATIENCE, None, addr).and_then(|mut connection| {
            connection.send(&head(addr, "GET", format!("/{path}").as_bytes(), &[], 0))?;
            connection.receive("GET")
        });
        let answer = answer.ok().filter(|answer| answer.status == 200)?;
        Some(self.load.identify(&answer.body, url))
    }

    /// A number that no other value has.
    pub fn new_value(&mut self) -> Value {
        (self.number as u64) << 48 | self.random.next() >> 16
    }

    pub fn draw_manner(&mut self) -> Manner {
        match self.random.below(1000) {
            0..700 => Manner::WithLength,
            700..960 => Manner::InChunks,
            960..970 => Manner::Unheard,
            970..977 => Manner::LeavesAfterTheHead,
            977..984 => Manner::LeavesMidway,
            984..991 => Manner::TooShort,
            991..998 => Manner::WrongMd5,
            _ => Manner::Drips,
        }
    }

    pub fn put(&mut self, key: &str) {
        let manner = self.draw_manner();
        let number = self.new_value();
        let action = Action::Put(When::Absent, number);
        let value = self.load.value(number);
        self.load.will_have_tag(number, &hex_md5(&value));
        let Some(connection) = self.connect() else { return };
        let called = self.load.now();
        let status = self.send_value(connection, key, &[], manner, &value).map_or(0, |answer| answer.status);
        let whole = manner.is_whole();
        assert!(whole || status != 201, "{manner:?} was stored");
        if manner.is_honest() || status == 500 {
            self.note_request("PUT", called, status);
        }
        match status {
            201 => self.note(key, called, action, Outcome::Done),
            403 => self.note(key, called, action, Outcome::Refused),
            0 | 500 if whole => self.note_doubt(Register::key(key), called, action),
            0 | 400 | 500 if !whole => {}
            // these answers promise that nothing was stored
            409 | 503 | 507 => {}
            _ => panic!("PUT {key}, {manner:?}: {status}"),
        }
    }

    /// Sends the value in that manner, and returns the answer, if there is one.
    pub fn send_value(
        &mut self,
        mut connection: Connection,
        target: &str,
        headers: &[(&str, &str)],
        manner: Manner,
        value: &[u8],
    ) -> Option<Response> {
        let framed;
        let (decoded_length, mut value) = (value.len().to_string(), value);
        if manner == Manner::InS3sChunks {
            framed = s3::framed(value, 1 + usize::try_from(self.random.below(1 << 17)).unwrap());
            value = &framed;
        }
        let length = value.len() + if manner == Manner::TooShort { 10 } else { 0 };
        let length = length.to_string();
        let framing: &[(&str, &str)] = match manner {
            Manner::InChunks => &[("Transfer-Encoding", "chunked")],
            Manner::InS3sChunks => &[
                ("Content-Length", &length),
                ("Content-Encoding", "aws-chunked"),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", &decoded_length),
            ],
            Manner::WrongMd5 => &[("Content-Length", &length), ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
            _ => &[("Content-Length", &length)],
        };
        let headers = [headers, framing].concat();
        let head = head(&self.load.master, "PUT", target.as_bytes(), &headers, value.len());
        let part = 1 + usize::try_from(self.random.below(value.len() as u64 - 1)).unwrap();
        let mut send = || -> io::Result<()> {
            connection.send(&head)?;
            match manner {
                Manner::LeavesAfterTheHead => Ok(()),
                Manner::LeavesMidway => connection.send(&value[..part]),
                Manner::Drips => value[..3].chunks(1).try_for_each(|byte| {
                    connection.send(byte)?;
                    std::thread::sleep(Duration::from_secs(1));
                    Ok(())
                }),
                Manner::InChunks => {
                    for piece in value.chunks(part) {
                        connection.send(format!("{:x}\r\n", piece.len()).as_bytes())?;
                        connection.send(piece)?;
                        connection.send(b"\r\n")?;
                    }
                    connection.send(b"0\r\n\r\n")
                }
                Manner::TooShort => connection.send(value).and_then(|()| connection.finish()),
                Manner::WithLength | Manner::InS3sChunks | Manner::Unheard | Manner::WrongMd5 => {
                    connection.send(value)
                }
            }
        };
        // a refusal may arrive before everything is sent
        drop(send());
        match manner {
            Manner::Unheard | Manner::LeavesAfterTheHead | Manner::LeavesMidway | Manner::Drips => None,
            _ => connection.receive("PUT").ok(),
        }
    }

    /// Sends a write without a body.
    pub fn write(&self, key: &str, action: Action) {
        let method = match action {
            Action::Delete => "DELETE",
            Action::Unlink => "UNLINK",
            Action::Relink => "RELINK",
            Action::Rebalance => "REBALANCE",
            other => unreachable!("{other:?} isn't native, or has a body"),
        };
        let Some(connection) = self.connect() else { return };
        let called = self.load.now();
        let status = self.ask(connection, method, key).map_or(0, |answer| answer.status);
        self.note_request(method, called, status);
        match status {
            204 => self.note(key, called, action, Outcome::Done),
            404 => self.note(key, called, action, Outcome::Refused),
            0 | 500 => self.note_doubt(Register::key(key), called, action),
            // these answers promise that nothing was done
            409 | 503 | 507 => {}
            _ => panic!("{method} {key}: {status}"),
        }
    }

    /// A connection to the master; without one, nothing can have been sent.
    pub fn connect(&self) -> Option<Connection> {
        let connection = Connection::open_within(MASTER_PATIENCE, None, &self.load.master);
        if connection.is_err() && !self.load.stopped() {
            std::thread::sleep(BACKOFF);
        }
        connection.ok()
    }

    /// Sends a request without a body, and returns the answer, if there is one.
    pub fn ask(&self, mut connection: Connection, method: &str, key: &str) -> Option<Response> {
        connection.send(&head(&self.load.master, method, key.as_bytes(), &[], 0)).ok()?;
        connection.receive(method).ok()
    }

    pub fn note_request(&self, method: &'static str, called: u64, status: u16) {
        let answered = self.load.now();
        if status == 500 {
            lock(&self.load.errors).push(Request { method, called, answered, status });
        }
        lock(&self.load.requests).push(Request { method, called, answered, status });
        self.load.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_doubt(&self, register: Register, called: u64, action: Action) {
        // a REBALANCE has no visible effect that would need an explanation
        if action != Action::Rebalance {
            self.note_of(register, called, action, Outcome::Doubtful);
        }
        if !self.load.stopped() {
            let without_index = self.load.index_is_full.load(Ordering::Relaxed);
            std::thread::sleep(if without_index { BACKOFF_WITHOUT_INDEX } else { BACKOFF_IN_DOUBT });
        }
    }

    pub fn note(&self, key: &str, called: u64, action: Action, outcome: Outcome) {
        self.note_of(Register::key(key), called, action, outcome);
    }

    /// Records an operation on a key or on a part.
    pub fn note_of(&self, register: Register, called: u64, action: Action, outcome: Outcome) {
        let answered = if outcome == Outcome::Doubtful { u64::MAX } else { self.load.now() };
        let operation = Operation { client: self.number, action, outcome, called, answered };
        lock(&self.load.unchecked).insert(register.clone());
        lock(&self.load.histories).entry(register).or_default().push(operation);
    }
}

/// The percent-encoded name of a slot's key; some are unusual.
fn name(slot: u64, number: usize) -> String {
    match slot % 6 {
        // without a plain name, because its base64 ends in a slash
        0 => format!("/{slot}/{number:04}%3f"),
        // its file name is split in two
        1 => format!("/{slot}/{number}/{}", "long".repeat(60)),
        2 => format!("/{slot}/{number}/gr%C3%BC%C3%9Fe%20%2B%3F%25"),
        _ => format!("/{slot}/key{number}"),
    }
}

impl Load {
    /// The bytes of a value, which its number determines.
    pub fn value(&self, number: Value) -> Vec<u8> {
        let mut random = Random(number);
        let length = match random.below(8) {
            _ if number & s3::IN_TWO_PARTS > 0 => s3::FIRST_PART as u64 + 1 + random.below(4096),
            0 => self.longest / 2 + random.below(self.longest / 2),
            _ => 16 + random.below(4096),
        };
        let mut bytes = format!("{number:016x}").into_bytes();
        while bytes.len() < usize::try_from(length).unwrap() {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes
    }

    /// The number of the value with these bytes.
    #[track_caller]
    pub fn identify(&self, bytes: &[u8], place: &str) -> Value {
        let number = bytes.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = number.and_then(|digits| Value::from_str_radix(digits, 16).ok());
        let number = number.unwrap_or_else(|| panic!("{place} has a value that was never sent"));
        assert!(bytes == self.value(number), "{place} has wrong bytes");
        number
    }
}

impl Manner {
    /// Whether the value may be stored.
    pub fn is_whole(self) -> bool {
        self.is_honest() || self == Self::Unheard
    }

    /// Whether the request is well-formed and the client waits for the answer.
    pub fn is_honest(self) -> bool {
        matches!(self, Self::WithLength | Self::InChunks | Self::InS3sChunks)
    }
}

/// Decodes the percent-encoded form of a key.
pub fn decoded(key: &str) -> String {
    percent_decode_str(key).decode_utf8().unwrap().into_owned()
}

pub fn hex_md5(bytes: &[u8]) -> String {
    davkv::record::hex(&Md5::digest(bytes).into())
}

/// Locks a mutex even if a client has panicked; what it recorded before is valid.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
