//! Prepares requests for s3s.
//!
//! s3s buffers bodies in memory, so bodies that are to be stored bypass it. s3s also refuses signatures of unknown
//! keys, so signatures are removed where anybody may do everything.

use std::sync::{Arc, Mutex, PoisonError};

use http_body::Body as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};
use percent_encoding::percent_decode_str;
use s3s::dto::Range;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::authorization::{check_region, is_signed};
use super::checksum::Algorithm;
use super::errors::malformed;
use super::payload::{Announced, Outcome, Payload, PayloadError};
use super::presigned;
use super::query::{is_signature, names};
use super::signature::ChunkSigner;
use super::xml::{Gathered, xml};
use crate::access::Access;
use crate::store;
use crate::wire::{ClientBody, LONGEST_VALUE, check_framing};

const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// The prefix of a browser form's content type.
const FORM: &[u8] = b"multipart/form-data";

/// A body that is to be stored.
type Detached = Arc<Mutex<Option<ClientBody>>>;

/// The request for s3s, and a handle that tells whether its XML matched its headers.
pub(super) fn prepare(
    mut head: Parts,
    body: Incoming,
    access: &Access,
) -> S3Result<(s3s::HttpRequest, Gathered)> {
    let unrestricted = access.is_unrestricted();
    let length = body.size_hint().exact();
    // from here on the body is read or discarded to its end, whatever happens
    let body = ClientBody::new(body, head.headers.contains_key(EXPECT));
    check_framing(&head)
        .map_err(|why| S3Error::with_message(S3ErrorCode::InvalidRequest, why.to_string()))?;
    if unrestricted {
        remove_signature(&mut head)?;
    } else if presigned::has_header(&head) {
        return Err(s3_error!(
            InvalidRequest,
            "headers signed by version 2 are not accepted: use AWS4-HMAC-SHA256"
        ));
    } else if presigned::is_signed(&head) {
        presigned::check(&head, access)?;
    } else {
        check_region(&head.headers)?;
    }
    check_known(&head)?;
    // as in S3, a request for several ranges gets the whole object; an invalid range is ignored (RFC 9110
    // section 14.2); if the header is signed it must stay, and s3s refuses the request
    let is_range = |range: &HeaderValue| range.to_str().is_ok_and(|range| Range::parse(range).is_ok());
    if !head.headers.get(RANGE).is_some_and(is_range) && !is_signed(&head.headers, &RANGE) {
        head.headers.remove(RANGE);
    }
    let gathered = Gathered::default();
    let body = if is_upload(&head) {
        head.extensions.insert(Length(length));
        head.extensions.insert::<Detached>(Arc::new(Mutex::new(Some(body))));
        s3s::Body::empty()
    } else if length == Some(0) {
        s3s::Body::empty()
    } else {
        xml(&mut head, body, length, unrestricted, &gathered)?
    };
    Ok((Request::from_parts(head, body), gathered))
}

/// Refuses requests that s3s would accept wrongly: browsers' forms, which it buffers in memory, and operations that
/// it doesn't know and takes for others. A future `DELETE /bucket?…` must not delete the bucket.
fn check_known(head: &Parts) -> S3Result<()> {
    let is_form = |content_type: &HeaderValue| {
        let start = content_type.as_bytes().get(..FORM.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(FORM))
    };
    if head.method == Method::POST && head.headers.get(CONTENT_TYPE).is_some_and(is_form) {
        return Err(s3_error!(
            NotImplemented,
            "uploads by browsers' forms are not supported: use a presigned PUT"
        ));
    }
    if head.headers.get(HOST).is_some_and(|host| host.to_str().is_err()) {
        return Err(s3_error!(InvalidRequest, "the Host is no text"));
    }
    let known: &[&str] = match (head.method.as_str(), is_object(head.uri.path())) {
        ("PUT", true) => &["partNumber", "uploadId"],
        ("DELETE", true) => &["uploadId", "versionId"],
        ("POST", true) => &["uploadId", "uploads"],
        ("POST", false) => &["delete"],
        ("PUT" | "DELETE", false) => &[],
        _ => return Ok(()),
    };
    let old = presigned::is_signed(head);
    let is_known = |name: &str| {
        name.is_empty()
            || name.starts_with("x-")
            || is_signature(name)
            || (old && presigned::is_part(name))
            || known.contains(&name)
    };
    let query = head.uri.query().unwrap_or_default();
    if let Some(other) = names(query).find(|name| !is_known(name)) {
        let method = &head.method;
        return Err(s3_error!(NotImplemented, "{method} with the query {other:?} is not supported"));
    }
    let has = |name: &str| names(query).any(|other| other == name);
    if head.method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(s3_error!(InvalidArgument, "a part has both a partNumber and an uploadId"));
    }
    Ok(())
}

/// Removes the signature, where anybody may do everything.
fn remove_signature(head: &mut Parts) -> S3Result<()> {
    head.headers.remove(AUTHORIZATION);
    let Some(query) = head.uri.query().filter(|query| names(query).any(|name| is_signature(&name))) else {
        return Ok(());
    };
    let old = presigned::is_signed(head);
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !names(pair).any(|name| is_signature(&name) || (old && presigned::is_part(&name))))
        .collect();
    let path = head.uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = target.parse().ok();
    head.uri = Uri::from_parts(parts).map_err(|_error| s3_error!(InvalidURI))?;
    Ok(())
}

/// Whether the body is to be stored, as an object or a part.
fn is_upload(head: &Parts) -> bool {
    head.method == Method::PUT && is_object(head.uri.path()) && !head.headers.contains_key(COPY_SOURCE)
}

/// Whether the path is an object's, not a bucket's.
fn is_object(path: &str) -> bool {
    let path = percent_decode_str(path).decode_utf8_lossy();
    path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(_, key)| !key.is_empty())
}

/// The length of a body as sent, including its framing, if known.
#[derive(Clone, Copy)]
struct Length(Option<u64>);

/// The body to store, and a handle that tells at its end whether it matched the request's headers.
/// `checksum` is computed whether or not the client sends it.
pub(super) fn body<T>(
    req: &S3Request<T>,
    checksum: Option<Algorithm>,
) -> S3Result<(store::Incoming<Payload<ClientBody>>, Outcome)> {
    let detached = req.extensions.get::<Detached>();
    let detached = detached.and_then(|body| body.lock().unwrap_or_else(PoisonError::into_inner).take());
    let body = detached.ok_or_else(|| s3_error!(InvalidRequest, "the request has no body to store"))?;
    let length = req.extensions.get::<Length>().and_then(|length| length.0);
    let mut announced = Announced::read(&req.headers, length).map_err(|wrong| malformed(&wrong))?;
    if let Some(algorithm) = checksum {
        announced.compute(algorithm);
    }
    let signer = match &req.credentials {
        Some(credentials) if announced.has_signed_chunks() => {
            let signer = ChunkSigner::new(credentials.secret_key.expose(), &req.headers);
            Some(signer.map_err(|why| malformed(&PayloadError::Authorization(why)))?)
        }
        _ => None,
    };
    let (length, md5) = (announced.length, announced.md5);
    if length.is_some_and(|length| length > LONGEST_VALUE) {
        return Err(s3_error!(EntityTooLarge, "the body is longer than any file can be"));
    }
    let (body, outcome) = Payload::new(body, announced, signer);
    Ok((store::Incoming { body, length, md5 }, outcome))
}
