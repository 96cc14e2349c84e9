//! Bodies between two connections: streamed piece by piece, never whole.
//!
//! A streamed body that is dropped before its end is an error for whoever reads
//! it, so that hyper breaks the connection off: what was cut can never look
//! complete.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;

/// The body ended before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body was cut off")]
pub struct CutOff;

/// A body on its way out, to the client or to an upstream.
#[derive(Debug)]
pub enum Out {
    /// All of it, or what is left; `None` when nothing is.
    Whole(Option<Bytes>),
    /// Pieces as they come.
    Stream {
        /// The pieces; the last message is [`Piece::End`].
        pieces: mpsc::Receiver<Piece>,
        /// The bytes still to come, when they are known.
        left: Option<u64>,
        /// The end was seen.
        ended: bool,
    },
}

/// A part of a streamed body.
#[derive(Debug)]
pub enum Piece {
    /// Data.
    Data(Bytes),
    /// The end, with trailers when there are some.
    End(Option<HeaderMap>),
}

/// The end of a streamed body that puts pieces in.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Piece>);

impl Out {
    /// A body that is there as a whole.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body that is fed; `length` when it is known.
    pub fn stream(length: Option<u64>) -> (Feed, Self) {
        let (feed, pieces) = mpsc::channel(2);
        (Feed(feed), Self::Stream { pieces, left: length, ended: false })
    }
}

impl Feed {
    /// Hands a piece over; waits while the reader is behind.
    pub async fn send(&self, piece: Piece) -> Result<(), CutOff> {
        self.0.send(piece).await.map_err(|_| CutOff)
    }

    /// Ends when the reader is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Body for Out {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { ended: true, .. } => Poll::Ready(None),
            Self::Stream { pieces, left, ended } => {
                Poll::Ready(match ready!(pieces.poll_recv(cx)) {
                    Some(Piece::Data(bytes)) => {
                        if let Some(left) = left {
                            *left = left.saturating_sub(bytes.len() as u64);
                        }
                        Some(Ok(Frame::data(bytes)))
                    }
                    Some(Piece::End(trailers)) => {
                        *ended = true;
                        trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                    }
                    None => {
                        *ended = true;
                        Some(Err(CutOff))
                    }
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Self::Stream { left: None, .. } => SizeHint::default(),
        }
    }
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Larger than is read.
    #[error("the request body is larger than the {0} bytes that can be read before a decision")]
    TooLarge(usize),
    /// The client stopped sending.
    #[error("the request body did not arrive in time")]
    Timeout,
    /// It broke off, or was malformed.
    #[error("the request body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It ends with trailers, which no one would see before approving.
    #[error("the request body ends with trailers, which cannot be shown before a decision")]
    Trailers,
}

impl ReadError {
    /// The stable code for records and refusals.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "body-too-large",
            Self::Timeout => "body-timeout",
            Self::Broken(_) => "body-broken",
            Self::Trailers => "body-trailers",
        }
    }
}

/// All of a body may take so many times the patience that one piece has.
const WHOLE: u32 = 6;

/// Reads a body of at most `limit` bytes; no piece may take longer than `patience`, and all of
/// them no longer than six times that: whoever waits has room taken from others.
pub async fn read_whole(
    body: &mut Incoming,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge(limit));
    }
    let mut whole = bytes::BytesMut::new();
    let deadline = tokio::time::Instant::now() + patience * WHOLE;
    loop {
        let piece = tokio::time::Instant::now() + patience;
        let next = tokio::time::timeout_at(piece.min(deadline), body.frame());
        let Some(frame) = next.await.map_err(|_| ReadError::Timeout)?.transpose()? else {
            return Ok(whole.freeze());
        };
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > limit => {
                return Err(ReadError::TooLarge(limit));
            }
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) if frame.is_trailers() => return Err(ReadError::Trailers),
            Err(_) => {}
        }
    }
}

/// The next piece of a body, or its end. Cancel safe.
pub async fn next(body: &mut Incoming) -> Result<Piece, hyper::Error> {
    loop {
        let Some(frame) = body.frame().await.transpose()? else {
            return Ok(Piece::End(None));
        };
        match frame.into_data().map_err(Frame::into_trailers) {
            Ok(data) => return Ok(Piece::Data(data)),
            Err(Ok(trailers)) => return Ok(Piece::End(Some(trailers))),
            Err(Err(_)) => {}
        }
    }
}

/// The beginning of a body that is small and already there.
#[derive(Debug)]
pub struct Gathered {
    /// What came.
    pub data: Bytes,
    /// The trailers, when the end came with some.
    pub trailers: Option<HeaderMap>,
    /// Whether the end came.
    pub ended: bool,
}

/// Takes what of a body of known, small length arrives within `patience`, so that the common
/// small response costs one record and one write; anything else is streamed.
pub async fn gather(
    body: &mut Incoming,
    limit: u64,
    patience: Duration,
) -> Result<Gathered, hyper::Error> {
    let mut gathered = Gathered { data: Bytes::new(), trailers: None, ended: body.is_end_stream() };
    if gathered.ended || body.size_hint().exact().is_none_or(|length| length > limit) {
        return Ok(gathered);
    }
    let deadline = tokio::time::Instant::now() + patience;
    let mut more = bytes::BytesMut::new();
    while let Ok(frame) = tokio::time::timeout_at(deadline, body.frame()).await {
        let Some(frame) = frame.transpose()? else {
            gathered.ended = true;
            break;
        };
        match frame.into_data() {
            Ok(data) if gathered.data.is_empty() && more.is_empty() => gathered.data = data,
            Ok(data) => more.extend_from_slice(&data),
            Err(frame) => gathered.trailers = frame.into_trailers().ok(),
        }
        if body.is_end_stream() {
            gathered.ended = true;
            break;
        }
    }
    if !more.is_empty() {
        let mut whole = bytes::BytesMut::from(gathered.data);
        whole.extend_from_slice(&more);
        gathered.data = whole.freeze();
    }
    Ok(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fed_body_gives_its_pieces_and_trailers() {
        let (feed, out) = Out::stream(None);
        let fed = tokio::spawn(async move {
            feed.send(Piece::Data(Bytes::from_static(b"ab"))).await.unwrap();
            feed.send(Piece::Data(Bytes::from_static(b"cd"))).await.unwrap();
            let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
            feed.send(Piece::End(Some(trailers))).await.unwrap();
        });
        let collected = out.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["etag"], "x");
        assert_eq!(collected.to_bytes(), "abcd");
        fed.await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_halfway_is_an_error() {
        let (feed, out) = Out::stream(Some(4));
        feed.send(Piece::Data(Bytes::from_static(b"ab"))).await.unwrap();
        drop(feed);
        assert_eq!(out.collect().await.unwrap_err(), CutOff);
    }

    #[tokio::test]
    async fn the_feeder_learns_that_the_reader_is_gone() {
        let (feed, out) = Out::stream(None);
        drop(out);
        feed.closed().await;
        assert!(feed.send(Piece::End(None)).await.is_err());
    }
}
