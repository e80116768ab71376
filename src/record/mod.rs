//! Records and intents, which the index stores for keys, and their binary form.
//!
//! **Record**, one per key that exists:
//!
//! ```text
//! 02  flags  [md5: 16]  [size: 8]  [modified: 8]  count  count × replica  count  count × header
//! flags    bit 0 unlinked, bit 1 MD5 known, bit 2 size known, bit 3 modification time known
//! replica  place (length, bytes)  00 | 01 generation: 8
//! header   name (length, bytes)  value (length, bytes)
//! ```
//!
//! Integers are big-endian, counts and lengths 2 bytes. `modified` is in milliseconds since 1970 (UTC);
//! in records of version 01, which davkv 0.1 wrote, it is in seconds. Both versions are read. Version 02
//! is written, except by a rebuild that makes an index for davkv 0.1. Records of minikeyvalue are read,
//! too: they are text, `[DELETED][HASH<32 hex digits>]place,place,…`, and don't begin with byte 01 or 02.
//!
//! **Intents**, one row per key that has any: `01  count  count × (id: 8  count  count × replica)`.

use std::fmt;

use crate::clock::Timestamp;
use crate::key::Name;
use crate::placement::Place;

/// One file of a key: its volume, subvolume and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The volume and subvolume.
    pub place: Place,
    /// The name of the file there.
    pub name: Name,
}

/// Names and values of headers that are stored with a value and returned to readers.
pub type Headers = Vec<(String, String)>;

/// Whether a value is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Served and listed.
    Live,
    /// Hidden by UNLINK, kept on the volumes.
    Unlinked,
}

/// What the index knows of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whether it is served.
    pub state: State,
    /// Its files, in the order of placement.
    pub replicas: Vec<Replica>,
    /// MD5 of the value; unknown if `--md5sum` was off, or after a rebuild.
    pub md5: Option<[u8; 16]>,
    /// Length of the value in bytes; minikeyvalue doesn't store it.
    pub size: Option<u64>,
    /// When the value's upload began; minikeyvalue doesn't store it. The files on the volumes have this time,
    /// rounded down to the second, as their modification time.
    pub modified: Option<Timestamp>,
    /// Content type, user metadata and other headers of the S3 API; the native API stores none.
    pub headers: Headers,
}

/// The files of one attempt to write or delete: they may exist on their volumes, and no record names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The number of the attempt, unique in this index.
    pub id: u64,
    /// The files that may exist on the volumes.
    pub files: Vec<Replica>,
}

/// Bytes in the index that are no record, of davkv or minikeyvalue, and no intents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError(&'static str);

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed record: {}", self.0)
    }
}

impl std::error::Error for RecordError {}

/// The longest place that is accepted, in bytes: a host name has at most 253.
const MAX_PLACE_BYTES: usize = 1024;
/// The most replicas that are accepted in a record of minikeyvalue.
const MAX_REPLICAS: usize = 1024;

/// Estimated bytes of a record's or an intent's fixed part, and of one replica. They make one allocation
/// enough for most.
const FIXED_BYTES: usize = 64;
const REPLICA_BYTES: usize = 48;

/// Version byte of records with a time in milliseconds.
const MILLIS_VERSION: u8 = 2;
/// Version byte of records with a time in seconds.
const SECONDS_VERSION: u8 = 1;
/// Version byte of intents.
const INTENTS_VERSION: u8 = 1;
/// How a record of minikeyvalue begins whose value is hidden.
const DELETED: &str = "DELETED";

const UNLINKED: u8 = 1;
const HAS_MD5: u8 = 2;
const HAS_SIZE: u8 = 4;
const HAS_MODIFIED: u8 = 8;
const PLAIN: u8 = 0;
const GENERATION: u8 = 1;

/// A stored form of records, by the program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The current form, version 02.
    Current,
    /// The form of davkv 0.1, version 01: the time is rounded down to seconds.
    Davkv01,
    /// The form of minikeyvalue: no size, no time, no headers.
    Minikeyvalue,
}

/// The header that holds a value's entity tag if that isn't the MD5.
pub const TAG: &str = "etag";

impl Record {
    /// Whether it is the record of the same value, in the same files; its state may differ.
    #[must_use]
    pub fn is_same_value(&self, other: &Self) -> bool {
        self.replicas == other.replicas && (self.md5, self.modified) == (other.md5, other.modified)
    }

    /// The value's entity tag, without quotes: the stored header, or else the MD5 in hex. If neither is known,
    /// the tag is made of the time (in seconds), the size and the newest generation, which a rebalance may change;
    /// such a tag can't be taken for an MD5.
    #[must_use]
    pub fn tag(&self) -> String {
        let header = self.headers.iter().find(|(name, _)| name == TAG).map(|(_, tag)| tag.clone());
        header.or_else(|| self.md5.as_ref().map(hex)).unwrap_or_else(|| {
            let newest = self.replicas.iter().filter_map(|replica| match replica.name {
                Name::Generation(generation) => Some(generation),
                Name::Plain => None,
            });
            let (second, size) = (self.modified.unwrap_or_default().seconds(), self.size.unwrap_or(0));
            format!("{second:x}-{size:x}-{:x}", newest.max().unwrap_or(0))
        })
    }

    /// The current stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_version(MILLIS_VERSION, Timestamp::millis)
    }

    /// The record in that form; `None` if the form can't express it: minikeyvalue has no generation names.
    #[must_use]
    pub fn encode_in(&self, form: Form) -> Option<Vec<u8>> {
        match form {
            Form::Current => Some(self.encode()),
            Form::Davkv01 => Some(self.encode_version(SECONDS_VERSION, Timestamp::seconds)),
            Form::Minikeyvalue => self.encode_minikeyvalue(),
        }
    }

    fn encode_version(&self, version: u8, time: fn(Timestamp) -> u64) -> Vec<u8> {
        let mut flags = if self.state == State::Unlinked { UNLINKED } else { 0 };
        for (flag, known) in [
            (HAS_MD5, self.md5.is_some()),
            (HAS_SIZE, self.size.is_some()),
            (HAS_MODIFIED, self.modified.is_some()),
        ] {
            flags |= if known { flag } else { 0 };
        }
        let mut out = Vec::with_capacity(FIXED_BYTES + self.replicas.len() * REPLICA_BYTES);
        out.extend([version, flags]);
        out.extend(self.md5.iter().flatten());
        for number in [self.size, self.modified.map(time)].into_iter().flatten() {
            out.extend(number.to_be_bytes());
        }
        put_replicas(&mut out, &self.replicas);
        put_count(&mut out, self.headers.len());
        for (name, value) in &self.headers {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
        out
    }

    /// minikeyvalue's stored form; `None` if a replica has a generation name.
    #[must_use]
    pub fn encode_minikeyvalue(&self) -> Option<Vec<u8>> {
        if self.replicas.iter().any(|replica| replica.name != Name::Plain) {
            return None;
        }
        let deleted = if self.state == State::Unlinked { DELETED } else { "" };
        let hash = self.md5.map_or_else(String::new, |md5| format!("HASH{}", hex(&md5)));
        let places: Vec<&str> = self.replicas.iter().map(|replica| replica.place.as_str()).collect();
        Some(format!("{deleted}{hash}{}", places.join(",")).into_bytes())
    }

    /// Reads any stored form.
    ///
    /// # Errors
    ///
    /// The bytes are in no known form.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (mut replicas, mut headers) = (Vec::new(), Vec::new());
        let Fixed { state, md5, size, modified } = read(bytes, |part| match part {
            Part::Replica(place, name) => replicas.push(Replica { place: Place::new(place), name }),
            Part::Header(name, value) => headers.push((name.to_owned(), value.to_owned())),
        })?;
        Ok(Self { state, replicas, md5, size, modified, headers })
    }

    /// Checks the bytes as strictly as [`Record::decode`], and keeps nothing.
    ///
    /// # Errors
    ///
    /// As [`Record::decode`].
    pub fn check(bytes: &[u8]) -> Result<(), RecordError> {
        read(bytes, |_part| ()).map(drop)
    }
}

impl State {
    /// The state of a stored record, for listings, which need nothing else of it. The rest of
    /// one of ours isn't looked at.
    ///
    /// # Errors
    ///
    /// As [`Record::decode`], but damage behind the flags isn't found.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes {
            [MILLIS_VERSION | SECONDS_VERSION, flags, ..] => state(*flags),
            [MILLIS_VERSION | SECONDS_VERSION] => Err(RecordError("cut short")),
            // a text has no version: only the whole of it shows that it is a record
            _ => read_minikeyvalues(bytes, |_part| ()).map(|fixed| fixed.state),
        }
    }
}

/// The fields that each record has once.
struct Fixed {
    state: State,
    md5: Option<[u8; 16]>,
    size: Option<u64>,
    modified: Option<Timestamp>,
}

/// The fields that a record can have any number of.
enum Part<'a> {
    Replica(&'a str, Name),
    Header(&'a str, &'a str),
}

/// Reads any stored form, and passes its parts to `part` in their order.
fn read<'a>(bytes: &'a [u8], part: impl FnMut(Part<'a>)) -> Result<Fixed, RecordError> {
    match bytes.split_first() {
        Some((&MILLIS_VERSION, rest)) => read_ours(rest, Timestamp::from_millis, part),
        Some((&SECONDS_VERSION, rest)) => read_ours(rest, Timestamp::from_seconds, part),
        _ => read_minikeyvalues(bytes, part),
    }
}

/// Reads the bytes after the version byte; `time` converts the version's unit of time.
fn read_ours<'a>(
    bytes: &'a [u8],
    time: fn(u64) -> Timestamp,
    mut part: impl FnMut(Part<'a>),
) -> Result<Fixed, RecordError> {
    let mut input = Input(bytes);
    let flags = input.byte()?;
    let state = state(flags)?;
    let md5 = if flags & HAS_MD5 != 0 { Some(input.array()?) } else { None };
    let mut number = |flag| if flags & flag != 0 { input.number().map(Some) } else { Ok(None) };
    let size = number(HAS_SIZE)?;
    let modified = number(HAS_MODIFIED)?.map(time);
    for _ in 0..input.count()? {
        let (place, name) = input.replica()?;
        part(Part::Replica(place, name));
    }
    for _ in 0..input.count()? {
        part(Part::Header(input.text()?, input.text()?));
    }
    input.end()?;
    Ok(Fixed { state, md5, size, modified })
}

/// The state that these flags say; all flags must be known.
fn state(flags: u8) -> Result<State, RecordError> {
    if flags & !(UNLINKED | HAS_MD5 | HAS_SIZE | HAS_MODIFIED) != 0 {
        return Err(RecordError("unknown flags"));
    }
    Ok(if flags & UNLINKED == 0 { State::Live } else { State::Unlinked })
}

fn read_minikeyvalues<'a>(bytes: &'a [u8], mut part: impl FnMut(Part<'a>)) -> Result<Fixed, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_not_text| RecordError("not text"))?;
    let (state, text) = match text.strip_prefix(DELETED) {
        Some(rest) => (State::Unlinked, rest),
        None => (State::Live, text),
    };
    let (md5, places) = match text.strip_prefix("HASH") {
        Some(rest) => {
            let (digits, rest) = rest.split_at_checked(32).ok_or(RecordError("short hash"))?;
            (Some(unhex(digits).ok_or(RecordError("hash is not hex"))?), rest)
        }
        None => (None, text),
    };
    for (index, place) in places.split(',').enumerate() {
        if index == MAX_REPLICAS {
            return Err(RecordError("too many volumes"));
        }
        let fits = (1..=MAX_PLACE_BYTES).contains(&place.len());
        if !fits || !place.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(RecordError("a volume without a name"));
        }
        part(Part::Replica(place, Name::Plain));
    }
    Ok(Fixed { state, md5, size: None, modified: None })
}

impl Intent {
    /// The stored form of a key's intents.
    #[must_use]
    pub fn encode_all(intents: &[Self]) -> Vec<u8> {
        let files: usize = intents.iter().map(|intent| intent.files.len()).sum();
        let mut out = Vec::with_capacity(FIXED_BYTES * intents.len() + files * REPLICA_BYTES);
        out.push(INTENTS_VERSION);
        put_count(&mut out, intents.len());
        for intent in intents {
            out.extend(intent.id.to_be_bytes());
            put_replicas(&mut out, &intent.files);
        }
        out
    }

    /// Reads a key's intents.
    ///
    /// # Errors
    ///
    /// The bytes aren't in the form of [`Intent::encode_all`].
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, RecordError> {
        let mut input = Input(bytes);
        if input.byte()? != INTENTS_VERSION {
            return Err(RecordError("unknown version of an intent"));
        }
        let intents = (0..input.count()?)
            .map(|_| Ok(Self { id: input.number()?, files: input.replicas()? }))
            .collect::<Result<_, RecordError>>()?;
        input.end()?;
        Ok(intents)
    }
}

/// An MD5 in lower-case hex digits.
#[must_use]
pub fn hex(md5: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*md5))
}

/// Parses an MD5 from 32 hex digits of either case; `None` for anything else.
#[must_use]
pub fn unhex(digits: &str) -> Option<[u8; 16]> {
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// Writes a count or length as 2 bytes. Stored records stay far below that limit (a few replicas, and at most as
/// many headers as a request may have); a larger count panics rather than being written wrongly.
fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or_else(|_| unreachable!("{count} entries in one record"));
    out.extend(count.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

fn put_replicas(out: &mut Vec<u8>, replicas: &[Replica]) {
    put_count(out, replicas.len());
    for replica in replicas {
        put_bytes(out, replica.place.as_str().as_bytes());
        match replica.name {
            Name::Plain => out.push(PLAIN),
            Name::Generation(generation) => {
                out.push(GENERATION);
                out.extend(generation.to_be_bytes());
            }
        }
    }
}

/// The bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.0.split_at_checked(bytes).ok_or(RecordError("cut short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(RecordError("cut short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        self.array().map(|[byte]| byte)
    }

    fn count(&mut self) -> Result<usize, RecordError> {
        self.array().map(u16::from_be_bytes).map(usize::from)
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, RecordError> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).map_err(|_not_utf8| RecordError("not UTF-8"))
    }

    fn replica(&mut self) -> Result<(&'a str, Name), RecordError> {
        let place = self.text()?;
        match self.byte()? {
            PLAIN => Ok((place, Name::Plain)),
            GENERATION => Ok((place, Name::Generation(self.number()?))),
            _ => Err(RecordError("unknown kind of name")),
        }
    }

    fn replicas(&mut self) -> Result<Vec<Replica>, RecordError> {
        let replica = |(place, name)| Replica { place: Place::new(place), name };
        (0..self.count()?).map(|_| self.replica().map(replica)).collect()
    }

    fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError("bytes left over")) }
    }
}

#[cfg(test)]
mod tests;
