//! The state: an index, volumes, requests in the network between them, a master's memory, and what the
//! clients know. All of it concerns one key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::promises::{Answer, Kind, Operation, Seen};

/// Volumes, by rank: a new value goes to the first ones that seem healthy.
pub(crate) const VOLUMES: u8 = 3;

/// One less than the volumes, so that a volume that fails can be replaced.
pub(crate) const REPLICAS: usize = 2;

/// The number of an intent and of its generation name; the index gives out each number once.
pub(crate) type Id = u8;

/// One more than the number of the PUT that wrote it; 0 existed before.
pub(crate) type Value = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    Plain,
    Generation(Id),
}

/// A name on a volume, whether or not the file exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct File {
    pub(crate) volume: u8,
    pub(crate) name: Name,
}

/// A set of files, one bit for each name on a volume. It is cheap to copy, because there are millions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Files(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) live: bool,
    pub(crate) value: Value,
    pub(crate) files: Files,
}

/// Files that may exist on volumes, and that no record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Intent {
    pub(crate) id: Id,
    /// Whether the attempt that wrote it may still commit.
    pub(crate) open: bool,
    pub(crate) files: Files,
}

/// What the index holds for the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) record: Option<Record>,
    pub(crate) intents: Vec<Intent>,
}

/// A request from a master to a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    /// The writer that waits for the answer; `None` once it has given up.
    pub(crate) asker: Option<Who>,
    pub(crate) verb: Verb,
    pub(crate) file: File,
    /// The intent that names the file.
    pub(crate) intent: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    /// A whole value: a volume shows a file only when it has all of it.
    Put(Value),
    Delete,
}

/// A writer of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// An operation of a client, by its number in the history.
    Client(u8),
    Reaper,
}

/// The progress of a writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Attempt(Attempt),
    Settling(Settling),
}

/// A PUT or a REBALANCE, until its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    /// The index's entry, as the attempt last read or wrote it.
    pub(crate) entry: Entry,
    pub(crate) id: Id,
    /// The future record, with the replicas that are whole so far.
    pub(crate) record: Record,
    /// Named by the intent, but not sent yet.
    pub(crate) unsent: Files,
    /// Where replicas may still go, by rank.
    pub(crate) candidates: Files,
    /// Every request that failed was answered.
    pub(crate) all_answered: bool,
    /// Another master has taken over; it knows only this attempt's intent.
    pub(crate) presumed_dead: bool,
}

/// The deletion of an intent's files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settling {
    pub(crate) entry: Entry,
    pub(crate) id: Id,
    /// Whether the intent ends after this round, if every deletion is confirmed.
    pub(crate) last: bool,
    /// Every request of the attempt was answered.
    pub(crate) all_answered: bool,
    /// All deletions so far were confirmed.
    pub(crate) confirmed: bool,
    /// The client's answer after this round.
    pub(crate) answer: Answer,
}

/// How many events may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// PUTs, DELETEs and REBALANCEs.
    pub(crate) operations: u8,
    /// Requests that are refused or given up, volumes that are down, clients that disconnect.
    pub(crate) faults: u8,
    /// Crashes of the master, and fail-overs to another.
    pub(crate) crashes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The index: it survives everything.
    pub(crate) entry: Entry,
    /// The last number that the index gave out.
    pub(crate) generation: Id,
    /// The files on the volumes.
    pub(crate) stored: BTreeMap<File, Value>,
    /// Requests that were sent, and neither answered nor carried out. Sorted.
    pub(crate) network: Vec<Request>,
    /// Memory: the holder of the key's claim, and attempts that are presumed dead.
    pub(crate) writers: BTreeMap<Who, Work>,
    /// Memory: the closed intents of which all requests were answered.
    pub(crate) all_answered: BTreeSet<Id>,
    /// The key's state before the history began.
    pub(crate) origin: Seen,
    /// The clients' operations and their answers.
    pub(crate) history: Vec<Operation>,
    pub(crate) left: Budget,
}

impl World {
    /// A key without a past.
    pub(crate) fn empty(left: Budget) -> Self {
        World {
            entry: Entry::default(),
            generation: 0,
            stored: BTreeMap::new(),
            network: Vec::new(),
            writers: BTreeMap::new(),
            all_answered: BTreeSet::new(),
            origin: Seen::Nothing,
            history: Vec::new(),
            left,
        }
    }

    /// A key that was PUT once, without faults.
    pub(crate) fn with_value(live: bool, left: Budget) -> Self {
        let mut world = World::empty(left);
        let files: Files =
            (0..VOLUMES).take(REPLICAS).map(|volume| File { volume, name: Name::Plain }).collect();
        world.entry.record = Some(Record { live, value: 0, files });
        world.stored = files.iter().map(|file| (file, 0)).collect();
        world.origin = if live { Seen::Live(0) } else { Seen::Unlinked(0) };
        world.next_id();
        world
    }

    /// A number that was never given out before.
    pub(crate) fn next_id(&mut self) -> Id {
        self.generation += 1;
        self.generation
    }

    /// Begins an operation, and returns its number.
    pub(crate) fn invoke(&mut self, kind: Kind) -> u8 {
        self.left.operations -= 1;
        self.history.push(Operation::new(kind, &self.history));
        u8::try_from(self.history.len() - 1).unwrap()
    }

    /// Ends an operation with an answer.
    pub(crate) fn answer(&mut self, number: u8, answer: Answer) {
        self.history[usize::from(number)].answer = Some(answer);
    }

    pub(crate) fn recorded(&self) -> Files {
        self.entry.record.map_or(Files::default(), |record| record.files)
    }

    pub(crate) fn intended(&self) -> Files {
        self.entry.intents.iter().fold(Files::default(), |files, intent| files.with(intent.files))
    }

    /// Removes and returns the attempt.
    pub(crate) fn take_attempt(&mut self, who: Who) -> Attempt {
        match self.writers.remove(&who) {
            Some(Work::Attempt(attempt)) => attempt,
            work => panic!("not an attempt: {work:?}"),
        }
    }

    /// Adds a request to the network.
    pub(crate) fn send(&mut self, request: Request) {
        self.network.push(request);
        self.network.sort_unstable();
    }

    /// Removes a request from the network.
    pub(crate) fn take_off(&mut self, request: Request) {
        let at = self.network.iter().position(|other| *other == request).unwrap();
        self.network.remove(at);
    }

    /// A volume carries out a request.
    pub(crate) fn carry_out(&mut self, request: Request) {
        match request.verb {
            Verb::Put(value) => self.stored.insert(request.file, value),
            Verb::Delete => self.stored.remove(&request.file),
        };
    }

    /// The number of answers that the writer waits for.
    pub(crate) fn awaited(&self, who: Who) -> usize {
        self.network.iter().filter(|request| request.asker == Some(who)).count()
    }

    /// These writers stop waiting; their requests stay in the network.
    pub(crate) fn stop_waiting(&mut self, whose: impl Fn(Who) -> bool) {
        for request in &mut self.network {
            request.asker = request.asker.filter(|asker| !whose(*asker));
        }
        self.network.sort_unstable();
    }
}

impl Entry {
    pub(crate) fn intent(&self, id: Id) -> Option<&Intent> {
        self.intents.iter().find(|intent| intent.id == id)
    }

    pub(crate) fn without_intent(&self, id: Id) -> Entry {
        let mut entry = self.clone();
        entry.intents.retain(|intent| intent.id != id);
        entry
    }
}

impl Attempt {
    pub(crate) fn is_whole(&self) -> bool {
        self.record.files.len() == REPLICAS
    }
}

impl Files {
    const NAMES: u8 = 16;

    pub(crate) fn insert(&mut self, file: File) {
        let name = match file.name {
            Name::Plain => 0,
            Name::Generation(id) => id,
        };
        assert!(name < Self::NAMES, "the budget is too large for this set");
        self.0 |= 1 << (file.volume * Self::NAMES + name);
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = File> {
        let mut left = self;
        std::iter::from_fn(move || {
            let file = left.first()?;
            left = left.without(Files::from_iter([file]));
            Some(file)
        })
    }

    pub(crate) fn first(self) -> Option<File> {
        let bit = u8::try_from(self.0.trailing_zeros()).ok().filter(|_| !self.is_empty())?;
        let (volume, name) = (bit / Self::NAMES, bit % Self::NAMES);
        Some(File { volume, name: if name == 0 { Name::Plain } else { Name::Generation(name) } })
    }

    pub(crate) fn with(self, other: Files) -> Files {
        Files(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Files) -> Files {
        Files(self.0 & !other.0)
    }

    pub(crate) fn contains(self, file: File) -> bool {
        Files::from_iter([file]).without(self).is_empty()
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<File> for Files {
    fn from_iter<T: IntoIterator<Item = File>>(files: T) -> Self {
        let mut set = Files::default();
        files.into_iter().for_each(|file| set.insert(file));
        set
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Prints `1/plain`, `1/7`.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Name::Plain => write!(f, "{}/plain", self.volume),
            Name::Generation(id) => write!(f, "{}/{id}", self.volume),
        }
    }
}

/// Prints `Put(2) 0/plain for Client(1), intent 3`.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} for ", self.verb, self.file)?;
        match self.asker {
            Some(asker) => write!(f, "{asker:?}")?,
            None => write!(f, "nobody")?,
        }
        write!(f, ", intent {}", self.intent)
    }
}
