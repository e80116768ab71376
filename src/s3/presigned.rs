//! Presigned URLs of AWS Signature Version 2, which boto3, the AWS command line, fsspec and s3cmd make by default
//! for the region us-east-1.
//!
//! s3s checks these signatures, too, but not in constant time, so they are compared here first. Requests with a
//! version 2 signature in their headers are refused; no current client sends them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use s3s::{S3Result, s3_error};
use sha1::Sha1;

use super::query::pairs;
use crate::access::Access;

/// The signed parameters of the query, in the order of signing.
const SIGNED: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether the parameter is part of a version 2 signature, or repeats a header that the signature covers.
pub(super) fn is_part(name: &str) -> bool {
    matches!(name, "AWSAccessKeyId" | "Signature" | "Expires" | "content-md5" | "content-type")
}

/// Whether the URL has a version 2 signature.
pub(super) fn is_signed(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    pairs(query).any(|(name, _)| matches!(&*name, "AWSAccessKeyId" | "Signature"))
}

/// Whether the headers have a version 2 signature.
pub(super) fn has_header(head: &Parts) -> bool {
    head.headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS "))
}

/// Checks the signature of a URL; s3s checks the rest, for example the expiry.
pub(super) fn check(head: &Parts, access: &Access) -> S3Result<()> {
    let query = head.uri.query().unwrap_or_default();
    let one = |name: &str| {
        let mut values = pairs(query).filter_map(|(other, value)| (other == name).then_some(value));
        values.next().filter(|_| values.next().is_none())
    };
    let (Some(access_key), Some(expires), Some(signature)) =
        (one("AWSAccessKeyId"), one("Expires"), one("Signature"))
    else {
        return Err(s3_error!(
            InvalidRequest,
            "a signed URL needs AWSAccessKeyId, Expires and Signature, each once"
        ));
    };
    let secret = access.secret(&access_key);
    let secret =
        secret.ok_or_else(|| s3_error!(InvalidAccessKeyId, "the credentials file has no such access key"))?;
    let mut resource = head.uri.path().to_owned();
    for (n, name) in SIGNED.iter().filter(|name| one(name).is_some()).enumerate() {
        resource.push(if n == 0 { '?' } else { '&' });
        resource.push_str(name);
        if let Some(value) = one(name).filter(|value| !value.is_empty()) {
            resource.push('=');
            resource.push_str(&value);
        }
    }
    let signed = signed_headers(&head.headers).and_then(|[md5, content_type, amz]| {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).ok()?;
        let method = &head.method;
        mac.update(format!("{method}\n{md5}\n{content_type}\n{expires}\n{amz}{resource}").as_bytes());
        // in constant time
        mac.verify_slice(&STANDARD.decode(&*signature).ok()?).ok()
    });
    signed.ok_or_else(|| s3_error!(SignatureDoesNotMatch))
}

/// The signed headers: the MD5, the type, and a line for each `x-amz-` header; `None` if one isn't text.
fn signed_headers(headers: &HeaderMap) -> Option<[String; 3]> {
    let text = |name: &str| {
        headers.get(name).map_or(Some(String::new()), |value| value.to_str().ok().map(str::to_owned))
    };
    let mut lines = BTreeMap::<&str, Vec<&str>>::new();
    for (name, value) in headers {
        if name.as_str().starts_with("x-amz-") {
            lines.entry(name.as_str()).or_default().push(value.to_str().ok()?.trim());
        }
    }
    let lines = lines.into_iter().map(|(name, values)| format!("{name}:{}\n", values.join(",")));
    Some([text("content-md5")?, text(CONTENT_TYPE.as_str())?, lines.collect()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Write as _;

    use hyper::Request;
    use s3s::S3ErrorCode;

    use super::*;

    /// The key of the examples in the S3 API Reference.
    const CREDENTIALS: &str = "[[key]]\naccess = \"AKIAIOSFODNN7EXAMPLE\"\n\
        secret = \"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\"\nbuckets = [\"*\"]\nallow = [\"read\"]";

    fn checked(method: &str, target: &str, headers: &[(&str, &str)]) -> Option<S3ErrorCode> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(CREDENTIALS.as_bytes()).unwrap();
        let access = Access::load(file.path()).unwrap();
        let request =
            headers.iter().fold(Request::builder().method(method).uri(target), |request, (name, value)| {
                request.header(*name, *value)
            });
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert!(is_signed(&head));
        check(&head, &access).err().map(|refusal| refusal.code().clone())
    }

    /// The URL of the example there.
    const URL: &str = "/johnsmith/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
        &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";

    #[test]
    fn a_url_is_signed_as_in_the_example() {
        assert_eq!(checked("GET", URL, &[]), None);
    }

    #[test]
    fn a_signature_is_valid_only_for_the_request_that_it_signs() {
        let wrong = Some(S3ErrorCode::SignatureDoesNotMatch);
        assert_eq!(checked("PUT", URL, &[]), wrong);
        assert_eq!(checked("GET", &URL.replace("puppy", "kitten"), &[]), wrong);
        assert_eq!(checked("GET", &URL.replace("=1175139620", "=2175139620"), &[]), wrong);
        assert_eq!(checked("GET", &URL.replace("NpgC", "npgC"), &[]), wrong);
        assert_eq!(checked("GET", &URL.replace("NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D", ""), &[]), wrong);
        assert_eq!(checked("GET", &format!("{URL}&response-content-type=text/html"), &[]), wrong);
        assert_eq!(checked("GET", &format!("{URL}&uploads"), &[]), wrong);
        for header in [("content-type", "a/b"), ("content-md5", "x"), ("x-amz-meta-a", "b")] {
            assert_eq!(checked("GET", URL, &[header]), wrong, "{header:?}");
        }
    }

    #[test]
    fn a_url_that_lacks_a_parameter_or_repeats_it_is_refused() {
        let wrong = Some(S3ErrorCode::InvalidRequest);
        assert_eq!(checked("GET", "/b/k?Signature=x&Expires=1", &[]), wrong);
        assert_eq!(checked("GET", "/b/k?AWSAccessKeyId=x&Expires=1", &[]), wrong);
        assert_eq!(checked("GET", "/b/k?AWSAccessKeyId=x&Signature=1", &[]), wrong);
        assert_eq!(checked("GET", &format!("{URL}&Expires=1175139620"), &[]), wrong);
        let unknown = URL.replace("AKIAIOSFODNN7EXAMPLE", "AKIA");
        assert_eq!(checked("GET", &unknown, &[]), Some(S3ErrorCode::InvalidAccessKeyId));
    }
}
