//! Asks the identity provider over https: one connection a request, no redirects, bounded.

use crate::server::trust;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest answer. Bytes.
const ANSWER: usize = 1 << 20;

/// Time for one question.
const TIME: Duration = Duration::from_secs(10);

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HttpError(String);

/// Asks over https.
pub(super) struct Https(Arc<ClientConfig>);

impl Https {
    /// Trusts the system's CAs and those of the file.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        Ok(Self(Arc::new(trust::client(ca, true)?)))
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn send(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        tokio::time::timeout(TIME, self.exchange(request))
            .await
            .map_err(|_| HttpError("no answer in time".to_owned()))?
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let fail = |what: &dyn std::fmt::Display| HttpError(what.to_string());
        let (mut head, body) = request.into_parts();
        let uri = std::mem::take(&mut head.uri);
        if uri.scheme_str() != Some("https") {
            return Err(fail(&format_args!("{uri} is not https")));
        }
        let authority = uri.authority().ok_or_else(|| fail(&"no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|error| fail(&error))?;
        let value = authority.as_str().parse().map_err(|_| fail(&"no host"))?;
        head.headers.insert(header::HOST, value);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>().map_err(|error| fail(&error))?;
        let port = authority.port_u16().unwrap_or(443);
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| fail(&e))?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let tls = connector.connect(name, tcp).await.map_err(|error| fail(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| fail(&error))?;
        let whole = async {
            let request = Request::from_parts(head, Full::new(Bytes::from(body)));
            let answer = sender.send_request(request).await.map_err(|error| fail(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER).collect().await.map_err(|error| fail(&error))?;
            Ok(Response::from_parts(head, body.to_bytes().to_vec()))
        };
        let mut whole = std::pin::pin!(whole);
        tokio::select! {
            biased;
            answer = &mut whole => answer,
            // Its end and the answer may come together.
            ended = connection => {
                ended.map_err(|error| fail(&error))?;
                whole.await
            }
        }
    }
}
