//! Records and pure matching that the kernel half and the user half share.
//!
//! Everything here is `no_std`, `repr(C)`, without implicit padding and with its
//! size asserted, so that both halves read the same bytes.
#![no_std]

pub mod event;
pub mod flow;
pub mod names;
