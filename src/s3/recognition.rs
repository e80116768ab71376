//! Recognizes S3 requests on the port that both APIs share.

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request};

use super::query::{is_signature, names};

/// Query parameters that only S3's operations have.
const SUBRESOURCES: [&str; 45] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "continuation-token",
    "cors",
    "delete",
    "delimiter",
    "encoding-type",
    "encryption",
    "fetch-owner",
    "intelligent-tiering",
    "inventory",
    "key-marker",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "marker",
    "max-keys",
    "max-uploads",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "prefix",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "start-after",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether a request is for S3 and not the native API: it has an S3 signature, an S3 header, or an S3 query.
pub(super) fn is_s3<B>(request: &Request<B>) -> bool {
    let signed = |value: &[u8]| value.starts_with(b"AWS4-") || value.starts_with(b"AWS ");
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        let name_text = name.as_str();
        name_text.starts_with("x-amz-")
            || name_text.starts_with("amz-sdk-")
            || (name == AUTHORIZATION && signed(value.as_bytes()))
    };
    request.headers().iter().any(header) || request.uri().query().is_some_and(is_s3s_query)
}

fn is_s3s_query(query: &str) -> bool {
    names(query).any(|name| {
        is_signature(&name)
            || name == "x-id"
            || name.starts_with("response-")
            || SUBRESOURCES.binary_search(&&*name).is_ok()
    })
}

/// Whether a request asks for a list, and not for an object: of buckets, of what a bucket holds, or of parts.
pub(super) fn asks_for_page(head: &Parts) -> bool {
    let bucket = head.uri.path().trim_start_matches('/');
    let has_key = bucket.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let lists_parts = |query| names(query).any(|name| matches!(&*name, "uploadId" | "attributes"));
    head.method == Method::GET && (!has_key || head.uri.query().is_some_and(lists_parts))
}
