//! Signing in by OpenID Connect, with a provider that can be told to lie.

use super::browser::{Browser, Page};
use super::*;
use crate::server::ca::{Ca, Current};
use crate::server::people::config::Console;
use crate::server::web::{serve, tls_config};
use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A provider.
struct Issuer {
    url: String,
    ca: PathBuf,
    fake: Arc<Mutex<Fake>>,
    _stop: DropGuard,
    dir: TempDir,
}

/// What it says.
struct Fake {
    url: String,
    key: EcdsaKeyPair,
    claims: Value,
    header: Value,
    /// What it tells of the person beside the token.
    info: Value,
    /// The challenge of the one who asked.
    challenge: String,
    sign: bool,
    exchanged: usize,
}

fn new_key() -> EcdsaKeyPair {
    let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).unwrap();
    EcdsaKeyPair::from_pkcs8(alg, document.as_ref()).unwrap()
}

async fn metadata(State(fake): State<Arc<Mutex<Fake>>>) -> Json<Value> {
    let url = fake.lock().unwrap().url.clone();
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/me"),
        "jwks_uri": format!("{url}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "none", "HS256"],
    }))
}

async fn keys(State(fake): State<Arc<Mutex<Fake>>>) -> Json<Value> {
    let fake = fake.lock().unwrap();
    let point = fake.key.public_key().as_ref();
    let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..65]));
    let key = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k", "x": x, "y": y });
    Json(json!({ "keys": [key] }))
}

async fn token(
    State(fake): State<Arc<Mutex<Fake>>>,
    Form(form): Form<HashMap<String, String>>,
) -> Result<Json<Value>, http::StatusCode> {
    let mut fake = fake.lock().unwrap();
    let challenge = B64.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    if challenge != fake.challenge || form["code"] != "good" {
        return Err(http::StatusCode::BAD_REQUEST);
    }
    fake.exchanged += 1;
    let part = |value: &Value| B64.encode(value.to_string());
    let signed = format!("{}.{}", part(&fake.header), part(&fake.claims));
    let signature = fake.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let signature = if fake.sign { B64.encode(signature.as_ref()) } else { String::new() };
    let id_token = format!("{signed}.{signature}");
    Ok(Json(json!({ "access_token": "t", "token_type": "Bearer", "id_token": id_token })))
}

async fn me(State(fake): State<Arc<Mutex<Fake>>>) -> Json<Value> {
    Json(fake.lock().unwrap().info.clone())
}

impl Issuer {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(&dir.path().join("ca")).unwrap();
        let own = ca.server(&["localhost".to_owned()], wall()).unwrap();
        let current = Arc::new(Current(ArcSwap::new(Arc::new(own))));
        let tls = tls_config(&Console::default(), current).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let fake = Arc::new(Mutex::new(Fake {
            url: url.clone(),
            key: new_key(),
            claims: Value::Null,
            header: json!({ "alg": "ES256", "kid": "k" }),
            info: json!({}),
            challenge: String::new(),
            sign: true,
            exchanged: 0,
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state(Arc::clone(&fake));
        let stop = CancellationToken::new();
        tokio::spawn(serve::serve(listener, tls, router, stop.clone()));
        let path = dir.path().join("ca/ca.pem");
        Self { url, ca: path, fake, _stop: stop.drop_guard(), dir }
    }

    async fn console(&self) -> Harness {
        let secret = self.dir.path().join("client.secret");
        std::fs::write(&secret, "a secret of the client\n").unwrap();
        let (url, ca) = (&self.url, &self.ca);
        let harness = Harness::start_with(&format!(
            "[console]\nlisten = \"127.0.0.1:0\"\nurl = \"https://console.example\"\n\
             [console.oidc]\nname = \"Example\"\nissuer = \"{url}\"\nclient_id = \"enforcer\"\n\
             client_secret_file = {secret:?}\nca_file = {ca:?}\n\
             [[console.oidc.grant]]\ngroup = \"sec\"\nrole = \"reviewer\"\ngroups = [\"ops\"]\n\
             [[console.oidc.grant]]\ngroup = \"it\"\nrole = \"admin\"\n"
        ))
        .await;
        // The provider is asked in the background.
        let mut browser = Browser::new(&harness);
        for _ in 0..600 {
            if browser.get("/signin/provider").await.status == 303 {
                return harness;
            }
            harness.pass(Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the provider is not found");
    }
}

/// A browser that was sent to the provider, and the state and nonce that it took along.
async fn asked(harness: &Harness, issuer: &Issuer) -> (Browser, String) {
    harness.pass(Duration::from_secs(30));
    let mut browser = Browser::new(harness);
    let page = browser.get("/signin/provider?to=/").await;
    assert_eq!(page.status, 303, "{}", page.text);
    let url = url::Url::parse(page.header("location")).unwrap();
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["redirect_uri"], "https://console.example/signin/callback");
    let now = wall() / 1000;
    let mut fake = issuer.fake.lock().unwrap();
    fake.challenge.clone_from(&query["code_challenge"]);
    fake.sign = true;
    fake.header = json!({ "alg": "ES256", "kid": "k" });
    fake.claims = json!({
        "iss": issuer.url, "sub": "1234", "aud": "enforcer", "nonce": query["nonce"],
        "iat": now, "exp": now + 300, "email": "Ann@Example.org", "email_verified": true,
        "groups": ["all", "sec"],
    });
    drop(fake);
    (browser, query["state"].clone())
}

async fn back(browser: &mut Browser, state: &str) -> Page {
    browser.get(&format!("/signin/callback?code=good&state={state}")).await
}

#[tokio::test]
async fn somebody_comes_in_with_the_role_of_the_group() {
    let issuer = Issuer::start().await;
    let harness = issuer.console().await;
    let (mut browser, state) = asked(&harness, &issuer).await;
    let page = back(&mut browser, &state).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let queue = browser.get("/").await;
    assert!(queue.text.contains("ann@example.org") && queue.text.contains("reviewer"));
    let member = harness.server().core().store.members().await.unwrap();
    assert_eq!(member[0].groups, ["ops"]);
    // What is not in the token is asked for, and taken only of the same person.
    let (mut browser, state) = asked(&harness, &issuer).await;
    {
        let mut fake = issuer.fake.lock().unwrap();
        fake.claims.as_object_mut().unwrap().remove("groups");
        fake.info = json!({ "sub": "other", "groups": ["it"] });
    }
    assert_eq!(back(&mut browser, &state).await.status, 403);
    let (mut browser, state) = asked(&harness, &issuer).await;
    {
        let mut fake = issuer.fake.lock().unwrap();
        fake.claims.as_object_mut().unwrap().remove("groups");
        fake.info = json!({ "sub": "1234", "groups": ["sec", "it"] });
    }
    assert_eq!(back(&mut browser, &state).await.status, 200);
    assert!(browser.get("/members").await.text.contains("ann@example.org"), "an admin now");
    let accepted = harness.audited("signin.accepted").await;
    assert_eq!(accepted.len(), 2);
    assert!(accepted[0].detail.contains("sub=1234"));
}

#[tokio::test]
async fn a_token_that_is_not_exactly_ours_lets_nobody_in() {
    let issuer = Issuer::start().await;
    let harness = issuer.console().await;
    let now = wall() / 1000;
    let lies: [(&str, &str, Value); 11] = [
        ("nonce", "nonce", json!("another")),
        ("no nonce", "nonce", Value::Null),
        ("audience", "aud", json!("somebody-else")),
        ("more audiences", "aud", json!(["enforcer", "somebody-else"])),
        ("issuer", "iss", json!("https://evil.example")),
        ("expired", "exp", json!(now - 10)),
        ("old", "iat", json!(now - 3600)),
        ("unverified address", "email_verified", json!(false)),
        ("no name", "email", json!("not a name")),
        ("the local admin's name", "email", json!("local-admin")),
        ("no group", "groups", json!(["all"])),
    ];
    let count = lies.len();
    for (what, claim, value) in lies {
        let (mut browser, state) = asked(&harness, &issuer).await;
        issuer.fake.lock().unwrap().claims[claim] = value;
        let page = back(&mut browser, &state).await;
        assert_eq!(page.status, 403, "{what}");
        assert!(!browser.cookies.contains_key("__Host-enforcer"), "{what}");
    }
    // Not signed, signed by somebody else, or with what everybody may know.
    for alg in ["none", "HS256", "ES256"] {
        let (mut browser, state) = asked(&harness, &issuer).await;
        {
            let mut fake = issuer.fake.lock().unwrap();
            fake.header = json!({ "alg": alg, "kid": "k" });
            fake.sign = alg == "HS256";
        }
        assert_eq!(back(&mut browser, &state).await.status, 403, "{alg}");
    }
    let (mut browser, state) = asked(&harness, &issuer).await;
    let real = std::mem::replace(&mut issuer.fake.lock().unwrap().key, new_key());
    assert_eq!(back(&mut browser, &state).await.status, 403, "another key");
    issuer.fake.lock().unwrap().key = real;
    assert_eq!(harness.audited("signin.refused").await.len(), count + 4);
    let (mut browser, state) = asked(&harness, &issuer).await;
    assert_eq!(back(&mut browser, &state).await.status, 200, "the truth is believed");
}

#[tokio::test]
async fn an_answer_is_for_the_browser_that_asked_and_counts_once() {
    let issuer = Issuer::start().await;
    let harness = issuer.console().await;
    let (mut browser, state) = asked(&harness, &issuer).await;
    let mut stranger = Browser::new(&harness);
    assert_eq!(back(&mut stranger, &state).await.status, 403, "no cookie");
    let (mut other, _) = asked(&harness, &issuer).await;
    assert_eq!(back(&mut other, &state).await.status, 403, "another browser's state");
    assert!(!other.cookies.contains_key("__Host-enforcer-signin"), "and it begins again");
    assert_eq!(issuer.fake.lock().unwrap().exchanged, 0, "nothing was asked for it");
    let (mut browser2, state2) = asked(&harness, &issuer).await;
    let kept = browser2.cookies.clone();
    assert_eq!(back(&mut browser2, &state2).await.status, 200);
    let mut replayed = Browser::new(&harness);
    replayed.cookies = kept;
    assert_eq!(back(&mut replayed, &state2).await.status, 403, "the same answer again");
    assert!(!replayed.cookies.contains_key("__Host-enforcer"));
    // A code that is not for this verifier.
    assert_eq!(back(&mut browser, &state).await.status, 403);
    let denied = browser.get("/signin/callback?error=access_denied").await;
    assert_eq!(denied.status, 403);
}

#[tokio::test]
async fn without_the_provider_the_server_runs_and_nobody_new_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("s"), "secret").unwrap();
    let harness = Harness::start_with(&format!(
        "[console]\nlisten = \"127.0.0.1:0\"\nurl = \"https://console.example\"\n\
         [console.oidc]\nname = \"Example\"\nissuer = \"https://localhost:1\"\n\
         client_id = \"enforcer\"\nclient_secret_file = {:?}\n",
        dir.path().join("s")
    ))
    .await;
    let mut browser = Browser::new(&harness);
    assert_eq!(browser.get("/signin").await.status, 200);
    assert_eq!(browser.get("/signin/provider").await.status, 403);
    assert!(harness.reviewer("ann", &["ops"]).await.list(v1::ListRequest::default()).await.is_ok());
}
