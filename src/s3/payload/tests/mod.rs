//! Bodies as clients send them, and as they don't.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod bodies;
mod headers;
mod properties;
mod rig;
