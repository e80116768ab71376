//! An operator's slips, typed as an operator would: a wrong index, a disk that isn't mounted, swapped disks, two masters
//! on one set of volumes, an index that is out of date. Each ends in a refusal with a remedy that works, and no value is
//! lost or comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod disks;
mod indexes;
mod owner_file;
mod put_away;
mod rig;
