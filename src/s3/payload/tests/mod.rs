//! Bodies: those of real clients, malformed ones, and random ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod bodies;
mod headers;
mod properties;
mod rig;
