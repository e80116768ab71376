//! `GET /?ready` and `GET /?alive`, for load balancers: they need no credentials, and tell nothing of what is stored.

use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::store::Store;
use crate::wire::Outgoing;

use super::answer::Answer;

/// Asks whether values can be stored now, …
pub(super) const READY: &str = "ready";
/// … and whether the master answers at all.
pub(super) const ALIVE: &str = "alive";

/// How long a load balancer may wait before it asks again, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The answer, if this is such a request.
pub(super) fn answer(store: &Store, head: &Parts) -> Option<Answer> {
    if head.uri.path() != "/" || !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let checked = match head.uri.query() {
        Some(READY) => store.check_ready().map(|()| "ready\n".to_owned()),
        Some(ALIVE) => Ok("alive\n".to_owned()),
        _ => return None,
    };
    let (status, text) = match checked {
        Ok(text) => (StatusCode::OK, text),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    };
    // not logged as a failure: it is asked every second, and the cause is in the log
    let mut answer = Response::new(Outgoing::Text(Some(text.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_SECONDS);
    }
    Some(answer)
}
