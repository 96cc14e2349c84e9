use super::*;
use crate::principal::{Principal, Process};
use proptest::prelude::*;

fn ask(body: Option<&'static [u8]>) -> Ask {
    let mut operation = Operation::new(
        "api",
        "api.example",
        443,
        Protocol::Http,
        "http.post",
        "https://api.example/v1/pay".to_owned(),
    );
    operation.fact("http.method", "POST");
    operation.fact("http.header.x", Fact::List(vec!["a".to_owned(), "b".to_owned()]));
    operation.fact("http.retry", true);
    if let Some(body) = body {
        operation.with_body(Bytes::from_static(body));
    }
    let principal = Principal {
        host: "h1".to_owned(),
        agent: AgentName::parse("build").unwrap(),
        task: Some("t".to_owned()),
        cgroup: "/agents.slice/build".to_owned(),
        process: Process::default(),
    };
    let digest = operation.digest(&principal);
    Ask { principal, operation, digest, scopes: Vec::new(), policy: "sha256:1".to_owned() }
}

#[test]
fn what_was_asked_comes_back() {
    for body in [None, Some(&b""[..]), Some(&b"{\"sum\":1}"[..])] {
        let ask = ask(body);
        let wire = request(ask.clone());
        let (op, digest) = checked_operation(&wire).unwrap();
        assert_eq!(digest, ask.digest);
        assert_eq!(op.facts(), ask.operation.facts());
        assert_eq!(op.body, ask.operation.body);
    }
}

#[test]
fn a_request_that_does_not_fit_together_is_refused() {
    type Spoil = fn(&mut v1::ApprovalRequest);
    let cases: [(Spoil, ConvertError); 11] = [
        (|r| r.operation = None, ConvertError::Missing("operation")),
        (|r| r.principal = None, ConvertError::Missing("principal")),
        (|r| op(r).port = 443 + 65536, ConvertError::Invalid("operation.port")),
        (|r| op(r).protocol = "gopher".to_owned(), ConvertError::Invalid("operation.protocol")),
        (|r| op(r).facts[0].value = None, ConvertError::Missing("a fact's value")),
        (|r| op(r).facts.reverse(), ConvertError::FactOrder),
        (
            |r| {
                let f = op(r).facts[0].clone();
                op(r).facts.insert(0, f)
            },
            ConvertError::FactOrder,
        ),
        (|r| r.body = Bytes::from_static(b"{\"sum\":9}"), ConvertError::Body),
        (|r| r.body = Bytes::new(), ConvertError::Body),
        (|r| op(r).target = "other".to_owned(), ConvertError::Digest),
        (|r| r.principal.as_mut().unwrap().task = String::new(), ConvertError::Digest),
    ];
    for (at, (spoil, expected)) in cases.into_iter().enumerate() {
        let mut wire = request(ask(Some(b"{\"sum\":1}")));
        spoil(&mut wire);
        assert_eq!(checked_operation(&wire).unwrap_err(), expected, "case {at}");
    }
}

fn op(request: &mut v1::ApprovalRequest) -> &mut v1::OperationAsked {
    request.operation.as_mut().unwrap()
}

#[test]
fn a_streamed_body_cannot_be_approved() {
    let mut ask = ask(None);
    ask.operation.fact("http.body", "streamed");
    ask.digest = ask.operation.digest(&ask.principal);
    assert_eq!(checked_operation(&request(ask)).unwrap_err(), ConvertError::Streamed);
}

#[test]
fn an_unknown_state_is_an_error() {
    let approval = |state| v1::Approval {
        id: "0190163d-8694-739b-aea5-966c26f8ad90".to_owned(),
        state,
        request: Some(request(ask(None))),
        ..v1::Approval::default()
    };
    assert_eq!(view(&approval(99)).unwrap_err(), ConvertError::Invalid("approval.state"));
    assert_eq!(view(&approval(0)).unwrap_err(), ConvertError::Missing("approval.state"));
    assert_eq!(view(&approval(1)).unwrap().state, State::Pending);
}

proptest! {
    #[test]
    fn any_single_changed_byte_of_the_body_is_refused(at in 0usize..9, flip in 1u8..) {
        let mut wire = request(ask(Some(b"{\"sum\":1}")));
        let mut body = wire.body.to_vec();
        body[at] ^= flip;
        wire.body = body.into();
        prop_assert_eq!(checked_operation(&wire).unwrap_err(), ConvertError::Body);
    }
}

#[test]
fn credentials_in_a_reason_stay_at_the_server() {
    let vote = |reason: &str| v1::Vote { reason: reason.to_owned(), ..v1::Vote::default() };
    let approval = v1::Approval {
        votes: vec![vote("CHG-1234, as agreed"), vote("use password=s3kr1t for it")],
        ..v1::Approval::default()
    };
    let kept: Vec<String> = votes(&approval).into_iter().map(|vote| vote.reason).collect();
    assert_eq!(kept[0], "CHG-1234, as agreed");
    assert!(!kept[1].contains("s3kr1t") && kept[1].starts_with("use password="), "{kept:?}");
}

#[test]
fn a_server_that_drops_a_rule_is_noticed() {
    let asked = v1::Scope {
        name: "s".to_owned(),
        reviewers: vec!["b".to_owned(), "a".to_owned()],
        reason_pattern: "CHG".to_owned(),
        ..v1::Scope::default()
    };
    let mut kept = v1::Scope { reviewers: vec!["a".into(), "b".into()], ..asked.clone() };
    let other = v1::Scope { name: "r".to_owned(), ..v1::Scope::default() };
    assert!(same_scopes(&[asked.clone(), other.clone()], &[other.clone(), kept.clone()]));
    assert!(!same_scopes(std::slice::from_ref(&asked), &[]));
    kept.reason_pattern.clear();
    assert!(!same_scopes(&[asked, other.clone()], &[other, kept]));
}
