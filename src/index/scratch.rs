//! Gathers the files that a rebuild finds on the volumes, sorted by key, on disk: a rebuild of any size needs
//! little memory.

use std::path::Path;

use super::error::IndexError;
use super::leveldb::open_database;
use super::types::Options;
use crate::key::{Key, Name};
use crate::leveldb::{Batch, Database, Iter};
use crate::placement::Place;
use crate::record::Replica;

/// A key's file that a listing showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies, and its name.
    pub replica: Replica,
    /// Its length in bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: Option<u64>,
}

/// A database of such files.
pub struct Scratch(Database);

/// Iterates over the files, key by key.
pub struct Groups<'a>(Iter<'a>);

impl Scratch {
    /// Makes an empty one. Blocking.
    ///
    /// # Errors
    ///
    /// One line for the operator.
    pub fn create(path: &Path, options: Options) -> Result<Self, IndexError> {
        open_database(path, true, options.cache_bytes).map(Self)
    }

    /// Adds files. Blocking.
    ///
    /// # Errors
    ///
    /// The disk is full, or such.
    pub fn add(&self, files: &[(Key, Found)]) -> Result<(), IndexError> {
        let mut batch = Batch::new();
        for (key, found) in files {
            batch.put(&row(key, &found.replica), &value(found));
        }
        Ok(self.0.write(&batch, false)?)
    }

    /// Whether any file of the key was found. Blocking.
    ///
    /// # Errors
    ///
    /// The scratch can't be read.
    pub fn has(&self, key: &Key) -> Result<bool, IndexError> {
        let mut iter = self.0.iter(true);
        let prefix = prefix(key);
        iter.seek(&prefix);
        iter.status()?;
        Ok(iter.valid() && iter.key().starts_with(&prefix))
    }

    /// All files, key by key.
    #[must_use]
    pub fn groups(&self) -> Groups<'_> {
        let mut iter = self.0.iter(false);
        iter.seek_to_first();
        Groups(iter)
    }
}

impl Groups<'_> {
    /// The next key with its files; `None` after the last. Blocking.
    ///
    /// # Errors
    ///
    /// The scratch can't be read to its end.
    pub fn next_group(&mut self) -> Result<Option<(Key, Vec<Found>)>, IndexError> {
        let mut group: Option<(Key, Vec<Found>)> = None;
        while self.0.valid() {
            let odd = || IndexError::new("the rebuild's scratch is damaged");
            let (key, replica) = parse_row(self.0.key()).ok_or_else(odd)?;
            let (size, modified) = parse_value(self.0.value()).ok_or_else(odd)?;
            let found = Found { replica, size, modified };
            match &mut group {
                None => group = Some((key, vec![found])),
                Some((current, files)) if *current == key => files.push(found),
                Some(_) => break,
            }
            self.0.next();
        }
        self.0.status()?;
        Ok(group)
    }
}

/// Length of the key, key, generation (0 for the plain name, which no attempt has), place.
fn row(key: &Key, replica: &Replica) -> Vec<u8> {
    let generation = match replica.name {
        Name::Plain => [0; 9],
        Name::Generation(generation) => {
            let mut tagged = [1; 9];
            if let Some(number) = tagged.last_chunk_mut() {
                *number = generation.to_be_bytes();
            }
            tagged
        }
    };
    [&prefix(key), generation.as_slice(), replica.place.as_str().as_bytes()].concat()
}

fn prefix(key: &Key) -> Vec<u8> {
    let length = u32::try_from(key.as_bytes().len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), key.as_bytes()].concat()
}

fn parse_row(row: &[u8]) -> Option<(Key, Replica)> {
    let (length, rest) = row.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let ([tag], rest) = rest.split_first_chunk()?;
    let (number, place) = rest.split_first_chunk()?;
    let name = if *tag == 0 { Name::Plain } else { Name::Generation(u64::from_be_bytes(*number)) };
    let place = Place::new(std::str::from_utf8(place).ok()?);
    Some((Key::new(key), Replica { place, name }))
}

fn value(found: &Found) -> Vec<u8> {
    let modified = found.modified.map_or([0; 8], u64::to_be_bytes);
    let known = [u8::from(found.modified.is_some())];
    [found.size.to_be_bytes().as_slice(), &known, &modified].concat()
}

fn parse_value(value: &[u8]) -> Option<(u64, Option<u64>)> {
    let (size, rest) = value.split_first_chunk()?;
    let ([known], rest) = rest.split_first_chunk()?;
    let (modified, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*size), (*known == 1).then(|| u64::from_be_bytes(*modified))))
}
