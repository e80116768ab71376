//! The store over real volumes, without an API: the meaning of its answers, and what it leaves on the
//! volumes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

#[path = "../common/mod.rs"]
mod common;

mod identity;
mod rig;
mod uploads;
mod values;
