//! Messages there and back, at every cut, and what does not fit.

use super::error_response::Report;
use super::frontend::{self, Bind, Execute, Frontend, Named, Parse};
use super::function_call::{self, FunctionCall};
use super::row_description::Field;
use super::startup::{self, First, Startup};
use super::{
    CodecError, MAX_MESSAGE, Message, backend, copy, data_row, put, row_description, take,
};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use rstest::rstest;

fn one(write: impl FnOnce(&mut BytesMut)) -> Message {
    let mut out = BytesMut::new();
    write(&mut out);
    let message = take(&mut out, MAX_MESSAGE).unwrap().unwrap();
    assert!(out.is_empty(), "one message, no more");
    message
}

#[test]
fn a_message_is_taken_once_it_is_whole() {
    let mut wire = BytesMut::new();
    frontend::put_query(&mut wire, "SELECT 1");
    for cut in 0..wire.len() {
        let mut part = BytesMut::from(&wire[..cut]);
        assert_eq!(take(&mut part, MAX_MESSAGE), Ok(None), "at {cut}");
    }
    wire.extend_from_slice(b"X");
    let message = take(&mut wire, MAX_MESSAGE).unwrap().unwrap();
    assert_eq!(frontend::read(&message), Ok(Frontend::Query("SELECT 1".into())));
    assert_eq!(&wire[..], b"X");
}

#[rstest]
#[case(&[b'Q', 0, 0, 0, 3])]
#[case(&[b'Q', 0xff, 0xff, 0xff, 0xff])]
#[case(&[b'Q', 0x04, 0, 0, 0])]
fn lengths_are_bounded_before_anything_is_kept(#[case] bytes: &[u8]) {
    let mut buf = BytesMut::from(bytes);
    assert_eq!(take(&mut buf, MAX_MESSAGE), Err(CodecError::Bounds("message")));
}

fn frontends() -> Vec<(Frontend, Message)> {
    let parse = Parse { name: "s1".into(), sql: "SELECT $1".into(), types: vec![23, 0] };
    let bind = Bind {
        portal: String::new(),
        statement: "s1".into(),
        formats: vec![1, 0],
        values: vec![Some(Bytes::from_static(&[0, 0, 0, 7])), None],
        results: vec![1],
    };
    let execute = Execute { portal: "p".into(), rows: 10 };
    let call = FunctionCall {
        function: 16_400,
        formats: vec![0, 1],
        values: vec![Some(Bytes::from_static(b"a")), None],
        result: 1,
    };
    let statement = Named::Statement("s1".into());
    let portal = Named::Portal(String::new());
    vec![
        (Frontend::Parse(parse.clone()), one(|out| parse.put(out))),
        (Frontend::Bind(bind.clone()), one(|out| bind.put(out))),
        (Frontend::Execute(execute.clone()), one(|out| execute.put(out))),
        (Frontend::FunctionCall(call.clone()), one(|out| call.put(out))),
        (Frontend::Describe(statement.clone()), one(|out| statement.put_describe(out))),
        (Frontend::Close(portal.clone()), one(|out| portal.put_close(out))),
        (Frontend::Sync, one(|out| frontend::put_bare(out, frontend::SYNC))),
        (Frontend::CopyFail("no".into()), one(|out| copy::put_fail(out, "no"))),
    ]
}

#[test]
fn what_a_client_sends_reads_back_and_fits_exactly() {
    for (want, message) in frontends() {
        assert_eq!(frontend::read(&message).as_ref(), Ok(&want));
        let mut longer = message.body.to_vec();
        longer.push(7);
        let longer = Message { tag: message.tag, body: longer.into() };
        assert!(frontend::read(&longer).is_err(), "{want:?} with a byte more");
        for cut in 0..message.body.len() {
            let shorter = Message { tag: message.tag, body: message.body.slice(..cut) };
            assert!(frontend::read(&shorter).is_err(), "{want:?} cut at {cut}");
        }
    }
}

/// The server would cut it, and find by it what was made under another name.
#[test]
fn a_name_that_the_server_would_cut_is_none() {
    for (length, taken) in [(63, true), (64, false), (4000, false)] {
        let name = "n".repeat(length);
        let parse = Parse { name: name.clone(), sql: "SELECT 1".into(), types: Vec::new() };
        let bind = |portal: &str, statement: &str| Bind {
            portal: portal.into(),
            statement: statement.into(),
            formats: Vec::new(),
            values: Vec::new(),
            results: Vec::new(),
        };
        let execute = Execute { portal: name.clone(), rows: 0 };
        let messages = [
            one(|out| parse.put(out)),
            one(|out| bind(&name, "").put(out)),
            one(|out| bind("", &name).put(out)),
            one(|out| execute.put(out)),
            one(|out| Named::Statement(name.clone()).put_describe(out)),
            one(|out| Named::Portal(name.clone()).put_close(out)),
        ];
        for message in messages {
            let read = frontend::read(&message);
            assert_eq!(read.is_ok(), taken, "{length}: {read:?}");
            assert!(taken || read == Err(CodecError::Bounds("name")), "{read:?}");
        }
    }
}

#[test]
fn formats_are_for_none_all_or_each() {
    let bind = |formats: &[i16]| Bind {
        portal: String::new(),
        statement: String::new(),
        formats: formats.to_vec(),
        values: vec![None, None],
        results: Vec::new(),
    };
    assert_eq!(bind(&[]).format(1), 0);
    assert_eq!(bind(&[1]).format(1), 1);
    assert_eq!(bind(&[1, 0]).format(0), 1);
    let three = one(|out| bind(&[1, 0, 1]).put(out));
    assert_eq!(frontend::read(&three), Err(CodecError::Bounds("Bind")));
    let unknown = one(|out| bind(&[2]).put(out));
    assert_eq!(frontend::read(&unknown), Err(CodecError::Value("format")));
}

#[test]
fn a_text_that_is_not_utf8_is_no_statement() {
    let message = one(|out| put(out, frontend::QUERY, |body| body.put_slice(b"\xff\0")));
    assert_eq!(frontend::read(&message), Err(CodecError::Text("Query")));
    // What comes behind a zero byte would be read by one and not by another.
    let message = one(|out| put(out, frontend::QUERY, |body| body.put_slice(b"a\0b\0")));
    assert_eq!(frontend::read(&message), Err(CodecError::Trailing("Query")));
}

#[test]
fn rows_and_their_description_read_back() {
    let field = Field {
        name: "email".into(),
        table: 16_384,
        column: 2,
        kind: 25,
        size: -1,
        modifier: -1,
        format: 0,
    };
    let message = one(|out| row_description::write(out, std::slice::from_ref(&field)));
    assert_eq!(row_description::read(&message.body), Ok(vec![field]));
    let row = [Some(Bytes::from_static(b"a")), None, Some(Bytes::new())];
    let message = one(|out| data_row::write(out, &row));
    assert_eq!(data_row::read(&message.body).unwrap(), row);
    // A count of 65,535 columns in a body of two bytes.
    assert!(data_row::read(&Bytes::from_static(&[0xff, 0xff])).is_err());
    // A value longer than the row, and one of a negative length that is not NULL.
    assert!(data_row::read(&Bytes::from_static(&[0, 1, 0, 0, 0, 9, 1])).is_err());
    assert!(data_row::read(&Bytes::from_static(&[0, 1, 0xff, 0xff, 0xff, 0xfe])).is_err());
}

#[test]
fn reports_read_back() {
    let report = Report::new("ERROR", "42501", "refused").with(b'D', "why").with(b'H', "");
    let message = one(|out| report.put(out, super::error_response::ERROR));
    let read = Report::read(&message.body).unwrap();
    assert_eq!(read, report);
    assert_eq!((read.code(), read.get(b'H')), ("42501", None));
    assert!(Report::read(&Bytes::from_static(b"Mno end")).is_err());
}

#[test]
fn what_a_server_sends_reads_back() {
    let key = one(|out| backend::put_key_data(out, 7, &[1; 32]));
    assert_eq!(backend::key_data(&key.body), Ok((7, Bytes::from_static(&[1; 32]))));
    for value in [None, Some(&b"x"[..])] {
        let result = one(|out| function_call::put_result(out, value));
        let read = function_call::result(&result.body).unwrap();
        assert_eq!(read.as_deref(), value);
    }
    assert!(function_call::result(&Bytes::from_static(&[0, 0, 0, 9, 1])).is_err());
    let status = one(|out| backend::put_parameter(out, "a", "b"));
    assert_eq!(backend::parameter(&status.body), Ok(("a".into(), "b".into())));
    let version = one(|out| backend::put_negotiate(out, 2, &["_pq_.x"]));
    assert_eq!(backend::negotiate(&version.body), Ok((2, vec!["_pq_.x".into()])));
    let sasl = Bytes::from_static(b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let want = backend::Authentication::Sasl(vec!["SCRAM-SHA-256".into()]);
    assert_eq!(backend::authentication(&sasl), Ok(want));
    assert!(backend::ready(&Bytes::from_static(b"X")).is_err());
    let copy = copy::CopyResponse { binary: true, formats: vec![1, 1] };
    let message = one(|out| copy.put(out, copy::OUT_RESPONSE));
    assert_eq!(copy::read(&message.body), Ok(copy));
}

#[test]
fn first_packets_read_back_at_every_cut() {
    let startup = Startup {
        minor: 2,
        parameters: vec![("user".into(), "u".into()), ("database".into(), "d".into())],
    };
    let mut wire = BytesMut::new();
    startup.put(&mut wire);
    for cut in 0..wire.len() {
        assert_eq!(startup::take(&mut BytesMut::from(&wire[..cut])), Ok(None), "at {cut}");
        assert_ne!(startup::begins(&wire[..cut]), Some(false), "at {cut}");
    }
    assert_eq!(startup::begins(&wire), Some(true));
    assert_eq!(startup::take(&mut wire), Ok(Some(First::Startup(startup))));
    let mut wire = BytesMut::new();
    startup::put_cancel(&mut wire, 9, &[5; 4]);
    let want = First::Cancel { process: 9, key: Bytes::from_static(&[5; 4]) };
    assert_eq!(startup::take(&mut wire), Ok(Some(want)));
}

#[rstest]
#[case(b"\0\0\0\x07\0\x03\0\0")]
#[case(b"\0\0\0\x08\0\x02\0\0")]
#[case(b"\0\0\0\x09\x04\xd2\x16\x2f\0")]
#[case(b"\0\0\0\x10\0\x03\0\0a\0b\0a\0c\0")]
#[case(b"\0\0\0\x0b\0\x03\0\0a\0b")]
fn first_packets_that_are_none(#[case] packet: &[u8]) {
    assert!(startup::take(&mut BytesMut::from(packet)).is_err());
}

#[rstest]
#[case(b"GET / HTTP/1.1\r\n", Some(false))]
#[case(b"\x16\x03\x01\0\xa5\x01\0\0\xa1", Some(false))]
#[case(b"\0\0\0\x08\0\x02\0\0", Some(false))]
#[case(b"\0\0\0", None)]
fn other_protocols_do_not_begin_like_it(#[case] bytes: &[u8], #[case] begins: Option<bool>) {
    assert_eq!(startup::begins(bytes), begins);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(tag: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let message = Message { tag, body: body.into() };
        if let Ok(Frontend::Bind(bind)) = frontend::read(&message) {
            prop_assert_eq!(one(|out| bind.put(out)), message.clone());
        }
        let _ = (data_row::read(&message.body), row_description::read(&message.body));
        let _ = (Report::read(&message.body), copy::read(&message.body));
        let _ = (backend::authentication(&message.body), backend::negotiate(&message.body));
        let _ = function_call::result(&message.body);
        let _ = (backend::key_data(&message.body), backend::notification(&message.body));
        let _ = startup::take(&mut BytesMut::from(&message.body[..]));
    }
}
