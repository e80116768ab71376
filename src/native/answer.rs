//! Answers of the native API.

use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::error::{Error, Result};
use crate::wire::Outgoing;

pub(super) type Answer = Response<Outgoing>;

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Outgoing::Text(None));
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

/// Sets a header of an answer to a value from a record.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: &str) -> Result<()> {
    let value = HeaderValue::try_from(value)
        .map_err(|error| Error::Index(format!("a record doesn't fit a header: {error}").into()))?;
    answer.headers_mut().insert(name, value);
    Ok(())
}
