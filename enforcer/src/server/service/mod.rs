//! One file for each gRPC service. Each method first says who may call it.

pub mod admin;
pub mod approvals;
pub mod enrollment;
pub mod hosts;
pub mod people;
pub mod policies;
pub mod review;
pub mod tasks;
pub(in crate::server) mod watch;
