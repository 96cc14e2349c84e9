use super::ca::{self, Ca, CaError};
use super::client::{Offer, Upstreams};
use super::server::{InterceptError, Interceptor};
use rustls::RootCertStore;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn interceptor(dir: &std::path::Path) -> Interceptor {
    Interceptor::new(Ca::load_or_create(dir).unwrap()).unwrap()
}

fn trusting(server: &Interceptor) -> Upstreams {
    let mut roots = RootCertStore::empty();
    roots.add(server.ca().certificate().clone()).unwrap();
    Upstreams::with_roots(roots).unwrap()
}

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn the_ca_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::load_or_create(dir.path()).unwrap();
    let again = Ca::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), again.ca_pem());
    let mode = std::fs::metadata(dir.path().join(ca::KEY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn half_a_pair_and_an_exposed_key_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    Ca::load_or_create(dir.path()).unwrap();
    let key = dir.path().join(ca::KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::Exposed { mode: 0o640, .. })));
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::Half { .. })));
}

#[test]
fn the_key_of_another_ca_is_an_error() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Ca::load_or_create(a.path()).unwrap();
    Ca::load_or_create(b.path()).unwrap();
    std::fs::copy(b.path().join(ca::KEY), a.path().join(ca::KEY)).unwrap();
    let error = Ca::load_or_create(a.path()).unwrap_err().to_string();
    assert!(error.contains("not the key of this certificate"), "{error}");
}

#[test]
fn the_warm_up_handshake_completes() {
    let dir = tempfile::tempdir().unwrap();
    super::warm_up(&interceptor(dir.path())).unwrap();
}

#[test]
fn leaves_are_cached_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = interceptor(dir.path());
    let one = server.config("a.example").unwrap();
    assert!(Arc::ptr_eq(&one, &server.config("a.example").unwrap()));
    assert!(!Arc::ptr_eq(&one, &server.config("b.example").unwrap()));
}

#[test]
fn the_bundle_ends_with_the_ca() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(dir.path()).unwrap();
    let strip = |pem: &str| pem.split_whitespace().collect::<String>();
    assert!(strip(&ca::bundle(&ca)).ends_with(&strip(ca.ca_pem())));
}

/// What a client that trusts the CA and connects to `connect` gets from a leaf for `leaf`.
async fn handshake(
    leaf: &'static str,
    connect: &'static str,
    offer: Offer,
) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let server = interceptor(dir.path());
    let client = trusting(&server);
    let (near, far) = tokio::io::duplex(16 << 10);
    let serving = tokio::spawn(async move {
        let mut tls = server.accept(far, leaf, LIMIT).await?;
        tls.write_all(b"hello").await.map_err(InterceptError::Handshake)?;
        tls.shutdown().await.map_err(InterceptError::Handshake)
    });
    let result = match client.connect(near, connect, offer).await {
        Ok((mut tls, agreed)) => {
            let mut text = String::new();
            tls.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
            assert_eq!(agreed.version, "TLSv1_3");
            assert_eq!(agreed.certificate_sha256.len(), 64);
            Ok(agreed.alpn)
        }
        Err(error) => Err(error.to_string()),
    };
    let _ = serving.await.unwrap();
    result
}

#[tokio::test]
async fn names_addresses_and_long_names_verify() {
    assert_eq!(handshake("a.example", "a.example", Offer::Http2).await.unwrap(), "h2");
    assert_eq!(handshake("a.example", "a.example", Offer::Http1).await.unwrap(), "http/1.1");
    assert_eq!(handshake("10.0.0.7", "10.0.0.7", Offer::Http1).await.unwrap(), "http/1.1");
    assert_eq!(handshake("fd00::7", "fd00::7", Offer::Http1).await.unwrap(), "http/1.1");
    let long = "a-label-that-is-long.another-label-that-is-long.and-a-third-one.example.com";
    assert_eq!(handshake(long, long, Offer::Http2).await.unwrap(), "h2");
}

#[tokio::test]
async fn another_name_is_refused_upstream() {
    let error = handshake("a.example", "b.example", Offer::Http2).await.unwrap_err();
    assert!(error.contains("TLS with the upstream failed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_handshake_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = interceptor(dir.path());
    let (_near, far) = tokio::io::duplex(64);
    let error = server.accept(far, "a.example", LIMIT).await.unwrap_err();
    assert!(matches!(error, InterceptError::Timeout), "{error}");
}

#[test]
fn an_unreadable_root_file_is_an_error() {
    let tls = crate::config::Tls {
        system_roots: false,
        extra_roots: vec!["/nonexistent.pem".into()],
        ..Default::default()
    };
    let error = Upstreams::new(&tls).unwrap_err().to_string();
    assert!(error.contains("/nonexistent.pem"), "{error}");
    let none = crate::config::Tls { extra_roots: vec![], ..tls };
    assert!(Upstreams::new(&none).unwrap_err().to_string().contains("no root certificate"));
}
