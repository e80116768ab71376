//! Multipart uploads: S3's operations over the store's uploads in parts, with S3's checks.

use bytes::Bytes;
use http_body::Body;
use s3s::dto::{
    self, AbortMultipartUploadInput, ChecksumType, CommonPrefix, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
    ListPartsOutput, MultipartUpload, Part, StorageClass, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Result, s3_error};

use super::buckets::{Lease, Leased, prefix};
use super::checksum::{Algorithm, Tapped};
use super::condition::{Expected, tag};
use super::errors::{refused, unsupported, wrong};
use super::fields::{algorithm, set_checksums};
use super::listing::{encoding, most, owner, shown};
use super::metadata::{self, modified};
use super::objects::{self, key};
use super::payload::Outcome;
use crate::error::Error;
use crate::index::fold::beyond;
use crate::key::Key;
use crate::record::{Headers, Record};
use crate::store::{Incoming, Store};

/// The highest number of a part, as in S3.
pub(super) const LAST_PART: u16 = 10_000;

const ALGORITHM: &str = "x-amz-checksum-algorithm";
const TYPE: &str = "x-amz-checksum-type";

/// The checksum of an upload: its algorithm and type.
pub(super) struct Checked {
    pub(super) algorithm: Algorithm,
    pub(super) whole: bool,
}

impl Checked {
    fn new(algorithm: Algorithm, kind: Option<&str>) -> S3Result<Self> {
        let sha = matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
        let whole = match (kind, algorithm) {
            (Some(ChecksumType::FULL_OBJECT), _) if sha => Err("the type FULL_OBJECT is for CRCs only"),
            (Some(ChecksumType::COMPOSITE), Algorithm::Crc64Nvme) => {
                Err("CRC64NVME has the type FULL_OBJECT only")
            }
            (Some(ChecksumType::FULL_OBJECT), _) | (None, Algorithm::Crc64Nvme) => Ok(true),
            (Some(ChecksumType::COMPOSITE) | None, _) => Ok(false),
            (Some(_), _) => Err("the type of a checksum must be COMPOSITE or FULL_OBJECT"),
        };
        let whole = whole.map_err(|why| s3_error!(InvalidRequest, "{why}"))?;
        Ok(Self { algorithm, whole })
    }

    /// The form in an upload's record.
    pub(super) fn of(upload: &Record) -> Option<Self> {
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

/// An upload's number, as its upload ID.
fn id(upload: u64) -> String {
    format!("{upload:016x}")
}

pub(super) fn number(id: &str) -> S3Result<u64> {
    let number = u64::from_str_radix(id, 16).ok().filter(|number| self::id(*number) == id);
    number.ok_or_else(|| refused(Error::NoUpload))
}

pub(super) fn part_number(number: i32) -> S3Result<u16> {
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

/// The checksum that is computed for each part of the upload, whether or not the client sends it.
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
    let record = written.map_err(|error| wrong(outcome, error))?;
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
        || s3_error!(InvalidArgument, "x-amz-copy-source-range must be bytes=FIRST-LAST, within the source");
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
        // these bytes don't come from the client, so there is nothing to compare them with
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
        // as in S3, a page of at most 0 parts is not truncated
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
    let (bucket, markers) = (&input.bucket, (input.key_marker.as_deref(), input.upload_id_marker.as_deref()));
    let mut start = after(bucket, markers, &delimiter)?;
    let (mut uploads, mut folders) = (Vec::new(), Vec::new());
    // the last upload or common prefix
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
                // one item, however many uploads it has
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

/// Where a listing of uploads begins: after the upload or common prefix that the markers name.
fn after(
    bucket: &str,
    (marker, upload): (Option<&str>, Option<&str>),
    delimiter: &str,
) -> S3Result<Option<(Key, u64)>> {
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else { return Ok(None) };
    let after = upload.filter(|id| !id.is_empty()).map(number).transpose()?;
    let is_folder = after.is_none() && !delimiter.is_empty() && marker.ends_with(delimiter);
    let marker = key(bucket, marker);
    Ok(Some(match beyond(marker.as_bytes()).filter(|_| is_folder) {
        Some(beyond) => (Key::new(&beyond), 0),
        None => (marker, after.map_or(u64::MAX, |after| after.saturating_add(1))),
    }))
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
        return Err(unsupported("a conditional abort"));
    }
    store.abort_upload(&key(&input.bucket, &input.key), number(&input.upload_id)?).await.map_err(refused)
}
