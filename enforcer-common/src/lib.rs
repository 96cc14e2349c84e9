//! Records and pure matching that the kernel half and the user half share.
//!
//! Everything here is `no_std`, `repr(C)`, without implicit padding and with its
//! size asserted, so that both halves read the same bytes. Whatever the kernel
//! half decides from plain numbers is decided by a function in [`matching`],
//! where it is tested on the host.
#![no_std]

pub mod counters;
pub mod event;
pub mod flow;
pub mod kernel;
pub mod matching;
pub mod names;
pub mod settings;
pub mod socket;

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya::Pod can only be implemented beside the types")]
    // SAFETY: repr(C), integers only, no implicit padding (sizes asserted beside the types).
    unsafe impl aya::Pod for super::counters::Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::kernel::Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::settings::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::socket::SocketEntry {}
}
