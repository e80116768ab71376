//! Hostile input: malformed and malicious requests through raw sockets, floods of connections, and volumes
//! that lie to a rebuild.
//!
//! Whatever comes, the master answers well-formed HTTP or hangs up, never 500; repeats nothing of the input
//! in a header or a log line; and goes on serving others. Afterwards it is the same process, with the
//! memory and the descriptors of before, and the volumes hold the files of live keys alone.
//!
//! The mutations come from a seed, which is printed; `DAVKV_SEED` sets it, and `DAVKV_INPUTS` their
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
