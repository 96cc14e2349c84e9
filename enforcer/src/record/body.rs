//! Bodies as they are recorded: offsets, limits, and the hash of the whole.
//!
//! Sans-io. The recorder counts and hashes every byte itself, so that length and
//! hash hold for what it was given, whatever of it is kept.

use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// Whose body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

/// The bodies of one flow that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    live: HashMap<(Vec<u8>, Side), Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    seen: u64,
    kept: u64,
    cut: bool,
    hash: Sha256,
}

impl Bodies {
    /// What of an event is to be recorded: `limit` bytes of each body are kept. `None`: nothing,
    /// because it is a middle piece past the limit. Offset, length and hash are set here.
    pub(super) fn admit(&mut self, operation: &[u8], kind: Kind, limit: u64) -> Option<Kind> {
        match kind {
            Kind::RequestBody(body) => {
                self.piece(operation, Side::Request, body, limit).map(Kind::RequestBody)
            }
            Kind::ResponseBody(body) => {
                self.piece(operation, Side::Response, body, limit).map(Kind::ResponseBody)
            }
            Kind::OperationEnd(end) => {
                self.live.retain(|(id, _), _| id != operation);
                Some(Kind::OperationEnd(end))
            }
            other => Some(other),
        }
    }

    fn piece(
        &mut self,
        operation: &[u8],
        side: Side,
        mut body: v1::Body,
        limit: u64,
    ) -> Option<v1::Body> {
        let at = (operation.to_vec(), side);
        let state = self.live.entry(at.clone()).or_default();
        state.hash.update(&body.data);
        body.offset = state.seen;
        let length = body.data.len() as u64;
        state.seen += length;
        let room = if state.cut { 0 } else { limit.saturating_sub(state.kept) };
        body.truncated = length > room;
        if body.truncated {
            body.data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            // A slice would keep the whole piece in memory until it is written.
            body.data = Bytes::copy_from_slice(&body.data);
        }
        let first_cut = body.truncated && !state.cut;
        state.cut |= body.truncated;
        state.kept += body.data.len() as u64;
        body.length = 0;
        body.sha256 = Vec::new();
        if body.last {
            body.length = state.seen;
            let hash = std::mem::take(&mut state.hash);
            body.sha256 = hash.finalize().to_vec();
            body.truncated |= state.cut;
            self.live.remove(&at);
            return Some(body);
        }
        let keep = first_cut || !body.data.is_empty();
        keep.then_some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(data: &[u8], last: bool) -> Kind {
        Kind::ResponseBody(v1::Body {
            data: Bytes::copy_from_slice(data),
            last,
            ..v1::Body::default()
        })
    }

    fn body(kind: Option<Kind>) -> Option<v1::Body> {
        match kind? {
            Kind::RequestBody(body) | Kind::ResponseBody(body) => Some(body),
            _ => None,
        }
    }

    #[test]
    fn past_the_limit_only_the_cut_and_the_end_are_kept() {
        let mut bodies = Bodies::default();
        let first = body(bodies.admit(b"o", piece(b"abcd", false), 6)).unwrap();
        assert_eq!((first.offset, first.truncated), (0, false));
        let cut = body(bodies.admit(b"o", piece(b"efgh", false), 6)).unwrap();
        assert_eq!((cut.offset, &cut.data[..], cut.truncated), (4, &b"ef"[..], true));
        assert!(bodies.admit(b"o", piece(b"ijkl", false), 6).is_none());
        let last = body(bodies.admit(b"o", piece(b"", true), 6)).unwrap();
        assert_eq!((last.length, last.truncated), (12, true));
        assert_eq!(last.sha256, Sha256::digest(b"abcdefghijkl").to_vec());
    }

    #[test]
    fn the_two_sides_and_other_operations_do_not_mix() {
        let mut bodies = Bodies::default();
        bodies.admit(b"a", piece(b"xx", false), 99);
        let other = body(bodies.admit(b"b", piece(b"y", true), 99)).unwrap();
        assert_eq!((other.offset, other.length), (0, 1));
        bodies.admit(b"a", Kind::OperationEnd(v1::OperationEnd::default()), 99);
        let fresh = body(bodies.admit(b"a", piece(b"z", true), 99)).unwrap();
        assert_eq!((fresh.offset, fresh.length), (0, 1));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_beginning_and_the_hash_is_of_all(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..9),
            limit in 0_u64..40,
        ) {
            let mut bodies = Bodies::default();
            let mut kept = Vec::new();
            let all = pieces.concat();
            let mut end = None;
            for (i, data) in pieces.iter().enumerate() {
                let last = i + 1 == pieces.len();
                if let Some(body) = body(bodies.admit(b"o", piece(data, last), limit)) {
                    kept.extend_from_slice(&body.data);
                    if last { end = Some(body); }
                }
            }
            let end = end.unwrap();
            prop_assert_eq!(&kept[..], &all[..all.len().min(limit as usize)]);
            prop_assert_eq!(end.length, all.len() as u64);
            prop_assert_eq!(end.truncated, all.len() as u64 > limit);
            prop_assert_eq!(end.sha256, Sha256::digest(&all).to_vec());
        }
    }
}
