//! The setup secret: signs the first admin in, once, before any identity provider is there.
//!
//! It has 256 random bits, so a plain hash of it tells nothing; the file has no more than that.

use crate::server::model::Millis;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// How long it is good.
const LIFE: Millis = 24 * 3_600_000;

/// Makes a new one in place of what is there, and gives it in clear.
///
/// # Errors
/// When the file cannot be written, or the system has no random bytes.
pub fn make(path: &Path, now: Millis) -> io::Result<String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let secret = hex::encode(secret);
    let line = format!("v1 {} {}\n", hash(&secret), now.saturating_add(LIFE));
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The server runs as another user and reads it; a hash is no secret.
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(secret)
}

/// Until when the secret is good, when it is the one of that file and good now.
pub fn check(path: &Path, secret: &str, now: Millis) -> Option<Millis> {
    let line = std::fs::read_to_string(path).ok()?;
    let mut words = line.split_whitespace();
    let (version, kept, until) = (words.next()?, words.next()?, words.next()?);
    let until: Millis = until.parse().ok()?;
    (version == "v1" && kept == hash(secret.trim()) && now < until).then_some(until)
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::new_with_prefix(b"enforcer setup v1\0").chain_update(secret).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_secret_is_good_and_not_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.setup");
        assert_eq!(check(&path, "", 0), None);
        let first = make(&path, 1000).unwrap();
        assert_eq!(check(&path, &first, 1000), Some(1000 + LIFE));
        assert_eq!(check(&path, &format!(" {first}\n"), 1000), Some(1000 + LIFE));
        assert_eq!(check(&path, &first, 1000 + LIFE), None);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&first));
        let second = make(&path, 1000).unwrap();
        assert_eq!(check(&path, &first, 1000), None);
        assert!(check(&path, &second, 1000).is_some());
    }
}
