//! Landlock scopes (6.12): no abstract unix socket and no signal beyond the run.

use super::FloorError;
use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

/// Restricts the calling process as far as the kernel's ABI goes. A kernel
/// without the scopes is no error: `status` and `doctor` say what stays open.
pub fn restrict() -> Result<(), FloorError> {
    if !supported() {
        return Ok(());
    }
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map(drop)
        .map_err(|error| FloorError::Landlock(error.to_string()))
}

/// Whether this kernel has the scopes (ABI 6).
pub fn supported() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .and_then(|ruleset| ruleset.create())
        .is_ok()
}
