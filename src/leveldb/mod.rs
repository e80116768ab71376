//! A safe side of LevelDB's C interface: blocking calls on bytes, no knowledge of records.
//!
//! The only room of the crate with `unsafe`, but for one call of the scheduler. What it keeps to:
//! - every C object has one owner, which frees it once; the order of fields is the order of closing;
//! - an [`Iter`] borrows its [`Database`] or shares in it, and the slices it lends borrow the iterator,
//!   so that neither outlives what it points into;
//! - damage is an error, never absence: every block read is checked against its checksum, and so
//!   are the log and the manifest at opening, which fails on damage rather than skip records;
//! - one process at a time has a database open, be it this one, another LevelDB or goleveldb.
#![allow(unsafe_code, reason = "LevelDB is C++; this room is the whole of our calls into it")]
#![allow(
    clippy::doc_markdown,
    clippy::missing_errors_doc,
    clippy::iter_not_returning_iterator,
    reason = "LevelDB is a name, its error types say when they come, and its iterator lends"
)]

mod batch;
mod database;
mod directory;
mod error;
mod ffi;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use database::{Database, Iter, Options};
pub use error::{Error, OpenError};
