//! Completes multipart uploads: joins the parts into an object.

use std::collections::BTreeMap;
use std::time::Duration;

use md5_lanes::Md5;
use s3s::dto::{ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart};
use s3s::{S3Error, S3Result, s3_error};

use super::buckets::Lease;
use super::checksum::{Algorithm, Sum, Tapped};
use super::condition::{self, tag};
use super::errors::refused;
use super::fields::{given_checksums, set_checksums};
use super::metadata;
use super::objects::key;
use super::uploads::{Checked, LAST_PART, number, part_number};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::{self, Headers, Record};
use crate::store::{Received, Store};

/// The minimum size of each part but the last, in bytes, as in S3.
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// If a completion takes longer than this, the answer begins with white space, so that the client keeps waiting.
const QUIET: Duration = Duration::from_secs(5);

/// Joins the parts into the object. If that takes long, the answer begins before the outcome is known, as in S3,
/// so that clients don't time out.
pub(super) async fn complete(
    store: &Store,
    lease: Lease,
    mut input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let key = key(&input.bucket, &input.key);
    let upload = number(&input.upload_id)?;
    let (bucket, object) = (input.bucket.clone(), input.key.clone());
    // a client that missed the answer may repeat the request
    let ended = async || {
        completed(store, &key, upload).await.map(|record| output(bucket.clone(), object.clone(), &record))
    };
    let noted = match store.upload(&key, upload).await {
        Ok(noted) => noted,
        Err(Error::NoUpload) => return ended().await,
        Err(error) => return Err(refused(error)),
    };
    let when = condition::when(input.if_match.take(), input.if_none_match.take())?;
    let announced = given_checksums!(input);
    let given = input.multipart_upload.take().and_then(|given| given.parts).unwrap_or_default();
    let parts = match chosen(store, &key, upload, given).await {
        Err(_) if matches!(store.upload(&key, upload).await, Err(Error::NoUpload)) => return ended().await,
        parts => parts?,
    };
    let size: u64 = parts.iter().filter_map(|(_, record)| record.size).sum();
    if input.mpu_object_size.is_some_and(|announced| u64::try_from(announced) != Ok(size)) {
        return Err(s3_error!(
            InvalidRequest,
            "the parts have {size} bytes together, which is not the announced size"
        ));
    }
    let checked = Checked::of(&noted);
    let tapped = match &checked {
        Some(checked) => Tapped::new(checked.whole.then_some(checked.algorithm)),
        // a checksum of the whole object that wasn't announced when the upload was created
        None => Tapped::new(announced.iter().map(|(algorithm, _)| *algorithm)),
    };
    let tap = tapped.tap();
    let composite =
        checked.filter(|checked| !checked.whole).map(|checked| composite(checked.algorithm, &parts));
    let finish = finish(described(&noted, upload, &parts), tapped, composite.flatten(), announced);
    let completing = store.clone();
    let mut completion = tokio::spawn(async move {
        let completed = completing.complete_upload(&key, upload, parts, when, tap, finish).await;
        drop(lease);
        let record = match completed {
            Ok(record) => record,
            // another request completed it meanwhile
            Err(Error::NoUpload) => self::completed(&completing, &key, upload).await?,
            Err(Error::WrongMd5) => {
                return Err(s3_error!(BadDigest, "the checksum of the object isn't the announced one"));
            }
            Err(error) => return Err(refused(error)),
        };
        Ok(output(bucket, object, &record))
    });
    let joined = |joined: std::result::Result<S3Result<_>, _>| {
        joined.unwrap_or_else(|_panicked| Err(refused(Error::Panicked)))
    };
    match tokio::time::timeout(QUIET, &mut completion).await {
        Ok(completion) => joined(completion),
        Err(_elapsed) => Ok(CompleteMultipartUploadOutput {
            // a failure is logged with the request
            future: Some(Box::pin(async move { joined(completion.await) })),
            ..CompleteMultipartUploadOutput::default()
        }),
    }
}

/// Called when the object's bytes were read: checks the announced checksums and adds headers.
fn finish(
    mut headers: Headers,
    tapped: Tapped,
    composite: Option<(Algorithm, String)>,
    announced: Vec<(Algorithm, String)>,
) -> impl FnOnce(Received) -> Result<Headers> + Send + 'static {
    move |_received| {
        metadata::put_sums(&mut headers, &tapped.finish());
        if let Some((algorithm, value)) = composite {
            headers.push((algorithm.header().to_owned(), value));
            metadata::put_checksum_type(&mut headers, ChecksumType::COMPOSITE);
        }
        let same = |(algorithm, value): &(Algorithm, String)| {
            // a checksum that isn't stored can't be compared; the client has checked its parts
            metadata::get(&headers, algorithm.header()).is_none_or(|own| own == value)
        };
        if announced.iter().all(same) { Ok(headers) } else { Err(Error::WrongMd5) }
    }
}

/// The object's record, if it was made by that upload.
async fn completed(store: &Store, key: &Key, upload: u64) -> S3Result<Record> {
    match store.record(key).await {
        Ok(record) if metadata::upload(&record) == Some(upload) => Ok(record),
        Ok(_) | Err(Error::NotFound) => Err(refused(Error::NoUpload)),
        Err(error) => Err(refused(error)),
    }
}

/// The stored parts that the client lists.
async fn chosen(
    store: &Store,
    key: &Key,
    upload: u64,
    given: Vec<CompletedPart>,
) -> S3Result<Vec<(u16, Record)>> {
    if given.is_empty() {
        return Err(s3_error!(MalformedXML, "a completion needs a list of the upload's parts"));
    }
    let (stored, _) = store.parts(key, upload, 1, LAST_PART.into()).await.map_err(refused)?;
    let mut stored: BTreeMap<u16, Record> = stored.into_iter().collect();
    let (mut chosen, count) = (Vec::with_capacity(given.len()), given.len());
    for (at, mut given) in given.into_iter().enumerate() {
        let number = part_number(given.part_number.unwrap_or_default())?;
        if chosen.last().is_some_and(|(before, _)| *before >= number) {
            return Err(s3_error!(InvalidPartOrder, "list the parts in ascending order of their numbers"));
        }
        let record = stored.remove(&number).ok_or_else(|| invalid_part(number, "isn't stored"))?;
        if given.e_tag.as_ref().is_none_or(|tag| tag.value() != record.tag()) {
            return Err(invalid_part(number, "has another ETag"));
        }
        let same = |(algorithm, value): &(Algorithm, String)| {
            metadata::get(&record.headers, algorithm.header()).is_none_or(|own| own == value)
        };
        if !given_checksums!(given).iter().all(same) {
            return Err(invalid_part(number, "has another checksum"));
        }
        if at + 1 < count && record.size.is_none_or(|size| size < SMALLEST_PART) {
            return Err(s3_error!(
                EntityTooSmall,
                "part {number} is smaller than {SMALLEST_PART} bytes, which only the last part may be"
            ));
        }
        chosen.push((number, record));
    }
    Ok(chosen)
}

fn invalid_part(number: u16, why: &str) -> S3Error {
    s3_error!(InvalidPart, "part {number} {why}")
}

/// The headers of the new object, except its checksums.
fn described(noted: &Record, upload: u64, parts: &[(u16, Record)]) -> Headers {
    let mut headers = metadata::without_sums(&noted.headers);
    // S3's tag of a multipart object: MD5 of the parts' MD5s, and the number of parts
    let mut md5 = Md5::new();
    for (_, part) in parts {
        match &part.md5 {
            Some(own) => md5.update(own),
            None => md5.update(part.tag().as_bytes()),
        }
    }
    let tag = format!("{}-{}", record::hex(&md5.sum()), parts.len());
    headers.push((record::TAG.to_owned(), tag));
    let sizes: Vec<u64> = parts.iter().map(|(_, part)| part.size.unwrap_or_default()).collect();
    metadata::put_parts(&mut headers, upload, &sizes);
    headers
}

/// The checksum of the parts' checksums, with their number, if all have one.
fn composite(algorithm: Algorithm, parts: &[(u16, Record)]) -> Option<(Algorithm, String)> {
    let sum = |record: &Record| Sum::parse(algorithm, metadata::get(&record.headers, algorithm.header())?);
    let sums: Vec<Sum> = parts.iter().map(|(_, record)| sum(record)).collect::<Option<_>>()?;
    Some((algorithm, format!("{}-{}", Sum::of_parts(algorithm, &sums).base64(), parts.len())))
}

fn output(bucket: String, object: String, record: &Record) -> CompleteMultipartUploadOutput {
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{bucket}/{object}")),
        bucket: Some(bucket),
        key: Some(object),
        e_tag: Some(tag(record)),
        checksum_type: metadata::checksum_type(record).map(|kind| kind.to_owned().into()),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksums!(output, metadata::checksums(record));
    output
}
