//! Runs that are killed at some request, and repeated.

use crate::common::{Gate, Order, Stage, eventually};
use crate::rig::{
    Background, PATIENCE, REBALANCE, Random, Rig, hold, is_as_many, is_held, open_and_release, tool,
};

/// Drains one volume after the other. Each run is killed at a request, which still takes effect after a
/// second run. Then the master cleans up.
fn assert_survives_kills(method: &'static str, order: Order) {
    let mut random = Random::new();
    let mut rig = Rig::gated(4);
    let model = rig.fill(24, &mut random);
    let mut left = Vec::new();
    for round in 0..4 {
        left = rig.addresses();
        left.remove(round);
        hold(&rig.gates, method, 1 + random.below(4), order);
        let mut rebalance = Background::start(&mut tool(REBALANCE, &rig.db(), &left, &[]));
        rebalance.wait_for("a request is held", || is_held(&rig.gates, method));
        rebalance.kill();
        rig.gates.iter().for_each(Gate::open);
        rig.rebalance(&left, &[]).assert_done();
        open_and_release(&rig.gates, method);
    }
    eventually("all requests are over", PATIENCE, || {
        rig.gates.iter().all(|gate| gate.count(method, Stage::Arrived) == 0)
    });
    rig.serve_on(&left, &["--quarantine", "1s"]);
    eventually("the leftovers of all runs are deleted", PATIENCE, || is_as_many(&rig, &model));
    rig.end_master();
    rig.assert_tidy(&left, &model);
}

#[test]
fn a_run_killed_before_a_copy_arrives_can_be_repeated() {
    assert_survives_kills("PUT", Order::Hold);
}

#[test]
fn a_run_killed_after_a_copy_was_made_can_be_repeated() {
    assert_survives_kills("PUT", Order::HoldAnswer);
}

#[test]
fn a_run_killed_before_a_deletion_arrives_can_be_repeated() {
    assert_survives_kills("DELETE", Order::Hold);
}

#[test]
fn a_run_killed_after_a_deletion_can_be_repeated() {
    assert_survives_kills("DELETE", Order::HoldAnswer);
}

#[test]
fn a_run_killed_at_a_check_of_a_replica_can_be_repeated() {
    assert_survives_kills("HEAD", Order::Hold);
}
