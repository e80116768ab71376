//! Rebuilds that are killed, and two at once.

use davkv::key::Name;

use crate::common::{Gate, Order};
use crate::rig::{Background, REBUILD, Random, Rig, contents, hold, is_held, key, open_and_release, tool};

#[test]
fn a_rebuild_killed_while_listing_can_be_run_again() {
    let mut random = Random::new();
    let mut rig = Rig::gated(3);
    rig.fill(12, &mut random);
    let listings = |rig: &Rig| -> usize {
        let lists = |gate: &Gate| gate.requests().iter().filter(|(method, ..)| method == "GET").count();
        rig.gates.iter().map(lists).sum()
    };
    let before = listings(&rig);
    rig.rebuild(&rig.path("first"), &[]).assert_done();
    let total = listings(&rig) - before;
    for _ in 0..5 {
        hold(&rig.gates, "GET", 1 + random.below(total), Order::Hold);
        let db = rig.path("rebuilt");
        let flags = ["--voltimeout", "1m"];
        let mut rebuild = Background::start(&mut tool(REBUILD, &db, &rig.addresses(), &flags));
        rebuild.wait_for("a listing is held", || is_held(&rig.gates, "GET"));
        rebuild.kill();
        open_and_release(&rig.gates, "GET");
        assert!(!db.exists());
    }
    rig.rebuild(&rig.path("rebuilt"), &[]).assert_done();
    assert_eq!(contents(&rig.path("rebuilt")), contents(&rig.path("first")));
    assert!(!rig.path("rebuilt.rebuilding").exists());
}

#[test]
fn a_rebuild_killed_while_comparing_files_can_be_run_again() {
    let mut rig = Rig::gated(3);
    rig.fill(10, &mut Random::new());
    rig.lay(&key("/key"), 0, Name::Generation(8), b"value");
    rig.lay(&key("/key"), 1, Name::Generation(9), b"value");
    // the first file whose bytes are read
    let compared = |_: &str, target: &str| target.contains(',').then_some(Order::Hold);
    rig.gates.iter().for_each(|gate| gate.rule(compared));
    let db = rig.path("rebuilt");
    let mut rebuild = Background::start(&mut tool(REBUILD, &db, &rig.addresses(), &[]));
    rebuild.wait_for("a value is being read", || is_held(&rig.gates, "GET"));
    rebuild.kill();
    open_and_release(&rig.gates, "GET");
    assert!(!db.exists());
    rig.rebuild(&db, &[]).assert_done();
    assert_eq!(contents(&db).records.len(), 11);
}

#[test]
fn of_two_rebuilds_at_once_the_second_is_refused() {
    let rig = Rig::gated(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    hold(&rig.gates, "GET", 2, Order::Hold);
    let flags = ["--voltimeout", "1m"];
    let mut first = Background::start(&mut tool(REBUILD, &rig.db(), &rig.addresses(), &flags));
    first.wait_for("a listing is held", || is_held(&rig.gates, "GET"));
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "another rebuild is running");
    open_and_release(&rig.gates, "GET");
    assert_eq!(first.wait(), Some(0));
    assert_eq!(contents(&rig.db()).records.len(), 1);
}
