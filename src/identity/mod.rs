//! Who a store and its volumes are.
//!
//! Each volume holds a small file, its marker, in each of its subvolumes; the index holds the other half. A volume
//! takes part only while the two agree, so that a disk that isn't mounted, a disk of another store and two disks that
//! were swapped are never taken for the volume that the index means. A second file on each volume, the owner file, says
//! which run of a program has the volume, so that an index that is out of date, and two masters with copies of one
//! index, are noticed. This module is pure: it has the forms of both halves (`marker`) and what follows from what is
//! found ([`judge`]); it asks nobody.

mod judge;
mod marker;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use judge::{Found, Problem, Seen, Verdict, judge, judge_for_a_new_index};
pub use marker::{Known, MARKER, Marker, MarkerError, OWNER_FILE, Owner, OwnerFile, Run};

/// 16 random bytes that name a store, a volume, or one run of a master. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id([u8; 16]);

impl Id {
    /// A new one, from the standard library's random keys.
    #[must_use]
    pub fn random() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let half = |of: u8| RandomState::new().hash_one(of).to_be_bytes();
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&half(1));
        second.copy_from_slice(&half(2));
        Self(bytes)
    }

    /// From these bytes, which the caller draws at random.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::record::hex(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::record::unhex(text).map(Self).ok_or("an id is 32 hex digits")
    }
}
