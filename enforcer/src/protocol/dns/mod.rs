//! The resolver that governed processes see: policy first, then a synthetic address.
//!
//! No question ever leaves the host from here; the daemon's own look-ups of
//! verified names are `forward::resolve`'s. [`names`] owns the table that makes
//! every flow have a name, [`codec`] the packets, [`answer`] what is said,
//! [`rate`] how often, [`operation`] what is decided and recorded, [`serve`] the
//! sockets.

pub mod answer;
pub mod codec;
pub mod name;
pub mod names;
pub mod operation;
pub mod rate;
pub mod serve;
