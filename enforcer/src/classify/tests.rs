use super::*;
use rstest::rstest;
use rustls_pki_types::ServerName;
use std::sync::Arc;

/// A real ClientHello, made by rustls.
fn hello(name: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Cuts the handshake message of one record into records of `size` bytes.
fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
    record[5..]
        .chunks(size)
        .flat_map(|part| {
            let mut out = vec![22, 3, 1];
            out.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            out.extend(part);
            out
        })
        .collect()
}

/// Every proper prefix must ask for more, and the whole must be `want`.
fn byte_by_byte(bytes: &[u8], want: &Spoken) {
    for n in 0..bytes.len() {
        assert_eq!(detect(&bytes[..n]), Detected::NeedMore, "after {n} bytes");
    }
    assert_eq!(detect(bytes), Detected::Is(want.clone()));
}

#[test]
fn a_client_hello_is_known_at_its_last_byte_only() {
    let bytes = hello("Api.Example.COM", &[b"h2", b"http/1.1"]);
    let want = Spoken::Tls(ClientHello {
        server_name: Some("api.example.com".into()),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        encrypted: false,
    });
    byte_by_byte(&bytes, &want);
    byte_by_byte(&fragmented(&bytes, 100), &want);
}

#[test]
fn an_address_has_no_server_name() {
    let bytes = hello("192.0.2.1", &[]);
    byte_by_byte(&bytes, &Spoken::Tls(ClientHello::default()));
}

#[test]
fn a_hello_in_too_many_records_is_refused() {
    let bytes = fragmented(&hello("a.example", &[]), 3);
    assert_eq!(detect(&bytes), Detected::Is(Spoken::Unknown("client-hello-too-large")));
}

/// Builds a ClientHello with these extensions.
fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        list.extend(*data);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 1, 1, 0]);
    body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
    body.extend(list);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

const NAME_A: &[u8] = &[0, 4, 0, 0, 1, b'a'];

#[rstest]
#[case::two_names_in_one_list(&[(0, [0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b'].as_slice())], "client-hello-two-names")]
#[case::two_extensions(&[(0, NAME_A), (0, NAME_A)], "client-hello-two-names")]
#[case::name_of_another_type(&[(0, [0, 4, 1, 0, 1, b'a'].as_slice())], "client-hello-malformed")]
#[case::empty_name(&[(0, [0, 3, 0, 0, 0].as_slice())], "client-hello-malformed")]
#[case::nul_in_name(&[(0, [0, 4, 0, 0, 1, 0].as_slice())], "client-hello-malformed")]
#[case::length_past_the_end(&[(0, [0, 9, 0, 0, 1, b'a'].as_slice())], "client-hello-malformed")]
#[case::alpn_twice(&[(16, [0, 3, 2, b'h', b'2'].as_slice()), (16, [0, 3, 2, b'h', b'2'].as_slice())], "client-hello-malformed")]
#[case::alpn_with_an_empty_name(&[(16, [0, 1, 0].as_slice())], "client-hello-malformed")]
fn ambiguous_hellos_are_refused(#[case] extensions: &[(u16, &[u8])], #[case] code: &'static str) {
    assert_eq!(detect(&with_extensions(extensions)), Detected::Is(Spoken::Unknown(code)));
}

#[test]
fn an_encrypted_hello_is_noticed() {
    let Detected::Is(Spoken::Tls(hello)) = detect(&with_extensions(&[(0xfe0d, &[0]), (0, NAME_A)]))
    else {
        panic!("not read");
    };
    assert!(hello.encrypted);
    assert_eq!(hello.server_name.as_deref(), Some("a"));
}

#[test]
fn the_http2_preface_is_known_at_its_last_byte() {
    byte_by_byte(H2_PREFACE, &Spoken::Http2);
}

#[rstest]
#[case("GET /")]
#[case("OPTIONS *")]
#[case("POST h")]
#[case("CONNECT e")]
#[case("VERSION-CONTROL /")]
#[case("PROPFIND /")]
#[case("PRINT /")]
fn http1_is_known_after_method_and_space(#[case] text: &str) {
    byte_by_byte(text.as_bytes(), &Spoken::Http1);
}

/// A question for TLS and for GSSAPI, a cancel request, and start-ups of 3.0 and 3.2.
#[rstest]
#[case(&[0, 0, 0, 8, 4, 210, 22, 47])]
#[case(&[0, 0, 0, 8, 4, 210, 22, 48])]
#[case(&[0, 0, 0, 16, 4, 210, 22, 46])]
#[case(&[0, 0, 0, 30, 0, 3, 0, 0])]
#[case(&[0, 0, 0, 30, 0, 3, 0, 2])]
fn postgres_is_known_by_the_code_of_its_first_packet(#[case] bytes: &[u8]) {
    byte_by_byte(bytes, &Spoken::Postgres);
}

#[rstest]
#[case::ssh(b"SSH-2.0-OpenSSH_9.2\r\n")]
#[case::lower_case(b"get / HTTP/1.1")]
#[case::blank(b" GET /")]
#[case::line(b"\r\nGET /")]
#[case::sslv2(&[0x80, 0x2e, 1, 0, 2])]
#[case::postgres_2(&[0, 0, 0, 8, 0, 2, 0, 0])]
#[case::smtp(b"EHLO\r\n")]
#[case::two_spaces(b"GET  /")]
#[case::tls_alert(&[21, 3, 3, 0, 2, 1, 0])]
#[case::tls_of_the_future(&[22, 4, 1, 0, 5, 1, 0, 0, 0, 0])]
#[case::server_hello(&[22, 3, 3, 0, 4, 2, 0, 0, 0])]
#[case::endless_method(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
fn anything_else_is_unknown(#[case] bytes: &[u8]) {
    assert!(matches!(detect(bytes), Detected::Is(Spoken::Unknown(_))), "{:?}", detect(bytes));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_times_out() {
    let (_client, server) = tokio::io::duplex(64);
    let error = classify(server, Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(error, ClassifyError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn the_bytes_are_replayed() {
    use tokio::io::AsyncWriteExt;
    let (mut client, server) = tokio::io::duplex(64);
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut classified = classify(server, Duration::from_secs(10)).await.unwrap();
    assert_eq!(classified.spoken, Spoken::Http1);
    client.write_all(b"rest").await.unwrap();
    drop(client);
    let mut all = Vec::new();
    classified.io.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"GET / HTTP/1.1\r\nrest");
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        detect(&bytes);
        let mut tls = vec![22, 3, 1];
        tls.extend(&bytes);
        detect(&tls);
    }

    /// A verdict never changes with more bytes.
    #[test]
    fn verdicts_are_stable(cut in 1usize..200, flip in 0usize..200, value: u8) {
        let mut bytes = with_extensions(&[(0, NAME_A), (16, &[0, 3, 2, b'h', b'2'])]);
        let at = flip % bytes.len();
        bytes[at] = value;
        let cut = cut % bytes.len();
        if let Detected::Is(Spoken::Unknown(early)) = detect(&bytes[..cut]) {
            proptest::prop_assert_eq!(detect(&bytes), Detected::Is(Spoken::Unknown(early)));
        }
    }
}
