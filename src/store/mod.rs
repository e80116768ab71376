//! Keys and values: the write protocol, in which the index and the volumes are written.
//!
//! Two invariants carry it:
//!
//! 1. **The index names every volume that may hold bytes of a key, before it does**: in the key's
//!    record, or in an intent.
//! 2. **A name on a volume is the target of one attempt only.** nginx ignores conditions on PUT and
//!    DELETE, so only unique names keep a delayed request from touching a newer value. A PUT takes the key's
//!    plain name where the index knows neither a record nor an intent of the key, nobody has deleted the key a
//!    moment ago, and the PUT holds the key's claim throughout; a REBALANCE keeps the name that it moves where
//!    no intent has it on the new volume. Every other attempt takes a fresh generation name.
//!
//! An intent is *open* while its attempt is under way, and *closed* from then on; an intent that is found at
//! start-up is closed. The reaper deletes the files of closed ones.
//!
//! After a write of the index that failed, reads may not show what is on the disk until the index is opened again
//! (`recovery`): files are deleted only because of what was read when no write had failed.
//!
//! Every write that has begun runs to its end: a client that leaves cuts it short nowhere but at its body.
//!
#![doc = include_str!("guide.md")]

mod attempt;
mod buckets;
mod caller;
mod claims;
mod copy;
mod core;
mod fanout;
mod lifetime;
mod listings;
mod lookout;
#[cfg(test)]
mod model;
mod ownership;
mod put;
mod queue;
mod read;
mod reaper;
mod rebalance;
mod recent;
mod recheck;
mod recovery;
mod register;
mod repeats;
mod replicas;
mod reports;
mod run_to_end;
mod sample;
mod splice;
mod standing;
mod survey;
mod terms;
mod under_way;
mod uploads;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::index::steps::Conditions;
use crate::key::Key;
use crate::record::{Headers, Record, State};
use crate::volume::{Addresses, Volumes};

use self::core::Core;
use caller::Caller;
use terms::Terms;

pub use self::core::{Forgotten, Options};
pub use crate::index::fold::{Folded, Item, beyond};
pub use crate::index::steps::Precondition;
pub use crate::index::{Dump, Index, IndexError, Listed, Page};
pub use buckets::{BucketError, Buckets, Lease};
pub use lifetime::NotReady;
pub use read::Reading;
pub use rebalance::Rebalanced;
pub use replicas::Located;
pub(crate) use sample::sample;
pub use splice::{Piece, Spliced};
pub use standing::{IdentifyError, Standing};
pub use survey::{Look, Survey, check_for_a_new_index, follow};
pub use terms::{Incoming, Received};
pub use uploads::Uploads;

/// The key-value store. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Store(Arc<Core>, Option<Caller>);

/// Beginning and end.
impl Store {
    /// A store over that index and those volumes. [`Store::start`] begins what runs in the background.
    #[must_use]
    pub fn new(index: Index, volumes: Volumes, options: Options) -> Self {
        Self(Arc::new(Core::new(index, volumes, options, self::core::random)), None)
    }

    /// The store for one request: all its writes together wait for keys that others are writing as long as one write
    /// waits otherwise, and those that still wait when the client is `gone` are given up.
    #[must_use]
    pub fn for_request(&self, gone: CancellationToken) -> Self {
        Self(Arc::clone(&self.0), Some(Caller::new(gone)))
    }

    fn caller(&self) -> Caller {
        self.1.clone().unwrap_or_default()
    }

    /// Takes up the intents that an earlier run left, and reaps in the background from then on.
    ///
    /// # Errors
    ///
    /// The index can't be read, or isn't the one that was used last.
    pub async fn start(&self) -> std::result::Result<(), IdentifyError> {
        lifetime::start(&self.0).await
    }

    /// Looks at the identity of the volumes, for a program that runs no longer than that: tells how each stands.
    ///
    /// # Errors
    ///
    /// The index can't be read or written, or isn't the one that was used last.
    pub async fn identify(&self) -> std::result::Result<Vec<(String, Standing)>, IdentifyError> {
        lifetime::take_over(&self.0).await
    }

    /// As [`Store::identify`], for a program that writes nothing: the index and the volumes stay as they are.
    ///
    /// # Errors
    ///
    /// The index can't be read, or isn't the one that was used last.
    pub async fn inspect(&self) -> std::result::Result<Vec<(String, Standing)>, IdentifyError> {
        self.0.inspect().await
    }

    /// Is cancelled when another program with a copy of the index has taken the volumes over: from then on, nothing that
    /// is written is acknowledged, and every write fails with `Unreachable`.
    #[must_use]
    pub fn taken_over(&self) -> CancellationToken {
        self.0.taken.clone()
    }

    /// Deletes the files of all unfinished attempts, for a program that runs no longer than that, and returns the
    /// number of those that no volume confirmed to be gone.
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub async fn reap_once(&self) -> std::result::Result<u64, IndexError> {
        self.0.reap_once().await
    }

    /// Lets what runs finish, for at most `grace`, and closes the index: whoever still has the store gets errors.
    pub async fn stop(self, grace: Duration) {
        lifetime::stop(&self.0, grace).await;
    }

    /// Whether values can be stored now: the index can be written, and enough volumes are up.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn check_ready(&self) -> std::result::Result<(), NotReady> {
        lifetime::check_ready(&self.0)
    }

    /// Where its volumes are.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        self.0.volumes.addresses()
    }

    /// How it behaves.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }
}

/// Values.
impl Store {
    /// Finds a whole replica of the key's value.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Unreachable` when some volume couldn't be asked and no other had the value;
    /// `Damaged` when all were asked.
    pub async fn locate(&self, key: &Key) -> Result<Located> {
        self.0.locate(key).await
    }

    /// What the index knows of the key's live value.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Index`.
    pub async fn record(&self, key: &Key) -> Result<Record> {
        self.0.live(key).await
    }

    /// As [`Store::record`], with the size: where an old record has none, the volumes are asked.
    ///
    /// # Errors
    ///
    /// As [`Store::locate`].
    pub async fn stat(&self, key: &Key) -> Result<Record> {
        self.0.stat(key).await
    }

    /// Opens a part of the value that [`Store::stat`] found: the bytes of that range, which lies within it.
    /// The first of them is ready when this returns.
    ///
    /// # Errors
    ///
    /// `NotFound` and `Changed` when the key doesn't hold that value any more; `Unreachable` when some volume
    /// couldn't be asked and no other had the value; `Damaged` when all were asked.
    pub async fn read(&self, key: &Key, record: Record, part: Range<u64>) -> Result<Reading> {
        self.0.read(key, record, part).await
    }

    /// The bytes of these pieces, one after the other, which `tap` sees. It fails with `Changed` when a key doesn't
    /// hold the piece's value any more, and otherwise as [`Store::read`].
    #[must_use]
    pub fn splice(&self, pieces: Vec<Piece>, tap: impl FnMut(&Bytes) + Send + 'static) -> Spliced {
        self.0.splice(pieces, tap)
    }

    /// Stores a new value, and returns when all its replicas are whole and the index has it. Refusals come before
    /// the body is read. Other writers of the key are refused meanwhile.
    ///
    /// # Errors
    ///
    /// `InvalidKey`, `Empty`, `Exists`, `Busy`, `TooManyWaiters`, `Unsettled`, `WrongMd5`, `CutShort`, `Stalled`,
    /// `TooFewVolumes`, `Full`: nothing was stored. `Index`: it may be stored, or not.
    pub async fn put<B>(&self, key: &Key, incoming: Incoming<B>) -> Result<()>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + Unpin + 'static,
    {
        self.0.put_new(key, incoming, self.caller()).await
    }

    /// Stores a value in the place of whatever the key holds, if the precondition allows that at the moment when
    /// it takes effect: readers see the old one or the new one. It may be empty. Others may write the key
    /// meanwhile. `finish` sees the value before it takes effect, and gives its headers, or refuses it.
    ///
    /// # Errors
    ///
    /// As [`Store::put`], and those of the precondition, of `finish`, and of a body that says them itself, as
    /// [`Spliced`] does: nothing was stored. `Busy`: others had the key for too long, or an attempt that began
    /// later has already taken effect, on a condition that this one would break.
    pub async fn replace(
        &self,
        key: &Key,
        incoming: Incoming<impl Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + Unpin + 'static>,
        precondition: Precondition,
        finish: impl FnOnce(Received) -> Result<Headers> + Send + 'static,
    ) -> Result<Record> {
        let terms = Terms::new(precondition, Box::new(finish), self.caller());
        self.0.replace(key, incoming, terms).await
    }

    /// Removes the key: it is never served or listed again.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Busy`, `TooManyWaiters`, `Protected` (live, and the store protects).
    pub async fn delete(&self, key: &Key) -> Result<()> {
        let conditions = Conditions::on(Precondition::Always);
        let delete = |store: Arc<Core>, claim| async move { store.delete(&claim, conditions).await };
        self.0.write(key, &self.caller(), delete).await
    }

    /// Removes the key as [`Store::delete`], if the precondition allows that; waits for others who write it.
    ///
    /// # Errors
    ///
    /// As [`Store::delete`], and those of the precondition.
    pub async fn remove(&self, key: &Key, precondition: Precondition) -> Result<()> {
        self.0.remove(key, precondition, &self.caller()).await
    }

    /// Hides the key, or with `Live` undoes that.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such key in the other state, `Busy`, `TooManyWaiters`.
    pub async fn set_state(&self, key: &Key, state: State) -> Result<()> {
        self.0.set_state(key, state, &self.caller()).await
    }
}

/// Uploads in parts.
impl Store {
    /// Begins an upload in parts to the key, with the headers of its value, and gives its number.
    ///
    /// # Errors
    ///
    /// `InvalidKey`, `Index`.
    pub async fn begin_upload(&self, key: &Key, headers: Headers) -> Result<u64> {
        self.0.begin_upload(key, headers).await
    }

    /// When the upload was begun, and with which headers.
    ///
    /// # Errors
    ///
    /// `NoUpload`, `Index`.
    pub async fn upload(&self, key: &Key, upload: u64) -> Result<Record> {
        self.0.upload(key, upload).await
    }

    /// A page of the uploads that go on to keys with that prefix, by key and number, from one on.
    ///
    /// # Errors
    ///
    /// `Index`.
    pub async fn uploads(&self, prefix: &[u8], start: Option<(Key, u64)>) -> Result<Uploads> {
        self.0.uploads(prefix, start).await
    }

    /// Stores a part of the upload as [`Store::replace`] does, in the place of an earlier one of that number.
    ///
    /// # Errors
    ///
    /// As [`Store::replace`], and `NoUpload`: nothing was stored.
    pub async fn put_part(
        &self,
        key: &Key,
        upload: u64,
        number: u16,
        incoming: Incoming<impl Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + Unpin + 'static>,
        finish: impl FnOnce(Received) -> Result<Headers> + Send + 'static,
    ) -> Result<Record> {
        let terms = Terms::new(Precondition::Always, Box::new(finish), self.caller());
        self.0.put_part(key, upload, number, incoming, terms).await
    }

    /// At most `most` parts of the upload, from the number `start` on, and the number of the next one.
    ///
    /// # Errors
    ///
    /// `NoUpload`, `Index`.
    pub async fn parts(
        &self,
        key: &Key,
        upload: u64,
        start: u16,
        most: usize,
    ) -> Result<(Vec<(u16, Record)>, Option<u16>)> {
        self.0.parts(key, upload, start, most).await
    }

    /// Makes the key's value of these parts, in this order, and ends the upload. Readers see what the key
    /// held, or the whole of the new value; if it can't be stored, the upload is as it was.
    /// `tap` sees the bytes on their way; `precondition` and `finish` are those of [`Store::replace`].
    ///
    /// # Errors
    ///
    /// As [`Store::replace`]; `NoUpload`; `Busy`, too, when a part isn't the one any more that is given;
    /// `Unreachable` or `Damaged` when one can't be read.
    pub async fn complete_upload(
        &self,
        key: &Key,
        upload: u64,
        parts: Vec<(u16, Record)>,
        precondition: Precondition,
        tap: impl FnMut(&Bytes) + Send + 'static,
        finish: impl FnOnce(Received) -> Result<Headers> + Send + 'static,
    ) -> Result<Record> {
        let terms = Terms::new(precondition, Box::new(finish), self.caller());
        self.0.complete_upload(key, upload, parts, tap, terms).await
    }

    /// Ends the upload, and deletes its parts in the background.
    ///
    /// # Errors
    ///
    /// `NoUpload`, `Index`.
    pub async fn abort_upload(&self, key: &Key, upload: u64) -> Result<()> {
        self.0.abort_upload(key, upload).await
    }
}

/// What there is, and where it lies; the keys themselves are in `listings`.
impl Store {
    /// The buckets. Unless `strict`, the first segment of any key is one, too.
    #[must_use]
    pub fn buckets(&self, strict: bool) -> Buckets {
        Buckets::new(Arc::clone(&self.0), strict)
    }

    /// Begins a dump of the index, as [`Index::dump`].
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub async fn dump(&self) -> std::result::Result<Dump, IndexError> {
        // not the store itself: a client that reads slowly mustn't keep it from being closed
        let (claims, under_way) = (Arc::clone(&self.0.claims), self.0.under_way.clone());
        self.0.index.dump(move |key, id| claims.is_requested(key) || under_way.contains(id)).await
    }

    /// Moves the value of the key to where the volumes want it, and makes good what is missing.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Busy`, `TooManyWaiters`, `Unreachable`, `Damaged`; `Unbalanced` where a volume has no room, and
    /// `Full` where the value has fewer replicas than it should have, too: nothing was changed.
    pub async fn rebalance(&self, key: &Key) -> Result<Rebalanced> {
        self.0.write(key, &self.caller(), |store, claim| async move { store.rebalance(&claim).await }).await
    }

    /// What [`Store::rebalance`] would do now.
    ///
    /// # Errors
    ///
    /// As [`Store::rebalance`].
    pub async fn plan_rebalance(&self, key: &Key) -> Result<Rebalanced> {
        self.0.plan_rebalance(key).await
    }

    /// Drops the files on forgotten volumes from all intents, and what is known of these volumes; returns how many
    /// files those were.
    ///
    /// # Errors
    ///
    /// The index can't be read or written.
    pub async fn forget(&self) -> Result<u64> {
        self.0.forget().await
    }
}
