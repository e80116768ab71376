//! A panic in a request ends that request alone.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::error::Error;

/// Runs work, and makes an error of its panic. What the work shares with other work can bear that: locks
/// ignore poison, and claims free themselves.
// Not an `async fn`: such a future holds its argument twice, and this one is copied for each request.
pub(crate) fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, Error>> {
    AssertUnwindSafe(work).catch_unwind().map(|outcome| outcome.map_err(|_payload| Error::Panicked))
}
