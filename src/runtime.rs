//! The async runtime of the programs, and the one function that runs blocking work.

use std::error::Error;
use std::fmt;
use std::future::Future;

use futures_util::TryFutureExt as _;
use tokio::runtime::Builder;
use tokio::task::JoinError;

/// Runs a program's work to its end on all cores.
///
/// # Errors
///
/// The work failed, or the runtime can't start.
pub fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    run_on(Builder::new_multi_thread(), work)
}

/// Runs a program's work to its end on this thread; blocking work runs on other threads.
///
/// # Errors
///
/// As [`run`].
pub fn run_here<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    run_on(Builder::new_current_thread(), work)
}

fn run_on<T>(mut runtime: Builder, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = runtime.enable_all().build();
    runtime.map_err(|error| format!("can't start: {error}"))?.block_on(work)
}

/// Runs blocking work off the async threads. The work starts at once, and runs to its end even if the future is
/// dropped.
///
/// # Errors
///
/// The work panicked, or the runtime shut down before the work began.
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, BlockingError>> + Send {
    tokio::task::spawn_blocking(work).map_err(BlockingError)
}

/// Why blocking work has no result.
#[derive(Debug)]
pub struct BlockingError(JoinError);

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BlockingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The programs report errors as one line.
impl From<BlockingError> for String {
    fn from(error: BlockingError) -> Self {
        error.to_string()
    }
}
