//! The network between the store and its volumes: streams of bytes in memory, over which the real
//! [`crate::volume`] speaks.
//!
//! No task stands behind a stream: what is written is taken by the volume at once, and what the volume says
//! is there to be read when its time has come. So runs can be repeated call by call.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::calls::World;
use super::fault::{Fault, Kind};
use super::nginx::{Heard, Nginx};
use crate::volume::network as seam;

/// In the place of TCP.
pub(super) struct Network(World);

impl Network {
    pub(super) fn of(world: &World) -> Self {
        Self(world.clone())
    }
}

impl seam::Network for Network {
    fn connect<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn seam::Stream>, seam::ConnectError>> {
        async move {
            // probes of a volume that is down go on and on: they are no calls
            let (down, is_call) = {
                let world = self.0.state();
                (world.down.contains(host), world.counts_connections())
            };
            match if down {
                Some(Fault::Unreachable)
            } else if is_call {
                self.0.meet(Kind::Connect, host).await
            } else {
                None
            } {
                None => Ok(Box::new(Stream::to(&self.0, host)) as Box<dyn seam::Stream>),
                Some(Fault::Unreachable) => Err(seam::ConnectError::Failed("connection refused".to_owned())),
                Some(Fault::Silent(_)) => pending().await,
                Some(fault) => unreachable!("{fault:?} befalls no connection"),
            }
        }
        .boxed()
    }
}

/// A connection to a volume, as the store has it.
struct Stream {
    nginx: Nginx,
    /// Wakes the task when the volume takes more, …
    takes: Timer,
    /// … and when it says something.
    says: Timer,
}

impl Stream {
    fn to(world: &World, host: &str) -> Self {
        Self { nginx: Nginx::new(world, host), takes: Timer(None), says: Timer(None) }
    }
}

struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once that time has come.
    fn poll(&mut self, due: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.poll_unpin(context)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Poll::Ready(taken) = self.nginx.take(bytes) {
                return Poll::Ready(taken);
            }
            let due = self.nginx.busy_until();
            std::task::ready!(self.takes.poll(due, context));
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.nginx.say(into.remaining(), true) {
                Heard::Bytes(bytes) => {
                    into.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Heard::Closed(closed) => return Poll::Ready(closed),
                Heard::Nothing(until) => std::task::ready!(self.says.poll(until, context)),
            }
        }
    }
}

impl seam::Stream for Stream {
    fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.nginx.say(0, false) {
                Heard::Bytes(_) | Heard::Closed(_) => return Poll::Ready(Ok(())),
                Heard::Nothing(until) => std::task::ready!(self.says.poll(until, context)),
            }
        }
    }

    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.nginx.say(into.len(), false) {
            Heard::Bytes(bytes) => {
                into[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Heard::Closed(closed) => closed.map(|()| 0),
            Heard::Nothing(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
