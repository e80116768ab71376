//! An index that can't be used: in use, missing, or invalid.

use std::fs;

use crate::rig::{Rig, key, lay};

#[test]
fn rebalancing_while_the_master_runs_is_refused() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.rebalance(&rig.addresses(), &[]).assert_one_line(1, "in use");
    rig.rebalance(&rig.addresses(), &["--dry-run"]).assert_one_line(1, "in use");
    rig.expect("GET", &key("/key"), b"", 302);
}

#[test]
fn rebalancing_a_missing_index_is_refused() {
    let rig = Rig::new(3);
    rig.rebalance(&rig.addresses(), &[]).assert_one_line(1, "there is no index");
    assert!(!rig.db().exists());
}

#[test]
fn rebalancing_an_invalid_index_is_refused() {
    let rig = Rig::new(3);
    lay(&rig.db().join("file"), b"mine");
    let ended = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{ended:?}");
    assert_eq!(fs::read_dir(rig.db()).unwrap().count(), 1);
}
