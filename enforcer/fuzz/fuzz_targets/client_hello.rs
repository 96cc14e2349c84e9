#![no_main]

use enforcer::classify::{Detected, detect, parse_client_hello};
use libfuzzer_sys::fuzz_target;

// Any first bytes are judged without a panic, and a verdict never changes with more bytes.
fuzz_target!(|data: &[u8]| {
    let _ = parse_client_hello(data);
    if let Detected::Is(spoken) = detect(data) {
        let mut longer = data.to_vec();
        longer.extend_from_slice(b"more");
        assert_eq!(detect(&longer), Detected::Is(spoken));
    }
});
