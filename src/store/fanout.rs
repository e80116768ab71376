//! Sends one value to all its replicas at once.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body::Body;
use tokio::task::AbortHandle;
use tokio_util::task::AbortOnDropHandle;

use super::attempt::Attempt;
use super::copy::{CopyError, Fingerprint};
use super::core::Core;
use crate::error::{Error, Result};
use crate::key::{Key, Name};
use crate::placement::Place;
use crate::record::Replica;
use crate::source::Source;
use crate::volume::{Feed, FeedError, Feeder, VolumeError, feed};

/// One value on its way to its replicas.
pub(super) struct Fanout<'f, 'a> {
    store: &'a Core,
    attempt: &'f mut Attempt<'a>,
    name: Name,
    /// Announced length of the value in bytes.
    length: Option<u64>,
    /// Seconds since 1970.
    modified: u64,
    /// Places that have no lane yet, the best first.
    candidates: VecDeque<Place>,
    lanes: Vec<Lane>,
    puts: FuturesUnordered<BoxFuture<'a, (usize, std::result::Result<(), VolumeError>)>>,
    /// The volumes that had no room for this value.
    without_room: Vec<String>,
    /// The volume that doesn't take this master for one, and that in words.
    refused: Option<String>,
    /// Whether the value was read to its end. A volume that got less of it makes no file.
    ended: bool,
}

/// One volume's part in it.
struct Lane {
    replica: Replica,
    /// Feeds the volume while it takes pieces.
    feeder: Option<Feeder>,
    /// Whether the volume took all pieces.
    fed: bool,
    /// The task that sends the pieces.
    upload: Option<AbortHandle>,
    state: LaneState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LaneState {
    Running,
    Whole,
    Failed,
}

impl Core {
    /// Where a new value of the key may go: healthy volumes, those with room first, by rank. Now and then a full one
    /// keeps its rank, to show whether it has room again; only one for a value, so that its replica can be made good
    /// from the others.
    pub(super) fn candidates(&self, key: &Key) -> VecDeque<Place> {
        let ranked = self.options.placement.rank(key);
        let ranked = ranked.into_iter().map(|place| (self.volumes.named(place.volume()), place));
        let up: Vec<_> = ranked.filter(|(volume, _)| !volume.is_down()).collect();
        let mut first = up.iter().take(self.options.placement.replicas);
        let tried = first.position(|(volume, place)| {
            // whatever its name will be, its directory is that
            volume.is_full() && volume.shall_try(|| format!("{}{}", place.directory(), key.path(Name::Plain)))
        });
        let (with_room, full): (Vec<_>, Vec<_>) = up
            .into_iter()
            .enumerate()
            .partition(|(rank, (volume, _))| !volume.is_full() || Some(*rank) == tried);
        with_room.into_iter().chain(full).map(|(_, (_, place))| place).collect()
    }

    /// Whether as many volumes as a value has replicas may have room: neither refused the value nor count as full. (A
    /// volume that refused it can count as one with room again, by a smaller value that was stored since.) One that is
    /// down may have room.
    fn has_room_beside(&self, refused: &[String]) -> bool {
        let placement = &self.options.placement;
        let may_have =
            |name: &&str| !self.volumes.named(name).is_full() && !refused.iter().any(|volume| volume == name);
        placement.volumes().filter(may_have).count() >= placement.replicas
    }
}

impl<'f, 'a> Fanout<'f, 'a> {
    pub(super) fn new(
        store: &'a Core,
        attempt: &'f mut Attempt<'a>,
        name: Name,
        length: Option<u64>,
        modified: u64,
        candidates: VecDeque<Place>,
    ) -> Self {
        let (lanes, puts) = (Vec::new(), FuturesUnordered::new());
        Self {
            store,
            attempt,
            name,
            length,
            modified,
            candidates,
            lanes,
            puts,
            without_room: Vec::new(),
            refused: None,
            ended: false,
        }
    }

    /// Sends the value, whose first piece was already read, and returns its whole replicas by rank, as many as
    /// a value has.
    pub(super) async fn send<B>(mut self, first: Bytes, source: &mut Source<B>) -> Result<Vec<Replica>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display + 'static,
    {
        let sent = self.send_all(first, source).await;
        let ended = self.ended || self.length.is_some_and(|length| source.size() >= length);
        if ended && self.count(LaneState::Running) > 0 {
            // the requests of these lanes stay without an answer
            self.attempt.doubt();
        }
        sent.map(|()| self.into_whole())
    }

    async fn send_all<B>(&mut self, first: Bytes, source: &mut Source<B>) -> Result<()>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display + 'static,
    {
        if self.length == Some(first.len() as u64) {
            self.ended = true;
            self.send_at_once(first).await?;
        } else {
            self.open(&first).await?;
            while let Some(piece) = source.next().await? {
                self.give(&piece).await;
                if self.lanes.iter().all(|lane| lane.feeder.is_none()) {
                    break;
                }
            }
            self.ended = true;
            self.end().await;
            let expected = Fingerprint { size: Some(source.size()), md5: source.md5().await };
            // boxed: it is rare, and would make up most of the size of every PUT's future
            Box::pin(self.make_good(expected)).await?;
        }
        if self.length.is_some_and(|length| length != source.size()) {
            return Err(Error::CutShort);
        }
        Ok(())
    }

    /// Sends a value of one piece: in the place of each volume that fails, the next in rank gets it.
    async fn send_at_once(&mut self, value: Bytes) -> Result<()> {
        loop {
            let opened = self.replace_failed(&value, true).await?;
            match self.puts.next().await {
                Some((lane, result)) => self.finished(lane, result),
                None if opened => {}
                None if self.is_complete() => return Ok(()),
                None => return Err(self.too_few()),
            }
        }
    }

    /// Begins a longer value: until connections stand, volumes that refuse are replaced.
    async fn open(&mut self, first: &Bytes) -> Result<()> {
        loop {
            self.replace_failed(first, false).await?;
            if self.count(LaneState::Running) < self.replicas() {
                return Err(self.too_few());
            }
            let feeders = self.lanes.iter().filter(|lane| lane.state == LaneState::Running);
            let mut started = join_all(feeders.filter_map(|lane| lane.feeder.as_ref()).map(Feeder::started));
            tokio::select! {
                biased;
                Some((lane, result)) = self.puts.next() => {
                    drop(started);
                    self.finished(lane, result);
                }
                _ = &mut started => return Ok(()),
            }
        }
    }

    /// Opens lanes on the next candidates in place of those that failed; true if there were any.
    /// Their intent is in the index before their first byte leaves.
    async fn replace_failed(&mut self, first: &Bytes, is_all: bool) -> Result<bool> {
        let alive = self.lanes.len() - self.count(LaneState::Failed);
        let missing = self.replicas().saturating_sub(alive).min(self.candidates.len());
        let places: Vec<Place> = self.candidates.drain(..missing).collect();
        let files: Vec<Replica> =
            places.into_iter().map(|place| Replica { place, name: self.name }).collect();
        if files.is_empty() {
            return Ok(false);
        }
        self.attempt.intend(&files).await?;
        let limit = self.store.options.timeouts.stream;
        let name = self.attempt.key().path(self.name);
        for replica in files {
            let lane = self.lanes.len();
            let volume = self.store.volume(&replica);
            let path = format!("{}{name}", replica.place.directory());
            let modified = self.modified;
            let mut running =
                Lane { replica, feeder: None, fed: is_all, upload: None, state: LaneState::Running };
            if is_all {
                let body = Feed::whole(first.clone());
                let put = async move { (lane, volume.put(&path, body, modified).await) };
                self.puts.push(Box::pin(put));
            } else {
                let (feeder, body) = feed(self.length);
                // spawned, so that it sends on while we wait for the client's next piece
                let put =
                    AbortOnDropHandle::new(tokio::spawn(
                        async move { volume.put(&path, body, modified).await },
                    ));
                running.upload = Some(put.abort_handle());
                self.puts.push(Box::pin(async move {
                    let stalled = |_| Err(VolumeError::Unanswered("it stopped reading".into()));
                    (lane, put.await.unwrap_or_else(stalled))
                }));
                // the window is empty: this neither waits nor fails
                running.feeder = feeder.give(first.clone(), limit).await.is_ok().then_some(feeder);
            }
            self.lanes.push(running);
        }
        Ok(true)
    }

    /// Gives all lanes the next piece. A lane that takes nothing within the stream's deadline fails, and delays
    /// the others no longer than that.
    async fn give(&mut self, piece: &Bytes) {
        let (store, limit) = (self.store, self.store.options.timeouts.stream);
        join_all(self.lanes.iter_mut().map(|lane| async move {
            let Some(feeder) = &lane.feeder else { return };
            match feeder.give(piece.clone(), limit).await {
                Ok(()) => return,
                // the request has ended, and its result says why
                Err(FeedError::Closed) => {}
                Err(FeedError::Stalled) => {
                    store.volume(&lane.replica).stalled();
                    lane.upload.iter().for_each(AbortHandle::abort);
                }
            }
            lane.feeder = None;
        }))
        .await;
    }

    /// Ends all lanes and waits for their answers.
    async fn end(&mut self) {
        let limit = self.store.options.timeouts.stream;
        join_all(self.lanes.iter_mut().map(|lane| async move {
            if let Some(feeder) = lane.feeder.take() {
                lane.fed = feeder.end(limit).await.is_ok();
            }
        }))
        .await;
        while let Some((lane, result)) = self.puts.next().await {
            self.finished(lane, result);
        }
    }

    /// Copies the value from replicas that are whole to the next volumes in rank, in place of those
    /// that failed midway.
    async fn make_good(&mut self, expected: Fingerprint) -> Result<()> {
        while !self.is_complete() {
            let whole = self.lanes.iter().filter(|lane| lane.state == LaneState::Whole);
            let mut sources: Vec<Replica> = whole.map(|lane| lane.replica.clone()).collect();
            let place = self.candidates.pop_front().filter(|_| !sources.is_empty());
            let replica = Replica { place: place.ok_or_else(|| self.too_few())?, name: self.name };
            self.attempt.intend(std::slice::from_ref(&replica)).await?;
            let lane = self.lanes.len();
            let copied =
                self.store.copy_from_any(self.attempt.key(), &mut sources, &replica, expected, self.modified);
            let result = copied.await.map(|_| ()).map_err(|error| match error {
                CopyError::Target(error) => error,
                CopyError::Source(error) => VolumeError::Unanswered(format!("the source: {error}")),
                CopyError::Damaged => VolumeError::Unanswered("the source is damaged".into()),
            });
            // a volume that has other bytes than it was sent holds no replica
            let is_rotten =
                |lane: &&mut Lane| lane.state == LaneState::Whole && !sources.contains(&lane.replica);
            self.lanes.iter_mut().filter(is_rotten).for_each(|lane| lane.state = LaneState::Failed);
            self.lanes.push(Lane {
                replica,
                feeder: None,
                fed: true,
                upload: None,
                state: LaneState::Running,
            });
            self.finished(lane, result);
        }
        Ok(())
    }

    fn finished(&mut self, lane: usize, result: std::result::Result<(), VolumeError>) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.feeder = None;
        let early = || VolumeError::Unanswered("it answered before it had the value".into());
        let result = if lane.fed { result } else { result.and_then(|()| Err(early())) };
        lane.state = match result {
            Ok(()) => LaneState::Whole,
            Err(error) => {
                if error.is_full() {
                    self.without_room.push(lane.replica.place.volume().to_owned());
                }
                if error.is_not_allowed() {
                    self.refused = Some(format!("{}: {error}", lane.replica.place.volume()));
                }
                self.attempt.failed(&lane.replica, &error);
                LaneState::Failed
            }
        };
    }

    fn replicas(&self) -> usize {
        self.store.options.placement.replicas
    }

    fn count(&self, state: LaneState) -> usize {
        self.lanes.iter().filter(|lane| lane.state == state).count()
    }

    fn is_complete(&self) -> bool {
        self.count(LaneState::Whole) == self.replicas()
    }

    fn too_few(&self) -> Error {
        let able = self.lanes.len() - self.count(LaneState::Failed);
        if !self.without_room.is_empty() && !self.store.has_room_beside(&self.without_room) {
            return Error::Full;
        }
        // others have room: they get the value when it is sent again
        Error::TooFewVolumes { able, needed: self.replicas(), refused: self.refused.clone() }
    }

    fn into_whole(self) -> Vec<Replica> {
        let whole = self.lanes.into_iter().filter(|lane| lane.state == LaneState::Whole);
        whole.map(|lane| lane.replica).collect()
    }
}
