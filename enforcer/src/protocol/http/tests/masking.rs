use super::upstream::JSON;
use super::{NAME, PATIENCE, Plan, World, full, refusal, text};
use http_body_util::BodyExt;
use hyper::body::Frame;

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
    let request = client.request("GET", "/not-empty").body(full("")).unwrap();
    if let Ok(response) = client.send(request).await {
        let body = response.into_body().collect().await;
        assert!(body.is_err(), "{body:?}");
    }
    assert_eq!(client.get("/empty").await.status(), 204);
}
