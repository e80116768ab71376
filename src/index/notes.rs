//! Notes: rows that stand for no value, but for a bucket that was made or an upload in parts that is under way.
//!
//! Each holds a record without replicas: when it was made, and its headers.

use std::fmt;

use super::types::Page;
use crate::key::Key;

const BUCKET: &[u8] = b"\0bucket";
const UPLOAD: &[u8] = b"\0upload";

/// Ends the key in an upload's row: keys of new values have no control characters.
const END: u8 = 0;

/// A bucket or an upload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A bucket, by its name.
    Bucket(Vec<u8>),
    /// An upload in parts to a key, by its number.
    Upload(Key, u64),
}

/// Selects the notes of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// All buckets, by name.
    Buckets,
    /// All uploads, by key and then by number.
    Uploads,
}

impl Note {
    /// Its row in the index.
    pub(crate) fn row(&self) -> Vec<u8> {
        match self {
            Self::Bucket(name) => [BUCKET, name].concat(),
            Self::Upload(key, number) => {
                [UPLOAD, key.as_bytes(), &[END], number.to_be_bytes().as_slice()].concat()
            }
        }
    }

    pub(super) fn from_row(row: &[u8]) -> Option<Self> {
        if let Some(name) = row.strip_prefix(BUCKET) {
            return Some(Self::Bucket(name.to_vec()));
        }
        let (key, number) = row.strip_prefix(UPLOAD)?.split_last_chunk()?;
        let (end, key) = key.split_last()?;
        (*end == END).then(|| Self::Upload(Key::new(key), u64::from_be_bytes(*number)))
    }

    /// The number of the upload that is noted.
    #[must_use]
    pub fn upload(&self) -> Option<u64> {
        match self {
            Self::Bucket(_) => None,
            Self::Upload(_, number) => Some(*number),
        }
    }
}

impl Notes {
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Buckets => BUCKET,
            Self::Uploads => UPLOAD,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(name) => write!(f, "the bucket {}", name.escape_ascii()),
            Self::Upload(key, number) => write!(f, "the upload {number:016x} to {key}"),
        }
    }
}

impl<T> Page<T> {
    /// Where the next page of notes begins.
    #[must_use]
    pub fn next_note(&self) -> Option<Note> {
        self.next.as_deref().and_then(Note::from_row)
    }
}
