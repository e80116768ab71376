//! Hostile input: malformed and malicious requests through raw sockets, floods of connections, and volumes
//! that give a rebuild false listings.
//!
//! Whatever arrives, the master answers well-formed HTTP or closes the connection, and never answers 500;
//! repeats no input in a header or a log line; and keeps serving others. Afterwards it is the same process,
//! with the same memory and descriptors as before, and the volumes hold only the files of live keys.
//!
//! The mutations come from a seed, which is printed and can be set with `DAVKV_SEED`; `DAVKV_INPUTS` is their
//! number: `DAVKV_INPUTS=1000000 cargo test --release --test hostile mutated -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and that is its report"
)]

#[path = "../common/mod.rs"]
mod common;

mod answer;
mod corpus;
mod flood;
mod mutation;
mod rebuild;
#[cfg(feature = "s3")]
mod s3;
mod target;
