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
use socket2::SockRef;
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
                lack(host, &error).map_or_else(|| ConnectError::Failed(causes(&error)), ConnectError::Lacking)
            })?;
            let stream = stream.into_inner();
            choose_reno(&stream);
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// What this machine lacked, if there is no connection to the volume at `HOST:PORT` for that. Where it has no address to
/// connect from, that is for want of ports only if it surely has addresses of that kind: a name may stand for one of IPv6.
fn lack(host: &str, error: &(dyn Error + 'static)) -> Option<Lack> {
    let lack = chain(error).find_map(|cause| Lack::of(cause.downcast_ref()?))?;
    (lack != Lack::Ports || host.parse::<SocketAddrV4>().is_ok()).then_some(lack)
}

/// An error with its causes, the outermost first.
fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Chooses Reno for a connection within this machine, where no network can be congested: BBR, where the system prefers
/// it, has every few packets wait for a timer there, and wakes the volume for each of them. That is a quarter of what
/// one large upload costs besides its MD5.
fn choose_reno(stream: &TcpStream) {
    let (Ok(ours), Ok(theirs)) = (stream.local_addr(), stream.peer_addr()) else { return };
    if ours.ip() == theirs.ip() {
        // every kernel has Reno; were it refused, the connection would be as the system makes it
        drop(SockRef::from(stream).set_tcp_congestion(b"reno"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on panics, and that is its report")]

    use std::fmt;

    use tokio::net::TcpListener;

    use super::*;

    /// As the connector has it: what the system said is a cause.
    #[derive(Debug)]
    struct NotConnected(io::Error);

    impl fmt::Display for NotConnected {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("tcp connect error")
        }
    }

    impl Error for NotConnected {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn no_address_to_connect_from_is_a_lack_of_ports_only_where_the_volume_has_an_address_of_ipv4() {
        let of = |host, number| lack(host, &NotConnected(io::Error::from_raw_os_error(number)));
        assert_eq!(of("10.0.0.1:3001", libc::EADDRNOTAVAIL), Some(Lack::Ports));
        for host in ["volume1:3001", "localhost:3001", "[::1]:3001", "[2001:db8::1]:3001"] {
            assert_eq!(of(host, libc::EADDRNOTAVAIL), None, "{host}");
            assert_eq!(of(host, libc::EMFILE), Some(Lack::Descriptors), "{host}");
        }
        assert_eq!(of("10.0.0.1:3001", libc::ECONNREFUSED), None);
    }
    #[tokio::test]
    async fn a_connection_within_this_machine_does_not_pace_by_bbr() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        choose_reno(&stream);
        let congestion_control = SockRef::from(&stream).tcp_congestion().unwrap();
        assert!(congestion_control.starts_with(b"reno"), "{congestion_control:?}");
    }
}
