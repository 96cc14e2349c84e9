//! The line of what waits to be written, and who writes it.
//!
//! Whoever appends writes what stands in the line, its own and what others put there, unless
//! somebody is at it already: a write to the log takes less time than waking a thread that does
//! it, and a batch grows by itself while one is at work. What may take long (a sync to the disk,
//! much data, removing old flows) is left to the writer's thread, with all that stands behind it.

use super::RecordError;
use super::writer::{Append, Retire, Writer};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bounds of one batch of the thread's.
const BATCH_EVENTS: usize = 4_096;
const BATCH_BYTES: usize = 8 << 20;
/// Bound of a batch that is written in passing.
const QUICK_BYTES: usize = 128 << 10;
/// Batches that one appender writes for others before it lets the thread go on.
const ROUNDS: usize = 4;

/// What the writer is told.
pub(super) enum Message {
    Append(Append),
    Retire(Retire),
    Shutdown(oneshot::Sender<()>),
}

impl Message {
    fn is_quick(&self) -> bool {
        matches!(self, Self::Append(append) if !append.sync && append.bytes <= QUICK_BYTES)
    }
}

/// What waits.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// The thread is to look.
    woken: bool,
    /// The writer is gone.
    closed: bool,
}

/// The line, and the writer for whoever takes it.
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    writer: Mutex<Option<Writer>>,
}

/// What was taken out of the line.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    retired: Vec<Retire>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Line {
    pub(super) fn new(writer: Writer) -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), writer: Mutex::new(Some(writer)) }
    }

    /// Puts something at its end. An append that is quick waits for [`Line::write`].
    pub(super) fn push(&self, message: Message) -> Result<(), RecordError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(RecordError::Closed);
        }
        if !message.is_quick() {
            waiting.woken = true;
            self.wake.notify_one();
        }
        waiting.messages.push_back(message);
        Ok(())
    }

    /// Has the thread write what stands in the line.
    pub(super) fn wake(&self) {
        self.waiting().woken = true;
        self.wake.notify_one();
    }

    /// Writes what stands in the line, up to what is not quick. Does nothing when somebody is at
    /// it: whoever that is looks again before it goes.
    pub(super) fn write(&self) {
        for _ in 0..ROUNDS {
            let mut held = match self.writer.try_lock() {
                Ok(held) => held,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => return self.close(),
            };
            let Some(writer) = held.as_mut() else {
                return;
            };
            let batch = self.take(QUICK_BYTES, Message::is_quick);
            if batch.appends.is_empty() {
                return;
            }
            writer.commit(batch.appends, &[], true);
            drop(held);
            // What came meanwhile found the writer taken.
            if !self.waiting().messages.front().is_some_and(Message::is_quick) {
                return;
            }
        }
        self.wake();
    }

    /// The thread's work: what is not quick, and what is due by time. Runs until told to shut
    /// down; gives who waits for that. `None` when a writer broke off in the middle: what it left
    /// behind is not known, and nothing is written any more.
    pub(super) fn run(&self) -> Option<oneshot::Sender<()>> {
        let done = self.work();
        self.close();
        done
    }

    fn work(&self) -> Option<oneshot::Sender<()>> {
        loop {
            let rest = self.writer.lock().ok()?.as_ref()?.rest();
            self.rest(rest);
            let mut held = self.writer.lock().ok()?;
            let writer = held.as_mut()?;
            loop {
                let batch = self.take(BATCH_BYTES, |_| true);
                if batch.appends.is_empty() && batch.retired.is_empty() && batch.shutdown.is_none()
                {
                    break;
                }
                writer.commit(batch.appends, &batch.retired, false);
                if let Some(done) = batch.shutdown {
                    writer.close();
                    // The store is closed with it.
                    *held = None;
                    return Some(done);
                }
            }
            writer.tick();
        }
    }

    /// Rests until woken, for so long at most, and not while somebody found the writer taken.
    fn rest(&self, limit: Duration) {
        let waiting = self.waiting();
        let idle = |waiting: &mut Waiting| !waiting.woken && waiting.messages.is_empty();
        let rested = self.wake.wait_timeout_while(waiting, limit, idle);
        rested.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }

    /// Takes what stands first, while it is `wanted` and the batch is not full.
    fn take(&self, bytes: usize, wanted: impl Fn(&Message) -> bool) -> Batch {
        let mut waiting = self.waiting();
        let mut batch = Batch::default();
        let (mut taken, mut events) = (0, 0);
        while taken < bytes
            && events + batch.retired.len() < BATCH_EVENTS
            && batch.shutdown.is_none()
            && waiting.messages.front().is_some_and(&wanted)
        {
            match waiting.messages.pop_front() {
                Some(Message::Append(append)) => {
                    taken += append.bytes;
                    events += append.events.len();
                    batch.appends.push(append);
                }
                Some(Message::Retire(retire)) => batch.retired.push(retire),
                Some(Message::Shutdown(done)) => batch.shutdown = Some(done),
                None => break,
            }
        }
        batch
    }

    /// Takes nothing more. Whoever still waits hears that nobody answers.
    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.messages.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
