//! Where the running kernel keeps what the programs on tasks, files and sockets
//! read. rustc emits no relocations for the kernel's types, so the daemon looks
//! the places up in the kernel's own BTF and writes them into a map.

/// Byte offsets of fields in the running kernel's structures; all zero until the daemon has
/// written them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `file.f_mode`.
    pub file_mode: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.private_data`.
    pub file_private: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_sb`.
    pub inode_sb: u32,
    /// `inode.i_private`.
    pub inode_private: u32,
    /// `super_block.s_magic`.
    pub sb_magic: u32,
    /// `kernfs_node.__parent`.
    pub kernfs_parent: u32,
    /// `kernfs_node.id`.
    pub kernfs_id: u32,
    /// `inode.i_ino`.
    pub inode_number: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `mm_struct.exe_file`.
    pub mm_exe: u32,
    /// `mm_struct.start_stack`.
    pub mm_stack: u32,
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`.
    pub css_set_cgroup: u32,
    /// `cgroup.level`.
    pub cgroup_level: u32,
    /// `cgroup.kn`.
    pub cgroup_kernfs: u32,
    /// `cgroup.ancestors`.
    pub cgroup_ancestors: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `sock.sk_cgrp_data`.
    pub sock_cgroup: u32,
    /// `unix_sock.addr`.
    pub unix_address: u32,
    /// `unix_address.len`.
    pub unix_address_len: u32,
    /// `unix_address.name`.
    pub unix_address_name: u32,
    /// `sk_buff.data`.
    pub skb_data: u32,
    /// `sk_buff.len`.
    pub skb_len: u32,
    /// `bpf_sock_addr_kern.uaddr`.
    pub sock_addr_name: u32,
    /// `bpf_sock_addr_kern.uaddrlen`.
    pub sock_addr_len: u32,
    /// 1 when every field was found.
    pub complete: u32,
}

const _: () = assert!(size_of::<Offsets>() == 112);

/// Magic number of cgroup2 (include/uapi/linux/magic.h).
pub const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// Magic number of the older cgroup hierarchies.
pub const CGROUP1_MAGIC: u64 = 0x0027_e0eb;

/// Stands in the programs for the kernel function `bpf_cast_to_kern_ctx`, whose number is the
/// running kernel's: the loader puts it there.
pub const CAST_TO_KERNEL: i32 = 0x7ea5_0001;
