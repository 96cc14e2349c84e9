//! Policy from the server, as a host keeps it: checked, with its age, and on disk.
//!
//! A bundle is taken when the policy key that was pinned at joining signed it and its number is
//! higher than that of the one at hand; it is in force while the server's last confirmation is
//! young enough. Nothing here waits or asks the network: [`Inbox`] is told what came and what time
//! it is.

use crate::approval::identity::{self, IdentityError};
use crate::policy::signed::{PublicKey, Untrusted, statement_hash};
use crate::policy::{Absence, AllowedSecrets, Bundle, NotAllowed};
use enforcer_proto::v1;
use prost::Message as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file with the bundle, and the one with the newest confirmation.
const BUNDLE: &str = "bundle";
const CONFIRMED: &str = "confirmed";

/// A confirmation of the future by more than this is of another clock, and worth nothing.
const AHEAD_MS: i64 = 5 * 60 * 1000;

/// How old the confirmation on disk may get while newer ones come.
const WRITTEN_MS: i64 = 60_000;

/// The time: of the wall, in milliseconds since the Unix epoch, and one that only goes on.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall's.
    pub unix_ms: i64,
    /// The one that only goes on.
    pub steady: Instant,
}

impl Now {
    /// The system's.
    pub fn system() -> Self {
        let unix = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Self { unix_ms: i64::try_from(unix).unwrap_or(i64::MAX), steady: Instant::now() }
    }
}

/// Why something that came is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This host has no key to check it with.
    #[error(
        "this host has no policy key of its server: it is pinned when the host joins, or with the \
         next renewal of its certificate"
    )]
    NoKey,
    /// The pinned key, or the cache, cannot be read or written.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// It is not what the key signed.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Its number is not higher than that of the one at hand.
    #[error("version {0} is not newer than version {1}, which this host has")]
    Older(u64, u64),
    /// It is of a time that is not there yet.
    #[error(
        "the server's confirmation is {} seconds ahead of this host's clock: one of the two clocks \
         is wrong", .0 / 1000
    )]
    Ahead(i64),
    /// It names a secret that this host does not let the server's policy use.
    #[error("target `{0}` is not for this host: {1}, which the host's own enforcer.toml says")]
    Secret(String, NotAllowed),
    /// The check of it did not come to its end.
    #[error("it could not be checked: the check ended in a fault of this program")]
    Fault,
}

/// A bundle that the key signed.
#[derive(Debug)]
pub struct Verified {
    key: PublicKey,
    message: v1::PolicyBundle,
    signed: v1::SignedPolicy,
    statement: v1::PolicyStatement,
    bundle: Arc<Bundle>,
}

/// What of this host it takes to check a bundle.
#[derive(Clone)]
pub struct Host {
    /// The identity's directory, with the key that was pinned.
    pub identity_dir: PathBuf,
    /// The key for what masks hash.
    pub mask_key: Vec<u8>,
    /// What the server's policy may use of it.
    pub secrets: AllowedSecrets,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("identity_dir", &self.identity_dir).finish_non_exhaustive()
    }
}

/// Checks a bundle by the key that is pinned in the identity's directory. It takes a while: off
/// the threads that carry bytes.
///
/// # Errors
/// When it is not exactly what the key signed, or cannot be used here.
pub fn verify(host: &Host, message: v1::PolicyBundle) -> Result<Verified, Refused> {
    let key = identity::policy_key(&host.identity_dir)?.ok_or(Refused::NoKey)?;
    let (statement, bundle) = key.bundle(&message)?;
    let bound = bundle.with_secrets(&host.secrets);
    let bundle = bound.map_err(|(target, why)| Refused::Secret(target, why))?;
    let masked = bundle.with_mask_key(&host.mask_key);
    let bundle = masked.map_err(|_| Untrusted::Form("a key for the bundle's masks"))?;
    let signed = message.signed.clone().ok_or(Untrusted::Form("the statement"))?;
    Ok(Verified { key, message, signed, statement, bundle: Arc::new(bundle) })
}

/// The bundle that is kept in a directory, if one is; whether it is in force is not said.
///
/// # Errors
/// When it cannot be read, or is not what the pinned key signed.
pub fn kept(dir: &Path, identity_dir: &Path) -> Result<Option<Bundle>, Refused> {
    let Some(bundle) = read_bundle(dir)? else { return Ok(None) };
    let key = identity::policy_key(identity_dir)?.ok_or(Refused::NoKey)?;
    Ok(Some(key.bundle(&bundle)?.1))
}

fn read_bundle(dir: &Path) -> Result<Option<v1::PolicyBundle>, Refused> {
    let Some(bundle) = read(&dir.join(BUNDLE))? else { return Ok(None) };
    let bundle = v1::PolicyBundle::decode(&bundle[..]);
    Ok(Some(bundle.map_err(|_| Untrusted::Form("the bundle"))?))
}

#[derive(Debug)]
struct Held {
    key: PublicKey,
    signed: v1::SignedPolicy,
    statement: v1::PolicyStatement,
    bundle: Arc<Bundle>,
    confirmed: Option<Confirmed>,
}

/// When the server was heard of last, by its time and by ours.
#[derive(Clone, Copy, Debug)]
struct Confirmed {
    unix_ms: i64,
    steady: Instant,
}

/// What came from the server.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    max_age: Duration,
    held: Option<Held>,
    /// What is at hand, while the disk did not take it.
    unkept: Option<Vec<u8>>,
    written_ms: i64,
}

impl Inbox {
    /// Reads what was kept in `dir`. What is not exactly what the pinned key signed is left alone
    /// and said; then there is nothing until the server sends it again.
    pub fn open(dir: PathBuf, host: &Host, max_age: Duration, now: Now) -> Self {
        let mut inbox = Self { dir, max_age, held: None, unkept: None, written_ms: 0 };
        if let Err(error) = inbox.read(host, now) {
            tracing::error!(
                target: "audit", dir = %inbox.dir.display(), %error,
                "the policy that was kept is not taken; everything is denied until the server \
                 sends it again"
            );
        }
        inbox
    }

    fn read(&mut self, host: &Host, now: Now) -> Result<(), Refused> {
        let Some(bundle) = read_bundle(&self.dir)? else { return Ok(()) };
        self.hold(verify(host, bundle)?);
        let Some(confirmed) = read(&self.dir.join(CONFIRMED))? else { return Ok(()) };
        let confirmed = v1::SignedConfirmation::decode(&confirmed[..]);
        let confirmed = confirmed.map_err(|_| Untrusted::Form("the confirmation"))?;
        self.confirm(&confirmed, now)
    }

    fn hold(&mut self, new: Verified) {
        let Verified { key, signed, statement, bundle, .. } = new;
        // The server was there when the one before was confirmed; its own comes with the next
        // word.
        let confirmed =
            self.held.take().filter(|held| held.key == key).and_then(|held| held.confirmed);
        self.held = Some(Held { key, signed, statement, bundle, confirmed });
    }

    /// Takes a bundle, and keeps it on disk. Gives whether it is another than the one at hand.
    ///
    /// # Errors
    /// When it is not newer; then nothing changed. When it cannot be kept: what forbids must not
    /// wait for a disk, so that it is at hand all the same.
    pub fn take(&mut self, new: Verified) -> Result<bool, Refused> {
        // A number counts under its key: a host that joined another server starts anew.
        if let Some(held) = self.held.as_ref().filter(|held| held.key == new.key) {
            if held.signed.statement == new.signed.statement {
                return Ok(false);
            }
            let (theirs, ours) = (new.statement.number, held.statement.number);
            if theirs <= ours {
                return Err(Refused::Older(theirs, ours));
            }
        }
        self.unkept = Some(new.message.encode_to_vec());
        self.hold(new);
        // The confirmation on disk is of another statement.
        self.written_ms = 0;
        self.keep()?;
        Ok(true)
    }

    /// Writes what is at hand, unless that is done.
    fn keep(&mut self) -> Result<(), Refused> {
        let Some(bundle) = &self.unkept else { return Ok(()) };
        identity::private_dir(&self.dir)?;
        identity::write(&self.dir.join(BUNDLE), bundle)?;
        self.unkept = None;
        Ok(())
    }

    /// Takes the word that what is at hand was the newest.
    ///
    /// # Errors
    /// When the key did not say so, or of a time to come; or when it, or what it is about, cannot
    /// be kept: then it counts all the same, and is tried again with the next.
    pub fn confirm(&mut self, said: &v1::SignedConfirmation, now: Now) -> Result<(), Refused> {
        let held = self.held.as_mut().ok_or(Untrusted::Other)?;
        let unix_ms = held.key.confirmed(said, &held.signed)?;
        let ahead = |unix_ms: i64| unix_ms.saturating_sub(now.unix_ms);
        // It would keep every right one out until its time has come.
        if ahead(unix_ms) > AHEAD_MS {
            return Err(Refused::Ahead(ahead(unix_ms)));
        }
        let younger = |old: Confirmed| unix_ms < old.unix_ms && ahead(old.unix_ms) <= AHEAD_MS;
        if !held.confirmed.is_some_and(younger) {
            held.confirmed = Some(Confirmed { unix_ms, steady: now.steady });
        }
        self.keep()?;
        let held = self.held.as_ref().and_then(|held| held.confirmed);
        // One from before a clock was set back is replaced too.
        let apart = unix_ms.saturating_sub(self.written_ms).saturating_abs() >= WRITTEN_MS;
        if apart && held.is_some_and(|held| held.unix_ms == unix_ms) {
            identity::write(&self.dir.join(CONFIRMED), &said.encode_to_vec())?;
            self.written_ms = unix_ms;
        }
        Ok(())
    }

    /// How long ago the server confirmed what is at hand, by the clock that shows more; `None`
    /// when it never did. A confirmation from the future is endlessly old: the clock was set back.
    pub fn age(&self, now: Now) -> Option<Duration> {
        let confirmed = self.held.as_ref()?.confirmed?;
        let by_wall = now.unix_ms.saturating_sub(confirmed.unix_ms);
        if by_wall < -AHEAD_MS {
            return Some(Duration::MAX);
        }
        let by_wall = Duration::from_millis(u64::try_from(by_wall).unwrap_or(0));
        Some(by_wall.max(now.steady.saturating_duration_since(confirmed.steady)))
    }

    /// The bundle that is in force now.
    ///
    /// # Errors
    /// Why there is none.
    pub fn in_force(&self, now: Now) -> Result<Arc<Bundle>, Absence> {
        match (&self.held, self.age(now)) {
            (Some(held), Some(age)) if age <= self.max_age => Ok(Arc::clone(&held.bundle)),
            (Some(_), Some(_)) => Err(Absence::Expired),
            _ => Err(Absence::Missing),
        }
    }

    /// The number of the version at hand; 0 when there is none.
    pub fn number(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.statement.number)
    }

    /// What names the statement at hand; empty when there is none.
    pub fn statement(&self) -> Vec<u8> {
        self.held.as_ref().map(|held| statement_hash(&held.signed).to_vec()).unwrap_or_default()
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(IdentityError::File { path: path.to_owned(), cause }),
    }
}

#[cfg(test)]
mod tests;
