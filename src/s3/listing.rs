//! Listings of a bucket: `ListObjects`, `ListObjectsV2` and `ListObjectVersions` are three forms of one.
//!
//! A listing seeks from one common prefix to the next, and holds a page in memory.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::{self, StreamExt as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass, Owner,
};
use s3s::{S3Result, s3_error};

use super::buckets::prefix;
use super::condition::tag;
use super::errors::refused;
use super::metadata::{checksum_type, checksums, is_listed, modified};
use crate::error::Error;
use crate::key::Key;
use crate::record::Record;
use crate::store::{Folded, Item, Store, beyond};

/// The most items of a page, and the default.
pub(super) const PAGE: usize = 1000;

/// How many sizes that the index lacks are requested from volumes at a time.
const ASKED_AT_A_TIME: usize = 16;

/// Characters that `encoding-type=url` keeps.
const UNENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');

/// What is listed.
struct Asked<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: &'a str,
    /// List only items after this key or common prefix.
    after: Option<&'a str>,
    most: usize,
}

/// A page of a listing, of names within the bucket.
#[derive(Default)]
struct Page {
    objects: Vec<(String, Record)>,
    folders: Vec<String>,
    /// The last item, if more follow.
    next: Option<String>,
}

impl Asked<'_> {
    async fn page(&self, store: &Store) -> S3Result<Page> {
        let within = prefix(self.bucket);
        let folded = Folded {
            prefix: [&within, self.prefix.as_bytes()].concat(),
            delimiter: self.delimiter.as_bytes().to_vec(),
        };
        let mut page = Page::default();
        let mut last = None;
        if self.most == 0 {
            return Ok(page);
        }
        let mut start = self.after.map_or_else(Vec::new, |after| self.start(&within, after));
        loop {
            // one extra item shows whether there are more
            let missing = self.most + 1 - page.len();
            let found = store.list_folded(&folded, &start, missing).await.map_err(refused)?;
            for item in found.rows {
                let name = match &item {
                    Item::Key(key, _) => name(&within, key.as_bytes()),
                    Item::Folder(prefix) => name(&within, prefix),
                };
                let Some(name) = name else { continue };
                if page.len() == self.most {
                    page.next = last;
                    return page.with_sizes(store, &within).await;
                }
                last = Some(name.clone());
                match item {
                    Item::Key(_, mut record) => {
                        // a page with all headers of its objects could have tens of MiB
                        record.headers.retain(|(name, _)| is_listed(name));
                        page.objects.push((name, record));
                    }
                    Item::Folder(_) => page.folders.push(name),
                }
            }
            match found.next {
                Some(next) => start = next,
                None => return page.with_sizes(store, &within).await,
            }
        }
    }

    /// The first key after `after`; if `after` is a common prefix, after all keys that begin with it.
    fn start(&self, within: &[u8], after: &str) -> Vec<u8> {
        let key = [within, after.as_bytes()].concat();
        let is_folder = !self.delimiter.is_empty()
            && after.strip_prefix(self.prefix).is_some_and(|rest| {
                rest.find(self.delimiter).is_some_and(|at| at + self.delimiter.len() == rest.len())
            });
        match beyond(&key).filter(|_| is_folder) {
            Some(beyond) => beyond,
            None => [&key, [0].as_slice()].concat(),
        }
    }
}

impl Page {
    /// Asks the volumes for sizes that minikeyvalue's records lack.
    async fn with_sizes(mut self, store: &Store, within: &[u8]) -> S3Result<Self> {
        let unsized_keys: Vec<(usize, Key)> = self
            .objects
            .iter()
            .enumerate()
            .filter(|(_, (_, record))| record.size.is_none())
            .map(|(at, (name, _))| (at, Key::new(&[within, name.as_bytes()].concat())))
            .collect();
        let mut sizes = stream::iter(
            unsized_keys.into_iter().map(|(at, key)| async move { (at, store.stat(&key).await) }),
        )
        .buffer_unordered(ASKED_AT_A_TIME);
        let mut gone = Vec::new();
        while let Some((at, found)) = sizes.next().await {
            match (found, self.objects.get_mut(at)) {
                (Ok(record), Some((_, object))) => *object = record,
                (Err(Error::NotFound), _) => gone.push(at),
                // the object is listed anyway; reading it gives the error
                (Err(Error::Damaged), Some((_, object))) => object.size = Some(0),
                (Err(error), _) => return Err(refused(error)),
                (Ok(_), None) => {}
            }
        }
        drop(sizes);
        gone.sort_unstable();
        for at in gone.into_iter().rev() {
            self.objects.remove(at);
        }
        Ok(self)
    }

    fn len(&self) -> usize {
        self.objects.len() + self.folders.len()
    }
}

/// The name of a key within the bucket. `None` for keys that S3 can't name, which listings leave out: keys that are
/// not UTF-8 (from an old index), and `/bucket/` itself.
fn name(within: &[u8], key: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(key.get(within.len()..)?).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

pub(super) async fn v1(store: &Store, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
    let most = most(input.max_keys)?;
    let encode = encoding(input.encoding_type.as_ref())?;
    let delimiter = input.delimiter.as_deref().unwrap_or_default();
    let asked = Asked {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter,
        after: input.marker.as_deref().filter(|marker| !marker.is_empty()),
        most,
    };
    let page = asked.page(store).await?;
    Ok(ListObjectsOutput {
        is_truncated: Some(page.next.is_some()),
        next_marker: page.next.as_deref().filter(|_| !delimiter.is_empty()).map(encode),
        contents: Some(
            page.objects.iter().map(|(name, record)| object(encode(name), record, true)).collect(),
        ),
        common_prefixes: Some(folders(&page.folders, encode)),
        name: Some(input.bucket.clone()),
        prefix: Some(encode(asked.prefix)),
        marker: Some(encode(input.marker.as_deref().unwrap_or_default())),
        delimiter: input.delimiter.as_deref().map(encode),
        max_keys: shown(most),
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    })
}

pub(super) async fn v2(store: &Store, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let most = most(input.max_keys)?;
    let encode = encoding(input.encoding_type.as_ref())?;
    let continued = input.continuation_token.as_deref().map(from_token).transpose()?;
    let asked = Asked {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        after: continued.as_deref().or(input.start_after.as_deref()).filter(|after| !after.is_empty()),
        most,
    };
    let page = asked.page(store).await?;
    let owned = input.fetch_owner == Some(true);
    Ok(ListObjectsV2Output {
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_deref().map(to_token),
        key_count: shown(page.len()),
        contents: Some(
            page.objects.iter().map(|(name, record)| object(encode(name), record, owned)).collect(),
        ),
        common_prefixes: Some(folders(&page.folders, encode)),
        name: Some(input.bucket.clone()),
        prefix: Some(encode(asked.prefix)),
        continuation_token: input.continuation_token.clone(),
        start_after: input.start_after.as_deref().map(encode),
        delimiter: input.delimiter.as_deref().map(encode),
        max_keys: shown(most),
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    })
}

/// Lists each object with one version, `null`, as S3 does for buckets without versioning.
pub(super) async fn versions(
    store: &Store,
    input: ListObjectVersionsInput,
) -> S3Result<ListObjectVersionsOutput> {
    let most = most(input.max_keys)?;
    let encode = encoding(input.encoding_type.as_ref())?;
    let asked = Asked {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        after: input.key_marker.as_deref().filter(|after| !after.is_empty()),
        most,
    };
    let page = asked.page(store).await?;
    Ok(ListObjectVersionsOutput {
        is_truncated: Some(page.next.is_some()),
        next_key_marker: page.next.as_deref().map(encode),
        next_version_id_marker: page.next.as_ref().map(|_| "null".to_owned()),
        versions: Some(page.objects.iter().map(|(name, record)| version(encode(name), record)).collect()),
        common_prefixes: Some(folders(&page.folders, encode)),
        name: Some(input.bucket.clone()),
        prefix: Some(encode(asked.prefix)),
        key_marker: Some(encode(input.key_marker.as_deref().unwrap_or_default())),
        version_id_marker: input.version_id_marker.clone(),
        delimiter: input.delimiter.as_deref().map(encode),
        max_keys: shown(most),
        encoding_type: input.encoding_type.clone(),
        ..ListObjectVersionsOutput::default()
    })
}

fn object(key: String, record: &Record, owned: bool) -> Object {
    Object {
        key: Some(key),
        e_tag: Some(tag(record)),
        size: record.size.and_then(|size| size.try_into().ok()),
        last_modified: Some(modified(record)),
        checksum_algorithm: Some(
            checksums(record).map(|(algorithm, _)| algorithm.name().to_owned().into()).collect(),
        ),
        checksum_type: checksum_type(record).map(|kind| kind.to_owned().into()),
        owner: owned.then(owner),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        restore_status: None,
    }
}

fn version(key: String, record: &Record) -> ObjectVersion {
    ObjectVersion {
        version_id: Some("null".into()),
        is_latest: Some(true),
        key: Some(key),
        e_tag: Some(tag(record)),
        size: record.size.and_then(|size| size.try_into().ok()),
        last_modified: Some(modified(record)),
        owner: Some(owner()),
        storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
        ..ObjectVersion::default()
    }
}

fn folders(folders: &[String], encode: fn(&str) -> String) -> Vec<CommonPrefix> {
    folders.iter().map(|folder| CommonPrefix { prefix: Some(encode(folder)) }).collect()
}

/// The owner of all buckets and objects.
pub(super) fn owner() -> Owner {
    Owner { id: Some("davkv".into()), display_name: Some("davkv".into()) }
}

/// How many items a page may have.
pub(super) fn most(asked: Option<i32>) -> S3Result<usize> {
    let most = asked.map_or(Ok(PAGE), usize::try_from);
    let most =
        most.map_err(|_negative| s3_error!(InvalidArgument, "the number of items must not be negative"))?;
    Ok(most.min(PAGE))
}

pub(super) fn shown(number: usize) -> Option<i32> {
    number.try_into().ok()
}

/// How names are written: as they are, or percent-encoded.
pub(super) fn encoding(asked: Option<&EncodingType>) -> S3Result<fn(&str) -> String> {
    match asked.map(EncodingType::as_str) {
        None => Ok(str::to_owned),
        Some(EncodingType::URL) => Ok(|name| utf8_percent_encode(name, UNENCODED).to_string()),
        Some(_) => Err(s3_error!(InvalidArgument, "the only encoding-type is url")),
    }
}

/// Continuation tokens are opaque, and independent of the encoding type.
fn to_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

fn from_token(token: &str) -> S3Result<String> {
    let last = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    last.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token isn't one of ours"))
}
