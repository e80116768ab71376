//! The write protocol as a state machine, all states of which [`stateright`] checks, and its mutants: the
//! protocol without one of its rules. `src/store/mod.rs` describes the protocol itself.
//!
//! Read it as a specification: [`world`] is the state, [`protocol`] the possible steps, and [`promises`] what
//! must always hold. A test bounds the number of events, and the checker tries every order of them.
//!
//! **The world** is one key on three volumes, with two replicas each, and begins without a value, with one,
//! or with an unlinked one. PUT, DELETE and REBALANCE come in any order, and the reaper runs whenever it gets
//! the key's claim. Two operations overlap if the first, or requests of it, outlive its claim: after a
//! timeout, a crash, or a fail-over.
//!
//! **The network** can do three things to a request: deliver it and its answer; refuse it; or delay it until
//! its sender has given up, so that it arrives at any later moment, or never. A lost answer is a request that
//! arrives just after its sender has given up.
//!
//! **The quarantine** is longer than any request is delayed. So there is no clock: the reaper may begin an
//! intent's last round at any moment, and discards the delayed requests for that intent. An earlier round may
//! begin at any moment, too.
//!
//! **A crash** loses the memory (claims, and which intents have all their requests answered), and keeps the
//! index, the volumes, and the requests in the network. After it, all intents are in doubt.
//!
//! **A fail-over** is the reason for conditional commits. With one master at a time, which LevelDB's lock
//! ensures, an attempt without its claim is dead. With a second master that takes over (a future feature), it
//! may only be slow: here it wakes up at any later moment and commits. The new master closes the open intents
//! *in the index*. If it closed them only in memory, as a restart after a crash does, the old commit would
//! find its intent unchanged, but its files deleted (`Rule::WrittenClosing`).
//!
//! **Left out** are: differences other than order (bytes, sizes, MD5s, torn files, time); GETs under way
//! while their file is deleted; failures of the index, which the store's unit tests cover; UNLINK and RELINK,
//! which change only the record's state. An operation that finds the key claimed, or the record in another
//! state than it needs, does nothing and isn't modelled.
//!
//! **Reduced**, without a difference to the result: requests of one sender are answered in one order; a
//! master with nothing in memory doesn't crash; the reaper begins a round before the last only if there is a
//! file to delete. `DAVKV_MODEL=unreduced` checks the full model.
//!
//! `DAVKV_MODEL=large cargo test --release --test state_machine -- --nocapture --test-threads 1` allows more
//! events: some 30 million states, in minutes and 5 GB of memory.

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

/// Whether `DAVKV_MODEL` asks for this model.
fn wants(model: &str) -> bool {
    std::env::var("DAVKV_MODEL").is_ok_and(|wanted| wanted == model)
}

/// Checks every state of the protocol.
fn check(operations: u8, faults: u8, crashes: u8) -> impl Checker<Protocol> {
    let budget = Budget { operations, faults, crashes };
    let protocol = Protocol { without: None, budget, unreduced: wants("unreduced") };
    let checker = protocol.checker().spawn_bfs().join();
    assert!(checker.is_done(), "some states were not checked");
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
    // this also asserts that the difficult situations were reached
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

/// Asserts that the protocol without the rule breaks each of these promises within this budget.
fn assert_breaks(rule: Rule, budget: Budget, broken: &[&'static str]) {
    let protocol = Protocol { without: Some(rule), budget, unreduced: false };
    for promise in broken {
        let steps = (1..MAX_STEPS).find_map(|steps| counterexample(&protocol, promise, steps));
        let steps = steps.unwrap_or_else(|| panic!("no counterexample to: {promise}"));
        let story: Vec<String> = steps.iter().map(|step| format!("    {step:?}")).collect();
        eprintln!("Without {rule:?}, this promise is broken: {promise}:\n{}", story.join("\n"));
    }
}

/// Upper bound on the steps of a counterexample.
const MAX_STEPS: usize = 20;

fn counterexample(protocol: &Protocol, promise: &'static str, steps: usize) -> Option<Vec<Action>> {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    // the checker's depth counts states, of which there is one more than steps
    let checker =
        protocol.clone().checker().finish_when(found).target_max_depth(steps + 2).spawn_bfs().join();
    checker.discovery(promise).map(Path::into_actions)
}

const FAULT: Budget = Budget { operations: 2, faults: 1, crashes: 0 };
const CRASH: Budget = Budget { operations: 2, faults: 0, crashes: 1 };

#[test]
fn without_intents_a_crash_leaves_files_that_the_index_does_not_name() {
    assert_breaks(Rule::Intent, CRASH, &[NAMED, CLEAN]);
}

#[test]
fn without_a_quarantine_a_late_request_destroys_a_value() {
    assert_breaks(Rule::Quarantine, FAULT, &[FORESEEN, NAMED, WHOLE]);
}

#[test]
fn without_conditional_commits_an_attempt_presumed_dead_commits_deleted_files() {
    assert_breaks(Rule::ConditionalCommit, CRASH, &[WHOLE, LINEARIZABLE]);
}

#[test]
fn with_one_fixed_name_the_requests_of_one_attempt_destroy_the_value_of_another() {
    assert_breaks(Rule::FreshNames, FAULT, &[OWNED, WHOLE]);
}

#[test]
fn an_unanswered_delete_treated_as_done_destroys_a_newer_value() {
    assert_breaks(Rule::AnsweredDelete, FAULT, &[FORESEEN, NAMED, WHOLE]);
}

#[test]
fn without_claims_the_reaper_deletes_files_that_are_being_written() {
    assert_breaks(Rule::Claim, FAULT, &[WHOLE]);
}

#[test]
fn with_intents_closed_in_memory_only_an_attempt_presumed_dead_commits_deleted_files() {
    assert_breaks(Rule::WrittenClosing, CRASH, &[WHOLE]);
}

#[test]
fn a_replica_moved_to_a_name_that_an_intent_holds_is_destroyed_by_cleanup() {
    assert_breaks(Rule::FreeNames, FAULT, &[OWNED, WHOLE]);
}

#[test]
fn with_reused_numbers_an_attempt_mistakes_the_intent_of_another_for_its_own() {
    assert_breaks(Rule::DurableNumbers, CRASH, &[WHOLE]);
}
