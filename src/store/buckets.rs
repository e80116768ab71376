//! Buckets: which exist, and that nothing is written into one that is being deleted.
//!
//! A bucket that was made is noted in the index. Where buckets are implicit, as the predecessor has them,
//! the first segment of any key is one, too.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::core::Core;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::IndexError;
use crate::index::fold::{Folded, Item, beyond};
use crate::index::notes::{Note, Notes};
use crate::record::{Record, State};

/// The buckets of a store. Cheap to clone; all clones are the same ones.
#[derive(Clone)]
pub struct Buckets {
    store: Arc<Core>,
    strict: bool,
    in_use: Arc<Mutex<HashMap<String, Arc<RwLock<()>>>>>,
}

/// For as long as this is, the bucket isn't deleted. The default is a lease of no bucket.
#[derive(Clone, Default)]
pub struct Lease {
    _held: Option<Arc<OwnedRwLockReadGuard<()>>>,
}

/// Why nothing was done to a bucket.
#[derive(Debug)]
pub enum BucketError {
    /// There is no such bucket.
    Missing,
    /// The bucket was made before.
    Exists,
    /// The bucket holds values.
    NotEmpty,
    /// The bucket is being written to.
    InUse,
    /// The store couldn't tell.
    Store(Error),
}

/// Locks that nobody uses are dropped when there are this many.
const MANY_LOCKS: usize = 1024;

/// Top-level items read per page.
const ITEMS_PER_PAGE: usize = 1000;

type Result<T> = std::result::Result<T, BucketError>;

impl Buckets {
    /// The buckets of that store. `strict`: only those that were made are buckets.
    pub(super) fn new(store: Arc<Core>, strict: bool) -> Self {
        Self { store, strict, in_use: Arc::default() }
    }

    /// Whether there is such a bucket.
    ///
    /// # Errors
    ///
    /// `Store`.
    pub async fn exists(&self, bucket: &str) -> Result<bool> {
        Ok(self.is_noted(bucket).await? || (!self.strict && !self.is_empty(bucket).await?))
    }

    /// That there is such a bucket, to be listed: an implicit one may hold nothing.
    ///
    /// # Errors
    ///
    /// `Missing`, `Store`.
    pub async fn check_listable(&self, bucket: &str) -> Result<()> {
        if self.strict && !self.is_noted(bucket).await? { Err(BucketError::Missing) } else { Ok(()) }
    }

    /// That there is such a bucket, to be written into: while the lease is held, it isn't deleted.
    ///
    /// # Errors
    ///
    /// `Missing`, `Store`.
    pub async fn lease(&self, bucket: &str) -> Result<Lease> {
        if !self.strict {
            return Ok(Lease::default());
        }
        let held = self.lock(bucket).read_owned().await;
        self.check_listable(bucket).await?;
        Ok(Lease { _held: Some(Arc::new(held)) })
    }

    /// Makes a bucket.
    ///
    /// # Errors
    ///
    /// `Exists`, `Store`.
    pub async fn create(&self, bucket: &str) -> Result<()> {
        // clients make sure of their buckets all the time, and whoever writes into one has its lock
        if self.is_noted(bucket).await? {
            return Err(BucketError::Exists);
        }
        let lock = self.lock(bucket);
        let _lock = lock.write().await;
        if self.is_noted(bucket).await? {
            return Err(BucketError::Exists);
        }
        let (state, replicas, headers) = (State::Live, Vec::new(), Vec::new());
        let made =
            Record { state, replicas, md5: None, size: None, modified: Some(Timestamp::now()), headers };
        self.store.check_not_taken()?;
        Ok(self.store.index.set_note(&note(bucket), Some(&made)).await?)
    }

    /// Removes a bucket that holds nothing. Uploads to it end.
    ///
    /// # Errors
    ///
    /// `Missing`, `NotEmpty`, `InUse`, `Store`.
    pub async fn delete(&self, bucket: &str) -> Result<()> {
        let lock = self.lock(bucket);
        let _lock = lock.try_write().map_err(|_busy| BucketError::InUse)?;
        let empty = self.is_empty(bucket).await?;
        if !self.is_noted(bucket).await? && (self.strict || empty) {
            return Err(BucketError::Missing);
        }
        if !empty {
            return Err(BucketError::NotEmpty);
        }
        let mut start = None;
        loop {
            let page = self.store.uploads(&prefix(bucket), start).await?;
            for (key, upload, _) in page.rows {
                match self.store.abort_upload(&key, upload).await {
                    Ok(()) | Err(Error::NoUpload) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match page.next {
                Some(next) => start = Some(next),
                None => break,
            }
        }
        self.store.check_not_taken()?;
        Ok(self.store.index.set_note(&note(bucket), None).await?)
    }

    /// At most `most` of the buckets that may be `seen`, with when they were made; in
    /// the order of their names with the slash behind them, in which keys lie, and only those that come after
    /// `after`.
    ///
    /// # Errors
    ///
    /// `Store`.
    pub async fn list(
        &self,
        after: &str,
        most: usize,
        seen: &impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Timestamp)>> {
        let after = if after.is_empty() { String::new() } else { format!("{after}/") };
        let mut buckets = BTreeMap::new();
        let mut start = None;
        loop {
            let page = self.store.index.notes_page(Notes::Buckets, b"", start.as_ref()).await?;
            start = page.next_note();
            for (note, made) in page.rows {
                let Note::Bucket(name) = note else { continue };
                let name = String::from_utf8_lossy(&name).into_owned() + "/";
                if name > after {
                    buckets.insert(name, made.modified.unwrap_or_default());
                }
            }
            if start.is_none() {
                break;
            }
        }
        if !self.strict {
            self.add_implicit(&mut buckets, &after, most, seen).await?;
        }
        let named = |(mut name, made): (String, Timestamp)| {
            name.pop();
            (name, made)
        };
        Ok(buckets.into_iter().map(named).filter(|(name, _)| seen(name)).take(most).collect())
    }

    /// Adds at most `most` of those that are the first segments of keys.
    async fn add_implicit(
        &self,
        buckets: &mut BTreeMap<String, Timestamp>,
        after: &str,
        most: usize,
        seen: &impl Fn(&str) -> bool,
    ) -> Result<()> {
        let folded = Folded { prefix: b"/".to_vec(), delimiter: b"/".to_vec() };
        let mut start =
            beyond(format!("/{after}").as_bytes()).filter(|_| !after.is_empty()).unwrap_or_default();
        let mut found = 0;
        while found < most {
            let page = self.store.index.items(&folded, &start, ITEMS_PER_PAGE).await?;
            for item in page.rows {
                // a key without a second slash is in no bucket
                let Item::Folder(bucket) = item else { continue };
                let name = String::from_utf8_lossy(bucket.get(1..).unwrap_or_default()).into_owned();
                if name.strip_suffix('/').is_some_and(|bucket| !bucket.is_empty() && seen(bucket)) {
                    found += 1;
                    buckets.entry(name).or_default();
                }
            }
            match page.next {
                Some(next) => start = next,
                None => break,
            }
        }
        Ok(())
    }

    async fn is_noted(&self, bucket: &str) -> Result<bool> {
        Ok(self.store.index.note(&note(bucket)).await?.is_some())
    }

    async fn is_empty(&self, bucket: &str) -> Result<bool> {
        let folded = Folded { prefix: prefix(bucket), delimiter: Vec::new() };
        let mut start = Vec::new();
        loop {
            let page = self.store.index.items(&folded, &start, 1).await?;
            match page.next {
                _ if !page.rows.is_empty() => return Ok(false),
                Some(next) => start = next,
                None => return Ok(true),
            }
        }
    }

    fn lock(&self, bucket: &str) -> Arc<RwLock<()>> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.len() >= MANY_LOCKS {
            in_use.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(in_use.entry(bucket.to_owned()).or_default())
    }
}

/// What the keys of a bucket's values begin with.
fn prefix(bucket: &str) -> Vec<u8> {
    format!("/{bucket}/").into_bytes()
}

fn note(bucket: &str) -> Note {
    Note::Bucket(bucket.as_bytes().to_vec())
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such bucket"),
            Self::Exists => f.write_str("the bucket exists"),
            Self::NotEmpty => f.write_str("the bucket holds objects: delete them first"),
            Self::InUse => f.write_str("the bucket is being written to: try again"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BucketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Missing | Self::Exists | Self::NotEmpty | Self::InUse => None,
        }
    }
}

impl From<Error> for BucketError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<IndexError> for BucketError {
    fn from(error: IndexError) -> Self {
        Self::Store(error.into())
    }
}
