//! What a URL says: percent-encoding, and the query of a listing.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::record::State;

/// What is wrong with a URL, in a line for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadUrl {}

/// The bytes that a percent-encoded part of a URL stands for.
///
/// # Errors
///
/// Strictly: a `%` that begins no escape is an error, and not itself.
pub fn percent_decode(text: &str) -> Result<Vec<u8>, BadUrl> {
    let escapes = text.split('%').skip(1);
    for escape in escapes {
        let digits = escape.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(BadUrl("a % in the URL is followed by two hex digits (write %25 for %)"));
        }
    }
    Ok(percent_decode_str(text).collect())
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

const UNKNOWN: BadUrl =
    BadUrl("the queries are ?list and ?unlinked, with &start=KEY and &limit=NUMBER, and /?dump");

impl Query {
    /// Reads what follows the `?` of a URL.
    ///
    /// # Errors
    ///
    /// It is no query of ours.
    pub fn parse(query: &str) -> Result<Self, BadUrl> {
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
                    let bad = BadUrl("limit is a number of keys, 0 for all");
                    limit.replace(number.ok_or(bad)?).is_some()
                }
                _ => return Err(UNKNOWN),
            };
            if twice {
                return Err(BadUrl("the query says something twice"));
            }
        }
        let state = state.ok_or(UNKNOWN)?;
        Ok(Self { state, start: start.unwrap_or_default(), limit: limit.unwrap_or(0) })
    }
}
