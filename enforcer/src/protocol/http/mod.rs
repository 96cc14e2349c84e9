//! HTTP/1 and HTTP/2: hyper is the codec, [`serve`] the connection, [`operation`]
//! what a request asks, [`exchange`] its way through the spine.
//!
//! A request is read strictly, and sent anew from what was judged; no raw byte
//! of it is passed on. Bodies stream in both directions ([`body`], [`upload`],
//! [`deliver`]); what comes back is masked and recorded before it is delivered.

pub(crate) mod ahead;
pub mod authority;
pub mod body;
mod deliver;
mod exchange;
pub mod headers;
pub mod internal;
pub mod operation;
pub mod path;
mod reasons;
pub mod refuse;
pub mod serve;
mod upload;
mod upstream;

pub use upstream::Pool;

#[cfg(test)]
mod tests;
