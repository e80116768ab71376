//! On which terms a value is stored: what a caller brings, what it requires, and what it is told before the
//! value is visible.

use super::caller::Caller;
use crate::error::Result;
use crate::index::steps::{Conditions, Precondition};
use crate::record::Headers;

/// A value on its way in.
#[derive(Debug)]
pub struct Incoming<B> {
    /// Its bytes.
    pub body: B,
    /// How many bytes were announced, if they were.
    pub length: Option<u64>,
    /// The MD5 that was announced, to be checked.
    pub md5: Option<[u8; 16]>,
}

/// What is known of a value when its last byte was read, and none of it is visible yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub size: u64,
    /// Its MD5, where that is computed.
    pub md5: Option<[u8; 16]>,
}

/// Sees the value before it takes effect, and gives its headers, or refuses it.
pub(super) type Finish = Box<dyn FnOnce(Received) -> Result<Headers> + Send>;

/// On which terms a value is stored.
pub(super) struct Terms {
    pub(super) conditions: Conditions,
    pub(super) finish: Finish,
    pub(super) may_be_empty: bool,
    pub(super) caller: Caller,
}

impl Terms {
    /// A value on which nobody insists beyond the key's state.
    pub(super) fn new(precondition: Precondition, finish: Finish, caller: Caller) -> Self {
        Self { conditions: Conditions::on(precondition), finish, may_be_empty: true, caller }
    }
}
