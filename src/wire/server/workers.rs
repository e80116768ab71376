//! The threads that serve connections, each with a runtime of its own.
//!
//! All that a request needs happens on one thread, the connections to the volumes included: no thread
//! wakes another one, which costs more than the rest of a small request. A connection stays with its
//! thread; a new one goes to the thread that has the fewest. (`SO_REUSEPORT` would spread them by chance.)

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// At the end, blocking work is waited for so long.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Threads that serve connections. Without any, they are served where they are accepted.
#[derive(Default)]
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Shared with each of its connections, so that they can be counted.
    load: Arc<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread per core, and two at least: one may have to wait for the disk of the index.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (0..cores.max(2)).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Has a connection served by the worker that has the fewest.
    pub(super) fn serve<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.load)) else {
            tokio::spawn(serve(stream));
            return Ok(());
        };
        let (stream, load) = (stream.into_std()?, Arc::clone(&worker.load));
        worker.runtime.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "can't serve a connection"),
            }
            drop(load);
        });
        Ok(())
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let_others_finish();
            drop(runtime.block_on(stopped));
            // a look-up of a name may hang
            runtime.shutdown_timeout(LAST_WORK);
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

/// Has the scheduler take this thread for one that computes (`SCHED_BATCH`, sched(7)): when a request comes
/// in, it doesn't interrupt the thread that has the core, mostly a client or volume of the same machine that
/// is about to bring more. On a machine of two cores that they share, a fifth more redirects are answered; where the
/// master has its cores for itself, nothing changes.
#[expect(unsafe_code, reason = "no safe crate sets the class and leaves the nice value alone")]
fn let_others_finish() {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is this thread, and the pointer is read before the call returns.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "no SCHED_BATCH");
    }
}

impl Drop for Workers {
    /// Ends all threads, and whatever still runs on them.
    fn drop(&mut self) {
        for worker in &mut self.0 {
            drop(worker.stop.take());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker thread panicked");
        }
    }
}
