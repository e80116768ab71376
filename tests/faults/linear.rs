//! Whether what clients saw of a key is *linearizable*: whether each operation can be given one moment
//! between its call and its answer, so that in the order of these moments a single copy of the key would
//! have given the same answers.
//!
//! The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! what was tried ("Testing for linearizability", 2017). Keys are independent of each other, so each has a
//! history and a search of its own.

use std::collections::HashSet;
use std::fmt;

/// At most so many operations in one history.
pub const LONGEST: usize = 192;

/// A value's number; no two PUTs have the same.
pub type Value = u64;

/// What a client wanted of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Put(Value),
    Delete,
    Unlink,
    Relink,
    /// Changes nothing that clients see, where there is a value.
    Rebalance,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// a write was carried out (201, 204)
    Done,
    /// a read found that value
    Read(Value),
    /// the key isn't in the state that the action needs (404; for PUT, 403)
    Refused,
    /// nobody knows: a write got no answer, or one that says nothing
    Doubtful,
}

/// One operation on the key, with the moments of its call and its answer in nanoseconds. A doubtful one
/// has no effect after `answered`, which may be the end of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub action: Action,
    pub outcome: Outcome,
    pub called: u64,
    pub answered: u64,
}

/// The one copy of the key. Every history begins without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Absent,
    Live(Value),
    Unlinked(Value),
}

/// A history that no order of its operations explains.
#[derive(Debug)]
pub struct Violation {
    history: Vec<Operation>,
    /// The longest explanation that was found: the operations in their order, and the state they leave.
    explained: Vec<usize>,
    state: State,
}

impl State {
    /// The state after an operation that ended so; `None` if it couldn't have ended so in this state.
    pub fn after(self, action: Action, outcome: Outcome) -> Option<Self> {
        use State::{Absent, Live, Unlinked};
        let effect = match (action, self) {
            (Action::Put(new), Absent | Unlinked(_)) => Some(Live(new)),
            (Action::Delete, Live(_) | Unlinked(_)) => Some(Absent),
            (Action::Unlink, Live(old)) => Some(Unlinked(old)),
            (Action::Relink, Unlinked(old)) => Some(Live(old)),
            (Action::Rebalance, Live(_) | Unlinked(_)) => Some(self),
            _ => None,
        };
        match (action, outcome) {
            (Action::Get, Outcome::Read(value)) => (self == Live(value)).then_some(self),
            (Action::Get, Outcome::Refused) => (!matches!(self, Live(_))).then_some(self),
            (_, Outcome::Refused) => effect.is_none().then_some(self),
            (_, Outcome::Done | Outcome::Doubtful) => effect,
            (_, Outcome::Read(_)) => None,
        }
    }
}

/// Checks one key's history.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    assert!(history.len() <= LONGEST, "a history of {} operations", history.len());
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let anonymous = anonymous(&history);
    let mut search = Search { history: &anonymous, tried: HashSet::new(), order: vec![], best: vec![] };
    if search.explain(Placed::default(), State::Absent) {
        return Ok(());
    }
    let explained = search.best;
    let replay = |state: State, &number: &usize| {
        let Operation { action, outcome, .. } = history[number];
        state.after(action, outcome).unwrap_or(state)
    };
    let state = explained.iter().fold(State::Absent, replay);
    Err(Violation { history, explained, state })
}

/// The history in which doubtful PUTs whose values nobody has read are all of the same value: they can
/// stand in for each other, which keeps the search short.
fn anonymous(history: &[Operation]) -> Vec<Operation> {
    const NOBODYS: Value = Value::MAX;
    let read = |value| history.iter().any(|operation| operation.outcome == Outcome::Read(value));
    let anonymous = |operation: &Operation| match (operation.action, operation.outcome) {
        (Action::Put(value), Outcome::Doubtful) if !read(value) => {
            Operation { action: Action::Put(NOBODYS), ..*operation }
        }
        _ => *operation,
    };
    history.iter().map(anonymous).collect()
}

/// The operations that have their moment already, one bit each.
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
    /// Sets of placed operations and the states they left, from which nothing led on.
    tried: HashSet<(Placed, State)>,
    order: Vec<usize>,
    best: Vec<usize>,
}

impl Search<'_> {
    /// Whether the operations that are left can follow that state.
    fn explain(&mut self, placed: Placed, state: State) -> bool {
        if self.order.len() > self.best.len() {
            self.best.clone_from(&self.order);
        }
        let left = self.history.iter().enumerate().filter(|(number, _)| !placed.has(*number));
        // whoever was called after an answer comes after it
        let first_answer = left.clone().map(|(_, operation)| operation.answered).min();
        let Some(first_answer) = first_answer.filter(|answer| *answer < u64::MAX) else { return true };
        if !self.tried.insert((placed, state)) {
            return false;
        }
        for number in self.next(placed, first_answer) {
            let Operation { action, outcome, answered, .. } = self.history[number];
            // that a doubtful one has had no effect is settled when it can have none any more
            let unchanged = (outcome == Outcome::Doubtful && answered == first_answer).then_some(state);
            for after in state.after(action, outcome).into_iter().chain(unchanged) {
                self.order.push(number);
                if self.explain(placed.with(number), after) {
                    return true;
                }
                self.order.pop();
            }
        }
        false
    }

    /// The operations that may come next: called before the first answer that is still to come. Of
    /// doubtful ones that are alike, the one whose time is up first.
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

    use super::Action::{Delete, Get, Put, Rebalance, Relink, Unlink};
    use super::Outcome::{Done, Doubtful, Read, Refused};
    use super::{Action, LONGEST, Operation, Outcome, State, check};

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
    fn the_life_of_a_key_is_explained() {
        explained(&[
            (0, 1, Get, Refused),
            (2, 3, Delete, Refused),
            (4, 5, Put(1), Done),
            (6, 7, Put(2), Refused),
            (8, 9, Get, Read(1)),
            (10, 11, Relink, Refused),
            (12, 13, Unlink, Done),
            (14, 15, Get, Refused),
            (14, 15, Rebalance, Done),
            (16, 17, Unlink, Refused),
            (18, 19, Relink, Done),
            (20, 21, Get, Read(1)),
            (22, 23, Unlink, Done),
            (24, 25, Put(3), Done),
            (26, 27, Get, Read(3)),
            (28, 29, Delete, Done),
            (30, 31, Get, Refused),
            (32, 33, Rebalance, Refused),
        ]);
    }

    #[test]
    fn operations_at_the_same_time_have_any_order() {
        // the read saw the PUT before its answer, and the DELETE came between
        explained(&[(0, 9, Put(1), Done), (1, 8, Delete, Done), (2, 3, Get, Read(1)), (4, 5, Get, Refused)]);
        explained(&[(0, 9, Put(1), Done), (0, 9, Put(2), Refused), (10, 11, Get, Read(1))]);
    }

    #[test]
    fn an_unanswered_write_has_happened_or_not_but_not_both() {
        explained(&[(0, END, Put(1), Doubtful), (2, 3, Get, Refused)]);
        explained(&[(0, END, Put(1), Doubtful), (2, 3, Get, Refused), (4, 5, Get, Read(1))]);
        violates(&[(0, END, Put(1), Doubtful), (2, 3, Get, Read(1)), (4, 5, Get, Refused)]);
        explained(&[(0, 1, Put(1), Done), (2, END, Delete, Doubtful), (4, 5, Get, Read(1))]);
        violates(&[
            (0, 1, Put(1), Done),
            (2, END, Delete, Doubtful),
            (4, 5, Get, Refused),
            (6, 7, Get, Read(1)),
        ]);
    }

    #[test]
    fn an_unanswered_write_has_no_effect_once_its_master_is_dead() {
        violates(&[(0, 3, Put(1), Doubtful), (4, 5, Get, Refused), (6, 7, Get, Read(1))]);
    }

    #[test]
    fn a_write_that_was_acknowledged_and_is_lost_is_a_violation() {
        violates(&[(0, 1, Put(1), Done), (2, 3, Get, Refused)]);
    }

    #[test]
    fn a_value_that_comes_back_after_its_deletion_is_a_violation() {
        violates(&[(0, 1, Put(1), Done), (2, 3, Delete, Done), (4, 5, Get, Read(1))]);
        violates(&[(0, 1, Put(1), Done), (2, 3, Delete, Done), (4, 5, Put(2), Done), (6, 7, Get, Read(1))]);
    }

    #[test]
    fn two_writers_who_both_win_are_a_violation() {
        violates(&[(0, 9, Put(1), Done), (0, 9, Put(2), Done)]);
        violates(&[(0, 1, Put(1), Done), (2, 9, Delete, Done), (2, 9, Delete, Done)]);
    }

    #[test]
    fn two_writers_of_whom_nobody_wins_are_a_violation() {
        violates(&[(0, 9, Put(1), Refused), (0, 9, Put(2), Refused)]);
    }

    #[test]
    fn a_value_that_nobody_wrote_or_not_yet_is_a_violation() {
        violates(&[(0, 1, Get, Read(1))]);
        violates(&[(0, 1, Get, Read(1)), (2, 3, Put(1), Done)]);
    }

    #[test]
    fn readers_who_disagree_on_the_order_are_a_violation() {
        violates(&[(0, 9, Put(1), Done), (2, 3, Get, Read(1)), (4, 5, Get, Refused)]);
    }

    #[test]
    fn a_hidden_value_that_is_read_is_a_violation() {
        violates(&[(0, 1, Put(1), Done), (2, 3, Unlink, Done), (4, 5, Get, Read(1))]);
        violates(&[(0, 1, Put(1), Done), (2, 3, Unlink, Done), (4, 5, Relink, Done), (6, 7, Get, Refused)]);
    }

    #[test]
    fn an_error_that_is_reported_as_absence_is_a_violation() {
        violates(&[(0, 1, Put(1), Done), (2, 3, Delete, Refused)]);
        violates(&[(0, 1, Put(1), Done), (2, 3, Unlink, Refused)]);
    }

    /// The longest histories that the load makes, in both verdicts: six clients at a time.
    #[test]
    fn the_longest_histories_are_decided() {
        let round = |round: u64| {
            let begin = round * 10;
            [
                (begin, begin + 6, Put(round), Done),
                (begin + 1, END, Put(1000 + round), Doubtful),
                (begin + 2, begin + 7, Get, Read(round)),
                (begin + 2, begin + 7, Put(2000 + round), Refused),
                (begin + 3, END, Delete, Doubtful),
                (begin + 8, begin + 9, Delete, Done),
            ]
        };
        let mut operations: Vec<_> = (0..).flat_map(round).take(LONGEST - 6).collect();
        explained(&operations);
        operations.push((END - 2, END - 1, Get, Read(999_999)));
        violates(&operations);
    }

    /// Every order of the operations that are left, with every doubt settled either way.
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

    fn any_operation() -> impl Strategy<Value = Operation> {
        let doubtful = prop_oneof![
            (0..2_u64).prop_map(Put),
            prop_oneof![Just(Delete), Just(Unlink), Just(Relink), Just(Rebalance)],
        ];
        let doubtful = doubtful.prop_map(|action| (action, Doubtful));
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
        fn nothing_is_overlooked_by_what_makes_the_search_short(
            operations in proptest::collection::vec(any_operation(), 1..7),
        ) {
            prop_assert_eq!(check(&operations).is_ok(), has_an_order(&operations, State::Absent));
        }
    }

    /// The state machine above, for a checker that somebody else wrote.
    struct Reference;

    impl Specification for Reference {
        type State = State;
        type Operation = (Action, Option<Outcome>);

        fn init() -> State {
            State::Absent
        }

        fn apply((action, outcome): &Self::Operation, state: &State) -> (bool, State) {
            let after = outcome.and_then(|outcome| state.after(*action, outcome));
            (after.is_some(), after.unwrap_or(*state))
        }
    }

    fn answered_operation() -> impl Strategy<Value = (Action, Outcome)> {
        prop_oneof![
            (0..3_u64).prop_map(|value| (Get, Read(value))),
            Just((Get, Refused)),
            (0..3_u64, prop_oneof![Just(Done), Just(Refused)]).prop_map(|(value, end)| (Put(value), end)),
            (
                prop_oneof![Just(Delete), Just(Unlink), Just(Relink), Just(Rebalance)],
                prop_oneof![Just(Done), Just(Refused)]
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Clients call one after the other; calls and answers of different ones mix as they like.
        #[test]
        fn another_checker_agrees(
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
            prop_assert_eq!(check(&ours).is_ok(), theirs);
        }
    }
}
