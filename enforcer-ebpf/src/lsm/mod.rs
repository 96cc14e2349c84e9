//! BPF LSM, one file per hook: what no other hook of a cgroup sees. The programs
//! hang on the governed roots (`lsm_cgroup`, Linux 6.0), so only governed tasks
//! and their sockets run them. A field that cannot be read refuses.

mod bpf;
mod file_open;
mod file_receive;
mod netlink_send;
mod ptrace_access_check;
mod socket_create;
mod task_alloc;
mod unix;
mod uring;
