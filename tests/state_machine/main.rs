//! The write protocol as a state machine, every state of which is looked at by [`stateright`], and its
//! mutants: the protocol without one of its rules. The protocol itself is told in `src/store/mod.rs`.
//!
//! Read it as a specification: [`world`] is what there is, [`protocol`] what can happen, [`promises`] what
//! must hold whatever happens. A test says how much may happen, and the checker tries every order of it.
//!
//! **The world** is one key on three volumes, two replicas each, and begins without a value, with one, or
//! with an unlinked one. PUT, DELETE and REBALANCE come in any order, and the reaper whenever it gets the
//! key's claim. Two operations overlap where the first, or requests of it, outlive its claim: after a
//! time-out, a crash, or a fail-over.
//!
//! **The network** does to each request what it can: it arrives and is answered; it is refused; it is
//! given up by its sender and lands at any later moment, or never. Landing at once after that is the case
//! of the lost answer.
//!
//! **The quarantine** is longer than any request lingers. So there is no clock: the reaper may begin an
//! intent's last round at any moment, and what was on its way for that intent is then gone. A round
//! that isn't the last may be begun at any moment, too.
//!
//! **A crash** takes the memory (claims, and which intents are certain), and leaves the index, the
//! volumes, and what was sent. All intents are in doubt then.
//!
//! **A fail-over** is why commits are conditional. With one master at a time, which LevelDB's lock sees
//! to, an attempt that lost its claim is dead. With a second master that takes over (a thing of the
//! future) it may only be slow: here it wakes up at any later moment and commits. The new master has
//! closed the intents that it found, *in the index*: had it done so in memory alone, as a restart after a
//! crash does, then the old commit would find its intent as it was, with the files of it deleted
//! (`Rule::WrittenClosing`).
//!
//! **Left out**: what can't be told apart by order alone (bytes, sizes, MD5s, torn files, time); GETs that
//! are under way while their file goes; an index that fails, which is for the store's unit tests; UNLINK
//! and RELINK, which touch nothing but the record's state. An operation that finds the key claimed, or
//! its record not as needed, does nothing and isn't sent.
//!
//! **Reduced** is what makes no difference: requests of one sender are answered in one order; a master
//! that has nothing in its memory doesn't crash; the reaper's rounds before the last aren't begun where
//! there is no file to delete. `DAVKV_MODEL=unreduced` looks at these, too.
//!
//! `DAVKV_MODEL=large cargo test --release --test state_machine -- --nocapture --test-threads 1` lets more
//! happen: some 30 million states, in minutes and 5 GB of memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod promises;
mod protocol;
mod world;

use std::collections::BTreeSet;

use promises::{CLEAN, FORESEEN, LINEARIZABLE, NAMED, OWNED, WHOLE};
use protocol::{Action, Protocol, Rule};
use stateright::{Checker, HasDiscoveries, Model as _, Path};
use world::Budget;

/// What somebody wants that runs it by hand.
fn wants(model: &str) -> bool {
    std::env::var("DAVKV_MODEL").is_ok_and(|wanted| wanted == model)
}

/// Looks at every state of the protocol.
fn check(operations: u8, faults: u8, crashes: u8) -> impl Checker<Protocol> {
    let budget = Budget { operations, faults, crashes };
    let protocol = Protocol { without: None, budget, unreduced: wants("unreduced") };
    let checker = protocol.checker().spawn_bfs().join();
    assert!(checker.is_done(), "some states were not looked at");
    eprintln!("{budget:?}: {} states, up to {} steps", checker.unique_state_count(), checker.max_depth());
    checker
}

fn assert_keeps_promises(checker: &impl Checker<Protocol>) {
    for promise in promises::KEPT {
        checker.assert_no_discovery(promise);
    }
}

#[test]
fn the_protocol_keeps_its_promises() {
    let checker = if wants("large") { check(3, 2, 1) } else { check(2, 2, 1) };
    // with them, that all that makes them hard to keep was seen to happen
    checker.assert_properties();
}

#[test]
fn the_protocol_keeps_its_promises_over_many_operations() {
    assert_keeps_promises(&if wants("large") { check(4, 1, 1) } else { check(4, 1, 0) });
}

#[test]
fn the_protocol_keeps_its_promises_over_many_crashes() {
    assert_keeps_promises(&if wants("large") { check(2, 2, 2) } else { check(2, 0, 2) });
}

/// That the protocol without the rule breaks each of these promises, within as little as that.
fn assert_breaks(rule: Rule, budget: Budget, broken: &[&'static str]) {
    let protocol = Protocol { without: Some(rule), budget, unreduced: false };
    for promise in broken {
        let steps = (1..MOST_STEPS).find_map(|steps| counterexample(&protocol, promise, steps));
        let steps = steps.unwrap_or_else(|| panic!("nothing shows that it isn't so that {promise}"));
        let story: Vec<String> = steps.iter().map(|step| format!("    {step:?}")).collect();
        eprintln!("Without {rule:?} it isn't so that {promise}:\n{}", story.join("\n"));
    }
}

/// How many steps a counter-example may take.
const MOST_STEPS: usize = 20;

fn counterexample(protocol: &Protocol, promise: &'static str, steps: usize) -> Option<Vec<Action>> {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    // the checker's depth counts states, of which there is one more
    let checker =
        protocol.clone().checker().finish_when(found).target_max_depth(steps + 2).spawn_bfs().join();
    checker.discovery(promise).map(Path::into_actions)
}

const FAULT: Budget = Budget { operations: 2, faults: 1, crashes: 0 };
const CRASH: Budget = Budget { operations: 2, faults: 0, crashes: 1 };

#[test]
fn without_intents_a_crash_leaves_files_that_nothing_names() {
    assert_breaks(Rule::Intent, CRASH, &[NAMED, CLEAN]);
}

#[test]
fn without_a_quarantine_a_late_request_destroys_a_value() {
    assert_breaks(Rule::Quarantine, FAULT, &[FORESEEN, NAMED, WHOLE]);
}

#[test]
fn without_conditional_commits_an_attempt_presumed_dead_names_files_that_are_gone() {
    assert_breaks(Rule::ConditionalCommit, CRASH, &[WHOLE, LINEARIZABLE]);
}

#[test]
fn with_one_fixed_name_the_requests_of_one_attempt_destroy_the_value_of_another() {
    assert_breaks(Rule::FreshNames, FAULT, &[OWNED, WHOLE]);
}

#[test]
fn with_an_unanswered_delete_taken_for_done_it_destroys_a_newer_value() {
    assert_breaks(Rule::AnsweredDelete, FAULT, &[FORESEEN, NAMED, WHOLE]);
}

#[test]
fn without_claims_the_reaper_deletes_what_is_being_written() {
    assert_breaks(Rule::Claim, FAULT, &[WHOLE]);
}

#[test]
fn with_intents_closed_in_memory_alone_an_attempt_presumed_dead_names_files_that_are_gone() {
    assert_breaks(Rule::WrittenClosing, CRASH, &[WHOLE]);
}

#[test]
fn with_a_replica_moved_to_a_burnt_name_cleaning_up_destroys_it() {
    assert_breaks(Rule::BurntNames, FAULT, &[OWNED, WHOLE]);
}

#[test]
fn with_numbers_given_out_twice_an_attempt_takes_the_intent_of_another_for_its_own() {
    assert_breaks(Rule::DurableNumbers, CRASH, &[WHOLE]);
}
