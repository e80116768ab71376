//! Connections: accepted up to a limit, served, and drained at the end.

mod listener;
mod places;
mod request_line;
mod stream;
#[cfg(test)]
mod tests;
mod workers;
mod write_timeout;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use http_body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use listener::listen;
use places::Places;
pub(super) use request_line::RawLine;
use request_line::RequestLines;
pub use workers::Workers;
use write_timeout::WriteTimeout;

use super::context::RequestContext;
use crate::logs::Seldom;
use crate::pauses;

/// How long a client may take for the head of a request, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// The same when few places for connections are left: heads that never end must not take them all.
const HEAD_TIMEOUT_SCARCE: Duration = Duration::from_secs(5);

/// How long an idle connection may go on after it was asked to make room, so that a request that is already
/// on its way is answered.
const LAST_CHANCE: Duration = Duration::from_millis(100);

/// The longest head of a request, in bytes: a key of 2,048 bytes, each percent-encoded, fits eight
/// times.
const HEAD: usize = 64 * 1024;

/// The largest piece of a body that is in memory at once, in bytes. Each piece wakes every task that handles
/// the value: with a quarter of this, uploads cost a tenth more CPU.
const PIECE: usize = 256 * 1024;

/// The same for a connection that is opened when there are many: while a volume stalls, the pieces of all of
/// them must fit into memory.
const PIECE_OF_MANY: usize = 64 * 1024;

/// Up to this number of connections, each may have large pieces.
const FEW: usize = 256;

/// The most headers of a request.
const HEADERS: usize = 64;

/// The pause after a connection couldn't be accepted, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, then lets the requests in flight finish, for at most `grace`; returns what is
/// left of that.
///
/// At most `connections` are open at a time. When a further one comes, connections that wait for a request
/// end at once, and the others end with the request that they serve.
pub async fn serve<A, F, B>(
    listener: TcpListener,
    workers: &Workers,
    answer: A,
    connections: u32,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> Duration
where
    A: Fn(RequestContext, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let places = Places::new(connections);
    tokio::pin!(stop);
    loop {
        let admitted = tokio::select! {
            admitted = places.admit(&listener) => admitted,
            () = &mut stop => break,
        };
        match admitted {
            Ok((stream, client, place)) => {
                let (http, answer, leave) = (builder(&places), answer.clone(), places.leave.subscribe());
                let served = workers.serve(stream, async move |stream| {
                    // given back last: once all places are free, the index may be closed
                    let _place = place;
                    serve_connection(stream, client, &http, answer, leave).await;
                });
                if let Err(error) = served {
                    tracing::warn!(%error, "can't serve a connection");
                }
            }
            Err(error) => {
                static LINE: Seldom = Seldom::new();
                if let Some(times) = LINE.due() {
                    tracing::warn!(%error, times, "can't accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let stopped = Instant::now();
    if timeout(grace, places.clear()).await.is_err() {
        tracing::warn!("requests in flight were cut off after the grace period");
    }
    grace.saturating_sub(stopped.elapsed())
}

/// Answers the requests of a connection, until it ends or is asked to leave.
async fn serve_connection<A, F, B>(
    stream: TcpStream,
    client: SocketAddr,
    http: &http1::Builder,
    answer: A,
    mut leave: watch::Receiver<()>,
) where
    A: Fn(RequestContext, Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let gone = CancellationToken::new();
    let client_gone = gone.clone();
    // however the connection ends, what its last request left waiting ends as well
    let _gone = gone.clone().drop_guard();
    let lines = Arc::<RequestLines>::default();
    let seen = Arc::clone(&lines);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let asks_first = request.headers().contains_key(EXPECT);
        let is_empty = request.body().is_end_stream();
        if let Some(wrong) = seen.begin(request.method(), request.body().size_hint().exact()) {
            request.extensions_mut().insert(wrong);
        }
        let (context, seen) = (RequestContext::new(client, client_gone.clone(), &request), Arc::clone(&seen));
        answer(context, request).map_ok(move |mut answer| {
            let is_refusal = is_refusal(&answer);
            if seen.is_last(is_refusal) || asks_first && (is_empty || is_refusal) {
                close(&mut answer);
            }
            answer
        })
    });
    let (stream, presence) = stream::split(stream, lines);
    let stream = TokioIo::new(WriteTimeout::new(stream, pauses::READER));
    let connection = http.serve_connection(stream, service);
    tokio::pin!(connection);
    let served = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            _ = leave.changed() => match timeout(LAST_CHANCE, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            },
        }
    };
    tokio::pin!(served);
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        // the connection keeps its place until its request has ended: a write that has begun runs on, and the places
        // bound the number of such writes
        () = presence.gone() => {
            gone.cancel();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

fn is_refusal<B>(answer: &Response<B>) -> bool {
    answer.status().is_client_error() || answer.status().is_server_error()
}

/// Ends the connection with this answer: where it isn't known which bytes are the next request's, and where the answer
/// comes instead of the 100 that was asked for. After a refusal, the client may or may not send its body: without a
/// `Connection: close`, its next request could be read as that body. A client that asks but has nothing to send gets no
/// 100 either; boto3 and the AWS command line would then misread the answer to their next request, if it came over the
/// same connection.
fn close<B>(answer: &mut Response<B>) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

fn builder(places: &Places) -> http1::Builder {
    let head_timeout = if places.are_scarce() { HEAD_TIMEOUT_SCARCE } else { HEAD_TIMEOUT };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // a client may close its side and wait for the answer
        .half_close(true)
        .header_read_timeout(head_timeout)
        .max_header_size(HEAD)
        .max_buf_size(if places.taken() <= FEW { PIECE } else { PIECE_OF_MANY })
        .max_headers(HEADERS);
    http
}
