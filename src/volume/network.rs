//! Where connections to volumes come from: TCP, or what a test puts in its place.
//!
//! This is all that the volume room asks of the network below it.

use std::error::Error;
use std::io;
use std::net::SocketAddrV4;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::lack::Lack;
use super::outcome::Timeouts;

/// A stream of bytes in both directions. Each of its two directions has one waker: one task uses it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Waits until there is something to read, or the other side has closed.
    fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there: `WouldBlock` when that is nothing.
    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;
}

impl Stream for TcpStream {
    fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, context)
    }

    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, bytes)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// This machine has nothing to make it with: no volume was asked.
    Lacking(Lack),
    /// The volume can't be reached; says why.
    Failed(String),
}

/// Connects to volumes.
pub(crate) trait Network: Send + Sync {
    /// A new connection to a volume at `HOST:PORT`.
    fn connect<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Box<dyn Stream>, ConnectError>>;
}

/// TCP, with the system's name look-up.
pub(super) struct Tcp(HttpConnector);

impl Tcp {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let mut connector = HttpConnector::new();
        // of a name with several addresses, each gets its share of the time
        connector.set_connect_timeout(Some(timeouts.request));
        connector.set_nodelay(true);
        Self(connector)
    }
}

impl Network for Tcp {
    fn connect<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Box<dyn Stream>, ConnectError>> {
        async move {
            let address = Uri::builder().scheme("http").authority(host).path_and_query("/").build();
            let address = address.map_err(|_error| ConnectError::Failed("it is no HOST:PORT".to_owned()))?;
            let stream = self.0.clone().call(address).await.map_err(|error| {
                let lack = chain(&error).find_map(|cause| Lack::of(cause.downcast_ref()?));
                // of a name with several addresses, one may be of a kind that this machine has none of
                let lack = lack.filter(|lack| *lack != Lack::Ports || host.parse::<SocketAddrV4>().is_ok());
                lack.map_or_else(|| ConnectError::Failed(causes(&error)), ConnectError::Lacking)
            })?;
            Ok(Box::new(stream.into_inner()) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// An error with its causes, the outermost first.
fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
