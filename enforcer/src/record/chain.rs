//! The hash chain of a flow: which bytes follow which.
//!
//! Pure. An event is hashed exactly as it is stored, so that what is proved is
//! what is on disk and not a re-encoding of it.

use super::FlowId;
use sha2::{Digest as _, Sha256};

/// Domain and version of the chain.
const DOMAIN: &[u8] = b"enforcer transcript v1\0";

/// SHA-256 of an event, or of a flow's beginning.
pub type Hash = [u8; 32];

/// What `prev` of a flow's first event is: SHA-256 of the domain and the flow's id.
pub fn start(flow: FlowId) -> Hash {
    Sha256::new_with_prefix(DOMAIN).chain_update(flow.as_bytes()).finalize().into()
}

/// The hash of an event as stored.
pub fn hash(event: &[u8]) -> Hash {
    Sha256::digest(event).into()
}
