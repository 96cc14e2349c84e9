//! Whether a request can be put before people: complete, bounded, and what its digest says.
//! Pure; everything that a daemon sends goes through here before anything else sees it.

use super::model::{Millis, Rule};
use crate::approval::convert::{self, ConvertError};
use crate::approval::step::Checked as Step;
use crate::policy::{Hours, reason_pattern};
use bytes::Bytes;
use enforcer_proto::v1;
use prost::Message as _;

/// Scopes of one request.
const SCOPES: usize = 16;
/// Groups of one scope.
const GROUPS: usize = 64;
/// Windows of one scope.
const WINDOWS: usize = 64;
/// Facts and notes of one operation.
const FACTS: usize = 1024;
/// Bytes of a name.
const NAME: usize = 256;
/// People that one scope can ask for.
const PEOPLE: u32 = 64;
/// Uses of one grant.
const USES: u32 = 10_000;
/// The longest that a request waits or a grant is good: a week. Seconds.
const TTL: u64 = 7 * 86_400;

/// A step that can be put before people, or that policy allows as it is.
#[derive(Clone, Debug)]
pub struct CheckedStep {
    /// What was asked, its body taken out.
    pub request: v1::ApprovalRequest,
    /// The body.
    pub body: Bytes,
    /// What the step says.
    pub step: Step,
    /// The rules that must all approve, by name; empty where policy allows it as it is.
    pub rules: Vec<Rule>,
}

/// Checks one step of a task of that host.
///
/// # Errors
/// When it cannot be put before people.
pub fn step(mut request: v1::ApprovalRequest, host: &str) -> Result<CheckedStep, Invalid> {
    common(&request, host)?;
    if let Some(operation) = &request.operation {
        bounded_operation(operation)?;
    }
    let rules = match request.scopes.is_empty() {
        true => Vec::new(),
        false => rules(&request.scopes)?,
    };
    let step = convert::checked_step(&request)?;
    if step.digest.to_string() != request.digest {
        return Err(ConvertError::Digest.into());
    }
    let body = std::mem::take(&mut request.body);
    Ok(CheckedStep { request, body, step, rules })
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The bytes are no such message.
    #[error("not an approval request")]
    Message,
    /// Parts are missing or do not belong together.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Another host's name.
    #[error("the request names another host than the certificate")]
    Host,
    /// A value is out of its range.
    #[error("{0} is out of its range")]
    Range(&'static str),
}

/// A request that can be put before people.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What was asked, its body taken out.
    pub request: v1::ApprovalRequest,
    /// The body.
    pub body: Bytes,
    /// The agent that asks.
    pub agent: String,
    /// The digest, recomputed, as text.
    pub digest: String,
    /// The rules that must all approve, by name.
    pub rules: Vec<Rule>,
}

/// Checks a request of that host.
///
/// # Errors
/// When it cannot be put before people.
pub fn check(mut request: v1::ApprovalRequest, host: &str) -> Result<Checked, Invalid> {
    let agent = common(&request, host)?.agent.clone();
    // A step comes with its task.
    bounded("step", request.step.is_none())?;
    let operation = request.operation.as_ref().ok_or(ConvertError::Missing("operation"))?;
    bounded_operation(operation)?;
    let rules = rules(&request.scopes)?;
    let (_, digest) = convert::checked_operation(&request)?;
    let body = std::mem::take(&mut request.body);
    Ok(Checked { request, body, agent, digest: digest.to_string(), rules })
}

fn common<'r>(request: &'r v1::ApprovalRequest, host: &str) -> Result<&'r v1::Principal, Invalid> {
    let principal = request.principal.as_ref().ok_or(ConvertError::Missing("principal"))?;
    if principal.host != host {
        return Err(Invalid::Host);
    }
    bounded("principal.task", principal.task.len() <= NAME)?;
    bounded("policy", request.policy.len() <= NAME)?;
    Ok(principal)
}

fn bounded_operation(operation: &v1::OperationAsked) -> Result<(), Invalid> {
    bounded("operation.facts", operation.facts.len() <= FACTS)?;
    bounded("operation.notes", operation.notes.len() <= FACTS)?;
    bounded("operation.target", operation.target.len() <= NAME)?;
    bounded("operation.action", operation.action.len() <= NAME)
}

/// Decodes and checks; what arrives from the wire, for the fuzzer.
///
/// # Errors
/// When it cannot be put before people.
pub fn decode(message: &[u8], host: &str) -> Result<Checked, Invalid> {
    let request = v1::ApprovalRequest::decode(message).map_err(|_| Invalid::Message)?;
    check(request, host)
}

fn rules(scopes: &[v1::Scope]) -> Result<Vec<Rule>, Invalid> {
    bounded("scopes", (1..=SCOPES).contains(&scopes.len()))?;
    let mut rules: Vec<Rule> = scopes.iter().map(rule).collect::<Result<_, _>>()?;
    // In one order, so that the same scopes named in another order are the same request.
    rules.sort_by(|a, b| a.scope.cmp(&b.scope));
    let unique = rules.windows(2).all(|pair| pair[0].scope != pair[1].scope);
    bounded("scopes", unique)?;
    Ok(rules)
}

fn rule(scope: &v1::Scope) -> Result<Rule, Invalid> {
    bounded("scope.name", (1..=NAME).contains(&scope.name.len()))?;
    let reviewers = groups("scope.reviewers", &scope.reviewers)?;
    let escalate_to = groups("scope.escalate_to", &scope.escalate_to)?;
    let break_glass = groups("scope.break_glass", &scope.break_glass)?;
    bounded("scope.quorum", (1..=PEOPLE).contains(&scope.quorum))?;
    bounded("scope.deny_threshold", (1..=PEOPLE).contains(&scope.deny_threshold))?;
    bounded("scope.request_ttl", (1..=TTL).contains(&scope.request_ttl_seconds))?;
    bounded("scope.grant_ttl", (1..=TTL).contains(&scope.grant_ttl_seconds))?;
    bounded("scope.uses", (1..=USES).contains(&scope.uses))?;
    let pattern = &scope.reason_pattern;
    bounded("scope.reason_pattern", pattern.is_empty() || reason_pattern(pattern).is_ok())?;
    let after = scope.escalate_after_seconds;
    let escalates = (after > 0) != escalate_to.is_empty() && after < scope.request_ttl_seconds;
    bounded("scope.escalate_after", escalates)?;
    bounded("scope.hours", scope.hours.len() <= WINDOWS)?;
    let hours: Result<Vec<Hours>, _> = scope.hours.iter().map(|text| text.parse()).collect();
    let hours = hours.map_err(|_| Invalid::Range("scope.hours"))?;
    Ok(Rule {
        scope: scope.name.clone(),
        reviewers,
        quorum: scope.quorum,
        deny_threshold: scope.deny_threshold,
        request_ttl: millis(scope.request_ttl_seconds),
        grant_ttl: millis(scope.grant_ttl_seconds),
        uses: scope.uses,
        reason_required: scope.reason_required,
        reason_pattern: pattern.clone(),
        hours: ordered(hours.iter().map(ToString::to_string).collect()),
        escalate_after: millis(after),
        escalate_to,
        break_glass,
        patterns: scope.patterns,
    })
}

fn groups(what: &'static str, groups: &[String]) -> Result<Vec<String>, Invalid> {
    let fit = groups.len() <= GROUPS && groups.iter().all(|g| (1..=NAME).contains(&g.len()));
    bounded(what, fit)?;
    Ok(ordered(groups.to_vec()))
}

fn ordered(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

fn millis(seconds: u64) -> Millis {
    Millis::try_from(seconds).unwrap_or(Millis::MAX).saturating_mul(1000)
}

fn bounded(what: &'static str, fits: bool) -> Result<(), Invalid> {
    if fits { Ok(()) } else { Err(Invalid::Range(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    fn request() -> v1::ApprovalRequest {
        let text = |name: &str, value: String| v1::Fact {
            name: name.to_owned(),
            value: Some(v1::fact::Value::Text(value)),
        };
        let length =
            v1::Fact { name: "body.length".to_owned(), value: Some(v1::fact::Value::Number(4)) };
        let scope = v1::Scope {
            name: "s".to_owned(),
            quorum: 1,
            deny_threshold: 1,
            request_ttl_seconds: 60,
            grant_ttl_seconds: 60,
            uses: 1,
            ..v1::Scope::default()
        };
        let mut request = v1::ApprovalRequest {
            principal: Some(v1::Principal {
                host: "h".to_owned(),
                agent: "a".to_owned(),
                ..v1::Principal::default()
            }),
            operation: Some(v1::OperationAsked {
                protocol: "http".to_owned(),
                facts: vec![length, text("body.sha256", hex::encode(Sha256::digest(b"body")))],
                ..v1::OperationAsked::default()
            }),
            body: Bytes::from_static(b"body"),
            scopes: vec![scope],
            ..v1::ApprovalRequest::default()
        };
        // The known digest of this request; it changes only with the canonical form.
        let digest = {
            use crate::operation::{Operation, Protocol, digest};
            let mut op = Operation::new("", "", 0, Protocol::Http, "", String::new());
            op.with_body(Bytes::from_static(b"body"));
            digest("a", None, &op).to_string()
        };
        request.operation.as_mut().unwrap().digest.clone_from(&digest);
        request.digest = digest;
        request
    }

    #[test]
    fn the_order_of_scopes_and_groups_is_no_difference() {
        let mut one = request();
        let mut other = one.scopes[0].clone();
        other.name = "t".to_owned();
        other.reviewers = vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        one.scopes.push(other);
        let mut two = one.clone();
        two.scopes.reverse();
        two.scopes[0].reviewers = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(check(one, "h").unwrap().rules, check(two, "h").unwrap().rules);
    }

    #[test]
    fn values_out_of_range_are_named() {
        type Spoil = fn(&mut v1::ApprovalRequest);
        let cases: [(Spoil, Invalid); 15] = [
            (|r| r.scopes.clear(), Invalid::Range("scopes")),
            (|r| r.scopes.push(r.scopes[0].clone()), Invalid::Range("scopes")),
            (|r| r.scopes[0].quorum = 0, Invalid::Range("scope.quorum")),
            (|r| r.scopes[0].deny_threshold = 0, Invalid::Range("scope.deny_threshold")),
            (|r| r.scopes[0].uses = USES + 1, Invalid::Range("scope.uses")),
            (|r| r.scopes[0].grant_ttl_seconds = TTL + 1, Invalid::Range("scope.grant_ttl")),
            (|r| r.scopes[0].request_ttl_seconds = 0, Invalid::Range("scope.request_ttl")),
            (
                |r| r.scopes[0].reason_pattern = "(".to_owned(),
                Invalid::Range("scope.reason_pattern"),
            ),
            (
                |r| r.scopes[0].reason_pattern = ".*".to_owned(),
                Invalid::Range("scope.reason_pattern"),
            ),
            (|r| r.scopes[0].hours.push("always".to_owned()), Invalid::Range("scope.hours")),
            (|r| r.scopes[0].escalate_after_seconds = 9, Invalid::Range("scope.escalate_after")),
            (
                |r| r.scopes[0].escalate_to.push("g".to_owned()),
                Invalid::Range("scope.escalate_after"),
            ),
            (|r| r.scopes[0].break_glass.push(String::new()), Invalid::Range("scope.break_glass")),
            (|r| r.policy = "x".repeat(NAME + 1), Invalid::Range("policy")),
            (|r| r.principal.as_mut().unwrap().host = "i".to_owned(), Invalid::Host),
        ];
        for (spoil, expected) in cases {
            let mut spoilt = request();
            spoil(&mut spoilt);
            assert_eq!(check(spoilt, "h").unwrap_err(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_whole(message in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&message, "h").is_err());
        }

        /// Whatever one byte is changed, what is taken still has the digest of what it shows.
        #[test]
        fn a_changed_byte_changes_no_meaning(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let good = request();
            let mut message = good.encode_to_vec();
            let at = at.index(message.len());
            message[at] ^= flip;
            if let Ok(taken) = decode(&message, "h") {
                prop_assert_eq!(&taken.digest, &good.digest);
                prop_assert_eq!(&taken.body, &good.body);
            }
        }
    }
}
