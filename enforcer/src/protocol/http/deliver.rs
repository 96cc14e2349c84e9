//! A response on its way to the client: masked, recorded, then delivered, piece by piece.
//!
//! The head of a masked response waits for the first piece that the masker gives out, so that one
//! that cannot be masked is refused in words; a stream of events is the exception. What turns out
//! to be unreadable later is broken off.

use super::body::{self, Gathered, Out, Piece};
use super::exchange::closed;
use super::headers;
use super::operation::Flaw;
use super::refuse;
use crate::decide::Permit;
use crate::flow::{Ledger, Outcome};
use crate::mask::{BodyMasker, MaskPlan, Report, Unmaskable};
use crate::protocol::Hash;
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A response of known length up to this is delivered in one piece, if it comes at once.
const SMALL: u64 = 64 << 10;
/// How long the rest of a small response is waited for.
const AT_ONCE: Duration = Duration::from_millis(3);

/// A response that may be delivered.
pub(super) struct Answer {
    head: http::response::Parts,
    rest: Rest,
}

/// What comes after the head.
struct Rest {
    body: Incoming,
    masks: Arc<MaskPlan>,
    masker: Option<BodyMasker>,
    /// The request or the status says that there is none; over HTTP/2 one may come all the same.
    bodiless: bool,
    /// How long the head waits for the first masked piece. Past it the head goes out alone, and a
    /// body that then cannot be masked is broken off.
    patience: Duration,
}

/// Checks and masks a response's head, which may wait so long for the first piece of the body. A
/// flaw means that nothing of it may be delivered.
pub(super) fn prepare(
    response: Response<Incoming>,
    request: &Parts,
    permit: &Permit,
    ledger: &Ledger,
    patience: Duration,
) -> Result<Answer, Flaw> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Flaw::new("upgrade-refused", "the upstream answered 101"));
    }
    // The version of this hop is hyper's to write (RFC 9110 section 2.5).
    head.version = Version::HTTP_11;
    // Among them is the reason phrase, text that no rule reads and no record has; clients have no
    // use for it (RFC 9112 section 4).
    head.extensions.clear();
    let masks = permit.masks();
    headers::strip_response(&mut head.headers);
    let mut masker = None;
    let bodiless = request.method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !masks.is_empty() {
        if !bodiless && !body.is_end_stream() {
            let made = masks.body(
                joined(&head.headers, &header::CONTENT_TYPE).as_deref(),
                joined(&head.headers, &header::CONTENT_ENCODING).as_deref(),
                head.status.as_u16(),
            );
            masker = Some(made.map_err(|error| Flaw::new("unmaskable", error.to_string()))?);
        }
        if head.status != StatusCode::NOT_MODIFIED {
            headers::strip_body_description(&mut head.headers);
        }
        let mut report = Report::default();
        masks.headers(&mut head.headers, &mut report);
        ledger.masked(&report.counts);
    }
    Ok(Answer { head, rest: Rest { body, masks, masker, bodiless, patience } })
}

/// A header's lines as one value; one that is no text is given as it is, so that it is not read
/// as missing.
fn joined(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .map(String::from_utf8_lossy)
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

impl Answer {
    /// Delivers it. A flaw means that nothing was delivered and `reply` still waits; dropped
    /// halfway it breaks the client's connection off.
    pub(super) async fn deliver(
        self,
        reply: &mut Option<oneshot::Sender<Response<Out>>>,
        version: Version,
        hash: &Hash,
        ledger: &Ledger,
    ) -> Result<Outcome, Flaw> {
        let Self { mut head, mut rest } = self;
        let begun = tokio::select! {
            biased;
            () = closed(reply) => return Ok(Outcome::cancelled()),
            begun = rest.begin(ledger) => begun?,
        };
        let Gathered { data: first, trailers, ended } = begun;
        let whole = ended && trailers.is_none();
        let length = match rest.masker {
            _ if whole => Some(first.len() as u64),
            Some(_) => None,
            None => rest.body.size_hint().exact().map(|left| left + first.len() as u64),
        };
        if let Some(length) = length.filter(|_| !rest.bodiless) {
            refuse::set_length(&mut head.headers, length);
        }
        let mut events = vec![Kind::ResponseHead(refuse::recorded(&head, version, false, hash))];
        if whole || !first.is_empty() {
            events.push(piece(first.clone(), whole));
        }
        ledger.append(events).await.map_err(|error| Flaw::new(error.code(), error.to_string()))?;
        ledger.delivered(first.len());
        let Some(reply) = reply.take() else {
            return Ok(Outcome::cancelled());
        };
        if whole {
            return Ok(match reply.send(Response::from_parts(head, Out::whole(first))) {
                Ok(()) => Outcome::complete(),
                Err(_) => Outcome::cancelled(),
            });
        }
        let (feed, out) = Out::stream(length);
        if reply.send(Response::from_parts(head, out)).is_err()
            || !first.is_empty() && feed.send(Piece::Data(first)).await.is_err()
        {
            return Ok(Outcome::cancelled());
        }
        Ok(match ended {
            true => rest.finish(feed, trailers, ledger, hash).await,
            false => rest.stream(feed, ledger, hash).await,
        })
    }
}

impl Rest {
    /// What the body begins with, masked: what of a small one is there at once, and of one that
    /// may turn out to be unreadable at least the first piece, so that it can still be refused.
    async fn begin(&mut self, ledger: &Ledger) -> Result<Gathered, Flaw> {
        let broke = |error: hyper::Error| Flaw::new("upstream-broke", error.to_string());
        let unmaskable = |error: Unmaskable| Flaw::new("unmaskable", error.to_string());
        let mut begun = body::gather(&mut self.body, SMALL, AT_ONCE).await.map_err(broke)?;
        self.expected(&begun.data).map_err(|why| Flaw::new("upstream-broke", why))?;
        let Some(head_waits) = self.masker.as_ref().map(BodyMasker::head_waits) else {
            return Ok(begun);
        };
        let mut masked = Vec::new();
        let deadline = Instant::now() + self.patience;
        loop {
            let read = std::mem::take(&mut begun.data);
            if begun.ended {
                self.mask_last(&read, &mut masked, ledger).map_err(unmaskable)?;
                break;
            }
            self.mask(&read, &mut masked).map_err(unmaskable)?;
            if !head_waits || !masked.is_empty() {
                break;
            }
            match tokio::time::timeout_at(deadline, body::next(&mut self.body)).await {
                Err(_) => break,
                Ok(next) => match next.map_err(broke)? {
                    Piece::Data(data) => begun.data = data,
                    Piece::End(trailers) => {
                        begun.trailers = trailers;
                        begun.ended = true;
                    }
                },
            }
        }
        begun.data = masked.into();
        Ok(begun)
    }

    async fn stream(mut self, feed: body::Feed, ledger: &Ledger, hash: &Hash) -> Outcome {
        let trailers = loop {
            let next = tokio::select! {
                biased;
                next = body::next(&mut self.body) => next,
                () = feed.closed() => return Outcome::cancelled(),
            };
            let data = match next {
                Err(error) => return Outcome::failed("upstream-broke", error),
                Ok(Piece::End(trailers)) => break trailers,
                Ok(Piece::Data(data)) => data,
            };
            if let Err(why) = self.expected(&data) {
                return Outcome::failed("upstream-broke", why);
            }
            let data = match self.masker {
                None => data,
                Some(_) => {
                    let mut out = Vec::with_capacity(data.len());
                    if let Err(error) = self.mask(&data, &mut out) {
                        return Outcome::cut("unmaskable", error);
                    }
                    Bytes::from(out)
                }
            };
            if let Err(outcome) = hand_over(&feed, data, ledger).await {
                return outcome;
            }
        };
        if self.masker.is_some() {
            let mut out = Vec::new();
            if let Err(error) = self.mask_last(&[], &mut out, ledger) {
                return Outcome::cut("unmaskable", error);
            }
            if let Err(outcome) = hand_over(&feed, Bytes::from(out), ledger).await {
                return outcome;
            }
        }
        self.finish(feed, trailers, ledger, hash).await
    }

    async fn finish(
        self,
        feed: body::Feed,
        trailers: Option<HeaderMap>,
        ledger: &Ledger,
        hash: &Hash,
    ) -> Outcome {
        let trailers = trailers.map(|mut trailers| {
            headers::strip_response(&mut trailers);
            let mut report = Report::default();
            self.masks.headers(&mut trailers, &mut report);
            ledger.masked(&report.counts);
            ledger.trailers(refuse::recorded_headers(&trailers, hash));
            trailers
        });
        if let Err(error) = ledger.append([piece(Bytes::new(), true)]).await {
            return Outcome::cut(error.code(), error);
        }
        match feed.send(Piece::End(trailers)).await {
            Ok(()) => Outcome::complete(),
            Err(_) => Outcome::cancelled(),
        }
    }

    /// No mask was made for a body that must not be there.
    fn expected(&self, data: &[u8]) -> Result<(), &'static str> {
        match self.bodiless && !data.is_empty() {
            true => Err("a body where there must be none"),
            false => Ok(()),
        }
    }

    fn mask(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match &mut self.masker {
            Some(masker) => masker.push(data, out),
            None => Ok(()),
        }
    }

    fn mask_last(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        ledger: &Ledger,
    ) -> Result<(), Unmaskable> {
        let Some(masker) = &mut self.masker else {
            return Ok(());
        };
        masker.push(data, out)?;
        masker.finish(out)?;
        ledger.masked(&masker.report().counts);
        Ok(())
    }
}

/// Records a piece, then hands it to the client.
async fn hand_over(feed: &body::Feed, data: Bytes, ledger: &Ledger) -> Result<(), Outcome> {
    if data.is_empty() {
        return Ok(());
    }
    ledger
        .append([piece(data.clone(), false)])
        .await
        .map_err(|error| Outcome::cut(error.code(), error))?;
    ledger.delivered(data.len());
    feed.send(Piece::Data(data)).await.map_err(|_| Outcome::cancelled())
}

fn piece(data: Bytes, last: bool) -> Kind {
    Kind::ResponseBody(v1::Body { data, last, ..v1::Body::default() })
}
