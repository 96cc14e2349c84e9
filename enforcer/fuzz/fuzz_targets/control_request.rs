//! A request on the control socket: any bytes are a request that writes back, or an error.
#![no_main]

use enforcer::run::wire::{Request, decode_request, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ask) = decode_request(bytes) {
        let again = frame(&Request { ask: Some(ask.clone()) }).expect("no larger than it came");
        assert_eq!(decode_request(&again[4..]).expect("reads back"), ask);
    }
});
