//! A safe wrapper of LevelDB's C interface: blocking calls on bytes, without knowledge of records.
//!
//! The only module with `unsafe`, except for one call of the scheduler and for sockets that the master is started
//! with. Its invariants:
//! - every C object has one owner, which frees it once; fields are dropped in the order of closing;
//! - an [`Iter`] borrows or shares its [`Database`], and the slices it returns borrow the iterator,
//!   so neither outlives the data it points to;
//! - damage is an error, never absence: every block read is checked against its checksum, and so
//!   are the log and the manifest at opening, which fails on damage and never skips records;
//! - one process at a time has a database open, whether it uses this module, another LevelDB or goleveldb.
#![allow(unsafe_code, reason = "LevelDB is C++; all calls into it are in this module")]
#![allow(
    clippy::doc_markdown,
    clippy::missing_errors_doc,
    clippy::iter_not_returning_iterator,
    reason = "LevelDB is a name, the error types document themselves, and the iterator lends slices"
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
pub use directory::Lock;
pub use error::{Error, OpenError};
