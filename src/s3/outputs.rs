//! Makes parts of s3s's outputs from records.

use s3s::dto::{ChecksumMode, Grant, Grantee, Grants, HeadObjectOutput, MetadataDirective, Permission, Type};
use s3s::{S3Result, s3_error};

use super::checksum::Algorithm;
use super::condition::tag;
use super::fields::set_checksums;
use super::listing::{owner, shown};
use super::metadata::{self, Described, modified};
use super::objects::Found;

/// The output for an object that was found.
pub(super) fn head(found: &Found, checksum_mode: Option<&ChecksumMode>) -> HeadObjectOutput {
    let record = &found.record;
    let described = Described::of(record);
    let (start, end) = (found.part.start, found.part.end);
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".into()),
        content_type: Some(described.content_type.unwrap_or_else(|| "binary/octet-stream".into())),
        cache_control: described.cache_control,
        content_disposition: described.content_disposition,
        content_encoding: described.content_encoding,
        content_language: described.content_language,
        expires: described.expires,
        metadata: described.metadata,
        content_length: (end - start).try_into().ok(),
        content_range: found
            .partial
            .then(|| format!("bytes {start}-{}/{}", end.saturating_sub(1), found.size)),
        e_tag: Some(tag(record)),
        last_modified: Some(modified(record)),
        parts_count: found.parts.and_then(shown),
        ..HeadObjectOutput::default()
    };
    if checksum_mode.is_some() && !found.partial {
        output.checksum_type = metadata::checksum_type(record).map(|kind| kind.to_owned().into());
        set_checksums!(output, metadata::checksums(record));
    }
    output
}

/// A composite checksum without the number of parts, which the output has separately.
pub(super) fn without_count((algorithm, value): (Algorithm, String)) -> (Algorithm, String) {
    let value = value.split_once('-').map_or(value.clone(), |(sum, _)| sum.to_owned());
    (algorithm, value)
}

/// Whether a copy gets the request's metadata instead of the source's.
pub(super) fn replaces(directive: Option<&MetadataDirective>) -> S3Result<bool> {
    match directive.map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => Ok(false),
        Some(MetadataDirective::REPLACE) => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "x-amz-metadata-directive must be COPY or REPLACE")),
    }
}

/// The only grant: the owner has all rights.
pub(super) fn grants() -> Grants {
    let owner = owner();
    let grantee = Grantee {
        display_name: owner.display_name,
        email_address: None,
        id: owner.id,
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    let permission = Some(Permission::from_static(Permission::FULL_CONTROL));
    vec![Grant { grantee: Some(grantee), permission }]
}
