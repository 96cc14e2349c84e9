//! The wire and storage messages, generated from `proto/enforcer/v1`.
//!
//! Wire types stay at the edges: each user converts them to its own types, and
//! a missing field or an unknown enum value is an error there, never a default.

/// Package `enforcer.v1`.
#[expect(missing_docs, reason = "generated; the documentation is in the .proto files")]
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("enforcer.v1");
}
