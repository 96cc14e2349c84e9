//! An operation that is under way beside the connection that asked for it.

use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// An operation that is driven by whoever waits for it, in the same task, and that goes on in a
/// task of its own when nobody does any more: a client that goes away must not take the record of
/// what it started with it. Most operations end while they are waited for, and a task for each
/// would cost a wake-up and a look from every idle thread. By default it is one that goes on by
/// itself already.
#[derive(Default)]
pub struct Underway(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl std::fmt::Debug for Underway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Underway").field(&self.0.is_some()).finish()
    }
}

impl Underway {
    /// Not begun yet; `operations` counts it until it ends. A panic in it ends it, and nothing
    /// else.
    pub fn new(
        operations: &TaskTracker,
        operation: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let caught = AssertUnwindSafe(operation).catch_unwind().map(drop);
        Self(Some(Box::pin(operations.track_future(caught))))
    }

    /// Waits for `what`, and drives the operation meanwhile.
    pub async fn until<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        std::future::poll_fn(|context| {
            if let Some(operation) = &mut self.0
                && operation.as_mut().poll(context).is_ready()
            {
                self.0 = None;
            }
            what.as_mut().poll(context)
        })
        .await
    }

    /// Lets it go on in a task of its own.
    pub fn release(&mut self) {
        if let Some(operation) = self.0.take()
            // Without a runtime there is nothing that could go on.
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(operation);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::{mpsc, oneshot};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_is_driven_by_who_waits() {
        let tracker = TaskTracker::new();
        let (say, mut heard) = mpsc::channel(1);
        let (go, gone) = oneshot::channel::<()>();
        let mut underway = Underway::new(&tracker, async move {
            say.send(tokio::task::try_id()).await.unwrap();
            let _ = gone.await;
        });
        let here = tokio::task::try_id();
        assert_eq!(underway.until(heard.recv()).await, Some(here), "in the same task");
        go.send(()).unwrap();
        assert_eq!(underway.until(heard.recv()).await, None, "it ended");
        tracker.close();
        tokio::time::timeout(LONG, tracker.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn it_ends_though_nobody_waits_any_more() {
        let tracker = TaskTracker::new();
        let (say, mut heard) = mpsc::channel(1);
        let (go, gone) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let mut underway = Underway::new(&tracker, async move {
            say.send(()).await.unwrap();
            let _ = gone.await;
            end.send(()).unwrap();
        });
        underway.until(heard.recv()).await.unwrap();
        drop(underway);
        tracker.close();
        assert!(!tracker.is_empty(), "a flow waits for it");
        go.send(()).unwrap();
        tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
        tokio::time::timeout(LONG, tracker.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_was_never_waited_for_runs() {
        let tracker = TaskTracker::new();
        let (end, ended) = oneshot::channel();
        drop(Underway::new(&tracker, async move { end.send(()).unwrap() }));
        tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_panic_stays_in_it() {
        let tracker = TaskTracker::new();
        let (say, mut heard) = mpsc::channel::<()>(1);
        let mut underway = Underway::new(&tracker, async move {
            let _say = say;
            panic!("on purpose");
        });
        assert_eq!(underway.until(heard.recv()).await, None);
        drop(underway);
        tracker.close();
        tokio::time::timeout(LONG, tracker.wait()).await.unwrap();
    }
}
