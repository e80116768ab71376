//! PUT: a new value.

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::claims::Claim;
use super::fanout::Fanout;
use super::{Inner, Store, now};
use crate::error::{Error, Result};
use crate::key::{Key, Name};
use crate::record::{Record, Replica, State};
use crate::tee::Source;

/// A value on its way in.
#[derive(Debug)]
pub struct Upload<B> {
    /// Its bytes.
    pub body: B,
    /// How many bytes were announced, if they were.
    pub length: Option<u64>,
    /// The MD5 that was announced, to be checked.
    pub md5: Option<[u8; 16]>,
}

impl Store {
    /// Stores a new value, and returns when all its replicas are whole and the index has it.
    ///
    /// Refusals come before the body is read.
    ///
    /// # Errors
    ///
    /// `Unfit`, `Empty`, `Exists`, `Busy`, `Unsettled`, `WrongMd5`, `CutShort`, `Stalled`,
    /// `TooFewVolumes`, `Full`: nothing was stored. `Index`: it may be stored, or not.
    pub async fn put<B>(&self, key: &Key, upload: Upload<B>) -> Result<()>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Send,
    {
        key.check().map_err(Error::Unfit)?;
        if upload.length == Some(0) {
            return Err(Error::Empty);
        }
        self.write(key, |store, claim| async move { store.put(&claim, upload).await }).await
    }
}

impl Inner {
    async fn put<B>(&self, claim: &Claim, upload: Upload<B>) -> Result<()>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let key = claim.key();
        let entry = self.index.get(key)?;
        if entry.record.as_ref().is_some_and(|record| record.state == State::Live) {
            return Err(Error::Exists);
        }
        let (candidates, needed) = (self.candidates(key), self.options.placement.replicas);
        if candidates.len() < needed {
            return Err(Error::TooFewVolumes { able: candidates.len(), needed });
        }
        let unused = entry.record.is_none() && entry.intents.is_empty() && !self.deleted.has(key);
        let plain = unused && key.has_plain_name() && !self.options.generation_names;
        let mut attempt = Attempt::begin(self, claim, entry).await?;
        let name = if plain { Name::Plain } else { attempt.own_name() };

        let Upload { body, length, md5: announced } = upload;
        let mut source = Source::new(body, self.options.client_idle, self.options.md5 || announced.is_some());
        let first = source.next().await?.ok_or(Error::Empty)?;
        let (begun, modified) = (Instant::now(), now());
        let fanout = Fanout::new(self, &mut attempt, name, length, modified, candidates);
        let sent = fanout.send(first, &mut source).await;
        match sent.and_then(|replicas| record(replicas, &source, announced, modified, self.options.md5)) {
            Ok(record) => {
                let replicas = record.replicas.clone();
                attempt.commit(record).await?;
                // else the first volume's word may be old
                if begun.elapsed() < self.options.recheck {
                    for replica in &replicas {
                        self.seen_whole.note(&(key, replica));
                    }
                }
                Ok(())
            }
            Err(error) => {
                attempt.abandon().await;
                Err(error)
            }
        }
    }
}

fn record<B>(
    replicas: Vec<Replica>,
    source: &Source<B>,
    announced: Option<[u8; 16]>,
    modified: u64,
    keep_md5: bool,
) -> Result<Record>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let size = source.size();
    let md5 = source.md5();
    if announced.is_some() && announced != md5 {
        return Err(Error::WrongMd5);
    }
    Ok(Record {
        state: State::Live,
        replicas,
        md5: md5.filter(|_| keep_md5),
        size: Some(size),
        modified: Some(modified),
        headers: Vec::new(),
    })
}
