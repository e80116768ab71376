//! A real master over five real volumes, with a place for faults between all parts, and the faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::http::request;
use crate::common::{Disk, Gate, Master, Order, Random, Volume, eventually};
use crate::load::Load;

pub const VOLUMES: usize = 5;
pub const REPLICAS: usize = 3;

/// The first volumes have gates in front; the master contacts the others directly, and they have small disks.
pub const GATED: usize = 3;

/// Longer than any request can take to arrive: delays, frozen processes, and the timeouts below.
const QUARANTINE: &str = "10s";
const LINGER: Duration = Duration::from_secs(3);
const FLAGS: &[&str] =
    &["--quarantine", QUARANTINE, "--streamtimeout", "1s", "--readergrace", "3s", "--recheck", "100ms"];

const VOLUME_DISK: &str = "512m";
const INDEX_DISK: &str = "128m";

/// How long the master may take to write its index again once it can.
const RECOVERY: Duration = Duration::from_mins(1);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    MasterKilled,
    MasterFrozen,
    VolumeKilled(usize),
    VolumeFrozen(usize),
    VolumeFull(usize),
    /// Another server, which treats all requests in this way, replaces the volume.
    VolumeReplaced(usize, Face),
    /// Some requests to the volume, and some of its answers, are delayed, lost or cut.
    Flaky(usize),
    /// The index can't be written.
    IndexFull,
    /// The volume's disk vanishes: its nginx goes on over the empty mount point.
    DiskAway(usize),
    /// The same, and the master is killed and starts meanwhile.
    DiskAwayAtStart(usize),
}

/// How a server that replaces a volume behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Face {
    /// Answers with that status.
    Status(u16),
    Garbage,
    HalfAnswers,
    Nothing,
    OneByteASecond,
}

/// The master and its volumes, in a temporary directory.
pub struct Bench {
    // fields drop in this order: the master first, the directory last
    pub master: Master,
    pub gates: Vec<Gate>,
    pub volumes: Vec<Volume>,
    /// The addresses that the master knows.
    pub addresses: Vec<String>,
    pub db: PathBuf,
    disks: Vec<Disk>,
    pub tempdir: tempfile::TempDir,
}

impl Fault {
    /// Draws any fault that is possible on this bench.
    pub fn draw(random: &mut Random, bench: &Bench) -> Self {
        const FACES: &[Face] = &[
            Face::Status(500),
            Face::Status(507),
            Face::Garbage,
            Face::HalfAnswers,
            Face::Nothing,
            Face::OneByteASecond,
        ];
        let index = |number: u64| usize::try_from(number).unwrap();
        let any = index(random.below(VOLUMES as u64));
        let (gated, direct) = (any % GATED, GATED + any % (VOLUMES - GATED));
        match random.below(14) {
            0 => Self::MasterKilled,
            1 => Self::MasterFrozen,
            2 | 3 => Self::VolumeKilled(any),
            4 | 5 => Self::VolumeFrozen(any),
            6 if bench.has_small_disks() => Self::VolumeFull(direct),
            7 if bench.has_small_disks() => Self::IndexFull,
            8 | 9 => Self::Flaky(gated),
            10 => Self::DiskAway(gated),
            11 => Self::DiskAwayAtStart(gated),
            _ => Self::VolumeReplaced(gated, *random.pick(FACES)),
        }
    }

    /// The volume that has the fault.
    pub fn volume(self) -> Option<usize> {
        match self {
            Self::MasterKilled | Self::MasterFrozen | Self::IndexFull => None,
            Self::VolumeKilled(number)
            | Self::VolumeFrozen(number)
            | Self::VolumeFull(number)
            | Self::VolumeReplaced(number, _)
            | Self::Flaky(number)
            | Self::DiskAway(number)
            | Self::DiskAwayAtStart(number) => Some(number),
        }
    }

    /// Whether both can't be at once: the end of one would end the other, or a master can't start.
    pub fn clashes(self, other: Self) -> bool {
        let is_of_master =
            |fault: Self| fault.volume().is_none() || matches!(fault, Self::DiskAwayAtStart(_));
        is_of_master(self) && is_of_master(other) || self.volume() == other.volume()
    }

    /// Its kind, for counting.
    pub fn kind(self) -> String {
        match self {
            Self::VolumeReplaced(_, face) => format!("VolumeReplaced({face:?})"),
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        }
    }
}

impl Bench {
    pub fn new() -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let dir = |name: &str| tempdir.path().join(name);
        let mut disks = Vec::new();
        for number in GATED..VOLUMES {
            disks.extend(Disk::tmpfs(&dir(&format!("volume{number}")), VOLUME_DISK));
        }
        disks.extend(Disk::tmpfs(&dir("index"), INDEX_DISK));
        fs::create_dir_all(dir("index")).unwrap();
        let volumes: Vec<_> =
            (0..VOLUMES).map(|number| Volume::start(&dir(&format!("volume{number}")))).collect();
        let gates: Vec<_> = volumes.iter().take(GATED).map(Gate::before).collect();
        let direct = volumes.iter().skip(GATED).map(Volume::addr);
        let addresses: Vec<_> = gates.iter().map(Gate::addr).chain(direct).collect();
        let db = dir("index").join("db");
        let master = Master::start(&db, &addresses, FLAGS);
        Self { master, gates, volumes, addresses, db, disks, tempdir }
    }

    /// Whether there are small disks; only root can mount them.
    pub fn has_small_disks(&self) -> bool {
        self.disks.len() == VOLUMES - GATED + 1
    }

    /// Begins a fault.
    pub fn begin(&mut self, fault: Fault, random: &mut Random, load: &Load) {
        match fault {
            Fault::MasterKilled => self.kill_master(load),
            Fault::DiskAway(number) => self.take_disk(number),
            Fault::DiskAwayAtStart(number) => {
                self.take_disk(number);
                self.kill_master(load);
            }
            Fault::MasterFrozen => self.master.pause(),
            Fault::VolumeKilled(number) => self.volumes[number].kill(),
            Fault::VolumeFrozen(number) => self.volumes[number].pause(),
            Fault::VolumeFull(number) => fill(self.volumes[number].dir()),
            Fault::VolumeReplaced(number, face) => {
                let order = match face {
                    Face::Status(status) => Order::Answer(status),
                    Face::Garbage => Order::Garbage,
                    Face::HalfAnswers => Order::HalfAnswer,
                    Face::Nothing => Order::Nothing,
                    Face::OneByteASecond => Order::DripAnswer(Duration::from_secs(1)),
                };
                self.gates[number].rule(move |_, _| Some(order));
            }
            Fault::Flaky(number) => {
                let mut random = Random(random.next());
                self.gates[number].rule(move |_, _| misfortune(&mut random));
            }
            Fault::IndexFull => {
                load.index_is_full();
                fill(self.db.parent().unwrap());
            }
        }
    }

    fn kill_master(&mut self, load: &Load) {
        let since = load.now();
        self.master.kill();
        load.master_died();
        self.master.restart();
        load.master_was_away(since);
    }

    /// Takes the volume's disk away, from one moment to the next. (The gated volumes lie in plain directories.)
    fn take_disk(&self, number: usize) {
        let dir = self.volumes[number].dir();
        fs::rename(dir, aside(dir)).unwrap();
        fs::create_dir(dir).unwrap();
    }

    /// Mounts it again. Nothing may have been written to its mount point.
    fn bring_disk(&self, number: usize) {
        let dir = self.volumes[number].dir();
        let bare: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(bare.is_empty(), "written to the mount point: {bare:?}");
        fs::remove_dir(dir).unwrap();
        fs::rename(aside(dir), dir).unwrap();
    }

    /// Ends a fault that began at `since`.
    pub fn end(&mut self, fault: Fault, since: u64, load: &Load) {
        match fault {
            Fault::MasterKilled => {}
            Fault::DiskAway(number) | Fault::DiskAwayAtStart(number) => self.bring_disk(number),
            Fault::MasterFrozen => {
                self.master.resume();
                load.master_was_away(since);
            }
            Fault::VolumeKilled(number) => self.volumes[number].restart(),
            Fault::VolumeFrozen(number) => self.volumes[number].resume(),
            Fault::VolumeFull(number) => clear(self.volumes[number].dir()),
            Fault::VolumeReplaced(number, _) | Fault::Flaky(number) => {
                self.gates[number].open();
                self.gates[number].forget();
            }
            Fault::IndexFull => {
                clear(self.db.parent().unwrap());
                eventually("the index can be written again", RECOVERY, || {
                    // volumes may be down at the same time
                    let ready = request(&self.master.addr(), "GET", "/?ready", &[], b"");
                    !ready.text().contains("the index")
                });
                load.index_was_full(since);
            }
        }
    }
}

/// Draws what happens to a request on a flaky connection. A delayed request arrives after the master has
/// given up the attempt, but within the quarantine.
fn misfortune(random: &mut Random) -> Option<Order> {
    let late = |random: &mut Random| LINGER * u32::try_from(random.below(100)).unwrap() / 100;
    match random.below(100) {
        0..5 => Some(Order::Delay(late(random))),
        5..10 => Some(Order::DelayAnswer(late(random))),
        10..13 => Some(Order::CutAfter(usize::try_from(random.below(5000)).unwrap())),
        13..15 => Some(Order::HalfAnswer),
        15..17 => Some(Order::Delay(Duration::from_millis(20))),
        _ => None,
    }
}

/// Where the disk of a volume is while it is away.
fn aside(dir: &Path) -> PathBuf {
    dir.with_extension("away")
}

/// Fills the file system that holds the directory.
fn fill(dir: &Path) {
    let zeros = vec![0; 1 << 20];
    let mut ballast = fs::File::create(dir.join(BALLAST)).unwrap();
    for length in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut ballast, &zeros[..length]).is_ok() {}
    }
}

fn clear(dir: &Path) {
    fs::remove_file(dir.join(BALLAST)).unwrap();
}

/// The leading dot hides it from listings.
const BALLAST: &str = ".ballast";
