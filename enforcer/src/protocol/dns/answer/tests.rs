//! Each kind of question, known and unknown.

use super::*;
use crate::protocol::dns::codec;
use hickory_proto::op::{Edns, Message, Query};
use rstest::rstest;

fn question(name: &str, record_type: RecordType) -> Question {
    let mut message = Message::new();
    message.add_query(Query::query(WireName::from_ascii(name).unwrap(), record_type));
    message.set_edns(Edns::new());
    codec::read(&message.to_vec().unwrap()).unwrap()
}

fn world() -> (AgentName, Names) {
    let names =
        Names::new("198.18.0.0/15".parse().unwrap(), "fd65:6e66:7263::/64".parse().unwrap(), 3);
    (AgentName::parse("a").unwrap(), names)
}

fn decide(question: &Question, ruling: &Ruling) -> Plan {
    let (agent, names) = world();
    let subject = subject(question, &agent, &names);
    plan(question, &subject, ruling, &agent, &names, true)
}

#[rstest]
#[case(RecordType::A, 1)]
#[case(RecordType::AAAA, 1)]
#[case(RecordType::HTTPS, 0)]
#[case(RecordType::SVCB, 0)]
#[case(RecordType::TXT, 0)]
#[case(RecordType::MX, 0)]
#[case(RecordType::SRV, 0)]
#[case(RecordType::CNAME, 0)]
#[case(RecordType::PTR, 0)]
#[case(RecordType::Unknown(65_280), 0)]
fn known_names(#[case] record_type: RecordType, #[case] records: usize) {
    let plan = decide(&question("www.Example.com.", record_type), &Ruling::Known);
    assert!(plan.allowed);
    assert_eq!(plan.answer.code, ResponseCode::NoError);
    assert_eq!(plan.answer.records.len(), records);
    for record in plan.answer.records {
        assert!(record.ttl() <= 60);
        let ip = record.data().ip_addr().unwrap();
        assert!(world().1.is_synthetic(ip), "{ip}");
    }
}

#[rstest]
#[case(RecordType::ANY)]
#[case(RecordType::AXFR)]
#[case(RecordType::IXFR)]
#[case(RecordType::NULL)]
#[case(RecordType::Unknown(254))]
#[case(RecordType::Unknown(253))]
fn questions_that_only_move_data_are_refused(#[case] record_type: RecordType) {
    let plan = decide(&question("www.example.com.", record_type), &Ruling::Known);
    assert_eq!((plan.answer.code, plan.reason), (ResponseCode::Refused, "unsupported-type"));
}

#[test]
fn other_classes_are_refused() {
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.class = DNSClass::CH;
    assert_eq!(decide(&chaos, &Ruling::Known).reason, "unsupported-type");
}

#[test]
fn unknown_and_forbidden_names_say_why() {
    let asked = question("evil.example.", RecordType::A);
    let plan = decide(&asked, &Ruling::Unknown);
    assert_eq!((plan.answer.code, plan.reason), (ResponseCode::Refused, "unknown-target"));
    let error = plan.answer.error.unwrap();
    assert_eq!(error.code, 15);
    assert!(error.text.contains("no target in policy"));
    for why in [Absence::Missing, Absence::Expired] {
        let plan = decide(&asked, &Ruling::NoPolicy(why));
        assert_eq!((plan.allowed, plan.reason), (false, why.code()));
        assert_eq!(plan.answer.code, ResponseCode::Refused);
    }
    for (ruling, says) in [
        (Ruling::Denied(vec!["no-dns".to_owned()]), "no-dns"),
        (Ruling::Denied(vec![]), "no rule permits dns.query"),
        (Ruling::NeedsApproval(vec!["ask".to_owned()]), "cannot wait for the approval of rule ask"),
    ] {
        let plan = decide(&asked, &ruling);
        assert_eq!((plan.allowed, plan.reason), (false, "policy"));
        assert_eq!(plan.answer.code, ResponseCode::Refused);
        let error = plan.answer.error.unwrap();
        assert_eq!(error.code, 18);
        assert!(error.text.contains(says), "{}", error.text);
    }
}

#[rstest]
#[case(".")]
#[case("1.2.3.4.")]
#[case("0x7f000001.")]
#[case("a\\.b.example.")]
#[case("\\*.example.")]
fn names_that_no_host_has(#[case] name: &str) {
    let plan = decide(&question(name, RecordType::A), &Ruling::Known);
    assert_eq!((plan.answer.code, plan.reason), (ResponseCode::Refused, "bad-name"));
}

#[test]
fn a_synthetic_address_leads_back_to_its_name_for_its_agent_only() {
    let (agent, names) = world();
    let name = Name::parse("www.example.com").unwrap();
    for family in [Family::V4, Family::V6] {
        let ip = names.assign(&agent, &name, family).unwrap();
        let asked = question(&WireName::from(ip).to_string(), RecordType::PTR);
        let about = subject(&asked, &agent, &names);
        assert_eq!(about, Subject::Reverse(name.clone()));
        let plan = plan(&asked, &about, &Ruling::Known, &agent, &names, true);
        let RData::PTR(target) = plan.answer.records[0].data() else {
            panic!("no PTR");
        };
        assert_eq!(target.0.to_string(), "www.example.com.");
        let other = AgentName::parse("b").unwrap();
        assert!(matches!(subject(&asked, &other, &names), Subject::Name(_)));
    }
}

#[test]
fn without_ipv6_there_is_no_ipv6_address() {
    let (agent, names) = world();
    let asked = question("www.example.com.", RecordType::AAAA);
    let about = subject(&asked, &agent, &names);
    let plan = plan(&asked, &about, &Ruling::Known, &agent, &names, false);
    assert!(plan.allowed && plan.answer.records.is_empty());
}

#[test]
fn a_full_table_is_a_failure_not_a_lie() {
    let (agent, names) = world();
    for i in 0..4 {
        let asked = question(&format!("n{i}.example."), RecordType::A);
        let about = subject(&asked, &agent, &names);
        let plan = plan(&asked, &about, &Ruling::Known, &agent, &names, true);
        assert_eq!(plan.allowed, i < 3);
        if i == 3 {
            assert_eq!((plan.answer.code, plan.reason), (ResponseCode::ServFail, "names-full"));
        }
    }
}

#[test]
fn other_edns_versions_are_not_spoken() {
    let mut asked = question("www.example.com.", RecordType::A);
    asked.edns = Some((1, 1_232));
    assert_eq!(decide(&asked, &Ruling::Known).answer.code, ResponseCode::BADVERS);
}
