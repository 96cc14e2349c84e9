//! How the daemon gets a certificate that is good, and gets one again after it was away for
//! too long, its clock was wrong, or the server took its right away.
//!
//! Two places are looked at until one helps: the identity's directory (`enforcer join` writes
//! there, and a clock that is put right makes a certificate good again) and the token file.

use super::link::jittered;
use super::{ClientError, Options, own};
use crate::approval::identity::Identity;
use crate::approval::join::{self, JoinError};
use crate::approval::tls;
use crate::approval::token::Token;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

/// First and longest pause between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// How soon a token that was not taken is tried again. The server may have been asked too often;
/// one that is spent is refused each time, and each time that goes on record there.
const REFUSED: Duration = Duration::from_secs(300);

/// How soon a server that does not take our certificate is asked again: it puts each time on
/// record.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How often an unchanged complaint is repeated.
const REPEAT: Duration = Duration::from_secs(600);

/// Whether the certificate is good now.
pub(super) fn good(identity: &Identity) -> bool {
    OffsetDateTime::now_utc().unix_timestamp() < identity.holder.not_after
}

/// Waits for a good certificate, and says what is missing.
pub(super) struct Enrolment<'a> {
    options: &'a Options,
    /// Hash of a token that the server did not take, and when.
    refused: Option<([u8; 32], Instant)>,
    complained: Option<(String, Instant)>,
}

impl<'a> Enrolment<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self { options, refused: None, complained: None }
    }

    /// Waits as long as it takes.
    pub(super) async fn wait(&mut self) -> Identity {
        let mut pause = LOOK.0;
        loop {
            let missing = match self.stored() {
                Ok(Some(identity)) if good(&identity) => return identity,
                Ok(Some(identity)) => ran_out(&self.options.dir, &identity),
                Ok(None) => "this host has not joined the approval server yet".to_owned(),
                Err(error) => error.to_string(),
            };
            match self.by_token().await {
                Ok(identity) => return identity,
                Err(why) => self.complain(&format!("{missing}, and {why}")),
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// The server was reached and does not take `current`: waits until there is another one, or
    /// for a while, since the server may change its mind.
    pub(super) async fn after_refusal(
        &mut self,
        why: &str,
        current: &Identity,
    ) -> Option<Identity> {
        let until = Instant::now() + ASK_AGAIN;
        while Instant::now() < until {
            match self.by_token().await {
                Ok(identity) => return Some(identity),
                Err(token) => self.complain(&format!(
                    "the server does not take this host's certificate ({why}), and {token}"
                )),
            }
            if let Ok(Some(identity)) = self.stored()
                && identity.chain != current.chain
                && good(&identity)
            {
                return Some(identity);
            }
            sleep(jittered(LOOK.1)).await;
        }
        None
    }

    fn stored(&self) -> Result<Option<Identity>, ClientError> {
        let identity = Identity::load(&self.options.dir)?;
        if let Some(identity) = &identity {
            own(identity, self.options)?;
            tls::channel(&self.options.url, identity)?;
        }
        Ok(identity)
    }

    /// Joins with the token in the file, if there is one that was not refused just now.
    async fn by_token(&mut self) -> Result<Identity, String> {
        let options = self.options;
        let Some(path) = &options.token_file else {
            return Err("[server] token_file is not set".to_owned());
        };
        let token = read_token(path)?;
        let hash: [u8; 32] = Sha256::digest(token.reveal()).into();
        let at = path.display();
        let spent = format!("the token in {at} ([server] token_file) was not taken");
        if self.refused.is_some_and(|(old, when)| old == hash && when.elapsed() < REFUSED) {
            return Err(spent);
        }
        match join::join(&options.url, &token, &options.dir).await {
            Ok(identity) => match own(&identity, options) {
                Ok(()) => {
                    tracing::info!(holder = %identity.holder.subject, "joined the approval server");
                    (self.refused, self.complained) = (None, None);
                    Ok(identity)
                }
                Err(error) => Err(error.to_string()),
            },
            Err(JoinError::Refused(why)) => {
                self.refused = Some((hash, Instant::now()));
                tracing::warn!(%why, file = %at, "the join token was not taken");
                Err(spent)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn complain(&mut self, why: &str) {
        let old = self.complained.as_ref();
        if old.is_some_and(|(said, when)| said == why && when.elapsed() < REPEAT) {
            return;
        }
        self.complained = Some((why.to_owned(), Instant::now()));
        let Options { host, dir, token_file, .. } = self.options;
        let make = format!(
            "make a token on the server (`enforcer server token --role daemon --name {host}`)"
        );
        let then = match token_file {
            Some(file) => format!("put it into {} ([server] token_file)", file.display()),
            None => format!(
                "run `enforcer join --server {} --dir {} --token -`",
                self.options.url,
                dir.display()
            ),
        };
        tracing::warn!(
            "{why}; what needs approval is denied until then: {make} and {then}; the daemon goes on by itself"
        );
    }
}

fn ran_out(dir: &Path, identity: &Identity) -> String {
    let ended = OffsetDateTime::from_unix_timestamp(identity.holder.not_after);
    let ended = ended.ok().and_then(|ended| ended.format(&Rfc3339).ok()).unwrap_or_default();
    format!("the certificate in {} ran out at {ended}", dir.display())
}

fn read_token(path: &Path) -> Result<Token, String> {
    let file = format!("{} ([server] token_file)", path.display());
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|cause| format!("{file} cannot be read: {cause}"))?;
    Token::parse(&text).map_err(|bad| format!("{file} is {bad}"))
}
