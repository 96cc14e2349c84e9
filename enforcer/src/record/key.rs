//! Keys of the store, made and read.
//!
//! All numbers are big endian, so that RocksDB's byte order is their order.
//! Reading is strict: a key of another shape is `None`, and `verify` reports it.

use super::FlowId;
use uuid::Uuid;

/// Index texts are cut to this many bytes; what is longer is found by its beginning.
pub const MAX_TEXT: usize = 512;

/// `events`: flow id, sequence number.
pub fn event(flow: FlowId, seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(flow.as_bytes());
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Reads a key of `events`.
pub fn parse_event(key: &[u8]) -> Option<(FlowId, u64)> {
    let (flow, seq) = key.split_at_checked(16)?;
    Some((parse_flow(flow)?, parse_number(seq)?))
}

/// Reads a key of `flows`, or any other flow id.
pub fn parse_flow(key: &[u8]) -> Option<FlowId> {
    Uuid::from_slice(key).ok().map(FlowId)
}

/// Reads a big-endian number of 8 bytes.
pub fn parse_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// `sessions`: the session alone, or with a flow that it left open.
pub fn open_flow(session: Uuid, flow: FlowId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(session.as_bytes());
    key[16..].copy_from_slice(flow.as_bytes());
    key
}

/// Reads a key of `sessions`.
pub fn parse_session(key: &[u8]) -> Option<(Uuid, Option<FlowId>)> {
    let (session, flow) = key.split_at_checked(16)?;
    let session = Uuid::from_slice(session).ok()?;
    match flow.len() {
        0 => Some((session, None)),
        _ => Some((session, Some(parse_flow(flow)?))),
    }
}

/// `checkpoints`: an entry of the log.
pub fn leaf(index: u64) -> [u8; 9] {
    tagged(b'l', index)
}

/// `checkpoints`: a signed head.
pub fn checkpoint(number: u64) -> [u8; 9] {
    tagged(b'c', number)
}

/// A row of `checkpoints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKey {
    /// A signed head, by number.
    Checkpoint(u64),
    /// An entry, by index.
    Leaf(u64),
}

/// Reads a key of `checkpoints`.
pub fn parse_log(key: &[u8]) -> Option<LogKey> {
    let (tag, number) = key.split_first()?;
    let number = parse_number(number)?;
    match tag {
        b'c' => Some(LogKey::Checkpoint(number)),
        b'l' => Some(LogKey::Leaf(number)),
        _ => None,
    }
}

fn tagged(tag: u8, number: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// `index_time`: when a flow started (ns since the Unix epoch), flow id.
pub fn time(unix_ns: i64, flow: FlowId) -> Vec<u8> {
    let mut key = nanos(unix_ns).to_vec();
    key.extend_from_slice(flow.as_bytes());
    key
}

/// `index_agent`, `index_target`: text, when the flow started, flow id.
pub fn text_time(text: &str, unix_ns: i64, flow: FlowId) -> Vec<u8> {
    let mut key = text_prefix(text);
    key.extend_from_slice(&time(unix_ns, flow));
    key
}

/// `index_approval`: text, flow id, sequence number.
pub fn text_event(text: &str, flow: FlowId, seq: u64) -> Vec<u8> {
    let mut key = text_prefix(text);
    key.extend_from_slice(&event(flow, seq));
    key
}

/// The length-prefixed text that begins a key of a text index.
pub fn text_prefix(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), text].concat()
}

/// A moment as it stands in a key; before the epoch is the epoch.
pub fn nanos(unix_ns: i64) -> [u8; 8] {
    u64::try_from(unix_ns).unwrap_or(0).to_be_bytes()
}

/// `index_digest`: digest, flow id, sequence number.
pub fn digest_event(digest: &[u8; 32], flow: FlowId, seq: u64) -> Vec<u8> {
    [digest.as_slice(), &event(flow, seq)].concat()
}

/// `index_operation`: operation id, flow id, sequence number.
pub fn operation_event(operation: Uuid, flow: FlowId, seq: u64) -> Vec<u8> {
    [operation.as_bytes().as_slice(), &event(flow, seq)].concat()
}

/// The flow that a key of an index ends in, whatever the index begins with.
pub fn index_flow(cf: super::store::Cf, key: &[u8]) -> Option<FlowId> {
    use super::store::Cf;
    let rest = match cf {
        Cf::IndexTime => key.split_at_checked(8)?.1,
        Cf::IndexAgent | Cf::IndexTarget => after_text(key)?.split_at_checked(8)?.1,
        Cf::IndexDigest => return Some(parse_event(key.split_at_checked(32)?.1)?.0),
        Cf::IndexOperation => return Some(parse_event(key.split_at_checked(16)?.1)?.0),
        Cf::IndexApproval => return Some(parse_event(after_text(key)?)?.0),
        _ => return None,
    };
    parse_flow(rest)
}

fn after_text(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_at_checked(2)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    Some(rest.split_at_checked(length)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_read_back_and_sort_by_time_and_sequence() {
        let flow = FlowId(Uuid::now_v7());
        assert_eq!(parse_event(&event(flow, 7)), Some((flow, 7)));
        assert!(event(flow, 255) < event(flow, 256));
        assert!(time(1, flow) < time(1 << 40, flow));
        assert_eq!(nanos(-5), [0; 8]);
        assert_eq!(parse_log(&leaf(3)), Some(LogKey::Leaf(3)));
        assert_eq!(parse_log(&checkpoint(4)), Some(LogKey::Checkpoint(4)));
        let session = Uuid::now_v7();
        let open = open_flow(session, flow);
        assert_eq!(parse_session(&open), Some((session, Some(flow))));
        assert_eq!(parse_session(&open[..16]), Some((session, None)));
        assert_eq!(parse_session(&open[..20]), None);
    }

    #[test]
    fn no_text_is_the_beginning_of_another_in_an_index() {
        let flow = FlowId(Uuid::now_v7());
        assert!(!text_time("ab", 0, flow).starts_with(&text_prefix("a")));
        let long = "x".repeat(10_000);
        assert_eq!(text_prefix(&long).len(), 2 + MAX_TEXT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (parse_event(&key), parse_session(&key), parse_log(&key), parse_flow(&key));
            for cf in super::super::store::Cf::ALL {
                let _ = index_flow(cf, &key);
            }
        }
    }
}
