//! The store's buckets, in S3's words.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use s3s::{S3Error, S3Result, s3_error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::refused;
use crate::clock::Timestamp;
use crate::store::{self, BucketError, Store};

/// The buckets of a store, as S3's requests ask for them.
#[derive(Clone)]
pub(super) struct Buckets {
    buckets: store::Buckets,
    copies: Arc<Semaphore>,
}

/// For as long as this is, the bucket isn't deleted.
#[derive(Clone, Default)]
pub(super) struct Lease {
    _lease: store::Lease,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

/// At most this many copies and completions go on at a time. They go on without their clients, too, so that a
/// limit on connections is none on them.
const COPIES: usize = 64;

impl Buckets {
    pub(super) fn new(store: &Store, strict: bool) -> Self {
        Self { buckets: store.buckets(strict), copies: Arc::new(Semaphore::new(COPIES)) }
    }

    /// Whether there is such a bucket.
    pub(super) async fn exists(&self, bucket: &str) -> S3Result<bool> {
        self.buckets.exists(bucket).await.map_err(refused_bucket)
    }

    /// That there is such a bucket, to be listed: an implicit one may hold nothing.
    pub(super) async fn check_listable(&self, bucket: &str) -> S3Result<()> {
        self.buckets.check_listable(bucket).await.map_err(refused_bucket)
    }

    /// That there is such a bucket, to be written into.
    pub(super) async fn lease(&self, bucket: &str) -> S3Result<Lease> {
        let lease = self.buckets.lease(bucket).await.map_err(refused_bucket)?;
        Ok(Lease { _lease: lease, _place: None })
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
        self.buckets.create(bucket).await.map_err(refused_bucket)
    }

    /// Removes a bucket that holds nothing. Uploads to it end.
    pub(super) async fn delete(&self, bucket: &str) -> S3Result<()> {
        self.buckets.delete(bucket).await.map_err(refused_bucket)
    }

    /// At most `most` of the buckets that may be `seen`, after `after` in the order of their names, with when
    /// they were made.
    pub(super) async fn list(
        &self,
        after: &str,
        most: usize,
        seen: &impl Fn(&str) -> bool,
    ) -> S3Result<Vec<(String, Timestamp)>> {
        self.buckets.list(after, most, seen).await.map_err(refused_bucket)
    }
}

fn refused_bucket(error: BucketError) -> S3Error {
    match error {
        BucketError::Missing => s3_error!(NoSuchBucket, "no such bucket"),
        BucketError::Exists => s3_error!(BucketAlreadyOwnedByYou, "the bucket exists"),
        BucketError::NotEmpty => {
            s3_error!(BucketNotEmpty, "the bucket holds objects: delete them first")
        }
        BucketError::InUse => s3_error!(OperationAborted, "the bucket is being written to: try again"),
        BucketError::Store(error) => refused(error),
    }
}

/// What the keys of a bucket's objects begin with.
pub(super) fn prefix(bucket: &str) -> Vec<u8> {
    format!("/{bucket}/").into_bytes()
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
