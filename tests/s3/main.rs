//! The S3 API at the level of HTTP, without an SDK, on the real master over real nginx.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and that is its report"
)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod blocked;
mod bodies;
mod buckets;
mod conditions;
mod cors;
mod full;
mod listing;
mod log;
mod memory;
mod multipart;
mod names;
mod overwrite;
mod pauses;
mod redirect;
mod rig;
mod signed;
mod signer;
mod speaks;
mod times;
mod volumes;
mod xml;
