//! What becomes of each header: hop by hop, hashed, noted, secret, or never passed on.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers of one connection (RFC 9110 section 7.6.1, and what older clients send); never
/// passed on and never part of an operation. Framing (RFC 9112 section 6) is made anew.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// End-to-end headers that do not change what a request does: content negotiation, identity of
/// the program, clocks and tracing. They are recorded, and passed on, but not hashed, so that a
/// retry of the same request has the same digest.
const IGNORED: [&str; 21] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "b3",
    "baggage",
    "date",
    "dnt",
    "priority",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-amzn-trace-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-correlation-id",
    "x-request-id",
];

/// Headers whose value is a credential: recorded and hashed as a keyed hash.
const SECRET: [&str; 20] = [
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "dd-api-key",
    "dd-application-key",
    "job-token",
    "private-token",
    "proxy-authorization",
    "set-cookie",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-functions-key",
    "x-gitlab-token",
    "x-goog-api-key",
    "x-vault-token",
    "x-xsrf-token",
];

/// Response headers that would send the client around the proxy, or that no longer fit.
const NOT_DELIVERED: [&str; 2] = ["alt-svc", "alt-used"];

/// Validators and lengths of a body that masking may change.
const OF_THE_BYTES: [&str; 10] = [
    "accept-ranges",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-md5",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
    "x-goog-hash",
];

/// What a request header is to the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of this connection only: dropped.
    Hop,
    /// Changes what the request does: a fact.
    Fact,
    /// Recorded beside the operation, not hashed.
    Note,
}

/// Sorts a request header; `ignored` are the target's own additions.
pub fn part(name: &HeaderName, ignored: &[String]) -> Part {
    let name = name.as_str();
    if HOP_BY_HOP.contains(&name) || name == "host" {
        Part::Hop
    } else if IGNORED.contains(&name) || ignored.iter().any(|other| other == name) {
        Part::Note
    } else {
        Part::Fact
    }
}

/// Whether a header's value is a credential.
pub fn is_secret(name: &HeaderName) -> bool {
    SECRET.contains(&name.as_str())
}

/// Removes what belongs to one connection, named by `Connection` or known. `TE: trailers` stays
/// (RFC 9110 section 10.1.4), for gRPC depends on it.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::try_from(token).ok())
        .collect();
    let trailers = tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether `Connection` names a header that decides where or as whom a request goes; a proxy
/// that obeys would drop what was judged.
pub fn connection_drops_facts(headers: &HeaderMap) -> bool {
    const CONNECTION_OPTIONS: [&str; 6] =
        ["close", "keep-alive", "te", "upgrade", "http2-settings", "proxy-connection"];
    tokens(headers, &header::CONNECTION)
        .any(|token| !CONNECTION_OPTIONS.iter().any(|known| token.eq_ignore_ascii_case(known)))
}

/// Removes from a response what the client must not act on.
pub fn strip_response(headers: &mut HeaderMap) {
    let length = headers.remove(header::CONTENT_LENGTH);
    let trailer = headers.remove(header::TRAILER);
    strip_hop_by_hop(headers);
    headers.remove(header::TE);
    for name in NOT_DELIVERED {
        headers.remove(name);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    if let Some(trailer) = trailer {
        headers.insert(header::TRAILER, trailer);
    }
}

/// Removes what described the bytes before masking.
pub fn strip_body_description(headers: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
}

/// The comma-separated tokens of every line of a header.
pub fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[rstest]
    #[case("connection", Part::Hop)]
    #[case("transfer-encoding", Part::Hop)]
    #[case("host", Part::Hop)]
    #[case("user-agent", Part::Note)]
    #[case("x-trace", Part::Note)]
    #[case("authorization", Part::Fact)]
    #[case("content-type", Part::Fact)]
    #[case("x-http-method-override", Part::Fact)]
    #[case("range", Part::Fact)]
    fn headers_are_sorted(#[case] name: &'static str, #[case] want: Part) {
        assert_eq!(part(&HeaderName::from_static(name), &["x-trace".into()]), want);
    }

    #[test]
    fn the_lists_are_sorted_and_in_lower_case() {
        for list in [&HOP_BY_HOP[..], &IGNORED, &SECRET, &OF_THE_BYTES] {
            assert!(list.is_sorted(), "{list:?}");
            assert!(list.iter().all(|name| HeaderName::from_lowercase(name.as_bytes()).is_ok()));
        }
    }

    #[test]
    fn hop_by_hop_headers_go_and_trailers_stay_possible() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        assert!(connection_drops_facts(&headers));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "*/*")]));
        assert!(!connection_drops_facts(&map(&[("connection", "TE, close")])));
    }

    #[test]
    fn a_response_loses_its_way_around_the_proxy() {
        let mut headers = map(&[
            ("alt-svc", "h3=\":443\""),
            ("content-length", "3"),
            ("connection", "close"),
            ("trailer", "grpc-status"),
        ]);
        strip_response(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3"), ("trailer", "grpc-status")]));
    }
}
