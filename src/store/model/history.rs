//! What clients were told, and what may therefore be.
//!
//! A key's history is kept as the set of all states that its key may be in: each an order in which the
//! steps that were begun took effect, one after the other and each between its beginning and its
//! answer (linearizability). A step that went unanswered, or that the index failed in, takes effect
//! at any time from then on, or never.

use std::collections::{BTreeMap, BTreeSet};

use super::terms::{Held, Over, Request, Told, Uploads};

/// The history of one key.
#[derive(Clone)]
pub(super) struct History {
    begun: u32,
    states: BTreeSet<State>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    held: Held,
    uploads: Uploads,
    /// Uploads whose completion has taken effect, and hasn't been answered.
    ending: BTreeMap<usize, Ending>,
    /// Steps that have not taken effect yet.
    open: BTreeMap<u32, Request>,
    /// Those that have, with the answer that this makes, until it is given.
    done: BTreeMap<u32, Told>,
}

/// The end of an upload by its completion.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ending {
    completion: u32,
    /// Its value was replaced at once, by a write that the store carried out before: until the answer, the
    /// upload may still be seen.
    overtaken: bool,
}

impl State {
    fn new(held: Held, uploads: Uploads) -> Self {
        Self { held, uploads, ending: BTreeMap::new(), open: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// Whether the upload can be seen.
    fn shows(&self, upload: usize) -> bool {
        self.uploads.contains_key(&upload) || self.ending.get(&upload).is_some_and(|ending| ending.overtaken)
    }

    fn overtake(&mut self) {
        self.ending.values_mut().for_each(|ending| ending.overtaken = true);
    }
}

impl Request {
    /// What it makes of the state, and what is answered; nothing if it can't take effect now.
    fn apply(self, step: u32, state: &mut State) -> Option<Told> {
        let told = match self {
            Self::Begin(upload) => {
                state.uploads.insert(upload, BTreeMap::new());
                Told::Done
            }
            Self::Part(upload, number, of) if state.shows(upload) => {
                state.uploads.get_mut(&upload).map(|parts| parts.insert(number, of));
                Told::Done
            }
            Self::List(upload) if state.shows(upload) => Told::Done,
            Self::Complete(upload, value, over) if state.uploads.contains_key(&upload) => {
                let (held, told) = over.request(value).apply_to(state.held);
                state.held = held;
                if told == Told::Done {
                    if over == Over::Anything {
                        state.overtake();
                    }
                    state.uploads.remove(&upload);
                    state.ending.insert(upload, Ending { completion: step, overtaken: false });
                }
                told
            }
            Self::Abort(upload) if state.uploads.remove(&upload).is_some() => Told::Done,
            // one of those who want to end it does
            Self::Complete(upload, ..) | Self::Abort(upload) if state.shows(upload) => return None,
            Self::List(_) | Self::Part(..) | Self::Complete(..) | Self::Abort(_) => Told::NoUpload,
            request => {
                let (held, told) = request.apply_to(state.held);
                state.held = held;
                if matches!(request, Self::Replace(_)) {
                    state.overtake();
                }
                told
            }
        };
        Some(told)
    }

    fn apply_to(self, held: Held) -> (Held, Told) {
        use Held::{Live, Nothing, Unlinked};
        match (self, held) {
            (Self::Put(_), Live(_)) => (held, Told::Exists),
            (Self::Put(value) | Self::Replace(value), _) | (Self::Relink, Unlinked(value)) => {
                (Live(value), Told::Done)
            }
            (Self::Swap(value, old), Live(there)) if old == there => (Live(value), Told::Done),
            (Self::Swap(..), Live(_)) => (held, Told::Changed),
            (Self::Get | Self::Read, Live(value)) => (held, Told::Value(value)),
            (Self::Delete, Live(_) | Unlinked(_)) | (Self::Remove, Live(_)) => (Nothing, Told::Done),
            (Self::Unlink, Live(value)) => (Unlinked(value), Told::Done),
            (Self::Rebalance, Live(_) | Unlinked(_)) => (held, Told::Done),
            _ => (held, Told::NotFound),
        }
    }
}

impl History {
    /// Of a key that was never heard of.
    pub(super) fn new() -> Self {
        let state = State::new(Held::Nothing, Uploads::new());
        Self { begun: 0, states: BTreeSet::from([state]) }
    }

    pub(super) fn is_used(&self) -> bool {
        self.begun > 0
    }

    /// A client asks; the number is for the answer.
    pub(super) fn ask(&mut self, request: Request) -> u32 {
        self.begun += 1;
        let with = |mut state: State| {
            state.open.insert(self.begun, request);
            state
        };
        self.states = std::mem::take(&mut self.states).into_iter().map(with).collect();
        self.begun
    }

    /// A client is told; false if that can't be.
    pub(super) fn tell(&mut self, step: u32, told: Told) -> bool {
        match told {
            // it stays open, and so does what it may have done
            Told::Nothing => return true,
            Told::Refused => self.states.retain(|state| state.open.contains_key(&step)),
            _ => {
                self.settle();
                let over = |state: &State| state.ending.values().all(|ending| ending.completion != step);
                self.states.retain(|state| state.done.get(&step) == Some(&told) && over(state));
            }
        }
        let without = |mut state: State| {
            state.open.remove(&step);
            state.done.remove(&step);
            state
        };
        self.states = std::mem::take(&mut self.states).into_iter().map(without).collect();
        !self.states.is_empty()
    }

    /// The key is seen in that state when nothing is under way; false if that can't be.
    pub(super) fn see(&mut self, held: Held, uploads: Uploads) -> bool {
        self.settle();
        let is_it = |state: &State| state.held == held && state.uploads == uploads && state.ending.is_empty();
        let seen = self.states.iter().any(is_it);
        self.states = BTreeSet::from([State::new(held, uploads)]);
        seen
    }

    /// Adds what else may have taken effect by now.
    fn settle(&mut self) {
        let mut new: Vec<State> = self.states.iter().cloned().collect();
        while let Some(state) = new.pop() {
            for upload in state.ending.keys() {
                let mut after = state.clone();
                after.ending.remove(upload);
                if self.states.insert(after.clone()) {
                    new.push(after);
                }
            }
            for (&step, &request) in &state.open {
                let mut after = state.clone();
                let Some(told) = request.apply(step, &mut after) else { continue };
                after.open.remove(&step);
                after.done.insert(step, told);
                if self.states.insert(after.clone()) {
                    new.push(after);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether these answers, each given before the next request, can be.
    fn can_be(steps: &[(Request, Told)]) -> bool {
        let mut history = History::new();
        steps.iter().all(|(request, told)| {
            let step = history.ask(*request);
            history.tell(step, *told)
        })
    }

    #[test]
    fn one_after_the_other_each_answer_follows_from_the_state() {
        use Request::{Delete, Get, Put, Unlink};
        use Told::{Done, Exists, NotFound, Value};
        assert!(can_be(&[(Get, NotFound), (Put(1), Done), (Put(2), Exists), (Get, Value(1))]));
        assert!(can_be(&[(Put(1), Done), (Unlink, Done), (Get, NotFound), (Put(2), Done), (Get, Value(2))]));
        assert!(!can_be(&[(Put(1), Done), (Get, NotFound)]));
        assert!(!can_be(&[(Put(1), Done), (Delete, Done), (Get, Value(1))]));
        assert!(!can_be(&[(Put(1), Done), (Put(2), Done)]));
        assert!(!can_be(&[(Get, Value(1))]));
    }

    #[test]
    fn what_was_refused_has_no_effect_and_what_was_not_answered_may_have() {
        use Request::{Get, Put};
        use Told::{Done, NotFound, Nothing, Refused, Value};
        assert!(!can_be(&[(Put(1), Refused), (Get, Value(1))]));
        assert!(can_be(&[(Put(1), Nothing), (Get, NotFound), (Get, Value(1))]), "it may come late");
        assert!(can_be(&[(Put(1), Nothing), (Get, Value(1))]));
        assert!(!can_be(&[(Put(1), Nothing), (Get, Value(1)), (Get, NotFound)]), "but it doesn't go");
        assert!(!can_be(&[(Put(1), Nothing), (Put(2), Done), (Get, Value(3))]));
    }

    #[test]
    fn requests_at_once_may_take_effect_in_either_order() {
        for (first, second, fine) in [
            (Told::Done, Told::Exists, true),
            (Told::Exists, Told::Done, true),
            (Told::Done, Told::Done, false),
            (Told::Exists, Told::Exists, false),
        ] {
            let mut history = History::new();
            let (one, other) = (history.ask(Request::Put(1)), history.ask(Request::Put(2)));
            assert_eq!(history.tell(one, first) && history.tell(other, second), fine);
        }
    }

    #[test]
    fn what_is_seen_at_the_end_is_one_of_the_possible_states() {
        let mut history = History::new();
        let step = history.ask(Request::Put(1));
        assert!(history.tell(step, Told::Nothing));
        let see = |held| history.clone().see(held, Uploads::new());
        assert!(see(Held::Nothing) && see(Held::Live(1)));
        assert!(!see(Held::Live(2)) && !see(Held::Unlinked(1)));
    }

    #[test]
    fn an_upload_ends_once_and_keeps_its_parts_until_then() {
        use Request::{Abort, Begin, Complete, Get, Part};
        use Told::{Done, NoUpload, Value};
        let complete = Complete(7, 1, Over::Anything);
        let parts = [(Begin(7), Done), (Part(7, 1, 1), Done), (Part(7, 2, 1), Done)];
        let with = |end: &[(Request, Told)]| can_be(&[&parts, end].concat());
        assert!(with(&[(complete, Done), (Get, Value(1)), (complete, NoUpload), (Abort(7), NoUpload)]));
        assert!(with(&[(Abort(7), Done), (complete, NoUpload), (Part(7, 1, 1), NoUpload)]));
        assert!(!with(&[(complete, Done), (complete, Done)]));
        assert!(!with(&[(Abort(7), Done), (complete, Done)]));
        assert!(!with(&[(complete, NoUpload)]));
        let mut history = History::new();
        for (request, told) in parts {
            let step = history.ask(request);
            assert!(history.tell(step, told));
        }
        let see = |parts| history.clone().see(Held::Nothing, Uploads::from([(7, parts)]));
        assert!(see(BTreeMap::from([(1, 1), (2, 1)])));
        assert!(!see(BTreeMap::from([(1, 1)])) && !see(BTreeMap::from([(1, 1), (2, 2)])));
    }

    #[test]
    fn an_upload_whose_completion_was_overtaken_may_be_seen_until_the_answer() {
        use Request::{Begin, Complete, Get, List, Part, Put, Replace};
        use Told::{Done, NoUpload, Value};
        let listed_after = |over| {
            let mut history = History::new();
            for request in [Begin(7), Put(9)] {
                let step = history.ask(request);
                assert!(history.tell(step, Done));
            }
            let complete = history.ask(Complete(7, 1, Over::Anything));
            let then = [(over, Done), (Get, Value(2)), (List(7), Done), (Part(7, 1, 1), Done)];
            let then = then.iter().all(|(request, told)| {
                let step = history.ask(*request);
                history.tell(step, *told)
            });
            let answered = then && history.tell(complete, Done);
            let late = history.ask(List(7));
            (answered, history.tell(late, NoUpload) && history.see(Held::Live(2), Uploads::new()))
        };
        assert_eq!(listed_after(Replace(2)), (true, true));
        assert_eq!(listed_after(Request::Swap(2, 9)), (true, false), "the completion came later, and holds");
    }
}
