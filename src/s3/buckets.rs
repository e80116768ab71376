//! The store's buckets, with S3's errors.

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

/// The buckets of a store.
#[derive(Clone)]
pub(super) struct Buckets {
    buckets: store::Buckets,
    copies: Arc<Semaphore>,
}

/// While a lease exists, its bucket isn't deleted.
#[derive(Clone, Default)]
pub(super) struct Lease {
    _lease: store::Lease,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

/// The most copies and completions that run at a time. They continue when their clients disconnect, so the limit
/// on connections doesn't bound them.
const COPIES: usize = 64;

impl Buckets {
    pub(super) fn new(store: &Store, strict: bool) -> Self {
        Self { buckets: store.buckets(strict), copies: Arc::new(Semaphore::new(COPIES)) }
    }

    /// Whether there is such a bucket.
    pub(super) async fn exists(&self, bucket: &str) -> S3Result<bool> {
        self.buckets.exists(bucket).await.map_err(refused_bucket)
    }

    /// Checks that a bucket can be listed; an implicit one may be empty.
    pub(super) async fn check_listable(&self, bucket: &str) -> S3Result<()> {
        self.buckets.check_listable(bucket).await.map_err(refused_bucket)
    }

    /// Checks that a bucket exists, and keeps it while it is written to.
    pub(super) async fn lease(&self, bucket: &str) -> S3Result<Lease> {
        let lease = self.buckets.lease(bucket).await.map_err(refused_bucket)?;
        Ok(Lease { _lease: lease, _place: None })
    }

    /// As [`Buckets::lease`], and takes one of the places for copies.
    pub(super) async fn lease_for_copy(&self, bucket: &str) -> S3Result<Lease> {
        let lease = self.lease(bucket).await?;
        let place = Arc::clone(&self.copies).try_acquire_owned();
        let place = place.map_err(|_none| s3_error!(SlowDown, "too many copies are under way: try again"))?;
        Ok(Lease { _place: Some(Arc::new(place)), ..lease })
    }

    /// Creates a bucket.
    pub(super) async fn create(&self, bucket: &str) -> S3Result<()> {
        self.buckets.create(bucket).await.map_err(refused_bucket)
    }

    /// Deletes an empty bucket, and aborts its uploads.
    pub(super) async fn delete(&self, bucket: &str) -> S3Result<()> {
        self.buckets.delete(bucket).await.map_err(refused_bucket)
    }

    /// Up to `most` buckets for which `seen` holds, after `after` in the order of their names, with their times of
    /// creation.
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

/// The prefix of the keys of a bucket's objects.
pub(super) fn prefix(bucket: &str) -> Vec<u8> {
    format!("/{bucket}/").into_bytes()
}

/// A body with the lease of its bucket. The write holds it to its end, even if the client disconnects.
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

/// Validates bucket names: S3's rules if buckets are strict; otherwise implicit buckets may have other names.
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
