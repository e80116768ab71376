//! x
pub mod config;
pub mod error;
pub mod http;
pub mod index;
pub mod key;
pub mod leveldb;
pub mod logs;
pub mod placement;
pub mod progress;
pub mod rebuild;
pub mod record;
pub mod server;
pub mod store;
mod tee;
pub mod volume;

use std::future::Future;

/// Runs a program's work to its end on all cores.
///
/// # Errors
///
/// The work's, or that the runtime can't start.
pub fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("can't start: {error}"))?.block_on(work)
}

/// Runs blocking work off the async threads.
///
/// # Errors
///
/// The work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
