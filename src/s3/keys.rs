//! Who may do what: s3s checks signatures with the credentials file's secrets, and asks for each operation.

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::access::{Access, Right};

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
        let operation = context.s3_op().name();
        // it shows only what may be read
        if operation == "ListBuckets" && context.credentials().is_some() {
            return Ok(());
        }
        let bucket = context.s3_path().get_bucket_name();
        check(&self.0, context.credentials(), right(operation), bucket)
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
