//! Disks that vanish and come back, and disks that aren't those of their volumes.

use super::scenario::{ALL, K, OTHER, Scenario, ask, put, wait};
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Over, Request, Told};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = starts();
    all.extend(away());
    all.extend(others());
    all.into_iter().map(Scenario::with_disks).collect()
}

/// What a store asks its volumes when it starts.
fn starts() -> Vec<Scenario> {
    use Told::{Done, NotFound, Value};
    vec![
        Scenario::new("the first start, and PUT", [put(1, Shape::Whole)], [Done])
            .on(&[], &[0, 1, 2])
            .counting_its_start(),
        Scenario::new("a start over a value and a deletion", [ask(Request::Read)], [Value(1)])
            .given([
                Step::Put(OTHER, 2, Shape::Whole),
                put(1, Shape::Whole),
                Step::Down(1),
                Step::Ask(OTHER, Request::Delete),
                Step::Up(1),
            ])
            .on(ALL, &[0, 1, 2])
            .counting_its_start(),
        Scenario::new(
            "a start with a disk away that comes back",
            [ask(Request::Delete), Step::Return(0), wait(15)],
            [Done],
        )
        .given([put(1, Shape::Whole), Step::Vanish(0)])
        .on(&[0, 1, 2], &[0, 1, 2, 3])
        .counting_its_start(),
        Scenario::new(
            "a start of which all disks are away",
            [ask(Request::Get), Step::MountAll, wait(15), ask(Request::Delete), ask(Request::Get)],
            [Told::Refused, Done, NotFound],
        )
        .given([put(1, Shape::Whole), Step::Vanish(0), Step::Vanish(1), Step::Vanish(2)])
        .on(&[0, 1, 2], &[0, 1, 2])
        .counting_its_start(),
    ]
}

/// A disk vanishes under a volume that runs.
fn away() -> Vec<Scenario> {
    use Told::{Done, Refused, Value};
    vec![
        Scenario::new(
            "DELETE where a disk has just vanished, and comes back",
            [Step::Vanish(1), ask(Request::Delete), wait(20), Step::Return(1), wait(15)],
            [Done],
        )
        .given([put(1, Shape::Whole)])
        .looking_often(),
        Scenario::new(
            "the same, and minikeyvalue's template",
            [Step::Vanish(1), ask(Request::Delete), wait(20), Step::Return(1), wait(15)],
            [Done],
        )
        .given([put(1, Shape::Whole), Step::Unguard])
        .looking_often(),
        Scenario::new(
            "all disks vanish, and come back",
            [
                Step::Vanish(0),
                Step::Vanish(1),
                Step::Vanish(2),
                ask(Request::Get),
                ask(Request::Read),
                Step::MountAll,
                wait(15),
                ask(Request::Read),
            ],
            [Refused, Refused, Value(1)],
        )
        .given([put(1, Shape::Whole)])
        .on(&[0, 1, 2], &[0, 1, 2])
        .looking_often(),
        Scenario::new(
            "PUT and REBALANCE where a disk has vanished, and minikeyvalue's template",
            [
                Step::Vanish(0),
                put(1, Shape::Pieces),
                wait(20),
                Step::Return(0),
                wait(15),
                ask(Request::Read),
                ask(Request::Rebalance),
            ],
            [Done, Value(1), Done],
        )
        .given([Step::Put(OTHER, 2, Shape::Whole), Step::Unguard])
        .looking_often(),
    ]
}

/// Other disks are in the place of a volume's own when the store starts.
fn others() -> Vec<Scenario> {
    use Told::{Done, Value};
    let over = |number| Step::Write(K, number, Shape::Whole, Over::Anything);
    let use_it = || {
        [
            ask(Request::Read),
            over(3),
            ask(Request::Delete),
            put(4, Shape::Whole),
            wait(15),
            Step::MountAll,
            wait(15),
            ask(Request::Read),
        ]
    };
    let told = |value| [Value(value), Done, Done, Done, Value(4)];
    vec![
        Scenario::new("a disk of another store", use_it(), told(1))
            .given([put(1, Shape::Whole), Step::MountForeign(0)])
            .looking_often(),
        Scenario::new("a disk of another store, and minikeyvalue's template", use_it(), told(1))
            .given([put(1, Shape::Whole), Step::Unguard, Step::MountForeign(2)])
            .looking_often(),
        Scenario::new("two disks that are swapped", use_it(), told(1))
            .given([put(1, Shape::Whole), Step::Swap(1, 4)])
            .looking_often(),
        Scenario::new("a disk that was replaced by an empty one", use_it(), told(1))
            .given([put(1, Shape::Whole), Step::Replace(1)])
            .looking_often(),
        Scenario::new("a disk as it was earlier", use_it(), told(2))
            .given([
                put(1, Shape::Whole),
                Step::Put(OTHER, 5, Shape::Whole),
                Step::CopyDisk(0),
                over(2),
                Step::Ask(OTHER, Request::Delete),
                wait(300),
                Step::RestoreDisk(0),
            ])
            .looking_often(),
    ]
}
