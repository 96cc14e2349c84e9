//! News by webhook: what arrives, what is tried again, and that nobody waits for it.

use super::*;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What a receiver got: headers and body.
type Got = (http::HeaderMap, Bytes);

/// An endpoint that answers with these statuses in turn, then with 200.
async fn receiver(statuses: &[u16]) -> (SocketAddr, mpsc::UnboundedReceiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (got, seen) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(statuses.to_vec()));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (got, answers) = (got.clone(), Arc::clone(&answers));
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (got, answers) = (got.clone(), Arc::clone(&answers));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = got.send((head.headers, body));
                    let mut left = answers.lock().unwrap();
                    let status = if left.is_empty() { 200 } else { left.remove(0) };
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), answer),
            );
        }
    });
    (address, seen)
}

/// An endpoint that takes connections and never says a word.
async fn hanging() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    address
}

fn hook(name: &str, address: SocketAddr, key: &tempfile::NamedTempFile, more: &str) -> String {
    let key = key.path().display();
    format!(
        "[[notify]]\nname = \"{name}\"\nurl = \"http://{address}/hook?x=1\"\n\
         secret_file = \"{key}\"\n{more}"
    )
}

fn key() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    file
}

/// Checks a message as docs/approvals.md says that a receiver does.
fn check((headers, body): &Got) -> serde_json::Value {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let timestamp = text("enforcer-timestamp");
    let age = wall() / 1000 - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("v1.{timestamp}.").as_bytes());
    mac.update(body);
    let signature = text("enforcer-signature");
    mac.verify_slice(&hex::decode(signature.strip_prefix("v1=").unwrap()).unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(value["delivery"], text("enforcer-delivery"));
    value
}

#[tokio::test]
async fn what_waits_is_told_signed_and_only_what_is_wanted() {
    let (address, mut seen) = receiver(&[]).await;
    let (slack, mut chat) = receiver(&[]).await;
    let (other, mut nothing) = receiver(&[]).await;
    let key = key();
    let events = "events = [\"approval.requested\", \"glass.broken\"]\n";
    let hooks = [
        hook("all", address, &key, ""),
        hook("chat", slack, &key, &format!("format = \"slack\"\n{events}")),
        hook("other", other, &key, "scopes = [\"t\"]\n"),
    ];
    let harness = Harness::start_with(&hooks.concat()).await;
    let approvals = harness.client("h1").await;
    let mut olaf = harness.reviewer("olaf", &["oncall"]).await;
    let rule = Scope { break_glass: vec!["oncall".to_owned()], ..scope("s", &["ops"], 2, 1) };
    let ask = ask("h1", "/pay", vec![rule]);
    let ticket = approvals.request(ask.clone()).await.unwrap();
    let value = check(&seen.recv().await.unwrap());
    assert_eq!(value["event"], "approval.requested");
    assert_eq!(value["approval"]["id"], ticket.id().to_string());
    assert_eq!(value["approval"]["resource"], "https://api.example/pay");
    let told = String::from_utf8(chat.recv().await.unwrap().1.to_vec()).unwrap();
    assert!(told.contains(&format!("enforcer approvals show {}", ticket.id())), "{told}");

    let glass = v1::DecideRequest { break_glass: true, ..vote(ticket.id(), ask.digest, true) };
    olaf.decide(glass).await.unwrap();
    let value = check(&seen.recv().await.unwrap());
    assert_eq!(value["event"], "glass.broken");
    assert_eq!(value["approval"]["votes"][0]["break_glass"], true);
    assert!(String::from_utf8_lossy(&chat.recv().await.unwrap().1).contains("GLASS"));
    assert!(nothing.try_recv().is_err(), "another scope");
    assert!(seen.try_recv().is_err(), "votes and grants are not asked for");
}

#[tokio::test]
async fn what_fails_is_tried_again_as_the_same_delivery() {
    let (address, mut seen) = receiver(&[503, 429]).await;
    let (refuses, mut refused) = receiver(&[400]).await;
    let key = key();
    let hooks = hook("failing", address, &key, "") + &hook("refusing", refuses, &key, "");
    let harness = Harness::start_with(&hooks).await;
    let mut daemon = harness.daemon("h1").await;
    daemon.request(wire("h1", "/pay")).await.unwrap();
    let mut tries = Vec::new();
    for _ in 0..3 {
        tries.push(check(&seen.recv().await.unwrap()));
    }
    assert!(tries.windows(2).all(|two| two[0] == two[1]), "the same each time");
    // A message that is not taken is not sent again; what comes after it is.
    check(&refused.recv().await.unwrap());
    daemon.request(wire("h1", "/other")).await.unwrap();
    let next = check(&refused.recv().await.unwrap());
    assert_ne!(next["delivery"], tries[0]["delivery"]);
    let metrics = &harness.server().core().metrics;
    assert_eq!(metrics.told_so_far("refusing", "failed"), 1);
}

#[tokio::test]
async fn endpoints_that_hang_or_are_gone_hold_nobody_up() {
    let hangs = hanging().await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (address, mut seen) = receiver(&[]).await;
    let key = key();
    let short = "timeout_seconds = 1\ntries = 1\n";
    let hooks = hook("hangs", hangs, &key, short)
        + &hook("gone", gone, &key, "")
        + &hook("well", address, &key, "");
    let harness = Harness::start_with(&hooks).await;
    let mut daemon = harness.daemon("h1").await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let started = Instant::now();
    for n in 0..20 {
        let path = format!("/{n}");
        let asked = daemon.request(wire("h1", &path)).await.unwrap().into_inner();
        let digest = asked.request.unwrap().digest;
        ann.decide(vote(&asked.id, &digest, true)).await.unwrap();
        let won = daemon.claim(claim(&asked.id, &digest)).await.unwrap().into_inner();
        assert!(won.granted);
        check(&seen.recv().await.unwrap());
    }
    // Were each to wait for the one that hangs, this took 20 seconds at least.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let metrics = &harness.server().core().metrics;
    while metrics.told_so_far("hangs", "failed") == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(metrics.told_so_far("well", "delivered"), 20);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_keeps_the_server_from_starting() {
    let weak = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(weak.path(), "short").unwrap();
    let good = key();
    let cases = [
        ("http://192.0.2.1/", good.path().display().to_string(), "https://"),
        ("https://user:secret@a.example/", good.path().display().to_string(), "https://"),
        ("https://a.example/", weak.path().display().to_string(), "fewer than 16"),
        ("https://a.example/", "/nowhere/key".to_owned(), "/nowhere/key"),
    ];
    for (url, key, why) in cases {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nnames = [\"localhost\"]\ndata_dir = \"data\"\n\
             [[notify]]\nname = \"n\"\nurl = \"{url}\"\nsecret_file = \"{key}\"\n"
        );
        let config = Config::parse(&text, &dir.path().join("server.toml")).unwrap();
        let error = start_at(config, None).await.unwrap_err().to_string();
        assert!(error.contains("notify `n`") && error.contains(why), "{error}");
        assert!(!error.contains("secret@"), "{error}");
    }
}
