//! S3 clients: overwrites with and without conditions, reads through the master, deletions, and uploads in
//! parts, each of which any client may complete or abort.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::Response;
use crate::common::http::{Connection, head};
use crate::linear::{self, Action, Outcome, Value, When};
use crate::load::{BACKOFF, Client, Manner, Register, decoded, hex_md5, lock};

/// The minimum size of each part but the last.
pub const FIRST_PART: usize = 5 * 1024 * 1024;

/// Values whose number has this bit have two parts when they are uploaded in parts.
pub const IN_TWO_PARTS: Value = 1 << 63;

/// One in this many uploads is of such a value, because they take long.
const LONG: u64 = 40;

/// The number of parts that don't belong to the value.
const SURPLUS: u16 = 3;

/// The maximum number of open uploads of a key.
const OPEN: usize = 3;

/// A header that marks a request as S3's.
const S3: (&str, &str) = ("amz-sdk-invocation-id", "1");

/// A part of one of a key's uploads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Part {
    upload: linear::Upload,
    number: u16,
}

/// An upload in parts.
pub struct Upload {
    pub key: String,
    pub id: String,
    /// Its number among the key's uploads.
    number: linear::Upload,
    /// The value that it is to create.
    value: Value,
    /// Entity tags of the value's parts, and of the value.
    part_tags: Vec<String>,
    tag: String,
    /// The parts that are known to be stored.
    stored: Mutex<BTreeSet<u16>>,
    ended: AtomicBool,
    abandoned: AtomicBool,
}

/// All uploads.
#[derive(Default)]
pub struct Uploads {
    /// By key.
    known: Mutex<BTreeMap<String, Vec<Arc<Upload>>>>,
    /// By key, the number of begins without an answer.
    doubtful: Mutex<BTreeMap<String, usize>>,
}

/// What a key must hold for a write to take effect.
struct Condition {
    when: When,
    header: Option<(&'static str, String)>,
}

/// A request that was sent.
struct Asked {
    connection: Connection,
    method: &'static str,
    called: u64,
}

impl Uploads {
    /// The uploads of a key.
    pub fn of(&self, key: &str) -> Vec<Arc<Upload>> {
        lock(&self.known).get(key).cloned().unwrap_or_default()
    }

    /// The known uploads, by their ids.
    pub fn known(&self) -> BTreeMap<String, Arc<Upload>> {
        let known = lock(&self.known);
        known.values().flatten().map(|upload| (upload.id.clone(), Arc::clone(upload))).collect()
    }

    /// The known uploads without a known end.
    pub fn open(&self) -> BTreeMap<String, Arc<Upload>> {
        self.known().into_iter().filter(|(_, upload)| !upload.has_ended()).collect()
    }

    /// Records that an unknown upload of the key was found; false if there can't be one.
    pub fn find_doubtful(&self, key: &str) -> bool {
        let mut doubtful = lock(&self.doubtful);
        let left = doubtful.entry(decoded(key)).or_default();
        let found = *left > 0;
        *left -= usize::from(found);
        found
    }
}

impl Upload {
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether all parts of the value are stored.
    pub fn is_whole(&self) -> bool {
        self.missing().is_none()
    }

    fn missing(&self) -> Option<u16> {
        let stored = lock(&self.stored);
        (1..).take(self.part_tags.len()).find(|number| !stored.contains(number))
    }

    fn target(&self) -> String {
        format!("{}?uploadId={}", self.key, self.id)
    }

    fn part(&self, number: u16) -> Register {
        Register { part: Some(Part { upload: self.number, number }), ..Register::key(&self.key) }
    }

    fn complete(&self, condition: &Condition) -> Action {
        Action::Complete(self.number, condition.when, self.value)
    }
}

impl Condition {
    const ALWAYS: Self = Self { when: When::Always, header: None };

    fn absent() -> Self {
        Self { when: When::Absent, header: Some(("If-None-Match", "*".to_owned())) }
    }

    fn holds((value, tag): (Value, String)) -> Self {
        Self { when: When::Holds(value), header: Some(("If-Match", format!("\"{tag}\""))) }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let header = self.header.as_ref().map(|(name, value)| (*name, value.as_str()));
        [S3].into_iter().chain(header).collect()
    }
}

impl Client<'_> {
    pub fn act_by_s3(&mut self, key: &str) {
        match self.random.below(100) {
            0..25 => drop(self.read_by_s3(key)),
            25..33 => drop(self.look(key)),
            33..53 => self.put_by_s3(key, &Condition::ALWAYS),
            53..60 => self.put_by_s3(key, &Condition::absent()),
            60..71 => {
                if let Some(seen) = self.look(key) {
                    self.put_by_s3(key, &Condition::holds(seen));
                }
            }
            71..77 => self.erase(key, &Condition::ALWAYS),
            77..80 => {
                if let Some(seen) = self.look(key) {
                    self.erase(key, &Condition::holds(seen));
                }
            }
            _ => self.go_on_with_an_upload(key),
        }
    }

    /// Reads the key through the master, and records the outcome. `None`: the master gave no conclusive
    /// answer.
    pub fn read_by_s3(&self, key: &str) -> Option<Outcome> {
        let called = self.load.now();
        loop {
            let answer = self.begin("GET", key, &[S3], b"").and_then(Asked::end);
            let outcome = match answer.as_ref().map_or(0, |answer| answer.status) {
                200 => {
                    let answer = answer.as_ref()?;
                    let value = self.load.identify(&answer.body, key);
                    assert_eq!(self.load.tagged(answer), value, "the ETag of {key}");
                    Some(Outcome::Read(value))
                }
                404 => Some(Outcome::Refused),
                503 => None,
                // the master was down, or the value is truncated
                0 if !self.load.stopped() => {
                    self.load.note_retry();
                    std::thread::sleep(BACKOFF);
                    continue;
                }
                0 => return None,
                status => panic!("GET {key}: {status} {}", answer.unwrap().text()),
            };
            self.note_request("S3 GET", called, answer.map_or(0, |answer| answer.status));
            if let Some(outcome) = outcome {
                self.note(key, called, Action::Get, outcome);
            }
            return outcome;
        }
    }

    /// Reads which value the key has, and records it.
    pub fn look(&self, key: &str) -> Option<(Value, String)> {
        let asked = self.begin("HEAD", key, &[S3], b"")?;
        let (called, answer) = (asked.called, asked.end());
        self.note_request("S3 HEAD", called, status(answer.as_ref()));
        let answer = answer?;
        match answer.status {
            200 => {
                let value = self.load.tagged(&answer);
                self.note(key, called, Action::Get, Outcome::Read(value));
                let length = self.load.value(value).len().to_string();
                assert_eq!(answer.header("content-length"), Some(length.as_str()), "the length of {key}");
                Some((value, answer.header("etag")?.trim_matches('"').to_owned()))
            }
            404 => {
                self.note(key, called, Action::Get, Outcome::Refused);
                None
            }
            status => panic!("HEAD {key}: {status}"),
        }
    }

    fn put_by_s3(&mut self, key: &str, condition: &Condition) {
        let number = self.new_value();
        let value = self.load.value(number);
        let tag = hex_md5(&value);
        self.load.will_have_tag(number, &tag);
        let Some((manner, called, answer)) = self.send_by_s3(key, condition, &value) else { return };
        if manner.is_honest() || status(answer.as_ref()) == 500 {
            self.note_request("S3 PUT", called, status(answer.as_ref()));
        }
        if !manner.is_whole() {
            return;
        }
        if let Some(answer) = answer.as_ref().filter(|answer| answer.status == 200) {
            assert_eq!(self.load.tagged(answer), number, "the ETag of what was stored as {key}");
        }
        let action = Action::Put(condition.when, number);
        if let Some(outcome) = outcome(action, answer.as_ref()) {
            self.note_or_doubt(Register::key(key), called, action, outcome);
        }
    }

    /// Sends a value in some manner; returns the manner, the time of the call, and the answer, if there is
    /// one.
    fn send_by_s3(
        &mut self,
        target: &str,
        condition: &Condition,
        value: &[u8],
    ) -> Option<(Manner, u64, Option<Response>)> {
        let manner = match self.draw_manner() {
            Manner::InChunks => Manner::InS3sChunks,
            manner => manner,
        };
        let connection = self.connect()?;
        let called = self.load.now();
        let answer = self.send_value(connection, target, &condition.headers(), manner, value);
        let stored = answer.as_ref().is_some_and(|answer| answer.status == 200);
        assert!(manner.is_whole() || !stored, "{manner:?} was stored");
        Some((manner, called, answer))
    }

    fn erase(&mut self, key: &str, condition: &Condition) {
        let Some(asked) = self.begin("DELETE", key, &condition.headers(), b"") else { return };
        let (called, answer) = (asked.called, asked.end());
        self.note_request("S3 DELETE", called, status(answer.as_ref()));
        let action = Action::Erase(condition.when);
        if let Some(outcome) = outcome(action, answer.as_ref()) {
            self.note_or_doubt(Register::key(key), called, action, outcome);
        }
    }

    /// Continues one of the key's uploads, whichever client began it.
    fn go_on_with_an_upload(&mut self, key: &str) {
        let open = |upload: &Arc<Upload>| !upload.has_ended() && !upload.abandoned.load(Ordering::Relaxed);
        let open: Vec<_> = self.load.uploads.of(key).into_iter().filter(open).collect();
        if open.is_empty() || (open.len() < OPEN && self.random.below(4) == 0) {
            return self.begin_upload(key);
        }
        let upload = Arc::clone(self.random.pick(&open));
        if let Some(number) = upload.missing()
            && self.random.below(5) > 0
        {
            return self.put_part(&upload, number);
        }
        match self.random.below(100) {
            0..50 => {
                let condition = self.draw_condition(key);
                self.complete(&upload, &condition);
            }
            50..58 => {
                let condition = self.draw_condition(key);
                let both = [&condition, &Condition::ALWAYS]
                    .map(|condition| (upload.complete(condition), self.begin_completion(&upload, condition)));
                self.end_both(&upload, both);
            }
            58..66 => {
                let condition = self.draw_condition(key);
                let completion = (upload.complete(&condition), self.begin_completion(&upload, &condition));
                let abort = self.begin("DELETE", &upload.target(), &[S3], b"");
                self.end_both(&upload, [completion, (Action::Abort(upload.number), abort)]);
            }
            66..76 => {
                let completion = self.begin_completion(&upload, &Condition::ALWAYS);
                self.touch(&upload);
                self.end_of_upload(&upload, upload.complete(&Condition::ALWAYS), completion);
            }
            76..81 => self.abort(&upload),
            81..96 => self.touch(&upload),
            _ => upload.abandoned.store(true, Ordering::Relaxed),
        }
    }

    /// Stores a part, which may not belong to the value, or lists the parts.
    fn touch(&mut self, upload: &Upload) {
        match self.random.below(8) {
            0..3 => self.put_part(upload, 1),
            3..5 => self.put_surplus(upload, SURPLUS),
            5 => self.put_surplus(upload, 1),
            _ => self.list_parts(upload),
        }
    }

    fn draw_condition(&mut self, key: &str) -> Condition {
        let draw = self.random.below(10);
        let seen = (draw < 2).then(|| self.look(key)).flatten();
        match (draw, seen) {
            (_, Some(seen)) => Condition::holds(seen),
            (2, None) => Condition::absent(),
            _ => Condition::ALWAYS,
        }
    }

    fn begin_upload(&mut self, key: &str) {
        let long = if self.random.below(LONG) == 0 { IN_TWO_PARTS } else { 0 };
        let value = self.new_value() | long;
        let Some(asked) = self.begin("POST", &format!("{key}?uploads"), &[S3], b"") else { return };
        let (called, answer) = (asked.called, asked.end());
        let status = status(answer.as_ref());
        self.note_request("S3 CREATE", called, status);
        if matches!(status, 0 | 500) {
            *lock(&self.load.uploads.doubtful).entry(decoded(key)).or_default() += 1;
        }
        let Some(answer) = answer.filter(|answer| answer.status != 500) else { return };
        assert_eq!(answer.status, 200, "CREATE {key}: {}", answer.text());
        let text = answer.text();
        let id = between(&text, "UploadId").expect("an id").to_owned();
        let bytes = self.load.value(value);
        let parts: Vec<_> = parts(value, &bytes).map(hex_md5).collect();
        let of_all: Vec<u8> = parts.iter().flat_map(|tag| from_hex(tag)).collect();
        let tag = format!("{}-{}", hex_md5(&of_all), parts.len());
        // the last is the tag in the native API
        for tag in parts.iter().chain([&tag, &hex_md5(&bytes)]) {
            self.load.will_have_tag(value, tag);
        }
        let mut known = lock(&self.load.uploads.known);
        let uploads = known.entry(key.to_owned()).or_default();
        uploads.push(Arc::new(Upload {
            key: key.to_owned(),
            id,
            number: uploads.len().try_into().unwrap(),
            value,
            part_tags: parts,
            tag,
            stored: Mutex::default(),
            ended: AtomicBool::default(),
            abandoned: AtomicBool::default(),
        }));
    }

    /// Stores a part of the value.
    fn put_part(&mut self, upload: &Upload, number: u16) {
        let value = self.load.value(upload.value);
        let part = parts(upload.value, &value).nth(usize::from(number) - 1).unwrap();
        if self.store_part(upload, number, upload.value, part) {
            lock(&upload.stored).insert(number);
        }
    }

    /// Stores other bytes, as an additional part or in the place of one.
    fn put_surplus(&mut self, upload: &Upload, number: u16) {
        let value = self.new_value();
        let bytes = self.load.value(value);
        self.load.will_have_tag(value, &hex_md5(&bytes));
        lock(&upload.stored).remove(&number);
        self.store_part(upload, number, value, &bytes);
    }

    /// Stores these bytes as a part; returns whether they were stored.
    fn store_part(&mut self, upload: &Upload, number: u16, value: Value, bytes: &[u8]) -> bool {
        let target = format!("{}&partNumber={number}", upload.target());
        let Some((manner, called, answer)) = self.send_by_s3(&target, &Condition::ALWAYS, bytes) else {
            return false;
        };
        if manner.is_honest() || status(answer.as_ref()) == 500 {
            self.note_request("S3 PART", called, status(answer.as_ref()));
        }
        let action = Action::Put(When::Always, value);
        let touched = Action::Touch(upload.number);
        match outcome(touched, answer.as_ref()).filter(|_| manner.is_whole()) {
            Some(Outcome::Done) => {
                assert_eq!(self.load.tagged(answer.as_ref().unwrap()), value, "the ETag of {target}");
                self.note(&upload.key, called, touched, Outcome::Done);
                self.note_of(upload.part(number), called, action, Outcome::Done);
                return true;
            }
            Some(Outcome::Ended) => self.note_touch(upload, called, Outcome::Ended),
            Some(outcome) => self.note_or_doubt(upload.part(number), called, action, outcome),
            None => {}
        }
        false
    }

    fn note_touch(&self, upload: &Upload, called: u64, outcome: Outcome) {
        self.note(&upload.key, called, Action::Touch(upload.number), outcome);
        if outcome == Outcome::Ended {
            upload.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Lists the upload's parts, and records the outcome for each.
    pub fn list_parts(&self, upload: &Upload) {
        let Some(asked) = self.begin("GET", &upload.target(), &[S3], b"") else { return };
        let (called, answer) = (asked.called, asked.end());
        self.note_request("S3 LIST", called, status(answer.as_ref()));
        let Some(outcome) = outcome(Action::Touch(upload.number), answer.as_ref()) else { return };
        if outcome == Outcome::Doubtful {
            return;
        }
        self.note_touch(upload, called, outcome);
        if outcome != Outcome::Done {
            return;
        }
        let tags = part_tags(&answer.unwrap().text());
        for number in 1..=SURPLUS {
            let found = tags.get(&number).map(|tag| Outcome::Read(self.load.value_of(tag)));
            let found = found.unwrap_or(Outcome::Refused);
            self.note_of(upload.part(number), called, Action::Get, found);
        }
    }

    /// Completes the upload without a condition.
    pub fn complete_always(&mut self, upload: &Upload) {
        self.complete(upload, &Condition::ALWAYS);
    }

    fn complete(&mut self, upload: &Upload, condition: &Condition) {
        let asked = self.begin_completion(upload, condition);
        self.end_of_upload(upload, upload.complete(condition), asked);
    }

    pub fn abort(&mut self, upload: &Upload) {
        let asked = self.begin("DELETE", &upload.target(), &[S3], b"");
        self.end_of_upload(upload, Action::Abort(upload.number), asked);
    }

    /// Aborts most of the key's open uploads.
    pub fn abort_all(&mut self, key: &str) {
        for upload in self.load.uploads.of(key).iter().filter(|upload| !upload.has_ended()) {
            if upload.value & IN_TWO_PARTS > 0 || self.random.below(4) > 0 {
                self.abort(upload);
            }
        }
    }

    fn begin_completion(&self, upload: &Upload, condition: &Condition) -> Option<Asked> {
        let part = |(number, tag): (u16, &String)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{tag}\"</ETag></Part>")
        };
        let parts: String = (1..).zip(&upload.part_tags).map(part).collect();
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.begin("POST", &upload.target(), &condition.headers(), list.as_bytes())
    }

    fn end_both(&mut self, upload: &Upload, both: [(Action, Option<Asked>); 2]) {
        for (action, asked) in both {
            self.end_of_upload(upload, action, asked);
        }
    }

    fn end_of_upload(&self, upload: &Upload, action: Action, asked: Option<Asked>) {
        let Some(asked) = asked else { return };
        let (called, completes) = (asked.called, matches!(action, Action::Complete(..)));
        let answer = asked.end();
        let status = status(answer.as_ref());
        self.note_request(if completes { "S3 COMPLETE" } else { "S3 ABORT" }, called, status);
        if completes && answer.as_ref().is_some_and(|answer| code(answer) == "InvalidPart") {
            // a part was replaced, or is still missing
            return self.note_touch(upload, called, Outcome::Done);
        }
        let Some(outcome) = outcome(action, answer.as_ref()) else { return };
        if let (Outcome::Done, true, Some(answer)) = (outcome, completes, &answer) {
            assert!(answer.text().contains(&upload.tag), "{}: {}", upload.target(), answer.text());
        }
        self.note_or_doubt(Register::key(&upload.key), called, action, outcome);
        if matches!(outcome, Outcome::Done | Outcome::Ended) {
            upload.ended.store(true, Ordering::Relaxed);
        }
    }

    fn begin(
        &self,
        method: &'static str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Asked> {
        let mut connection = self.connect()?;
        let called = self.load.now();
        let head = head(&self.load.master, method, target.as_bytes(), headers, body.len());
        // a refusal may arrive before everything is sent
        drop(connection.send(&[&head, body].concat()));
        Some(Asked { connection, method, called })
    }

    fn note_or_doubt(&self, register: Register, called: u64, action: Action, outcome: Outcome) {
        if outcome == Outcome::Doubtful {
            self.note_doubt(register, called, action);
        } else {
            self.note_of(register, called, action, outcome);
        }
    }

    /// The uploads that the master lists, with percent-encoded keys.
    pub fn list_uploads(&self, bucket: &str) -> Vec<(String, String)> {
        let (mut uploads, mut marker) = (Vec::new(), String::new());
        loop {
            let target = format!("/{bucket}?uploads&encoding-type=url{marker}");
            let answer = self.begin("GET", &target, &[S3], b"").and_then(Asked::end);
            let text = answer.expect("a master that is there").text();
            let upload = |text: &str| {
                let (key, id) = (between(text, "Key").unwrap(), between(text, "UploadId").unwrap());
                (format!("/{bucket}/{key}"), id.to_owned())
            };
            uploads.extend(text.split("<Upload>").skip(1).map(upload));
            if between(&text, "IsTruncated") != Some("true") {
                return uploads;
            }
            let (key, id) = (between(&text, "NextKeyMarker"), between(&text, "NextUploadIdMarker"));
            marker = format!("&key-marker={}&upload-id-marker={}", key.unwrap(), id.unwrap());
        }
    }

    /// The numbers of an upload's parts, as the master lists them.
    pub fn numbers_of_parts(&self, key: &str, id: &str) -> Vec<u16> {
        let answer = self.begin("GET", &format!("{key}?uploadId={id}"), &[S3], b"").and_then(Asked::end);
        answer.map(|answer| part_tags(&answer.text()).into_keys().collect()).unwrap_or_default()
    }

    /// Aborts an upload that no client knows.
    pub fn abort_unknown(&self, key: &str, id: &str) {
        let asked = self.begin("DELETE", &format!("{key}?uploadId={id}"), &[S3], b"");
        assert_eq!(asked.and_then(Asked::end).map(|answer| answer.status), Some(204), "abort {key} {id}");
    }
}

impl Asked {
    /// The answer, if there is one.
    fn end(mut self) -> Option<Response> {
        self.connection.receive(self.method).ok()
    }
}

/// The outcome of a write, or of a request that needs an open upload. `None`: nothing was done.
#[track_caller]
fn outcome(action: Action, answer: Option<&Response>) -> Option<Outcome> {
    let Some(answer) = answer else { return Some(Outcome::Doubtful) };
    let when = match action {
        Action::Put(when, _) | Action::Erase(when) | Action::Complete(_, when, _) => when,
        _ => When::Always,
    };
    let of_upload = matches!(action, Action::Complete(..) | Action::Abort(_) | Action::Touch(_));
    match (code(answer), when) {
        ("", _) if matches!(answer.status, 200 | 204) => Some(Outcome::Done),
        ("PreconditionFailed", When::Absent) | ("NoSuchKey", When::Holds(_)) => Some(Outcome::Refused),
        ("PreconditionFailed", When::Holds(_)) => Some(Outcome::Differs),
        ("NoSuchUpload", _) if of_upload => Some(Outcome::Ended),
        ("OperationAborted" | "ServiceUnavailable" | "InsufficientStorage", _) => None,
        ("InternalError", _) => Some(Outcome::Doubtful),
        // for bodies that don't match what was announced
        ("BadDigest" | "IncompleteBody" | "InvalidRequest", _) if answer.status == 400 => None,
        _ => panic!("{action:?}: {} {}", answer.status, answer.text()),
    }
}

/// The error's status, even if the answer began before the error was known.
fn status(answer: Option<&Response>) -> u16 {
    answer.map_or(0, |answer| if code(answer) == "InternalError" { 500 } else { answer.status })
}

fn code(answer: &Response) -> &str {
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    if text.contains("<Error>") { between(text, "Code").unwrap_or_default() } else { "" }
}

/// The content of an element that has no child elements.
fn between<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>")).map(|(content, _)| content)
}

/// The entity tags in a list of parts, by part number.
fn part_tags(text: &str) -> BTreeMap<u16, String> {
    let part = |text: &str| {
        let tag = between(text, "ETag").unwrap().replace("&quot;", "");
        (between(text, "PartNumber").unwrap().parse().unwrap(), tag.trim_matches('"').to_owned())
    };
    text.split("<Part>").skip(1).map(part).collect()
}

/// The parts of a value.
fn parts(number: Value, value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = value.split_at(if number & IN_TWO_PARTS > 0 { FIRST_PART } else { 0 });
    [first, rest].into_iter().filter(|part| !part.is_empty())
}

fn from_hex(digits: &str) -> impl Iterator<Item = u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
}

/// Bytes in `aws-chunked` encoding, with chunks of that size.
pub fn framed(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(bytes.len() + 64);
    for chunk in bytes.chunks(size) {
        framed.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}
