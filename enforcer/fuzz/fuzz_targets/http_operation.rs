#![no_main]

use enforcer::protocol::http::operation::{Where, read};
use enforcer::protocol::http::{authority, path};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

// Any head that HTTP's own types take becomes an operation or a refusal, without a panic; an
// accepted one is for the flow's name, and none of its readings climbs out of a prefix.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (method, target) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|b| *b == b':').unwrap_or(0));
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(()) else { return };
    let parts = request.into_parts().0;
    let at = Where {
        target: "api",
        name: "api.test",
        port: 443,
        tls: true,
        grpc: true,
        ignored: &[],
        injected: &[],
    };
    let (read, flaw) = read(&parts, at, &|secret| format!("hmac:{}", secret.len()));
    if flaw.is_none() {
        let authority = authority::of_request(&parts.uri, &parts.headers).expect("checked");
        assert_eq!(authority.host, "api.test");
        for reading in path::readings(parts.uri.path()).expect("checked") {
            let climbs = reading.split(['/', '\\']).any(|part| part == "." || part == "..");
            assert!(!climbs, "{reading}");
        }
    }
    let names: Vec<_> = read.operation.facts().iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted());
});
