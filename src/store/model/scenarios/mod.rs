//! What every call of is tried.

mod changes;
mod disks;
mod puts;
mod recovery;
mod restarts;
mod scenario;
mod uploads;

pub(super) use scenario::Scenario;

/// From one scenario to the next, so that none has the oddities of another.
const TURNS: usize = 131;

/// All scenarios.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = puts::all();
    all.extend(uploads::all());
    all.extend(changes::all());
    all.extend(restarts::all());
    all.extend(disks::all());
    all.extend(recovery::all());
    for (scenario, turn) in all.iter_mut().zip((0..).step_by(TURNS)) {
        scenario.turn = turn;
    }
    all
}
