//! Connections: accepted up to a limit, served, and drained at the end.

mod patient;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use std::{future::Future, sync::Arc};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::http::Api;

use patient::Patient;

/// How long a client may take for the head of a request, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a client may read nothing of an answer that is waiting for it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest head of a request, in bytes: a key of 2,048 bytes, each percent-encoded, fits eight
/// times. Also the largest piece of a body that is in memory at once.
const BUFFER: usize = 64 * 1024;

/// At most so many headers.
const HEADERS: usize = 64;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// The pause after a connection couldn't be accepted, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the port: on that address, or on all of them.
///
/// # Errors
///
/// The operating system's, such as an address in use.
pub fn listen(address: Option<std::net::IpAddr>, port: u16) -> io::Result<TcpListener> {
    match address {
        Some(address) => bind(SocketAddr::new(address, port), false),
        // one socket for both families, where the machine has the newer one
        None => bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), true).or_else(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                return Err(error);
            }
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)
        }),
    }
}

fn bind(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if both_families {
        socket.set_only_v6(false)?;
    }
    // a restart need not wait for the connections of the run before
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `stop`, then lets the requests in flight finish, for at most `grace`; returns what is
/// left of that.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    connections: usize,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> Duration {
    let graceful = GracefulShutdown::new();
    let limit = Arc::new(Semaphore::new(connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // a client may close its side and wait for the answer
        .half_close(true)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS);
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // beyond the limit, connections wait in the backlog
            let permit = Arc::clone(&limit).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                let api = api.clone();
                let service = service_fn(move |request| api.clone().answer(request));
                let connection =
                    http.serve_connection(TokioIo::new(Patient::new(stream, READ_TIMEOUT)), service);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let stopped = Instant::now();
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests in flight were cut off after the grace period");
    }
    grace.saturating_sub(stopped.elapsed())
}
