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

/// End-to-end headers that change neither what a request does nor where it goes: the coding of
/// the answer's bytes, the client's clock (RFC 9110 section 6.6.1) and ids of traces (W3C Trace
/// Context, B3, and two vendors'). Each try has its own, so they are recorded and passed on but
/// not hashed. What an application may act on is not among them: versions of an API are asked for
/// in `Accept`, requests are told apart by `X-Request-ID`, routed by `Baggage` and `Tracestate`.
const IGNORED: [&str; 10] = [
    "accept-encoding",
    "b3",
    "date",
    "sentry-trace",
    "traceparent",
    "x-amzn-trace-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
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

/// Words in a header's name that say that its value is a credential.
const SECRET_WORDS: [&str; 9] = [
    "apikey",
    "authorization",
    "credential",
    "credentials",
    "jwt",
    "passwd",
    "password",
    "secret",
    "token",
];

/// Words that do so in front of `key`.
const SECRET_KEYS: [&str; 7] =
    ["access", "api", "auth", "license", "private", "secret", "subscription"];

/// Whether a header's value is a credential: one that is known, or whose name says so.
pub fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    if SECRET.contains(&name) {
        return true;
    }
    let mut before = "";
    name.split(['-', '_']).any(|word| {
        let key = word == "key" && SECRET_KEYS.contains(&before);
        before = word;
        key || SECRET_WORDS.contains(&word)
    })
}

/// Names of query parameters whose value is a credential, `-` written as `_`.
const SECRET_PARAMETERS: [&str; 18] = [
    "access_token",
    "api_key",
    "apikey",
    "auth_token",
    "client_secret",
    "id_token",
    "jwt",
    "passwd",
    "password",
    "private_token",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x_amz_security_token",
    "x_amz_signature",
    "x_goog_signature",
];

/// A query as it is judged, shown and recorded: credentials in it as keyed hashes.
pub fn without_secrets(query: &str, hash: &dyn Fn(&[u8]) -> String) -> String {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    loop {
        let name = &rest[..rest.find(['=', '&', ';']).unwrap_or(rest.len())];
        let end = match is_secret_parameter(name) {
            // Not at `;`, which may be part of the value.
            true => rest.find('&').unwrap_or(rest.len()),
            false => rest.find(['&', ';']).unwrap_or(rest.len()),
        };
        let (pair, after) = rest.split_at(end);
        match pair.strip_prefix(name).and_then(|value| value.strip_prefix('=')) {
            Some(value) if !value.is_empty() && is_secret_parameter(name) => {
                out.push_str(name);
                out.push('=');
                out.push_str(&hash(value.as_bytes()));
            }
            _ => out.push_str(pair),
        }
        let Some(sign) = after.chars().next() else {
            return out;
        };
        out.push(sign);
        rest = &after[sign.len_utf8()..];
    }
}

fn is_secret_parameter(name: &str) -> bool {
    let decoded = url::form_urlencoded::parse(name.as_bytes()).next();
    decoded.is_some_and(|(name, _)| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        SECRET_PARAMETERS.contains(&name.as_str())
    })
}

/// Whether a name with underscores is, to a server that makes variables of headers (CGI, WSGI),
/// one that frames or routes the request, or one that the proxy sets itself.
pub fn is_disguised(name: &HeaderName, injected: &[HeaderName]) -> bool {
    const ROUTING: [&str; 4] =
        ["host", "x-http-method", "x-http-method-override", "x-method-override"];
    if !name.as_str().contains('_') {
        return false;
    }
    let name = name.as_str().replace('_', "-");
    HOP_BY_HOP.contains(&name.as_str())
        || ROUTING.contains(&name.as_str())
        || injected.iter().any(|other| other.as_str().replace('_', "-") == name)
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
    #[case("traceparent", Part::Note)]
    #[case("user-agent", Part::Fact)]
    #[case("accept", Part::Fact)]
    #[case("x-request-id", Part::Fact)]
    #[case("baggage", Part::Fact)]
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
        for list in [&SECRET_WORDS[..], &SECRET_KEYS, &SECRET_PARAMETERS] {
            assert!(list.is_sorted(), "{list:?}");
        }
        for list in [&HOP_BY_HOP[..], &IGNORED, &SECRET, &OF_THE_BYTES] {
            assert!(list.is_sorted(), "{list:?}");
            assert!(list.iter().all(|name| HeaderName::from_lowercase(name.as_bytes()).is_ok()));
        }
    }

    #[rstest]
    #[case("authorization", true)]
    #[case("x-auth-key", true)]
    #[case("x_api_key", true)]
    #[case("ocp-apim-subscription-key", true)]
    #[case("x-shopify-access-token", true)]
    #[case("idempotency-key", false)]
    #[case("sec-websocket-key", false)]
    #[case("x-tokens-used", false)]
    #[case("content-type", false)]
    fn credentials_are_known_by_name(#[case] name: &'static str, #[case] secret: bool) {
        assert_eq!(is_secret(&HeaderName::from_static(name)), secret);
    }

    #[rstest]
    #[case("a=1&b=2", "a=1&b=2")]
    #[case("", "")]
    #[case("token", "token")]
    #[case("token=", "token=")]
    #[case("a=1&Access-Token=abc&b", "a=1&Access-Token=#3&b")]
    #[case("access%5Ftoken=abcd", "access%5Ftoken=#4")]
    #[case("a=1;token=ab;c&d=1", "a=1;token=#4&d=1")]
    #[case("sig=a=b", "sig=#3")]
    #[case("x=token=1", "x=token=1")]
    #[case("&&;=&", "&&;=&")]
    fn credentials_in_a_query_are_hashed(#[case] query: &str, #[case] want: &str) {
        assert_eq!(without_secrets(query, &|value| format!("#{}", value.len())), want);
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
