//! The service manager: it is told how the service stands, and keeps the sockets while no
//! daemon runs (`sd_notify(3)`, `FileDescriptorStoreMax=` in `systemd.service(5)`).
#![expect(unsafe_code, reason = "descriptors that another process opened are numbers until owned")]

use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};

/// Tells a state; without a service manager, and on any error, nothing happens: it is advice.
pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// The descriptors that the service manager kept for this process, by name.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<String, OwnedFd>);

impl Kept {
    /// What was handed over at the start; empty when called again, or without a manager.
    pub(super) fn take() -> Self {
        static ONCE: std::sync::Once = std::sync::Once::new();
        let mut kept = BTreeMap::new();
        ONCE.call_once(|| match sd_notify::listen_fds_with_names() {
            Ok(fds) => kept.extend(fds.filter_map(|(fd, name)| {
                // A number that is not open would end the process when it is closed.
                nix::fcntl::fcntl(borrowed(fd), nix::fcntl::F_GETFD).ok()?;
                // SAFETY: the manager opened it for this process alone, and `ONCE` lets only
                // this call own it.
                Some((name, unsafe { OwnedFd::from_raw_fd(fd) }))
            })),
            Err(error) => tracing::warn!(%error, "the service manager's sockets cannot be used"),
        });
        Self(kept)
    }

    /// The descriptor of this name, once.
    pub(super) fn remove(&mut self, name: &str) -> Option<OwnedFd> {
        self.0.remove(name)
    }
}

fn borrowed(fd: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: only asked whether it is open; it lives as long as the process or not at all.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

/// Leaves a descriptor with the service manager for the next process, under this name.
pub(super) fn keep(name: &str, fd: &impl AsFd) {
    let states = [NotifyState::FdStore, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify_with_fds(&states, &[fd.as_fd()]) {
        tracing::debug!(%error, name, "the service manager could not be given a socket");
    }
}

/// Tells the service manager that what it keeps under this name is of no use.
pub(super) fn forget(name: &str) {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, name, "the service manager could not be told");
    }
}
