//! Volumes: stock nginx with DAV's PUT and DELETE, each the home of one replica of some values.
//!
//! This room alone knows how a volume is spoken to. It re-issues requests with framing and headers
//! of its own and never forwards a client's bytes as anything but a body, so nothing that a client
//! sends can become a second request to a volume. Small requests have a deadline; a stream
//! has one for each pause, and must keep up a least rate once it has taken a while.

mod admission;
mod answer;
mod connection;
mod download;
mod feed;
mod health;
mod identity;
mod lack;
mod link;
pub mod listing;
mod names;
pub(crate) mod network;
mod outcome;
mod pool;
mod unseen;
mod volumes;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::{Method, StatusCode};
use tokio::time::timeout;

use crate::hashing::Hashing;

pub(crate) use download::Download;
use download::drain;
pub(crate) use feed::{Feed, FeedError, Feeder, feed};
use health::{Access, Actions, Health, Watch};
pub(crate) use identity::Expected;
pub use lack::Lack;
use link::Link;
pub use listing::{Kind, Listed};
use names::Names;
pub use outcome::{FileInfo, Timeouts, VolumeError};
use outcome::{Outcome, late};
use pool::Answer;
pub(crate) use unseen::InDoubt;
use unseen::Unseen;
pub use volumes::{Addresses, Volumes};

/// How often the identity of a volume is looked at while it is up.
pub(crate) const VERIFY_EVERY: Duration = Duration::from_secs(10);

/// One volume server.
pub struct Volume {
    name: String,
    link: Link,
    health: Health,
    /// What its markers and its owner file must say, once that is known.
    expected: Mutex<Option<Arc<Expected>>>,
    /// What was put since its markers were last seen; `None` if it is taken as it is.
    unseen: Option<Unseen>,
    queues: Queues,
}

/// Volumes that are to be looked after, and why.
#[derive(Clone, Default)]
struct Queues {
    /// They were down, and are up again.
    returns: Arc<Names>,
    /// It isn't known whose they are.
    unverified: Arc<Names>,
    /// They have files in doubt.
    doubtful: Arc<Names>,
}

impl Volume {
    fn new(name: &str, link: Link, verify_every: Option<Duration>, queues: Queues) -> Self {
        let (health, expected) = (Health::new(verify_every), Mutex::default());
        let unseen = verify_every.map(|_| Unseen::default());
        Self { name: name.to_owned(), link, health, expected, unseen, queues }
    }

    /// The name by which it is placed and recorded.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is now, `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.link.address()
    }

    /// Whether it is up and answered its last request: reads go to such volumes first.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.health.is_good()
    }

    /// Whether several requests in a row failed, and it wasn't up again since. Nothing is written there.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// Whether it is down and doesn't even answer. One that does may still have a file that no other has.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.health.is_silent()
    }

    /// Whether it failed to read that file a moment ago: readers try other replicas first.
    #[must_use]
    pub fn failed_for(&self, path: impl FnOnce() -> String) -> bool {
        self.health.failed_for(path)
    }

    /// Whether it had no room for a value, and has taken none since.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.health.is_full()
    }

    /// Whether it is full, and a value with a file at that path shall try now if it still is. Only one caller is told to
    /// now and then.
    pub(crate) fn shall_try(&self, path: impl FnOnce() -> String) -> bool {
        self.health.shall_try(path)
    }

    /// Whether it takes no part, because its identity isn't verified.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.health.is_out()
    }

    /// What the volume says of the file; `None` when there is no such file.
    ///
    /// # Errors
    ///
    /// The volume can't tell, which says nothing about the file.
    pub async fn head(self: &Arc<Self>, path: &str) -> Outcome<Option<FileInfo>> {
        let answer = self.ask(Method::HEAD, path).await?;
        match answer.status() {
            StatusCode::OK => match answer.length() {
                Some(size) => Ok(Some(FileInfo { size, modified: answer.modified() })),
                None => Err(self.unanswered(VolumeError::Unanswered("200 without a length".into()))),
            },
            StatusCode::NOT_FOUND => Box::pin(self.confirm(path)).await.map(|()| None),
            status => Err(VolumeError::Refused(status)),
        }
    }

    /// Deletes the file. A file that wasn't there is fine.
    ///
    /// # Errors
    ///
    /// The file may still exist; without an [answer](VolumeError::is_answered), it may also be deleted later.
    pub async fn delete(self: &Arc<Self>, path: &str) -> Outcome<()> {
        let answer = self.ask(Method::DELETE, path).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Box::pin(self.confirm(path)).await,
            status => Err(VolumeError::refused_to_a_master(status)),
        }
    }

    /// Stores what is fed, with that modification time (seconds since 1970), and waits for the
    /// volume's word that it holds all of it.
    ///
    /// # Errors
    ///
    /// The file may exist or not; without an [answer](VolumeError::is_answered), it may also appear later.
    pub(crate) async fn put(self: &Arc<Self>, path: &str, body: Feed, modified: u64) -> Outcome<()> {
        self.check_admitted()?;
        let watch = body.watch();
        // nginx gives the file the Date of its PUT, so a rebuild finds the time that the index had
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(modified));
        let answer = async {
            let mut answer = self.link.request(Method::PUT, path, Some(("date", &date)), body).await?;
            let status = answer.status();
            drain(&mut answer, self.link.timeouts.request).await;
            Ok(status)
        };
        // pinned here: the block below would have room for it twice
        tokio::pin!(answer);
        let answered = async {
            tokio::select! {
                biased;
                status = &mut answer => return status,
                () = watch.feeder_gone() => {}
            }
            // all is given: from here the volume is waited for, and nobody else
            if let Ok(status) = timeout(self.link.timeouts.request, &mut answer).await {
                return status;
            }
            self.act(self.health.late(), None);
            tokio::select! {
                biased;
                status = timeout(self.link.timeouts.stream, &mut answer) => {
                    status.unwrap_or_else(|_| Err(VolumeError::Unanswered(late(self.link.timeouts.stream))))
                }
                () = self.health.gone_down() => Err(VolumeError::Unanswered("it went down".into())),
            }
        };
        match answered.await {
            Ok(StatusCode::CREATED | StatusCode::NO_CONTENT) => {
                self.act(self.health.stored(path), None);
                if let Some(unseen) = &self.unseen {
                    unseen.note(path);
                }
                Ok(())
            }
            Ok(status) => {
                let refusal = VolumeError::refused_to_store(status);
                if refusal.is_full() {
                    let said_so = status == StatusCode::INSUFFICIENT_STORAGE;
                    self.act(self.health.found_full(path, said_so), Some(&refusal));
                }
                Err(refusal)
            }
            // an upload that the feeder aborted says nothing about the volume's health
            Err(error) if watch.aborted() && !error.is_answered() => Err(error),
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// Notes that an upload to it stalled, and was given up for that.
    pub(crate) fn stalled(self: &Arc<Self>) {
        self.unanswered(VolumeError::Unanswered("it stopped reading".into()));
    }

    /// Opens the file for reading: all of it, or from one byte up to another.
    ///
    /// # Errors
    ///
    /// There is no such file (`Refused(404)`), or the volume can't tell.
    pub(crate) async fn get(self: &Arc<Self>, path: &str, part: Option<Range<u64>>) -> Outcome<Download> {
        let range = part.as_ref().map(|part| format!("bytes={}-{}", part.start, part.end.saturating_sub(1)));
        let answer = self.ask_within(self.link.timeouts.request, Method::GET, path, range.as_deref()).await?;
        let size = match (answer.status(), &part) {
            (StatusCode::OK, None) => answer.length(),
            // nginx doesn't take an empty file apart
            (StatusCode::OK, Some(part)) if part.start == 0 => answer.length(),
            (StatusCode::PARTIAL_CONTENT, Some(part)) => {
                answer.part().filter(|(first, _)| *first == part.start).map(|(_, size)| size)
            }
            (StatusCode::NOT_FOUND, _) => {
                Box::pin(self.confirm(path)).await?;
                return Err(VolumeError::Refused(StatusCode::NOT_FOUND));
            }
            (status, _) => return Err(VolumeError::Refused(status)),
        };
        let Some(size) = size else {
            return Err(self.unanswered(VolumeError::Unanswered("an answer without a length".into())));
        };
        let seen = FileInfo { size, modified: answer.modified() };
        Ok(Download::new(seen, answer, self.link.timeouts.stream))
    }

    /// The MD5 of the file's bytes.
    ///
    /// # Errors
    ///
    /// There is no such file (`Refused(404)`), or it can't be read to its end.
    pub async fn md5(self: &Arc<Self>, path: &str) -> Outcome<[u8; 16]> {
        let mut file = self.get(path, None).await?;
        let mut md5 = Hashing::new();
        while let Some(piece) = file.next().await? {
            md5.update(&piece).await;
        }
        Ok(md5.md5().await)
    }

    /// Lists a directory, whose path ends in `/`, entry by entry.
    ///
    /// # Errors
    ///
    /// The listing can't be read to its end; some entries may have been handed over.
    pub async fn list(self: &Arc<Self>, path: &str, found: impl FnMut(Listed)) -> Outcome<()> {
        // the volume reads the whole directory before its first byte
        let mut answer = self.ask_within(self.link.timeouts.stream, Method::GET, path, None).await?;
        if answer.status() != StatusCode::OK {
            return Err(VolumeError::refused_to_a_master(answer.status()));
        }
        self.link.read_listing(&mut answer, found).await
    }

    async fn ask(self: &Arc<Self>, method: Method, path: &str) -> Outcome<Answer> {
        self.ask_within(self.link.timeouts.request, method, path, None).await
    }

    /// A request without a body, and what its answer says of the volume's health.
    async fn ask_within(
        self: &Arc<Self>,
        deadline: Duration,
        method: Method,
        path: &str,
        range: Option<&str>,
    ) -> Outcome<Answer> {
        self.check_admitted()?;
        let access = if method == Method::DELETE { Access::Write } else { Access::Read };
        let answer = self.link.exchange(deadline, method, path, range).await;
        let answer = answer.map_err(|error| self.unanswered(error))?;
        let status = answer.status();
        if status.is_server_error() {
            let refusal = VolumeError::Refused(status);
            self.act(self.health.failed(path, access), Some(&refusal));
            return Err(refusal);
        }
        let served = status.is_success();
        self.act(if served { self.health.served(path, access) } else { self.health.answered() }, None);
        Ok(answer)
    }

    /// Notes that a request had no answer, if the volume has a part in that.
    fn unanswered(self: &Arc<Self>, error: VolumeError) -> VolumeError {
        if !matches!(error, VolumeError::Lacking(_)) {
            self.act(self.health.unanswered(), Some(&error));
        }
        error
    }

    /// Does what a change of its health asks for; the error, if any, is the reason of the change.
    fn act(self: &Arc<Self>, actions: Actions, error: Option<&VolumeError>) {
        if let Some(line) = actions.line {
            line.log(&self.name, error.map(|error| error as &dyn fmt::Display));
        }
        if actions.went_down {
            self.link.close_idle();
        }
        if actions.returned {
            self.queues.returns.note(&self.name);
        }
        match actions.watch {
            Some(Watch::Start) => drop(tokio::spawn(Arc::clone(self).watch())),
            Some(Watch::Wake) => self.health.wake(),
            None => {}
        }
    }
}
