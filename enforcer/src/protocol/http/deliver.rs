//! A response on its way to the client: masked, recorded, then delivered, piece by piece.

use super::body::{self, Out, Piece};
use super::headers;
use super::operation::Flaw;
use super::refuse;
use crate::decide::Permit;
use crate::flow::{Ledger, Outcome};
use crate::mask::{BodyMasker, MaskPlan, Report};
use crate::protocol::Hash;
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

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
}

/// Checks and masks a response's head. A flaw means that nothing of it may be delivered.
pub(super) fn prepare(
    response: Response<Incoming>,
    request: &Parts,
    permit: &Permit,
    ledger: &Ledger,
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
    Ok(Answer { head, rest: Rest { body, masks, masker, bodiless } })
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
    /// Delivers it. Dropped halfway it breaks the client's connection off.
    pub(super) async fn deliver(
        self,
        reply: oneshot::Sender<Response<Out>>,
        version: Version,
        hash: &Hash,
        ledger: &Ledger,
    ) -> Outcome {
        let Self { head, mut rest } = self;
        let recorded = Kind::ResponseHead(refuse::recorded(&head, version, false, hash));
        let gathered = match body::gather(&mut rest.body, SMALL, AT_ONCE).await {
            Ok(gathered) => gathered,
            Err(error) => return Outcome::failed("upstream-broke", error),
        };
        if let Err(outcome) = rest.expected(&gathered.data) {
            return outcome;
        }
        let mut first = Vec::new();
        let masked = match gathered.ended {
            true => rest.mask_last(&gathered.data, &mut first, ledger),
            false => rest.mask(&gathered.data, &mut first),
        };
        if let Err(error) = masked {
            return Outcome::cut("unmaskable", error);
        }
        let first = match rest.masker {
            Some(_) => Bytes::from(first),
            None => gathered.data,
        };
        ledger.delivered(first.len());
        if gathered.ended && gathered.trailers.is_none() {
            let last = v1::Body { data: first.clone(), last: true, ..v1::Body::default() };
            if let Err(error) = ledger.append([recorded, Kind::ResponseBody(last)]).await {
                return Outcome::cut(error.code(), error);
            }
            let response = Response::from_parts(head, Out::whole(first));
            return match reply.send(response) {
                Ok(()) => Outcome::complete(),
                Err(_) => Outcome::cancelled(),
            };
        }
        let length = match rest.masker {
            Some(_) => None,
            None => rest.body.size_hint().exact().map(|left| left + first.len() as u64),
        };
        let (feed, out) = Out::stream(length);
        let mut events = vec![recorded];
        if !first.is_empty() {
            events.push(piece(first.clone(), false));
        }
        if let Err(error) = ledger.append(events).await {
            return Outcome::cut(error.code(), error);
        }
        let response = Response::from_parts(head, out);
        if reply.send(response).is_err() {
            return Outcome::cancelled();
        }
        if !first.is_empty() && feed.send(Piece::Data(first)).await.is_err() {
            return Outcome::cancelled();
        }
        match gathered.ended {
            true => rest.finish(feed, gathered.trailers, ledger, hash).await,
            false => rest.stream(feed, ledger, hash).await,
        }
    }
}

impl Rest {
    async fn stream(mut self, feed: body::Feed, ledger: &Ledger, hash: &Hash) -> Outcome {
        let mut trailers = None;
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = feed.closed() => return Outcome::cancelled(),
            };
            let data = match frame {
                None => break,
                Some(Err(error)) => return Outcome::failed("upstream-broke", error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        trailers = frame.into_trailers().ok();
                        break;
                    }
                },
            };
            if let Err(outcome) = self.expected(&data) {
                return outcome;
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
        }
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
    fn expected(&self, data: &[u8]) -> Result<(), Outcome> {
        match self.bodiless && !data.is_empty() {
            true => Err(Outcome::failed("upstream-broke", "a body where there must be none")),
            false => Ok(()),
        }
    }

    fn mask(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), crate::mask::Unmaskable> {
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
    ) -> Result<(), crate::mask::Unmaskable> {
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
