//! A browser for tests: cookies, TLS, forms as the pages make them.

use super::*;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio_rustls::TlsConnector;

/// A browser.
pub(super) struct Browser {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    pub(super) cookies: BTreeMap<String, String>,
}

/// What it was answered.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) text: String,
}

impl Page {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of the first hidden field of that name.
    pub(super) fn hidden(&self, name: &str) -> Option<&str> {
        let start = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start)?;
        rest.split('"').next()
    }
}

impl Browser {
    pub(super) fn new(harness: &Harness) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(harness.server().core().ca.certificate().clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = harness.server().console.unwrap();
        Self { address, tls: Arc::new(tls), cookies: BTreeMap::new() }
    }

    pub(super) fn origin(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Sends a request and gives its answer as it begins.
    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: String,
    ) -> http::Response<hyper::body::Incoming> {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request
            .header("host", format!("localhost:{}", self.address.port()))
            .header("cookie", cookies.join("; "))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    pub(super) async fn ask(&mut self, request: http::request::Builder, body: String) -> Page {
        let (head, body) = self.send(request, body).await.into_parts();
        for set in head.headers.get_all("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(set.contains("; Secure; HttpOnly; SameSite=") && set.contains("Path=/;"));
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = body.collect().await.unwrap().to_bytes().to_vec();
        let text = String::from_utf8(text).unwrap();
        Page { status: head.status.as_u16(), headers: head.headers, text }
    }

    pub(super) async fn get(&mut self, path: &str) -> Page {
        self.ask(http::Request::get(path), String::new()).await
    }

    /// Sends a form as a page of this origin would.
    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let origin = self.origin();
        self.post_from(path, fields, &origin).await
    }

    pub(super) async fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        origin: &str,
    ) -> Page {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = http::Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", origin);
        self.ask(request, body.finish()).await
    }
}
