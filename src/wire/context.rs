//! The context of a request: all that logs, metrics, limits and audit may read of it.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};
use tokio_util::sync::CancellationToken;

use super::escape::escaped;

/// The number of the next request. Numbers begin anywhere, so that those of two runs are unlikely to meet.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(())));

/// The APIs that a request can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// davkv's own.
    Native,
    /// S3.
    S3,
}

/// One request, from its arrival to the end of its answer.
#[derive(Debug)]
pub struct RequestContext {
    number: u64,
    client: SocketAddr,
    client_gone: CancellationToken,
    method: Method,
    uri: Uri,
    api: Api,
    operation: OnceLock<Cow<'static, str>>,
}

impl RequestContext {
    /// The context of a request that came from there. `client_gone` is cancelled once nobody can read its answer.
    #[must_use]
    pub fn new<B>(client: SocketAddr, client_gone: CancellationToken, request: &Request<B>) -> Self {
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            // an IPv4 client of a socket for both families
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            client_gone,
            method: request.method().clone(),
            uri: request.uri().clone(),
            api: Api::Native,
            operation: OnceLock::new(),
        }
    }

    /// The same request, answered by that API.
    #[must_use]
    pub fn answered_by(self, api: Api) -> Self {
        Self { api, ..self }
    }

    /// Notes which operation of its API the request asks for, once that is known.
    pub(crate) fn set_operation(&self, operation: impl Into<Cow<'static, str>>) {
        self.operation.get_or_init(|| operation.into());
    }

    pub(crate) fn client(&self) -> SocketAddr {
        self.client
    }

    /// Is cancelled once nobody can read the answer any more. Not all clients that leave can be told from those that
    /// wait.
    pub(crate) fn client_gone(&self) -> CancellationToken {
        self.client_gone.clone()
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The operation, if it is known.
    pub(crate) fn operation(&self) -> Option<&str> {
        self.operation.get().map(AsRef::as_ref)
    }

    /// The number of the request, as it is written.
    pub(crate) fn id(&self) -> String {
        format!("{:016X}", self.number)
    }

    /// The request's target for the log. S3's comes without the query, which may hold a signature.
    pub(crate) fn target(&self) -> String {
        escaped(match self.api {
            Api::Native => self.uri.path_and_query().map_or("", PathAndQuery::as_str),
            Api::S3 => self.uri.path(),
        })
    }
}

/// Writes a line of the log about a request: `log_request!(info, context, status, { why, }, "refused")`.
macro_rules! log_request {
    ($level:ident, $context:expr, $status:expr, { $($fields:tt)* }, $message:literal) => {
        tracing::$level!(
            method = %$context.method(),
            target = $context.target(),
            status = $status.as_u16(),
            $($fields)*
            request = $context.id(),
            client = %$context.client(),
            operation = $context.operation(),
            $message
        )
    };
}
pub(crate) use log_request;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::net::Ipv4Addr;

    use super::*;

    fn context(target: &str) -> RequestContext {
        let request = Request::get(target).body(()).unwrap();
        let client = (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 1).into();
        RequestContext::new(client, CancellationToken::new(), &request)
    }

    #[test]
    fn the_log_has_the_query_of_the_native_api_alone() {
        assert_eq!(context("/a?list").target(), "/a?list");
        assert_eq!(context("/a?X-Amz-Signature=1").answered_by(Api::S3).target(), "/a");
    }

    #[test]
    fn an_ipv4_client_is_shown_as_such() {
        assert_eq!(context("/").client().to_string(), "127.0.0.1:1");
    }

    #[test]
    fn each_request_has_a_number_of_its_own() {
        assert_ne!(context("/").id(), context("/").id());
    }
}
