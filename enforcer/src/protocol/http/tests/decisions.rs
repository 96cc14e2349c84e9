use super::{NAME, PATIENCE, Plan, RULES, SCOPES, World, full, refusal, text};
use crate::approval::State;
use crate::policy::Bundle;
use crate::principal::AgentName;
use enforcer_proto::v1::event::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_request_is_recorded_forwarded_and_delivered() {
    for tls in [false, true] {
        let world = World::with(Plan { tls, ..Plan::default() }).await;
        let mut client = world.http1().await;
        let request = client
            .request("GET", "/a?b=c")
            .header("authorization", "Bearer sesame")
            .header("proxy-connection", "keep-alive")
            .body(full(""))
            .unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("alt-svc"));
        assert_eq!(text(response).await, "ok");
        let seen = world.upstream.seen();
        assert_eq!(seen[0].line, "GET /a?b=c");
        assert_eq!(seen[0].headers["host"], client.authority().as_str());
        assert_eq!(seen[0].headers["authorization"], "Bearer sesame");
        assert!(!seen[0].headers.contains_key("proxy-connection"));
        drop(client);
        assert_eq!(
            world.story().await,
            [
                "start",
                "asked http.get",
                "allow policy",
                "forwarded",
                "response 200",
                "response-body 2",
                "end complete",
                "flow complete"
            ],
            "tls: {tls}"
        );
        let recorded = format!("{:?}", world.transcripts().await);
        assert!(!recorded.contains("sesame"), "a credential was recorded");
        assert!(recorded.contains("hmac:"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_carries_many_operations_over_one_upstream_connection() {
    let world = World::new().await;
    let mut client = world.http1().await;
    for n in 0..5 {
        assert_eq!(text(client.get(&format!("/{n}")).await).await, "ok");
    }
    let peers: std::collections::BTreeSet<_> =
        world.upstream.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!(peers.len(), 1);
    // Another agent never gets that connection.
    let stream = world.connect_as("agent-b", NAME, world.upstream.addr.port()).await;
    let mut other = world.http1_over(hyper_util::rt::TokioIo::new(stream)).await;
    assert_eq!(text(other.get("/").await).await, "ok");
    assert_ne!(world.upstream.seen()[5].peer, world.upstream.seen()[0].peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_says_why_and_nothing_leaves() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let response = client.get("/secret/x").await;
    assert_eq!(response.status(), 403);
    let why = refusal(response).await;
    assert_eq!(why["decision"], "deny");
    assert_eq!(why["reason"], "policy");
    assert!(why["digest"].as_str().unwrap().starts_with("v1:"));
    // A server may read this as the path above.
    let why = refusal(client.get("/%73ecret%2fx").await).await;
    assert_eq!(why["reason"], "policy");
    let why = refusal(client.get("//secret/x").await).await;
    assert_eq!(why["reason"], "policy");
    // The connection stays usable.
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_goes_on_when_people_approve() {
    for http2 in [false, true] {
        let world = World::with(Plan { tls: true, ..Plan::default() }).await;
        let mut client = if http2 { world.http2().await } else { world.http1().await };
        let people = world.people.clone();
        let approving = tokio::spawn(async move {
            let id = people.next_pending().await;
            let (_, ask, _) = people.requests().pop().unwrap();
            assert_eq!(ask.operation.body.as_deref(), Some(b"exact bytes".as_slice()));
            people.approve(id, "alice");
        });
        let response = client.post("/act", "exact bytes").await.unwrap();
        assert_eq!(text(response).await, "ok");
        approving.await.unwrap();
        assert_eq!(world.upstream.seen()[0].body, "exact bytes");
        drop(client);
        let story = world.story().await;
        assert_eq!(
            story[1..5],
            ["asked http.post", "request-body 11", "allow approved", "forwarded"]
        );
        let decided = world.transcripts().await.concat();
        let decision = decided.iter().find_map(|event| match &event.kind {
            Some(Kind::Decision(decision)) => Some(decision.clone()),
            _ => None,
        });
        let decision = decision.unwrap();
        assert_eq!(decision.decided_by, ["alice"]);
        assert_eq!(decision.scope, "people");
        assert!(!decision.claim.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_is_refused_when_people_deny() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let people = world.people.clone();
    tokio::spawn(async move {
        let id = people.next_pending().await;
        people.deny(id, "bob", "not today");
    });
    let response = client.post("/act", "x").await.unwrap();
    assert_eq!(response.status(), 403);
    let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(problem["enforcer"]["reason"], "approval-denied");
    assert_eq!(problem["detail"], "people denied it: not today");
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_hold_the_client_is_told_and_its_retry_uses_the_grant_once() {
    let world = World::with(Plan { hold: "1s", ..Plan::default() }).await;
    let mut client = world.http1().await;
    let response = client.post("/act", "x").await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.headers().contains_key("retry-after"));
    let why = refusal(response).await;
    assert_eq!(why["reason"], "approval-pending");
    let id = why["approval"].as_str().unwrap().to_owned();

    // The agent follows it at the daemon's own address; another agent cannot.
    let status = internal(&world, "agent-a", &format!("/v1/approvals/{id}")).await;
    assert!(status.contains("\"pending\""), "{status}");
    let status = internal(&world, "agent-b", &format!("/v1/approvals/{id}")).await;
    assert!(status.starts_with("HTTP/1.1 404"), "{status}");

    world.people.approve(id.parse().unwrap(), "alice");
    assert_eq!(client.post("/act", "x").await.unwrap().status(), 200);
    // The grant had one use: the same again asks anew.
    let why = refusal(client.post("/act", "x").await.unwrap()).await;
    assert_eq!(why["reason"], "approval-pending");
    assert_ne!(why["approval"].as_str().unwrap(), id);
    // Another body is another operation.
    let why = refusal(client.post("/act", "y").await.unwrap()).await;
    assert_eq!(why["reason"], "approval-pending");
    assert_eq!(world.upstream.seen().len(), 1);
}

async fn internal(world: &World, agent: &str, path: &str) -> String {
    let mut stream = world.connect_as(agent, "enforcer.internal", 80).await;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: enforcer.internal\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_own_address_answers() {
    let world = World::new().await;
    let who = internal(&world, "agent-a", "/v1/whoami").await;
    assert!(who.contains("\"agent\":\"agent-a\""), "{who}");
    let ca = internal(&world, "agent-a", "/ca.pem").await;
    assert!(ca.contains("BEGIN CERTIFICATE"), "{ca}");
    assert!(internal(&world, "agent-a", "/v1/manifest").await.contains("approval-pending"));
    assert!(internal(&world, "agent-a", "/v1/nothing").await.starts_with("HTTP/1.1 404"));
    let tasks = internal(&world, "agent-a", "/v1/tasks").await;
    assert!(tasks.starts_with("HTTP/1.1 200") && tasks.ends_with("{\"tasks\":[]}"), "{tasks}");
    let unknown = internal(&world, "agent-a", "/v1/tasks/none").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    let odd = internal(&world, "agent-a", "/v1/approvals/nonsense").await;
    assert!(odd.starts_with("HTTP/1.1 404"), "{odd}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_withdraws_its_request() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let people = world.people.clone();
    let sending = tokio::spawn(async move { client.post("/act", "x").await.map(drop) });
    let id = people.next_pending().await;
    sending.abort();
    let state = || people.requests().into_iter().find(|(other, ..)| *other == id).unwrap().2;
    tokio::time::timeout(PATIENCE, async {
        while state() != State::Cancelled {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(world.upstream.seen().is_empty());
    let story = world.story().await;
    assert!(story.contains(&"deny cancelled".to_owned()), "{story:?}");
    assert_eq!(world.inputs.decider.holds().held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_denies() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let people = world.people.clone();
    tokio::spawn(async move {
        people.next_pending().await;
        people.lose_server();
    });
    let why = refusal(client.post("/act", "x").await.unwrap()).await;
    assert_eq!(why["reason"], "server-unreachable");
    let why = refusal(client.post("/act", "y").await.unwrap()).await;
    assert_eq!(why["reason"], "server-unreachable");
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_is_asked_again_while_people_are_waited_for() {
    let world = World::new().await;
    let mut client = world.http1().await;
    let sending = tokio::spawn(async move { client.post("/act", "x").await });
    world.people.next_pending().await;
    world.reload("@id(\"no\") forbid (principal, action, resource);");
    let why = refusal(sending.await.unwrap().unwrap()).await;
    assert_eq!(why["reason"], "policy");
    assert_eq!(why["rule"], "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_a_new_policy_no_longer_ignores_does_not_leave_unseen() {
    let target = "ignore_headers = [\"x-mode\"]";
    let world = World::with(Plan { target, ..Plan::default() }).await;
    let mut client = world.http1().await;
    let request =
        client.request("POST", "/act").header("x-mode", "drop-all").body(full("x")).unwrap();
    let sending = tokio::spawn(async move { client.send(request).await });
    let id = world.people.next_pending().await;
    world.reload(RULES);
    world.people.approve(id, "alice");
    let why = refusal(sending.await.unwrap().unwrap()).await;
    assert_eq!(why["reason"], "not-sendable");
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_bounded() {
    let tune = |config: &mut crate::config::Config| config.limits.held_per_agent = 1;
    let world = World::with(Plan { tune, ..Plan::default() }).await;
    let mut first = world.http1().await;
    let waiting = tokio::spawn(async move { first.post("/act", "1").await });
    let id = world.people.next_pending().await;
    tokio::time::timeout(PATIENCE, async {
        while world.inputs.decider.holds().held() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let mut second = world.http1().await;
    let why = refusal(second.post("/act", "2").await.unwrap()).await;
    assert_eq!(why["reason"], "held-limit");
    world.people.approve(id, "alice");
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(world.inputs.decider.holds().held(), 0);
}

/// Begins a streamed answer; gives the feed and the body.
async fn streaming(
    world: &World,
    method: &'static str,
) -> (tokio::sync::mpsc::Sender<hyper::body::Frame<bytes::Bytes>>, hyper::body::Incoming) {
    use http_body_util::BodyExt;
    let feed = world.upstream.feed();
    let mut client = world.http1().await;
    let people = world.people.clone();
    if method == "POST" {
        tokio::spawn(async move {
            let id = people.next_pending().await;
            people.approve(id, "alice");
        });
    }
    let request = client.request(method, "/fed").body(full("")).unwrap();
    let mut body = client.send(request).await.unwrap().into_body();
    feed.send(hyper::body::Frame::data("first".into())).await.unwrap();
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first");
    // The client lives as long as its connection's task.
    std::mem::forget(client);
    (feed, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_back_cuts_what_runs() {
    use http_body_util::BodyExt;
    let world = World::new().await;
    let (feed, mut body) = streaming(&world, "POST").await;
    let (id, ..) = world.people.requests().pop().unwrap();
    world.people.revoke(id);
    let next = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
    assert!(next.is_some_and(|frame| frame.is_err()), "the body must break off, not end");
    tokio::time::timeout(PATIENCE, feed.closed()).await.unwrap();
    let story = world.story().await;
    assert!(story.contains(&"end cut".to_owned()), "{story:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_forbids_cuts_what_runs_and_one_that_does_not_lets_it() {
    use http_body_util::BodyExt;
    let world = World::new().await;
    let (feed, mut body) = streaming(&world, "GET").await;
    world.reload(&format!(
        "{RULES}\n@id(\"more\") permit (principal, action == Action::\"http.delete\", resource);"
    ));
    feed.send(hyper::body::Frame::data("second".into())).await.unwrap();
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "second");
    world.reload("@id(\"no\") forbid (principal, action, resource);");
    let next = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
    assert!(next.is_some_and(|frame| frame.is_err()));
}

/// Whether an answer that runs is cut by the next bundle: waits for that, or sees it go on.
async fn after(method: &'static str, cut: bool, next: impl FnOnce(u16) -> Bundle) {
    use http_body_util::BodyExt;
    let world = World::new().await;
    let (feed, mut body) = streaming(&world, method).await;
    world.policy.send_replace(Arc::new(next(world.upstream.addr.port())));
    let mut alive = 0;
    let ended = async {
        // Bytes may be faster than the news; what goes on is seen for a while.
        while cut || alive < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sent = feed.send(hyper::body::Frame::data("more".into())).await;
            let frame = body.frame().await;
            if sent.is_err() || frame.is_none_or(|frame| frame.is_err()) {
                return true;
            }
            alive += 1;
        }
        false
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap(), cut);
    if cut {
        drop((feed, body));
        let story = world.story().await;
        assert!(story.contains(&"end cut".to_owned()), "{story:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_stays_only_under_what_it_was_given_under() {
    let masks = "[[mask]]\nname = \"m\"\ntargets = [\"api\"]\nheaders = [\"x-a\"]\n";
    let with = |port, masks, scopes: &str| {
        super::bundle_with(port, &Plan { masks, ..Plan::default() }, RULES, scopes)
    };
    let two = SCOPES.replace("quorum = 1", "quorum = 2");
    let more = SCOPES.replace("uses = 1", "uses = 9");
    after("GET", false, |port| with(port, "# nothing\n", SCOPES)).await;
    // It was not masked.
    after("GET", true, |port| with(port, masks, SCOPES)).await;
    after("POST", false, |port| with(port, "", &more)).await;
    // One person decided.
    after("POST", true, |port| with(port, "", &two)).await;
    let moved = |port| {
        let files = [
            (
                "targets.toml",
                format!(
                    "[[target]]\nname = \"api\"\nnames = [\"{NAME}\"]\naddresses = [\"127.0.0.9\"]\n\
                     ports = [{port}]\nprotocol = \"grpc\"\n"
                ),
            ),
            (
                "rules.cedar",
                "@id(\"all\") permit (principal, action in Action::\"http.read\", resource);"
                    .to_owned(),
            ),
            ("scopes.toml", String::new()),
            ("masks.toml", String::new()),
        ];
        let files = files.map(|(file, text)| (file.to_owned(), text)).into();
        Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"))
    };
    // It goes where the target is no more.
    after("GET", true, moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_nothing_runs_and_each_refusal_says_why() {
    use crate::policy::Absence;
    for why in [Absence::Missing, Absence::Expired] {
        after("GET", true, |_| Bundle::absent(why).unwrap()).await;
        let world = World::new().await;
        let mut client = world.http1().await;
        assert_eq!(client.get("/").await.status(), 200);
        world.policy.send_replace(Arc::new(Bundle::absent(why).unwrap()));
        let response = client.get("/").await;
        assert_eq!(response.status(), 403);
        assert_eq!(refusal(response).await["reason"], why.code());
        assert_eq!(world.upstream.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_forwarded() {
    let world = World::new().await;
    let mut client = world.http1().await;
    assert_eq!(client.get("/").await.status(), 200);
    world.inputs.recorder.shutdown().await;
    let response = client.get("/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(refusal(response).await["reason"], "transcript-closed");
    assert_eq!(world.upstream.seen().len(), 1);
    // A new connection cannot even begin its record.
    let mut stream = world.connect().await;
    let mut buf = [0; 16];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.unwrap();
    assert_eq!(read.unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_agree_are_refused() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let port = world.upstream.addr.port();
    // TLS for another name than the flow's.
    let stream = world.connect().await;
    assert!(world.tls(stream, "evil.test", &[b"http/1.1"]).await.is_err());
    // No name where one is needed.
    let stream = world.connect().await;
    assert!(world.tls(stream, "127.0.0.1", &[b"http/1.1"]).await.is_err());
    // A Host that is not the TLS name.
    let mut client = world.http1().await;
    let request = http::Request::get("/").header("host", format!("sub.{NAME}:{port}"));
    let response = client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "name-mismatch");
    let request = http::Request::get("/").header("host", format!("{NAME}:1"));
    let response = client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "port-mismatch");
    // A synthetic address of another agent.
    let agent = AgentName::parse("agent-b").unwrap();
    let ip = "198.18.77.77".parse().unwrap();
    let mut stream = world.connect_to(agent, std::net::SocketAddr::new(ip, port)).await;
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: api.test\r\n\r\n").await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_may_be_called_by_its_targets_name() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let agent = || AgentName::parse("agent-a").unwrap();
    let stream = world.connect_to(agent(), world.upstream.addr).await;
    let stream = world.tls(stream, NAME, &[b"http/1.1"]).await.unwrap();
    let mut client = world.http1_over(hyper_util::rt::TokioIo::new(stream)).await;
    assert_eq!(text(client.get("/").await).await, "ok");
    let stream = world.connect_to(agent(), world.upstream.addr).await;
    assert!(world.tls(stream, "other.test", &[b"http/1.1"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_of_http2_is_judged_by_its_own_authority() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let mut client = world.http2().await;
    assert_eq!(text(client.get("/one").await).await, "ok");
    let port = world.upstream.addr.port();
    let request = http::Request::get(format!("https://sub.{NAME}:{port}/two"));
    let response = client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "name-mismatch");
    let request = http::Request::get(format!("http://{NAME}:{port}/three"));
    let response = client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "scheme-mismatch");
    let request =
        client.request("GET", "/four").header("host", "evil.test").body(full("")).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(refusal(response).await["reason"], "host-differs");
    assert_eq!(text(client.get("/five").await).await, "ok");
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_reaches_an_upstream_that_has_only_http1() {
    let plan = Plan { tls: true, alpn: &[b"http/1.1"], ..Plan::default() };
    let world = World::with(plan).await;
    let mut client = world.http2().await;
    for n in 0..3 {
        let request = client
            .request("GET", &format!("/{n}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full(""))
            .unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await, "ok");
    }
    let seen = world.upstream.seen();
    assert_eq!(seen[0].headers["host"], client.authority().as_str());
    assert_eq!(seen[0].headers["cookie"], "a=1; b=2");
    assert_eq!(seen[0].peer, seen[2].peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_target_is_carried_uninspected_and_its_tls_name_must_fit() {
    let world = World::with(Plan { tls: true, ..Plan::default() }).await;
    let port = world.upstream.addr.port();
    let tls = |name: &'static str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(world.upstream.ca.clone()).unwrap();
        let upstreams = crate::tls::client::Upstreams::with_roots(roots).unwrap();
        let stream = world.connect_as("agent-a", "bytes.test", port);
        async move {
            upstreams
                .connect(stream.await, name, crate::tls::client::Offer::Http1)
                .await
                .map(|(stream, _)| stream)
        }
    };
    assert!(tls("api.test").await.is_err(), "another name than the flow's");
    let stream = tls("bytes.test").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/secret/x").header("host", "any").body(full("")).unwrap();
    assert_eq!(text(sender.send_request(request).await.unwrap()).await, "ok");
    drop(sender);
    let flows = world.transcripts().await;
    let story: Vec<_> =
        flows[1].iter().filter_map(|event| event.kind.clone()).map(super::word).collect();
    assert_eq!(
        story,
        [
            "start",
            "asked opaque.connect",
            "allow policy",
            "forwarded",
            "end complete",
            "flow complete"
        ]
    );
    let uninspected = flows[1].iter().any(
        |event| matches!(&event.kind, Some(Kind::Forwarded(forwarded)) if forwarded.uninspected),
    );
    assert!(uninspected);
    let story = world.story().await;
    assert!(story.contains(&"flow refused".to_owned()), "{story:?}");
}

/// Puts `rules` in force, and counts, whenever something is claimed.
fn reload_on_claim(world: &World, rules: String) -> Arc<AtomicUsize> {
    let claims = Arc::new(AtomicUsize::new(0));
    let (policy, port) = (world.policy.clone(), world.upstream.addr.port());
    let count = Arc::clone(&claims);
    world.people.on_claim(move || {
        count.fetch_add(1, Ordering::SeqCst);
        policy.send_replace(Arc::new(super::bundle(port, &Plan::default(), &rules)));
    });
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_right_after_the_claim_asks_nobody_again() {
    let allowed = RULES.replace("@approval(\"people\") ", "");
    let forbidden = format!("{RULES} @id(\"no\") forbid (principal, action, resource);");
    for (rules, status, sent) in
        [(RULES.to_owned(), 200, 1), (allowed, 200, 1), (forbidden, 403, 0)]
    {
        let world = World::new().await;
        let claims = reload_on_claim(&world, rules);
        let mut client = world.http1().await;
        let post = tokio::spawn(async move { client.post("/act", "x").await.unwrap().status() });
        let id = tokio::time::timeout(PATIENCE, world.people.next_pending()).await.unwrap();
        world.people.approve(id, "ann");
        assert_eq!(tokio::time::timeout(PATIENCE, post).await.unwrap().unwrap(), status);
        assert_eq!(world.people.requests().len(), 1, "people were asked again");
        assert_eq!(claims.load(Ordering::SeqCst), 1);
        assert_eq!(world.upstream.seen().len(), sent);
        let recorded = format!("{:?}", world.transcripts().await);
        assert_eq!(recorded.contains("decided_by: [\"ann\"]"), status == 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_people_are_asked_when_a_reload_right_after_the_claim_wants_them() {
    let world = World::new().await;
    let rules = RULES.to_owned();
    let stricter = SCOPES.replace("uses = 1", "uses = 2");
    let port = world.upstream.addr.port();
    let policy = world.policy.clone();
    world.people.on_claim(move || {
        policy.send_replace(Arc::new(super::bundle_with(
            port,
            &Plan::default(),
            &rules,
            &stricter,
        )));
    });
    let mut client = world.http1().await;
    let post = tokio::spawn(async move { client.post("/act", "x").await.unwrap().status() });
    for n in 1..=2 {
        let id = tokio::time::timeout(PATIENCE, world.people.next_pending()).await.unwrap();
        assert_eq!(world.people.requests().len(), n);
        world.people.approve(id, "ann");
    }
    assert_eq!(tokio::time::timeout(PATIENCE, post).await.unwrap().unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_while_the_daemon_drains_happens_once() {
    let mut world = World::with(Plan { hold: "0s", ..Plan::default() }).await;
    let claims = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&claims);
    world.people.on_claim(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut client = world.http1().await;
    assert_eq!(client.post("/act", "x").await.unwrap().status(), 403);
    let id = tokio::time::timeout(PATIENCE, world.people.next_pending()).await.unwrap();
    world.people.approve(id, "ann");
    // As when the daemon stops: nobody will put another policy in force.
    world.policy = tokio::sync::watch::channel(world.inputs.decider.bundle()).0;
    assert_eq!(client.post("/act", "x").await.unwrap().status(), 200);
    assert_eq!(claims.load(Ordering::SeqCst), 1);
}
