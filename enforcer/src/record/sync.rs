//! Brings what was written to the disk, from beside the writer: a slow disk must not hold up
//! what waits for the log only.

use super::Counters;
use super::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What was written and not synced is synced after this long; the promise is 100 ms.
const SYNC_WITHIN: Duration = Duration::from_millis(50);

/// The writer's handle: says that there is something to sync. Dropped, it ends the thread.
pub(super) struct Sync {
    pending: Arc<AtomicBool>,
    wake: Sender<()>,
}

impl Sync {
    /// Starts the thread that syncs `store`.
    pub(super) fn start(
        store: Arc<Store>,
        counters: Arc<Counters>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let pending = Arc::new(AtomicBool::new(false));
        let (wake, woken) = channel();
        let handle = Self { pending: Arc::clone(&pending), wake };
        let thread = std::thread::Builder::new().name("record-sync".to_owned());
        let thread = thread.spawn(move || run(&store, &counters, &pending, &woken))?;
        Ok((handle, thread))
    }

    /// Something was written that is not synced.
    pub(super) fn written(&self) {
        if !self.pending.swap(true, SeqCst) {
            // The thread ends after this handle only.
            let _ = self.wake.send(());
        }
    }
}

fn run(store: &Store, counters: &Counters, pending: &AtomicBool, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // What ends the writer syncs by itself, with the last signed head.
        if woken.recv_timeout(SYNC_WITHIN) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        // Before the sync: what is written while it runs asks for the next one.
        pending.store(false, SeqCst);
        if counters.failure().is_some() {
            continue;
        }
        match store.db().flush_wal(true).map_err(|error| store.error("sync", &error)) {
            Ok(()) => counters.synced(),
            Err(error) => counters.fail(&error),
        }
    }
}
