//! The index is copied, and another store starts from the copy: while the first one runs, or after it.
//!
//! Clients of the one don't know what clients of the other were told, so their answers prove nothing. What must hold is
//! that neither store takes away what the other one has acknowledged (see [`super::invariants`]).

use std::time::Duration;

use tokio::time::sleep;

use super::calls::World;
use super::case::Case;
use super::fault::{Fate, Fault};
use super::run::Ended;
use super::scenarios::{self, Scenario};
use super::setup::{READER_GRACE, options, store};
use super::step::Shape;
use super::terms::KEYS;
use super::world::{COPY, Looks, Script};
use crate::store::{IdentifyError, Precondition, Store};

/// Of which the index is copied at every call. All begin with something in it: before that, a copy is no copy.
const SCENARIOS: [&str; 7] = [
    "PUT over an unlinked value, and GET",
    "a PUT over a value, no grace for readers",
    "DELETE",
    "DELETE, and a PUT that takes the same name later",
    "a completion over a value, no grace for readers",
    "REBALANCE to two other volumes, no grace for readers",
    "start-up over intents of all kinds, PUT and DELETE",
];

/// So many second stores take the volumes over, at least.
const LEAST: usize = 100;

/// Values that only the second store writes.
const ITS_OWN: usize = 500;

/// After which the reaper has been at all files that it may delete.
const SETTLED: Duration = Duration::from_secs(10);

/// What came of the second store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    /// It took the volumes over.
    TheOwner,
    /// It found that its index is out of date.
    Outdated,
    /// It took them over, and then found that the first one had them: both had started at once.
    Taken,
}

/// The second store, from its start on.
async fn live(world: &World) -> Became {
    let store = store(world, options(&[0, 1, 2, 3, 4]));
    match world.start(&store).await {
        Ok(()) => {}
        Err(IdentifyError::Outdated) => return Became::Outdated,
        Err(error) => panic!("nothing fails here: {error}"),
    }
    let taken = store.taken_over();
    tokio::select! {
        biased;
        () = taken.cancelled() => Became::Taken,
        () = act(&store) => Became::TheOwner,
    }
}

/// What the clients of the second store do. What they are told depends on when the index was copied.
async fn act(store: &Store) {
    // of the offline tool, which may start from a copy as well
    drop(store.reap_once().await);
    for (key, number) in KEYS.iter().zip(ITS_OWN..) {
        drop(store.locate(key).await);
        drop(store.rebalance(key).await);
        drop(store.put(key, Shape::Whole.upload(number)).await);
        drop(
            store
                .replace(key, Shape::Whole.upload(number + 10), Precondition::Always, |_| Ok(Vec::new()))
                .await,
        );
        drop(store.remove(key, Precondition::Always).await);
        drop(store.put(key, Shape::Whole.upload(number + 20)).await);
    }
    sleep(READER_GRACE + SETTLED).await;
}

/// In a runtime of its own, with which all ends that the store was about to do.
fn run<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(run)
}

/// The first store runs to the end of its steps, and is killed; then another one starts from the copy.
fn after_it(given: &Case, number: usize) -> (Vec<String>, Became) {
    let case = given.clone();
    case.run_to_the_last_step(Script::from([(number, Fate::Exactly(Fault::CopyIndex))]));
    let world = case.world.seen_by(COPY);
    let became = run(async {
        world.begin(Script::new());
        let became = live(&world).await;
        world.end();
        became
    });
    (violations(&case), became)
}

/// The other store starts at once.
fn at_once(given: &Case, number: usize) -> (Vec<String>, Became) {
    let case = given.clone();
    let world = case.world.seen_by(COPY);
    let became = run(async {
        case.world.begin(Script::from([(number, Fate::Exactly(Fault::CopyIndex))]));
        let second = async {
            while !case.world.state().others.contains_key(&COPY) {
                sleep(Duration::from_millis(1)).await;
            }
            live(&world).await
        };
        let (ended, became) = tokio::join!(case.serve_until_taken(), second);
        let both = ended != Ended::Taken && became == Became::TheOwner;
        assert!(!both, "call {number}: the first store goes on, and so does the second");
        case.world.end();
        became
    });
    (violations(&case), became)
}

fn violations(case: &Case) -> Vec<String> {
    std::mem::take(&mut case.world.state().violations)
}

fn try_all(scenario: &Scenario) -> (Vec<String>, usize) {
    let given = scenario.begin_with(Looks::Rarely);
    given.world.state().looks = Looks::Often;
    // the second store finds it later
    given.world.state().latencies = vec![5];
    let calls = given.clone().run_to_the_last_step(Script::new());
    let (mut wrong, mut owners) = (Vec::new(), 0);
    for (number, call) in calls.iter().enumerate() {
        for (when, (what, became)) in
            [("after it", after_it(&given, number)), ("at once", at_once(&given, number))]
        {
            owners += usize::from(became == Became::TheOwner);
            if !what.is_empty() {
                let what = what.join("\n    ");
                wrong.push(format!("{}: call {number}, {call:?}, {when}:\n    {what}", scenario.name));
            }
        }
    }
    (wrong, owners)
}

#[test]
fn a_store_from_a_copy_of_the_index_takes_nothing_away_that_the_first_one_has_acknowledged() {
    let (mut wrong, mut owners) = (Vec::new(), 0);
    let scenarios = scenarios::all().into_iter().filter(|scenario| SCENARIOS.contains(&scenario.name));
    let scenarios: Vec<_> = scenarios.collect();
    assert_eq!(scenarios.len(), SCENARIOS.len(), "a scenario has another name now");
    for scenario in scenarios {
        let (what, took_over) = try_all(&scenario);
        wrong.extend(what);
        owners += took_over;
    }
    assert!(
        wrong.is_empty(),
        "{} of these went wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(3)].join("\n")
    );
    assert!(owners > LEAST, "too few second stores took the volumes over: {owners}");
}
