//! Values that go, and values that move.

use std::time::Duration;

use hyper::StatusCode;

use super::scenario::{ALL, Scenario, ask, put, wait};
use crate::store::model::fault::{Fault, Kind, Landing};
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Request, Told};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = deletes();
    all.extend(rebalances());
    all
}

fn deletes() -> Vec<Scenario> {
    use Told::{Done, NotFound, Value};
    vec![
        Scenario::new("DELETE", [ask(Request::Delete)], [Done]).given([put(1, Shape::Whole)]),
        Scenario::new("DELETE, and PUT", [ask(Request::Delete), put(2, Shape::Whole)], [Done, Done])
            .given([put(1, Shape::Whole)]),
        Scenario::new(
            "DELETE, and a PUT that takes the same name later",
            [ask(Request::Delete), wait(150), put(2, Shape::Whole)],
            [Done, Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "DELETE with a volume down that comes back",
            [Step::Down(1), ask(Request::Delete), wait(90), Step::Up(1)],
            [Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "DELETE with a volume that breaks, and PUT",
            [
                Step::Next(Kind::Delete, 1, Fault::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
                ask(Request::Delete),
                put(2, Shape::Whole),
            ],
            [Done, Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new("DELETE of nothing", [ask(Request::Delete)], [NotFound]),
        Scenario::new(
            "UNLINK, RELINK, GET",
            [ask(Request::Unlink), ask(Request::Relink), ask(Request::Get)],
            [Done, Done, Value(1)],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "UNLINK and DELETE under --protect",
            [ask(Request::Delete), ask(Request::Unlink), ask(Request::Delete)],
            [Told::Refused, Done, Done],
        )
        .given([put(1, Shape::Whole)])
        .with(|options| options.protect = true),
    ]
}

fn rebalances() -> Vec<Scenario> {
    use Told::{Done, Refused, Value};
    let rebalance = || [ask(Request::Rebalance)];
    vec![
        Scenario::new("REBALANCE of what lies well", rebalance(), [Done]).given([put(1, Shape::Whole)]),
        Scenario::new(
            "REBALANCE to another volume, and GET",
            [ask(Request::Rebalance), ask(Request::Get)],
            [Done, Value(1)],
        )
        .given([put(1, Shape::Whole), Step::Dress])
        .on(&[0, 2, 3], ALL),
        Scenario::new("REBALANCE to two other volumes, no grace for readers", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Dress, ask(Request::Unlink)])
            .on(&[0, 3, 4], ALL)
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new("REBALANCE back to a volume where a deletion is in doubt", rebalance(), [Done])
            .given([
                Step::Down(0),
                put(1, Shape::Whole),
                Step::Up(0),
                wait(10),
                ask(Request::Rebalance),
                Step::Next(Kind::Delete, 3, Fault::Unanswered(Landing::Last)),
                wait(61),
            ])
            .on(ALL, &[1, 2, 3, 4]),
        Scenario::new(
            "REBALANCE where the plain name is burnt",
            [
                Step::Next(Kind::Stored, 0, Fault::Unanswered(Landing::Last)),
                put(1, Shape::Whole),
                ask(Request::Rebalance),
            ],
            [Done, Done],
        ),
        Scenario::new("REBALANCE of a torn replica", rebalance(), [Done]).given([
            put(1, Shape::Whole),
            Step::Dress,
            Step::Tear(0),
        ]),
        Scenario::new("REBALANCE of a stale replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Outdate(2)]),
        Scenario::new("REBALANCE of a missing replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Lose(1)])
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new("REBALANCE from a rotten replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Rot(2)])
            .on(&[2, 3, 4], &[0, 1, 3, 4]),
        Scenario::new("REBALANCE of minikeyvalue's record, one replica torn", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Age, Step::Tear(1)])
            .on(&[1, 2, 3], ALL),
        Scenario::new("REBALANCE to a full volume", [Step::Full(0), ask(Request::Rebalance)], [Refused])
            .given([put(1, Shape::Pieces)])
            .on(&[1, 2, 3], ALL),
        Scenario::new(
            "REBALANCE, the target loses the answer, and DELETE",
            [
                Step::Next(Kind::Stored, 0, Fault::Unanswered(Landing::Last)),
                ask(Request::Rebalance),
                ask(Request::Delete),
                put(2, Shape::Whole),
            ],
            [Refused, Done, Done],
        )
        .given([put(1, Shape::Whole)])
        .on(&[1, 2, 3], ALL),
    ]
}
