use super::{PATIENCE, Plan, World, full, refusal, text};
use bytes::Bytes;
use enforcer_proto::v1::event::Kind;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 128; // 32 MiB

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_both_ways() {
    for http2 in [false, true] {
        let world = World::with(Plan { tls: true, ..Plan::default() }).await;
        let mut client = if http2 { world.http2().await } else { world.http1().await };
        let piece = Bytes::from(vec![b'x'; CHUNK]);
        let up = futures_util::stream::repeat(piece.clone())
            .take(CHUNKS)
            .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let request =
            client.request("PUT", "/count").body(BodyExt::boxed(StreamBody::new(up))).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await, "ok");
        assert_eq!(world.upstream.read(), (CHUNK * CHUNKS) as u64);

        let feed = world.upstream.feed();
        tokio::spawn({
            let piece = piece.clone();
            async move {
                for _ in 0..CHUNKS {
                    feed.send(Frame::data(piece.clone())).await.unwrap();
                }
            }
        });
        let body = client.get("/fed").await.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), CHUNK * CHUNKS);
        drop(client);
        // Of both the beginning is kept, and length and hash of the whole.
        let mut ends = 0;
        for event in world.transcripts().await.concat() {
            if let Some(Kind::RequestBody(body) | Kind::ResponseBody(body)) = event.kind
                && body.last
                && body.length > 100
            {
                assert_eq!(body.length, (CHUNK * CHUNKS) as u64);
                assert_eq!(body.sha256, Sha256::digest(piece.repeat(CHUNKS)).to_vec());
                assert!(body.truncated);
                ends += 1;
            }
        }
        assert_eq!(ends, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    let world = World::new().await;
    let feed = world.upstream.feed();
    let mut client = world.http1().await;
    let body = client.get("/fed").await.into_body();
    let piece = Bytes::from(vec![b'x'; CHUNK]);
    let mut sent = 0;
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_secs(1), feed.send(Frame::data(piece.clone()))).await
    {
        sent += CHUNK;
        assert!(sent < 64 << 20, "nothing holds the upstream back");
    }
    drop(body);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_arrive() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let mut client = world.http2().await;
    let request = client
        .request("POST", "/trailers/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full("x"))
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(world.upstream.seen()[0].headers["te"], "trailers");
    let request =
        client.request("GET", "/trailers").header("te", "trailers").body(full("")).unwrap();
    let collected = client.send(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_streamed_request_do_not_leave() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let mut client = world.http2().await;
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("x-http-method-override"),
        http::HeaderValue::from_static("DELETE"),
    )]);
    let frames = [Frame::data(Bytes::from_static(b"data")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
    let request = client.request("PUT", "/up").body(BodyExt::boxed(body)).unwrap();
    assert!(client.send(request).await.is_err());
    assert!(world.upstream.trailers().is_empty());
    drop(client);
    let story = world.story().await;
    assert!(story.contains(&"end cut".to_owned()), "{story:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_grpc_call_says_so_in_trailers_alone() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    world.reload("@id(\"no\") forbid (principal, action, resource);");
    let mut client = world.http2().await;
    let request = client
        .request("POST", "/pkg.Service/Call")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(full("x"))
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    assert!(response.headers()["grpc-message"].to_str().unwrap().contains("refused by no"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_for_people_is_refused_with_the_reason() {
    let tune = |config: &mut crate::config::Config| config.limits.approval_body = 100_000;
    let world = World::with(Plan { tune, ..Plan::default() }).await;
    for declared in [true, false] {
        let mut client = world.http1().await;
        let body = vec![b'x'; 200_000];
        let body = match declared {
            true => full(body),
            false => {
                let one = [Ok::<_, Infallible>(Frame::data(Bytes::from(body)))];
                BodyExt::boxed(StreamBody::new(futures_util::stream::iter(one)))
            }
        };
        let request = client.request("POST", "/act").body(body).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(refusal(response).await["reason"], "body-too-large");
    }
    assert!(world.people.requests().is_empty());
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_is_told_to_go_on_only_when_its_body_is_wanted() {
    let world = World::new().await;
    let head = |method: &str, length: usize| {
        format!(
            "{method} / HTTP/1.1\r\nhost: {}:{}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n",
            super::NAME,
            world.upstream.addr.port()
        )
    };
    let mut stream = world.connect().await;
    stream.write_all(head("PUT", 5).as_bytes()).await.unwrap();
    let mut buf = [0; 1024];
    let n = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.unwrap().unwrap();
    assert!(buf[..n].starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&buf[..n]));
    stream.write_all(b"hello").await.unwrap();
    let n = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.unwrap().unwrap();
    assert!(buf[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buf[..n]));
    assert_eq!(world.upstream.seen()[0].body, "hello");
    // A large one that is refused is never asked for.
    let answer = world.raw(head("DELETE", 1 << 20).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none() {
    let world = World::new().await;
    let port = world.upstream.addr.port();
    let ask = |method: &str, path: &str, version: &str| {
        format!(
            "{method} {path} HTTP/{version}\r\nhost: api.test:{port}\r\nconnection: close\r\n\r\n"
        )
    };
    let head = world.raw(ask("HEAD", "/json", "1.1").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains(&format!("content-length: {}", super::upstream::JSON.len())), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let empty = world.raw(ask("GET", "/empty", "1.1").as_bytes()).await;
    assert!(empty.starts_with("HTTP/1.1 204") && empty.ends_with("\r\n\r\n"), "{empty}");
    assert!(!empty.contains("chunked"), "{empty}");
    let old = world.raw(ask("GET", "/", "1.0").as_bytes()).await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("\r\n\r\nok"), "{old}");
    let refused = world.raw(ask("HEAD", "/secret/x", "1.1").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.ends_with("\r\n\r\n"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_put_in_and_never_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "of-the-host\n").unwrap();
    let target: &'static str = format!(
        "[[target.inject]]\nheader = \"authorization\"\nprefix = \"Bearer \"\nfile = {file:?}\n"
    )
    .leak();
    let world = World::with(Plan { target, ..Plan::default() }).await;
    let mut client = world.http1().await;
    let request = client
        .request("GET", "/cookie")
        .header("authorization", "Bearer of-the-agent")
        .body(full(""))
        .unwrap();
    assert_eq!(text(client.send(request).await.unwrap()).await, "ok");
    assert_eq!(world.upstream.seen()[0].headers["authorization"], "Bearer of-the-host");
    // Without it nothing is sent.
    std::fs::remove_file(&file).unwrap();
    let response = client.get("/").await;
    assert_eq!(response.status(), 502);
    assert_eq!(refusal(response).await["reason"], "not-sendable");
    drop(client);
    let recorded = format!("{:?}", world.transcripts().await);
    for secret in ["of-the-host", "of-the-agent", "of-the-upstream"] {
        assert!(!recorded.contains(secret), "{secret} was recorded");
    }
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_slow_head_too() {
    let tune = |config: &mut crate::config::Config| {
        config.limits.idle_ms = 700;
        config.limits.handshake_ms = 300;
    };
    let world = World::with(Plan { tune, ..Plan::default() }).await;
    let mut client = world.http1().await;
    assert_eq!(client.get("/").await.status(), 200);
    let mut slow = world.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut buf = [0; 8];
    let read = tokio::time::timeout(PATIENCE, slow.read(&mut buf)).await.unwrap();
    assert_eq!(read.unwrap_or(0), 0);
    let flows = world.transcripts().await;
    let ends: Vec<_> = flows
        .iter()
        .filter_map(|flow| match &flow.last()?.kind {
            Some(Kind::FlowEnd(end)) => Some(end.error.clone()),
            _ => None,
        })
        .collect();
    assert!(ends.iter().any(|end| end.starts_with("idle")), "{ends:?}");
    assert!(ends.iter().any(|end| end.starts_with("request-head-timeout")), "{ends:?}");
}

/// Each operation is a task, so its future is allocated and moved once for each request.
#[test]
fn an_operation_stays_small() {
    fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = size(crate::session::operate::<crate::protocol::http::exchange::HttpExchange>);
    assert!(bytes < 16 << 10, "{bytes}");
}
