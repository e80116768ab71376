//! The baseline: a bare hyper server that answers a constant. It has no index, looks at no path and asks no
//! volume; no master that redirects can be faster.

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::settings::Result;

/// As long as a Location of the master's.
const TARGET: &str = "http://127.0.0.1:30001/sv05/60/08/L2JlbmNobWFyay0xMjM0NTY3ODkwMTIzNDU2Nzg5";

/// Serves this status on all cores, as a master does, until the benchmark ends; the `HOST:PORT`.
pub(crate) fn start(status: StatusCode) -> Result<String> {
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || runtime.block_on(serve(listener, status)));
    Ok(address)
}

async fn serve(listener: std::net::TcpListener, status: StatusCode) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let answer = move || {
        let mut answer = Response::builder().status(status);
        if status.is_redirection() {
            answer = answer.header("location", TARGET);
        }
        let body: &[u8] = if status == StatusCode::NOT_FOUND { b"no such key\n" } else { b"" };
        answer.body(Full::new(Bytes::from_static(body)))
    };
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |_| async move { answer() });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
