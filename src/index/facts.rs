//! Facts: rows about the store itself and its volumes, which say whose the volumes are.

use crate::identity::{Known, MarkerError, Owner};

use super::error::IndexError;

const OWNER: &[u8] = b"\0store";
const VOLUME: &[u8] = b"\0volume";

/// Which fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    /// Whose index it is.
    Owner,
    /// What is known of the volume of that name.
    Volume(String),
}

impl Fact {
    /// What the rows of all volumes begin with.
    pub(super) const VOLUMES: &'static [u8] = VOLUME;

    /// Its row in the index.
    pub(super) fn row(&self) -> Vec<u8> {
        match self {
            Self::Owner => OWNER.to_vec(),
            Self::Volume(name) => [VOLUME, name.as_bytes()].concat(),
        }
    }
}

/// Whether a row of the index is a fact.
pub(super) fn is_fact(row: &[u8]) -> bool {
    row == OWNER || row.starts_with(VOLUME)
}

/// Checks that a fact can be read.
pub(super) fn check(row: &[u8], bytes: &[u8]) -> Result<(), IndexError> {
    if row == OWNER { owner(bytes).map(drop) } else { known(row, bytes).map(drop) }
}

pub(super) fn owner(bytes: &[u8]) -> Result<Owner, IndexError> {
    Owner::decode(bytes).map_err(|error| damaged("the store's row", error))
}

pub(super) fn known(row: &[u8], bytes: &[u8]) -> Result<(String, Known), IndexError> {
    let name = row.strip_prefix(VOLUME).and_then(|name| std::str::from_utf8(name).ok());
    let what = format!("the row {}", row.escape_ascii());
    let name = name.ok_or_else(|| IndexError::new(format!("the index is damaged: {what}")))?;
    Ok((name.to_owned(), Known::decode(bytes).map_err(|error| damaged(&what, error))?))
}

fn damaged(what: &str, error: MarkerError) -> IndexError {
    IndexError::because(format!("the index can't be used: {what}"), error)
}
