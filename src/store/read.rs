//! Reads a value through the master, from whichever of its volumes serves it.

use std::ops::Range;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::core::Core;
use super::replicas::{can_be_file, is_whole, path};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::{Record, Replica};
use crate::volume::Download;

/// A part of a value that is being read. Where a volume fails midway, the next one continues.
pub struct Reading {
    store: Arc<Core>,
    key: Key,
    record: Record,
    /// Replicas that weren't tried yet.
    untried: vec::IntoIter<Replica>,
    /// The bytes that are still to be read.
    left: Range<u64>,
    source: Option<(Replica, Download)>,
    /// Whether some volume couldn't be asked.
    unsure: bool,
}

impl Core {
    /// The record of the key's live value, with its size: where an old record has none, the volumes are asked.
    pub(super) async fn stat(&self, key: &Key) -> Result<Record> {
        let record = self.live(key).await?;
        if record.size.is_some() {
            return Ok(record);
        }
        let record = self.locate(key).await?.record;
        let size = Some(self.size_of(key, &record).await?);
        Ok(Record { size, ..record })
    }

    /// Opens a part of the value that [`Core::stat`] found.
    pub(super) async fn read(
        self: &Arc<Self>,
        key: &Key,
        record: Record,
        part: Range<u64>,
    ) -> Result<Reading> {
        let untried: Vec<_> = self.by_likelihood(key, &record).map(|(_, replica)| replica.clone()).collect();
        let untried = untried.into_iter();
        let (store, key) = (Arc::clone(self), key.clone());
        let mut reading = Reading { store, key, record, untried, left: part, source: None, unsure: false };
        if reading.left.is_empty() {
            reading.check_unchanged().await?;
        } else {
            reading.open().await?;
        }
        Ok(reading)
    }
}

impl Reading {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    ///
    /// As [`Store::read`](super::Store::read).
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            let Some((replica, source)) = &mut self.source else {
                self.open().await?;
                continue;
            };
            let why = match source.next().await {
                Ok(Some(mut piece)) => {
                    let left = self.left.end - self.left.start;
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    self.left.start += piece.len() as u64;
                    if self.left.is_empty() {
                        // reading the body's end gives the connection back
                        drop(source.next().await);
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => "it ended too early".to_owned(),
                Err(error) => error.to_string(),
            };
            let (key, place) = (&self.key, &replica.place);
            self.store.report_cut_off(key, place, &why);
            (self.source, self.unsure) = (None, true);
        }
        Ok(None)
    }

    /// Opens the next replica that has the value, where the one before it ended.
    async fn open(&mut self) -> Result<()> {
        while let Some(replica) = self.untried.next() {
            if !can_be_file(&self.key, &replica) {
                continue;
            }
            // by now the name may belong to another value
            self.check_unchanged().await?;
            let volume = self.store.volume(&replica);
            if volume.is_silent() {
                self.unsure = true;
                continue;
            }
            // nginx answers a Range that covers the whole file like any other
            let opened = volume.get(&path(&self.key, &replica), Some(self.left.clone())).await;
            let (key, place) = (&self.key, &replica.place);
            match opened {
                Ok(source) if is_whole(source.seen, &self.record) => {
                    self.source = Some((replica, source));
                    return Ok(());
                }
                Ok(source) => self.store.report_damage(key, place, &source.seen, &self.record).await,
                Err(error) if error.is_not_found() => {
                    self.store.report_damage(key, place, &"no file", &self.record).await;
                }
                Err(error) if error.is_beyond_end() => {
                    let found = "a file that is too short";
                    self.store.report_damage(key, place, &found, &self.record).await;
                }
                Err(error) => {
                    tracing::debug!(%key, %place, %error, "replica passed over");
                    self.unsure = true;
                }
            }
        }
        // files are deleted after their record is replaced: a missing file counts against a volume only if the
        // record is unchanged
        self.check_unchanged().await?;
        Err(if self.unsure { Error::Unreachable } else { Error::Damaged })
    }

    /// Checks that the key still holds the value that is being read. (A name isn't reused while readers of its
    /// last value may be on their way.)
    async fn check_unchanged(&self) -> Result<()> {
        let now = self.store.live(&self.key).await?;
        if now.is_same_value(&self.record) { Ok(()) } else { Err(Error::Changed) }
    }
}
