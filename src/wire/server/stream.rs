//! A client's connection, in two parts: what hyper reads and writes, and what notices that the client is gone.
//!
//! While a request is being answered, hyper reads nothing that it doesn't need, so it doesn't see how the client ends
//! the connection. It couldn't tell either: a client that closes its sending side may wait for the answer. What tells
//! is a reset, which the kernel reports as an error of the socket. A client that closes both sides in good order looks
//! like one that waits, until something is sent to it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::request_line::RequestLines;

/// What is read and written.
pub(super) struct ClientStream {
    read: OwnedReadHalf,
    /// Sees what is read.
    lines: Arc<RequestLines>,
    write: Arc<OwnedWriteHalf>,
}

/// What notices that the client is gone.
pub(super) struct Presence(Arc<OwnedWriteHalf>);

/// The two parts of a connection.
pub(super) fn split(stream: TcpStream, lines: Arc<RequestLines>) -> (ClientStream, Presence) {
    let (read, write) = stream.into_split();
    // the writing half is shared, because reading from a shared one would cost a system call more per request
    let write = Arc::new(write);
    (ClientStream { read, lines, write: Arc::clone(&write) }, Presence(write))
}

impl Presence {
    /// Returns once the client has reset the connection, or the network has lost it. The connection stays open as
    /// long as this exists.
    pub(super) async fn gone(&self) {
        if let Err(error) = self.0.ready(Interest::ERROR).await {
            tracing::debug!(%error, "a connection can't be watched");
        }
    }
}

impl ClientStream {
    fn poll_written(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = (*self.write).as_ref();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match write(&self.write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.read).poll_read(context, buffer))?;
        self.lines.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = (*self.write).as_ref();
        Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write))
    }
}
