//! Small things that the server keeps for people: by kind and key, as bytes, changed by
//! compare-and-set.

/// What sort of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session, by the hash of its id.
    Session,
    /// Which account of the identity provider a name belongs to, by name.
    Account,
    /// Something that counts once and was used: its hash.
    Used,
    /// What a host last said about itself, by its name.
    Host,
    /// A policy version, signed, by its number.
    Policy,
    /// The files of a bundle, by their digest.
    PolicyFiles,
}

impl Kind {
    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Account => "account",
            Self::Used => "used",
            Self::Host => "host",
            Self::Policy => "policy",
            Self::PolicyFiles => "policy-files",
        }
    }
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// What must be there for the change to happen.
    pub was: Option<Vec<u8>>,
    /// What is there afterwards.
    pub next: Option<Vec<u8>>,
}
