//! What can happen: the steps of the protocol, and the faults around it.

use stateright::{Model, Property};

use super::promises::{self, Answer, Kind};
use super::world::{
    Attempt, Budget, Entry, File, Files, Id, Intent, Name, REPLICAS, Record, Request, Settling, VOLUMES,
    Verb, Who, Work, World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client's PUT arrives; that volume seems to be down.
    Put { down: Option<u8> },
    /// A client's DELETE arrives.
    Delete,
    /// A client's REBALANCE arrives, because that replica is not at its placement.
    Rebalance { away: File },
    /// The attempt sends the requests that its intent names.
    Send(Who),
    /// The attempt adds another volume to its intent, in place of one that failed.
    Replace(Who),
    /// The attempt, whole on all volumes, makes its record the key's.
    Commit(Who),
    /// The attempt has no volume left, and gives up.
    Abandon(Who),
    /// The attempt's client disconnects, or its body was wrong.
    Leave(Who),
    /// The reaper deletes an intent's files. If the round is the last and confirmed, the intent ends.
    Reap { intent: Id, last: bool },
    /// The volume carries out the request, and its answer arrives.
    CarryOut(Request),
    /// The volume answers that it did nothing, or is unreachable.
    Refuse(Request),
    /// The asker stops waiting for the answer.
    GiveUp(Request),
    /// The volume carries out a request whose asker has stopped waiting.
    Land(Request),
    /// The master dies, and another starts from the index.
    Crash,
    /// The same, but the old master isn't dead: that attempt of it will wake up, and commit.
    FailOver(Who),
}

/// The result of a request, as its asker sees it.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Refused,
    Unanswered,
}

/// A rule of the protocol, which a mutant leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The index names every file before it can exist.
    Intent,
    /// A doubtful intent ends only when no request of its attempt can be in the network.
    Quarantine,
    /// A write of the index takes effect only if the key's intents are still those that the writer knows.
    ConditionalCommit,
    /// An attempt takes the plain name only if the index knows nothing of the key.
    FreshNames,
    /// A DELETE without an answer doesn't count as done.
    AnsweredDelete,
    /// Only one writer of a key at a time.
    Claim,
    /// A master that takes over closes the intents in the index, where the old master's commit fails on them.
    WrittenClosing,
    /// A replica doesn't move to a name that an intent holds.
    FreeNames,
    /// No number is given out twice, even after a crash.
    DurableNumbers,
}

/// The protocol, complete or without one of its rules.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) without: Option<Rule>,
    pub(crate) budget: Budget,
    /// Whether to check also states that differ from others only irrelevantly.
    pub(crate) unreduced: bool,
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let with_value = |live| World::with_value(live, self.budget);
        vec![World::empty(self.budget), with_value(true), with_value(false)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.operations(world, actions);
        for (who, work) in &world.writers {
            if let Work::Attempt(attempt) = work {
                steps(world, *who, attempt, actions);
            }
        }
        self.rounds(world, actions);
        self.fates(world, actions);
        self.crashes(world, actions);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Put { down } => self.put(&mut world, down),
            Action::Delete => self.delete(&mut world),
            Action::Rebalance { away } => self.rebalance(&mut world, away),
            Action::Send(who) => send(&mut world, who),
            Action::Replace(who) => self.replace(&mut world, who),
            Action::Commit(who) => self.commit(&mut world, who),
            Action::Abandon(who) => self.abandon(&mut world, who),
            Action::Leave(who) => {
                world.left.faults -= 1;
                self.abandon(&mut world, who);
            }
            Action::Reap { intent, last } => self.reap(&mut world, intent, last),
            Action::CarryOut(request) => {
                world.take_off(request);
                world.carry_out(request);
                self.tell(&mut world, request, Outcome::Done);
            }
            Action::Refuse(request) => {
                world.left.faults -= 1;
                world.take_off(request);
                self.tell(&mut world, request, Outcome::Refused);
            }
            Action::GiveUp(request) => {
                world.left.faults -= 1;
                world.take_off(request);
                world.send(Request { asker: None, ..request });
                self.tell(&mut world, request, Outcome::Unanswered);
            }
            Action::Land(request) => {
                world.take_off(request);
                world.carry_out(request);
            }
            Action::Crash => self.take_over(&mut world),
            Action::FailOver(who) => self.fail_over(&mut world, who),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}

/// The conditions of all steps.
impl Protocol {
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether the key can be claimed. Without claims, up to `others` other writers are allowed.
    fn is_free(&self, world: &World, others: usize) -> bool {
        let dead = |work: &Work| matches!(work, Work::Attempt(attempt) if attempt.presumed_dead);
        let claims = world.writers.values().filter(|work| !dead(work)).count();
        claims == 0 || (!self.keeps(Rule::Claim) && claims <= others)
    }

    /// Operations that would be refused are left out: they do nothing, and reveal no more than a GET.
    fn operations(&self, world: &World, actions: &mut Vec<Action>) {
        if world.left.operations == 0 || !self.is_free(world, 1) {
            return;
        }
        if world.entry.record.is_none_or(|record| !record.live) {
            actions.push(Action::Put { down: None });
            if world.left.faults > 0 {
                actions.extend((0..VOLUMES).map(|down| Action::Put { down: Some(down) }));
            }
        }
        if let Some(record) = world.entry.record {
            actions.push(Action::Delete);
            actions.extend(record.files.iter().map(|away| Action::Rebalance { away }));
        }
    }

    fn rounds(&self, world: &World, actions: &mut Vec<Action>) {
        if world.writers.contains_key(&Who::Reaper) || !self.is_free(world, 2) {
            return;
        }
        for Intent { id, files, .. } in world.entry.intents.iter().copied() {
            let finds = self.unreduced || files.iter().any(|file| world.stored.contains_key(&file));
            if finds && !world.all_answered.contains(&id) {
                actions.push(Action::Reap { intent: id, last: false });
            }
            actions.push(Action::Reap { intent: id, last: true });
        }
    }

    /// What volumes and the network can do to requests.
    fn fates(&self, world: &World, actions: &mut Vec<Action>) {
        let mut requests = world.network.clone();
        requests.dedup();
        if !self.unreduced {
            // of several requests of one asker, the first is answered first
            requests.dedup_by(|next, first| first.asker.is_some() && next.asker == first.asker);
        }
        for request in requests {
            if request.asker.is_none() {
                actions.push(Action::Land(request));
                continue;
            }
            actions.push(Action::CarryOut(request));
            if world.left.faults > 0 {
                actions.extend([Action::Refuse(request), Action::GiveUp(request)]);
            }
        }
    }

    fn crashes(&self, world: &World, actions: &mut Vec<Action>) {
        let idle = world.writers.is_empty() && world.all_answered.is_empty();
        if world.left.crashes == 0 || (idle && !self.unreduced) {
            return;
        }
        actions.push(Action::Crash);
        for (who, work) in &world.writers {
            if matches!(work, Work::Attempt(attempt) if attempt.is_whole()) {
                actions.push(Action::FailOver(*who));
            }
        }
    }
}

/// The possible next steps of an attempt.
fn steps(world: &World, who: Who, attempt: &Attempt, actions: &mut Vec<Action>) {
    if !attempt.unsent.is_empty() {
        return actions.push(Action::Send(who));
    }
    if attempt.is_whole() {
        actions.push(Action::Commit(who));
    } else if attempt.record.files.len() + world.awaited(who) < REPLICAS {
        let out_of_volumes = attempt.candidates.is_empty();
        actions.push(if out_of_volumes { Action::Abandon(who) } else { Action::Replace(who) });
    }
    if world.left.faults > 0 && !attempt.presumed_dead {
        actions.push(Action::Leave(who));
    }
}

/// The operations of clients.
impl Protocol {
    fn put(&self, world: &mut World, down: Option<u8>) {
        let number = world.invoke(Kind::Put);
        world.left.faults -= u8::from(down.is_some());
        let id = world.next_id();
        let unused = world.entry == Entry::default();
        let name = if unused { Name::Plain } else { self.fresh_name(id) };
        let healthy = (0..VOLUMES).filter(|volume| Some(*volume) != down);
        let candidates = healthy.map(|volume| File { volume, name }).collect();
        let record = Record { live: true, value: number + 1, files: Files::default() };
        self.begin(world, Who::Client(number), id, record, candidates);
    }

    /// Copies a replica to the volume that has none, so that another can be deleted.
    fn rebalance(&self, world: &mut World, away: File) {
        let number = world.invoke(Kind::Rebalance);
        let id = world.next_id();
        let mut record = world.entry.record.unwrap();
        let name = record.files.first().unwrap().name;
        let has = |volume: &u8| record.files.iter().any(|file| file.volume == *volume);
        let volume = (0..VOLUMES).find(|volume| !has(volume)).unwrap();
        let same = File { volume, name };
        let burnt = self.keeps(Rule::FreeNames) && world.intended().contains(same);
        let free = !burnt && !world.stored.contains_key(&same);
        let target = if free { same } else { File { volume, name: self.fresh_name(id) } };
        record.files = record.files.without(Files::from_iter([away]));
        self.begin(world, Who::Client(number), id, record, Files::from_iter([target]));
    }

    /// Deletes the record and writes a closed intent for its files in one step; the files are deleted
    /// afterwards.
    fn delete(&self, world: &mut World) {
        let number = world.invoke(Kind::Delete);
        let id = world.next_id();
        let before = world.entry.clone();
        let mut after = Entry { record: None, ..before.clone() };
        after.intents.push(Intent { id, open: false, files: world.recorded() });
        self.write(world, &before, &after);
        let settling = Settling {
            entry: after,
            id,
            last: true,
            all_answered: true,
            confirmed: true,
            answer: Answer::Done,
        };
        self.settle(world, Who::Client(number), settling);
    }

    fn fresh_name(&self, id: Id) -> Name {
        if self.keeps(Rule::FreshNames) { Name::Generation(id) } else { Name::Plain }
    }
}

/// The steps of an attempt.
impl Protocol {
    fn begin(&self, world: &mut World, who: Who, id: Id, record: Record, candidates: Files) {
        let entry = world.entry.clone();
        let unsent = Files::default();
        let attempt =
            Attempt { entry, id, record, unsent, candidates, all_answered: true, presumed_dead: false };
        self.intend(world, who, attempt);
    }

    fn replace(&self, world: &mut World, who: Who) {
        let attempt = world.take_attempt(who);
        self.intend(world, who, attempt);
    }

    /// *Index write 1*: names the files of the missing replicas before they can exist.
    fn intend(&self, world: &mut World, who: Who, mut attempt: Attempt) {
        let missing = REPLICAS - attempt.record.files.len() - world.awaited(who);
        let files: Files = attempt.candidates.iter().take(missing).collect();
        attempt.candidates = attempt.candidates.without(files);
        let before = attempt.entry.clone();
        match attempt.entry.intents.iter_mut().find(|intent| intent.id == attempt.id) {
            Some(intent) => intent.files = intent.files.with(files),
            None => attempt.entry.intents.push(Intent { id: attempt.id, open: true, files }),
        }
        let written = self.write(world, &before, &attempt.entry);
        if written {
            attempt.unsent = files;
        } else {
            attempt.entry = before;
        }
        world.writers.insert(who, Work::Attempt(attempt));
        if !written {
            self.abandon(world, who);
        }
    }

    /// *Index write 2*: writes the record, removes its files from the intent, and writes an intent for the
    /// files that it replaces.
    ///
    /// The client is answered in the same step: if it never gets the answer, it only knows less.
    fn commit(&self, world: &mut World, who: Who) {
        let Attempt { entry: before, id, record, all_answered, presumed_dead, .. } = world.take_attempt(who);
        let mut after = before.clone();
        after.record = Some(record);
        for intent in after.intents.iter_mut().filter(|intent| intent.id == id) {
            intent.files = intent.files.without(record.files);
        }
        after.intents.retain(|intent| !intent.files.is_empty());
        let replaced = before.record.map_or(Files::default(), |old| old.files.without(record.files));
        let surplus = (!replaced.is_empty()).then(|| world.next_id());
        after.intents.extend(surplus.map(|id| Intent { id, open: false, files: replaced }));
        if !self.write(world, &before, &after) {
            // the reaper deletes the files, and the client gets no success
            return;
        }
        if !presumed_dead {
            let left_over = Some(id).filter(|id| all_answered && after.intent(*id).is_some());
            world.all_answered.extend(surplus.into_iter().chain(left_over));
        }
        world.answer(number(who), Answer::Done);
    }

    /// Closes the intent, and deletes the files of the attempt.
    fn abandon(&self, world: &mut World, who: Who) {
        let Attempt { entry, id, mut all_answered, .. } = world.take_attempt(who);
        all_answered &= world.awaited(who) == 0;
        world.stop_waiting(|asker| asker == who);
        let settling =
            Settling { entry, id, last: all_answered, all_answered, confirmed: true, answer: Answer::Failed };
        self.settle(world, who, settling);
    }
}

fn send(world: &mut World, who: Who) {
    let mut attempt = world.take_attempt(who);
    let (verb, intent) = (Verb::Put(attempt.record.value), attempt.id);
    for file in std::mem::take(&mut attempt.unsent).iter() {
        world.send(Request { asker: Some(who), verb, file, intent });
    }
    world.writers.insert(who, Work::Attempt(attempt));
}

/// Deletions.
impl Protocol {
    fn reap(&self, world: &mut World, id: Id, last: bool) {
        if last && self.keeps(Rule::Quarantine) {
            // the quarantine is over: delayed requests have arrived by now, or never will
            world.network.retain(|request| request.intent != id);
        }
        let (entry, all_answered) = (world.entry.clone(), world.all_answered.contains(&id));
        let settling = Settling { entry, id, last, all_answered, confirmed: true, answer: Answer::Done };
        self.settle(world, Who::Reaper, settling);
    }

    /// Asks the volumes to delete the intent's files.
    fn settle(&self, world: &mut World, who: Who, settling: Settling) {
        let files = settling.entry.intent(settling.id).map_or(Files::default(), |intent| intent.files);
        for file in files.iter() {
            world.send(Request { asker: Some(who), verb: Verb::Delete, file, intent: settling.id });
        }
        world.writers.insert(who, Work::Settling(settling));
        self.end_if_answered(world, who);
    }

    /// Tells the asker the outcome of a request.
    fn tell(&self, world: &mut World, request: Request, outcome: Outcome) {
        let Some(who) = request.asker else { return };
        match (world.writers.get_mut(&who), outcome) {
            (Some(Work::Attempt(attempt)), Outcome::Done) => attempt.record.files.insert(request.file),
            (Some(Work::Attempt(attempt)), Outcome::Unanswered) => attempt.all_answered = false,
            (Some(Work::Settling(settling)), Outcome::Refused) => settling.confirmed = false,
            (Some(Work::Settling(settling)), Outcome::Unanswered) if self.keeps(Rule::AnsweredDelete) => {
                settling.confirmed = false;
                settling.all_answered = false;
            }
            _ => {}
        }
        self.end_if_answered(world, who);
    }

    /// With the last answer, the intent ends or is left to the reaper, and the client is answered.
    fn end_if_answered(&self, world: &mut World, who: Who) {
        let Some(Work::Settling(settling)) = world.writers.get(&who) else { return };
        if world.awaited(who) > 0 {
            return;
        }
        let Settling { entry, id, last, all_answered, confirmed, answer } = settling.clone();
        world.writers.remove(&who);
        world.all_answered.remove(&id);
        if last && confirmed {
            self.write(world, &entry, &entry.without_intent(id));
        } else if all_answered {
            world.all_answered.insert(id);
        }
        if who != Who::Reaper {
            world.answer(number(who), answer);
        }
    }
}

/// The index, and changes of the master that owns it.
impl Protocol {
    /// One atomic batch that changes `before` to `after`, if the key's intents still are those of `before`.
    fn write(&self, world: &mut World, before: &Entry, after: &Entry) -> bool {
        let conditional = self.keeps(Rule::ConditionalCommit) && self.keeps(Rule::Intent);
        if conditional && world.entry.intents != before.intents {
            return false;
        }
        if before.record != after.record {
            world.entry.record = after.record;
        }
        if self.keeps(Rule::Intent) {
            world.entry.intents.clone_from(&after.intents);
        }
        true
    }

    /// A new master starts: the memory is lost, all intents are closed and doubtful, and requests stay in the
    /// network.
    fn take_over(&self, world: &mut World) {
        world.left.crashes -= 1;
        world.writers.clear();
        world.all_answered.clear();
        world.stop_waiting(|_| true);
        if self.keeps(Rule::WrittenClosing) {
            world.entry.intents.iter_mut().for_each(|intent| intent.open = false);
        }
        if !self.keeps(Rule::DurableNumbers) {
            world.generation = 0;
        }
    }

    fn fail_over(&self, world: &mut World, who: Who) {
        let attempt = world.take_attempt(who);
        self.take_over(world);
        world.writers.insert(who, Work::Attempt(Attempt { presumed_dead: true, ..attempt }));
    }
}

fn number(who: Who) -> u8 {
    match who {
        Who::Client(number) => number,
        Who::Reaper => panic!("the reaper is not an operation"),
    }
}
