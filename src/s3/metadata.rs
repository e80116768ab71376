//! An object's metadata: converts between S3's fields and a record's headers.
//!
//! A record's headers have HTTP's names in lower case: `content-type`, `cache-control`,
//! `content-disposition`, `content-encoding`, `content-language`, `expires` (as an HTTP date),
//! `x-amz-meta-…`, `x-amz-checksum-…` (base64), `x-amz-checksum-type`. Multipart objects also have
//! `etag`, `parts` (their sizes, as `5242880x3,17`) and `upload` (its number).

use s3s::dto::{Metadata, Timestamp, TimestampFormat};
use s3s::{S3Result, s3_error};

use super::checksum::{Algorithm, Sum};
use super::payload::Announced;
use crate::clock;
use crate::record::{Headers, Record};

/// The most bytes of user metadata, names and values together, as in S3.
const MOST_METADATA: usize = 2048;

const META: &str = "x-amz-meta-";
const CHECKSUM_TYPE: &str = "x-amz-checksum-type";
const PARTS: &str = "parts";
const UPLOAD: &str = "upload";

/// Longer lists of part sizes are not stored, to keep records small.
const LONGEST_PARTS: usize = 16 * 1024;

/// An object's metadata as a client sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) content_type: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) metadata: Option<Metadata>,
}

/// Takes the metadata fields out of an input of s3s; all inputs name them alike.
macro_rules! described {
    ($input:expr) => {
        $crate::s3::metadata::Described {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            expires: $input.expires.take(),
            metadata: $input.metadata.take(),
        }
    };
}
pub(super) use described;

impl Described {
    /// The headers that are stored.
    pub(super) fn into_headers(self) -> S3Result<Headers> {
        let encoding = self.content_encoding.as_deref().and_then(Announced::stored_encoding);
        let expires = self.expires.map(|expires| http_date(&expires)).transpose()?;
        let fields = [
            ("content-type", self.content_type),
            ("cache-control", self.cache_control),
            ("content-disposition", self.content_disposition),
            ("content-encoding", encoding),
            ("content-language", self.content_language),
            ("expires", expires),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let mut headers: Headers = given.filter(|(_, value)| !value.is_empty()).collect();
        let mut metadata: Vec<_> = self.metadata.unwrap_or_default().into_iter().collect();
        let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > MOST_METADATA {
            return Err(s3_error!(
                MetadataTooLarge,
                "user metadata has {size} bytes, and may have at most {MOST_METADATA}"
            ));
        }
        metadata.sort();
        headers.extend(metadata.into_iter().map(|(name, value)| (format!("{META}{name}"), value)));
        Ok(headers)
    }

    /// Reads the metadata in a record's headers.
    pub(super) fn of(record: &Record) -> Self {
        let get = |name| get(&record.headers, name).map(str::to_owned);
        let metadata = record
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(META)?.to_owned(), value.clone())));
        let metadata: Metadata = metadata.collect();
        Self {
            content_type: get("content-type"),
            cache_control: get("cache-control"),
            content_disposition: get("content-disposition"),
            content_encoding: get("content-encoding"),
            content_language: get("content-language"),
            expires: get("expires").and_then(|date| Timestamp::parse(TimestampFormat::HttpDate, &date).ok()),
            metadata: (!metadata.is_empty()).then_some(metadata),
        }
    }
}

/// The value of a record's header.
pub(super) fn get<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// The stored checksum: its algorithm, and base64; composite ones have the number of parts appended.
pub(super) fn checksums(record: &Record) -> impl Iterator<Item = (Algorithm, String)> + '_ {
    Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| Some((algorithm, get(&record.headers, algorithm.header())?.to_owned())))
}

/// The type of the checksums: of all bytes (`FULL_OBJECT`), or of the parts' checksums (`COMPOSITE`).
pub(super) fn checksum_type(record: &Record) -> Option<&str> {
    get(&record.headers, CHECKSUM_TYPE)
}

/// Stores checksums of all bytes.
pub(super) fn put_sums(headers: &mut Headers, sums: &[Sum]) {
    for sum in sums {
        headers.push((sum.algorithm.header().to_owned(), sum.base64()));
    }
    if !sums.is_empty() {
        put_checksum_type(headers, "FULL_OBJECT");
    }
}

pub(super) fn put_checksum_type(headers: &mut Headers, kind: &str) {
    headers.push((CHECKSUM_TYPE.to_owned(), kind.to_owned()));
}

/// The headers that a copy inherits: all except those that depend on the object's bytes.
pub(super) fn without_sums(headers: &Headers) -> Headers {
    let own = |name: &str| {
        name == crate::record::TAG || name == PARTS || name == UPLOAD || name.starts_with("x-amz-checksum-")
    };
    headers.iter().filter(|(name, _)| !own(name)).cloned().collect()
}

/// Whether a listing needs the header.
pub(super) fn is_listed(name: &str) -> bool {
    name == crate::record::TAG || name.starts_with("x-amz-checksum-")
}

/// Stores the number of an object's upload, and the sizes of its parts.
pub(super) fn put_parts(headers: &mut Headers, upload: u64, sizes: &[u64]) {
    headers.push((UPLOAD.to_owned(), format!("{upload:016x}")));
    let mut texts = Vec::new();
    for same in sizes.chunk_by(|a, b| a == b) {
        let size = same.first().copied().unwrap_or_default();
        texts.push(match same.len() {
            1 => size.to_string(),
            count => format!("{size}x{count}"),
        });
    }
    let text = texts.join(",");
    if text.len() <= LONGEST_PARTS {
        headers.push((PARTS.to_owned(), text));
    }
}

/// The number of the object's upload.
pub(super) fn upload(record: &Record) -> Option<u64> {
    u64::from_str_radix(get(&record.headers, UPLOAD)?, 16).ok()
}

/// The sizes of the object's parts, in bytes; none if it isn't a multipart object, or if they weren't stored.
pub(super) fn parts(record: &Record) -> Option<Vec<u64>> {
    let mut sizes = Vec::new();
    for same in get(&record.headers, PARTS)?.split(',') {
        let (size, count) = same.split_once('x').unwrap_or((same, "1"));
        sizes.extend(std::iter::repeat_n(size.parse::<u64>().ok()?, count.parse().ok()?));
    }
    Some(sizes)
}

/// When a value was written; unknown for values of minikeyvalue.
pub(super) fn modified(record: &Record) -> Timestamp {
    timestamp(record.modified.unwrap_or_default())
}

/// When a value was written, in seconds, as in `Last-Modified`.
pub(super) fn modified_second(record: &Record) -> Timestamp {
    timestamp(clock::Timestamp::from_seconds(record.modified.unwrap_or_default().seconds()))
}

/// s3s's form of a time, which it writes in milliseconds in XML and in seconds in HTTP headers.
pub(super) fn timestamp(time: clock::Timestamp) -> Timestamp {
    Timestamp::from(time.system_time())
}

fn http_date(time: &Timestamp) -> S3Result<String> {
    let mut text = Vec::new();
    let formatted = time.format(TimestampFormat::HttpDate, &mut text);
    let text = formatted.ok().and_then(|()| String::from_utf8(text).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "Expires is no date"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::record::State;

    fn record(headers: Headers) -> Record {
        let (md5, size, modified) = (None, Some(1), Some(clock::Timestamp::from_seconds(60)));
        Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers }
    }

    #[test]
    fn metadata_is_stored_and_read_back() {
        let metadata = [("b".to_owned(), "ü".to_owned()), ("a".to_owned(), "1".to_owned())];
        let said = Described {
            content_type: Some("text/plain".into()),
            content_encoding: Some("gzip".into()),
            expires: Some(timestamp(clock::Timestamp::from_seconds(3600))),
            metadata: Some(metadata.into_iter().collect()),
            ..Described::default()
        };
        let headers = said.clone().into_headers().unwrap();
        assert_eq!(get(&headers, "expires"), Some("Thu, 01 Jan 1970 01:00:00 GMT"));
        assert_eq!(get(&headers, "x-amz-meta-b"), Some("ü"));
        assert_eq!(Described::of(&record(headers)), said);
    }

    #[test]
    fn too_much_metadata_is_refused() {
        let metadata = [("a".to_owned(), "x".repeat(MOST_METADATA))];
        let said = Described { metadata: Some(metadata.into_iter().collect()), ..Described::default() };
        assert_eq!(*said.into_headers().unwrap_err().code(), s3s::S3ErrorCode::MetadataTooLarge);
    }

    #[test]
    fn sizes_of_parts_are_stored_and_read_back() {
        for sizes in [vec![5], vec![5, 5, 5, 2], vec![1, 2, 2, 1]] {
            let mut headers = Headers::new();
            put_parts(&mut headers, 31, &sizes);
            let record = record(headers);
            assert_eq!((parts(&record), upload(&record)), (Some(sizes), Some(31)));
        }
        assert_eq!(parts(&record(Headers::new())), None);
    }
}
