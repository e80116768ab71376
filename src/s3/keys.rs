//! Access control for S3: s3s checks signatures with the secrets of the credentials file, and asks for each operation.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::query::pairs;
use crate::access::{Access, Right};
use crate::wire::RequestContext;

/// How long a presigned URL may be valid, in seconds: a week, as in S3.
const LONGEST_EXPIRES: u64 = 7 * 24 * 60 * 60;

/// Gives s3s access to the credentials file.
#[derive(Clone)]
pub(super) struct Keys(pub(super) Access);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self
            .0
            .secret(access_key)
            .ok_or_else(|| s3_error!(InvalidAccessKeyId, "the credentials file has no such access key"))?;
        Ok(SecretKey::from(secret.expose()))
    }
}

#[async_trait::async_trait]
impl S3Access for Keys {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_some() {
            check_signed(context.uri().query().unwrap_or_default(), context.headers())?;
        }
        let operation = context.s3_op().name().to_owned();
        if let Some(request) = context.extensions_mut().get::<Arc<RequestContext>>() {
            request.set_operation(operation.clone());
        }
        // ListBuckets shows only buckets that the key may read
        if operation == "ListBuckets" && context.credentials().is_some() {
            return Ok(());
        }
        let bucket = context.s3_path().get_bucket_name();
        check(&self.0, context.credentials(), right(&operation), bucket)
    }
}

/// Checks that a signature covers all headers that matter, and isn't valid for too long. Otherwise the holder of a
/// presigned URL could change the request by adding a header.
fn check_signed(query: &str, headers: &HeaderMap) -> S3Result<()> {
    let value = |name: &str| pairs(query).find(|(other, _)| other == name).map(|(_, value)| value);
    let signed = if value("X-Amz-Signature").is_some() {
        let expires = value("X-Amz-Expires").and_then(|seconds| seconds.parse::<u64>().ok());
        if expires.is_none_or(|seconds| seconds > LONGEST_EXPIRES) {
            return Err(s3_error!(AuthorizationQueryParametersError, "X-Amz-Expires is more than a week"));
        }
        value("X-Amz-SignedHeaders").unwrap_or_default()
    } else {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (_, signed) = authorization.unwrap_or_default().split_once("SignedHeaders=").unwrap_or_default();
        Cow::Borrowed(signed.split(',').next().unwrap_or_default())
    };
    // these two are signed whether or not they are listed
    let is_signed = |name: &str| {
        matches!(name, "x-amz-date" | "x-amz-content-sha256")
            || signed.split(';').any(|own| own.trim() == name)
    };
    let unsigned =
        headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !is_signed(name.as_str()));
    match unsigned {
        None => Ok(()),
        Some(name) => Err(s3_error!(AccessDenied, "{name} is not among the signed headers")),
    }
}

/// The right that an operation needs; those not listed change a bucket's behaviour and need `Admin`.
fn right(operation: &str) -> Right {
    match operation {
        "GetObject"
        | "HeadObject"
        | "GetObjectAttributes"
        | "GetObjectAcl"
        | "ListObjects"
        | "ListObjectsV2"
        | "ListObjectVersions"
        | "HeadBucket"
        | "GetBucketLocation"
        | "GetBucketVersioning"
        | "GetBucketAcl" => Right::Read,
        "PutObject"
        | "CopyObject"
        | "DeleteObject"
        | "DeleteObjects"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload"
        | "AbortMultipartUpload"
        | "ListParts"
        | "ListMultipartUploads" => Right::Write,
        _ => Right::Admin,
    }
}

/// Checks that the signing key has the right to the bucket (the source of a copy, for example).
pub(super) fn may(
    access: &Access,
    credentials: Option<&Credentials>,
    right: Right,
    bucket: &str,
) -> S3Result<()> {
    check(access, credentials, right, Some(bucket))
}

fn check(
    access: &Access,
    credentials: Option<&Credentials>,
    right: Right,
    bucket: Option<&str>,
) -> S3Result<()> {
    let who = credentials.map(|credentials| credentials.access_key.as_str());
    if access.permits(who, right, bucket) {
        return Ok(());
    }
    Err(match who {
        Some(_) => s3_error!(AccessDenied, "the access key may not do that here"),
        None => s3_error!(AccessDenied, "the request isn't signed"),
    })
}
