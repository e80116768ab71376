//! Uploads in parts (S3's multipart uploads): each part is stored as a value until all are joined into one.
//!
//! An upload is a note in the index. Its parts are values under internal keys ([`Key::part`]), which no request
//! can name. The parts exist as long as the note does. **The step that makes the joined value visible removes
//! the note**, and so does an abort: of several callers that end the same upload at once, one succeeds. A part
//! takes effect only while its upload is noted. So a part without a note belongs to no upload, whatever failed,
//! and is deleted: by the caller that ended the upload, or by the sweep after a crash.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::caller::Caller;
use super::core::Core;
use super::splice::Piece;
use super::terms::{Incoming, Terms};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::IndexError;
use crate::index::fold::{Folded, Item};
use crate::index::notes::{Note, Notes};
use crate::index::steps::{Conditions, Precondition, RequiredNote};
use crate::key::{Key, PARTS};
use crate::record::{Headers, Record, State};

/// Parts of an upload that ended are deleted this many at a time.
const DELETIONS: usize = 8;

/// The sweep holds this many upload numbers in memory at a time.
#[cfg(not(test))]
const SWEPT: usize = 100_000;
/// Fewer than the unit tests have.
#[cfg(test)]
const SWEPT: usize = 1;

/// A page of a listing of uploads.
#[derive(Debug)]
pub struct Uploads {
    /// For each upload its key, its number, and its note: when it was begun, and with which headers.
    pub rows: Vec<(Key, u64, Record)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<(Key, u64)>,
}

impl Core {
    pub(super) async fn begin_upload(&self, key: &Key, headers: Headers) -> Result<u64> {
        key.check().map_err(Error::InvalidKey)?;
        let upload = self.index.number().await?;
        let (state, md5, size, modified) = (State::Live, None, None, Some(Timestamp::now()));
        let record = Record { state, replicas: Vec::new(), md5, size, modified, headers };
        self.check_not_taken()?;
        self.index.set_note(&Note::Upload(key.clone(), upload), Some(&record)).await?;
        Ok(upload)
    }

    pub(super) async fn upload(&self, key: &Key, upload: u64) -> Result<Record> {
        self.index.note(&Note::Upload(key.clone(), upload)).await?.ok_or(Error::NoUpload)
    }

    pub(super) async fn uploads(&self, prefix: &[u8], start: Option<(Key, u64)>) -> Result<Uploads> {
        let start = start.map(|(key, upload)| Note::Upload(key, upload));
        let page = self.index.notes_page(Notes::Uploads, prefix, start.as_ref()).await?;
        let next = page.next_note().and_then(upload_noted);
        let rows = page.rows.into_iter().filter_map(|(note, record)| {
            let (key, upload) = upload_noted(note)?;
            Some((key, upload, record))
        });
        Ok(Uploads { rows: rows.collect(), next })
    }

    pub(super) async fn put_part<B>(
        self: &Arc<Self>,
        key: &Key,
        upload: u64,
        number: u16,
        body: Incoming<B>,
        mut terms: Terms,
    ) -> Result<Record>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        terms.conditions.required =
            Some(RequiredNote { note: Note::Upload(key.clone(), upload), ends: false });
        let part = Key::part(upload, number);
        self.run(&part.clone(), |store| async move { store.put(&part, None, body, terms).await }).await
    }

    pub(super) async fn parts(
        &self,
        key: &Key,
        upload: u64,
        start: u16,
        most: usize,
    ) -> Result<(Vec<(u16, Record)>, Option<u16>)> {
        let (mut parts, mut start) = (Vec::new(), Key::part(upload, start).as_bytes().to_vec());
        let next = 'scan: loop {
            let page = self.index.page(&parts_of(upload), &start, None).await?;
            for (key, record) in page.rows {
                let Some((_, number)) = key.as_part() else { continue };
                if parts.len() == most {
                    break 'scan Some(number);
                }
                parts.push((number, record));
            }
            match page.next {
                Some(next) => start = next,
                None => break None,
            }
        };
        // checked last: if the upload ended meanwhile, some parts are missing from the listing
        self.upload(key, upload).await?;
        Ok((parts, next))
    }

    pub(super) async fn complete_upload(
        self: &Arc<Self>,
        key: &Key,
        upload: u64,
        parts: Vec<(u16, Record)>,
        tap: impl FnMut(&Bytes) + Send + 'static,
        mut terms: Terms,
    ) -> Result<Record> {
        key.check().map_err(Error::InvalidKey)?;
        let pieces = parts.into_iter().map(|(number, record)| {
            let part = 0..record.size.unwrap_or_default();
            Piece { key: Key::part(upload, number), record, part }
        });
        let body = self.splice(pieces.collect(), tap);
        let length = Some(body.left());
        // a part changed, not the key's value
        let body = body.map_err(|error| if matches!(error, Error::Changed) { Error::Busy } else { error });
        let body = Incoming { length, body, md5: None };
        terms.conditions.required =
            Some(RequiredNote { note: Note::Upload(key.clone(), upload), ends: true });
        let written = key.clone();
        let stored = self.run(key, move |store| async move {
            let stored = store.put(&written, None, body, terms).await?;
            store.discard_parts(upload);
            Ok(stored)
        });
        match stored.await {
            // another caller ended the upload, and its parts are deleted
            Err(Error::Busy) if matches!(self.upload(key, upload).await, Err(Error::NoUpload)) => {
                Err(Error::NoUpload)
            }
            // these bytes come from volumes, not from a client
            Err(Error::Stalled) => Err(Error::Unreachable),
            stored => stored,
        }
    }

    pub(super) async fn abort_upload(self: &Arc<Self>, key: &Key, upload: u64) -> Result<()> {
        let note = Note::Upload(key.clone(), upload);
        self.run(key, move |store| async move {
            store.check_not_taken()?;
            if !store.index.end_note(&note).await? {
                return Err(Error::NoUpload);
            }
            store.discard_parts(upload);
            Ok(())
        })
        .await
    }
}

fn upload_noted(note: Note) -> Option<(Key, u64)> {
    match note {
        Note::Upload(key, upload) => Some((key, upload)),
        Note::Bucket(_) => None,
    }
}

/// Sweeps again and again until the store stops.
pub(super) async fn sweep_often(store: Arc<Core>) {
    loop {
        match AssertUnwindSafe(store.sweep()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the sweep for orphaned parts of uploads failed; it runs again later");
            }
            Err(_payload) => {
                tracing::error!("the sweep for orphaned parts of uploads panicked; it runs again later");
            }
        }
        tokio::select! {
            biased;
            () = store.stopping.cancelled() => return,
            () = store.sweep_now.notified() => {}
            () = sleep(store.options.sweep_every) => {}
        }
    }
}

impl Core {
    /// Deletes the parts of an upload that ended, in the background.
    fn discard_parts(self: &Arc<Self>, upload: u64) {
        let store = Arc::clone(self);
        self.tasks.spawn(async move { store.delete_parts(upload).await });
    }

    /// Deletes the parts of an upload that ended. The sweep finds parts that this leaves.
    async fn delete_parts(&self, upload: u64) {
        if let Err(error) = self.try_delete_parts(upload).await {
            tracing::error!(%error, upload, "parts of an ended upload can't be deleted now; the sweep finds them later");
        }
    }

    async fn try_delete_parts(&self, upload: u64) -> Result<()> {
        let prefix = parts_of(upload);
        let mut start = Vec::new();
        loop {
            let page = self.index.page(&prefix, &start, None).await?;
            let parts = stream::iter(page.rows).map(Ok);
            parts.try_for_each_concurrent(DELETIONS, |(part, _)| self.delete_part(part)).await?;
            match page.next {
                Some(next) if !self.stopping.is_cancelled() => start = next,
                _ => return Ok(()),
            }
        }
    }

    async fn delete_part(&self, part: Key) -> Result<()> {
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        let claim = self.claims.wait(&part, &Caller::default()).await?;
        match self.delete(&claim, Conditions::on(Precondition::Always)).await {
            // another caller deletes the same parts
            Err(Error::NotFound) => Ok(()),
            deleted => deleted,
        }
    }

    /// Aborts expired uploads, and deletes all parts whose upload isn't noted.
    async fn sweep(&self) -> std::result::Result<(), IndexError> {
        let mut start = PARTS.to_vec();
        loop {
            // parts are read before notes: an upload whose parts were seen was noted by then, so if its note
            // is gone now, it has ended
            let (mut ended, next) = self.uploads_with_parts(start).await?;
            self.look_at_notes(&mut ended).await?;
            for upload in ended {
                if self.stopping.is_cancelled() {
                    return Ok(());
                }
                tracing::info!(upload, "deleting the parts of an upload that ended");
                self.delete_parts(upload).await;
            }
            match next {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// Numbers of uploads that have parts, from `start` on, and where to continue.
    async fn uploads_with_parts(
        &self,
        mut start: Vec<u8>,
    ) -> std::result::Result<(BTreeSet<u64>, Option<Vec<u8>>), IndexError> {
        // the scan sees the parts of one upload as one folder, and seeks past it
        let folded = Folded { prefix: PARTS.to_vec(), delimiter: b"/".to_vec() };
        let mut uploads = BTreeSet::new();
        loop {
            let page = self.index.items(&folded, &start, SWEPT).await?;
            uploads.extend(page.rows.iter().filter_map(upload_of));
            match page.next {
                Some(next) if uploads.len() < SWEPT => start = next,
                next => return Ok((uploads, next)),
            }
        }
    }

    /// Removes from `ended` the uploads that are noted, ends those that have expired, and adds them.
    async fn look_at_notes(&self, ended: &mut BTreeSet<u64>) -> std::result::Result<(), IndexError> {
        let expiry = self.options.upload_expiry;
        let earliest = (!expiry.is_zero()).then(|| Timestamp::now().saturating_sub(expiry));
        let mut start = None;
        loop {
            let page = self.index.notes_page(Notes::Uploads, b"", start.as_ref()).await?;
            start = page.next_note();
            for (note, record) in page.rows {
                let Note::Upload(key, upload) = &note else { continue };
                if matches!((record.modified, earliest), (Some(begun), Some(earliest)) if begun < earliest) {
                    tracing::info!(%key, upload, "aborting an upload that was never completed");
                    self.index.end_note(&note).await?;
                    ended.insert(*upload);
                } else {
                    ended.remove(upload);
                }
            }
            if start.is_none() {
                return Ok(());
            }
        }
    }
}

/// The prefix of the keys of the upload's parts.
fn parts_of(upload: u64) -> Vec<u8> {
    format!("part/{upload:016x}/").into_bytes()
}

fn upload_of(item: &Item) -> Option<u64> {
    let Item::Folder(folder) = item else { return None };
    let digits = folder.strip_prefix(PARTS)?.strip_suffix(b"/")?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
