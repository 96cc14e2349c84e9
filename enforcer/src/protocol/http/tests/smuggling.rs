use super::{NAME, World};
use rstest::rstest;

/// Each is sent as raw bytes; the upstream must see nothing of it but what was judged.
#[rstest]
#[case::two_hosts("GET / HTTP/1.1\r\nhost: HOST\r\nhost: HOST\r\n\r\n", "two-hosts")]
#[case::no_host("GET / HTTP/1.1\r\n\r\n", "no-host")]
#[case::other_host("GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n", "name-mismatch")]
#[case::host_with_user("GET / HTTP/1.1\r\nhost: u@HOST\r\n\r\n", "bad-host")]
#[case::absolute_form("GET http://evil.test/ HTTP/1.1\r\nhost: HOST\r\n\r\n", "host-differs")]
#[case::absolute_https("GET https://HOST/ HTTP/1.1\r\nhost: HOST\r\n\r\n", "scheme-mismatch")]
#[case::connect("CONNECT evil.test:443 HTTP/1.1\r\nhost: HOST\r\n\r\n", "connect-refused")]
#[case::connect_here("CONNECT HOST HTTP/1.1\r\nhost: HOST\r\n\r\n", "connect-refused")]
#[case::trace("TRACE / HTTP/1.1\r\nhost: HOST\r\n\r\n", "trace-refused")]
#[case::websocket(
    "GET / HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "upgrade-refused"
)]
#[case::upgrade_list(
    "GET / HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: h2c, websocket\r\n\r\n",
    "upgrade-refused"
)]
#[case::connection_names(
    "GET / HTTP/1.1\r\nhost: HOST\r\nconnection: authorization\r\nauthorization: x\r\n\r\n",
    "connection-names-header"
)]
#[case::override_(
    "POST / HTTP/1.1\r\nhost: HOST\r\nx-http-method-override: DELETE\r\ncontent-length: 0\r\n\r\n",
    "method-override"
)]
#[case::dots("GET /a/../secret HTTP/1.1\r\nhost: HOST\r\n\r\n", "path-dot-segments")]
#[case::encoded_dots("GET /a/%2e%2e/secret HTTP/1.1\r\nhost: HOST\r\n\r\n", "path-dot-segments")]
#[case::encoded_nul("GET /a%00 HTTP/1.1\r\nhost: HOST\r\n\r\n", "path-character")]
#[case::star("GET * HTTP/1.1\r\nhost: HOST\r\n\r\n", "path-form")]
#[tokio::test(flavor = "multi_thread")]
async fn refused_with_the_reason(#[case] request: &str, #[case] reason: &str) {
    let world = World::new().await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    let answer = world.raw(request.replace("HOST", &host).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains(&format!("\"reason\":\"{reason}\"")), "{answer}");
    assert!(world.upstream.seen().is_empty());
    let story = world.story().await;
    assert!(story.contains(&format!("deny {reason}")), "{story:?}");
}

/// What is not well-formed is not even answered by the spine.
#[rstest]
#[case::two_lengths(
    "PUT / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"
)]
#[case::signed_length("PUT / HTTP/1.1\r\nhost: HOST\r\ncontent-length: +3\r\n\r\nabc")]
#[case::list_of_lengths("PUT / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 3, 4\r\n\r\nabc")]
#[case::xchunked("PUT / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n")]
#[case::chunked_not_last(
    "PUT / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"
)]
#[case::chunked_in_1_0(
    "PUT / HTTP/1.0\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
)]
#[case::folded("GET / HTTP/1.1\r\nhost: HOST\r\nx: a\r\n b\r\n\r\n")]
#[case::space_before_colon("GET / HTTP/1.1\r\nhost : HOST\r\n\r\n")]
#[case::nul_in_name("GET / HTTP/1.1\r\nhost: HOST\r\nx\0: a\r\n\r\n")]
#[case::nul_in_value("GET / HTTP/1.1\r\nhost: HOST\r\nx: a\0b\r\n\r\n")]
#[case::http_0_9("GET /\r\n\r\n")]
#[case::version("GET / HTTP/1.2\r\nhost: HOST\r\n\r\n")]
#[case::bare_cr("GET / HTTP/1.1\rhost: HOST\r\n\r\n")]
#[tokio::test(flavor = "multi_thread")]
async fn malformed_is_closed(#[case] request: &str) {
    let world = World::new().await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    let answer = world.raw(request.replace("HOST", &host).as_bytes()).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(world.upstream.seen().is_empty(), "{:?}", world.upstream.seen());
    let story = world.story().await;
    let end = story.last().unwrap();
    assert!(
        ["flow refused", "flow cut", "flow cancelled", "flow failed"].contains(&end.as_str()),
        "{story:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_behind_a_body_is_a_request_of_its_own() {
    let world = World::new().await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    // Length and chunks: the chunks count (RFC 9112 section 6.3), and what follows is judged.
    let hidden = format!("GET /secret/x HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let request = format!(
        "PUT /a HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    world.raw(request.as_bytes()).await;
    for seen in world.upstream.seen() {
        assert_eq!(seen.line, "PUT /a");
        assert_eq!(seen.body, "");
        assert!(
            !seen.headers.contains_key("content-length")
                || !seen.headers.contains_key("transfer-encoding")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_each_decided_in_order() {
    let world = World::new().await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let all = [one("/a"), one("/secret/b"), one("/c")].concat();
    let answer = world.raw(all.as_bytes()).await;
    let statuses: Vec<_> =
        answer.lines().filter_map(|line| line.split("HTTP/1.1 ").nth(1)).map(|s| &s[..3]).collect();
    assert_eq!(statuses, ["200", "403", "200"], "{answer}");
    let lines: Vec<_> = world.upstream.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /a", "GET /c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_of_h2c_is_not_taken_up() {
    let world = World::new().await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    let answer = world
        .raw(format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = &world.upstream.seen()[0];
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_protocol_is_refused() {
    let world = World::new().await;
    assert_eq!(world.raw(b"SSH-2.0-OpenSSH_9.2\r\n").await, "");
    assert_eq!(world.story().await, ["start", "flow refused"]);
}
