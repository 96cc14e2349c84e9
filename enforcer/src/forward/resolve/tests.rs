//! Against a name server in this process that misbehaves on demand.

use super::*;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// What the server sends for a question: datagrams in order, and the TCP answer.
type Script = fn(&Message) -> (Vec<Vec<u8>>, Option<Vec<u8>>);

struct Server {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// UDP and TCP on the same port.
async fn serve(script: Script) -> Server {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let addr = udp.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            for datagram in script(&query).0 {
                udp.send_to(&datagram, peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes).unwrap();
            if let Some(answer) = script(&query).1 {
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    });
    Server { addr, asked }
}

fn resolver(server: &Server, timeout_ms: u64) -> Resolver {
    Resolver::new(&config::Resolver {
        upstream: vec![server.addr],
        timeout_ms,
        ..config::Resolver::default()
    })
    .unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn wire(text: &str) -> WireName {
    WireName::from_ascii(format!("{text}.")).unwrap()
}

fn answer(query: &Message) -> Message {
    let mut message = Message::new();
    message
        .set_id(query.id())
        .set_message_type(MessageType::Response)
        .add_queries(query.queries().to_vec());
    message
}

fn address(owner: WireName, query: &Message, last: u8, ttl: u32) -> Record {
    let data = match query.queries()[0].query_type() {
        RecordType::A => RData::A(A::new(192, 0, 2, last)),
        _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last))),
    };
    Record::from_rdata(owner, ttl, data)
}

fn good(query: &Message) -> Vec<u8> {
    let mut message = answer(query);
    message.add_answer(address(query.queries()[0].name().clone(), query, 1, 30));
    message.to_vec().unwrap()
}

fn both() -> Vec<IpAddr> {
    vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()]
}

#[tokio::test]
async fn asks_for_both_families_and_keeps_the_answer() {
    let server = serve(|q| (vec![good(q)], None)).await;
    let resolver = resolver(&server, 5_000);
    for _ in 0..3 {
        let found = resolver.lookup(&name("www.example.com")).await.unwrap();
        assert_eq!(found.to_vec(), both());
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn lookups_at_the_same_time_are_one() {
    let server = serve(|q| (vec![good(q)], None)).await;
    let resolver = resolver(&server, 5_000);
    let wanted = name("www.example.com");
    let all = futures_util::future::join_all((0..20).map(|_| resolver.lookup(&wanted))).await;
    assert!(all.iter().all(|found| found.as_ref().unwrap().to_vec() == both()));
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_lookup_that_was_given_up_is_not_found_half_done() {
    let server = serve(|q| (vec![good(q)], None)).await;
    let resolver = resolver(&server, 5_000);
    let wanted = name("www.example.com");
    assert!(resolver.lookup(&wanted).now_or_never().is_none());
    assert_eq!(resolver.lookup(&wanted).await.unwrap().to_vec(), both());
}

#[tokio::test]
async fn an_answer_without_a_lifetime_is_not_kept() {
    let server = serve(|q| {
        let mut message = answer(q);
        message.add_answer(address(q.queries()[0].name().clone(), q, 1, 0));
        (vec![message.to_vec().unwrap()], None)
    })
    .await;
    let resolver = resolver(&server, 5_000);
    resolver.lookup(&name("a.example")).await.unwrap();
    resolver.lookup(&name("a.example")).await.unwrap();
    assert_eq!(server.asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn answers_to_other_questions_are_not_looked_at() {
    let server = serve(|q| {
        let forged = |change: fn(&mut Message)| {
            let mut message = answer(q);
            message.add_answer(address(q.queries()[0].name().clone(), q, 66, 30));
            change(&mut message);
            message.to_vec().unwrap()
        };
        let datagrams = vec![
            forged(|m| {
                m.set_id(m.id().wrapping_add(1));
            }),
            forged(|m| {
                m.queries_mut()[0].set_name(wire("other.example"));
            }),
            forged(|m| {
                m.queries_mut()[0].set_query_type(RecordType::TXT);
            }),
            forged(|m| {
                m.queries_mut().clear();
            }),
            forged(|m| {
                let again = m.queries()[0].clone();
                m.add_query(again);
            }),
            forged(|m| {
                m.set_message_type(MessageType::Query);
            }),
            vec![],
            vec![0xff; 1_500],
            // A header, then a name that points at itself.
            [
                &q.id().to_be_bytes()[..],
                &[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
            ]
            .concat(),
            good(q),
        ];
        (datagrams, None)
    })
    .await;
    let found = resolver(&server, 5_000).lookup(&name("www.example.com")).await;
    assert_eq!(found.unwrap().to_vec(), both());
}

#[tokio::test]
async fn only_forged_answers_end_in_a_timeout() {
    let server = serve(|q| {
        let mut message = answer(q);
        message.set_id(q.id().wrapping_add(1));
        (vec![message.to_vec().unwrap()], None)
    })
    .await;
    let wanted = name("www.example.com");
    let error = resolver(&server, 400).lookup(&wanted).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut(wanted));
}

#[tokio::test]
async fn a_silent_server_times_out_and_the_next_one_is_asked() {
    let silent = serve(|_| (vec![], None)).await;
    let other = serve(|q| (vec![good(q)], None)).await;
    let resolver = Resolver::new(&config::Resolver {
        upstream: vec![silent.addr, other.addr],
        timeout_ms: 2_000,
        ..config::Resolver::default()
    })
    .unwrap();
    let found = resolver.lookup(&name("www.example.com")).await.unwrap();
    assert_eq!(found.to_vec(), both());
}

#[tokio::test]
async fn a_cut_answer_is_had_over_tcp_however_large() {
    let server = serve(|q| {
        let mut cut = answer(q);
        cut.set_truncated(true);
        let mut huge = answer(q);
        for last in 0..=255 {
            huge.add_answer(address(q.queries()[0].name().clone(), q, last, 30));
        }
        (vec![cut.to_vec().unwrap()], Some(huge.to_vec().unwrap()))
    })
    .await;
    let found = resolver(&server, 5_000).lookup(&name("www.example.com")).await.unwrap();
    assert_eq!(found.len(), 128, "each family is bounded");
}

#[tokio::test]
async fn tcp_must_answer_the_question_too() {
    let server = serve(|q| {
        let mut cut = answer(q);
        cut.set_truncated(true);
        let mut other = answer(q);
        other.set_id(q.id().wrapping_add(1));
        (vec![cut.to_vec().unwrap()], Some(other.to_vec().unwrap()))
    })
    .await;
    let error = resolver(&server, 5_000).lookup(&name("www.example.com")).await.unwrap_err();
    assert_eq!(error.kind(), "resolve-failed");
}

#[tokio::test]
async fn aliases_are_followed_within_the_answer() {
    let server = serve(|q| {
        let mut message = answer(q);
        let alias =
            |from: WireName, to: &str| Record::from_rdata(from, 30, RData::CNAME(CNAME(wire(to))));
        // Out of order, and with an address of a name that nobody asked for.
        message.add_answer(address(wire("stray.example"), q, 66, 30));
        message.add_answer(address(wire("edge.example"), q, 1, 30));
        message.add_answer(alias(wire("cdn.example"), "edge.example"));
        message.add_answer(alias(q.queries()[0].name().clone(), "CDN.example"));
        (vec![message.to_vec().unwrap()], None)
    })
    .await;
    let found = resolver(&server, 5_000).lookup(&name("www.example.com")).await;
    assert_eq!(found.unwrap().to_vec(), both());
}

#[tokio::test]
async fn aliases_that_do_not_end_are_a_failure() {
    let server = serve(|q| {
        let mut message = answer(q);
        let own = q.queries()[0].name().clone();
        message.add_answer(Record::from_rdata(
            own.clone(),
            30,
            RData::CNAME(CNAME(wire("b.example"))),
        ));
        message.add_answer(Record::from_rdata(wire("b.example"), 30, RData::CNAME(CNAME(own))));
        (vec![message.to_vec().unwrap()], None)
    })
    .await;
    let error = resolver(&server, 5_000).lookup(&name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains("aliases do not end"), "{error}");
}

#[tokio::test]
async fn no_such_name_no_address_and_failures_differ() {
    for (script, kind) in [
        (
            (|q| {
                let mut message = answer(q);
                message.set_response_code(ResponseCode::NXDomain);
                (vec![message.to_vec().unwrap()], None)
            }) as Script,
            "no-such-name",
        ),
        (|q| (vec![answer(q).to_vec().unwrap()], None), "no-address"),
        (
            |q| {
                let mut message = answer(q);
                message.set_response_code(ResponseCode::ServFail);
                (vec![message.to_vec().unwrap()], None)
            },
            "resolve-failed",
        ),
    ] {
        let server = serve(script).await;
        let error = resolver(&server, 5_000).lookup(&name("a.example")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn one_family_is_enough() {
    let server = serve(|q| match q.queries()[0].query_type() {
        RecordType::A => (vec![good(q)], None),
        _ => {
            let mut message = answer(q);
            message.set_response_code(ResponseCode::ServFail);
            (vec![message.to_vec().unwrap()], None)
        }
    })
    .await;
    let found = resolver(&server, 5_000).lookup(&name("www.example.com")).await.unwrap();
    assert_eq!(found.to_vec(), [IpAddr::from([192, 0, 2, 1])]);
}

#[tokio::test]
async fn the_hosts_table_is_asked_before_any_server() {
    let server = serve(|q| (vec![good(q)], None)).await;
    let mut config =
        config::Resolver { upstream: vec![server.addr], ..config::Resolver::default() };
    let fixed: IpAddr = "10.0.0.5".parse().unwrap();
    config.hosts.insert("DB.Internal".to_owned(), vec![fixed]);
    config.hosts.insert("none.internal".to_owned(), vec![]);
    let resolver = Resolver::new(&config).unwrap();
    assert_eq!(resolver.lookup(&name("db.internal")).await.unwrap().to_vec(), [fixed]);
    let error = resolver.lookup(&name("none.internal")).await.unwrap_err();
    assert_eq!(error.kind(), "no-address");
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    config.hosts.insert("127.1".to_owned(), vec![fixed]);
    assert_eq!(Resolver::new(&config).unwrap_err().kind(), "bad-hosts");
}
