//! Connections to one volume, kept open between requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep, timeout};

use super::answer::Head;
use super::connection::{Connection, Request, RequestError};
use super::feed::Feed;
use super::network::Network;
use super::outcome::{Outcome, VolumeError, late};

/// Idle connections live this long: well below the 75 s after which an nginx that wasn't told
/// otherwise drops them, because a request that meets a closing connection is in doubt.
const IDLE: Duration = Duration::from_secs(20);

/// The connections to one volume that nobody uses at the moment.
pub(super) struct Pool {
    network: Arc<dyn Network>,
    /// How long a new connection is waited for.
    limit: Duration,
    /// The volume's address, `HOST:PORT`.
    host: String,
    /// By the runtime that hears of what happens on their sockets.
    idle: Mutex<HashMap<Id, Vec<(Instant, Connection)>>>,
}

/// An answer, whose body may still be on its way.
pub(super) struct Answer {
    head: Head,
    /// Goes back to the pool at the end of the body.
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(network: Arc<dyn Network>, limit: Duration, host: &str) -> Self {
        Self { network, limit, host: host.to_owned(), idle: Mutex::default() }
    }

    /// Sends a request, and waits for the head of its answer. It is sent once: on another connection only
    /// if none of its bytes went out on one that the volume had closed meanwhile.
    pub(super) async fn request(
        self: &Arc<Self>,
        method: Method,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: Feed,
    ) -> Outcome<Answer> {
        // it may come from a damaged index, and goes out as it is
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VolumeError::Unreachable("the path is none".into()));
        }
        let mut request = Request { method, host: &self.host, path, header, body };
        loop {
            let idle = self.take();
            let used = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            match connection.ask(&mut request).await {
                Ok(head) => {
                    let (connection, pool) = (Some(connection), Arc::clone(self));
                    return Ok(Answer { head, connection, pool });
                }
                Err(RequestError::Unsent) if used => {}
                Err(RequestError::Unsent) => {
                    return Err(VolumeError::Unanswered("it closed the connection".into()));
                }
                Err(RequestError::Broken(why)) => return Err(VolumeError::Unanswered(why)),
            }
        }
    }

    async fn connect(&self) -> Outcome<Connection> {
        let stream = timeout(self.limit, self.network.connect(&self.host)).await;
        let stream = stream.map_err(|_elapsed| VolumeError::Unreachable(late(self.limit)))?;
        stream.map(Connection::new).map_err(VolumeError::Unreachable)
    }

    /// The connection that was used last.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let connections = idle.get_mut(&Handle::current().id())?;
        while let Some((since, mut connection)) = connections.pop() {
            if since.elapsed() < IDLE && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes the connections that nobody uses: those of a volume that is down may be dead without a word.
    pub(super) fn clear(&self) {
        self.idle().values_mut().for_each(Vec::clear);
    }

    fn give_back(self: &Arc<Self>, connection: Connection) {
        let runtime = Handle::current().id();
        let mut idle = self.idle();
        let connections = idle.entry(runtime).or_insert_with(|| {
            tokio::spawn(sweep(Arc::downgrade(self), runtime));
            Vec::new()
        });
        connections.push((Instant::now(), connection));
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Id, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that were idle for too long, until none is left.
async fn sweep(pool: Weak<Pool>, runtime: Id) {
    loop {
        sleep(IDLE).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        let Some(connections) = idle.get_mut(&runtime) else { return };
        connections.retain(|(since, _)| since.elapsed() < IDLE);
        if connections.is_empty() {
            idle.remove(&runtime);
            return;
        }
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The length of the file in bytes, where the volume tells.
    pub(super) fn length(&self) -> Option<u64> {
        self.head.length
    }

    /// Where the body is a part of the file: its first byte, and the file's length.
    pub(super) fn part(&self) -> Option<(u64, u64)> {
        self.head.part
    }

    /// When the file was written, in seconds since 1970, if the volume tells.
    pub(super) fn modified(&self) -> Option<u64> {
        self.head.modified
    }

    /// The next piece of the body; `None` after the last.
    pub(super) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let piece = connection.next(&mut self.head.body).await.map_err(VolumeError::Unanswered)?;
        if piece.is_none()
            && let Some(mut connection) = self.connection.take()
            && self.head.keep
            && connection.is_quiet()
        {
            self.pool.give_back(connection);
        }
        Ok(piece)
    }
}
