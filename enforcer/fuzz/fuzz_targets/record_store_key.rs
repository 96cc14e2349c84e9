//! Any bytes as a key of the store: read without a panic, and what is read is that key.
#![no_main]

use enforcer::record::key;
use enforcer::record::store::Cf;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((flow, seq)) = key::parse_event(data) {
        assert_eq!(key::event(flow, seq), data);
    }
    match key::parse_log(data) {
        Some(key::LogKey::Leaf(index)) => assert_eq!(key::leaf(index), data),
        Some(key::LogKey::Checkpoint(number)) => assert_eq!(key::checkpoint(number), data),
        None => {}
    }
    if let Some((session, Some(flow))) = key::parse_session(data) {
        assert_eq!(key::open_flow(session, flow), data);
    }
    for cf in Cf::ALL {
        let _ = key::index_flow(cf, data);
    }
});
