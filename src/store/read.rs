//! Reading a value through the master, from whichever of its volumes serves.

use std::ops::Range;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::{Core, Store, can_be_file, is_whole, path};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::{Record, Replica};
use crate::volume::{Download, VolumeError};

/// A part of a value on its way out. Where a volume fails in the middle of it, the next one goes on.
pub struct Reading {
    store: Arc<Core>,
    key: Key,
    record: Record,
    /// Replicas that weren't tried yet.
    untried: vec::IntoIter<Replica>,
    /// What is still to be read.
    left: Range<u64>,
    source: Option<(Replica, Download)>,
    /// Whether some volume couldn't be asked.
    unsure: bool,
}

impl Store {
    /// What the index knows of the key's live value.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Index`.
    pub fn record(&self, key: &Key) -> Result<Record> {
        self.0.live(key)
    }

    /// What the index knows of the key's live value, with its size: where an old record has none, the
    /// volumes are asked.
    ///
    /// # Errors
    ///
    /// As [`Store::locate`].
    pub async fn stat(&self, key: &Key) -> Result<Record> {
        let mut record = self.0.live(key)?;
        if record.size.is_none() {
            record = self.locate(key).await?.record;
            let mut verdict = Error::Damaged;
            for replica in &record.replicas {
                match self.0.check(key, replica, &record).await {
                    Ok(None) => {}
                    Ok(size) => return Ok(Record { size, ..record }),
                    Err(_) => verdict = Error::Unreachable,
                }
            }
            return Err(verdict);
        }
        Ok(record)
    }

    /// Opens a part of the value that [`Store::stat`] found: the bytes of that range, which lies within it.
    /// The first of them is ready when this returns.
    ///
    /// # Errors
    ///
    /// `NotFound` and `Changed` when the key doesn't hold that value any more; `Unreachable` when some volume
    /// couldn't be asked and no other had the value; `Damaged` when all were asked.
    pub async fn read(&self, key: &Key, record: Record, part: Range<u64>) -> Result<Reading> {
        let untried: Vec<_> = self.0.by_likelihood(&record).map(|(_, replica)| replica.clone()).collect();
        let untried = untried.into_iter();
        let (store, key) = (Arc::clone(&self.0), key.clone());
        let mut reading = Reading { store, key, record, untried, left: part, source: None, unsure: false };
        if reading.left.is_empty() {
            reading.check_unchanged()?;
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
    /// As [`Store::read`].
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
                        // its end gives the connection back; nothing more is to come
                        drop(source.next().await);
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => "it ended too early".to_owned(),
                Err(error) => error.to_string(),
            };
            let (key, place) = (&self.key, &replica.place);
            tracing::warn!(%key, %place, why, "a replica can't be read to its end");
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
            // the name may be another value's by now
            self.check_unchanged()?;
            let volume = self.store.volume(&replica);
            if volume.is_down() {
                self.unsure = true;
                continue;
            }
            // nginx answers a Range that is all of a file as any other
            let opened = volume.get(&path(&self.key, &replica), Some(self.left.clone())).await;
            let (key, place) = (&self.key, &replica.place);
            match opened {
                Ok(source) if is_whole(source.seen, &self.record) => {
                    self.source = Some((replica, source));
                    return Ok(());
                }
                Ok(source) => self.store.note_damage(key, place, Some(source.seen), &self.record),
                // a file that is too short can't serve the range
                Err(VolumeError::Refused(status)) if matches!(status.as_u16(), 404 | 416) => {
                    self.store.note_damage(key, place, None, &self.record);
                }
                Err(error) => {
                    tracing::debug!(%key, %place, %error, "replica passed over");
                    self.unsure = true;
                }
            }
        }
        // files go after the record that named them: only an unchanged record accuses its volumes
        self.check_unchanged()?;
        Err(if self.unsure { Error::Unreachable } else { Error::Damaged })
    }

    /// That the key still holds the value that is being read. (No name is used again while readers of its
    /// last value may be on their way.)
    fn check_unchanged(&self) -> Result<()> {
        let now = self.store.live(&self.key)?;
        let same = now.replicas == self.record.replicas
            && (now.md5, now.modified) == (self.record.md5, self.record.modified);
        if same { Ok(()) } else { Err(Error::Changed) }
    }
}
