//! Notices a connection on which nothing moves, or a request head that never ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The least and most that a look at an idle connection waits.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);

/// When bytes last moved on a connection, and what they were for.
#[derive(Debug)]
pub struct Activity {
    last: AtomicU64,
    /// When the first byte of a request head came that is not whole yet; 0: none.
    head: AtomicU64,
    /// Whether what is read between operations is a request head.
    heads: AtomicBool,
    running: AtomicUsize,
    held: AtomicUsize,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(now()),
            head: AtomicU64::new(0),
            heads: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }
}

impl Activity {
    /// A request's head is whole; until the guard goes its operation runs.
    pub fn operation(self: &Arc<Self>) -> Running {
        self.head.store(0, Relaxed);
        self.running.fetch_add(1, Relaxed);
        Running(Arc::clone(self))
    }

    /// While the guard lives an operation waits for people, and silence is no idleness.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.held.fetch_add(1, Relaxed);
        Held(Arc::clone(self))
    }

    /// Ends when nothing moved for `idle`, or a request head took longer than `head`; says which.
    pub async fn expired(&self, idle: Duration, head: Duration) -> &'static str {
        loop {
            let now = now();
            let silent = Duration::from_millis(now.saturating_sub(self.last.load(Relaxed)));
            let held = self.held.load(Relaxed) > 0;
            if silent >= idle && !held {
                return "idle";
            }
            let begun = self.head.load(Relaxed);
            let reading = match begun {
                0 => Duration::ZERO,
                begun => Duration::from_millis(now.saturating_sub(begun)),
            };
            if reading >= head {
                return "request-head-timeout";
            }
            let wait = (idle.saturating_sub(silent)).min(head.saturating_sub(reading));
            tokio::time::sleep(wait.clamp(SHORTEST, LONGEST)).await;
        }
    }

    fn moved(&self) {
        self.last.store(now(), Relaxed);
    }

    fn read(&self) {
        let now = now();
        self.last.store(now, Relaxed);
        let between = self.heads.load(Relaxed) && self.running.load(Relaxed) == 0;
        if between && self.head.load(Relaxed) == 0 {
            self.head.store(now, Relaxed);
        }
    }

    /// From now on, what is read while no operation runs is a request head (HTTP/1), or is not.
    pub fn heads(&self, heads: bool) {
        self.heads.store(heads, Relaxed);
        self.head.store(if heads { now() } else { 0 }, Relaxed);
    }
}

/// Milliseconds since the first call, never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// An operation runs.
#[derive(Debug)]
pub struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// An operation is held.
#[derive(Debug)]
pub struct Held(Arc<Activity>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
        self.0.moved();
    }
}

/// A stream whose bytes are noticed.
#[derive(Debug)]
pub struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    /// Notices the bytes of `io`.
    pub fn new(io: T, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.activity.moved();
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        self.activity.moved();
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silence_expires_unless_people_are_waited_for() {
        let activity = Arc::new(Activity::default());
        let held = activity.hold();
        let running = activity.operation();
        let waiting = tokio::time::timeout(IDLE * 3, activity.expired(IDLE, HEAD)).await;
        assert!(waiting.is_err());
        drop((held, running));
        assert_eq!(activity.expired(IDLE, HEAD).await, "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_expires_though_bytes_trickle() {
        let activity = Arc::new(Activity::default());
        activity.heads(true);
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Watched::new(server, Arc::clone(&activity));
        let trickle = async {
            loop {
                client.write_all(b"a").await.unwrap();
                server.read_u8().await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            code = activity.expired(IDLE, HEAD) => assert_eq!(code, "request-head-timeout"),
            () = trickle => {}
        }
    }
}
