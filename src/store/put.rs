//! PUT: a new value, or one in the place of another.

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::claims::Claim;
use super::fanout::Fanout;
use super::{Core, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::notes::RequiredNote;
use crate::key::{Key, Name};
use crate::record::{Headers, Record, State};
use crate::source::Source;

/// A value on its way in.
#[derive(Debug)]
pub struct Incoming<B> {
    /// Its bytes.
    pub body: B,
    /// How many bytes were announced, if they were.
    pub length: Option<u64>,
    /// The MD5 that was announced, to be checked.
    pub md5: Option<[u8; 16]>,
}

/// What a key must hold for a write to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing that is live.
    Absent,
    /// Anything, or nothing.
    Always,
    /// A live value, whichever.
    Live,
    /// A live value of that [tag](Record::tag).
    Tagged(String),
}

/// What is known of a value when its last byte was read, and none of it is visible yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub size: u64,
    /// Its MD5, where that is computed.
    pub md5: Option<[u8; 16]>,
}

impl Precondition {
    /// Whether a write may take effect on a key that has this record.
    ///
    /// # Errors
    ///
    /// `Exists`; `Changed` or `NotFound` where another value was expected.
    pub fn check(&self, record: Option<&Record>) -> Result<()> {
        let live = record.filter(|record| record.state == State::Live);
        match (self, live) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Live, Some(_)) => Ok(()),
            (Self::Absent, Some(_)) => Err(Error::Exists),
            (Self::Live | Self::Tagged(_), None) => Err(Error::NotFound),
            (Self::Tagged(tag), Some(record)) if record.tag() == *tag => Ok(()),
            (Self::Tagged(_), Some(_)) => Err(Error::Changed),
        }
    }
}

/// On which terms a value is stored.
pub(super) struct Terms {
    pub(super) when: Precondition,
    /// What must be noted, too.
    pub(super) required: Option<RequiredNote>,
    /// Sees the value before it takes effect, and gives its headers, or refuses it.
    pub(super) finish: Box<dyn FnOnce(Received) -> Result<Headers> + Send>,
    /// Whether it may have no bytes.
    pub(super) may_be_empty: bool,
}

impl Store {
    /// Stores a new value, and returns when all its replicas are whole and the index has it.
    ///
    /// Refusals come before the body is read. Whoever else wants to write the key meanwhile is refused.
    ///
    /// # Errors
    ///
    /// `KeyError`, `Empty`, `Exists`, `Busy`, `Unsettled`, `WrongMd5`, `CutShort`, `Stalled`,
    /// `TooFewVolumes`, `Full`: nothing was stored. `Index`: it may be stored, or not.
    pub async fn put<B>(&self, key: &Key, upload: Incoming<B>) -> Result<()>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        key.check().map_err(Error::InvalidKey)?;
        if upload.length == Some(0) {
            return Err(Error::Empty);
        }
        let finish = Box::new(|_received| Ok(Headers::new()));
        let terms = Terms { when: Precondition::Absent, required: None, finish, may_be_empty: false };
        self.write(key, |store, claim| async move {
            store.put(claim.key(), Some(&claim), upload, terms).await.map(drop)
        })
        .await
    }

    /// Stores a value in the place of whatever the key holds, if `when` allows that at the moment when it
    /// takes effect: readers see the old one or the new one. It may be empty. Others may write the key
    /// meanwhile.
    ///
    /// `finish` sees the value before it takes effect, and gives its headers, or refuses it.
    ///
    /// # Errors
    ///
    /// As [`Store::put`], and those of `when`, of `finish`, and of a body that says them itself, as
    /// [`Spliced`](super::Spliced) does: nothing was stored. `Busy`: others had the
    /// key for too long, or one that began later has already ended, on a condition that this one would break.
    pub async fn replace<B>(
        &self,
        key: &Key,
        upload: Incoming<B>,
        when: Precondition,
        finish: impl FnOnce(Received) -> Result<Headers> + Send + 'static,
    ) -> Result<Record>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        key.check().map_err(Error::InvalidKey)?;
        let terms = Terms { when, required: None, finish: Box::new(finish), may_be_empty: true };
        let written = key.clone();
        self.run(key, |store| async move { store.put(&written, None, upload, terms).await }).await
    }
}

impl Core {
    /// Stores a value. Without the key's claim, others may write the key meanwhile.
    pub(super) async fn put<B>(
        &self,
        key: &Key,
        claim: Option<&Claim>,
        upload: Incoming<B>,
        terms: Terms,
    ) -> Result<Record>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display + 'static,
    {
        let entry = self.index.get(key)?;
        self.check_noted(terms.required.as_ref())?;
        terms.when.check(entry.record.as_ref())?;
        self.check_replaceable(key, entry.record.as_ref())?;
        let (candidates, needed) = (self.candidates(key), self.options.placement.replicas);
        if candidates.len() < needed {
            return Err(Error::TooFewVolumes { able: candidates.len(), needed });
        }
        let unused = entry.record.is_none() && entry.intents.is_empty() && !self.deleted.has(key);
        let plain = unused && claim.is_some() && key.has_plain_name() && !self.options.generation_names;
        let mut attempt = Attempt::begin(self, key, claim, entry).await?;
        // beside the attempt's number, which decides who replaces whom
        let modified = Timestamp::now();
        let name = if plain { Name::Plain } else { attempt.own_name() };

        let Incoming { body, mut length, md5: announced } = upload;
        let mut source = Source::new(body, self.options.client_idle, self.options.md5 || announced.is_some());
        let first = match source.next().await? {
            Some(first) => first,
            None if terms.may_be_empty && length.unwrap_or(0) == 0 => {
                length = Some(0);
                Bytes::new()
            }
            None if length.is_some_and(|length| length > 0) => return Err(Error::CutShort),
            None => return Err(Error::Empty),
        };
        let begun = Instant::now();
        let fanout = Fanout::new(self, &mut attempt, name, length, modified.seconds(), candidates);
        let sent = fanout.send(first, &mut source).await;
        let received = Received { size: source.size(), md5: source.md5() };
        let checked = sent.and_then(|replicas| {
            if announced.is_some() && announced != received.md5 {
                return Err(Error::WrongMd5);
            }
            Ok((replicas, (terms.finish)(received)?))
        });
        match checked {
            Ok((replicas, headers)) => {
                let record = Record {
                    state: State::Live,
                    replicas,
                    md5: received.md5.filter(|_| self.options.md5),
                    size: Some(received.size),
                    modified: Some(modified),
                    headers,
                };
                attempt.commit(record.clone(), &terms.when, terms.required.as_ref()).await?;
                // else the first volume's word may be old
                if begun.elapsed() < self.options.recheck {
                    for replica in &record.replicas {
                        self.seen_whole.note(&(key, replica));
                    }
                }
                Ok(record)
            }
            Err(error) => {
                attempt.abandon().await;
                Err(error)
            }
        }
    }
}
