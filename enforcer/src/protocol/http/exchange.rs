//! One HTTP request on its way through the spine.

use super::body::{self, Out};
use super::operation::{self, Flaw, Where};
use super::refuse::{self, Manner};
use super::upload::Upload;
use super::upstream::{ConnectError, Lease, Peer, SendError};
use super::{deliver, headers};
use crate::decide::{Denial, Permit, Room};
use crate::flow::{Asked, Flow, Ledger, Outcome, Place, STREAMED};
use crate::mask;
use crate::operation::Operation;
use crate::record::convert;
use crate::session::Exchange;
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A body of known length up to this is read before the decision, whatever the verdict.
const SMALL: u64 = 64 << 10;
/// How often an unsent request is tried on another connection.
const MAX_TRIES: usize = 3;

/// One HTTP request.
#[derive(Debug)]
pub(super) struct HttpExchange {
    place: Arc<Place>,
    tls: bool,
    parts: Parts,
    body: Option<Incoming>,
    /// Taken when the answer is delivered.
    reply: Option<oneshot::Sender<Response<Out>>>,
    manner: Manner,
    hash: crate::protocol::Hash,
    /// How long the first piece of a masked answer is waited for.
    patience: Duration,
    asked: Option<Arc<Asked>>,
    /// The room that a body takes that was read before the decision.
    room: Option<Room>,
}

impl HttpExchange {
    /// A request that came over a connection to `place`; its answer goes into `reply`.
    pub(super) fn new(
        flow: &Flow,
        place: Place,
        tls: bool,
        request: Request<Incoming>,
        reply: oneshot::Sender<Response<Out>>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            manner: Manner::of(&parts),
            patience: Duration::from_millis(flow.inputs.config.limits.handshake_ms),
            hash: crate::protocol::Hash::new(&flow.inputs.recorder),
            body: Some(body),
            asked: None,
            room: None,
            place: Arc::new(place),
            tls,
            parts,
            reply: Some(reply),
        }
    }

    /// Reads the head as an operation.
    fn read(&mut self, flow: &Flow) -> (operation::Read, Option<Flaw>) {
        let bundle = flow.inputs.decider.bundle();
        // A plain connection to an address may name the target's host in `Host` only.
        if let Ok(authority) = super::authority::of_request(&self.parts.uri, &self.parts.headers)
            && let Some(place) = self.place.named(&authority.host, &bundle)
        {
            self.place = Arc::new(place);
        }
        let target = self.place.target(&bundle);
        let injected: Vec<HeaderName> = target
            .map(|target| target.inject.iter().map(|header| header.name.clone()).collect())
            .unwrap_or_default();
        let at = Where {
            target: target.map_or("", |target| target.name.as_str()),
            name: &self.place.name,
            port: self.place.port,
            tls: self.tls,
            grpc: target.is_some_and(|target| target.grpc),
            ignored: target.map_or(&[], |target| target.ignore_headers.as_slice()),
            injected: &injected,
        };
        operation::read(&self.parts, at, &|secret| self.hash.of(secret))
    }

    /// Adds what is known of the body; reads all of it where that is needed.
    async fn read_body(&mut self, flow: &Flow, asked: &mut Asked) -> Result<(), Denial> {
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        if body.is_end_stream() {
            set_body(asked, &Bytes::new());
            return Ok(());
        }
        let limits = &flow.inputs.config.limits;
        let length = body.size_hint().exact();
        let mut streamed = asked.clone();
        for operation in std::iter::once(&mut streamed.operation).chain(&mut streamed.readings) {
            mark_streamed(operation, length);
        }
        let patience = Duration::from_millis(limits.handshake_ms);
        let agent = &flow.principal.agent;
        let decider = &flow.inputs.decider;
        let (limit, room) = match decider.wants_body(&flow.principal, &self.place, &streamed) {
            true => {
                let limit = limits.approval_body;
                let most = length.and_then(|length| usize::try_from(length).ok());
                let most = most.map_or(limit, |most| most.min(limit));
                let room = tokio::select! {
                    biased;
                    () = closed(&mut self.reply) => None,
                    room = tokio::time::timeout(patience, decider.holds().room(agent, most)) => {
                        room.ok().and_then(Result::ok)
                    }
                };
                if room.is_none() {
                    *asked = streamed;
                    let why = "too many request bodies wait for a decision; send it again later";
                    return Err(Denial::new("held-limit", why));
                }
                (limit, room)
            }
            // A small body is read while there is room: it can then be judged, and sent again.
            false => {
                let small = length.filter(|length| *length <= SMALL);
                let small = small.and_then(|length| usize::try_from(length).ok());
                let room = small.and_then(|length| decider.holds().try_room(agent, length));
                (usize::MAX, room)
            }
        };
        if room.is_none() {
            *asked = streamed;
            return Ok(());
        }
        self.room = room;
        let read = tokio::select! {
            biased;
            () = closed(&mut self.reply) => {
                Err(Denial::new("cancelled", "the client closed its connection"))
            }
            read = body::read_whole(body, limit, patience) => read.map_err(|error| {
                Denial::new(error.code(), error.to_string())
            }),
        };
        match read {
            Ok(bytes) => {
                set_body(asked, &bytes);
                self.body = None;
                Ok(())
            }
            Err(denial) => {
                *asked = streamed;
                Err(denial)
            }
        }
    }

    /// The request as it is sent: made from what was judged, never from raw bytes.
    fn request(
        &self,
        permit: &Permit,
        http2: bool,
    ) -> Result<(http::request::Builder, http::HeaderMap), String> {
        let operation = &permit.asked().operation;
        let authority = match operation.get("http.authority") {
            Some(crate::operation::Fact::Text(authority)) => authority.as_str(),
            _ => return Err("the operation has no authority".to_owned()),
        };
        let mut sent = self.parts.headers.clone();
        headers::strip_hop_by_hop(&mut sent);
        sent.remove(header::HOST);
        let target = permit.target();
        // The permit may be of a newer policy than the one that the head was read under: what was
        // left out of the operation then, as ignored or replaced, is judged now or does not leave.
        let unjudged = sent.keys().find(|name| {
            headers::part(name, &target.ignore_headers) == headers::Part::Fact
                && !target.inject.iter().any(|header| header.name == *name)
                && operation.get(&format!("http.header.{name}")).is_none()
        });
        if let Some(name) = unjudged {
            return Err(format!("policy changed, and header {name} was not judged under it"));
        }
        for header in &target.inject {
            let value = header.value().map_err(|error| error.to_string())?;
            sent.insert(header.name.clone(), value);
        }
        if !permit.masks().is_empty() {
            sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(mask::ACCEPT_ENCODING));
        }
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let uri = if http2 {
            let scheme = if self.tls { "https" } else { "http" };
            Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build()
        } else {
            join_cookies(&mut sent);
            let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
            sent.insert(header::HOST, host);
            Uri::builder().path_and_query(target).build()
        };
        let uri = uri.map_err(|error| error.to_string())?;
        Ok((Request::builder().method(self.parts.method.clone()).uri(uri), sent))
    }

    /// Answers with what the daemon itself has to say.
    async fn answer(
        mut self,
        response: Response<Out>,
        ledger: &Ledger,
        outcome: Outcome,
    ) -> Outcome {
        let (parts, body) = response.into_parts();
        let head = refuse::recorded(&parts, self.parts.version, true, &self.hash);
        let mut events = vec![Kind::ResponseHead(head)];
        if let Out::Whole(Some(data)) = &body {
            let data = data.clone();
            ledger.delivered(data.len());
            events.push(Kind::ResponseBody(v1::Body { data, last: true, ..v1::Body::default() }));
        }
        let recorded = ledger.append(events).await;
        // A refusal that could not be recorded is told all the same: nothing has left.
        let response = Response::from_parts(parts, body);
        let delivered = self.reply.take().is_some_and(|reply| reply.send(response).is_ok());
        match (recorded, delivered) {
            (Err(error), _) => Outcome::failed(error.code(), error),
            (Ok(()), false) => Outcome::cancelled(),
            (Ok(()), true) => outcome,
        }
    }

    async fn failed(self, code: &'static str, why: &str, ledger: &Ledger) -> Outcome {
        let Some(asked) = self.asked.clone() else {
            return Outcome::failed(code, why);
        };
        let detail = public(code);
        let response = refuse::failed(self.manner, code, detail, &asked);
        self.answer(response, ledger, Outcome::failed(code, why)).await
    }
}

impl Exchange for HttpExchange {
    fn place(&self) -> &Arc<Place> {
        &self.place
    }

    async fn ask(&mut self, flow: &Flow) -> (Arc<Asked>, Option<Denial>) {
        let (read, flaw) = self.read(flow);
        let notes = read.notes.iter().map(|(name, value)| convert::fact(name, value)).collect();
        let mut asked = Asked::new(read.operation, read.readings, notes, &flow.principal);
        let denial = match flaw {
            Some(flaw) => Some(Denial::new(flaw.code, flaw.detail)),
            None => self.read_body(flow, &mut asked).await.err(),
        };
        asked.digest = asked.operation.digest(&flow.principal);
        let asked = Arc::new(asked);
        self.asked = Some(Arc::clone(&asked));
        (asked, denial)
    }

    async fn gone(&mut self) {
        closed(&mut self.reply).await;
    }

    async fn refuse(self, denial: &Denial, ledger: &Ledger) -> Outcome {
        let Some(asked) = self.asked.clone() else {
            return Outcome::refused(denial.code);
        };
        let response = refuse::denied(self.manner, denial, &asked);
        self.answer(response, ledger, Outcome::refused(denial.code)).await
    }

    async fn forward(mut self, permit: Permit, flow: &Flow, ledger: &Ledger) -> Outcome {
        let http2 = self.parts.version == Version::HTTP_2;
        let pool = &flow.inputs.pool;
        let mut ready = None;
        for tries in 1..=MAX_TRIES {
            let connected = tokio::select! {
                biased;
                () = closed(&mut self.reply) => return Outcome::cancelled(),
                connected = pool.connect(flow, &permit, self.tls, http2, tries == MAX_TRIES) => {
                    connected
                }
            };
            let mut lease = match connected {
                Ok(lease) => lease,
                Err(ConnectError { code, detail }) => {
                    return self.failed(code, &detail, ledger).await;
                }
            };
            let made = match ready.take() {
                // Nothing of it was written: it is the same request on another connection.
                Some(ready) => Ok(ready),
                None => self.build(&permit, lease.is_http2()),
            };
            let (request, upload) = match made {
                Ok(made) => made,
                Err(why) => return self.failed("not-sendable", &why, ledger).await,
            };
            if let Err(error) = ledger.append([Kind::Forwarded(forwarded(lease.peer()))]).await {
                return self.failed(error.code(), &error.to_string(), ledger).await;
            }
            match self.converse(&mut lease, request, upload, &permit, ledger).await {
                Sent::Done(outcome) => {
                    if outcome == Outcome::complete() {
                        pool.give_back(lease);
                    }
                    return outcome;
                }
                Sent::Failed(code, why) => return self.failed(code, &why, ledger).await,
                Sent::Unsent(request) => ready = Some((*request, None)),
            }
        }
        let why = "the upstream closed each connection before the request";
        self.failed("upstream-broke", why, ledger).await
    }
}

/// How a request on one connection went.
enum Sent {
    Done(Outcome),
    Failed(&'static str, String),
    Unsent(Box<Request<Out>>),
}

impl HttpExchange {
    fn build(
        &mut self,
        permit: &Permit,
        http2: bool,
    ) -> Result<(Request<Out>, Option<Upload>), String> {
        let (builder, headers) = self.request(permit, http2)?;
        // What was read before the decision is what is sent: the bytes that were hashed.
        let (body, upload) = match (&permit.asked().operation.body, self.body.take()) {
            (Some(bytes), _) => (Out::whole(bytes.clone()), None),
            (None, Some(from)) => {
                let (feed, out) = Out::stream(from.size_hint().exact());
                (out, Some(Upload::new(from, feed)))
            }
            (None, None) => return Err("the request body is gone".to_owned()),
        };
        let mut request = builder.body(body).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        Ok((request, upload))
    }

    /// Sends on one connection, streams the body up, and delivers the answer.
    async fn converse(
        &mut self,
        lease: &mut Lease,
        request: Request<Out>,
        upload: Option<Upload>,
        permit: &Permit,
        ledger: &Ledger,
    ) -> Sent {
        let whole = match request.body() {
            Out::Whole(Some(bytes)) => bytes.len(),
            _ => 0,
        };
        let reused = lease.reused();
        let mut going_up = upload.is_some();
        let mut up = Box::pin(carry(upload, ledger));
        let response = {
            let mut send = std::pin::pin!(lease.send(request));
            loop {
                tokio::select! {
                    biased;
                    response = &mut send => break response,
                    () = closed(&mut self.reply) => return Sent::Done(Outcome::cancelled()),
                    done = &mut up, if going_up => match done {
                        Ok(()) => going_up = false,
                        Err(outcome) => return Sent::Done(outcome),
                    }
                }
            }
        };
        let response = match response {
            Ok(response) => response,
            // A streamed body is half gone by now, so only a whole one is sent again.
            Err(SendError { unsent: Some(request), .. })
                if reused && matches!(request.body(), Out::Whole(_)) =>
            {
                return Sent::Unsent(Box::new(request));
            }
            Err(error) => return Sent::Failed("upstream-broke", error.error.to_string()),
        };
        ledger.sent(whole);
        let answer = match deliver::prepare(response, &self.parts, permit, ledger, self.patience) {
            Ok(answer) => answer,
            Err(flaw) => return Sent::Failed(flaw.code, flaw.detail),
        };
        let version = self.parts.version;
        let mut down = std::pin::pin!(answer.deliver(&mut self.reply, version, &self.hash, ledger));
        // The body may still go up while the answer comes down.
        loop {
            tokio::select! {
                biased;
                outcome = &mut down => return match outcome {
                    Ok(outcome) => Sent::Done(outcome),
                    Err(flaw) => Sent::Failed(flaw.code, flaw.detail),
                },
                done = &mut up, if going_up => match done {
                    Ok(()) => going_up = false,
                    Err(outcome) => return Sent::Done(outcome),
                }
            }
        }
    }
}

/// Carries a streamed body up, if there is one.
async fn carry(upload: Option<Upload>, ledger: &Ledger) -> Result<(), Outcome> {
    match upload {
        Some(mut upload) => upload.run(ledger).await,
        None => Ok(()),
    }
}

/// Ends when the client no longer waits for the answer.
pub(super) async fn closed(reply: &mut Option<oneshot::Sender<Response<Out>>>) {
    match reply {
        Some(reply) => reply.closed().await,
        None => std::future::pending().await,
    }
}

fn set_body(asked: &mut Asked, body: &Bytes) {
    for operation in std::iter::once(&mut asked.operation).chain(&mut asked.readings) {
        operation.with_body(body.clone());
    }
}

fn mark_streamed(operation: &mut Operation, length: Option<u64>) {
    operation.fact(STREAMED, "streamed");
    if let Some(length) = length.and_then(|length| i64::try_from(length).ok()) {
        operation.fact("body.length", length);
    }
}

/// HTTP/2 may split cookies over several lines; HTTP/1.1 must not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut http::HeaderMap) {
    let cookies: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn forwarded(peer: &Peer) -> v1::Forwarded {
    let tls = peer.tls.clone().unwrap_or_default();
    v1::Forwarded {
        upstream: peer.addr.to_string(),
        tls_version: tls.version,
        certificate_sha256: tls.certificate_sha256,
        alpn: tls.alpn,
        uninspected: false,
    }
}

/// What an agent is told of a failure: the kind of thing, not the inside of the host.
fn public(code: &str) -> &'static str {
    match code {
        "upstream-tls" => "the upstream's TLS could not be verified",
        "upstream-timeout" | "dial-timeout" => "the upstream did not answer in time",
        "upstream-broke" => "the upstream closed the connection",
        "address-forbidden" | "own-port" => "the name leads to an address that may not be reached",
        "unmaskable" => "the answer could not be read, and a mask applies to it, so it is withheld",
        "upgrade-refused" => "the upstream switched protocols, which is refused",
        "not-sendable" => {
            "the request could not be made (a credential may be missing, or policy just changed)"
        }
        "connection-refused" | "unreachable" => "the upstream cannot be reached",
        code if code.starts_with("record") || code.starts_with("transcript") => {
            "the operation could not be recorded on this host"
        }
        _ => "the upstream cannot be reached",
    }
}
