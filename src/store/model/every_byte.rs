//! Every exchange with a volume is cut at every byte, of the request and of the answer.

use super::fault::{Fate, Fault, Kind};
use super::scenarios;
use super::terms::VOLUMES;
use super::world::Script;

/// In some scenarios that have requests of all kinds.
const SCENARIOS: [&str; 4] = [
    "a PUT over nothing, and a read",
    "DELETE",
    "UNLINK, RELINK, GET",
    "PUT of a length that isn't announced",
];

/// No head is longer, in bytes.
const LONGEST: usize = 200;

fn cuts(kind: Kind) -> Vec<fn(usize) -> Fault> {
    match kind {
        Kind::Put => vec![Fault::CutSent],
        Kind::Head | Kind::Open | Kind::Delete => vec![Fault::CutSent, Fault::CutAnswer],
        Kind::Stored | Kind::Read => vec![Fault::CutAnswer],
        _ => vec![],
    }
}

#[test]
fn an_exchange_may_be_cut_at_every_byte() {
    let (mut tried, mut failures) = (0, Vec::new());
    let scenarios = scenarios::all().into_iter().filter(|scenario| SCENARIOS.contains(&scenario.name));
    for scenario in scenarios {
        let given = scenario.begin();
        let calls = given.clone().run([]).remove(0);
        let of_volume = calls.iter().enumerate().filter(|(_, call)| call.volume == VOLUMES[0]);
        for (number, call) in of_volume {
            for (cut, byte) in
                cuts(call.kind).into_iter().flat_map(|cut| (0..LONGEST).map(move |at| (cut, at)))
            {
                let mut case = given.clone();
                case.run([Script::from([(number, Fate::Exactly(cut(byte)))])]);
                let wrong = case.audit();
                tried += 1;
                if !wrong.is_empty() {
                    failures.push(format!("{}: call {number}, {:?}: {wrong:?}", scenario.name, cut(byte)));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of these went wrong:\n{:#?}", failures.len(), &failures[..1]);
    assert!(tried > 8 * LONGEST, "too few were cut: {tried}");
}
