//! Policy: which operations are allowed, denied, or need which people's approval.
//!
//! A [`Bundle`] is loaded from a directory, whole or not at all, and judges
//! operations without I/O, clock or state: the same operation by the same
//! principal always gets the same [`Judgement`]. Whatever is unknown, missing or
//! fails is denied. It never approves, forwards, or reads a credential by itself.

mod ask;
mod ask_sql;
mod bundle;
mod case;
mod evaluate;
mod index;
mod inject;
mod mask;
mod memo;
mod postgres;
mod problem;
pub mod pushed;
mod read;
mod request;
mod rules;
mod schema;
mod scope;
mod secret;
pub mod signed;
pub mod sql;
mod starter;
mod target;

#[cfg(test)]
mod tests;

pub use ask::{Ask, BadAsk};
pub use bundle::{Absence, Bundle, Files, belongs};
pub use case::{Case, CaseOutcome, Expected};
pub use inject::{InjectError, InjectHeader};
pub use postgres::{ClientCertificate, Postgres, PostgresRole, PostgresTls, Untraceable};
pub use problem::{Problem, Problems, Severity};
pub use schema::{SCHEMA, SchemaFault, schema_json};
pub use scope::{BadHours, Hours, Scope, open_until, reason_pattern};
pub use secret::{AllowedSecrets, NotAllowed, SecretError, SecretFile, SecretSource};
pub use starter::starter;
pub use target::{NamePattern, Target, TlsMode};

use std::fmt;

/// What policy says about one operation by one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The ids of the rules that decided, in the order of the file; empty when none matched.
    pub rules: Vec<String>,
    /// How it came to the verdict, one sentence a line, for people.
    pub trace: Vec<String>,
}

/// What happens to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is forwarded.
    Allow,
    /// It is refused.
    Deny,
    /// It is forwarded only once every one of these scopes has approved exactly it; never empty.
    NeedsApproval(Vec<Scope>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny => f.write_str("deny"),
            Self::NeedsApproval(scopes) => {
                let names: Vec<&str> = scopes.iter().map(|scope| scope.name.as_str()).collect();
                write!(f, "needs-approval({})", names.join(", "))
            }
        }
    }
}
