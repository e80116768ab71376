//! Listings with folders: all keys that share a prefix up to a delimiter are one item.
//!
//! A scan finds a folder by its first live key, and skips the rest of it by one seek, however many keys it holds.

use crate::key::Key;
use crate::record::Record;

/// Selects the keys of a listing, and how they are folded into folders.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// The prefix of the keys.
    pub prefix: Vec<u8>,
    /// The delimiter that ends a folder's name, after the prefix; empty for no folders.
    pub delimiter: Vec<u8>,
}

/// An item of a listing.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A live key.
    Key(Key, Record),
    /// The common start of one or more keys, up to and with the first delimiter after the prefix.
    Folder(Vec<u8>),
}

impl Folded {
    /// The folder that the key is in.
    pub(crate) fn folder(&self, key: &[u8]) -> Option<Vec<u8>> {
        let rest = key.get(self.prefix.len()..).filter(|_| !self.delimiter.is_empty())?;
        let at = rest.windows(self.delimiter.len()).position(|part| part == self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len()).map(<[u8]>::to_vec)
    }
}

/// The first key after all keys with this prefix; `None` if there can't be one.
#[must_use]
pub fn beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut beyond = prefix.get(..=kept)?.to_vec();
    *beyond.last_mut()? += 1;
    Some(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_a_prefix_is_what_follows_all_that_begin_with_it() {
        assert_eq!(beyond(b"/a/"), Some(b"/a0".to_vec()));
        assert_eq!(beyond(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(beyond(b"\xff"), None);
        assert_eq!(beyond(b""), None);
    }
}
