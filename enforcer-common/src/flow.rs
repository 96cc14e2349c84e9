//! A captured flow: how the kernel half tells the proxy where a connection was going.

/// Identifies an accepted connection (or a datagram to the resolver) by the
/// client's end of it.
///
/// Addresses are IPv6; IPv4 is written in its mapped form (`::ffff:a.b.c.d`), so
/// that one flow has one key whatever family the caller used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Cookie of the client's network namespace (`bpf_get_netns_cookie`).
    pub netns: u64,
    /// Source address, network order, IPv4 mapped.
    pub addr: [u8; 16],
    /// Source port, host order.
    pub port: u32,
    /// IPPROTO_TCP (6) or IPPROTO_UDP (17).
    pub protocol: u32,
}

/// What the kernel half knows of a captured flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEntry {
    /// The socket's cookie (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// Id of the cgroup (v2) of the calling task.
    pub cgroup: u64,
    /// `CLOCK_BOOTTIME` at the call, nanoseconds (`bpf_ktime_get_boot_ns`).
    pub boot_ns: u64,
    /// Original destination, network order, IPv4 mapped.
    pub orig_addr: [u8; 16],
    /// Original destination port, host order.
    pub orig_port: u32,
    /// Thread group id of the caller (the process id people know).
    pub tgid: u32,
    /// Thread id of the caller.
    pub tid: u32,
    /// Real user id of the caller.
    pub uid: u32,
    /// Real group id of the caller.
    pub gid: u32,
    /// What the caller ran ([`image`]). Only of streams; 0 when unknown.
    pub image: u32,
    /// Command name of the caller, NUL padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<FlowKey>() == 32);
const _: () = assert!(size_of::<FlowEntry>() == 80);

/// Magic numbers (include/uapi/linux/magic.h) of file systems whose inodes have another number in
/// the kernel than `stat` tells: overlayfs, FUSE, NFS. There the inode counts as 0.
pub const OWN_NUMBERS: [u64; 3] = [0x794c_7630, 0x6573_5546, 0x6969];

/// Stands for what a process runs: its executable's inode number, and the address where its stack
/// began (`mm_struct.start_stack`, field 28 of `/proc/PID/stat`), another after each exec. Never 0.
pub const fn image(inode: u64, stack: u64) -> u32 {
    // Finalizer of MurmurHash3 over both, so that neither can make up for the other.
    let mixed =
        (inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stack).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32 | 1
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya::Pod can only be implemented beside the types")]
    // SAFETY: repr(C), integers and byte arrays only, no implicit padding (sizes asserted above).
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowEntry {}
}
