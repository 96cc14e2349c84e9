//! Records that the kernel half sends up: refusals.
//!
//! Codes are stable within one [`crate::names::ABI_VERSION`]; a code that the
//! user half does not know is still a refusal.

/// Why the kernel half refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// The daemon has never written its settings.
    NotReady = 0,
    /// The daemon's heartbeat is older than the limit: it is dead or stuck.
    Stale = 1,
    /// The socket lives in another network namespace than the proxy.
    Namespace = 2,
    /// Neither TCP nor a DNS query over UDP.
    Protocol = 3,
    /// A socket type or protocol that is not allowed to exist.
    SocketType = 4,
    /// The table of captured flows is full.
    Full = 5,
    /// A socket option that dodges a redirect or makes the kernel send.
    SocketOption = 6,
    /// A local address or port that governed processes may not bind.
    Bind = 7,
    /// An outgoing packet that is not for the proxy, or not on the loopback interface.
    PacketOut = 8,
    /// An incoming packet that is not from the proxy, or not on the loopback interface.
    PacketIn = 9,
    /// The source port still belongs to a flow that the proxy has not taken, or to another socket.
    PortBusy = 10,
    /// An address form that a rewrite cannot carry.
    Address = 11,
    /// A socket family that is not allowed to exist, or a change by netlink.
    Family = 12,
    /// A change to a cgroup outside of the agent's own.
    Cgroup = 13,
    /// A call of `bpf(2)`.
    Bpf = 14,
    /// A look into, or a grip on, a process outside of the agent.
    Process = 15,
    /// io_uring.
    Ring = 16,
    /// A socket handed over from outside of the agent.
    Received = 17,
    /// A unix socket outside of the agent that the configuration does not name.
    UnixPeer = 18,
    /// The agent holds its share of the table of captured flows.
    Share = 19,
}

/// Slots that [`crate::counters::Counters`] keeps for reasons.
pub const REASONS: usize = 24;

/// Every reason, in the order of its code.
pub const ALL_REASONS: [Reason; 20] = [
    Reason::NotReady,
    Reason::Stale,
    Reason::Namespace,
    Reason::Protocol,
    Reason::SocketType,
    Reason::Full,
    Reason::SocketOption,
    Reason::Bind,
    Reason::PacketOut,
    Reason::PacketIn,
    Reason::PortBusy,
    Reason::Address,
    Reason::Family,
    Reason::Cgroup,
    Reason::Bpf,
    Reason::Process,
    Reason::Ring,
    Reason::Received,
    Reason::UnixPeer,
    Reason::Share,
];

const _: () = assert!(ALL_REASONS.len() <= REASONS);

impl Reason {
    /// The reason with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        ALL_REASONS.get(code as usize).copied()
    }

    /// Name in metrics and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not-ready",
            Self::Stale => "stale-heartbeat",
            Self::Namespace => "other-network-namespace",
            Self::Protocol => "protocol",
            Self::SocketType => "socket-type",
            Self::Full => "flow-table-full",
            Self::SocketOption => "socket-option",
            Self::Bind => "bind",
            Self::PacketOut => "packet-out",
            Self::PacketIn => "packet-in",
            Self::PortBusy => "port-busy",
            Self::Address => "address",
            Self::Family => "socket-family",
            Self::Cgroup => "cgroup",
            Self::Bpf => "bpf",
            Self::Process => "other-process",
            Self::Ring => "io-uring",
            Self::Received => "received-socket",
            Self::UnixPeer => "unix-peer",
            Self::Share => "agent-flows-full",
        }
    }
}

/// The hook that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    /// `cgroup/connect4`.
    Connect4 = 0,
    /// `cgroup/connect6`.
    Connect6 = 1,
    /// `cgroup/sendmsg4`.
    Sendmsg4 = 2,
    /// `cgroup/sendmsg6`.
    Sendmsg6 = 3,
    /// `cgroup/bind4` and `cgroup/post_bind4`.
    Bind4 = 4,
    /// `cgroup/bind6` and `cgroup/post_bind6`.
    Bind6 = 5,
    /// `cgroup/sock_create`.
    SockCreate = 6,
    /// `cgroup/setsockopt`.
    Setsockopt = 7,
    /// `sockops`.
    SockOps = 8,
    /// `cgroup_skb/egress`.
    Egress = 9,
    /// `cgroup_skb/ingress`.
    Ingress = 10,
    /// BPF LSM: `socket_create`.
    SocketCreate = 11,
    /// BPF LSM: `file_open`.
    FileOpen = 12,
    /// BPF LSM: `file_receive`.
    FileReceive = 13,
    /// BPF LSM: `task_alloc`.
    TaskAlloc = 14,
    /// BPF LSM: `bpf`.
    Bpf = 15,
    /// BPF LSM: `ptrace_access_check`.
    Ptrace = 16,
    /// BPF LSM: `uring_allowed` or `uring_sqpoll`.
    Uring = 17,
    /// BPF LSM: `netlink_send`.
    NetlinkSend = 18,
    /// BPF LSM `unix_stream_connect`, or `cgroup/connect_unix`.
    UnixConnect = 19,
    /// BPF LSM `unix_may_send`, or `cgroup/sendmsg_unix`.
    UnixSend = 20,
}

const HOOKS: [(Hook, &str); 21] = [
    (Hook::Connect4, "connect4"),
    (Hook::Connect6, "connect6"),
    (Hook::Sendmsg4, "sendmsg4"),
    (Hook::Sendmsg6, "sendmsg6"),
    (Hook::Bind4, "bind4"),
    (Hook::Bind6, "bind6"),
    (Hook::SockCreate, "sock_create"),
    (Hook::Setsockopt, "setsockopt"),
    (Hook::SockOps, "sock_ops"),
    (Hook::Egress, "egress"),
    (Hook::Ingress, "ingress"),
    (Hook::SocketCreate, "socket_create"),
    (Hook::FileOpen, "file_open"),
    (Hook::FileReceive, "file_receive"),
    (Hook::TaskAlloc, "task_alloc"),
    (Hook::Bpf, "bpf"),
    (Hook::Ptrace, "ptrace_access_check"),
    (Hook::Uring, "uring"),
    (Hook::NetlinkSend, "netlink_send"),
    (Hook::UnixConnect, "unix_connect"),
    (Hook::UnixSend, "unix_send"),
];

impl Hook {
    /// The hook with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        HOOKS.get(code as usize).map(|(hook, _)| *hook)
    }

    /// Name in metrics and records.
    pub fn name(self) -> &'static str {
        HOOKS.get(self as usize).map_or("unknown", |(_, name)| *name)
    }
}

/// One refusal, as it lies in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RefusalRecord {
    /// `CLOCK_BOOTTIME` at the refusal, nanoseconds.
    pub boot_ns: u64,
    /// Id of the cgroup: the calling task's, or the socket's for a packet.
    pub cgroup: u64,
    /// The socket's cookie; 0 where the hook has none.
    pub cookie: u64,
    /// The address that was asked for (a packet: its far end), network order, IPv4 mapped; zero
    /// where there is none.
    pub addr: [u8; 16],
    /// The port that was asked for, host order.
    pub port: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// [`Hook`].
    pub hook: u32,
    /// [`Reason`].
    pub reason: u32,
    /// Thread group id of the caller; 0 for a packet.
    pub tgid: u32,
    /// Real user id of the caller; 0 for a packet.
    pub uid: u32,
    /// What the hook adds: socket type, `level << 16 | option`, the interface's index, a socket
    /// family, a command of `bpf(2)`.
    pub detail: u32,
    /// Bytes of `name`.
    pub name_len: u32,
    /// Command name of the caller, NUL padded; zero for a packet.
    pub comm: [u8; 16],
    /// Name of the unix socket that was asked for, NUL padded; one that begins with NUL is
    /// abstract.
    pub name: [u8; NAME],
}

/// Bytes kept of a unix socket's name: all, in whole words.
pub const NAME: usize = 112;

const _: () = assert!(size_of::<RefusalRecord>() == 200);

impl RefusalRecord {
    /// Reads a record from the ring buffer's bytes; `None` when the length is not exactly one
    /// record's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let u64_at = |at: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let u32_at = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        Some(Self {
            boot_ns: u64_at(0)?,
            cgroup: u64_at(8)?,
            cookie: u64_at(16)?,
            addr: bytes.get(24..40)?.try_into().ok()?,
            port: u32_at(40)?,
            protocol: u32_at(44)?,
            hook: u32_at(48)?,
            reason: u32_at(52)?,
            tgid: u32_at(56)?,
            uid: u32_at(60)?,
            detail: u32_at(64)?,
            name_len: u32_at(68)?,
            comm: bytes.get(72..88)?.try_into().ok()?,
            name: bytes.get(88..88 + NAME)?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_places_agree() {
        for (code, reason) in ALL_REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, code);
            assert_eq!(Reason::from_code(code as u32), Some(*reason));
        }
        for (code, (hook, name)) in HOOKS.iter().enumerate() {
            assert_eq!(*hook as usize, code);
            assert_eq!(hook.name(), *name);
        }
        assert_eq!(Reason::from_code(99), None);
        assert_eq!(Hook::from_code(99), None);
    }

    #[test]
    fn a_record_is_read_back_and_other_lengths_are_not() {
        let mut bytes = [0u8; 200];
        bytes[0..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[24..40].copy_from_slice(&[9; 16]);
        bytes[52..56].copy_from_slice(&3u32.to_ne_bytes());
        bytes[72..76].copy_from_slice(b"curl");
        let record = RefusalRecord::from_bytes(&bytes).unwrap();
        assert_eq!((record.boot_ns, record.addr, record.reason), (7, [9; 16], 3));
        assert_eq!(&record.comm[..5], b"curl\0");
        assert_eq!(RefusalRecord::from_bytes(&bytes[..199]), None);
        assert_eq!(RefusalRecord::from_bytes(&[0; 208]), None);
    }
}
