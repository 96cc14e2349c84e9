use crate::operation::Fact;
use crate::principal::{AgentName, Principal, Process};
use crate::protocol::http::operation::{Where, read};
use http::{Request, Version};

const AT: Where<'static> = Where {
    target: "api",
    name: "api.test",
    port: 443,
    tls: true,
    grpc: true,
    ignored: &[],
    injected: &[],
};

fn hash(secret: &[u8]) -> String {
    format!("hmac:{}", secret.len())
}

fn parts(
    build: impl FnOnce(http::request::Builder) -> http::request::Builder,
) -> http::request::Parts {
    let builder = Request::builder().uri("/a/b?c=d").header("host", "api.test");
    build(builder).body(()).unwrap().into_parts().0
}

fn principal() -> Principal {
    Principal {
        host: "h".into(),
        agent: AgentName::parse("a").unwrap(),
        task: None,
        cgroup: String::new(),
        process: Process::default(),
    }
}

#[test]
fn everything_that_changes_the_effect_is_a_fact() {
    let parts = parts(|b| {
        b.method("POST")
            .header("content-type", "application/json")
            .header("authorization", "Bearer sesame")
            .header("x-many", "1")
            .header("x-many", "2")
            .header("traceparent", "00-1")
            .header("connection", "keep-alive")
            .header("content-length", "3")
    });
    let (read, flaw) = read(&parts, AT, &hash);
    assert_eq!(flaw, None);
    assert_eq!(read.operation.action, "http.post");
    assert_eq!(read.operation.resource, "https://api.test/a/b");
    let facts: Vec<_> = read
        .operation
        .facts()
        .iter()
        .map(|(name, value)| match value {
            Fact::Text(text) => format!("{name}={text}"),
            Fact::List(items) => format!("{name}={}", items.join("|")),
            other => format!("{name}={other:?}"),
        })
        .collect();
    assert_eq!(
        facts,
        [
            "http.authority=api.test",
            "http.header.authorization=hmac:13",
            "http.header.content-type=application/json",
            "http.header.x-many=1|2",
            "http.method=POST",
            "http.path=/a/b",
            "http.query=c=d",
            "http.scheme=https",
        ]
    );
    let note = |name: &str, value: &str| (format!("http.header.{name}"), Fact::from(value));
    assert_eq!(read.notes, [note("traceparent", "00-1"), note("content-length", "3")]);
}

#[test]
fn a_retry_has_the_same_digest_and_another_request_has_not() {
    let digest =
        |parts: &http::request::Parts| read(parts, AT, &hash).0.operation.digest(&principal());
    let base = digest(&parts(|b| b));
    let same: [fn(http::request::Builder) -> http::request::Builder; 4] = [
        |b| b.header("traceparent", "other"),
        |b| b.header("traceparent", "00-1-1-01"),
        |b| b.header("accept-encoding", "br"),
        |b| b.header("connection", "close"),
    ];
    for build in same {
        assert_eq!(digest(&parts(build)), base);
    }
    let other: [fn(http::request::Builder) -> http::request::Builder; 6] = [
        |b| b.method("DELETE"),
        |b| b.uri("/a/b?c=e"),
        |b| b.uri("/a/b"),
        |b| b.uri("/a/B?c=d"),
        |b| b.header("x-any", "1"),
        |b| b.header("authorization", "x"),
    ];
    let mut seen = vec![base];
    for build in other {
        let digest = digest(&parts(build));
        assert!(!seen.contains(&digest));
        seen.push(digest);
    }
}

#[test]
fn a_header_that_the_proxy_sets_is_not_the_agents_to_choose() {
    let injected = [http::header::AUTHORIZATION];
    let at = Where { injected: &injected, ..AT };
    let digest = |value: &str| {
        let parts = parts(|b| b.header("authorization", value));
        read(&parts, at, &hash).0.operation.digest(&principal())
    };
    assert_eq!(digest("Bearer one"), digest("Bearer fifteen"));
}

#[test]
fn a_credential_in_the_query_is_bound_and_not_shown() {
    let read = |query: &str| read(&parts(|b| b.uri(query)), AT, &hash).0.operation;
    let one = read("/a/b?token=sesame&c=d");
    assert_eq!(one.get("http.query"), Some(&Fact::from("token=hmac:6&c=d")));
    assert_ne!(one.digest(&principal()), read("/a/b?token=sesame2&c=d").digest(&principal()));
}

#[test]
fn a_header_that_only_looks_like_another_is_refused() {
    let injected = [http::HeaderName::from_static("x-api-key")];
    let at = Where { injected: &injected, ..AT };
    for name in ["x_api_key", "x-api_key", "transfer_encoding", "x_http_method_override"] {
        let parts = parts(|b| b.header(name, "1"));
        assert_eq!(read(&parts, at, &hash).1.unwrap().code, "header-underscore", "{name}");
    }
    assert_eq!(read(&parts(|b| b.header("x_other", "1")), at, &hash).1, None);
}

fn grpc_call() -> http::request::Builder {
    Request::builder()
        .version(Version::HTTP_2)
        .method("POST")
        .uri("https://api.test/pkg.v1.Users/Delete")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

#[test]
fn grpc_calls_are_named() {
    let parts = grpc_call().body(()).unwrap().into_parts().0;
    let (read, flaw) = read(&parts, AT, &hash);
    assert_eq!(flaw, None);
    assert_eq!(read.operation.action, "grpc.call");
    assert_eq!(read.operation.get("grpc.service"), Some(&Fact::from("pkg.v1.Users")));
    assert_eq!(read.operation.get("grpc.method"), Some(&Fact::from("Delete")));
}

#[test]
fn what_only_calls_itself_grpc_is_an_ordinary_request() {
    let undeclared = Where { grpc: false, ..AT };
    let without = |name: &str| {
        let mut parts = grpc_call().body(()).unwrap().into_parts().0;
        parts.headers.remove(name);
        parts
    };
    for (why, parts, at, action) in [
        ("the target declares none", without("x"), undeclared, "http.post"),
        ("no trailers", without("te"), AT, "http.post"),
        ("no content type", without("content-type"), AT, "http.post"),
        (
            "HTTP/1.1",
            grpc_call().version(Version::HTTP_11).body(()).unwrap().into_parts().0,
            AT,
            "http.post",
        ),
        ("no POST", grpc_call().method("PUT").body(()).unwrap().into_parts().0, AT, "http.put"),
        (
            "two content types",
            grpc_call().header("content-type", "text/plain").body(()).unwrap().into_parts().0,
            AT,
            "http.post",
        ),
    ] {
        let (read, flaw) = read(&parts, at, &hash);
        assert_eq!(flaw, None, "{why}");
        assert_eq!(read.operation.action, action, "{why}");
        assert_eq!(read.operation.get("grpc.service"), None, "{why}");
    }
}

#[test]
fn text_that_is_no_text_is_refused() {
    let parts = parts(|b| b.header("x", http::HeaderValue::from_bytes(b"\xff").unwrap()));
    assert_eq!(read(&parts, AT, &hash).1.unwrap().code, "header-character");
    let parts =
        self::parts(|b| b.header("x", http::HeaderValue::from_bytes("ü".as_bytes()).unwrap()));
    assert_eq!(read(&parts, AT, &hash).1, None);
}

#[test]
fn extended_connect_is_refused() {
    let mut parts = parts(|b| b.method("CONNECT").uri("https://api.test/chat"));
    parts.extensions.insert(hyper::ext::Protocol::from_static("websocket"));
    assert_eq!(read(&parts, AT, &hash).1.unwrap().code, "upgrade-refused");
}

#[test]
fn the_length_that_was_sent_is_noted_and_not_hashed() {
    let digest = |length: &str| {
        let read = read(&parts(|b| b.header("content-length", length)), AT, &hash).0;
        let note = ("http.header.content-length".to_owned(), Fact::from(length));
        assert!(read.notes.contains(&note), "{:?}", read.notes);
        read.operation.digest(&principal())
    };
    assert_eq!(digest("1"), digest("2"));
}
