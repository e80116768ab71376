//! What both APIs share: connections, the context of each request, bodies in and out, framing, panics,
//! targets, and text that is safe in the log. It knows no key, no store and no API.

mod body;
mod context;
mod escape;
mod framing;
mod panics;
pub mod server;
mod share;
pub mod target;

pub use body::{BodyError, Outgoing};
pub(crate) use body::{ClientBody, LONGEST_VALUE};
pub(crate) use context::log_request;
pub use context::{Api, RequestContext};
pub(crate) use framing::{FramingError, check_framing};
pub(crate) use panics::caught;
pub(crate) use share::Share;
