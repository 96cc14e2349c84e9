//! Any bytes as the first packet to a database: taken, refused or waited for, never more than its
//! length, and told apart as classification does it.
#![no_main]

use bytes::BytesMut;
use enforcer::protocol::postgres::codec::startup::{self, First};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    if let Ok(Some(first)) = startup::take(&mut buf) {
        assert_eq!(startup::begins(data), Some(true));
        if let First::Startup(startup) = first {
            let mut wire = BytesMut::new();
            startup.put(&mut wire);
            assert_eq!(wire, data[..data.len() - buf.len()]);
        }
    }
});
