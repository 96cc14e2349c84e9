//! The approval server: who asks, who decides, who may claim.
//!
//! Never imported by the data path. `model` is the pure life of an approval,
//! `store` keeps it, `core` is the one way it changes, `service` the API over
//! it, `hub` and `expiry` tell who waits.

pub mod audit;
pub mod ca;
pub mod clock;
pub mod config;
pub mod core;
pub mod expiry;
pub mod hub;
pub mod limits;
pub mod listen;
pub mod members;
pub mod metrics;
pub mod model;
pub mod notify;
pub mod people;
pub mod policies;
pub mod replicas;
pub mod report;
pub mod room;
mod run;
pub mod service;
pub mod store;
mod trust;
pub mod validate;
pub mod web;
pub mod wire;

pub use run::{Running, StartError, open, start};

#[cfg(test)]
mod tests;
