//! What goes in and out of the index.

use crate::clock::Timestamp;
use crate::key::Key;
use crate::record::{Intent, Record, State};

/// What the index knows of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key's value, if it exists.
    pub record: Option<Record>,
    /// Files of unfinished attempts on the key.
    pub intents: Vec<Intent>,
}

/// How an index is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Make a new index where there is none.
    pub create: bool,
    /// Memory for blocks of the index, in bytes.
    pub cache_bytes: usize,
    /// Wait with each durable write until it is on the disk, so that it survives a loss of power;
    /// otherwise it survives only the end of this process.
    pub sync: bool,
}

/// A page of a scan.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows, in byte order of their keys.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

/// The keys of a listing: those of one state under a prefix.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The prefix of the keys.
    pub prefix: Vec<u8>,
    /// The first key that is not listed any more; `None` for all.
    pub end: Option<Key>,
    /// Their state.
    pub state: State,
}

/// What a rebuild stores for a key.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The record in its stored form.
    pub record: Option<Vec<u8>>,
    /// The key's intents.
    pub intents: Vec<Intent>,
}

/// The beginning of 2020, in seconds since 1970.
const YEAR_2020: u64 = 1_577_836_800;

/// Numbers that a second has: more than any master gives out in one.
const NUMBERS_PER_SECOND: u64 = 1 << 24;

/// The lowest number of an index that begins to count at that time. It is above all numbers of earlier indexes of the
/// same volumes, so that a later file always has a higher number, whichever index was used; 0 is never given out.
#[must_use]
pub fn number_floor(now: Timestamp) -> u64 {
    now.seconds().saturating_sub(YEAR_2020).max(1).saturating_mul(NUMBERS_PER_SECOND)
}
