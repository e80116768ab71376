//! The way to one volume: requests and answers, without what they say of its health.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::time::{Instant, timeout};

use super::download::{check_rate, drain, next_piece};
use super::feed::Feed;
use super::listing::{self, Listed};
use super::network::Network;
use super::outcome::{Outcome, Timeouts, VolumeError, late};
use super::pool::{Answer, Pool};

/// Connections to one volume, and how long it is waited for.
pub(super) struct Link {
    address: String,
    pool: Arc<Pool>,
    pub(super) timeouts: Timeouts,
}

impl Link {
    pub(super) fn new(network: Arc<dyn Network>, address: &str, timeouts: Timeouts) -> Self {
        let pool = Arc::new(Pool::new(network, timeouts.request, address));
        Self { address: address.to_owned(), pool, timeouts }
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// As [`Pool::request`].
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: Feed,
    ) -> Outcome<Answer> {
        self.pool.request(method, path, header, body).await
    }

    /// Closes the connections that nobody uses.
    pub(super) fn close_idle(&self) {
        self.pool.clear();
    }

    /// Sends a request without a body, whose head is answered within the deadline; the answer's body is
    /// drained where it isn't wanted, so that the connection can be used again.
    pub(super) async fn exchange(
        &self,
        deadline: Duration,
        method: Method,
        path: &str,
        range: Option<&str>,
    ) -> Outcome<Answer> {
        let wanted = method == Method::GET;
        let answer = async {
            let range = range.map(|range| ("range", range));
            let mut answer = self.pool.request(method, path, range, Feed::empty()).await?;
            if !wanted || !matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
                drain(&mut answer, self.timeouts.request).await;
            }
            Ok(answer)
        };
        timeout(deadline, answer).await.unwrap_or_else(|_| Err(VolumeError::Unanswered(late(deadline))))
    }

    /// Reads a listing to its end.
    pub(super) async fn read_listing(
        &self,
        answer: &mut Answer,
        mut found: impl FnMut(Listed),
    ) -> Outcome<()> {
        let garbled = |why: &dyn fmt::Display| VolumeError::Unanswered(why.to_string());
        let mut parser = listing::Parser::default();
        let (begun, mut received) = (Instant::now(), 0);
        while let Some(bytes) = next_piece(answer, self.timeouts.stream).await? {
            received += bytes.len() as u64;
            check_rate(begun.elapsed(), received)?;
            parser.read(&bytes, &mut found).map_err(|error| garbled(&error))?;
        }
        parser.end().map_err(|error| garbled(&error))
    }
}
