//! davkv: a key-value store for large values.
//!
//! One master keeps an index (key → replicas) in LevelDB; the values are plain files on stock nginx
//! servers, the volumes. PUT and DELETE go through the master, GET is answered with a redirect to a
//! volume. All cleverness is in one place: the order in which the index and the volumes are written
//! ([`store`]).
//!
//! The rooms, from the bottom; each imports only from those above it in this list:
//!
//! | room | what it is for |
//! |---|---|
//! | [`error`], [`clock`], [`progress`], [`logs`] | what can go wrong, the time, how far a run is, lines for the operator |
//! | [`key`], [`placement`], [`record`] | pure: formats and hashing |
//! | [`leveldb`] | the safe side of LevelDB, for `index` alone |
//! | [`index`] | keys, records and intents, by key and by page |
//! | [`volume`] | one volume server: its requests, its health |
//! | `source` | a client's body: paced, counted, hashed |
//! | [`store`] | the write protocol, claims, the reaper, rebalancing |
//! | [`rebuild`] | an index from volumes |
//! | [`access`] | clients' keys: who may do what |
//! | [`http`], [`server`] | the native API, and the connections it is spoken on |
//! | `s3` | the S3 API, beside the native one |
//! | [`config`] | flags |

pub mod access;
pub mod clock;
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
#[cfg(feature = "s3")]
pub mod s3;
pub mod server;
mod source;
pub mod store;
pub mod volume;

use std::future::Future;

use tokio::runtime::Builder;

/// Runs a program's work to its end on all cores.
///
/// # Errors
///
/// The work's, or that the runtime can't start.
pub fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    run_on(Builder::new_multi_thread(), work)
}

/// Runs a program's work to its end on this thread, but for what it gives to others.
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

/// Runs blocking work off the async threads.
///
/// # Errors
///
/// The work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
