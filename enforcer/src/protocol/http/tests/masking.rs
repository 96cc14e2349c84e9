use super::upstream::JSON;
use super::{NAME, PATIENCE, Plan, World, refusal, text};
use crate::config::Config;
use enforcer_proto::v1::{self, event::Kind};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::time::Duration;

const MASKS: &str = "[[mask]]\nname = \"mail\"\ntargets = [\"api\"]\njson = [\"$.users[*].email\"]\n\
                     detectors = [\"email\"]\n";

async fn masked(tls: bool) -> World {
    World::with(Plan { tls, masks: MASKS, ..Plan::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_masked_plain_and_compressed() {
    for (tls, http2) in [(false, false), (true, false), (true, true)] {
        let world = masked(tls).await;
        let mut client = if http2 { world.http2().await } else { world.http1().await };
        for path in ["/json", "/gzip"] {
            let response = client.get(path).await;
            assert_eq!(response.status(), 200);
            assert!(!response.headers().contains_key("etag"));
            assert!(!response.headers().contains_key("content-encoding"));
            let body = text(response).await;
            assert!(!body.contains("ada@example.org"), "{path}: {body}");
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(value["users"][0]["name"], "Ada");
        }
        assert_eq!(
            world.upstream.seen()[0].headers["accept-encoding"],
            crate::mask::ACCEPT_ENCODING
        );
        drop(client);
        let recorded = format!("{:?}", world.transcripts().await);
        assert!(!recorded.contains("ada@example.org"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_masks_bytes_and_headers_stay() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let response = client.get("/json").await;
    assert_eq!(response.headers()["etag"], "\"1\"");
    assert_eq!(response.headers()["content-length"], JSON.len().to_string().as_str());
    assert_eq!(text(response).await, JSON);
    let response = client.get("/gzip").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_withheld() {
    let world = masked(false).await;
    let mut client = world.http1().await;
    let response = client.get("/odd").await;
    assert_eq!(response.status(), 502);
    assert_eq!(refusal(response).await["reason"], "unmaskable");
    // A part of a body cannot be masked by its structure.
    assert_eq!(client.get("/json").await.status(), 200);
}

/// The `content-length` of each recorded answer.
fn recorded_lengths(flows: &[Vec<v1::Event>]) -> Vec<String> {
    let heads = flows.iter().flatten().filter_map(|event| match &event.kind {
        Some(Kind::ResponseHead(head)) => Some(head),
        _ => None,
    });
    let length = |head: &v1::ResponseHead| {
        let found = head.headers.iter().find(|header| header.name == "content-length");
        found.map_or_else(|| "none".to_owned(), |header| header.value.clone())
    };
    heads.map(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_recorded_with_the_length_that_they_are_sent_with() {
    for http2 in [false, true] {
        let world = masked(http2).await;
        let mut client = if http2 { world.http2().await } else { world.http1().await };
        let mut sent = Vec::new();
        for path in ["/json", "/odd", "/secret/x", "/empty"] {
            let response = client.get(path).await;
            let length = response.headers().get("content-length");
            sent.push(
                length.map_or_else(|| "none".to_owned(), |length| length.to_str().unwrap().into()),
            );
            text(response).await;
        }
        assert!(sent[..3].iter().all(|length| length != "none"), "{sent:?}");
        drop(client);
        assert_eq!(recorded_lengths(&world.transcripts().await), sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_unreadable_at_once_is_refused_in_words() {
    for http2 in [false, true] {
        let world = masked(http2).await;
        for path in ["/not-json", "/not-gzip", "/cut-gzip", "/wide"] {
            let mut client = if http2 { world.http2().await } else { world.http1().await };
            let response = client.get(path).await;
            assert_eq!(response.status(), 502, "{path}");
            assert_eq!(refusal(response).await["reason"], "unmaskable", "{path}");
            // The client's connection goes on.
            assert_eq!(client.get("/json").await.status(), 200, "{path}");
        }
        let recorded = format!("{:?}", world.transcripts().await);
        assert!(recorded.contains("unmaskable: the gzip content is damaged"), "{recorded}");
    }
    // The same answers go through where nothing is masked.
    let world = World::new().await;
    let mut client = world.http1().await;
    for path in ["/not-json", "/not-gzip", "/cut-gzip", "/wide"] {
        assert_eq!(client.get(path).await.status(), 200, "{path}");
    }
}

/// A request whose head was not answered for a while, and its answer.
macro_rules! waits {
    ($world:ident, $http2:ident, $path:literal) => {{
        let mut client = if $http2 { $world.http2().await } else { $world.http1().await };
        let mut asked = tokio::spawn(async move { (client.get($path).await, client) });
        let early = tokio::time::timeout(Duration::from_millis(300), &mut asked).await;
        assert!(early.is_err(), "the head came before the body: {:?}", early.unwrap().unwrap().0);
        asked
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_waits_for_the_first_masked_piece_and_no_longer() {
    for http2 in [false, true] {
        let tune = |config: &mut Config| config.limits.handshake_ms = 20_000;
        let world = World::with(Plan { tls: http2, masks: MASKS, tune, ..Plan::default() }).await;
        let feed = world.upstream.feed();
        let asked = waits!(world, http2, "/fed-json");
        feed.send(Frame::data(r#"{"users":[{"email":"ada@example.org"},"#.into())).await.unwrap();
        let (response, _client) = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let first = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        let first = String::from_utf8(first.into_data().unwrap().to_vec()).unwrap();
        assert!(first.starts_with(r#"{"users""#) && !first.contains("ada@"), "{first}");
        // It streams on; what is unreadable now can only be cut off.
        feed.send(Frame::data("no sense".into())).await.unwrap();
        assert!(body.collect().await.is_err());

        let feed = world.upstream.feed();
        let asked = waits!(world, http2, "/fed-json");
        feed.send(Frame::data("no sense".into())).await.unwrap();
        let (response, _client) = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
        assert_eq!(response.status(), 502);
        assert_eq!(refusal(response).await["reason"], "unmaskable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_piece_that_does_not_come_holds_the_head_back_for_a_while_only() {
    let tune = |config: &mut Config| config.limits.handshake_ms = 2_000;
    let world = World::with(Plan { tls: true, masks: MASKS, tune, ..Plan::default() }).await;
    let feed = world.upstream.feed();
    let mut client = world.http2().await;
    let asked = std::time::Instant::now();
    let response = client.get("/fed-json").await;
    assert_eq!(response.status(), 200);
    assert!(asked.elapsed() >= Duration::from_millis(1_900));
    feed.send(Frame::data(JSON.into())).await.unwrap();
    drop(feed);
    let body = text(response).await;
    assert!(body.contains("Ada") && !body.contains("ada@example.org"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_events_and_of_what_no_mask_reads_go_out_at_once() {
    const HEADERS: &str = "[[mask]]\nname = \"h\"\ntargets = [\"api\"]\nheaders = [\"etag\"]\n";
    for (masks, path) in [(MASKS, "/events"), ("", "/fed-json"), (HEADERS, "/fed-json")] {
        for tls in [false, true] {
            let world = World::with(Plan { tls, masks, ..Plan::default() }).await;
            let _feed = world.upstream.feed();
            let mut client = if tls { world.http2().await } else { world.http1().await };
            // Less than the first piece of a masked one is waited for.
            let head = tokio::time::timeout(Duration::from_secs(8), client.get(path));
            assert_eq!(head.await.expect(path).status(), 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_masked_and_delivered_while_the_stream_is_open() {
    for tls in [false, true] {
        let world = masked(tls).await;
        let feed = world.upstream.feed();
        let mut client = if tls { world.http2().await } else { world.http1().await };
        let mut body = client.get("/events").await.into_body();
        for n in 0..3 {
            let event = format!("data: {{\"n\":{n},\"mail\":\"ada@example.org\"}}\n\n");
            feed.send(Frame::data(event.into())).await.unwrap();
            let mut text = String::new();
            while !text.ends_with("\n\n") {
                let frame =
                    tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
                text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            assert!(text.contains(&format!("\"n\":{n}")), "{text}");
            assert!(!text.contains("ada@example.org"), "{text}");
        }
        drop(feed);
        let rest = body.collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_phrase_carries_nothing_past_a_mask() {
    let world = masked(false).await;
    let host = format!("{NAME}:{}", world.upstream.addr.port());
    let request = format!("GET /reason HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = world.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("ada@"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_must_not_be_there_is_not_delivered() {
    let world = masked(true).await;
    let mut client = world.http2().await;
    let response = client.get("/not-empty").await;
    assert_eq!(response.status(), 502);
    assert!(!text(response).await.contains("ada@"));
    assert_eq!(client.get("/empty").await.status(), 204);
}
