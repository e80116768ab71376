//! The offline tools, run as an operator runs them: `davkv-rebuild` and `davkv-rebalance` on real volumes.
//!
//! A test fills a [`rig::Rig`], through a master or by hand, stops the master, runs a tool, and compares the
//! index with the files on the volumes. Random choices come from a seed, which is printed and can be set with
//! `DAVKV_SEED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]
#![allow(clippy::print_stdout, reason = "the seed of a failed run is needed to repeat it")]

#[path = "../common/mod.rs"]
mod common;

mod flags;
mod rebalance;
mod rebuild;
mod rig;
