//! What must hold at every moment, and which situations the checker must reach.

use stateright::{Model as _, Property};

use super::protocol::{Action, Protocol};
use super::world::{Files, Name, Value, Verb, Work, World};

pub(crate) const WHOLE: &str = "each replica that the record names is whole";
pub(crate) const NAMED: &str = "each file on a volume is named by the index";
pub(crate) const FORESEEN: &str = "each request on its way is to a file that an intent names";
pub(crate) const OWNED: &str = "each name on a volume is held by one attempt only";
pub(crate) const LINEARIZABLE: &str = "the answers are those of one operation after the other";
pub(crate) const CLEAN: &str = "left alone, the reaper leaves the record's files and nothing else";

/// What must hold at every moment.
pub(crate) const KEPT: [&str; 6] = [WHOLE, NAMED, FORESEEN, OWNED, LINEARIZABLE, CLEAN];

/// These, and the situations that must be reached, because a model without events keeps every promise.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(WHOLE, |_, world| is_whole(world)),
        Property::always(NAMED, |_, world| is_named(world)),
        Property::always(FORESEEN, |_, world| is_foreseen(world)),
        Property::always(OWNED, |_, world| is_owned(world)),
        Property::always(LINEARIZABLE, |_, world| is_linearizable(world)),
        Property::always(CLEAN, ends_clean),
        Property::sometimes("a PUT succeeds although a volume fails", |protocol, world: &World| {
            world.left.faults < protocol.budget.faults && has_new_value(world)
        }),
        Property::sometimes("a value is there, and a late PUT of another on its way", |_, world: &World| {
            has_new_value(world) && has_late_put(world)
        }),
        Property::sometimes("a late PUT lands after a crash, beside a value", |protocol, world: &World| {
            has_crashed(protocol, world) && has_new_value(world) && has_stray_put(world)
        }),
        Property::sometimes("a value has generation names only", |_, world: &World| {
            has_name(world, |name| name != Name::Plain) && !has_name(world, |name| name == Name::Plain)
        }),
        Property::sometimes("a value has a plain name and a generation name", |_, world: &World| {
            has_name(world, |name| name != Name::Plain) && has_name(world, |name| name == Name::Plain)
        }),
        Property::sometimes("all that a crash left in doubt is over", |protocol, world: &World| {
            has_crashed(protocol, world) && has_unanswered(world) && world.entry.intents.is_empty()
        }),
        Property::sometimes("an attempt that is presumed dead wakes up too late", |_, world: &World| {
            world.writers.values().any(|work| wakes_too_late(world, work))
        }),
    ]
}

/// Acknowledged values are served.
fn is_whole(world: &World) -> bool {
    let value = |value: Value, files: Files| files.iter().all(|file| world.stored.get(&file) == Some(&value));
    world.entry.record.is_none_or(|record| value(record.value, record.files))
}

/// The first invariant, for existing files …
fn is_named(world: &World) -> bool {
    let named = world.recorded().with(world.intended());
    world.stored.keys().all(|file| named.contains(*file))
}

/// … and for files that may still appear. No request in the network affects a record's files.
fn is_foreseen(world: &World) -> bool {
    let intended = world.intended();
    world.network.iter().all(|request| intended.contains(request.file))
}

/// The second invariant.
fn is_owned(world: &World) -> bool {
    let holders = world.entry.intents.iter().map(|intent| intent.files).chain([world.recorded()]);
    holders.map(Files::len).sum::<usize>() == world.recorded().with(world.intended()).len()
}

/// Without further writes, one last round of the reaper on each intent, with all volumes answering, removes
/// everything but the record.
fn ends_clean(protocol: &Protocol, world: &World) -> bool {
    if !world.writers.is_empty() {
        return true;
    }
    let mut world = world.clone();
    for intent in world.entry.intents.clone() {
        let mut step = Some(Action::Reap { intent: intent.id, last: true });
        while let Some(action) = step {
            world = protocol.next_state(&world, action).unwrap();
            let awaited = world.network.iter().find(|request| request.asker.is_some());
            step = awaited.map(|request| Action::CarryOut(*request));
        }
    }
    world.entry.intents.is_empty() && world.stored.keys().copied().eq(world.recorded().iter())
}

fn has_new_value(world: &World) -> bool {
    world.entry.record.is_some_and(|record| record.value > 0)
}

fn has_name(world: &World, such: impl Fn(Name) -> bool) -> bool {
    world.recorded().iter().any(|file| such(file.name))
}

fn has_late_put(world: &World) -> bool {
    world.network.iter().any(|request| request.asker.is_none() && matches!(request.verb, Verb::Put(_)))
}

fn has_stray_put(world: &World) -> bool {
    let value = world.entry.record.map(|record| record.value);
    world.stored.values().any(|stored| *stored > 0 && Some(*stored) != value)
}

fn has_crashed(protocol: &Protocol, world: &World) -> bool {
    world.left.crashes < protocol.budget.crashes && world.writers.is_empty()
}

fn has_unanswered(world: &World) -> bool {
    world.history.iter().any(|operation| operation.answer.is_none())
}

fn wakes_too_late(world: &World, work: &Work) -> bool {
    matches!(work, Work::Attempt(attempt)
        if attempt.presumed_dead && world.entry.record.is_some_and(|new| new.value > attempt.record.value))
}

/// An operation as its client sees it. Its number is its index in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operation {
    kind: Kind,
    /// The operations that were answered before this one was sent, one bit each.
    after: u8,
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Put,
    Delete,
    /// Changes nothing that a client can see.
    Rebalance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// 201 or 204.
    Done,
    /// An error that means that nothing was changed.
    Failed,
}

/// The key, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Nothing,
    Live(Value),
    Unlinked(Value),
}

impl Operation {
    pub(crate) fn new(kind: Kind, history: &[Operation]) -> Self {
        let told = |operation: &Operation| operation.kind != Kind::Rebalance && operation.answer.is_some();
        let earlier = history.iter().enumerate().filter(|(_, operation)| told(operation));
        Operation { kind, after: earlier.map(|(number, _)| 1 << number).sum(), answer: None }
    }

    /// The key after the operation, if no other operation interferes and its answer is possible.
    fn apply(self, number: u8, before: Seen) -> Option<Seen> {
        match (self.kind, before) {
            (Kind::Rebalance, _) => Some(before),
            _ if self.answer == Some(Answer::Failed) => Some(before),
            (Kind::Put, Seen::Nothing | Seen::Unlinked(_)) => Some(Seen::Live(number + 1)),
            (Kind::Delete, Seen::Live(_) | Seen::Unlinked(_)) => Some(Seen::Nothing),
            (Kind::Put, Seen::Live(_)) | (Kind::Delete, Seen::Nothing) => None,
        }
    }
}

/// Whether some order of the operations explains all answers and the current state. An operation comes after
/// those that were answered before it was sent. One without an answer may have happened or not.
fn is_linearizable(world: &World) -> bool {
    let seen = world.entry.record.map_or(Seen::Nothing, |record| {
        if record.live { Seen::Live(record.value) } else { Seen::Unlinked(record.value) }
    });
    explains(&world.history, 0, world.origin, seen)
}

fn explains(history: &[Operation], done: u8, before: Seen, now: Seen) -> bool {
    let open = || (0..).zip(history).filter(|(number, _)| done & (1_u8 << number) == 0);
    if before == now && open().all(|(_, operation)| operation.answer.is_none()) {
        return true;
    }
    let next = open().filter(|(_, operation)| operation.after & !done == 0);
    next.filter_map(|(number, operation)| Some((number, operation.apply(number, before)?)))
        .any(|(number, after)| explains(history, done | (1 << number), after, now))
}
