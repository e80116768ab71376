//! Requests that fail: their answers, and their lines in the log. The only place of the native API that knows
//! which error has which status.

use futures_util::FutureExt as _;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};

use super::answer::{Answer, empty};
use super::query::QueryError;
use crate::error::Error;
use crate::index::IndexError;
use crate::wire::target::TargetError;
use crate::wire::{FramingError, Outgoing, RequestContext, caught, log_request};

const METHODS: &str = "GET, HEAD, PUT, DELETE, UNLINK, RELINK, REBALANCE";

/// Asks a client for credentials, …
const REALM: &str = "Basic realm=\"davkv\"";
/// … and in words.
pub(super) const LOG_IN: &str =
    "this wants a key: send its access and its secret (HTTP Basic), or its secret (Bearer)";

/// After this many seconds, a client may try again.
const RETRY_SECONDS: &str = "1";

/// A request that is refused before it reaches the store, or by the store.
pub(super) enum Refusal {
    /// The request makes no sense; says why.
    Bad(String),
    Method,
    /// The request has no credentials, or wrong ones; says what to send.
    Unauthenticated(String),
    /// The client may not do this; says what.
    Forbidden(String),
    /// There is too much of it now; says of what.
    Later(String),
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<IndexError> for Refusal {
    fn from(error: IndexError) -> Self {
        Self::Store(error.into())
    }
}

impl From<FramingError> for Refusal {
    fn from(error: FramingError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::Bad(error.to_string())
    }
}

/// The answer to a request, whatever it comes to.
// Not an `async fn`: such a future holds its argument twice, and this one is copied for each
// request.
pub(super) fn answered(
    context: &RequestContext,
    routed: impl Future<Output = Result<Answer, Refusal>>,
) -> impl Future<Output = Answer> {
    caught(routed).map(move |outcome| match outcome {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => refuse(&refusal, context),
        Err(panicked) => refuse(&panicked.into(), context),
    })
}

/// The answer to a request that failed, and its line in the log.
fn refuse(refusal: &Refusal, context: &RequestContext) -> Answer {
    let (status, why) = match refusal {
        Refusal::Bad(why) => (StatusCode::BAD_REQUEST, why.clone()),
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, format!("the methods are {METHODS}")),
        Refusal::Unauthenticated(why) => (StatusCode::UNAUTHORIZED, why.clone()),
        Refusal::Forbidden(why) => (StatusCode::FORBIDDEN, why.clone()),
        Refusal::Later(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        Refusal::Store(error) => (status_of(error), error.to_string()),
    };
    match refusal {
        Refusal::Store(Error::Index(cause)) => {
            log_request!(error, context, status, { cause = cause.to_string(), }, "failed");
        }
        Refusal::Store(Error::Damaged | Error::Panicked) => {
            log_request!(error, context, status, { why, }, "failed");
        }
        _ if status.is_server_error() => {
            log_request!(warn, context, status, { why, }, "failed");
        }
        // asking is no failure, and anybody can ask for anything
        _ if status == StatusCode::NOT_FOUND => {}
        _ => log_request!(info, context, status, { why, }, "refused"),
    }
    // as minikeyvalue answers
    if status == StatusCode::NOT_FOUND && matches!(*context.method(), Method::GET | Method::HEAD) {
        return empty(status);
    }
    let mut answer = Response::new(Outgoing::Text(Some(format!("{why}\n").into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(REALM));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    answer
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::NotFound | Error::NoUpload => StatusCode::NOT_FOUND,
        Error::Exists | Error::Protected => StatusCode::FORBIDDEN,
        Error::Busy => StatusCode::CONFLICT,
        Error::Changed => StatusCode::PRECONDITION_FAILED,
        Error::Empty => StatusCode::LENGTH_REQUIRED,
        Error::InvalidKey(_) | Error::WrongMd5 | Error::CutShort => StatusCode::BAD_REQUEST,
        Error::Stalled => StatusCode::REQUEST_TIMEOUT,
        Error::TooManyWaiters
        | Error::TooFewVolumes { .. }
        | Error::NoMemory
        | Error::Unreachable
        | Error::Unsettled => StatusCode::SERVICE_UNAVAILABLE,
        Error::Full | Error::Unbalanced { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Error::Damaged | Error::Index(_) | Error::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and this one shall")]

    use http_body_util::BodyExt as _;
    use hyper::Request;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered() {
        let request = Request::get("/key").body(()).unwrap();
        let context = RequestContext::new(([127, 0, 0, 1], 1).into(), CancellationToken::new(), &request);
        let answer = answered(&context, async { panic!("as the test wants it") }).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "the master failed, see its log\n");
    }
}
