//! Checks of a signed request's `Authorization` header that precede s3s's check of the signature.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use s3s::{S3Result, s3_error};

/// The region that clients use by default.
pub(super) const REGION: &str = "us-east-1";

/// A field of an `Authorization` header of version 4.
fn of_authorization<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256")?;
    let mut fields = text.split(',').filter_map(|field| field.trim().split_once('='));
    fields.find(|(field, _)| *field == name).map(|(_, value)| value)
}

/// Whether the request's signature covers that header.
pub(super) fn is_signed(headers: &HeaderMap, name: &HeaderName) -> bool {
    of_authorization(headers, "SignedHeaders")
        .is_some_and(|names| names.split(';').any(|signed| signed == name))
}

/// Refuses an invalid region in a signature; any valid region is accepted. s3cmd signs for `US` first, and learns
/// the region from this refusal.
pub(super) fn check_region(headers: &HeaderMap) -> S3Result<()> {
    // ACCESS KEY/DATE/REGION/s3/aws4_request
    let service =
        of_authorization(headers, "Credential").and_then(|credential| credential.rsplit('/').nth(1));
    if service.is_some_and(|service| service != "s3") {
        return Err(s3_error!(AuthorizationHeaderMalformed, "the service in the signature must be s3"));
    }
    let region = of_authorization(headers, "Credential").and_then(|credential| credential.rsplit('/').nth(2));
    let is_one = |region: &str| {
        region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if region.is_none_or(is_one) {
        return Ok(());
    }
    Err(s3_error!(AuthorizationHeaderMalformed, "the region in the signature is invalid: use {REGION}"))
}
