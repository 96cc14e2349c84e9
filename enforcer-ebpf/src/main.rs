//! The kernel half: one file per hook. Every path that is not a clear yes
//! refuses; what each number means is decided in `enforcer_common::matching`.
//!
//! Needs Linux 6.1: task and cookie helpers in every hook used here. No CO-RE
//! and no kfuncs: rustc emits neither.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(unsafe_code, reason = "BPF contexts and helpers are raw pointers by nature")]
#![expect(
    internal_features,
    reason = "AtomicU64 has no fetch_add on this target; the intrinsic becomes BPF's own atomic add"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a binary: the macros make each program public for its section"
)]

mod bind;
mod caller;
mod connect;
mod ctx;
mod egress;
mod gate;
mod getpeername;
mod ingress;
mod lsm;
mod maps;
mod packet;
mod recvmsg;
mod refuse;
mod remember;
mod sendmsg;
mod setsockopt;
mod share;
mod sock_create;
mod sock_ops;
mod sock_release;
mod task;
mod unix;

/// Verdict of a hook: the call or packet goes on.
const ALLOW: i32 = 1;
/// Verdict of a hook: EPERM for a call, dropped for a packet.
const DENY: i32 = 0;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Helpers marked GPL-only (bpf_ktime_get_ns among them) ask for a compatible licence string.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
