//! Runs work to its end, also when its caller stops waiting.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Work that runs in its caller's task. If the caller is dropped first, a new task takes over. (Spawning a task
/// from the beginning would cost each write two more wake-ups.)
pub(super) struct RunToEnd<T: Send + 'static> {
    /// None once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tasks: TaskTracker,
    /// While it is held, `tasks` counts the work.
    _counted: TaskTrackerToken,
}

impl<T: Send + 'static> RunToEnd<T> {
    /// Work that is counted among those tasks.
    pub(super) fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), tasks: tasks.clone(), _counted: tasks.token() }
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        // without a runtime the process is ending, and the next start takes up the intents that remain
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            drop(self.tasks.spawn_on(work, &runtime));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_ends_when_nobody_waits_for_it() {
        let tasks = TaskTracker::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, end) = oneshot::channel();
        let mut work = RunToEnd::new(&tasks, async move {
            drop(gone.await);
            assert_eq!(done.send(()), Ok(()));
        });
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        assert_eq!(tasks.len(), 1);
        drop(go);
        assert_eq!(end.await, Ok(()));
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn work_that_is_waited_for_is_counted_until_it_ends() {
        let tasks = TaskTracker::new();
        let work = RunToEnd::new(&tasks, async { 1 });
        assert_eq!(tasks.len(), 1);
        assert_eq!(work.await, 1);
        assert!(tasks.is_empty());
    }
}
