//! What a URL says.

use percent_encoding::percent_decode_str;

use super::Refusal;
use crate::record::State;

/// Strictly: a `%` that begins no escape is an error, and not itself.
pub(super) fn percent_decode(text: &str) -> Result<Vec<u8>, Refusal> {
    let escapes = text.split('%').skip(1);
    for escape in escapes {
        let digits = escape.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Refusal::Bad(
                "a % in the URL is followed by two hex digits (write %25 for %)".into(),
            ));
        }
    }
    Ok(percent_decode_str(text).collect())
}

/// What a listing asks for.
pub(super) struct Query {
    pub(super) state: State,
    pub(super) start: Vec<u8>,
    /// 0 for no limit.
    pub(super) limit: u64,
}

impl Query {
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
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
                    let bad = || Refusal::Bad("limit is a number of keys, 0 for all".into());
                    limit.replace(number.ok_or_else(bad)?).is_some()
                }
                _ => return Err(Refusal::Bad(unknown_query())),
            };
            if twice {
                return Err(Refusal::Bad("the query says something twice".into()));
            }
        }
        let state = state.ok_or_else(|| Refusal::Bad(unknown_query()))?;
        Ok(Self { state, start: start.unwrap_or_default(), limit: limit.unwrap_or(0) })
    }
}

fn unknown_query() -> String {
    "the queries are ?list and ?unlinked, with &start=KEY and &limit=NUMBER".into()
}
