//! What clients write, ask for and are told, and on which volumes it lies.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::key::Key;
use crate::placement::Placement;
use crate::record::hex;
use crate::store::Precondition;

pub(super) const REPLICAS: usize = 3;

/// All that clients write. The second has generation names alone, because its plain one would be a
/// directory's.
pub(super) static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::new(b"/key"), Key::new(b"/o?")]);

/// All volumes, by their rank for the first key.
pub(super) static VOLUMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let volumes = (0..5).map(|number| format!("volume{number}:80")).collect();
    let placement = Placement::new(volumes, REPLICAS, 1);
    placement.rank(&KEYS[0]).iter().map(|place| place.volume().to_owned()).collect()
});

/// A value's bytes. All have the same length, so that no size tells one from another, and no half of one is
/// a half of another.
pub(super) fn value(number: usize) -> Bytes {
    format!("{number:04} is the value of {number:04}").into()
}

/// The number of the value that these bytes are.
pub(super) fn number_of(bytes: &Bytes) -> Option<usize> {
    let digits = bytes.len().checked_sub(4)?;
    let number = std::str::from_utf8(&bytes[digits..]).ok()?.parse().ok()?;
    (value(number) == bytes).then_some(number)
}

/// A value comes in so many parts.
pub(super) const PARTS: u16 = 2;

/// The value's part of that number. No part of one value is a part of another.
pub(super) fn part(of: usize, number: u16) -> Bytes {
    let value = value(of);
    let half = value.len() / 2;
    if number == 1 { value.slice(..half) } else { value.slice(half..) }
}

/// The number of the value whose part of that number these bytes are.
pub(super) fn number_of_part(number: u16, bytes: &Bytes) -> Option<usize> {
    let digits = if number == 1 { 0..4 } else { bytes.len().checked_sub(4)?..bytes.len() };
    let of = std::str::from_utf8(bytes.get(digits)?).ok()?.parse().ok()?;
    (part(of, number) == bytes).then_some(of)
}

/// What a value may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Over {
    Nothing,
    Anything,
    /// The value of that number.
    Value(usize),
}

impl Over {
    pub(super) fn when(self) -> Precondition {
        match self {
            Self::Nothing => Precondition::Absent,
            Self::Anything => Precondition::Always,
            Self::Value(number) => Precondition::Tagged(hex(&md5_lanes::digest(value(number)))),
        }
    }

    /// The request that it makes of a PUT of that number.
    pub(super) fn request(self, number: usize) -> Request {
        match self {
            Self::Nothing => Request::Put(number),
            Self::Anything => Request::Replace(number),
            Self::Value(old) => Request::Swap(number, old),
        }
    }
}

/// What a key holds, in the eyes of clients; values go by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Nothing,
    Live(usize),
    Unlinked(usize),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    Put(usize),
    /// Whatever the key holds.
    Replace(usize),
    /// The second number's value by the first's.
    Swap(usize, usize),
    Get,
    /// Through the store.
    Read,
    Delete,
    /// Waiting for others.
    Remove,
    Unlink,
    Relink,
    Rebalance,
    /// An upload in parts, by its number.
    Begin(usize),
    /// A part of the upload, by its number, of the last number's value.
    Part(usize, u16, usize),
    /// The upload's parts.
    List(usize),
    /// The value that the upload's parts make.
    Complete(usize, usize, Over),
    Abort(usize),
}

/// The uploads to a key, and the values that their parts are of.
pub(super) type Uploads = BTreeMap<usize, BTreeMap<u16, usize>>;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Done,
    Value(usize),
    NotFound,
    Exists,
    Changed,
    NoUpload,
    /// That nothing was done, for a reason that isn't in the key's state.
    Refused,
    /// Nothing at all, or that the index failed.
    Nothing,
}
