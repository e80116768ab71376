//! S3's operations, one method each, from s3s's input types to its output types.

use std::sync::{Arc, Mutex};

use hyper::http::Extensions;
#[allow(
    clippy::wildcard_imports,
    reason = "the inputs and outputs of all operations, and what they hold"
)]
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::answer::Instead;
use super::authorization::REGION;
use super::buckets::Buckets;
use super::checksum::Algorithm;
use super::condition::{self, Expected, tag};
use super::errors::{refused, unsupported};
use super::fields::{
    algorithm, check_acl, check_class, refuse_unsupported, refuse_unsupported_of_writes, set_checksums,
};
use super::keys::may;
use super::listing::{self, owner, shown};
use super::metadata::{self, described, modified, timestamp};
use super::objects::{self, Wanted, key};
use super::outputs::{grants, head, replaces, without_count};
use super::request::body;
use super::{completion, uploads};
use crate::access::{Access, Right};
use crate::store::Store;
use crate::wire::RequestContext;

/// The operations over a store.
pub(super) struct Operations {
    pub(super) store: Store,
    pub(super) buckets: Buckets,
    pub(super) access: Access,
    /// Whether readers are redirected to a volume.
    pub(super) redirect: bool,
}

/// The most buckets in one listing, as in S3.
const MOST_BUCKETS: usize = 10_000;

type Answer<T> = S3Result<S3Response<T>>;

#[allow(clippy::unnecessary_wraps, reason = "it ends methods that can fail")]
fn answer<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let input = req.input;
        objects::check_version(input.version_id.as_deref())?;
        self.buckets.check_listable(&input.bucket).await?;
        if input.sse_customer_algorithm.is_some() {
            return Err(unsupported("server-side encryption"));
        }
        let key = key(&input.bucket, &input.key);
        let expected = Expected {
            matches: input.if_match,
            matches_none: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        let wanted = Wanted { range: input.range, part_number: input.part_number };
        // a volume can't send response headers that the request asks for
        let plain = input.response_cache_control.is_none()
            && input.response_content_disposition.is_none()
            && input.response_content_encoding.is_none()
            && input.response_content_language.is_none()
            && input.response_content_type.is_none()
            && input.response_expires.is_none();
        // otherwise anybody could turn an object of a public bucket into a web page
        if !plain && req.credentials.is_none() && !self.access.is_unrestricted() {
            return Err(s3_error!(InvalidRequest, "response-* parameters need a signed request"));
        }
        let (found, instead) = if self.redirect && plain && wanted.part_number.is_none() {
            let found = objects::find(&self.store, &key, &expected, wanted).await?;
            let url = self.store.locate(&key).await.map_err(refused)?.url;
            (found, Instead::Redirect(url))
        } else {
            let (found, reading) = objects::open(&self.store, &key, &expected, wanted).await?;
            (found, Instead::Bytes(objects::stream(reading)))
        };
        let head = head(&found, input.checksum_mode.as_ref());
        let mut response = S3Response::new(GetObjectOutput {
            accept_ranges: head.accept_ranges,
            cache_control: head.cache_control,
            checksum_crc32: head.checksum_crc32,
            checksum_crc32c: head.checksum_crc32c,
            checksum_crc64nvme: head.checksum_crc64nvme,
            checksum_sha1: head.checksum_sha1,
            checksum_sha256: head.checksum_sha256,
            checksum_type: head.checksum_type,
            content_disposition: head.content_disposition,
            content_encoding: head.content_encoding,
            content_language: head.content_language,
            content_length: head.content_length,
            content_range: head.content_range,
            content_type: head.content_type,
            e_tag: head.e_tag,
            expires: head.expires,
            last_modified: head.last_modified,
            metadata: head.metadata,
            parts_count: head.parts_count,
            ..GetObjectOutput::default()
        });
        response.extensions.insert(Arc::new(Mutex::new(Some(instead))));
        Ok(response)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let input = req.input;
        objects::check_version(input.version_id.as_deref())?;
        self.buckets.check_listable(&input.bucket).await?;
        let expected = Expected {
            matches: input.if_match,
            matches_none: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        let wanted = Wanted { range: input.range, part_number: input.part_number };
        let found = objects::find(&self.store, &key(&input.bucket, &input.key), &expected, wanted).await?;
        let found = head(&found, input.checksum_mode.as_ref());
        // s3s does that for GET alone
        answer(HeadObjectOutput {
            cache_control: input.response_cache_control.or(found.cache_control),
            content_disposition: input.response_content_disposition.or(found.content_disposition),
            content_encoding: input.response_content_encoding.or(found.content_encoding),
            content_language: input.response_content_language.or(found.content_language),
            content_type: input.response_content_type.or(found.content_type),
            expires: input.response_expires.or(found.expires),
            ..found
        })
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        refuse_unsupported_of_writes!(req.input);
        if req.input.write_offset_bytes.is_some() {
            return Err(unsupported("appending"));
        }
        let (upload, outcome) = body(&req, None)?;
        let mut input = req.input;
        let when = condition::when(input.if_match.take(), input.if_none_match.take())?;
        let headers = described!(input).into_headers()?;
        let lease = self.buckets.lease(&input.bucket).await?;
        let key = key(&input.bucket, &input.key);
        let record =
            objects::put(&self.store_for(&req.extensions), &key, lease, upload, outcome, when, headers)
                .await?;
        let mut output = PutObjectOutput {
            e_tag: Some(tag(&record)),
            checksum_type: metadata::checksum_type(&record).map(|kind| kind.to_owned().into()),
            ..PutObjectOutput::default()
        };
        set_checksums!(output, metadata::checksums(&record));
        answer(output)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        refuse_unsupported_of_writes!(req.input);
        let replace = replaces(req.input.metadata_directive.as_ref())?;
        let (bucket, source_key) = objects::copy_source(&req.input.copy_source)?;
        may(&self.access, req.credentials.as_ref(), Right::Read, bucket)?;
        self.buckets.check_listable(bucket).await?;
        let mut input = req.input;
        let key = key(&input.bucket, &input.key);
        if key == source_key && !replace {
            return Err(s3_error!(
                InvalidRequest,
                "a copy of an object onto itself has to change something: send x-amz-metadata-directive: REPLACE"
            ));
        }
        let expected = Expected {
            matches: input.copy_source_if_match.take(),
            matches_none: input.copy_source_if_none_match.take(),
            modified_since: input.copy_source_if_modified_since.take(),
            unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        // S3 knows no conditions on the target of a copy; clients send them all the same
        let condition =
            |name| req.headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        let condition =
            |name| condition(name).transpose().map_err(|_error| s3_error!(InvalidArgument, "no ETag"));
        let when = condition::when(condition("if-match")?, condition("if-none-match")?)?;
        let described = replace.then(|| described!(input).into_headers()).transpose()?;
        let algorithm = algorithm(input.checksum_algorithm.as_ref())?;
        let lease = self.buckets.lease_for_copy(&input.bucket).await?;
        let copy = objects::Copy { source_key, expected, described, algorithm, when };
        let record = copy.run(&self.store_for(&req.extensions), &key, lease).await?;
        let mut result = CopyObjectResult {
            e_tag: Some(tag(&record)),
            last_modified: Some(modified(&record)),
            checksum_type: metadata::checksum_type(&record).map(|kind| kind.to_owned().into()),
            ..CopyObjectResult::default()
        };
        set_checksums!(result, metadata::checksums(&record));
        answer(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let input = req.input;
        objects::check_version(input.version_id.as_deref())?;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(unsupported("a deletion that is conditional by more than the ETag"));
        }
        self.buckets.check_listable(&input.bucket).await?;
        let store = self.store_for(&req.extensions);
        objects::delete(&store, &key(&input.bucket, &input.key), input.if_match).await?;
        answer(DeleteObjectOutput::default())
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        self.buckets.check_listable(&bucket).await?;
        objects::delete_all(&self.store_for(&req.extensions), &bucket, delete).await.and_then(answer)
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        let input = req.input;
        objects::check_version(input.version_id.as_deref())?;
        self.buckets.check_listable(&input.bucket).await?;
        let key = key(&input.bucket, &input.key);
        let found = objects::find(&self.store, &key, &Expected::default(), Wanted::default()).await?;
        let record = &found.record;
        let wants = |name| input.object_attributes.iter().any(|attribute| attribute.as_str() == name);
        let mut checksum = Checksum {
            checksum_type: metadata::checksum_type(record).map(|kind| kind.to_owned().into()),
            ..Checksum::default()
        };
        set_checksums!(checksum, metadata::checksums(record).map(without_count));
        let parts = metadata::parts(record).map(|parts| GetObjectAttributesParts {
            total_parts_count: shown(parts.len()),
            ..GetObjectAttributesParts::default()
        });
        answer(GetObjectAttributesOutput {
            e_tag: wants(ObjectAttributes::ETAG).then(|| tag(record)),
            checksum: (wants(ObjectAttributes::CHECKSUM) && checksum.checksum_type.is_some())
                .then_some(checksum),
            object_parts: parts.filter(|_| wants(ObjectAttributes::OBJECT_PARTS)),
            object_size: wants(ObjectAttributes::OBJECT_SIZE).then(|| found.size.try_into().ok()).flatten(),
            storage_class: wants(ObjectAttributes::STORAGE_CLASS)
                .then(|| StorageClass::from_static(StorageClass::STANDARD)),
            last_modified: Some(modified(record)),
            ..GetObjectAttributesOutput::default()
        })
    }

    async fn get_object_acl(&self, req: S3Request<GetObjectAclInput>) -> Answer<GetObjectAclOutput> {
        objects::check_version(req.input.version_id.as_deref())?;
        self.buckets.check_listable(&req.input.bucket).await?;
        self.store.record(&key(&req.input.bucket, &req.input.key)).await.map_err(refused)?;
        answer(GetObjectAclOutput {
            grants: Some(grants()),
            owner: Some(owner()),
            ..GetObjectAclOutput::default()
        })
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        self.buckets.check_listable(&req.input.bucket).await?;
        listing::v1(&self.store, req.input).await.and_then(answer)
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        self.buckets.check_listable(&req.input.bucket).await?;
        listing::v2(&self.store, req.input).await.and_then(answer)
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        self.buckets.check_listable(&req.input.bucket).await?;
        listing::versions(&self.store, req.input).await.and_then(answer)
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let S3Request { input, credentials, .. } = req;
        let most = input.max_buckets.map_or(Ok(MOST_BUCKETS), usize::try_from);
        let most = most.map_err(|_negative| s3_error!(InvalidArgument, "max-buckets is negative"))?;
        let most = most.min(MOST_BUCKETS);
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        let who = credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let may_read = self.access.readable_by(who);
        let seen = |name: &str| name.starts_with(&prefix) && may_read(name);
        // one more tells whether there are more
        let mut shown = self.buckets.list(&after, most + 1, &seen).await?;
        let more = shown.len() > most;
        shown.truncate(most);
        let last = shown.last().map(|(name, _)| name.clone());
        let bucket = |(name, made)| Bucket {
            name: Some(name),
            creation_date: Some(timestamp(made)),
            bucket_region: None,
        };
        answer(ListBucketsOutput {
            buckets: Some(shown.into_iter().map(bucket).collect()),
            continuation_token: last.filter(|_| more),
            owner: Some(owner()),
            prefix: (!prefix.is_empty()).then_some(prefix),
        })
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let input = req.input;
        check_acl(input.acl.as_ref().map(BucketCannedACL::as_str))?;
        if input.object_lock_enabled_for_bucket == Some(true) {
            return Err(unsupported("object lock"));
        }
        let granted = [
            input.grant_full_control.is_some(),
            input.grant_read.is_some(),
            input.grant_read_acp.is_some(),
            input.grant_write.is_some(),
            input.grant_write_acp.is_some(),
        ];
        if granted.contains(&true) {
            return Err(unsupported("a grant (ACL)"));
        }
        if !s3s::path::check_bucket_name(&input.bucket) {
            return Err(s3_error!(
                InvalidBucketName,
                "a bucket's name has 3 to 63 characters of a-z, 0-9, . and -, and begins and ends with a letter or digit"
            ));
        }
        self.buckets.create(&input.bucket).await?;
        answer(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) })
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        if !self.buckets.exists(&req.input.bucket).await? {
            return Err(s3_error!(NoSuchBucket, "no such bucket"));
        }
        answer(HeadBucketOutput { bucket_region: Some(REGION.into()), ..HeadBucketOutput::default() })
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        self.buckets.delete(&req.input.bucket).await?;
        answer(DeleteBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.check_bucket(&req.input.bucket).await?;
        // none is us-east-1
        answer(GetBucketLocationOutput::default())
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        self.check_bucket(&req.input.bucket).await?;
        // as for a bucket that never had versioning
        answer(GetBucketVersioningOutput::default())
    }

    async fn get_bucket_acl(&self, req: S3Request<GetBucketAclInput>) -> Answer<GetBucketAclOutput> {
        self.check_bucket(&req.input.bucket).await?;
        answer(GetBucketAclOutput { grants: Some(grants()), owner: Some(owner()) })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        refuse_unsupported_of_writes!(req.input);
        let mut input = req.input;
        let headers = described!(input).into_headers()?;
        let _lease = self.buckets.lease(&input.bucket).await?;
        uploads::create(&self.store, input, headers).await.and_then(answer)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        if req.input.sse_customer_algorithm.is_some() {
            return Err(unsupported("server-side encryption"));
        }
        let checksum = uploads::checksum_of_parts(&self.store, &req.input).await?;
        let (upload, outcome) = body(&req, checksum)?;
        uploads::put(&self.store_for(&req.extensions), &req.input, upload, &outcome).await.and_then(answer)
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        if req.input.sse_customer_algorithm.is_some()
            || req.input.copy_source_sse_customer_algorithm.is_some()
        {
            return Err(unsupported("server-side encryption"));
        }
        let (bucket, source) = objects::copy_source(&req.input.copy_source)?;
        may(&self.access, req.credentials.as_ref(), Right::Read, bucket)?;
        self.buckets.check_listable(bucket).await?;
        let lease = self.buckets.lease_for_copy(&req.input.bucket).await?;
        uploads::copy(&self.store_for(&req.extensions), lease, source, req.input).await.and_then(answer)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        uploads::list_parts(&self.store, req.input).await.and_then(answer)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.buckets.check_listable(&req.input.bucket).await?;
        uploads::list(&self.store, req.input).await.and_then(answer)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let lease = self.buckets.lease_for_copy(&req.input.bucket).await?;
        completion::complete(&self.store_for(&req.extensions), lease, req.input).await.and_then(answer)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        uploads::abort(&self.store, &req.input).await?;
        answer(AbortMultipartUploadOutput::default())
    }
}

impl Operations {
    /// The store for the request that has these extensions.
    fn store_for(&self, extensions: &Extensions) -> Store {
        let context = extensions.get::<Arc<RequestContext>>();
        context.map_or_else(|| self.store.clone(), |context| self.store.for_request(context.client_gone()))
    }

    async fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.buckets.exists(bucket).await? {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket, "no such bucket"))
        }
    }
}
