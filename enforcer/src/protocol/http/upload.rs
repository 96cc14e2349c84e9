//! A streamed request body on its way up: recorded piece by piece before it is sent.

use super::body::{Feed, Piece};
use crate::flow::{Ledger, Outcome};
use crate::record::RecordError;
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// A request body that streams.
#[derive(Debug)]
pub(super) struct Upload {
    from: Incoming,
    feed: Feed,
}

impl Upload {
    /// Takes from the client and feeds the upstream's request.
    pub(super) fn new(from: Incoming, feed: Feed) -> Self {
        Self { from, feed }
    }

    /// Carries the body up to its end, or until the upstream wants no more of it. An error ends
    /// the operation. Not cancel safe: what was taken is lost.
    pub(super) async fn run(&mut self, ledger: &Ledger) -> Result<(), Outcome> {
        loop {
            let frame = self.from.frame().await;
            let (piece, ended) = match frame {
                None => {
                    record(ledger, Bytes::new(), true).await?;
                    (Piece::End(None), true)
                }
                Some(Err(error)) => {
                    return Err(Outcome { error: error.to_string(), ..Outcome::cancelled() });
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        record(ledger, data.clone(), false).await?;
                        ledger.sent(data.len());
                        (Piece::Data(data), false)
                    }
                    // What stands in trailers was neither judged nor recorded, and gRPC clients
                    // send none; an empty section is only an end.
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) if trailers.is_empty() => {
                            record(ledger, Bytes::new(), true).await?;
                            (Piece::End(None), true)
                        }
                        _ => {
                            return Err(Outcome::cut(
                                "body-trailers",
                                "the request body ends with trailers, which nobody judged",
                            ));
                        }
                    },
                },
            };
            // An upstream that answered early wants no more of the body; its answer still counts.
            if self.feed.send(piece).await.is_err() || ended {
                return Ok(());
            }
        }
    }
}

async fn record(ledger: &Ledger, data: Bytes, last: bool) -> Result<(), Outcome> {
    let body = v1::Body { data, last, ..v1::Body::default() };
    ledger
        .append([Kind::RequestBody(body)])
        .await
        .map_err(|error: RecordError| Outcome::cut(error.code(), error))
}
