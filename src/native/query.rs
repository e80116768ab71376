//! The query of a listing.

use std::fmt;

use crate::record::State;
use crate::wire::target::{TargetError, percent_decode};

/// What is wrong with a query, in a line for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// An escape in it is malformed.
    Target(TargetError),
    /// It isn't one of ours.
    Unknown,
    /// The limit is no number.
    Limit,
    /// It says something twice.
    Twice,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target(error) => return error.fmt(f),
            Self::Unknown => {
                "the queries are ?list and ?unlinked, with &start=KEY and &limit=NUMBER, and /?dump, /?ready and /?alive"
            }
            Self::Limit => "limit is a number of keys, 0 for all",
            Self::Twice => "the query says something twice",
        })
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target(error) => Some(error),
            Self::Unknown | Self::Limit | Self::Twice => None,
        }
    }
}

impl From<TargetError> for QueryError {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

/// What a listing asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which keys.
    pub state: State,
    /// The first key of interest; empty for all.
    pub start: Vec<u8>,
    /// How many keys; 0 for all.
    pub limit: u64,
}

impl Query {
    /// Reads what follows the `?` of a URL.
    ///
    /// # Errors
    ///
    /// It is no query of ours.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut state, mut start, mut limit) = (None, None, None);
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let twice = match (name, value) {
                ("list", "") => state.replace(State::Live).is_some(),
                ("unlinked", "") => state.replace(State::Unlinked).is_some(),
                // as HTML forms write it, which is how minikeyvalue reads it
                ("start", value) => start.replace(percent_decode(&value.replace('+', " "))?).is_some(),
                ("limit", value) => {
                    let number = value.bytes().all(|byte| byte.is_ascii_digit());
                    let number = number.then(|| value.parse().ok()).flatten();
                    limit.replace(number.ok_or(QueryError::Limit)?).is_some()
                }
                _ => return Err(QueryError::Unknown),
            };
            if twice {
                return Err(QueryError::Twice);
            }
        }
        let state = state.ok_or(QueryError::Unknown)?;
        Ok(Self { state, start: start.unwrap_or_default(), limit: limit.unwrap_or(0) })
    }
}
