//! Enforcer: one unavoidable gate on each host for what AI agents send.
//!
//! The way of one operation, and the module that owns each step:
//! captured ([`capture`]) -> accepted ([`accept`]) -> classified ([`classify`]) ->
//! operation ([`protocol`], [`operation`]) -> decided ([`decide`], [`policy`],
//! [`approval`]) -> recorded ([`record`]) -> forwarded ([`forward`]) -> masked
//! ([`mask`]) -> recorded. [`session`] is the spine that calls them in this order.

pub mod accept;
pub mod app;
pub mod approval;
pub mod capture;
pub mod classify;
pub mod cli;
pub mod completeness;
pub mod config;
pub mod decide;
pub mod flow;
pub mod forward;
pub mod mask;
pub mod metrics;
pub mod operation;
pub mod policy;
pub mod principal;
pub mod protocol;
pub mod record;
pub mod run;
pub mod server;
pub mod session;
pub mod task;
pub mod tls;
