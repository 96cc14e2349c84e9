use super::{PATIENCE, Plan, World, refusal, text};
use crate::config::Config;
use bytes::Bytes;
use enforcer_proto::v1::event::Kind;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread")]
async fn connections_past_a_limit_are_closed_and_recorded() {
    let tune = |config: &mut Config| config.limits.connections_per_agent = 1;
    let world = World::with(Plan { tune, ..Plan::default() }).await;
    let mut client = world.http1().await;
    assert_eq!(text(client.get("/").await).await, "ok");
    for _ in 0..3 {
        let mut stream = world.connect().await;
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
        assert!(!matches!(read, Ok(1..)), "it was served");
    }
    // The one within the limit goes on, and leaves a place.
    assert_eq!(text(client.get("/").await).await, "ok");
    drop(client);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let turned_away: Vec<_> = world
            .transcripts()
            .await
            .into_iter()
            .filter_map(|flow| match (flow.first()?.kind.clone()?, flow.last()?.kind.clone()?) {
                (Kind::FlowStart(start), Kind::FlowEnd(end)) => {
                    Some((start.principal?.agent, start.name, start.refusal?, end))
                }
                _ => None,
            })
            .collect();
        for (agent, name, refusal, end) in &turned_away {
            assert_eq!((agent.as_str(), name.as_str()), ("agent-a", super::NAME));
            assert_eq!(refusal.reason, "connections-per-agent");
            assert_eq!(end.outcome, "refused");
        }
        if turned_away.iter().map(|(_, _, refusal, _)| refusal.count).sum::<u64>() == 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{turned_away:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text(world.http1().await.get("/").await).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_not_waited_for_without_end() {
    let tune = |config: &mut Config| config.limits.handshake_ms = 300;
    let world = World::with(Plan { tls: true, tune, ..Plan::default() }).await;
    let trickle = |pieces: usize| {
        let pieces = futures_util::stream::iter(0..pieces).then(|_| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))
        });
        BodyExt::boxed(StreamBody::new(Box::pin(pieces)))
    };
    let mut client = world.http2().await;
    // Each piece is in time, and all of them are not.
    let request = client.request("POST", "/act").body(trickle(1000)).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "body-timeout");
    assert!(world.people.requests().is_empty());
    let mut client = world.http2().await;
    let request = client.request("POST", "/act").body(trickle(5)).unwrap();
    let sent = tokio::spawn(async move { client.send(request).await.unwrap().status() });
    let id = tokio::time::timeout(PATIENCE, world.people.next_pending()).await.unwrap();
    world.people.approve(id, "ann");
    assert_eq!(sent.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hello_for_another_name_is_told_no_in_tls() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    for (name, alert) in [("other.test", "UnrecognisedName"), ("192.0.2.1", "MissingExtension")] {
        let stream = world.connect().await;
        let error = world.tls(stream, name, &[b"h2"]).await.unwrap_err();
        assert!(error.to_string().contains(alert), "{name}: {error}");
    }
    let stream = world.connect().await;
    world.tls(stream, super::NAME, &[b"h2"]).await.unwrap();
    let ends: Vec<_> = world
        .transcripts()
        .await
        .into_iter()
        .filter_map(|flow| match flow.last()?.kind.clone()? {
            Kind::FlowEnd(end) => Some((end.outcome, end.error)),
            _ => None,
        })
        .filter(|(outcome, _)| outcome == "refused")
        .map(|(_, error)| error)
        .collect();
    assert_eq!(ends, ["server-name-mismatch", "no-server-name"]);
}
