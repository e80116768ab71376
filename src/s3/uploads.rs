//! Multipart uploads: S3's names for what the store does with uploads in parts, and S3's checks of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use md5::{Digest as _, Md5};
use s3s::dto::{
    self, AbortMultipartUploadInput, ChecksumType, CommonPrefix, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
    ListPartsOutput, MultipartUpload, Part, StorageClass, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3Result, s3_error};

use super::api::{algorithm, given_checksums, set_checksums};
use super::buckets::{Lease, Leased, prefix};
use super::checksum::{Algorithm, Checksums, Sum};
use super::condition::{self, Expected, tag};
use super::errors::refused;
use super::listing::{encoding, most, owner, shown};
use super::metadata::{self, modified};
use super::objects::{self, key};
use super::payload::Outcome;
use crate::error::Error;
use crate::index::fold::beyond;
use crate::key::Key;
use crate::record::{self, Headers, Record};
use crate::store::{Incoming, Store};

/// Each part but the last has at least so many bytes, as in S3.
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// The highest number of a part, as in S3.
const LAST_PART: u16 = 10_000;

/// Who completes an upload hears nothing for at most so long; from then on, white space.
const QUIET: Duration = Duration::from_secs(5);

const ALGORITHM: &str = "x-amz-checksum-algorithm";
const TYPE: &str = "x-amz-checksum-type";

/// What an upload's checksums are to be: of which algorithm, and whether of all bytes.
struct Checked {
    algorithm: Algorithm,
    whole: bool,
}

impl Checked {
    fn new(algorithm: Algorithm, kind: Option<&str>) -> S3Result<Self> {
        let sha = matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
        let whole = match (kind, algorithm) {
            (Some(ChecksumType::FULL_OBJECT), _) if sha => Err("only CRCs can be of the full object"),
            (Some(ChecksumType::COMPOSITE), Algorithm::Crc64Nvme) => Err("CRC64NVME is of the full object"),
            (Some(ChecksumType::FULL_OBJECT), _) | (None, Algorithm::Crc64Nvme) => Ok(true),
            (Some(ChecksumType::COMPOSITE) | None, _) => Ok(false),
            (Some(_), _) => Err("the type of a checksum is COMPOSITE or FULL_OBJECT"),
        };
        let whole = whole.map_err(|why| s3_error!(InvalidRequest, "{why}"))?;
        Ok(Self { algorithm, whole })
    }

    /// As an upload's record has it.
    fn of(upload: &Record) -> Option<Self> {
        let algorithm = Algorithm::named(metadata::get(&upload.headers, ALGORITHM)?)?;
        let whole = metadata::get(&upload.headers, TYPE) == Some(ChecksumType::FULL_OBJECT);
        Some(Self { algorithm, whole })
    }

    fn kind(&self) -> &'static str {
        if self.whole { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE }
    }

    fn shown(checked: Option<&Self>) -> (Option<dto::ChecksumAlgorithm>, Option<ChecksumType>) {
        let algorithm = checked.map(|checked| dto::ChecksumAlgorithm::from_static(checked.algorithm.name()));
        (algorithm, checked.map(|checked| ChecksumType::from_static(checked.kind())))
    }
}

/// An upload's number, as clients know it.
fn id(upload: u64) -> String {
    format!("{upload:016x}")
}

fn number(id: &str) -> S3Result<u64> {
    let number = u64::from_str_radix(id, 16).ok().filter(|number| self::id(*number) == id);
    number.ok_or_else(|| refused(Error::NoUpload))
}

fn part_number(number: i32) -> S3Result<u16> {
    let part = u16::try_from(number).ok().filter(|part| (1..=LAST_PART).contains(part));
    part.ok_or_else(|| s3_error!(InvalidArgument, "parts have numbers from 1 to {LAST_PART}"))
}

pub(super) async fn create(
    store: &Store,
    input: CreateMultipartUploadInput,
    mut headers: Headers,
) -> S3Result<CreateMultipartUploadOutput> {
    let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let checked = algorithm(input.checksum_algorithm.as_ref())?;
    let checked = checked.map(|algorithm| Checked::new(algorithm, kind)).transpose()?;
    if let Some(checked) = &checked {
        headers.push((ALGORITHM.to_owned(), checked.algorithm.name().to_owned()));
        headers.push((TYPE.to_owned(), checked.kind().to_owned()));
    }
    let upload = store.begin_upload(&key(&input.bucket, &input.key), headers).await.map_err(refused)?;
    let (checksum_algorithm, checksum_type) = Checked::shown(checked.as_ref());
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id(upload)),
        checksum_algorithm,
        checksum_type,
        ..CreateMultipartUploadOutput::default()
    })
}

/// The checksum that parts of the upload have, whatever the client sends.
pub(super) async fn checksum_of_parts(store: &Store, input: &UploadPartInput) -> S3Result<Option<Algorithm>> {
    let upload =
        store.upload(&key(&input.bucket, &input.key), number(&input.upload_id)?).await.map_err(refused)?;
    Ok(Checked::of(&upload).map(|checked| checked.algorithm))
}

pub(super) async fn put<B>(
    store: &Store,
    input: &UploadPartInput,
    body: Incoming<B>,
    outcome: &Outcome,
) -> S3Result<UploadPartOutput>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display + Send,
{
    let key = key(&input.bucket, &input.key);
    let (upload, part) = (number(&input.upload_id)?, part_number(input.part_number)?);
    let finish = objects::finish(outcome, Headers::new());
    let written = store.put_part(&key, upload, part, body, finish).await;
    let record = written.map_err(|error| objects::wrong(outcome, error))?;
    let mut output = UploadPartOutput { e_tag: Some(tag(&record)), ..UploadPartOutput::default() };
    set_checksums!(output, metadata::checksums(&record));
    Ok(output)
}

pub(super) async fn copy(
    store: &Store,
    lease: Lease,
    source: Key,
    mut input: UploadPartCopyInput,
) -> S3Result<UploadPartCopyOutput> {
    let expected = Expected {
        matches: input.copy_source_if_match.take(),
        matches_none: input.copy_source_if_none_match.take(),
        modified_since: input.copy_source_if_modified_since.take(),
        unmodified_since: input.copy_source_if_unmodified_since.take(),
    };
    let no_range =
        || s3_error!(InvalidArgument, "x-amz-copy-source-range is bytes=FIRST-LAST, within the source");
    let range = input.copy_source_range.as_deref().map(dto::Range::parse).transpose();
    let range = range.map_err(|_error| no_range())?;
    let key = key(&input.bucket, &input.key);
    let (upload, part) = (number(&input.upload_id)?, part_number(input.part_number)?);
    let checked = Checked::of(&store.upload(&key, upload).await.map_err(refused)?);
    let (_, piece) = objects::source(store, source, &expected, range).await?;
    match range {
        None => {}
        Some(dto::Range::Int { first, last: Some(last) }) if piece.part == (first..last + 1) => {}
        Some(_) => return Err(no_range()),
    }
    let tapped = Tapped::new(checked.map(|checked| checked.algorithm));
    let body = store.splice(vec![piece], tapped.tap());
    let length = Some(body.left());
    let upload_body = Incoming { body: Leased::new(body, lease), length, md5: None };
    let finish = move |_received| {
        let mut headers = Headers::new();
        metadata::put_sums(&mut headers, &tapped.finish());
        Ok(headers)
    };
    let copied = store.put_part(&key, upload, part, upload_body, finish).await;
    let record = copied.map_err(|error| match error {
        // no client sends these bytes, and none said what they should be
        Error::Stalled => refused(Error::Unreachable),
        Error::Changed => refused(Error::Busy),
        error => refused(error),
    })?;
    let mut result = CopyPartResult {
        e_tag: Some(tag(&record)),
        last_modified: Some(modified(&record)),
        ..CopyPartResult::default()
    };
    set_checksums!(result, metadata::checksums(&record));
    Ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
}

/// Checksums of bytes that are on their way through the store.
#[derive(Clone)]
pub(super) struct Tapped(Arc<Mutex<Checksums>>);

impl Tapped {
    pub(super) fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self(Arc::new(Mutex::new(Checksums::new(algorithms))))
    }

    pub(super) fn tap(&self) -> impl FnMut(&Bytes) + Send + 'static {
        let Self(sums) = self.clone();
        move |bytes| sums.lock().unwrap_or_else(PoisonError::into_inner).update(bytes)
    }

    pub(super) fn finish(&self) -> Vec<Sum> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).finish()
    }
}

pub(super) async fn list_parts(store: &Store, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let key = key(&input.bucket, &input.key);
    let upload = number(&input.upload_id)?;
    let most = most(input.max_parts)?;
    let after = input.part_number_marker.unwrap_or(0);
    let start = u16::try_from(after).unwrap_or(u16::MAX).saturating_add(1);
    let noted = store.upload(&key, upload).await.map_err(refused)?;
    let (parts, next) = store.parts(&key, upload, start, most).await.map_err(refused)?;
    let (checksum_algorithm, checksum_type) = Checked::shown(Checked::of(&noted).as_ref());
    Ok(ListPartsOutput {
        // who wants none gets all of them
        is_truncated: Some(next.is_some() && most > 0),
        next_part_number_marker: parts.last().map(|(number, _)| i32::from(*number)),
        parts: Some(parts.iter().map(|(number, record)| part(*number, record)).collect()),
        part_number_marker: Some(after),
        max_parts: shown(most),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        initiator: None,
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm,
        checksum_type,
        ..ListPartsOutput::default()
    })
}

fn part(number: u16, record: &Record) -> Part {
    let mut part = Part {
        part_number: Some(number.into()),
        e_tag: Some(tag(record)),
        size: record.size.and_then(|size| size.try_into().ok()),
        last_modified: Some(modified(record)),
        ..Part::default()
    };
    set_checksums!(part, metadata::checksums(record));
    part
}

pub(super) async fn list(
    store: &Store,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let most = most(input.max_uploads)?;
    let encode = encoding(input.encoding_type.as_ref())?;
    let within = prefix(&input.bucket);
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), input.delimiter.unwrap_or_default());
    let mut start = match input.key_marker.as_deref().filter(|marker| !marker.is_empty()) {
        None => None,
        Some(marker) => {
            let after =
                input.upload_id_marker.as_deref().filter(|id| !id.is_empty()).map(number).transpose()?;
            let is_folder = after.is_none() && !delimiter.is_empty() && marker.ends_with(&delimiter);
            let marker = key(&input.bucket, marker);
            match beyond(marker.as_bytes()).filter(|_| is_folder) {
                Some(beyond) => Some((Key::new(&beyond), 0)),
                None => Some((marker, after.map_or(u64::MAX, |after| after.saturating_add(1)))),
            }
        }
    };
    let (mut uploads, mut folders) = (Vec::new(), Vec::new());
    // the last upload, or the last folder
    let mut last: Option<(String, Option<u64>)> = None;
    let truncated = 'all: loop {
        if most == 0 {
            break false;
        }
        let page = store.uploads(&[&within, prefix.as_bytes()].concat(), start).await.map_err(refused)?;
        start = page.next;
        for (key, upload, record) in page.rows {
            if uploads.len() + folders.len() >= most {
                break 'all true;
            }
            let name =
                String::from_utf8_lossy(key.as_bytes().get(within.len()..).unwrap_or_default()).into_owned();
            let rest = name.get(prefix.len()..).unwrap_or_default();
            let at = rest.find(&delimiter).filter(|_| !delimiter.is_empty());
            if let Some(folder) = at.and_then(|at| name.get(..prefix.len() + at + delimiter.len())) {
                folders.push(folder.to_owned());
                last = Some((folder.to_owned(), None));
                // however many uploads there are in it
                start = beyond(self::key(&input.bucket, folder).as_bytes()).map(|key| (Key::new(&key), 0));
                break;
            }
            uploads.push(one(encode(&name), upload, &record));
            last = Some((name, Some(upload)));
        }
        if start.is_none() {
            break false;
        }
    };
    let next = last.filter(|_| truncated);
    Ok(ListMultipartUploadsOutput {
        is_truncated: Some(truncated),
        next_key_marker: next.as_ref().map(|(name, _)| encode(name)),
        next_upload_id_marker: next.and_then(|(_, upload)| upload).map(id),
        uploads: Some(uploads),
        common_prefixes: Some(
            folders.iter().map(|folder| CommonPrefix { prefix: Some(encode(folder)) }).collect(),
        ),
        bucket: Some(input.bucket),
        prefix: Some(encode(&prefix)),
        delimiter: (!delimiter.is_empty()).then(|| encode(&delimiter)),
        key_marker: input.key_marker.as_deref().map(encode),
        upload_id_marker: input.upload_id_marker,
        max_uploads: shown(most),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

fn one(key: String, upload: u64, record: &Record) -> MultipartUpload {
    let (checksum_algorithm, checksum_type) = Checked::shown(Checked::of(record).as_ref());
    MultipartUpload {
        key: Some(key),
        upload_id: Some(id(upload)),
        initiated: Some(modified(record)),
        initiator: None,
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm,
        checksum_type,
    }
}

pub(super) async fn abort(store: &Store, input: &AbortMultipartUploadInput) -> S3Result<()> {
    if input.if_match_initiated_time.is_some() {
        return Err(super::errors::unsupported("a conditional abort"));
    }
    store.abort_upload(&key(&input.bucket, &input.key), number(&input.upload_id)?).await.map_err(refused)
}

/// Makes the object of its parts. Where that takes long, the answer begins before it is known how it ends,
/// as S3's does, so that no client gives up waiting.
pub(super) async fn complete(
    store: &Store,
    lease: Lease,
    mut input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let key = key(&input.bucket, &input.key);
    let upload = number(&input.upload_id)?;
    let (bucket, object) = (input.bucket.clone(), input.key.clone());
    // somebody may ask again who didn't hear the answer, or didn't wait for it
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
            "the parts have {size} bytes together, and not as many as announced"
        ));
    }
    let checked = Checked::of(&noted);
    let tapped = match &checked {
        Some(checked) => Tapped::new(checked.whole.then_some(checked.algorithm)),
        // of the whole, though nobody said before that there would be any
        None => Tapped::new(announced.iter().map(|(algorithm, _)| *algorithm)),
    };
    let tap = tapped.tap();
    let mut headers = described(&noted, upload, &parts);
    let composite =
        checked.filter(|checked| !checked.whole).map(|checked| composite(checked.algorithm, &parts));
    let finish = move |_received| {
        metadata::put_sums(&mut headers, &tapped.finish());
        if let Some((algorithm, value)) = composite.flatten() {
            headers.push((algorithm.header().to_owned(), value));
            metadata::put_checksum_type(&mut headers, ChecksumType::COMPOSITE);
        }
        let same = |(algorithm, value): &(Algorithm, String)| {
            // a client that announces a checksum that isn't kept has checked its parts
            metadata::get(&headers, algorithm.header()).is_none_or(|own| own == value)
        };
        if announced.iter().all(same) { Ok(headers) } else { Err(Error::WrongMd5) }
    };
    let completing = store.clone();
    let mut completion = tokio::spawn(async move {
        let completed = completing.complete_upload(&key, upload, parts, when, tap, finish).await;
        drop(lease);
        let record = match completed {
            Ok(record) => record,
            // somebody else completed it meanwhile
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
            // a failure is logged with the request, as others are
            future: Some(Box::pin(async move { joined(completion.await) })),
            ..CompleteMultipartUploadOutput::default()
        }),
    }
}

/// The object, if it came by that upload.
async fn completed(store: &Store, key: &Key, upload: u64) -> S3Result<Record> {
    match store.record(key).await {
        Ok(record) if metadata::upload(&record) == Some(upload) => Ok(record),
        Ok(_) | Err(Error::NotFound) => Err(refused(Error::NoUpload)),
        Err(error) => Err(refused(error)),
    }
}

/// The parts that the client names, each as it is stored.
async fn chosen(
    store: &Store,
    key: &Key,
    upload: u64,
    given: Vec<CompletedPart>,
) -> S3Result<Vec<(u16, Record)>> {
    if given.is_empty() {
        return Err(s3_error!(MalformedXML, "an upload is completed with a list of its parts"));
    }
    let (stored, _) = store.parts(key, upload, 1, LAST_PART.into()).await.map_err(refused)?;
    let mut stored: BTreeMap<u16, Record> = stored.into_iter().collect();
    let (mut chosen, count) = (Vec::with_capacity(given.len()), given.len());
    for (at, mut given) in given.into_iter().enumerate() {
        let number = part_number(given.part_number.unwrap_or_default())?;
        if chosen.last().is_some_and(|(before, _)| *before >= number) {
            return Err(s3_error!(InvalidPartOrder, "the parts are listed by ascending numbers"));
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
                "part {number} has less than {SMALLEST_PART} bytes, and only the last may"
            ));
        }
        chosen.push((number, record));
    }
    Ok(chosen)
}

fn invalid_part(number: u16, why: &str) -> S3Error {
    s3_error!(InvalidPart, "part {number} {why}")
}

/// The headers of the object to be, but for its checksums.
fn described(noted: &Record, upload: u64, parts: &[(u16, Record)]) -> Headers {
    let mut headers = metadata::without_sums(&noted.headers);
    // S3's tag of an object in parts: MD5 of the parts' MD5s, and their number
    let mut md5 = Md5::new();
    for (_, part) in parts {
        match &part.md5 {
            Some(own) => md5.update(own),
            None => md5.update(part.tag()),
        }
    }
    let tag = format!("{}-{}", record::hex(&md5.finalize().into()), parts.len());
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
