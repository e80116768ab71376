//! The complete HTTP interface and command line, on the real master over real nginx.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod command_line;
mod connections;
mod delete;
mod dump;
mod end;
mod get;
mod health;
mod keys;
mod lists;
mod log;
mod malformed;
mod put;
mod reports;
mod rig;
