//! PUT, DELETE, UNLINK and RELINK: a new value, one in the place of another, none any more, a hidden one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::attempt::{Attempt, ClaimMode};
use super::caller::Caller;
use super::claims::Claim;
use super::core::{Core, carried_out};
use super::fanout::Fanout;
use super::terms::{Incoming, Received, Terms};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::steps::{Conditions, MAX_INTENTS, Precondition};
use crate::key::{Key, Name};
use crate::placement::Place;
use crate::record::{Headers, Intent, Record, State};
use crate::source::Source;

impl Core {
    /// Stores a value under a key that has none.
    pub(super) async fn put_new<B>(
        self: &Arc<Self>,
        key: &Key,
        incoming: Incoming<B>,
        caller: Caller,
    ) -> Result<()>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        key.check().map_err(Error::InvalidKey)?;
        if incoming.length == Some(0) {
            return Err(Error::Empty);
        }
        let finish = Box::new(|_received| Ok(Headers::new()));
        let terms = Terms { may_be_empty: false, ..Terms::new(Precondition::Absent, finish, caller.clone()) };
        let put = |store: Arc<Self>, claim: Claim| async move {
            store.put(claim.key(), Some(&claim), incoming, terms).await.map(drop)
        };
        self.write(key, &caller, put).await
    }

    /// Stores a value in the place of whatever the key holds.
    pub(super) async fn replace<B>(
        self: &Arc<Self>,
        key: &Key,
        incoming: Incoming<B>,
        terms: Terms,
    ) -> Result<Record>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        key.check().map_err(Error::InvalidKey)?;
        let written = key.clone();
        self.run(key, |store| async move { store.put(&written, None, incoming, terms).await }).await
    }

    /// Stores a value. Without the key's claim, others may write the key meanwhile.
    pub(super) async fn put<B>(
        &self,
        key: &Key,
        claim: Option<&Claim>,
        incoming: Incoming<B>,
        terms: Terms,
    ) -> Result<Record>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display + 'static,
    {
        let Terms { mut conditions, finish, may_be_empty, caller } = terms;
        conditions.protect = self.protects(key);
        let (candidates, name) = self.prepare(key, claim, &conditions).await?;
        let mode = claim.map_or(ClaimMode::PerWrite(&caller), ClaimMode::WholeAttempt);
        let mut attempt = Attempt::begin(self, key, mode, conditions).await?;
        // beside the attempt's number, which decides which of two attempts replaces the other
        let modified = Timestamp::now();
        let name = name.unwrap_or(attempt.own_name());

        let Incoming { body, mut length, md5: announced } = incoming;
        let mut source = Source::new(body, self.options.client_idle, self.options.md5 || announced.is_some());
        let first = match source.next().await? {
            Some(first) => first,
            None if may_be_empty && length.unwrap_or(0) == 0 => {
                length = Some(0);
                Bytes::new()
            }
            None if length.is_some_and(|length| length > 0) => return Err(Error::CutShort),
            None => return Err(Error::Empty),
        };
        let begun = Instant::now();
        let fanout = Fanout::new(self, &mut attempt, name, length, modified.seconds(), candidates);
        let sent = fanout.send(first, &mut source).await;
        let received = Received { size: source.size(), md5: source.md5().await };
        let checked = sent.and_then(|replicas| {
            if announced.is_some() && announced != received.md5 {
                return Err(Error::WrongMd5);
            }
            Ok((replicas, finish(received)?))
        });
        let (replicas, headers) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                attempt.abandon().await;
                return Err(error);
            }
        };
        let record = Record {
            state: State::Live,
            replicas,
            md5: received.md5.filter(|_| self.options.md5),
            size: Some(received.size),
            modified: Some(modified),
            headers,
        };
        attempt.take_effect(record.clone()).await?;
        // else the first volume's word may be old
        if begun.elapsed() < self.options.recheck {
            for replica in &record.replicas {
                self.seen_whole.note(&(key, replica));
            }
        }
        Ok(record)
    }

    /// Refuses what can be refused before the body is read. Tells where the value may go, and that it takes the
    /// key's plain name where that is free.
    async fn prepare(
        &self,
        key: &Key,
        claim: Option<&Claim>,
        conditions: &Conditions,
    ) -> Result<(VecDeque<Place>, Option<Name>)> {
        let entry = self.index.entry(key).await?;
        let noted = self.is_noted(conditions.required.as_ref()).await?;
        conditions.check(entry.record.as_ref(), noted)?;
        if entry.intents.len() >= MAX_INTENTS {
            return Err(Error::Unsettled);
        }
        let (candidates, needed) = (self.candidates(key), self.options.placement.replicas);
        if candidates.len() < needed {
            return Err(Error::TooFewVolumes { able: candidates.len(), needed, refused: None });
        }
        let unused = entry.record.is_none()
            && entry.intents.is_empty()
            && !self.deleted.has(key)
            && self.own_from() == 0;
        let plain = unused && claim.is_some() && key.has_plain_name() && !self.options.generation_names;
        Ok((candidates, plain.then_some(Name::Plain)))
    }

    /// Removes whatever the key holds, and waits for others who write it.
    pub(super) async fn remove(
        self: &Arc<Self>,
        key: &Key,
        precondition: Precondition,
        caller: &Caller,
    ) -> Result<()> {
        let claim = self.claims.wait(key, caller).await?;
        let conditions = Conditions::on(precondition);
        self.run(key, |store| async move { store.delete(&claim, conditions).await }).await
    }

    /// Hides the key, or shows it again.
    pub(super) async fn set_state(self: &Arc<Self>, key: &Key, state: State, caller: &Caller) -> Result<()> {
        let set = move |store: Arc<Self>, claim: Claim| async move {
            store.check_not_taken()?;
            carried_out(store.index.set_state(claim.key(), state).await?).map(drop)
        };
        self.write(key, caller, set).await
    }

    /// Removes whatever the key holds, if the conditions allow that at that moment.
    pub(super) async fn delete(&self, claim: &Claim, mut conditions: Conditions) -> Result<()> {
        let key = claim.key();
        conditions.protect = self.protects(key);
        // most refusals end here: they take no number, and wait for no other write
        let record = self.index.look(key).await?.ok_or(Error::NotFound)?;
        conditions.check(Some(&record), false)?;
        let id = self.index.number().await?;
        self.check_not_taken()?;
        let removed = carried_out(self.index.remove(key, id, conditions).await?)?.replaced;
        self.deleted.note(key);
        // the key is gone; the files that can't be deleted now are the reaper's
        let files = removed.map(|record| record.replicas).unwrap_or_default();
        self.settle(claim, Intent { id, files }, true).await;
        Ok(())
    }
}
