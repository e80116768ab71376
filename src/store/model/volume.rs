//! The volumes that the store sees.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use md5::{Digest, Md5};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::fault::{Fault, Kind};
use super::world::{Change, File, Whereabouts, World};
use crate::volume::{Feed, FileInfo, Timeouts, VolumeError};

/// As a volume's health has them.
const DOWN_AFTER: u32 = 3;
const FULL_FOR: Duration = Duration::from_secs(10);
/// Seldom, so that outages of half an hour can be tried a thousand times.
const PROBE_EVERY: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, VolumeError>;

/// In the place of [`crate::volume::Volumes`].
pub struct Volumes {
    world: World,
    timeouts: Timeouts,
    known: Mutex<BTreeMap<String, Arc<Volume>>>,
    returned: Arc<(Mutex<Vec<String>>, Notify)>,
}

/// In the place of [`crate::volume::Volume`].
pub(crate) struct Volume {
    address: String,
    world: World,
    timeouts: Timeouts,
    failures: AtomicU32,
    probing: AtomicBool,
    full_until: Mutex<Option<Instant>>,
    returned: Arc<(Mutex<Vec<String>>, Notify)>,
}

/// In the place of [`crate::volume::Download`].
pub(crate) struct Download {
    pub(crate) seen: FileInfo,
    volume: Arc<Volume>,
    pieces: VecDeque<Bytes>,
}

impl Volumes {
    pub(super) fn of(world: &World, timeouts: Timeouts) -> Self {
        Self { world: world.clone(), timeouts, known: Mutex::default(), returned: Arc::default() }
    }

    pub(crate) fn at(&self, address: &str) -> Arc<Volume> {
        let mut known = self.known.lock().unwrap();
        let volume = known.entry(address.to_owned()).or_insert_with(|| {
            Arc::new(Volume {
                address: address.to_owned(),
                world: self.world.clone(),
                timeouts: self.timeouts,
                failures: AtomicU32::new(0),
                probing: AtomicBool::new(false),
                full_until: Mutex::default(),
                returned: Arc::clone(&self.returned),
            })
        });
        Arc::clone(volume)
    }

    pub(crate) async fn returned(&self) -> String {
        loop {
            let returned = self.returned.0.lock().unwrap().pop();
            match returned {
                Some(address) => return address,
                None => self.returned.1.notified().await,
            }
        }
    }
}

impl Volume {
    pub(crate) fn is_good(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn is_down(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= DOWN_AFTER
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.is_down()
    }

    /// Files don't fail alone here.
    pub(crate) fn failed_for(&self, _path: impl FnOnce() -> String) -> bool {
        self.is_down()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    pub(crate) async fn head(self: &Arc<Self>, path: &str) -> Outcome<Option<FileInfo>> {
        self.ask(Kind::Head).await?;
        let world = self.world.state();
        let file = world.files.get(&self.file(path));
        Ok(file.map(|file| FileInfo { size: file.bytes.len() as u64, modified: Some(file.modified) }))
    }

    pub(crate) async fn delete(self: &Arc<Self>, path: &str) -> Outcome<()> {
        let fault = self.world.meet(Kind::Delete, &self.address).await;
        if fault != Some(Fault::Unreachable) {
            let mut world = self.world.state();
            world.check_delete(&self.file(path));
            world.send(self.file(path), Change::Delete, fault);
        }
        self.judge(self.answer(fault).await)
    }

    pub(crate) async fn put(self: &Arc<Self>, path: &str, body: Feed, modified: u64) -> Outcome<()> {
        let watch = body.watch();
        // a task of its own, as a connection is: it takes pieces whether or not anybody waits for the
        // answer, and carries on with what it was given when nobody does any more
        let transfer = tokio::spawn(Arc::clone(self).take(self.file(path), body, modified));
        match transfer.await.expect("the test's own volume didn't panic") {
            Err(error) if watch.aborted() && !error.is_answered() => Err(error),
            Err(error @ VolumeError::Refused(_)) => {
                if error.is_full() {
                    *self.full_until.lock().unwrap() = Some(Instant::now() + FULL_FOR);
                }
                Err(error)
            }
            answer => self.judge(answer),
        }
    }

    pub(crate) fn stalled(self: &Arc<Self>) {
        self.blame();
    }

    pub(crate) async fn get(self: &Arc<Self>, path: &str, part: Option<Range<u64>>) -> Outcome<Download> {
        self.ask(Kind::Open).await?;
        let file = self.world.state().files.get(&self.file(path)).cloned();
        let file = file.ok_or(VolumeError::Refused(StatusCode::NOT_FOUND))?;
        let seen = FileInfo { size: file.bytes.len() as u64, modified: Some(file.modified) };
        let part = part.unwrap_or(0..seen.size);
        if part.start >= part.end.min(seen.size) && seen.size > 0 {
            return Err(VolumeError::Refused(StatusCode::RANGE_NOT_SATISFIABLE));
        }
        let [start, end] = [part.start, part.end.min(seen.size)].map(|at| usize::try_from(at).unwrap());
        let bytes = file.bytes.slice(start..end);
        let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
        let pieces = [first, second].into_iter().filter(|piece| !piece.is_empty()).collect();
        Ok(Download { seen, volume: Arc::clone(self), pieces })
    }

    pub(crate) async fn md5(self: &Arc<Self>, path: &str) -> Outcome<[u8; 16]> {
        let mut file = self.get(path, None).await?;
        let mut md5 = Md5::new();
        while let Some(piece) = file.next().await? {
            md5.update(&piece);
        }
        Ok(md5.finalize().into())
    }

    fn file(&self, path: &str) -> Whereabouts {
        (self.address.clone(), path.to_owned())
    }

    /// A request that changes nothing.
    async fn ask(self: &Arc<Self>, kind: Kind) -> Outcome<()> {
        let fault = self.world.meet(kind, &self.address).await;
        self.judge(self.answer(fault).await)
    }

    /// Takes a PUT's body to its end. The file appears whole, or not at all.
    async fn take(self: Arc<Self>, to: Whereabouts, mut body: Feed, modified: u64) -> Outcome<()> {
        if let fault @ Some(_) = self.world.meet(Kind::Put, &self.address).await {
            return self.answer(fault).await;
        }
        let attempt = self.world.state().check_put(&to);
        let mut bytes = Vec::new();
        loop {
            let piece = body.next().await.map_err(|why| VolumeError::Unanswered(why.to_string()));
            let Some(piece) = piece? else { break };
            match self.world.meet(Kind::Take, &self.address).await {
                None => bytes.extend_from_slice(&piece),
                Some(Fault::Early) => return Ok(()),
                fault => return self.answer(fault).await,
            }
            self.world.linger().await;
        }
        let fault = self.world.meet(Kind::Stored, &self.address).await;
        let file = File::new(bytes.into(), modified, attempt);
        self.world.state().send(to, Change::Put(file), fault);
        self.answer(fault).await
    }

    /// The answer that comes of a fault.
    async fn answer(&self, fault: Option<Fault>) -> Outcome<()> {
        match fault {
            None => {
                self.world.linger().await;
                if self.world.state().has_stopped() {
                    self.world.stop().await;
                }
                Ok(())
            }
            Some(Fault::Unreachable) => Err(VolumeError::Unreachable("no connection".into())),
            Some(Fault::Refused(status)) => Err(VolumeError::Refused(status)),
            Some(Fault::Unanswered(_)) => Err(VolumeError::Unanswered("connection lost".into())),
            Some(Fault::Stalls) => {
                sleep(self.timeouts.stream * 2).await;
                Err(VolumeError::Unanswered("late".into()))
            }
            Some(Fault::StopAfter(_)) => self.world.stop().await,
            Some(fault) => unreachable!("{fault:?} befalls no request to a volume"),
        }
    }

    /// Notes what the answer says of the volume's health.
    fn judge(self: &Arc<Self>, answer: Outcome<()>) -> Outcome<()> {
        match &answer {
            Ok(()) => self.praise(),
            Err(_) => self.blame(),
        }
        answer
    }

    fn praise(&self) {
        if self.failures.swap(0, Ordering::Relaxed) >= DOWN_AFTER {
            self.returned.0.lock().unwrap().push(self.address.clone());
            self.returned.1.notify_one();
        }
    }

    fn blame(self: &Arc<Self>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.probing.swap(true, Ordering::Relaxed) {
            return;
        }
        let volume = Arc::clone(self);
        tokio::spawn(async move {
            while volume.world.state().down.contains(&volume.address) {
                sleep(PROBE_EVERY).await;
            }
            volume.praise();
            volume.probing.store(false, Ordering::Relaxed);
        });
    }
}

impl Download {
    pub(crate) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let fault = self.volume.world.meet(Kind::Read, &self.volume.address).await;
        self.volume.answer(fault).await?;
        Ok(self.pieces.pop_front())
    }
}
