//! What is kept of a redirected call, and its verdict.

use crate::caller::{self, Caller};
use crate::ctx::{self, Endpoint, Family};
use crate::maps::SOCKETS;
use crate::refuse::{Refused, refuse};
use crate::{ALLOW, DENY, share};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::flow::{FlowEntry, FlowKey};
use enforcer_common::matching::{TCP, UDP, bytes};
use enforcer_common::settings::Settings;
use enforcer_common::socket::{SocketEntry, UNKEYED};

/// An entry is there already (include/uapi/asm-generic/errno-base.h).
const EEXIST: i32 = -17;

/// Remembers, under the socket's cookie, who calls and where to.
///
/// A datagram socket that is already known keeps the place that its flow has in the table of
/// flows; a stream socket starts afresh.
#[inline(always)]
pub fn remember(
    ctx: &SockAddrContext,
    settings: &Settings,
    caller: &Caller,
    to: Endpoint,
    protocol: u32,
) -> Result<(), Reason> {
    let cookie = ctx::cookie(ctx);
    let protocol = if protocol == UDP { UDP } else { TCP };
    // A stream connects once, as a rule: it is entered first, and looked up when it is there.
    let known = if protocol == UDP { SOCKETS.get_ptr_mut(cookie) } else { None };
    let agent = match known {
        // SAFETY: a live map value; this field is written once.
        Some(known) => unsafe { (*known).agent },
        None => share::take(caller.cgroup, settings)?,
    };
    // One value for both uses: a program has 512 bytes of stack.
    let entry = SocketEntry {
        flow: FlowEntry {
            cookie,
            cgroup: caller.cgroup,
            boot_ns: caller.boot_ns,
            orig_addr: bytes(&to.addr),
            orig_port: to.port,
            tgid: caller.tgid,
            tid: caller.tid,
            uid: caller.uid,
            gid: caller.gid,
            image: 0,
            comm: caller.comm,
        },
        agent,
        key: FlowKey { netns: settings.netns, addr: [0; 16], port: 0, protocol },
        protocol,
        state: UNKEYED,
    };
    if let Some(known) = known {
        // SAFETY: a live map value. Only this socket's own calls write it; a torn read mixes two
        // destinations of one socket, and the resolver treats all destinations alike.
        unsafe { (*known).flow = entry.flow };
        return Ok(());
    }
    #[expect(clippy::needless_borrows_for_generic_args, reason = "a copy would take stack")]
    let Err(error) = SOCKETS.insert(cookie, &entry, u64::from(BPF_NOEXIST)) else { return Ok(()) };
    share::give_back(agent);
    // One that connects again keeps the place that it has.
    let known = SOCKETS.get_ptr_mut(cookie).filter(|_| error == EEXIST).ok_or(Reason::Full)?;
    // SAFETY: a live map value; a stream that is not connected is used by its own calls alone.
    unsafe {
        (*known).flow = entry.flow;
        (*known).key = entry.key;
        (*known).state = UNKEYED;
    }
    Ok(())
}

/// Turns a hook's result into its verdict; a refusal is counted and sent up.
#[inline(always)]
pub fn verdict(
    ctx: &SockAddrContext,
    family: Family,
    hook: Hook,
    result: Result<(), Reason>,
) -> i32 {
    let Err(reason) = result else { return ALLOW };
    let asked = ctx::endpoint(ctx, family);
    let (kind, protocol) = ctx::kind(ctx);
    refuse(
        &caller::current(),
        &Refused {
            hook,
            reason,
            cookie: ctx::cookie(ctx),
            addr: asked.addr,
            port: asked.port,
            protocol,
            detail: kind,
        },
    );
    DENY
}
