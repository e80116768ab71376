//! What a store finds when it starts, the offline tool, and volumes that are sick.

use super::scenario::{ALL, K, OTHER, Scenario, ask, put, wait};
use crate::store::model::fault::{Fault, Kind, Landing};
use crate::store::model::setup::QUARANTINE;
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Request, Told, VOLUMES};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = left_overs();
    all.extend(tools());
    all.extend(sick());
    all
}

/// What a store finds that comes after one which was stopped.
fn left_overs() -> Vec<Scenario> {
    use Fault::{StopAfter, Unanswered};
    use Landing::{Last, Never, Soon};
    let put_other = |number, shape| Step::Put(OTHER, number, shape);
    vec![
        Scenario::new("start-up after a PUT was cut off", [], [])
            .given([Step::Next(Kind::Stored, 1, StopAfter(Last)), put(1, Shape::Whole)]),
        Scenario::new("start-up after a DELETE was cut off", [], []).given([
            put(1, Shape::Whole),
            Step::Next(Kind::Delete, 1, StopAfter(Soon)),
            ask(Request::Delete),
        ]),
        Scenario::new(
            "start-up over intents of all kinds, PUT and DELETE",
            [ask(Request::Delete), put(4, Shape::Whole), Step::Ask(OTHER, Request::Delete)],
            [Told::NotFound, Told::Done, Told::Done],
        )
        .given([
            // a surplus that waits for its readers, …
            put_other(1, Shape::Whole),
            Step::Ask(OTHER, Request::Unlink),
            put_other(2, Shape::Whole),
            // … a deletion in doubt, …
            put(1, Shape::Whole),
            Step::Next(Kind::Delete, 1, Unanswered(Last)),
            ask(Request::Delete),
            // … an attempt that failed, …
            Step::Next(Kind::Take, 0, Unanswered(Never)),
            put(2, Shape::BreaksOff),
            // … and one that was cut off
            Step::Next(Kind::Stored, 2, StopAfter(Last)),
            put(3, Shape::Pieces),
        ]),
        Scenario::new(
            "the reaper's queue overflows, and its scan finds a PUT that is under way",
            [wait(QUARANTINE.as_secs() - 10), put(1, Shape::Slow)],
            [Told::Done],
        )
        .given(
            (0..4)
                .flat_map(|number| {
                    let in_doubt = Step::Next(Kind::Delete, 0, Unanswered(Never));
                    [put_other(number, Shape::Whole), in_doubt, Step::Ask(OTHER, Request::Delete)]
                })
                .collect::<Vec<Step>>(),
        )
        .on(&[0, 1, 2], &[0, 1, 2]),
        Scenario::new(
            "the reaper with a volume down for longer than a quarantine",
            [wait(20 * 60), Step::Up(1), wait(10), put(2, Shape::Whole)],
            [Told::Done],
        )
        .given([Step::Next(Kind::Stored, 2, StopAfter(Last)), put(1, Shape::Whole), Step::Down(1)]),
    ]
}

/// What `davkv-rebalance` does, which runs no reaper; the master comes after it.
fn tools() -> Vec<Scenario> {
    use Fault::StopAfter;
    use Landing::{Last, Soon};
    use Told::Done;
    let round = || [Step::Forget, Step::PlanRebalance(K), ask(Request::Rebalance), Step::ReapOnce];
    vec![
        Scenario::new("tool: rebalance to another volume", round(), [Done])
            .given([put(1, Shape::Whole), Step::Dress])
            .on(&[0, 2, 3], ALL)
            .by_tool(),
        Scenario::new("tool: rebalance of a torn replica, over left intents", round(), [Done])
            .given([
                put(1, Shape::Whole),
                ask(Request::Unlink),
                Step::Next(Kind::Stored, 0, StopAfter(Soon)),
                put(2, Shape::Whole),
                Step::Tear(1),
            ])
            .by_tool(),
        Scenario::new("tool: one round of reaping", [Step::ReapOnce], [])
            .given([
                Step::Next(Kind::Stored, 1, StopAfter(Last)),
                put(1, Shape::Whole),
                Step::Next(Kind::Delete, 0, StopAfter(Soon)),
                Step::Put(OTHER, 2, Shape::Whole),
                Step::Ask(OTHER, Request::Delete),
            ])
            .by_tool(),
        Scenario::new("tool: forget a volume that holds a replica and files of intents", round(), [Done])
            .given([
                Step::Put(OTHER, 1, Shape::Whole),
                put(2, Shape::Whole),
                Step::Down(1),
                Step::Ask(OTHER, Request::Delete),
            ])
            .on(ALL, &[0, 2, 3, 4])
            .with(|options| options.forgotten.0.push(VOLUMES[1].clone()))
            .by_tool(),
    ]
}

/// What a volume does that fails for files and passes its probe: it goes down and comes back, again and again.
fn sick() -> Vec<Scenario> {
    use Told::{Done, Value};
    let sick_for = |rank, step| [Step::Sicken(rank), step, wait(2), Step::Heal(rank), wait(60)];
    vec![
        Scenario::new(
            "PUT with a volume that only passes its probe",
            sick_for(1, put(1, Shape::Whole)),
            [Done],
        ),
        Scenario::new(
            "DELETE with a volume that only passes its probe",
            sick_for(1, ask(Request::Delete)),
            [Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "a read with a volume that only passes its probe",
            sick_for(0, ask(Request::Read)),
            [Value(1)],
        )
        .given([put(1, Shape::Whole)]),
    ]
}
