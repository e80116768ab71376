//! x
pub mod key;
pub mod placement;
pub mod record;
