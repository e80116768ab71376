//! Checks whether a key's history is *linearizable*: whether each operation can be assigned one moment
//! between its call and its answer, so that a single copy of the key, with the operations in the order of
//! these moments, would have given the same answers.
//!
//! The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's cache of
//! visited states ("Testing for linearizability", 2017). Keys are independent, so each has a history and a
//! search of its own.

use std::collections::HashSet;
use std::fmt;

/// Upper bound on the operations in one history.
pub const LONGEST: usize = 256;

/// The number of a value; no two PUTs have the same.
pub type Value = u64;

/// One of the key's uploads in parts, at most 64 per history.
pub type Upload = u8;

/// What a client requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Put(When, Value),
    /// Needs a value, live or unlinked.
    Delete,
    /// S3's deletion, which succeeds without a value; an unlinked one counts as none.
    Erase(When),
    Unlink,
    Relink,
    /// Changes nothing that clients see, but needs a value.
    Rebalance,
    /// Makes the upload's parts the value, and ends the upload. Succeeds again as long as the value is the
    /// one that it made.
    Complete(Upload, When, Value),
    Abort(Upload),
    /// Any request that needs an open upload: storing a part, or listing parts.
    Touch(Upload),
}

/// What the key must hold for a write to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// No live value.
    Absent,
    Always,
    /// That value, live.
    Holds(Value),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A write was carried out (200, 201, 204).
    Done,
    /// A read returned that value.
    Read(Value),
    /// The key isn't in the state that the action needs (404; for an action that needs no value, 403 or 412).
    Refused,
    /// The key has another value than the action needs (412).
    Differs,
    /// The upload has ended (404).
    Ended,
    /// Unknown: a write got no answer, or an inconclusive one.
    Doubtful,
}

/// One operation on the key, with the times of its call and its answer in nanoseconds. A doubtful one has no
/// effect after `answered`, which may be `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub action: Action,
    pub outcome: Outcome,
    pub called: u64,
    pub answered: u64,
}

/// The single copy of the key, and the set of its uploads that have ended, one bit each. Each history begins
/// without a value and with all uploads open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    content: Content,
    ended: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Content {
    #[default]
    Absent,
    Live(Value),
    Unlinked(Value),
}

/// A history that no order of its operations explains.
#[derive(Debug)]
pub struct Violation {
    history: Vec<Operation>,
    /// The longest explanation found: the operations in order; the last state follows.
    explained: Vec<usize>,
    state: State,
}

impl When {
    /// How a write ends if it may not take effect.
    fn refusal(self, content: Content) -> Option<Outcome> {
        match (self, content) {
            (Self::Always, _) | (Self::Absent, Content::Absent | Content::Unlinked(_)) => None,
            (Self::Holds(value), Content::Live(held)) => (held != value).then_some(Outcome::Differs),
            (Self::Absent, Content::Live(_)) | (Self::Holds(_), _) => Some(Outcome::Refused),
        }
    }
}

impl State {
    /// The state after an operation with that outcome; `None` if the outcome is impossible in this state.
    pub fn after(self, action: Action, outcome: Outcome) -> Option<Self> {
        match (self.run(action), outcome) {
            (Ok(after), Outcome::Done | Outcome::Doubtful) => Some(after),
            (Err(end), outcome) if end == outcome => Some(self),
            _ => None,
        }
    }

    /// The state after a successful operation, or the outcome of one that changes nothing.
    fn run(self, action: Action) -> Result<Self, Outcome> {
        use Content::{Absent, Live, Unlinked};
        let to = |content| Ok(Self { content, ..self });
        let to_if = |when: When, content| when.refusal(self.content).map_or_else(|| to(content), Err);
        match (action, self.content) {
            (Action::Get, Live(value)) => Err(Outcome::Read(value)),
            (Action::Put(when, value), _) => to_if(when, Live(value)),
            (Action::Delete, Live(_) | Unlinked(_)) => to(Absent),
            (Action::Erase(when), Live(_)) => to_if(when, Absent),
            (Action::Unlink, Live(old)) => to(Unlinked(old)),
            (Action::Relink, Unlinked(old)) => to(Live(old)),
            (Action::Complete(upload, _, value), Live(held)) if self.has_ended(upload) && held == value => {
                Ok(self)
            }
            (Action::Complete(upload, ..) | Action::Abort(upload) | Action::Touch(upload), _)
                if self.has_ended(upload) =>
            {
                Err(Outcome::Ended)
            }
            (Action::Complete(upload, when, value), _) => Ok(to_if(when, Live(value))?.without(upload)),
            (Action::Abort(upload), _) => Ok(self.without(upload)),
            (Action::Touch(_) | Action::Erase(_), _) | (Action::Rebalance, Live(_) | Unlinked(_)) => Ok(self),
            _ => Err(Outcome::Refused),
        }
    }

    fn has_ended(self, upload: Upload) -> bool {
        self.ended >> upload & 1 == 1
    }

    fn without(self, upload: Upload) -> Self {
        Self { ended: self.ended | 1 << upload, ..self }
    }
}

/// Checks one key's history.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    check_atomic(history).or_else(|violation| {
        let explained = overtaken(history, MOST_OVERTAKEN).iter().any(|other| check_atomic(other).is_ok());
        if explained { Ok(()) } else { Err(violation) }
    })
}

/// Upper bound on the completions of one history that are assumed to be overtaken.
const MOST_OVERTAKEN: usize = 2;

/// All variants of the history in which up to `most` completions were overtaken by an overwrite. An overtaken
/// completion counts as if it came just before the overwrite, which must have taken effect during it. No
/// client can have read its value, and its upload ends later, when the master finds out.
fn overtaken(history: &[Operation], most: usize) -> Vec<Vec<Operation>> {
    let mut others = Vec::new();
    if most == 0 {
        return others;
    }
    let took_effect = |outcome| matches!(outcome, Outcome::Done | Outcome::Doubtful);
    for (number, completion) in history.iter().enumerate() {
        let Action::Complete(upload, When::Always, value) = completion.action else { continue };
        let was_read = history.iter().any(|operation| operation.outcome == Outcome::Read(value));
        let saw_it_open = |seen: &Operation| match (seen.action, seen.outcome) {
            (Action::Touch(seen), Outcome::Done)
            | (Action::Complete(seen, ..), Outcome::Refused | Outcome::Differs) => seen == upload,
            _ => false,
        };
        let seen_open = history.iter().any(|seen| saw_it_open(seen) && seen.answered > completion.called);
        if !took_effect(completion.outcome) || was_read || !seen_open {
            continue;
        }
        for (other, overwrite) in history.iter().enumerate() {
            let called = overwrite.called.max(completion.called);
            let answered = overwrite.answered.min(completion.answered);
            let overwrites = matches!(
                overwrite.action,
                Action::Put(When::Always, _) | Action::Complete(_, When::Always, _)
            );
            if other == number || !overwrites || !took_effect(overwrite.outcome) || called > answered {
                continue;
            }
            let mut words = history.to_vec();
            words[number].action = Action::Abort(upload);
            words[other] = Operation { outcome: Outcome::Done, called, answered, ..*overwrite };
            others.extend(overtaken(&words, most - 1));
            others.push(words);
        }
    }
    others
}

/// Checks one key's history, each operation of which has all its effects at once.
fn check_atomic(history: &[Operation]) -> Result<(), Violation> {
    assert!(history.len() <= LONGEST, "a history of {} operations", history.len());
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let anonymous = anonymous(&history);
    let mut search = Search { history: &anonymous, tried: HashSet::new(), order: vec![], best: vec![] };
    if search.explain(Placed::default(), State::default(), None) {
        return Ok(());
    }
    let explained = search.best;
    let replay = |state: State, &number: &usize| {
        let Operation { action, outcome, .. } = history[number];
        state.after(action, outcome).unwrap_or(state)
    };
    let state = explained.iter().fold(State::default(), replay);
    Err(Violation { history, explained, state })
}

/// The history with one value for all doubtful PUTs whose values were never seen. They are interchangeable,
/// which keeps the search short.
fn anonymous(history: &[Operation]) -> Vec<Operation> {
    const NOBODYS: Value = Value::MAX;
    let names = |operation: &Operation| {
        let read = match operation.outcome {
            Outcome::Read(value) => Some(value),
            _ => None,
        };
        let (expected, made) = match operation.action {
            Action::Put(When::Holds(value), _) | Action::Erase(When::Holds(value)) => (Some(value), None),
            Action::Complete(_, When::Holds(value), made) => (Some(value), Some(made)),
            Action::Complete(_, _, made) => (None, Some(made)),
            _ => (None, None),
        };
        [read, expected, made]
    };
    let known: HashSet<Value> = history.iter().flat_map(names).flatten().collect();
    let anonymous = |operation: &Operation| match (operation.action, operation.outcome) {
        (Action::Put(when, value), Outcome::Doubtful) if !known.contains(&value) => {
            Operation { action: Action::Put(when, NOBODYS), ..*operation }
        }
        _ => *operation,
    };
    history.iter().map(anonymous).collect()
}

/// The operations that already have their place in the order, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Placed([u64; LONGEST / 64]);

impl Placed {
    fn has(&self, operation: usize) -> bool {
        self.0[operation / 64] >> (operation % 64) & 1 == 1
    }

    fn with(mut self, operation: usize) -> Self {
        self.0[operation / 64] |= 1 << (operation % 64);
        self
    }
}

struct Search<'a> {
    history: &'a [Operation],
    /// Visited combinations from which no order leads to the end: placed operations, their state, and the
    /// state without the last doubtful operation.
    tried: HashSet<(Placed, State, Option<State>)>,
    order: Vec<usize>,
    best: Vec<usize>,
}

impl Search<'_> {
    /// Whether the remaining operations can follow that state. `without` is the state in which the last
    /// effective doubtful operation had no effect, as long as no later operation has told the two apart.
    fn explain(&mut self, placed: Placed, state: State, without: Option<State>) -> bool {
        if self.order.len() > self.best.len() {
            self.best.clone_from(&self.order);
        }
        let left = self.history.iter().enumerate().filter(|(number, _)| !placed.has(*number));
        // an operation called after an answer must come after it
        let first_answer = left.clone().map(|(_, operation)| operation.answered).min();
        let Some(first_answer) = first_answer.filter(|answer| *answer < u64::MAX) else { return true };
        if !self.tried.insert((placed, state, without)) {
            return false;
        }
        for number in self.next(placed, first_answer) {
            let Operation { action, outcome, answered, .. } = self.history[number];
            if let Some(after) = state.after(action, outcome) {
                let doubtful = outcome == Outcome::Doubtful;
                let still_without = without.and_then(|without| without.after(action, outcome));
                // as long as no operation sees the effect, it may not have happened; this is tried, too
                let unseen = still_without == Some(after) || (doubtful && after == state);
                let without = if doubtful { Some(state) } else { still_without };
                if !unseen && self.place(placed, number, after, without) {
                    return true;
                }
            }
            // a doubtful operation is known to have had no effect once its time is over
            let settled = outcome == Outcome::Doubtful && answered == first_answer;
            if settled && self.place(placed, number, state, without) {
                return true;
            }
        }
        false
    }

    fn place(&mut self, placed: Placed, number: usize, after: State, without: Option<State>) -> bool {
        self.order.push(number);
        let explained = self.explain(placed.with(number), after, without);
        if !explained {
            self.order.pop();
        }
        explained
    }

    /// The operations that may come next: those called before the first remaining answer. Of equal doubtful
    /// ones, only the one whose time is over first.
    fn next(&self, placed: Placed, first_answer: u64) -> Vec<usize> {
        let mut next = Vec::<usize>::new();
        for (number, operation) in self.history.iter().enumerate() {
            if placed.has(number) || operation.called > first_answer {
                continue;
            }
            let alike = |&other: &usize| {
                let other = &self.history[other];
                operation.outcome == Outcome::Doubtful
                    && (other.action, other.outcome) == (operation.action, operation.outcome)
            };
            match next.iter().position(alike) {
                Some(other) if self.history[next[other]].answered <= operation.answered => {}
                Some(other) => next[other] = number,
                None => next.push(number),
            }
        }
        next
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no order explains these operations; * are explained, and leave {:?}:", self.state)?;
        for (number, operation) in self.history.iter().enumerate() {
            let Operation { client, action, outcome, called, answered } = operation;
            let mark = if self.explained.contains(&number) { '*' } else { ' ' };
            let until = if *answered == u64::MAX { "…".to_owned() } else { millis(*answered) };
            writeln!(
                f,
                "{mark} client {client} {:>12}–{until:<12} {action:x?}: {outcome:x?}",
                millis(*called)
            )?;
        }
        Ok(())
    }
}

fn millis(nanos: u64) -> String {
    format!("{}.{:03} ms", nanos / 1_000_000, nanos / 1000 % 1000)
}

mod tests {
    use proptest::prelude::*;
    use todc_utils::linearizability::WGLChecker;
    use todc_utils::linearizability::history::{Action as Event, History};
    use todc_utils::specifications::Specification;

    use super::Action::{Abort, Complete, Delete, Erase, Get, Put, Rebalance, Relink, Touch, Unlink};
    use super::Outcome::{Differs, Done, Doubtful, Ended, Read, Refused};
    use super::When::{Absent, Always, Holds};
    use super::{Action, LONGEST, Operation, Outcome, State, When, check, check_atomic};

    const END: u64 = u64::MAX;

    fn history(operations: &[(u64, u64, Action, Outcome)]) -> Vec<Operation> {
        let operation = |(client, &(called, answered, action, outcome))| Operation {
            client,
            action,
            outcome,
            called,
            answered,
        };
        operations.iter().enumerate().map(operation).collect()
    }

    #[track_caller]
    fn explained(operations: &[(u64, u64, Action, Outcome)]) {
        check(&history(operations)).unwrap_or_else(|violation| panic!("{violation}"));
    }

    #[track_caller]
    fn violates(operations: &[(u64, u64, Action, Outcome)]) {
        assert!(check(&history(operations)).is_err());
    }

    #[test]
    fn a_sequential_history_is_explained() {
        explained(&[
            (0, 1, Get, Refused),
            (2, 3, Delete, Refused),
            (4, 5, Put(Absent, 1), Done),
            (6, 7, Put(Absent, 2), Refused),
            (8, 9, Get, Read(1)),
            (10, 11, Relink, Refused),
            (12, 13, Unlink, Done),
            (14, 15, Get, Refused),
            (14, 15, Rebalance, Done),
            (16, 17, Unlink, Refused),
            (18, 19, Relink, Done),
            (20, 21, Get, Read(1)),
            (22, 23, Unlink, Done),
            (24, 25, Put(Absent, 3), Done),
            (26, 27, Get, Read(3)),
            (28, 29, Delete, Done),
            (30, 31, Get, Refused),
            (32, 33, Rebalance, Refused),
        ]);
    }

    #[test]
    fn concurrent_operations_may_have_any_order() {
        // the read returned the value before the PUT was answered, and the DELETE came between
        explained(&[
            (0, 9, Put(Absent, 1), Done),
            (1, 8, Delete, Done),
            (2, 3, Get, Read(1)),
            (4, 5, Get, Refused),
        ]);
        explained(&[(0, 9, Put(Absent, 1), Done), (0, 9, Put(Absent, 2), Refused), (10, 11, Get, Read(1))]);
    }

    #[test]
    fn an_unanswered_write_has_happened_or_not_but_not_both() {
        explained(&[(0, END, Put(Absent, 1), Doubtful), (2, 3, Get, Refused)]);
        explained(&[(0, END, Put(Absent, 1), Doubtful), (2, 3, Get, Refused), (4, 5, Get, Read(1))]);
        violates(&[(0, END, Put(Absent, 1), Doubtful), (2, 3, Get, Read(1)), (4, 5, Get, Refused)]);
        explained(&[(0, 1, Put(Absent, 1), Done), (2, END, Delete, Doubtful), (4, 5, Get, Read(1))]);
        violates(&[
            (0, 1, Put(Absent, 1), Done),
            (2, END, Delete, Doubtful),
            (4, 5, Get, Refused),
            (6, 7, Get, Read(1)),
        ]);
    }

    #[test]
    fn an_unanswered_write_has_no_effect_once_its_master_is_dead() {
        violates(&[(0, 3, Put(Absent, 1), Doubtful), (4, 5, Get, Refused), (6, 7, Get, Read(1))]);
    }

    #[test]
    fn a_lost_acknowledged_write_is_a_violation() {
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Get, Refused)]);
    }

    #[test]
    fn a_value_that_reappears_after_its_deletion_is_a_violation() {
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Delete, Done), (4, 5, Get, Read(1))]);
        violates(&[
            (0, 1, Put(Absent, 1), Done),
            (2, 3, Delete, Done),
            (4, 5, Put(Absent, 2), Done),
            (6, 7, Get, Read(1)),
        ]);
    }

    #[test]
    fn two_successful_creations_are_a_violation() {
        violates(&[(0, 9, Put(Absent, 1), Done), (0, 9, Put(Absent, 2), Done)]);
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 9, Delete, Done), (2, 9, Delete, Done)]);
    }

    #[test]
    fn two_failed_creations_of_a_new_key_are_a_violation() {
        violates(&[(0, 9, Put(Absent, 1), Refused), (0, 9, Put(Absent, 2), Refused)]);
    }

    #[test]
    fn a_read_of_a_value_that_is_not_written_yet_is_a_violation() {
        violates(&[(0, 1, Get, Read(1))]);
        violates(&[(0, 1, Get, Read(1)), (2, 3, Put(Absent, 1), Done)]);
    }

    #[test]
    fn readers_that_disagree_on_the_order_are_a_violation() {
        violates(&[(0, 9, Put(Absent, 1), Done), (2, 3, Get, Read(1)), (4, 5, Get, Refused)]);
    }

    #[test]
    fn a_read_of_an_unlinked_value_is_a_violation() {
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Unlink, Done), (4, 5, Get, Read(1))]);
        violates(&[
            (0, 1, Put(Absent, 1), Done),
            (2, 3, Unlink, Done),
            (4, 5, Relink, Done),
            (6, 7, Get, Refused),
        ]);
    }

    #[test]
    fn an_error_that_is_reported_as_absence_is_a_violation() {
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Delete, Refused)]);
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Unlink, Refused)]);
    }

    #[test]
    fn a_value_can_be_overwritten() {
        explained(&[
            (0, 1, Put(Always, 1), Done),
            (2, 3, Put(Always, 2), Done),
            (4, 5, Get, Read(2)),
            (6, 7, Unlink, Done),
            (8, 9, Put(Always, 3), Done),
            (10, 11, Get, Read(3)),
        ]);
        explained(&[(0, 9, Put(Always, 1), Done), (0, 9, Put(Always, 2), Done), (10, 11, Get, Read(1))]);
        violates(&[(0, 1, Put(Always, 1), Done), (2, 3, Put(Always, 2), Done), (4, 5, Get, Read(1))]);
        violates(&[(0, 1, Put(Always, 1), Done), (2, 3, Put(Always, 2), Done), (4, 5, Get, Refused)]);
    }

    /// Concurrent overwrites both succeed, and the overtaken one counts as the earlier.
    #[test]
    fn an_overtaken_overwrite_counts_as_just_before_the_other() {
        let met = |reads: &[(u64, u64, Action, Outcome)]| {
            let writes =
                [(0, 1, Put(Always, 1), Done), (2, 9, Put(Always, 2), Done), (3, 5, Put(Always, 3), Done)];
            history(&[&writes, reads].concat())
        };
        assert!(check(&met(&[(6, 7, Get, Read(3)), (10, 11, Get, Read(3))])).is_ok());
        assert!(check(&met(&[(6, 7, Get, Read(3)), (10, 11, Get, Read(2))])).is_ok());
        assert!(check(&met(&[(6, 7, Get, Read(2)), (10, 11, Get, Read(3))])).is_err());
        assert!(check(&met(&[(6, 7, Get, Read(1))])).is_err());
    }

    #[test]
    fn a_condition_is_on_the_value_that_is_replaced() {
        explained(&[
            (0, 1, Put(Holds(1), 2), Refused),
            (2, 3, Put(Absent, 1), Done),
            (4, 5, Put(Absent, 3), Refused),
            (6, 7, Put(Holds(1), 4), Done),
            (8, 9, Put(Holds(1), 5), Differs),
            (10, 11, Erase(Holds(1)), Differs),
            (12, 13, Unlink, Done),
            (14, 15, Put(Holds(4), 6), Refused),
            (16, 17, Relink, Done),
            (18, 19, Erase(Holds(4)), Done),
            (20, 21, Get, Refused),
        ]);
        // of two writers that saw the same value, one succeeds
        let both = [(2, 9, Put(Holds(1), 2), Done), (2, 9, Put(Holds(1), 3), Done)];
        violates(&[&[(0, 1, Put(Absent, 1), Done)], &both[..]].concat());
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Put(Holds(1), 2), Differs)]);
        violates(&[(0, 1, Put(Absent, 1), Done), (2, 3, Put(Holds(1), 2), Refused)]);
    }

    #[test]
    fn a_doubtful_overwrite_leaves_the_old_value_or_the_new_one() {
        let doubt = [(0, 1, Put(Always, 1), Done), (2, END, Put(Always, 2), Doubtful)];
        let then = |reads: &[(u64, u64, Action, Outcome)]| check(&history(&[&doubt, reads].concat())).is_ok();
        assert!(then(&[(4, 5, Get, Read(1)), (6, 7, Get, Read(2))]));
        assert!(!then(&[(4, 5, Get, Read(2)), (6, 7, Get, Read(1))]));
        assert!(!then(&[(4, 5, Get, Refused)]));
    }

    #[test]
    fn s3_deletes_only_live_values() {
        explained(&[
            (0, 1, Erase(Always), Done),
            (2, 3, Put(Absent, 1), Done),
            (4, 5, Unlink, Done),
            (6, 7, Erase(Always), Done),
            (8, 9, Relink, Done),
            (10, 11, Erase(Always), Done),
            (12, 13, Relink, Refused),
        ]);
        violates(&[
            (0, 1, Put(Absent, 1), Done),
            (2, 3, Unlink, Done),
            (4, 5, Erase(Always), Done),
            (6, 7, Relink, Refused),
        ]);
    }

    #[test]
    fn an_upload_ends_once() {
        explained(&[
            (0, 1, Touch(0), Done),
            (0, 1, Put(Always, 1), Done),
            (2, 3, Complete(0, Absent, 2), Refused),
            (4, 5, Complete(0, Holds(3), 2), Differs),
            (6, 7, Complete(0, Holds(1), 2), Done),
            (8, 9, Get, Read(2)),
            (10, 11, Touch(0), Ended),
            (12, 13, Abort(0), Ended),
            // a repeated completion succeeds until there is another value
            (14, 15, Complete(0, Holds(1), 2), Done),
            (16, 17, Put(Always, 3), Done),
            (18, 19, Complete(0, Always, 2), Ended),
            (20, 21, Abort(1), Done),
            (22, 23, Complete(1, Always, 4), Ended),
            (24, 25, Get, Read(3)),
        ]);
        violates(&[(0, 9, Complete(0, Always, 1), Done), (0, 9, Abort(0), Done)]);
        violates(&[(0, 9, Complete(0, Always, 1), Done), (1, 2, Get, Read(1)), (3, 9, Touch(0), Done)]);
        violates(&[(0, 1, Abort(0), Done), (2, 3, Touch(0), Done)]);
        violates(&[(0, 1, Touch(0), Ended)]);
        violates(&[(0, 1, Complete(0, Always, 1), Done), (2, 3, Complete(0, Always, 1), Ended)]);
        violates(&[
            (0, 1, Complete(0, Always, 1), Done),
            (2, 3, Put(Always, 2), Done),
            (4, 5, Complete(0, Always, 1), Done),
        ]);
    }

    #[test]
    fn a_doubtful_completion_has_happened_completely_or_not_at_all() {
        let doubt = [(0, END, Complete(0, Always, 1), Doubtful)];
        let then = |rest: &[(u64, u64, Action, Outcome)]| check(&history(&[&doubt, rest].concat())).is_ok();
        assert!(then(&[(2, 3, Touch(0), Done), (4, 5, Touch(0), Ended), (6, 7, Get, Read(1))]));
        assert!(!then(&[(2, 3, Touch(0), Ended), (4, 5, Get, Refused)]));
        assert!(!then(&[(2, 3, Get, Read(1)), (4, 5, Touch(0), Done)]));
        assert!(!then(&[(2, 3, Abort(0), Done), (4, 5, Get, Read(1))]));
    }

    #[test]
    fn an_upload_whose_completion_was_overtaken_ends_later() {
        let met = |touched: (u64, u64, Action, Outcome), read| {
            let writes = [
                (0, 9, Complete(0, Always, 1), Done),
                (2, 3, Put(Always, 2), Done),
                (4, 5, Get, Read(read)),
                (10, 11, Get, Read(2)),
            ];
            check(&history(&[&writes[..], &[touched]].concat())).is_ok()
        };
        assert!(met((6, 7, Touch(0), Done), 2));
        assert!(met((6, 7, Touch(0), Ended), 2));
        assert!(!met((10, 11, Touch(0), Done), 2));
        assert!(!met((6, 7, Touch(0), Done), 1));
        // the overwrite came before the completion
        violates(&[
            (0, 1, Put(Always, 2), Done),
            (2, 9, Complete(0, Always, 1), Done),
            (10, 11, Get, Read(2)),
        ]);
        violates(&[
            (0, 9, Complete(0, Always, 1), Done),
            (2, 3, Put(Absent, 2), Done),
            (4, 5, Touch(0), Done),
            (10, 11, Get, Read(2)),
        ]);
    }

    /// Histories as long as the load makes, explained and violated: six clients at a time.
    #[test]
    fn the_longest_histories_are_decided() {
        let round = |round: u64| {
            let begin = round * 10;
            [
                (begin, begin + 6, Put(Absent, round), Done),
                (begin + 1, END, Put(Absent, 1000 + round), Doubtful),
                (begin + 2, begin + 7, Get, Read(round)),
                (begin + 2, begin + 7, Put(Absent, 2000 + round), Refused),
                (begin + 3, END, Delete, Doubtful),
                (begin + 8, begin + 9, Delete, Done),
            ]
        };
        let mut operations: Vec<_> = (0..).flat_map(round).take(LONGEST - 6).collect();
        explained(&operations);
        operations.push((END - 2, END - 1, Get, Read(999_999)));
        violates(&operations);
    }

    /// The same for overwrites, which may take effect at any time if they are doubtful.
    #[test]
    fn the_longest_histories_of_overwrites_are_decided() {
        let round = |round: u64| {
            let begin = round * 10;
            let when = if round.is_multiple_of(2) { Always } else { Holds(round - 1) };
            let upload = u8::try_from(round / 12).unwrap();
            [
                (begin, begin + 6, Put(when, round), Done),
                (begin + 1, END, Put(Always, 1000 + round), Doubtful),
                (begin + 2, begin + 7, Put(Absent, 2000 + round), Refused),
                (begin + 2, END, Complete(upload, Always, 3000 + u64::from(upload)), Doubtful),
                (begin + 7, begin + 8, Get, Read(round)),
            ]
        };
        let mut operations: Vec<_> = (0..).flat_map(round).take(LONGEST - 6).collect();
        explained(&operations);
        operations.push((END - 2, END - 1, Get, Read(999_999)));
        violates(&operations);
    }

    /// Tries every order of the remaining operations, with each doubtful one carried out or not.
    fn has_an_order(left: &[Operation], state: State) -> bool {
        let first_answer = left.iter().map(|operation| operation.answered).min();
        let Some(first_answer) = first_answer else { return true };
        (0..left.len()).filter(|&number| left[number].called <= first_answer).any(|number| {
            let Operation { action, outcome, .. } = left[number];
            let unchanged = (outcome == Doubtful).then_some(state);
            let rest = [&left[..number], &left[number + 1..]].concat();
            state.after(action, outcome).into_iter().chain(unchanged).any(|after| has_an_order(&rest, after))
        })
    }

    fn any_when() -> impl Strategy<Value = When> {
        prop_oneof![Just(Absent), Just(Always), (0..3_u64).prop_map(Holds)]
    }

    fn any_write() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (any_when(), 0..3_u64).prop_map(|(when, value)| Put(when, value)),
            2 => prop_oneof![Just(Delete), Just(Unlink), Just(Relink), Just(Rebalance)],
            1 => prop_oneof![Just(Always), (0..3_u64).prop_map(Holds)].prop_map(Erase),
            // no other operation writes an upload's value
            2 => (0..2_u8, any_when()).prop_map(|(upload, when)| Complete(upload, when, u64::from(upload) + 2)),
            1 => (0..2_u8).prop_map(Abort),
        ]
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        let doubtful = any_write().prop_map(|action| (action, Doubtful));
        let operation = prop_oneof![3 => answered_operation(), 2 => doubtful];
        (operation, 0..12_u64, 0..6_u64, any::<bool>()).prop_map(
            |((action, outcome), called, takes, ends)| {
                let answered = if outcome == Doubtful && !ends { END } else { called + takes };
                Operation { client: 0, action, outcome, called, answered }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_optimised_search_agrees_with_an_exhaustive_one(
            operations in proptest::collection::vec(any_operation(), 1..7),
        ) {
            prop_assert_eq!(check_atomic(&operations).is_ok(), has_an_order(&operations, State::default()));
        }
    }

    /// The state machine above, for an independent checker.
    struct Reference;

    impl Specification for Reference {
        type State = State;
        type Operation = (Action, Option<Outcome>);

        fn init() -> State {
            State::default()
        }

        fn apply((action, outcome): &Self::Operation, state: &State) -> (bool, State) {
            let after = outcome.and_then(|outcome| state.after(*action, outcome));
            (after.is_some(), after.unwrap_or(*state))
        }
    }

    fn answered_operation() -> impl Strategy<Value = (Action, Outcome)> {
        let end = prop_oneof![4 => Just(Done), 2 => Just(Refused), 1 => Just(Differs), 1 => Just(Ended)];
        prop_oneof![
            2 => (0..4_u64).prop_map(|value| (Get, Read(value))),
            1 => Just((Get, Refused)),
            5 => (any_write(), end),
            1 => (0..2_u8, prop_oneof![Just(Done), Just(Ended)]).prop_map(|(upload, end)| (Touch(upload), end)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Clients call in turn; calls and answers of different clients are interleaved arbitrarily.
        #[test]
        fn an_independent_checker_agrees(
            operations in proptest::collection::vec((0..3_usize, answered_operation()), 1..9),
            answers in proptest::collection::vec(0..9_usize, 1..9),
        ) {
            let (mut events, mut ours) = (Vec::new(), Vec::<Operation>::new());
            let mut running = [None::<usize>; 3];
            let finish = |client: usize, running: &mut [Option<usize>; 3], events: &mut Vec<_>, ours: &mut Vec<Operation>| {
                let Some(number) = running[client].take() else { return };
                ours[number].answered = events.len() as u64;
                let Operation { action, outcome, .. } = ours[number];
                events.push((client, Event::Response((action, Some(outcome)))));
            };
            for (step, (client, (action, outcome))) in operations.iter().enumerate() {
                finish(*client, &mut running, &mut events, &mut ours);
                running[*client] = Some(ours.len());
                ours.push(Operation { client: *client, action: *action, outcome: *outcome, called: events.len() as u64, answered: END });
                events.push((*client, Event::Call((*action, None))));
                let other = answers.get(step).copied().unwrap_or(9);
                if other < 3 {
                    finish(other, &mut running, &mut events, &mut ours);
                }
            }
            for client in 0..3 {
                finish(client, &mut running, &mut events, &mut ours);
            }
            let theirs = WGLChecker::<Reference>::is_linearizable(History::from_actions(events));
            prop_assert_eq!(check_atomic(&ours).is_ok(), theirs);
        }
    }
}
