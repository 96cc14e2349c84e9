//! Safe readers and writers for `bpf_sock_addr`.
//!
//! The verifier rewrites accesses to a context by offset and size, so each is
//! one volatile access of the field's own width, never merged by the compiler.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::event::Reason;
use enforcer_common::matching::{LOOPBACK_MAPPED, LOOPBACK4, LOOPBACK6, Words, is_mapped, mapped};

/// Reads one field of a context.
macro_rules! field {
    ($ptr:expr, $($field:tt)+) => {{
        let ptr = $ptr;
        // SAFETY: the kernel hands a valid context to the program; one aligned access of the
        // field's own width, which the verifier checks.
        unsafe { core::ptr::read_volatile(core::ptr::addr_of!((*ptr).$($field)+)) }
    }};
}

/// Writes one field of a context.
macro_rules! set_field {
    ($ptr:expr, $($field:tt)+) => {
        |value| {
            let ptr = $ptr;
            // SAFETY: as for reading; the verifier refuses fields that a hook may not write.
            unsafe { core::ptr::write_volatile(core::ptr::addr_of_mut!((*ptr).$($field)+), value) }
        }
    };
}
pub(crate) use {field, set_field};

/// Which of a hook's two variants runs: the attach type, never what the caller wrote into its
/// address (an `AF_UNSPEC` send runs the IPv4 hook).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// An address and port that a caller named.
#[derive(Clone, Copy)]
pub struct Endpoint {
    pub addr: Words,
    pub port: u32,
}

/// The socket's kind and protocol.
#[inline(always)]
pub fn kind(ctx: &SockAddrContext) -> (u32, u32) {
    (field!(ctx.sock_addr, type_), field!(ctx.sock_addr, protocol))
}

/// The address of the call.
#[inline(always)]
pub fn endpoint(ctx: &SockAddrContext, family: Family) -> Endpoint {
    let addr = match family {
        Family::V4 => mapped(field!(ctx.sock_addr, user_ip4)),
        Family::V6 => [
            field!(ctx.sock_addr, user_ip6[0]),
            field!(ctx.sock_addr, user_ip6[1]),
            field!(ctx.sock_addr, user_ip6[2]),
            field!(ctx.sock_addr, user_ip6[3]),
        ],
    };
    let port = field!(ctx.sock_addr, user_port) as u16;
    Endpoint { addr, port: u32::from(u16::from_be(port)) }
}

/// Writes an address into the call. An IPv4 hook takes only addresses in mapped form.
#[inline(always)]
pub fn set_endpoint(ctx: &SockAddrContext, family: Family, to: Endpoint) -> Result<(), Reason> {
    match family {
        Family::V4 if !is_mapped(&to.addr) => return Err(Reason::Address),
        Family::V4 => set_field!(ctx.sock_addr, user_ip4)(to.addr[3]),
        Family::V6 => {
            set_field!(ctx.sock_addr, user_ip6[0])(to.addr[0]);
            set_field!(ctx.sock_addr, user_ip6[1])(to.addr[1]);
            set_field!(ctx.sock_addr, user_ip6[2])(to.addr[2]);
            set_field!(ctx.sock_addr, user_ip6[3])(to.addr[3]);
        }
    }
    set_field!(ctx.sock_addr, user_port)(u32::from((to.port as u16).to_be()));
    Ok(())
}

/// Sends the call to a local port, in the family that it is already in: a mapped address stays
/// mapped, so that the socket's own family does not matter.
#[inline(always)]
pub fn redirect(ctx: &SockAddrContext, family: Family, from: &Words, port: u32) {
    let addr = match family {
        Family::V4 => mapped(LOOPBACK4),
        Family::V6 if is_mapped(from) => LOOPBACK_MAPPED,
        Family::V6 => LOOPBACK6,
    };
    // A loopback address always fits its family: there is no error to report.
    let _fits = set_endpoint(ctx, family, Endpoint { addr, port });
}

/// The cookie of the call's socket.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the unmodified context.
    unsafe { aya_ebpf::helpers::bpf_get_socket_cookie(ctx.as_ptr()) }
}
