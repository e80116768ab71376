//! Who may do what: s3s checks signatures with the credentials file's secrets, and asks for each operation.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::query::pairs;
use crate::access::{Access, Right};
use crate::wire::RequestContext;

/// How long a URL is good that was signed beforehand, in seconds: a week, as in S3.
const LONGEST_EXPIRES: u64 = 7 * 24 * 60 * 60;

/// The credentials file, as s3s asks for it.
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
        // it shows only what may be read
        if operation == "ListBuckets" && context.credentials().is_some() {
            return Ok(());
        }
        let bucket = context.s3_path().get_bucket_name();
        check(&self.0, context.credentials(), right(&operation), bucket)
    }
}

/// That a good signature is one of all that it must be of, and not good for too long. Who was given a signed
/// URL could make another request of it otherwise, by a header.
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
    // these two are part of what is signed, whether or not they are named
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

/// What an operation needs; what isn't listed changes how a bucket behaves.
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

/// Whether the key that signed may do that with the bucket, as the source of a copy, say.
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
