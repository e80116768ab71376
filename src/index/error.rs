//! Why the index failed.

use std::fmt;

use crate::key::Key;

/// The index failed, in one line for the log; it says nothing about the key.
#[derive(Debug)]
pub struct IndexError {
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl IndexError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// An error that another one caused.
    pub(crate) fn because(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { what: what.into(), source: Some(Box::new(source)) }
    }

    pub(super) fn damaged(key: &Key, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::because(format!("the index is damaged at {key}"), source)
    }
}

/// In one line, with its cause: it goes to the log as it is.
impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            None => f.write_str(&self.what),
            Some(source) => write!(f, "{}: {source}", self.what),
        }
    }
}

impl std::error::Error for IndexError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<crate::leveldb::Error> for IndexError {
    fn from(error: crate::leveldb::Error) -> Self {
        Self::because("the index failed", error)
    }
}

impl From<IndexError> for crate::error::Error {
    fn from(error: IndexError) -> Self {
        Self::Index(Box::new(error))
    }
}
