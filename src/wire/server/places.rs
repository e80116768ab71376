//! The places for connections: a bounded number, and how one is made free for the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The places for connections.
pub(super) struct Places {
    all: u32,
    free: Arc<Semaphore>,
    /// Asks all connections to end as soon as they can. One that has subscribed misses no call.
    pub(super) leave: watch::Sender<()>,
}

impl Places {
    pub(super) fn new(all: u32) -> Self {
        Self { all, free: Arc::new(Semaphore::new(all as usize)), leave: watch::Sender::default() }
    }

    /// Accepts a connection, and finds it a place. Until then, further ones wait in the backlog.
    pub(super) async fn admit(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let (stream, client) = listener.accept().await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        if self.free.available_permits() == 0 {
            self.leave.send_replace(());
        }
        let place = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
        Ok((stream, client, place))
    }

    /// Whether more than three quarters of the places are taken.
    pub(super) fn are_scarce(&self) -> bool {
        self.free.available_permits() < self.all as usize / 4
    }

    pub(super) fn taken(&self) -> usize {
        self.all as usize - self.free.available_permits()
    }

    /// Waits until the last connection has ended.
    pub(super) async fn clear(&self) {
        self.leave.send_replace(());
        // never closed
        drop(self.free.acquire_many(self.all).await);
    }
}
