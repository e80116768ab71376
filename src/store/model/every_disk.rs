//! At every call of some scenarios, one of the disks vanishes, and it comes back later.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::case::Case;
use super::disks::Template;
use super::fault::{Fate, Fault};
use super::scenarios::{self, Scenario};
use super::step::Step;
use super::terms::REPLICAS;
use super::world::{Looks, Script};

/// Put, overwrite, delete, reads, completion, rebalance, the index's recovery, and the reaper.
const SCENARIOS: [&str; 14] = [
    "PUT of many pieces",
    "PUT after a DELETE in doubt",
    "PUT with too few volumes, and again",
    "a PUT over a value",
    "a PUT over a value, no grace for readers",
    "DELETE",
    "DELETE, and PUT",
    "UNLINK, RELINK, GET",
    "a completion over a value, no grace for readers",
    "an upload that is aborted, and what comes too late",
    "REBALANCE to two other volumes, no grace for readers",
    "REBALANCE of a missing replica",
    "an overwrite that shows when the index is opened again, and another on its way",
    "start-up over intents of all kinds, PUT and DELETE",
];

/// How many failures are shown.
const SHOWN: usize = 3;

/// Fewer than these aren't all.
const LEAST: usize = 1_500;

/// When the disk comes back.
#[derive(Clone, Copy, Debug)]
enum Returns {
    /// When all steps were made, and the looks at markers have come round.
    AtTheEnd,
    /// When the store has ended, which then starts again.
    BeforeTheNextStart,
}

/// A disk vanishes at that call.
fn vanish(given: &Case, number: usize, rank: usize, template: Template, returns: Returns) -> Vec<String> {
    let mut case = given.clone();
    let mut world = case.world.state();
    world.looks = Looks::Often;
    world.disks.template = template;
    drop(world);
    let script = Script::from([(number, Fate::Exactly(Fault::Vanish(rank)))]);
    match returns {
        Returns::AtTheEnd => {
            case.clients[0].borrow_mut().extend([Step::Wait(NOTICED), Step::MountAll, Step::Wait(SEEN)]);
            case.run([script]);
        }
        Returns::BeforeTheNextStart => {
            case.run_to_the_last_step(script);
            case.world.state().mount_all();
            case.world.state().looks = Looks::Rarely;
            case.run([]);
        }
    }
    case.audit()
}

/// How long it takes at most until a disk that vanished is missed, …
const NOTICED: Duration = Duration::from_secs(15);
/// … and until one that came back is found.
const SEEN: Duration = Duration::from_secs(12);

/// What went wrong, and how many were tried.
fn try_all(scenario: &Scenario) -> (Vec<String>, usize) {
    let given = scenario.begin_with(Looks::Rarely);
    let calm = given.clone();
    let calls = calm.run_to_the_last_step(Script::new());
    // Not between the look at a marker and its renewal: that lands on the mount point, and makes a volume of it.
    let start = calm.world.state().started_at.unwrap();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (number, call) in calls.iter().enumerate().skip(start) {
        for rank in 0..=REPLICAS {
            // all four together, over the calls and the disks
            let turn = number + rank + number / 2;
            let template = [Template::Ours, Template::Minikeyvalue][turn % 2];
            let returns = [Returns::AtTheEnd, Returns::BeforeTheNextStart][turn / 2 % 2];
            let what = vanish(&given, number, rank, template, returns);
            tried += 1;
            if !what.is_empty() {
                let at = format!("call {number}, {call:?}, disk {rank}, {template:?}, {returns:?}");
                wrong.push(format!("{}: {at}:\n    {}", scenario.name, what.join("\n    ")));
            }
        }
    }
    (wrong, tried)
}

#[test]
#[allow(clippy::print_stdout, reason = "how many there are is what the test is asked for")]
fn a_disk_may_vanish_at_every_call_and_come_back() {
    let scenarios: Vec<_> =
        scenarios::all().into_iter().filter(|scenario| SCENARIOS.contains(&scenario.name)).collect();
    assert_eq!(scenarios.len(), SCENARIOS.len(), "a scenario has another name now");
    let (waiting, results) = (Mutex::new(scenarios.into_iter()), Mutex::new(Vec::new()));
    let try_some = || {
        loop {
            let Some(scenario) = waiting.lock().unwrap().next() else { return };
            let (wrong, tried) = try_all(&scenario);
            println!("{:80} {tried:5} disks vanished", scenario.name);
            results.lock().unwrap().push((wrong, tried));
        }
    };
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(try_some);
        }
    });
    let results = results.into_inner().unwrap();
    let tried: usize = results.iter().map(|(_, tried)| tried).sum();
    let wrong: Vec<String> = results.into_iter().flat_map(|(wrong, _)| wrong).collect();
    let shown = wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of these went wrong:\n{shown}", wrong.len());
    assert!(tried >= LEAST, "too little was tried: {tried}");
}
