//! The yardstick: a bare hyper server that answers a constant. No index, no look at the path, no volume;
//! what a master that redirects can't be faster than.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Failure;
use crate::process::Server;
use crate::stage::listening;

/// As long as one of ours.
const TARGET: &str = "http://127.0.0.1:30001/sv05/60/08/L2JlbmNobWFyay0xMjM0NTY3ODkwMTIzNDU2Nzg5";

/// Starts it, as a process of its own; it, and its URL.
pub(crate) async fn start(status: u16, log: PathBuf) -> Result<(Server, String), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--yardstick").arg(status.to_string());
    Server::start(command, log, |_, said| listening(said)).await
}

/// Answers with this status, until it is ended.
pub(crate) fn serve(status: u16) -> Result<(), Failure> {
    let status = StatusCode::from_u16(status)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = service_fn(move |_| async move { Ok::<_, Infallible>(answer(status)) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let body =
        if status == StatusCode::NOT_FOUND { Bytes::from_static(b"no such key\n") } else { Bytes::new() };
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    if status.is_redirection() {
        answer.headers_mut().insert(LOCATION, HeaderValue::from_static(TARGET));
    }
    answer
}
