//! Signing in by OpenID Connect: code flow with PKCE.
//!
//! What binds the answer to the browser that asked is one random value in a cookie: state, nonce
//! and verifier are derived from it, so the server keeps nothing until somebody is let in.

mod http;

use super::config;
use super::{Account, Proven};
use crate::approval::identity::{Role, Subject};
use crate::server::people::session::derived;
use ::http::{Request, Response};
use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Https;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreIdTokenVerifier,
    CoreJwsSigningAlgorithm as Alg, CoreProviderMetadata,
};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
};
use serde_json::{Map, Value};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where the provider sends people back to.
pub const CALLBACK: &str = "/signin/callback";

/// Signatures that are taken: those that only the provider's key can make.
const ALGORITHMS: [Alg; 10] = [
    Alg::RsaSsaPkcs1V15Sha256,
    Alg::RsaSsaPkcs1V15Sha384,
    Alg::RsaSsaPkcs1V15Sha512,
    Alg::RsaSsaPssSha256,
    Alg::RsaSsaPssSha384,
    Alg::RsaSsaPssSha512,
    Alg::EcdsaP256Sha256,
    Alg::EcdsaP384Sha384,
    Alg::EcdsaP521Sha512,
    Alg::EdDsa,
];

/// How old an ID token may be, or how far ahead. Seconds.
const FRESH: i64 = 600;

/// The provider's keys are asked for again this often, ...
const REFRESH: Duration = Duration::from_secs(3600);

/// ... and when a token's signature does not fit, at most this often. Seconds.
const AGAIN: i64 = 60;

/// Groups of one person at the provider.
const GROUPS: usize = 1000;

/// An answer of the provider that is under way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, http::HttpError>> + Send>>;

/// Why the provider cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("console.oidc: {0}")]
pub struct OidcError(String);

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The provider is not there.
    #[error("the identity provider cannot be reached")]
    Away,
    /// The provider did not give a token for the code.
    #[error("the identity provider did not take the code: {0}")]
    Code(String),
    /// The token is not one for us, or not the one that was asked for.
    #[error("the identity provider's token is not good: {0}")]
    Token(String),
    /// The claim with the name is not there, or is no name.
    #[error("the claim `{0}` is no name that can be used here")]
    Name(String),
    /// The provider does not vouch for the address.
    #[error("the identity provider has not verified the e-mail address")]
    Unverified,
    /// None of the groups may do anything.
    #[error("none of the groups of {0} may do anything here")]
    NoRole(String),
}

/// The provider.
pub struct Oidc {
    config: config::Oidc,
    redirect: RedirectUrl,
    issuer: IssuerUrl,
    secret: ClientSecret,
    https: Arc<Https>,
    provider: ArcSwapOption<CoreProviderMetadata>,
    asked: AtomicI64,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

impl Oidc {
    /// Reads the files that the configuration names. Nothing is asked yet.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn load(console: &config::Console) -> Result<Option<Self>, OidcError> {
        let Some(config) = console.oidc.clone() else { return Ok(None) };
        let fail = |what: String| OidcError(what);
        let path = &config.client_secret_file;
        let secret = std::fs::read_to_string(path)
            .map_err(|error| fail(format!("{}: {error}", path.display())))?;
        let origin = console.origin().ok_or_else(|| fail("console.url is missing".to_owned()))?;
        let redirect = RedirectUrl::new(format!("{origin}{CALLBACK}"))
            .map_err(|error| fail(error.to_string()))?;
        let issuer =
            IssuerUrl::new(config.issuer.clone()).map_err(|error| fail(error.to_string()))?;
        let https = Https::new(config.ca_file.as_deref()).map_err(fail)?;
        Ok(Some(Self {
            secret: ClientSecret::new(secret.trim().to_owned()),
            config,
            redirect,
            issuer,
            https: Arc::new(https),
            provider: ArcSwapOption::empty(),
            asked: AtomicI64::new(0),
        }))
    }

    /// What the sign-in page calls it.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Asks the provider for its addresses and keys until it answers, and every hour.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut pause = Duration::from_secs(1);
        loop {
            let next = match self.discover().await {
                Ok(()) => {
                    pause = Duration::from_secs(1);
                    REFRESH
                }
                Err(error) => {
                    tracing::warn!(issuer = %self.config.issuer, error, "the identity provider does not answer; nobody new can sign in by it");
                    pause = (pause * 2).min(Duration::from_secs(60));
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    async fn discover(&self) -> Result<(), String> {
        self.asked.store(now(), Ordering::Relaxed);
        let https = self.client();
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &https).await;
        let found = found.map_err(|error| chain(&error))?;
        self.provider.store(Some(Arc::new(found)));
        Ok(())
    }

    fn client(&self) -> impl Fn(Request<Vec<u8>>) -> Answering + use<> {
        let https = Arc::clone(&self.https);
        move |request| {
            let https = Arc::clone(&https);
            Box::pin(async move { https.send(request).await })
        }
    }

    /// Where the browser goes to sign in; `None` while the provider is away.
    pub fn way(&self, cookie: &str) -> Option<String> {
        let provider = self.provider.load_full()?;
        let verifier = verifier(cookie);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let client = CoreClient::from_provider_metadata(
            (*provider).clone(),
            ClientId::new(self.config.client_id.clone()),
            Some(self.secret.clone()),
        )
        .set_redirect_uri(self.redirect.clone());
        let (state, nonce) = (state(cookie), nonce(cookie));
        let mut ask = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || CsrfToken::new(state),
            move || Nonce::new(nonce),
        );
        for scope in &self.config.scopes {
            ask = ask.add_scope(Scope::new(scope.clone()));
        }
        let (url, _, _) = ask.set_pkce_challenge(challenge).url();
        Some(url.into())
    }

    /// Who came back with that code.
    ///
    /// # Errors
    /// When the provider does not vouch for somebody who may come in.
    pub async fn who(&self, cookie: &str, code: &str) -> Result<Proven, Refused> {
        let provider = self.provider.load_full().ok_or(Refused::Away)?;
        let client = CoreClient::from_provider_metadata(
            (*provider).clone(),
            ClientId::new(self.config.client_id.clone()),
            Some(self.secret.clone()),
        )
        .set_redirect_uri(self.redirect.clone());
        let https = self.client();
        let token = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| Refused::Code(error.to_string()))?
            .set_pkce_verifier(verifier(cookie))
            .request_async(&https)
            .await
            .map_err(|error| Refused::Code(chain(&error)))?;
        let id_token =
            token.id_token().ok_or_else(|| Refused::Token("there is none".to_owned()))?;
        let sub = self.verified(provider, id_token, cookie).await?;
        let mut claims = claims(&id_token.to_string())?;
        let wanted = [&self.config.name_claim, &self.config.groups_claim];
        if wanted.iter().any(|claim| !claims.contains_key(claim.as_str())) {
            use openidconnect::OAuth2TokenResponse as _;
            let more = self.user_info(token.access_token().secret()).await?;
            // OpenID Connect Core 5.3.2: of somebody else, it must not be used.
            if let Some(more) = more {
                if more.get("sub").and_then(Value::as_str) != Some(&sub) {
                    return Err(Refused::Token("user info of somebody else".to_owned()));
                }
                for (name, value) in more {
                    claims.entry(name).or_insert(value);
                }
            }
        }
        self.person(&claims, sub)
    }

    /// The token's `sub`, when it is the provider's, for us, fresh, and the answer to our question.
    async fn verified(
        &self,
        provider: Arc<CoreProviderMetadata>,
        token: &CoreIdToken,
        cookie: &str,
    ) -> Result<String, Refused> {
        let first = self.verify(&provider, token, cookie);
        let Err(why) = first else { return first };
        // The provider may sign with a newer key than those that are known.
        if now() - self.asked.load(Ordering::Relaxed) < AGAIN || self.discover().await.is_err() {
            return Err(why);
        }
        let provider = self.provider.load_full().ok_or(Refused::Away)?;
        self.verify(&provider, token, cookie)
    }

    fn verify(
        &self,
        provider: &CoreProviderMetadata,
        token: &CoreIdToken,
        cookie: &str,
    ) -> Result<String, Refused> {
        let verifier = CoreIdTokenVerifier::new_confidential_client(
            ClientId::new(self.config.client_id.clone()),
            self.secret.clone(),
            self.issuer.clone(),
            provider.jwks().clone(),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_issue_time_verifier_fn(|issued| {
            if (now() - issued.timestamp()).abs() <= FRESH {
                Ok(())
            } else {
                Err("it is not fresh".to_owned())
            }
        });
        let claims = token.claims(&verifier, &Nonce::new(nonce(cookie)));
        let claims = claims.map_err(|error| Refused::Token(chain(&error)))?;
        Ok(claims.subject().as_str().to_owned())
    }

    /// What the provider tells of who the access token is for; `None` when it has no such place.
    async fn user_info(&self, access: &str) -> Result<Option<Map<String, Value>>, Refused> {
        let provider = self.provider.load_full().ok_or(Refused::Away)?;
        let Some(place) = provider.userinfo_endpoint() else { return Ok(None) };
        let fail = |what: String| Refused::Token(format!("no user info: {what}"));
        let request = Request::get(place.url().as_str())
            .header("authorization", format!("Bearer {access}"))
            .header("accept", "application/json")
            .body(Vec::new())
            .map_err(|error| fail(error.to_string()))?;
        let answer = self.https.send(request).await.map_err(|error| fail(error.to_string()))?;
        if !answer.status().is_success() {
            return Err(fail(format!("it answered {}", answer.status())));
        }
        serde_json::from_slice(answer.body()).map(Some).map_err(|error| fail(error.to_string()))
    }

    fn person(&self, claims: &Map<String, Value>, sub: String) -> Result<Proven, Refused> {
        let config = &self.config;
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        let bad = || Refused::Name(config.name_claim.clone());
        let name = text(&config.name_claim).ok_or_else(bad)?.to_ascii_lowercase();
        if config.name_claim == "email"
            && claims.get("email_verified").is_some_and(|v| v != &Value::Bool(true))
        {
            return Err(Refused::Unverified);
        }
        let theirs: Vec<String> = match claims.get(&config.groups_claim) {
            Some(Value::Array(all)) => {
                all.iter().filter_map(Value::as_str).take(GROUPS).map(str::to_owned).collect()
            }
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        };
        Subject::new(Role::Viewer, &name).filter(|s| s.name() != super::LOCAL).ok_or_else(bad)?;
        let (role, groups) = config.right(&theirs).ok_or_else(|| Refused::NoRole(name.clone()))?;
        let subject = Subject::new(role, &name).ok_or_else(bad)?;
        let shown = text("email").or_else(|| text("name")).unwrap_or(&name).to_owned();
        let account = Some(Account { issuer: config.issuer.clone(), sub });
        Ok(Proven { subject, groups, account, shown })
    }
}

/// The value that the provider hands back with its answer.
pub fn state(cookie: &str) -> String {
    derived(cookie, "state")
}

/// The value that the ID token must have.
pub fn nonce(cookie: &str) -> String {
    derived(cookie, "nonce")
}

fn verifier(cookie: &str) -> PkceCodeVerifier {
    // 64 characters of those that RFC 7636 4.1 allows.
    PkceCodeVerifier::new(derived(cookie, "pkce"))
}

/// The claims of a token that was verified.
fn claims(token: &str) -> Result<Map<String, Value>, Refused> {
    let bad = || Refused::Token("its claims cannot be read".to_owned());
    let payload = token.split('.').nth(1).ok_or_else(bad)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| bad())?;
    serde_json::from_slice(&payload).map_err(|_| bad())
}

/// Seconds since the Unix epoch: tokens are made by another machine's wall clock.
fn now() -> i64 {
    crate::server::clock::wall() / 1000
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(300).collect()
}
