//! Reads a value through the master, from whichever of its volumes serves it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::core::Core;
use super::replicas::{can_be_file, is_whole, path};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::pauses::LET_GO;
use crate::record::{Record, Replica};
use crate::volume::Download;

/// A part of a value that is being read. Where a volume fails midway, the next one continues.
pub struct Reading {
    store: Arc<Core>,
    key: Key,
    record: Record,
    /// Replicas that weren't tried yet.
    untried: VecDeque<Replica>,
    /// Whether the next of them was read up to here, and may have been let go only because the reader paused.
    resumes: bool,
    /// The bytes that are still to be read.
    left: Range<u64>,
    source: Option<Source>,
    /// Since when nobody reads: the last piece was handed over then.
    idle_since: Instant,
    /// Whether some volume couldn't be asked.
    unsure: bool,
}

/// A replica that is being read.
struct Source {
    replica: Replica,
    download: Download,
    /// Whether the reader paused for so long that the volume may have hung up for that.
    may_be_let_go: bool,
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
        let untried = self.by_likelihood(key, &record).map(|(_, replica)| replica.clone()).collect();
        let (store, key, idle_since) = (Arc::clone(self), key.clone(), Instant::now());
        let mut reading = Reading {
            store,
            key,
            record,
            untried,
            resumes: false,
            left: part,
            source: None,
            idle_since,
            unsure: false,
        };
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
        if let Some(source) = &mut self.source {
            source.may_be_let_go |= self.idle_since.elapsed() >= LET_GO;
        }
        let next = self.read_on().await;
        self.idle_since = Instant::now();
        next
    }

    async fn read_on(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            let Some(source) = &mut self.source else {
                self.open().await?;
                continue;
            };
            let why = match source.download.next().await {
                Ok(Some(mut piece)) => {
                    let left = self.left.end - self.left.start;
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    self.left.start += piece.len() as u64;
                    if self.left.is_empty() {
                        // reading the body's end gives the connection back
                        drop(source.download.next().await);
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => "it ended too early".to_owned(),
                Err(error) => error.to_string(),
            };
            let Some(Source { replica, may_be_let_go, .. }) = self.source.take() else { continue };
            if may_be_let_go {
                tracing::debug!(key = %self.key, place = %replica.place, why, "asked for the rest after a pause");
                self.untried.push_front(replica);
                self.resumes = true;
            } else {
                self.pass_over(&replica, &why, true);
            }
        }
        Ok(None)
    }

    /// Opens the next replica that has the value, where the one before it ended.
    async fn open(&mut self) -> Result<()> {
        while let Some(replica) = self.untried.pop_front() {
            if !can_be_file(&self.key, &replica) {
                continue;
            }
            let resumes = std::mem::take(&mut self.resumes);
            // by now the name may belong to another value
            self.check_unchanged().await?;
            let volume = self.store.volume(&replica);
            if volume.is_silent() {
                self.pass_over(&replica, &"its volume is down", resumes);
                continue;
            }
            // nginx answers a Range that covers the whole file like any other
            let opened = volume.get(&path(&self.key, &replica), Some(self.left.clone())).await;
            let (key, place) = (&self.key, &replica.place);
            match opened {
                Ok(download) if is_whole(download.seen, &self.record) => {
                    self.source = Some(Source { replica, download, may_be_let_go: false });
                    return Ok(());
                }
                Ok(download) => {
                    self.store.report_damage(key, place, &download.seen, &self.record).await;
                }
                Err(error) if error.is_not_found() => {
                    self.store.report_damage(key, place, &"no file", &self.record).await;
                }
                Err(error) if error.is_beyond_end() => {
                    let found = "a file that is too short";
                    self.store.report_damage(key, place, &found, &self.record).await;
                }
                Err(error) => self.pass_over(&replica, &error, resumes),
            }
        }
        // files are deleted after their record is replaced: a missing file counts against a volume only if the
        // record is unchanged
        self.check_unchanged().await?;
        Err(if self.unsure { Error::Unreachable } else { Error::Damaged })
    }

    /// Notes that a replica, of which some bytes were read or none, can't be read at the moment.
    fn pass_over(&mut self, replica: &Replica, why: &dyn Display, read_in_part: bool) {
        let (key, place) = (&self.key, &replica.place);
        if read_in_part {
            self.store.report_cut_off(key, place, &why.to_string());
        } else {
            tracing::debug!(%key, %place, %why, "replica passed over");
        }
        self.unsure = true;
    }

    /// Checks that the key still holds the value that is being read. (A name isn't reused while readers of its
    /// last value may be on their way.)
    async fn check_unchanged(&self) -> Result<()> {
        let now = self.store.live(&self.key).await?;
        if now.is_same_value(&self.record) { Ok(()) } else { Err(Error::Changed) }
    }
}
