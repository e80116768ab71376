//! Connections to one volume, kept open between requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::Head;
use super::connection::{Connection, Request, RequestError};
use super::feed::Feed;
use super::network::{ConnectError, Network};
use super::outcome::{Outcome, VolumeError, late};

/// Idle connections live this long: well below the 75 s after which an nginx that wasn't told
/// otherwise drops them, because a request that meets a closing connection is in doubt.
const IDLE: Duration = Duration::from_secs(20);

/// At most so many connections to a volume are idle at a time, whatever the number of runtimes; the longest idle one is
/// closed for a further one. Requests that come a few hundred at a time find a connection. A burst of thousands doesn't
/// leave as many descriptors here, and as many of nginx's 8192 `worker_connections` taken there, for nothing.
const MOST_IDLE: usize = 256;

/// The pause before a connection is tried again that this machine had no descriptor, port or memory for.
const LACK_PAUSE: Duration = Duration::from_millis(20);

/// The connections to one volume that nobody uses at the moment.
pub(super) struct Pool {
    network: Arc<dyn Network>,
    /// How long a new connection is waited for.
    limit: Duration,
    /// The volume's address, `HOST:PORT`.
    host: String,
    idle: Mutex<Idle>,
}

/// Connections and since when they are idle, the longest idle first, by the runtime that hears of what happens on their
/// sockets.
#[derive(Default)]
struct Idle(HashMap<Id, VecDeque<(Instant, Connection)>>);

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
            let (mut connection, used) = match self.take() {
                Some(connection) => (connection, true),
                // boxed, so that all the requests that find one don't carry the memory that this takes
                None => Box::pin(self.obtain()).await?,
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

    /// A new connection, or one that was given back while none could be made; tells whether it was used.
    async fn obtain(&self) -> Outcome<(Connection, bool)> {
        let mut lacking_since = None;
        loop {
            match self.connect().await {
                // Descriptors and ports come back as requests end. The wait ends before the deadline of a small
                // request, which would take it for the volume's.
                Err(VolumeError::Lacking(_))
                    if lacking_since.get_or_insert_with(Instant::now).elapsed() < self.limit / 2 => {}
                connected => return connected.map(|connection| (connection, false)),
            }
            sleep(LACK_PAUSE).await;
            if let Some(connection) = self.take() {
                return Ok((connection, true));
            }
        }
    }

    async fn connect(&self) -> Outcome<Connection> {
        let stream = timeout(self.limit, self.network.connect(&self.host)).await;
        match stream.map_err(|_elapsed| VolumeError::Unreachable(late(self.limit)))? {
            Ok(stream) => Ok(Connection::new(stream)),
            Err(ConnectError::Failed(why)) => Err(VolumeError::Unreachable(why)),
            Err(ConnectError::Lacking(lack)) => {
                lack.log();
                // those that other threads keep: what they hold is what is lacking
                self.clear();
                Err(VolumeError::Lacking(lack))
            }
        }
    }

    /// The connection that was used last.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let connections = idle.0.get_mut(&Handle::current().id())?;
        while let Some((since, mut connection)) = connections.pop_back() {
            if since.elapsed() < IDLE && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes the connections that nobody uses: those of a volume that is down may be dead without a word.
    pub(super) fn clear(&self) {
        self.idle().0.values_mut().for_each(VecDeque::clear);
    }

    fn give_back(self: &Arc<Self>, connection: Connection) {
        let runtime = Handle::current().id();
        let mut idle = self.idle();
        let connections = idle.0.entry(runtime).or_insert_with(|| {
            tokio::spawn(sweep(Arc::downgrade(self), runtime, Instant::now() + IDLE));
            VecDeque::new()
        });
        connections.push_back((Instant::now(), connection));
        let surplus = idle.surplus();
        drop(idle);
        // closed without the lock
        drop(surplus);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// The longest idle connection, if there are too many.
    fn surplus(&mut self) -> Option<Connection> {
        if self.0.values().map(VecDeque::len).sum::<usize>() <= MOST_IDLE {
            return None;
        }
        let oldest = self.0.values_mut().filter(|connections| !connections.is_empty());
        let oldest = oldest.min_by_key(|connections| connections.front().map(|(since, _)| *since))?;
        oldest.pop_front().map(|(_, connection)| connection)
    }

    /// Removes the connections of a runtime that are idle for too long. Returns when the next one is; `None` if the
    /// runtime has no connection any more.
    fn sweep(&mut self, runtime: Id) -> Option<Instant> {
        let connections = self.0.get_mut(&runtime)?;
        let is_old = |(since, _): &(Instant, Connection)| since.elapsed() >= IDLE;
        connections.drain(..connections.partition_point(is_old));
        let next = connections.front().map(|(since, _)| *since + IDLE);
        if next.is_none() {
            self.0.remove(&runtime);
        }
        next
    }
}

/// Closes each connection of a runtime once it was idle for too long, until none is left.
async fn sweep(pool: Weak<Pool>, runtime: Id, first: Instant) {
    let mut due = Some(first);
    while let Some(until) = due {
        sleep_until(until).await;
        let Some(pool) = pool.upgrade() else { return };
        due = pool.idle().sweep(runtime);
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

#[cfg(test)]
mod tests;
