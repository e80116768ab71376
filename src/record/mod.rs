//! What the index stores for a key, and its form in bytes.
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
//! Integers are big-endian, counts and lengths 2 bytes. `modified` is in milliseconds since 1970 (UTC).
//! Records of version 01, which davkv 0.1 wrote, have it in seconds, and are the same otherwise. Both
//! versions are read; what is written is version 02, but for a rebuild that makes an index for davkv 0.1.
//! No record of minikeyvalue begins with either byte: those are text,
//! `[DELETED][HASH<32 hex digits>]place,place,…`, and are read as they are.
//!
//! **Intents**, one row per key that has any: `01  count  count × (id: 8  count  count × replica)`.

use std::fmt;

use crate::clock::Timestamp;
use crate::key::Name;
use crate::placement::Place;

/// One file of a key: on which volume, under which of the key's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The volume and subvolume.
    pub place: Place,
    /// The name of the file there.
    pub name: Name,
}

/// What is stored with a value for those who read it: names and values.
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
    /// Its files, the best placed first.
    pub replicas: Vec<Replica>,
    /// MD5 of the value; minikeyvalue could be told not to compute it, and a rebuild can't know it.
    pub md5: Option<[u8; 16]>,
    /// Length of the value in bytes; minikeyvalue doesn't store it.
    pub size: Option<u64>,
    /// When the value's upload began; minikeyvalue doesn't store it. The files on the volumes have the second
    /// of it as their modification time.
    pub modified: Option<Timestamp>,
    /// Content type, user headers and what else the S3 API keeps; the native API stores none.
    pub headers: Headers,
}

/// The files of one attempt to write or delete: they may lie on their volumes, and no record vouches
/// for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The number of the attempt, unique in this index.
    pub id: u64,
    /// What may lie on the volumes.
    pub files: Vec<Replica>,
}

/// Bytes in the index that are neither our record nor minikeyvalue's: damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError(&'static str);

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed record: {}", self.0)
    }
}

impl std::error::Error for RecordError {}

/// The longest place that is believed, in bytes: a host name has at most 253.
const MAX_PLACE_BYTES: usize = 1024;
/// The most replicas that are believed.
const MAX_REPLICAS: usize = 1024;

/// Room for what a record or an intent has once, and for a replica of a usual name: guesses, so that
/// most are written without growing.
const FIXED_BYTES: usize = 64;
const REPLICA_BYTES: usize = 48;

/// Of records with a time in milliseconds, …
const MILLIS_VERSION: u8 = 2;
/// … of records with a time in seconds, …
const SECONDS_VERSION: u8 = 1;
/// … and of intents.
const INTENTS_VERSION: u8 = 1;
const UNLINKED: u8 = 1;
const HAS_MD5: u8 = 2;
const HAS_SIZE: u8 = 4;
const HAS_MODIFIED: u8 = 8;
const PLAIN: u8 = 0;
const GENERATION: u8 = 1;

/// A stored form of records, by the program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// This program's: version 02.
    Current,
    /// The form of davkv 0.1, version 01: the time is cut to seconds.
    Davkv01,
    /// The form of minikeyvalue: no size, no time, no headers.
    Minikeyvalue,
}

/// The header that holds a value's tag where that isn't its MD5.
pub const TAG: &str = "etag";

impl Record {
    /// What tells the value from others under the same key, without quotes: a header's word, or the MD5 in
    /// hex. Where neither is known, the second of its time, its size and its newest name, of which a rebalance may
    /// change the last; nobody can take that for an MD5.
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

    /// The stored form that this program writes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_version(MILLIS_VERSION, Timestamp::millis)
    }

    /// The record in that form; `None` when the form can't say it: minikeyvalue knows no generation names.
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

    /// minikeyvalue's stored form; `None` when that can't say it, because a replica has a generation
    /// name.
    #[must_use]
    pub fn encode_minikeyvalue(&self) -> Option<Vec<u8>> {
        if self.replicas.iter().any(|replica| replica.name != Name::Plain) {
            return None;
        }
        let deleted = if self.state == State::Unlinked { "DELETED" } else { "" };
        let hash = self.md5.map_or_else(String::new, |md5| format!("HASH{}", hex(&md5)));
        let places: Vec<&str> = self.replicas.iter().map(|replica| replica.place.as_str()).collect();
        Some(format!("{deleted}{hash}{}", places.join(",")).into_bytes())
    }

    /// Reads any stored form.
    ///
    /// # Errors
    ///
    /// Bytes that are in neither form.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (mut replicas, mut headers) = (Vec::new(), Vec::new());
        let Fixed { state, md5, size, modified } = read(bytes, |part| match part {
            Part::Replica(place, name) => replicas.push(Replica { place: Place::new(place), name }),
            Part::Header(name, value) => headers.push((name.to_owned(), value.to_owned())),
        })?;
        Ok(Self { state, replicas, md5, size, modified, headers })
    }
}

impl State {
    /// The state of a stored record, all of which is read as strictly as [`Record::decode`] does, but
    /// not kept: what a listing asks of each row.
    ///
    /// # Errors
    ///
    /// As [`Record::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |_part| ()).map(|fixed| fixed.state)
    }
}

/// What each record has once.
struct Fixed {
    state: State,
    md5: Option<[u8; 16]>,
    size: Option<u64>,
    modified: Option<Timestamp>,
}

/// What a record has any number of.
enum Part<'a> {
    Replica(&'a str, Name),
    Header(&'a str, &'a str),
}

/// Reads any stored form, and shows its parts in their order.
fn read<'a>(bytes: &'a [u8], part: impl FnMut(Part<'a>)) -> Result<Fixed, RecordError> {
    match bytes.split_first() {
        Some((&MILLIS_VERSION, rest)) => read_ours(rest, Timestamp::from_millis, part),
        Some((&SECONDS_VERSION, rest)) => read_ours(rest, Timestamp::from_seconds, part),
        _ => read_minikeyvalues(bytes, part),
    }
}

/// Reads what follows the version byte; `time` is how that version counts.
fn read_ours<'a>(
    bytes: &'a [u8],
    time: fn(u64) -> Timestamp,
    mut part: impl FnMut(Part<'a>),
) -> Result<Fixed, RecordError> {
    let mut input = Input(bytes);
    let flags = input.byte()?;
    if flags & !(UNLINKED | HAS_MD5 | HAS_SIZE | HAS_MODIFIED) != 0 {
        return Err(RecordError("unknown flags"));
    }
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
    let state = if flags & UNLINKED == 0 { State::Live } else { State::Unlinked };
    Ok(Fixed { state, md5, size, modified })
}

fn read_minikeyvalues<'a>(bytes: &'a [u8], mut part: impl FnMut(Part<'a>)) -> Result<Fixed, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_not_text| RecordError("not text"))?;
    let (state, text) = match text.strip_prefix("DELETED") {
        Some(rest) => (State::Unlinked, rest),
        None => (State::Live, text),
    };
    let (md5, places) = match text.strip_prefix("HASH") {
        Some(rest) => {
            let (digits, rest) = rest.split_at_checked(32).ok_or(RecordError("short hash"))?;
            (Some(unhex(digits).ok_or(RecordError("hash is no hex"))?), rest)
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
    /// Bytes that [`Intent::encode_all`] didn't write.
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

/// Lower-case hex digits of an MD5, as `md5sum` and minikeyvalue print it.
#[must_use]
pub fn hex(md5: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*md5))
}

/// The MD5 of 32 hex digits of either case; `None` for anything else.
#[must_use]
pub fn unhex(digits: &str) -> Option<[u8; 16]> {
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// Counts and lengths are written as 2 bytes; nothing that we store comes near that limit (a record
/// has a handful of replicas, and at most as many headers as a request may have), and what is
/// beyond it is not written rather than written wrongly.
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

/// Bytes still to be read.
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
