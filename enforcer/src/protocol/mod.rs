//! The protocols, each in its own folder with the same inner parts.

pub mod dns;
pub mod http;
