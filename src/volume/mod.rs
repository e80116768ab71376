//! Volumes: stock nginx with DAV's PUT and DELETE, each the home of one replica of some values.
//!
//! This room alone knows how a volume is spoken to. It re-issues requests with framing and headers
//! of its own and never forwards a client's bytes as anything but a body, so nothing that a client
//! sends can become a second request to a volume. Every call ends: small requests have a deadline,
//! streams an idle deadline.

mod answer;
mod connection;
mod feed;
mod health;
pub mod listing;
pub(crate) mod network;
mod pool;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use md5::{Digest, Md5};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub(crate) use feed::{Feed, FeedError, Feeder, feed};
use health::Health;
pub use listing::{Kind, Listed};
use network::Network;
use pool::{Answer, Pool};

/// A file or a listing must come at so many bytes a second on average, …
const LEAST_RATE: u64 = 1024;
/// … once reading it has taken this long.
const LEAST_RATE_AFTER: Duration = Duration::from_secs(30);

/// A body that nobody wants is read away up to so many bytes.
const DRAIN: usize = 64 * 1024;

/// A path that no key's file has: the answer to a probe is 404.
const PROBE: &str = "/00/00/probe";

/// Pauses between probes of a volume that doesn't answer.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// How long volumes are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, and for the whole answer to a small request (`--voltimeout`).
    pub request: Duration,
    /// For the next byte of a stream in either direction, and for the answer after its last one
    /// (`--streamtimeout`).
    pub stream: Duration,
}

/// Why a volume didn't do what it was asked.
#[derive(Clone, Debug)]
pub enum VolumeError {
    /// No connection: the request was never sent.
    Unreachable(String),
    /// Sent, and no usable answer: it may be carried out, or not, or later.
    Unanswered(String),
    /// Answered with this status: it was not carried out.
    Refused(StatusCode),
}

impl VolumeError {
    /// Whether it is certain that the request has no effect now or later.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Unanswered(_))
    }

    /// Whether the volume, asked to store something, had no room (nginx says 500 where 507 is meant).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Refused(StatusCode::INTERNAL_SERVER_ERROR | StatusCode::INSUFFICIENT_STORAGE))
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable ({why})"),
            Self::Unanswered(why) => write!(f, "no answer ({why})"),
            Self::Refused(status) => write!(f, "answered {status}"),
        }
    }
}

type Outcome<T> = Result<T, VolumeError>;

/// A file that a volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its length in bytes.
    pub size: u64,
    /// Precondition it was written, in seconds since 1970, if the volume tells.
    pub modified: Option<u64>,
}

/// One volume server.
pub struct Volume {
    address: String,
    pool: Arc<Pool>,
    timeouts: Timeouts,
    health: Health,
    returned: Arc<Notify>,
}

/// The volumes that were ever named, by a flag or by a record, under their addresses.
pub struct Volumes {
    network: Arc<dyn Network>,
    timeouts: Timeouts,
    known: RwLock<HashMap<String, Arc<Volume>>>,
    returned: Arc<Notify>,
}

impl Volumes {
    /// No volume yet; one comes into being when it is first asked for.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Self {
        Self::over(Arc::new(network::Tcp::new(timeouts)), timeouts)
    }

    /// As [`Volumes::new`], over another network than TCP.
    pub(crate) fn over(network: Arc<dyn Network>, timeouts: Timeouts) -> Self {
        Self { network, timeouts, known: RwLock::default(), returned: Arc::default() }
    }

    /// The volume at that address, `HOST:PORT`.
    #[must_use]
    pub fn at(&self, address: &str) -> Arc<Volume> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = known.get(address) {
            return Arc::clone(volume);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let volume = known.entry(address.to_owned()).or_insert_with(|| {
            Arc::new(Volume {
                address: address.to_owned(),
                pool: Arc::new(Pool::new(Arc::clone(&self.network), self.timeouts.request, address)),
                timeouts: self.timeouts,
                health: Health::new(),
                returned: Arc::clone(&self.returned),
            })
        });
        Arc::clone(volume)
    }

    /// Waits until a volume that was down answers again.
    pub async fn returned(&self) {
        self.returned.notified().await;
    }
}

impl Volume {
    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether its last request succeeded: reads go to such volumes first.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.health.is_good()
    }

    /// Whether several requests in a row failed, and no probe succeeded since.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// Whether it had no room for a value a moment ago.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.health.is_full()
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
                None => Err(self.blame(VolumeError::Unanswered("200 without a length".into()))),
            },
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(VolumeError::Refused(status)),
        }
    }

    /// Deletes the file. A file that wasn't there is fine.
    ///
    /// # Errors
    ///
    /// The file may still be there, or, [uncertainly](VolumeError::is_certain), be deleted later.
    pub async fn delete(self: &Arc<Self>, path: &str) -> Outcome<()> {
        let answer = self.ask(Method::DELETE, path).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
            status => Err(VolumeError::Refused(status)),
        }
    }

    /// Stores what is fed, with that modification time (seconds since 1970), and waits for the
    /// volume's word that it holds all of it.
    ///
    /// # Errors
    ///
    /// The file may be there or not; an [uncertain](VolumeError::is_certain) one may still appear.
    pub(crate) async fn put(self: &Arc<Self>, path: &str, body: Feed, modified: u64) -> Outcome<()> {
        let watch = body.watch();
        // nginx gives the file the Date of its PUT, so a rebuild finds the time that the index had
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(modified));
        let answer = async {
            let mut answer = self.pool.request(Method::PUT, path, Some(("date", &date)), body).await?;
            let status = answer.status();
            drain(&mut answer, self.timeouts.request).await;
            Ok(status)
        };
        let answered = async {
            tokio::pin!(answer);
            tokio::select! {
                biased;
                status = &mut answer => return status,
                () = watch.ended() => {}
            }
            // all is given: from here the volume is waited for, and nobody else
            if let Ok(status) = timeout(self.timeouts.request, &mut answer).await {
                return status;
            }
            self.probe();
            tokio::select! {
                biased;
                status = timeout(self.timeouts.stream, &mut answer) => {
                    status.unwrap_or_else(|_| Err(VolumeError::Unanswered(late(self.timeouts.stream))))
                }
                () = self.health.gone_down() => Err(VolumeError::Unanswered("it went down".into())),
            }
        };
        match answered.await {
            Ok(StatusCode::CREATED | StatusCode::NO_CONTENT) => {
                self.praise();
                Ok(())
            }
            Ok(status) => {
                let refusal = VolumeError::Refused(status);
                if refusal.is_full() {
                    self.health.found_full();
                    // full, or broken altogether? A probe tells.
                    self.probe();
                }
                Err(refusal)
            }
            // an upload that we gave up is no fault of the volume's
            Err(error) if watch.abandoned() && !error.is_certain() => Err(error),
            Err(error) => Err(self.blame(error)),
        }
    }

    /// Notes that an upload to it stalled, and was given up for that.
    pub(crate) fn stalled(self: &Arc<Self>) {
        self.blame(VolumeError::Unanswered("it stopped reading".into()));
    }

    /// Opens the file for reading: all of it, or from one byte up to another.
    ///
    /// # Errors
    ///
    /// There is no such file (`Refused(404)`), or the volume can't tell.
    pub(crate) async fn get(self: &Arc<Self>, path: &str, part: Option<Range<u64>>) -> Outcome<Download> {
        let range = part.as_ref().map(|part| format!("bytes={}-{}", part.start, part.end.saturating_sub(1)));
        let answer = self.ask_within(self.timeouts.request, Method::GET, path, range.as_deref()).await?;
        let size = match (answer.status(), &part) {
            (StatusCode::OK, None) => answer.length(),
            // nginx doesn't take an empty file apart
            (StatusCode::OK, Some(part)) if part.start == 0 => answer.length(),
            (StatusCode::PARTIAL_CONTENT, Some(part)) => {
                answer.part().filter(|(first, _)| *first == part.start).map(|(_, size)| size)
            }
            (status, _) => return Err(VolumeError::Refused(status)),
        };
        let Some(size) = size else {
            return Err(self.blame(VolumeError::Unanswered("an answer without a length".into())));
        };
        let (seen, limit) = (FileInfo { size, modified: answer.modified() }, self.timeouts.stream);
        Ok(Download { seen, answer, limit, waited: Duration::ZERO, received: 0 })
    }

    /// The MD5 of the file's bytes.
    ///
    /// # Errors
    ///
    /// There is no such file (`Refused(404)`), or it can't be read to its end.
    pub async fn md5(self: &Arc<Self>, path: &str) -> Outcome<[u8; 16]> {
        let mut file = self.get(path, None).await?;
        let mut md5 = Md5::new();
        while let Some(piece) = file.next().await? {
            md5.update(&piece);
        }
        Ok(md5.finalize().into())
    }

    /// Lists a directory, whose path ends in `/`, entry by entry.
    ///
    /// # Errors
    ///
    /// The listing can't be read to its end; some entries may have been handed over.
    pub async fn list(self: &Arc<Self>, path: &str, mut found: impl FnMut(Listed)) -> Outcome<()> {
        // the volume reads the whole directory before its first byte
        let mut answer = self.ask_within(self.timeouts.stream, Method::GET, path, None).await?;
        if answer.status() != StatusCode::OK {
            return Err(VolumeError::Refused(answer.status()));
        }
        let garbled = |why: &dyn fmt::Display| VolumeError::Unanswered(why.to_string());
        let mut parser = listing::Parser::default();
        let (begun, mut received) = (Instant::now(), 0);
        while let Some(bytes) = next_piece(&mut answer, self.timeouts.stream).await? {
            received += bytes.len() as u64;
            check_rate(begun.elapsed(), received)?;
            parser.read(&bytes, &mut found).map_err(|error| garbled(&error))?;
        }
        parser.end().map_err(|error| garbled(&error))
    }

    async fn ask(self: &Arc<Self>, method: Method, path: &str) -> Outcome<Answer> {
        self.ask_within(self.timeouts.request, method, path, None).await
    }

    /// A request without a body, whose head is answered within the deadline; the answer's body is
    /// drained where it isn't wanted, so that the connection can be used again.
    async fn ask_within(
        self: &Arc<Self>,
        deadline: Duration,
        method: Method,
        path: &str,
        range: Option<&str>,
    ) -> Outcome<Answer> {
        let wanted = method == Method::GET;
        let answer = async {
            let range = range.map(|range| ("range", range));
            let mut answer = self.pool.request(method, path, range, Feed::empty()).await?;
            if !wanted || !matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
                drain(&mut answer, self.timeouts.request).await;
            }
            Ok(answer)
        };
        let answer = timeout(deadline, answer).await;
        match answer.unwrap_or_else(|_| Err(VolumeError::Unanswered(late(deadline)))) {
            Ok(answer) if answer.status().is_server_error() => {
                Err(self.blame(VolumeError::Refused(answer.status())))
            }
            Ok(answer) => {
                self.praise();
                Ok(answer)
            }
            Err(error) => Err(self.blame(error)),
        }
    }

    fn praise(&self) {
        if self.health.succeeded() {
            tracing::info!(volume = %self.address, "volume is up again");
            self.returned.notify_one();
        }
    }

    fn blame(self: &Arc<Self>, error: VolumeError) -> VolumeError {
        if self.health.failed() {
            tracing::warn!(volume = %self.address, %error, "volume is down");
            self.pool.clear();
        }
        self.probe();
        error
    }

    /// Asks the volume in the background, until it answers, whether it is healthy.
    fn probe(self: &Arc<Self>) {
        if !self.health.begin_probing() {
            return;
        }
        let volume = Arc::clone(self);
        tokio::spawn(async move {
            while volume.head(PROBE).await.is_err() {
                tokio::time::sleep(PROBE_EVERY).await;
            }
            volume.health.end_probing();
        });
    }
}

/// A file being read.
pub(crate) struct Download {
    /// What the volume says of the whole file.
    pub(crate) seen: FileInfo,
    answer: Answer,
    limit: Duration,
    /// Time spent waiting for the volume, and not for who reads.
    waited: Duration,
    received: u64,
}

impl Download {
    /// The next piece; `None` after the last byte.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        let asked = Instant::now();
        let piece = next_piece(&mut self.answer, self.limit).await?;
        self.waited += asked.elapsed();
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        check_rate(self.waited, self.received)?;
        Ok(piece)
    }
}

/// That a volume doesn't send for ever by sending slowly.
fn check_rate(taken: Duration, received: u64) -> Outcome<()> {
    if taken > LEAST_RATE_AFTER && received / taken.as_secs() < LEAST_RATE {
        return Err(VolumeError::Unanswered("it sends too slowly".into()));
    }
    Ok(())
}

async fn next_piece(answer: &mut Answer, limit: Duration) -> Outcome<Option<Bytes>> {
    timeout(limit, answer.next()).await.map_err(|_elapsed| VolumeError::Unanswered(late(limit)))?
}

/// Reads away the short body of an answer that nobody wants, so that its connection can be used
/// again; one that is long or slow loses its connection instead.
async fn drain(answer: &mut Answer, limit: Duration) {
    let mut left = DRAIN;
    while let Ok(Some(piece)) = next_piece(answer, limit).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            break;
        }
    }
}

fn late(limit: Duration) -> String {
    format!("within {}", humantime::format_duration(limit))
}
