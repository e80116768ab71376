//! Buckets: which exist, and that nothing is written into one that is being deleted.
//!
//! A bucket that was made is noted in the index. Where buckets are implicit, as the predecessor has them,
//! the first segment of any key is one, too.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use s3s::{S3Result, s3_error};
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::errors::{failed, refused};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::fold::{Folded, Item, beyond};
use crate::index::notes::{Note, Notes};
use crate::record::{Record, State};
use crate::store::Store;

/// The buckets of a store.
#[derive(Clone)]
pub(super) struct Buckets {
    store: Store,
    strict: bool,
    in_use: Arc<Mutex<HashMap<String, Arc<RwLock<()>>>>>,
    copies: Arc<Semaphore>,
}

/// For as long as this is, the bucket isn't deleted.
#[derive(Clone, Default)]
pub(super) struct Lease {
    _held: Option<Arc<OwnedRwLockReadGuard<()>>>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

/// So many copies and completions go on at a time. They go on without their clients, too, so that no limit on
/// connections is one on them.
const COPIES: usize = 64;

/// Locks that nobody uses are dropped when there are so many.
const MANY: usize = 1024;

/// An item of a listing of the top level, at a time.
const AT_A_TIME: usize = 1000;

impl Buckets {
    pub(super) fn new(store: Store, strict: bool) -> Self {
        Self { store, strict, in_use: Arc::default(), copies: Arc::new(Semaphore::new(COPIES)) }
    }

    /// Whether there is such a bucket.
    pub(super) async fn exists(&self, bucket: &str) -> S3Result<bool> {
        Ok(self.is_noted(bucket)? || (!self.strict && !self.is_empty(bucket).await?))
    }

    /// That there is such a bucket, to be listed: an implicit one may hold nothing.
    pub(super) fn check_listable(&self, bucket: &str) -> S3Result<()> {
        if self.strict && !self.is_noted(bucket)? {
            Err(s3_error!(NoSuchBucket, "no such bucket"))
        } else {
            Ok(())
        }
    }

    /// That there is such a bucket, to be written into.
    pub(super) async fn lease(&self, bucket: &str) -> S3Result<Lease> {
        if !self.strict {
            return Ok(Lease::default());
        }
        let lease = self.lock(bucket).read_owned().await;
        self.check_listable(bucket)?;
        Ok(Lease { _held: Some(Arc::new(lease)), _place: None })
    }

    /// That there is such a bucket, and a place for a copy into it.
    pub(super) async fn lease_for_copy(&self, bucket: &str) -> S3Result<Lease> {
        let lease = self.lease(bucket).await?;
        let place = Arc::clone(&self.copies).try_acquire_owned();
        let place = place.map_err(|_none| s3_error!(SlowDown, "too many copies are under way: try again"))?;
        Ok(Lease { _place: Some(Arc::new(place)), ..lease })
    }

    /// Makes a bucket.
    pub(super) async fn create(&self, bucket: &str) -> S3Result<()> {
        let exists = || s3_error!(BucketAlreadyOwnedByYou, "the bucket exists");
        // clients make sure of their buckets all the time, and who writes into one has its lock
        if self.is_noted(bucket)? {
            return Err(exists());
        }
        let lock = self.lock(bucket);
        let _lock = lock.write().await;
        if self.is_noted(bucket)? {
            return Err(exists());
        }
        let modified = Some(Timestamp::now());
        let (replicas, headers) = (Vec::new(), Vec::new());
        let made = Record { state: State::Live, replicas, md5: None, size: None, modified, headers };
        self.store.index().set_note(&note(bucket), Some(&made)).await.map_err(failed)
    }

    /// Removes a bucket that holds nothing. Uploads to it end.
    pub(super) async fn delete(&self, bucket: &str) -> S3Result<()> {
        let lock = self.lock(bucket);
        let busy = |_busy| s3_error!(OperationAborted, "the bucket is being written to: try again");
        let _lock = lock.try_write().map_err(busy)?;
        let empty = self.is_empty(bucket).await?;
        if !self.is_noted(bucket)? && (self.strict || empty) {
            return Err(s3_error!(NoSuchBucket, "no such bucket"));
        }
        if !empty {
            return Err(s3_error!(BucketNotEmpty, "the bucket holds objects: delete them first"));
        }
        let mut start = None;
        loop {
            let page = self.store.uploads(&prefix(bucket), start).await.map_err(refused)?;
            let next = page.next_note();
            for (key, upload, _) in page.rows {
                match self.store.abort_upload(&key, upload).await {
                    Ok(()) | Err(Error::NoUpload) => {}
                    Err(error) => return Err(refused(error)),
                }
            }
            match next {
                Some(Note::Upload(key, upload)) => start = Some((key, upload)),
                _ => break,
            }
        }
        self.store.index().set_note(&note(bucket), None).await.map_err(failed)
    }

    /// At most so many of the buckets that may be `seen`, with when they were made; in
    /// the order of their names with the slash behind them, in which keys lie, and only those that come after
    /// `after`.
    pub(super) async fn list(
        &self,
        after: &str,
        most: usize,
        seen: &impl Fn(&str) -> bool,
    ) -> S3Result<Vec<(String, Timestamp)>> {
        let index = self.store.index();
        let after = if after.is_empty() { String::new() } else { format!("{after}/") };
        let mut buckets = BTreeMap::new();
        let mut start = None;
        loop {
            let page = index.notes_page(Notes::Buckets, b"", start.as_ref()).await.map_err(failed)?;
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

    /// Adds at most so many of those that are the first segments of keys.
    async fn add_implicit(
        &self,
        buckets: &mut BTreeMap<String, Timestamp>,
        after: &str,
        most: usize,
        seen: &impl Fn(&str) -> bool,
    ) -> S3Result<()> {
        let folded = Folded { prefix: b"/".to_vec(), delimiter: b"/".to_vec() };
        let mut start =
            beyond(format!("/{after}").as_bytes()).filter(|_| !after.is_empty()).unwrap_or_default();
        let mut found = 0;
        while found < most {
            let page = self.store.index().items(&folded, &start, AT_A_TIME).await.map_err(failed)?;
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

    fn is_noted(&self, bucket: &str) -> S3Result<bool> {
        Ok(self.store.index().note(&note(bucket)).map_err(failed)?.is_some())
    }

    async fn is_empty(&self, bucket: &str) -> S3Result<bool> {
        let folded = Folded { prefix: prefix(bucket), delimiter: Vec::new() };
        let mut start = Vec::new();
        loop {
            let page = self.store.index().items(&folded, &start, 1).await.map_err(failed)?;
            match page.next {
                _ if !page.rows.is_empty() => return Ok(false),
                Some(next) => start = next,
                None => return Ok(true),
            }
        }
    }

    fn lock(&self, bucket: &str) -> Arc<RwLock<()>> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.len() >= MANY {
            in_use.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(in_use.entry(bucket.to_owned()).or_default())
    }
}

/// What the keys of a bucket's objects begin with.
pub(super) fn prefix(bucket: &str) -> Vec<u8> {
    format!("/{bucket}/").into_bytes()
}

fn note(bucket: &str) -> Note {
    Note::Bucket(bucket.as_bytes().to_vec())
}

/// A body that goes to a bucket. The write that reads it holds it to its end, also when its client has left,
/// and with it the bucket.
pub(super) struct Leased<B> {
    body: B,
    _lease: Lease,
}

impl<B> Leased<B> {
    pub(super) fn new(body: B, lease: Lease) -> Self {
        Self { body, _lease: lease }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leased<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a bucket may be made by that name: 3 to 63 characters of a–z, 0–9, `.` and `-`, as S3 has it.
/// Where buckets are implicit, those that exist have the names that they have.
pub(super) struct Names {
    pub(super) strict: bool,
}

impl s3s::validation::NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        if self.strict {
            return s3s::path::check_bucket_name(name);
        }
        !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control)
    }
}
