//! Objects: one value each. Their bytes are streamed.

use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, StreamExt as _};
use http_body::Body;
use hyper::header::{HeaderMap, HeaderValue};
use s3s::dto::{self, ETagCondition};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::buckets::{Lease, Leased};
use super::checksum::{Algorithm, Sum, Tapped};
use super::condition::{Expected, Unexpected};
use super::errors::{refused, wrong};
use super::metadata;
use super::payload::Outcome;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::{Headers, Record};
use crate::store::{Incoming, Piece, Precondition, Reading, Received, Store};

/// Attempts to open a value whose key is being overwritten.
const TRIES: usize = 5;

/// The most bytes of one copy, as in S3: the client gets no answer until the copy is done.
const LARGEST_COPY: u64 = 5 * 1024 * 1024 * 1024;

/// Bytes of a value, on their way to a client.
pub(super) type Bytestream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The key of an object.
pub(super) fn key(bucket: &str, object: &str) -> Key {
    Key::new(format!("/{bucket}/{object}").as_bytes())
}

/// An object that was found, and the requested bytes.
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) size: u64,
    pub(super) part: Range<u64>,
    /// Whether the client asked for a part only.
    pub(super) partial: bool,
    /// The number of the object's parts, if a part was requested.
    pub(super) parts: Option<usize>,
}

/// The bytes of an object that a client requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) range: Option<dto::Range>,
    pub(super) part_number: Option<i32>,
}

/// Looks at an object.
pub(super) async fn find(store: &Store, key: &Key, expected: &Expected, wanted: Wanted) -> S3Result<Found> {
    let record = store.stat(key).await.map_err(refused)?;
    expected.check(&record).map_err(|unexpected| match unexpected {
        Unexpected::Other => s3_error!(PreconditionFailed, "the object isn't the one that was expected"),
        Unexpected::Same => not_modified(&record),
    })?;
    let size = record.size.unwrap_or_default();
    let (part, parts) = match (wanted.range, wanted.part_number) {
        (None, None) => (0..size, None),
        (Some(range), None) => {
            // an empty object has no last bytes
            let part = range.check(size).ok().filter(|part| !part.is_empty());
            (part.ok_or_else(|| invalid_range(size))?, None)
        }
        (None, Some(number)) => {
            let (part, count) = part(&record, size, number)?;
            (part, count)
        }
        (Some(_), Some(_)) => {
            return Err(s3_error!(InvalidRequest, "a range and a part number don't go together"));
        }
    };
    let partial = wanted.range.is_some() || (parts.is_some() && part != (0..size) && !part.is_empty());
    Ok(Found { record, size, part, partial, parts })
}

/// The bytes of a part, and the number of parts.
fn part(record: &Record, size: u64, number: i32) -> S3Result<(Range<u64>, Option<usize>)> {
    let sizes = metadata::parts(record);
    let count = sizes.as_ref().map(Vec::len);
    let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let sizes = sizes.unwrap_or_else(|| vec![size]);
    let found = at.and_then(|at| Some((sizes.get(..at)?.iter().sum::<u64>(), *sizes.get(at)?)));
    let (start, length) = found.ok_or_else(|| {
        let mut refusal = s3_error!(InvalidRange, "the object has {} parts", sizes.len());
        refusal.set_code(S3ErrorCode::Custom("InvalidPartNumber".into()));
        refusal.set_status_code(hyper::StatusCode::RANGE_NOT_SATISFIABLE);
        refusal
    })?;
    Ok((start..start + length, count))
}

fn not_modified(record: &Record) -> S3Error {
    let mut headers = HeaderMap::new();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", record.tag())) {
        headers.insert(hyper::header::ETAG, tag);
    }
    let mut refusal = S3Error::new(S3ErrorCode::NotModified);
    refusal.set_headers(headers);
    refusal
}

fn invalid_range(size: u64) -> S3Error {
    let mut refusal = s3_error!(InvalidRange, "the object has {size} bytes");
    let mut headers = HeaderMap::new();
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{size}")) {
        headers.insert(hyper::header::CONTENT_RANGE, range);
    }
    refusal.set_headers(headers);
    refusal
}

/// Opens the requested bytes of an object; tries again if the object is overwritten meanwhile.
pub(super) async fn open(
    store: &Store,
    key: &Key,
    expected: &Expected,
    wanted: Wanted,
) -> S3Result<(Found, Reading)> {
    let mut tries = 0;
    loop {
        let found = find(store, key, expected, wanted).await?;
        match store.read(key, found.record.clone(), found.part.clone()).await {
            Ok(reading) => return Ok((found, reading)),
            Err(Error::Changed | Error::NotFound) if tries < TRIES => tries += 1,
            // the object changed, though the client's condition was met
            Err(Error::Changed) => return Err(refused(Error::Unreachable)),
            Err(error) => return Err(refused(error)),
        }
    }
}

/// The bytes as a stream.
pub(super) fn stream(reading: Reading) -> Bytestream {
    Box::pin(stream::unfold(Some(reading), async |reading| {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Stores an object from a client's body.
pub(super) async fn put<B>(
    store: &Store,
    key: &Key,
    lease: Lease,
    body: Incoming<B>,
    outcome: Outcome,
    when: Precondition,
    headers: Headers,
) -> S3Result<Record>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display + Send,
{
    let Incoming { body, length, md5 } = body;
    let upload = Incoming { body: Leased::new(body, lease), length, md5 };
    let written = store.replace(key, upload, when, finish(&outcome, headers)).await;
    written.map_err(|error| wrong(&outcome, error))
}

/// Called at the end of a client's body: checks it against its headers, and stores its checksums.
pub(super) fn finish(
    outcome: &Outcome,
    mut headers: Headers,
) -> impl FnOnce(Received) -> Result<Headers> + Send + 'static {
    let outcome = outcome.clone();
    move |_received| {
        // `wrong` finds the reason
        let sums: Vec<Sum> = outcome.finish().map_err(|_wrong| Error::CutShort)?;
        metadata::put_sums(&mut headers, &sums);
        Ok(headers)
    }
}

/// Finds the source of a copy, and the bytes to copy.
pub(super) async fn source(
    store: &Store,
    key: Key,
    expected: &Expected,
    range: Option<dto::Range>,
) -> S3Result<(Record, Piece)> {
    let wanted = Wanted { range, part_number: None };
    let found = find(store, &key, expected, wanted).await.map_err(|refusal| {
        // 304 is for readers only
        let has_it = *refusal.code() == S3ErrorCode::NotModified;
        if has_it { s3_error!(PreconditionFailed, "the source isn't what was expected") } else { refusal }
    })?;
    let Found { record, part, .. } = found;
    if part.end - part.start > LARGEST_COPY {
        return Err(s3_error!(InvalidRequest, "a copy has at most {LARGEST_COPY} bytes: copy it in parts"));
    }
    Ok((record.clone(), Piece { key, record, part }))
}

/// The bucket and key in a copy's source header.
pub(super) fn copy_source(source: &dto::CopySource) -> S3Result<(&str, Key)> {
    match source {
        dto::CopySource::Bucket { bucket, key: object, version_id } => {
            check_version(version_id.as_deref())?;
            Ok((bucket, key(bucket, object)))
        }
        _ => Err(s3_error!(NotImplemented, "a copy's source must be /bucket/key")),
    }
}

/// Accepts the version `null`, which S3 uses in buckets without versioning.
pub(super) fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion, "objects have no versions here")),
    }
}

/// Deletes an object, if it exists.
pub(super) async fn delete(store: &Store, key: &Key, matches: Option<ETagCondition>) -> S3Result<()> {
    let when = match matches {
        // S3 doesn't see unlinked keys, and RELINK may still need them
        None | Some(ETagCondition::Any) => Precondition::Live,
        Some(ETagCondition::ETag(tag)) => Precondition::Tagged(tag.into_value()),
    };
    match store.record(key).await {
        Ok(_) => {}
        // returns without waiting for writers of the key
        Err(Error::NotFound) => return Ok(()),
        Err(error) => return Err(refused(error)),
    }
    match store.remove(key, when).await {
        Ok(()) | Err(Error::NotFound) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// A copy's source and options.
pub(super) struct Copy {
    pub(super) source_key: Key,
    pub(super) expected: Expected,
    /// The headers of the copy; `None` for the source's.
    pub(super) described: Option<Headers>,
    /// The checksum to compute; `None` for the source's.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) when: Precondition,
}

impl Copy {
    /// Copies through this process, a window at a time.
    pub(super) async fn run(self, store: &Store, key: &Key, lease: Lease) -> S3Result<Record> {
        let mut tries = 0;
        loop {
            match self.attempt(store, key, lease.clone()).await? {
                Ok(record) => return Ok(record),
                // the source was overwritten meanwhile
                Err(Error::Changed) if tries < TRIES && !matches!(self.when, Precondition::Tagged(_)) => {
                    tries += 1;
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    async fn attempt(&self, store: &Store, key: &Key, lease: Lease) -> S3Result<Result<Record>> {
        let (record, piece) = source(store, self.source_key.clone(), &self.expected, None).await?;
        let mut headers = self.described.clone().unwrap_or_else(|| metadata::without_sums(&record.headers));
        let own = || metadata::checksums(&record).next().map(|(algorithm, _)| algorithm);
        let tapped = Tapped::new(self.algorithm.or_else(own));
        let body = store.splice(vec![piece], tapped.tap());
        let length = Some(body.left());
        let upload = Incoming { body: Leased::new(body, lease), length, md5: None };
        let finish = move |_received| {
            metadata::put_sums(&mut headers, &tapped.finish());
            Ok(headers)
        };
        // these bytes don't come from the client
        let stalled = |error| if matches!(error, Error::Stalled) { Error::Unreachable } else { error };
        Ok(store.replace(key, upload, self.when.clone(), finish).await.map_err(stalled))
    }
}

/// Objects of one request that are deleted at a time.
const DELETED_AT_A_TIME: usize = 16;

/// The most objects that one request deletes, as in S3.
const MOST_DELETED: usize = 1000;

/// Deletes many objects, and reports each result.
pub(super) async fn delete_all(
    store: &Store,
    bucket: &str,
    delete: dto::Delete,
) -> S3Result<dto::DeleteObjectsOutput> {
    if delete.objects.is_empty() || delete.objects.len() > MOST_DELETED {
        return Err(s3_error!(MalformedXML, "a request may delete 1 to {MOST_DELETED} objects"));
    }
    let quiet = delete.quiet == Some(true);
    let deletions = delete.objects.into_iter().map(async |object| {
        let matches = object.e_tag.map(ETagCondition::ETag);
        let deleted = match check_version(object.version_id.as_deref()) {
            Ok(()) if object.key.is_empty() => Err(s3_error!(UserKeyMustBeSpecified, "a key isn't empty")),
            Ok(()) => self::delete(store, &key(bucket, &object.key), matches).await,
            Err(refusal) => Err(refusal),
        };
        (object.key, object.version_id, deleted)
    });
    let outcomes: Vec<_> = stream::iter(deletions).buffered(DELETED_AT_A_TIME).collect().await;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, version_id, outcome) in outcomes {
        match outcome {
            Ok(()) if quiet => {}
            Ok(()) => {
                deleted.push(dto::DeletedObject {
                    key: Some(key),
                    version_id,
                    ..dto::DeletedObject::default()
                });
            }
            Err(refusal) => errors.push(dto::Error {
                code: Some(refusal.code().as_str().to_owned()),
                message: refusal.message().map(str::to_owned),
                key: Some(key),
                version_id,
            }),
        }
    }
    Ok(dto::DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), request_charged: None })
}
