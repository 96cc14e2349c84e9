//! Packets by hand and by hickory, and whatever else arrives.

use super::*;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::A;
use proptest::prelude::*;
use rstest::rstest;

fn query(name: &str, edns: Option<u16>) -> Message {
    let mut message = Message::new();
    message
        .set_id(0x1234)
        .set_recursion_desired(true)
        .add_query(Query::query(WireName::from_ascii(name).unwrap(), RecordType::A));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
    }
    message
}

fn bytes(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = query("www.Example.com.", Some(4_096));
    change(&mut message);
    message.to_vec().unwrap()
}

#[test]
fn a_question_is_read_and_answered_in_its_own_case() {
    let question = read(&bytes(|_| ())).unwrap();
    assert_eq!(question.id, 0x1234);
    assert_eq!(question.edns, Some((0, 4_096)));
    assert_eq!(question.udp_limit(), MAX_UDP);
    let answer = Answer {
        code: ResponseCode::NoError,
        records: vec![Record::from_rdata(
            question.name.clone(),
            60,
            RData::A(A::new(198, 18, 0, 9)),
        )],
        error: None,
    };
    let reply = Message::from_vec(&question.write(&answer, question.udp_limit()).unwrap()).unwrap();
    assert_eq!(reply.id(), 0x1234);
    assert_eq!(reply.message_type(), MessageType::Response);
    assert!(reply.recursion_desired() && reply.recursion_available() && !reply.authentic_data());
    assert_eq!(reply.queries()[0].name().to_string(), "www.Example.com.");
    assert_eq!(reply.answers().len(), 1);
}

#[test]
fn an_extended_error_goes_to_clients_that_speak_edns() {
    let mut answer = Answer::empty(ResponseCode::Refused);
    answer.error =
        Some(ExtendedError { code: 15, text: "because ".to_owned() + &"ü".repeat(200) });
    let question = read(&bytes(|_| ())).unwrap();
    let reply = Message::from_vec(&question.write(&answer, 1_232).unwrap()).unwrap();
    assert_eq!(reply.response_code(), ResponseCode::Refused);
    let edns = reply.extensions().as_ref().unwrap();
    let Some((_, EdnsOption::Unknown(15, data))) = edns.options().as_ref().first() else {
        panic!("no extended error");
    };
    assert_eq!(data[..2], [0, 15]);
    let text = std::str::from_utf8(&data[2..]).unwrap();
    assert!(text.starts_with("because üü") && text.len() <= MAX_TEXT);
    let plain = read(&query("www.example.com.", None).to_vec().unwrap()).unwrap();
    let reply = Message::from_vec(&plain.write(&answer, 512).unwrap()).unwrap();
    assert!(reply.extensions().is_none());
}

#[test]
fn an_answer_fits_or_is_cut() {
    let question =
        read(&query(&format!("{}.example.com.", "a".repeat(60)), Some(100)).to_vec().unwrap())
            .unwrap();
    assert_eq!(question.udp_limit(), 512, "every client takes 512 bytes");
    let record = Record::from_rdata(question.name.clone(), 60, RData::A(A::new(198, 18, 0, 9)));
    let answer = Answer { code: ResponseCode::NoError, records: vec![record; 40], error: None };
    let bytes = question.write(&answer, 512).unwrap();
    assert!(bytes.len() <= 512);
    let reply = Message::from_vec(&bytes).unwrap();
    assert!(reply.truncated() && reply.answers().is_empty());
    // An explanation that does not fit costs only itself.
    let mut refusal = Answer::empty(ResponseCode::Refused);
    refusal.error = Some(ExtendedError { code: 15, text: "x".repeat(160) });
    let bytes = question.write(&refusal, 120).unwrap();
    assert!(bytes.len() <= 120);
    assert!(!Message::from_vec(&bytes).unwrap().truncated());
}

#[test]
fn bad_versions_have_their_own_code() {
    let question = read(&bytes(|m| {
        m.extensions_mut().as_mut().unwrap().set_version(1);
    }))
    .unwrap();
    assert_eq!(question.edns, Some((1, 4_096)));
    let bytes = question.write(&Answer::empty(ResponseCode::BADVERS), 512).unwrap();
    let reply = Message::from_vec(&bytes).unwrap();
    // 16 has two names: BADVERS, and BADSIG of TSIG (RFC 6895, 2.3).
    assert_eq!(u16::from(reply.response_code()), 16);
}

#[rstest]
#[case::nothing(vec![], Malformed::NoHeader)]
#[case::half_a_header(vec![0; 11], Malformed::NoHeader)]
#[case::answer(bytes(|m| { m.set_message_type(MessageType::Response); }), Malformed::IsAnswer)]
#[case::update(bytes(|m| { m.set_op_code(OpCode::Update); }), Malformed::Opcode)]
#[case::notify(bytes(|m| { m.set_op_code(OpCode::Notify); }), Malformed::Opcode)]
#[case::no_question(bytes(|m| { m.take_queries(); }), Malformed::Counts)]
#[case::two_questions(bytes(|m| { m.add_query(Query::query(WireName::root(), RecordType::A)); }), Malformed::Counts)]
#[case::an_answer_record(bytes(|m| { m.add_answer(Record::from_rdata(WireName::root(), 1, RData::A(A::new(1, 1, 1, 1)))); }), Malformed::Counts)]
#[case::another_record(
    query("a.example.", None).add_additional(Record::from_rdata(WireName::root(), 1, RData::A(A::new(1, 1, 1, 1)))).to_vec().unwrap(),
    Malformed::Counts
)]
#[case::trailing([bytes(|_| ()), vec![0]].concat(), Malformed::Trailing)]
#[case::header_only(vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], Malformed::Format)]
#[case::loop_to_itself(vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1], Malformed::Format)]
#[case::pointer_ahead(vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 16, 0, 1, 0, 1, 0], Malformed::Format)]
#[case::label_past_the_end(vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, b'a'], Malformed::Format)]
#[case::reserved_label_type(vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 1, 0, 1], Malformed::Format)]
#[case::too_long([bytes(|_| ()), vec![0; MAX_QUESTION]].concat(), Malformed::TooLong)]
fn refuses(#[case] packet: Vec<u8>, #[case] why: Malformed) {
    assert_eq!(read(&packet).unwrap_err(), why);
    match why.reply(&packet) {
        None => assert!(matches!(why, Malformed::NoHeader | Malformed::IsAnswer)),
        Some(reply) => {
            let reply = Message::from_vec(&reply).unwrap();
            assert_eq!(reply.id().to_be_bytes(), packet[..2]);
            assert_eq!(reply.message_type(), MessageType::Response);
            let code =
                if why == Malformed::Opcode { ResponseCode::NotImp } else { ResponseCode::FormErr };
            assert_eq!(reply.response_code(), code);
        }
    }
}

#[test]
fn every_cut_of_a_question_is_refused() {
    let whole = bytes(|_| ());
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        match read(&packet) {
            Ok(question) => {
                let bytes = question.write(&Answer::empty(ResponseCode::Refused), 512).unwrap();
                prop_assert!(bytes.len() <= 512);
                prop_assert!(Message::from_vec(&bytes).is_ok());
            }
            Err(why) => {
                if let Some(reply) = why.reply(&packet) {
                    prop_assert_eq!(reply.len(), HEADER);
                }
            }
        }
    }

    #[test]
    fn a_changed_question_never_panics(at in 0_usize..60, with: u8, tail in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut packet = bytes(|_| ());
        let at = at % packet.len();
        packet[at] = with;
        packet.extend(tail);
        if let Ok(question) = read(&packet) {
            question.write(&Answer::empty(ResponseCode::NoError), 512).unwrap();
        }
    }
}
