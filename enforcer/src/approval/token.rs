//! The one-time join token: `<id>.<secret>.<SHA-256 of the CA certificate>`, all hex.
//!
//! The joiner trusts the server that shows the CA of the third part and no other,
//! so nothing has to be trusted on first use. The secret is shown once and is
//! never printed by `Debug`.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Names the token at the server; no secret.
    pub id: [u8; 8],
    secret: [u8; 32],
    /// SHA-256 of the server's CA certificate (DER).
    pub ca: [u8; 32],
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: it is 16, 64 and 64 hexadecimal digits joined by dots, as `enforcer server token` prints it"
)]
pub struct BadToken;

impl Token {
    /// A new token for that CA.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(ca: [u8; 32]) -> Result<Self, getrandom::Error> {
        let mut id = [0; 8];
        let mut secret = [0; 32];
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        Ok(Self { id, secret, ca })
    }

    /// Reads a token; white space around it is left out.
    ///
    /// # Errors
    /// [`BadToken`] for any other text.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let mut parts = text.trim().split('.');
        let mut token = Self { id: [0; 8], secret: [0; 32], ca: [0; 32] };
        for field in [&mut token.id[..], &mut token.secret, &mut token.ca] {
            let part = parts.next().ok_or(BadToken)?;
            hex::decode_to_slice(part, field).map_err(|_| BadToken)?;
        }
        match parts.next() {
            None => Ok(token),
            Some(_) => Err(BadToken),
        }
    }

    /// The whole token with its secret, to hand to the joiner.
    pub fn reveal(&self) -> String {
        let Self { id, secret, ca } = self;
        format!("{}.{}.{}", hex::encode(id), hex::encode(secret), hex::encode(ca))
    }

    /// What the server keeps in place of the secret. The secret has 256 random bits, so a
    /// plain hash can be neither guessed nor found by a timing of the comparison.
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"enforcer join token v1\0");
        hash.update(self.id);
        hash.update(self.secret);
        hash.finalize().into()
    }

    /// The id as text, for records.
    pub fn id_text(&self) -> String {
        hex::encode(self.id)
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        Self::parse(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", hex::encode(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let token = Token::generate([7; 32]).unwrap();
        let text = token.reveal();
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&text[17..40]));
    }

    #[test]
    fn refuses_other_text() {
        let good = Token::generate([7; 32]).unwrap().reveal();
        let cases = [
            String::new(),
            "..".to_owned(),
            good[1..].to_owned(),
            good[..good.len() - 1].to_owned(),
            format!("{good}."),
            format!("{good}.00"),
            good.replace('.', ":"),
            good.replacen(|c: char| c.is_ascii_digit(), "é", 1),
        ];
        for case in cases {
            assert_eq!(Token::parse(&case), Err(BadToken), "{case}");
        }
    }
}
