//! What the log is told of replicas: each thing once a minute, however many requests meet it.

use std::fmt;
use std::mem;
use std::sync::atomic::Ordering;

use super::core::Core;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::Key;
use crate::placement::Place;
use crate::record::Record;
use crate::volume::VolumeError;

/// What a line is about.
#[derive(Hash)]
enum About<'a> {
    Damage(&'a Key, &'a Place),
    Rot(&'a Key, &'a Place),
    Unreadable(&'a Key, &'a Place),
    CutOff(&'a Key, &'a Place),
    /// All keys share it: others have the same cause, mostly.
    NotRepaired(&'a str),
    /// All keys share it: it lies with the volume, for reasons of this kind.
    NotWritten(&'a str, mem::Discriminant<VolumeError>),
}

impl Core {
    /// Notes a replica that isn't whole; `found` is what its volume shows.
    ///
    /// Files are deleted after their record is replaced, so a file counts as damaged only if the key has the same value
    /// when it is looked up again.
    pub(super) async fn report_damage(
        &self,
        key: &Key,
        place: &Place,
        found: &(dyn fmt::Display + Sync),
        record: &Record,
    ) {
        let now = self.index.look(key).await;
        if !matches!(now, Ok(Some(now)) if now.is_same_value(record)) {
            return;
        }
        let so_far = self.damage.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let Some(left_out) = self.repeats.is_due(&About::Damage(key, place)) else { return };
        let (expected, more) = (described(record.size, record.modified), left_out.more());
        tracing::warn!(%key, %place, %found, expected, so_far, more, "replica missing, torn or stale");
    }

    /// Notes a replica whose bytes aren't the value's.
    pub(super) fn report_rot(&self, key: &Key, place: &Place) {
        let Some(left_out) = self.repeats.is_due(&About::Rot(key, place)) else { return };
        tracing::error!(%key, %place, more = left_out.more(), "a replica has wrong bytes");
    }

    /// Notes a replica that can't be copied from.
    pub(super) fn report_unreadable(&self, key: &Key, place: &Place, error: &VolumeError) {
        let Some(left_out) = self.repeats.is_due(&About::Unreadable(key, place)) else { return };
        tracing::warn!(%key, %place, %error, more = left_out.more(), "replica can't be read");
    }

    /// Notes a replica that broke off while it was read.
    pub(super) fn report_cut_off(&self, key: &Key, place: &Place, why: &str) {
        let Some(left_out) = self.repeats.is_due(&About::CutOff(key, place)) else { return };
        tracing::warn!(%key, %place, why, more = left_out.more(), "a replica can't be read to its end");
    }

    /// Notes a value that was stored while the disk was away, and can't be repaired yet.
    pub(super) fn report_not_repaired(&self, key: &Key, place: &Place, error: &Error) {
        let Some(left_out) = self.repeats.is_due(&About::NotRepaired(place.volume())) else { return };
        let more = left_out.more();
        tracing::warn!(%key, %place, %error, more, "its disk was away when it was stored, and it can't be repaired yet");
    }

    /// Notes a replica that its volume didn't take.
    pub(super) fn report_not_written(&self, key: &Key, place: &Place, error: &VolumeError) {
        let about = About::NotWritten(place.volume(), mem::discriminant(error));
        let Some(left_out) = self.repeats.is_due(&about) else { return };
        tracing::warn!(%key, %place, %error, more = left_out.more(), "replica not written");
    }
}

/// Describes a file, for the log.
fn described(size: Option<u64>, modified: Option<Timestamp>) -> String {
    let size = size.map_or_else(|| "a file of unknown size".to_owned(), |size| format!("{size} bytes"));
    modified.map_or_else(|| size.clone(), |modified| format!("{size} of {modified}"))
}
