//! The pool over streams in memory, which count how many of them are open.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::lack::Lack;
use super::super::network::Stream;
use super::super::outcome::Timeouts;
use super::super::volumes::{Addresses, Volumes};
use super::*;

const LIMIT: Duration = Duration::from_secs(1);

/// A network of volumes that answer each request with 204.
#[derive(Default)]
struct Memory {
    open: Arc<AtomicUsize>,
    /// So many further connections find no descriptor.
    lacking: AtomicUsize,
}

impl Memory {
    fn lacking(times: usize) -> Arc<Self> {
        Arc::new(Self { lacking: times.into(), ..Self::default() })
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Network for Memory {
    fn connect<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<Box<dyn Stream>, ConnectError>> {
        let take = |left: usize| left.checked_sub(1);
        if self.lacking.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return async { Err(ConnectError::Lacking(Lack::Descriptors)) }.boxed();
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        let stream = Answering { said: Vec::new(), open: Arc::clone(&self.open) };
        async { Ok(Box::new(stream) as Box<dyn Stream>) }.boxed()
    }
}

struct Answering {
    said: Vec<u8>,
    open: Arc<AtomicUsize>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncWrite for Answering {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said.extend(b"HTTP/1.1 204 No Content\r\n\r\n");
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Answering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_read_ready(context))?;
        into.put_slice(&std::mem::take(&mut self.said));
        Poll::Ready(Ok(()))
    }
}

impl Stream for Answering {
    fn poll_read_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.said.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn try_read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

fn pool(network: &Arc<Memory>) -> Arc<Pool> {
    Arc::new(Pool::new(Arc::<Memory>::clone(network), LIMIT, "volume"))
}

/// An answer whose end wasn't read yet, so that its connection is in use.
async fn ask(pool: &Arc<Pool>) -> Outcome<Answer> {
    pool.request(Method::DELETE, "/path", None, Feed::empty()).await
}

async fn end(mut answer: Answer) {
    assert!(answer.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn each_connection_is_closed_when_its_own_time_is_over() {
    let network = Memory::lacking(0);
    let pool = pool(&network);
    let (first, second) = (ask(&pool).await.unwrap(), ask(&pool).await.unwrap());
    end(first).await;
    sleep(IDLE / 2).await;
    end(second).await;
    assert_eq!(network.open(), 2);
    sleep(IDLE / 2 + Duration::from_millis(10)).await;
    assert_eq!(network.open(), 1);
    sleep(IDLE / 2).await;
    assert_eq!(network.open(), 0);
    // the next one is watched as well
    end(ask(&pool).await.unwrap()).await;
    sleep(IDLE + Duration::from_millis(10)).await;
    assert_eq!(network.open(), 0);
}

async fn burst(pool: &Arc<Pool>, size: usize) {
    let mut answers = Vec::new();
    for _ in 0..size {
        answers.push(ask(pool).await.unwrap());
    }
    for answer in answers {
        end(answer).await;
    }
}

#[tokio::test]
async fn a_burst_on_several_runtimes_leaves_a_bounded_number_of_connections() {
    let network = Memory::lacking(0);
    let pool = pool(&network);
    burst(&pool, MOST_IDLE + 10).await;
    assert_eq!(network.open(), MOST_IDLE);
    let shared = Arc::clone(&pool);
    let elsewhere = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(burst(&shared, MOST_IDLE));
    });
    elsewhere.join().unwrap();
    assert_eq!(network.open(), MOST_IDLE);
    // the newest stay, so the other runtime has them all
    assert!(pool.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_descriptor_for_a_while() {
    let network = Memory::lacking(3);
    end(ask(&pool(&network)).await.unwrap()).await;
    let lasting = Memory::lacking(usize::MAX);
    let begun = Instant::now();
    let refused = ask(&pool(&lasting)).await.map(drop);
    assert!(matches!(refused, Err(VolumeError::Lacking(Lack::Descriptors))), "{refused:?}");
    assert!(begun.elapsed() < LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_descriptors_is_no_failure_of_the_volume() {
    let network = Memory::lacking(usize::MAX);
    let timeouts = Timeouts { request: LIMIT, stream: LIMIT };
    let volumes = Volumes::over(Arc::<Memory>::clone(&network), Addresses::default(), timeouts);
    let volume = volumes.named("volume");
    for _ in 0..5 {
        assert!(matches!(volume.head("/path").await, Err(VolumeError::Lacking(_))));
        assert!(matches!(volume.delete("/path").await, Err(VolumeError::Lacking(_))));
        let put = volume.put("/path", Feed::whole(Bytes::from_static(b"value")), 0);
        assert!(matches!(put.await, Err(VolumeError::Lacking(_))));
    }
    assert!(volume.is_good() && !volume.is_down());
    network.lacking.store(0, Ordering::SeqCst);
    volume.delete("/path").await.unwrap();
}
