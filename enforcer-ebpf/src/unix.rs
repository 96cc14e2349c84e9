//! Names of unix sockets, and the hooks that see nothing but the name
//! (`cgroup/connect_unix` and `sendmsg_unix`, Linux 6.7), for kernels on which
//! BPF LSM does not load.

use crate::caller;
use crate::maps::{DROPPED, REFUSALS, UNIX_NAMES};
use crate::refuse::{bump, count_refused};
use crate::task::{offsets, read};
use crate::{ALLOW, DENY};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::event::{Hook, NAME, Reason, RefusalRecord};
use enforcer_common::kernel::CAST_TO_KERNEL;
use enforcer_common::names::UNIX_NAME;

/// Bytes of `sun_family`, which is before the name.
const FAMILY: u32 = 2;

/// What a size is cut to, so that the verifier sees that it fits.
const MASK: u32 = 127;

/// A name, as the table of names has it: NUL padded, all bits count.
#[repr(C)]
pub struct Name {
    key: Key<[u8; UNIX_NAME]>,
    /// Room for as many bytes as [`MASK`] lets through, and for the NUL of a path that fills all.
    beyond: [u8; 20],
    len: u32,
}

impl Name {
    #[inline(always)]
    pub fn new() -> Self {
        let key = Key::new(8 * UNIX_NAME as u32, [0; UNIX_NAME]);
        Self { key, beyond: [0; 20], len: 0 }
    }

    /// Reads the name out of a `sockaddr_un` of `len` bytes. A path ends at its NUL, an abstract
    /// name with the address.
    #[inline(always)]
    pub fn fill(&mut self, address: u64, len: u32) -> Option<()> {
        let from = address.wrapping_add(u64::from(FAMILY));
        let len = len.wrapping_sub(FAMILY);
        if len == 0 || len > UNIX_NAME as u32 {
            return None;
        }
        self.len = len;
        let path = read::<u8>(from, 0)? != 0;
        let size = len + u32::from(path);
        // SAFETY: a live value. Volatile: the compiler knows the bound and would leave the mask out,
        // the verifier does not know it.
        let size = unsafe { core::ptr::read_volatile(&raw const size) } & MASK;
        // SAFETY: the name begins behind the length of its prefix, and has room for `MASK` bytes.
        let to = unsafe { core::ptr::from_mut(self).cast::<u8>().add(size_of::<u32>()) };
        let (to, from) = (to.cast::<c_void>(), from as *const c_void);
        // SAFETY: as above; the helpers check the source.
        let done = unsafe {
            if path {
                bpf_probe_read_kernel_str(to, size, from)
            } else {
                bpf_probe_read_kernel(to, size, from)
            }
        };
        (done >= 0).then_some(())
    }
}

/// Whether the configuration names it.
#[inline(always)]
pub fn allowed(name: &Name) -> bool {
    UNIX_NAMES.get(&name.key).is_some()
}

/// Counts a refused peer and sends it up with its name.
#[inline(always)]
pub fn refuse_peer(hook: Hook, name: &Name) {
    let caller = caller::current();
    count_refused(caller.cgroup, Reason::UnixPeer);
    let Some(mut slot) = REFUSALS.reserve::<RefusalRecord>(0) else {
        if let Some(dropped) = DROPPED.get_ptr_mut(0) {
            bump(dropped);
        }
        return;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: a live slot of the record's size, every byte of which is written.
    unsafe {
        record.write(RefusalRecord {
            boot_ns: caller.boot_ns,
            cgroup: caller.cgroup,
            cookie: 0,
            addr: [0; 16],
            port: 0,
            protocol: 0,
            hook: hook as u32,
            reason: Reason::UnixPeer as u32,
            tgid: caller.tgid,
            uid: caller.uid,
            detail: 0,
            name_len: name.len,
            comm: caller.comm,
            name: [0; NAME],
        });
        (&raw mut (*record).name).cast::<[u8; UNIX_NAME]>().write_unaligned(name.key.data);
    }
    slot.submit(0);
}

// The library knows neither hook: these two are in connect4's section, and the loader gives them
// their attach types and the number of the kernel's function.

#[cgroup_sock_addr(connect4)]
pub fn connect_unix(ctx: SockAddrContext) -> i32 {
    by_name(Hook::UnixConnect, &ctx)
}

#[cgroup_sock_addr(connect4)]
pub fn sendmsg_unix(ctx: SockAddrContext) -> i32 {
    by_name(Hook::UnixSend, &ctx)
}

#[inline(always)]
fn by_name(hook: Hook, ctx: &SockAddrContext) -> i32 {
    let mut name = Name::new();
    if asked_name(&mut name, ctx).is_some() && allowed(&name) {
        return ALLOW;
    }
    refuse_peer(hook, &name);
    DENY
}

/// The name that the caller asks for.
#[inline(always)]
fn asked_name(name: &mut Name, ctx: &SockAddrContext) -> Option<()> {
    let o = offsets()?;
    // SAFETY: a call by number, as all helpers are; the loader replaces it by the kernel's
    // function, which takes the context and returns its inner form.
    let cast: unsafe extern "C" fn(*mut c_void) -> u64 =
        unsafe { core::mem::transmute(CAST_TO_KERNEL as usize) };
    // SAFETY: as above, with the unmodified context.
    let inner = unsafe { cast(ctx.as_ptr()) };
    let address: u64 = read(inner, o.sock_addr_name)?;
    let len: u32 = read(inner, o.sock_addr_len)?;
    name.fill(address, len)
}
