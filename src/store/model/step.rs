//! What clients do, and what happens to the world.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::sleep;

use super::disks::Template;
use super::fault::{Fault, Kind};
use super::foreign::foreign_disk;
use super::terms::{KEYS, Over, Request, VOLUMES, number_of, value};
use super::world::{Call, State, Whereabouts};
use crate::clock::Timestamp;
use crate::record::Record;
use crate::store::Incoming;
use crate::store::replicas::path;

/// How long a slow client pauses.
const PAUSE: Duration = Duration::from_secs(3);

/// One thing that a client does, or that happens; volumes go by their rank for the first key.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(usize, usize, Shape),
    /// A PUT that lets others write the key meanwhile.
    Write(usize, usize, Shape, Over),
    /// Anything but a PUT.
    Ask(usize, Request),
    /// Begins an upload in parts to a key.
    Begin(usize, usize),
    /// Puts that part of a value to an upload.
    Part(usize, u16, usize, Shape),
    /// Completes an upload, if its parts are those of one value.
    Complete(usize, Over),
    Abort(usize),
    /// The upload was begun long ago.
    Expire(usize),
    PlanRebalance(usize),
    Forget,
    ReapOnce,
    Wait(Duration),
    Down(usize),
    Up(usize),
    Full(usize),
    /// The volume fails at whatever it is asked, but for its probe, …
    Sicken(usize),
    /// … and no longer.
    Heal(usize),
    /// The first key's replica there loses its second half.
    Tear(usize),
    /// The first key's replica there gets other bytes, as many as it had.
    Rot(usize),
    /// The first key's replica there is one that was deleted long ago.
    Outdate(usize),
    /// The first key's replica there is lost.
    Lose(usize),
    /// The first key's record gets headers.
    Dress,
    /// The first key's record is as minikeyvalue wrote it.
    Age,
    /// The volume's disk vanishes, …
    Vanish(usize),
    /// … and is mounted again.
    Return(usize),
    /// All disks are mounted where they belong.
    MountAll,
    /// The volume's disk is lost, and an empty one is in its place: the operator will say so.
    Replace(usize),
    /// The disks of two volumes are mounted in each other's place.
    Swap(usize, usize),
    /// A disk of another store is mounted in the place of the volume's.
    MountForeign(usize),
    /// Somebody copies the volume's disk, …
    CopyDisk(usize),
    /// … and puts the copy in its place.
    RestoreDisk(usize),
    /// The volumes have minikeyvalue's template.
    Unguard,
    /// What befalls the next call of that kind to that volume.
    Next(Kind, usize, Fault),
    /// The index fails at its next write.
    FailNextWrite(Fault),
}

/// How a client sends a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// In one piece.
    Whole,
    /// In pieces, its length announced.
    Pieces,
    /// In pieces, its length not announced.
    Chunked,
    /// In pieces, and then the connection breaks.
    BreaksOff,
    /// In pieces, and the connection breaks after the last, before the body's end.
    BreaksOffAtEnd,
    /// In pieces that are fewer than announced.
    Short,
    /// In pieces that are more than announced.
    Long,
    /// In pieces, with pauses in between.
    Slow,
    /// In pieces, of which the last doesn't come.
    Idle,
    /// With another value's MD5.
    WrongMd5,
    /// Chunked, and there are none.
    Empty,
}

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

impl Shape {
    pub(super) fn upload(self, number: usize) -> Incoming<Body> {
        self.send(&value(number))
    }

    pub(super) fn send(self, value: &Bytes) -> Incoming<Body> {
        let length = value.len();
        let pieces = match self {
            Self::Whole | Self::WrongMd5 => vec![value.clone()],
            Self::Empty => vec![],
            // more than a feed's window holds
            _ => value.chunks(length.div_ceil(5)).map(Bytes::copy_from_slice).collect(),
        };
        let announced = match self {
            Self::Chunked | Self::Empty => None,
            Self::Short => Some(length + 1),
            Self::Long => Some(length - 1),
            _ => Some(length),
        };
        let sent = if matches!(self, Self::BreaksOff | Self::Idle) { pieces.len() - 1 } else { pieces.len() };
        let frames = stream::iter(pieces.into_iter().take(sent).map(|piece| Ok(Frame::data(piece))));
        let body = match self {
            Self::BreaksOff | Self::BreaksOffAtEnd => {
                frames.chain(stream::iter([Err(io::ErrorKind::ConnectionReset.into())])).boxed()
            }
            Self::Slow => frames
                .then(async |piece| {
                    sleep(PAUSE).await;
                    piece
                })
                .boxed(),
            Self::Idle => frames.chain(stream::pending()).boxed(),
            _ => frames.boxed(),
        };
        Incoming {
            body: StreamBody::new(body),
            length: announced.map(|length| length as u64),
            md5: (self == Self::WrongMd5).then(|| md5_lanes::digest(b"another value")),
        }
    }

    pub(super) fn is_honest(self) -> bool {
        matches!(self, Self::Whole | Self::Pieces | Self::Chunked | Self::Slow)
    }
}

/// What happens to the world without the store's doing.
pub(super) fn happen(world: &mut State, happening: &Step, dressed: &mut BTreeMap<usize, Record>) {
    match happening {
        Step::Down(rank) => drop(world.down.insert(VOLUMES[*rank].clone())),
        Step::Up(rank) => drop(world.down.remove(&VOLUMES[*rank])),
        Step::Sicken(rank) => drop(world.sick.insert(VOLUMES[*rank].clone())),
        Step::Heal(rank) => drop(world.sick.remove(&VOLUMES[*rank])),
        Step::Full(rank) => drop(world.full.insert(VOLUMES[*rank].clone())),
        Step::Tear(rank) => {
            let file = replica_on(world, *rank);
            let half = world.files[&file].bytes.len() / 2;
            world.files.get_mut(&file).unwrap().bytes.truncate(half);
            world.damaged.insert(file);
        }
        Step::Rot(rank) => {
            let file = replica_on(world, *rank);
            let rotten = world.files[&file].bytes.iter().map(|byte| !byte).collect();
            world.files.get_mut(&file).unwrap().bytes = rotten;
            world.damaged.insert(file);
        }
        Step::Outdate(rank) => {
            let file = replica_on(world, *rank);
            world.files.get_mut(&file).unwrap().modified = 0;
            world.damaged.insert(file);
        }
        Step::Lose(rank) => {
            let file = replica_on(world, *rank);
            world.files.remove(&file);
            world.damaged.insert(file);
        }
        Step::Dress => {
            let number = number_of(&world.files[&replica_on(world, 0)].bytes).unwrap();
            let record = world.index.rows.get_mut(&KEYS[0]).unwrap().record.as_mut().unwrap();
            record.headers.push(("Content-Type".into(), "text/plain".into()));
            record.modified = Some(Timestamp::from_seconds(1));
            dressed.insert(number, record.clone());
            for file in world.files.values_mut() {
                file.modified = 1;
            }
        }
        Step::Age => {
            let record = world.index.rows.get_mut(&KEYS[0]).unwrap().record.as_mut().unwrap();
            (record.size, record.modified) = (None, None);
        }
        Step::Vanish(rank) => world.vanish(&VOLUMES[*rank]),
        Step::Return(rank) => world.come_back(&VOLUMES[*rank]),
        Step::MountAll => world.mount_all(),
        Step::Replace(rank) => world.replace_disk(&VOLUMES[*rank]),
        Step::Swap(one, other) => world.swap_disks(&VOLUMES[*one], &VOLUMES[*other]),
        Step::MountForeign(rank) => {
            world.mount_another(&VOLUMES[*rank], foreign_disk(*rank));
        }
        Step::CopyDisk(rank) => world.copy_disk(&VOLUMES[*rank]),
        Step::RestoreDisk(rank) => world.restore_disk(&VOLUMES[*rank]),
        Step::Unguard => world.disks.template = Template::Minikeyvalue,
        Step::Next(kind, rank, fault) => {
            world.armed.push((Call { kind: *kind, volume: VOLUMES[*rank].clone() }, *fault));
        }
        Step::FailNextWrite(fault) => {
            world.armed.push((Call { kind: Kind::Commit, volume: String::new() }, *fault));
        }
        request => unreachable!("{request:?} is for the store"),
    }
}

/// Where the first key's replica on that volume lies.
fn replica_on(world: &State, rank: usize) -> Whereabouts {
    let record = world.index.rows[&KEYS[0]].record.as_ref().unwrap();
    let replica = record.replicas.iter().find(|replica| replica.place.volume() == VOLUMES[rank]).unwrap();
    (VOLUMES[rank].clone(), path(&KEYS[0], replica))
}
