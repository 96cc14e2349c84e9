//! What a daemon sends: decoded, checked, and bound to its digest, or refused.
#![no_main]

use enforcer::server::validate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok(checked) = validate::decode(message, "h") {
        // What was taken must stand the check again, from its parts.
        let mut request = checked.request.clone();
        request.body = checked.body.clone();
        let again = validate::check(request, "h").map(|checked| checked.digest);
        assert_eq!(again, Ok(checked.digest));
        assert!(!checked.rules.is_empty());
    }
});
