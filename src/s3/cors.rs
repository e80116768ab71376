//! Cross-origin requests of browsers (the CORS protocol of the Fetch standard).
//!
//! Browsers need the same signatures as other clients, so the allowed origins are set for the whole store, by a
//! flag, and not per bucket.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use s3s::{S3Result, s3_error};

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");

/// The headers of an answer that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Content-Length, Content-Range, Accept-Ranges, Last-Modified, x-amz-request-id, x-amz-mp-parts-count, x-amz-checksum-crc32, x-amz-checksum-crc32c, x-amz-checksum-crc64nvme, x-amz-checksum-sha1, x-amz-checksum-sha256, x-amz-checksum-type",
);

/// How long a browser may cache a preflight's answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");

/// The origins whose pages may use the store: `https://example.com`, or `*` for all.
#[derive(Clone, Debug, Default)]
pub struct Origins(pub Vec<String>);

impl Origins {
    /// Whether the request is a preflight; never if no origins are allowed.
    pub(super) fn is_preflight<B>(&self, request: &Request<B>) -> bool {
        !self.0.is_empty()
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The request's origin, if it is allowed.
    pub(super) fn of(&self, head: &Parts) -> Option<HeaderValue> {
        let origin = head.headers.get(ORIGIN)?;
        self.0.iter().any(|own| own == "*" || own.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Answers a preflight.
    pub(super) fn preflight(&self, head: &Parts) -> S3Result<s3s::HttpResponse> {
        if self.of(head).is_none() {
            return Err(s3_error!(AccessDenied, "pages of this origin may not use the store (--s3-cors)"));
        }
        let mut answer = hyper::Response::new(s3s::Body::empty());
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        Ok(answer)
    }

    /// Adds the CORS headers, which let pages of the origin read the answer.
    pub(super) fn tell(&self, answer: &mut s3s::HttpResponse, origin: Option<HeaderValue>) {
        if self.0.is_empty() {
            return;
        }
        let headers = answer.headers_mut();
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
