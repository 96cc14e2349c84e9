//! What a question is about, and what it is answered: pure decisions.
//!
//! Every address in an answer is synthetic. HTTPS and SVCB questions get an
//! empty answer, so that no client learns of ECH or HTTP/3; questions that only
//! serve to move data (ANY, NULL, zone transfers) are refused.

use super::codec::{Answer, ExtendedError, Question};
use super::names::{BadName, Family, INTERNAL_NAME, Lookup, Name, Names, TTL};
use crate::policy::Absence;
use crate::principal::AgentName;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType};
use std::net::IpAddr;

/// EXTRA codes of RFC 8914, section 4.
const OTHER: u16 = 0;
const BLOCKED: u16 = 15;
const PROHIBITED: u16 = 18;

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A host name.
    Name(Name),
    /// A synthetic address of this agent, which stands for the name.
    Reverse(Name),
    /// The root, an address lookalike, or a name that no host can have.
    NotAName(BadName),
    /// A type or class that is not answered, whatever the name.
    Unanswerable,
}

/// What policy says about the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Policy permits the look-up, or it is of the daemon's own.
    Known,
    /// No target has the name.
    Unknown,
    /// There is no policy to ask.
    NoPolicy(Absence),
    /// These rules forbid the look-up; none: no rule permits it.
    Denied(Vec<String>),
    /// The only rules that permit it ask for an approval, for which no look-up can wait.
    NeedsApproval(Vec<String>),
}

/// What is answered, and how it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The answer.
    pub answer: Answer,
    /// Whether it counts as allowed.
    pub allowed: bool,
    /// A stable code for records and metrics.
    pub reason: &'static str,
}

/// Reads what the question is about.
pub fn subject(question: &Question, agent: &AgentName, names: &Names) -> Subject {
    if question.class != DNSClass::IN || is_unanswerable(question.record_type) {
        return Subject::Unanswerable;
    }
    let name = match Name::from_labels(question.name.iter()) {
        Ok(name) => name,
        Err(why) => return Subject::NotAName(why),
    };
    if question.record_type == RecordType::PTR
        && let Ok(net) = question.name.parse_arpa_name()
        && net.prefix_len() == net.max_prefix_len()
        && let Lookup::Name(stands_for) = names.lookup(agent, net.addr())
    {
        return Subject::Reverse(stands_for);
    }
    Subject::Name(name)
}

/// Whether a name is the daemon's own, which is known without policy.
pub fn is_internal(name: &Name) -> bool {
    name.as_str() == INTERNAL_NAME
}

fn is_unanswerable(record_type: RecordType) -> bool {
    use RecordType as T;
    matches!(
        record_type,
        T::ANY | T::AXFR | T::IXFR | T::NULL | T::OPT | T::TSIG | T::SIG | T::ZERO
    )
    // Meta types (RFC 6895, 3.1): MAILA, MAILB and others that are about transactions.
    || (128..=255).contains(&u16::from(record_type))
}

/// Decides the answer. `ipv6` says whether the proxy can be reached over IPv6.
pub fn plan(
    question: &Question,
    subject: &Subject,
    ruling: &Ruling,
    agent: &AgentName,
    names: &Names,
    ipv6: bool,
) -> Plan {
    if question.edns.is_some_and(|(version, _)| version != 0) {
        return Plan {
            answer: Answer::empty(ResponseCode::BADVERS),
            allowed: false,
            reason: "edns-version",
        };
    }
    match (subject, ruling) {
        (Subject::Unanswerable, _) => refuse(
            "unsupported-type",
            PROHIBITED,
            "enforcer answers no questions of this type or class".to_owned(),
        ),
        (Subject::NotAName(why), _) => refuse("bad-name", PROHIBITED, format!("enforcer: {why}")),
        (_, Ruling::Denied(rules)) if rules.is_empty() => refuse(
            "policy",
            PROHIBITED,
            "enforcer: no rule permits dns.query for this name".to_owned(),
        ),
        (_, Ruling::Denied(rules)) => refuse(
            "policy",
            PROHIBITED,
            format!("enforcer: forbidden by rule {}", rules.join(", ")),
        ),
        (_, Ruling::NeedsApproval(rules)) => refuse(
            "policy",
            PROHIBITED,
            format!(
                "enforcer: a look-up cannot wait for the approval of rule {}; permit dns.query",
                rules.join(", ")
            ),
        ),
        (_, Ruling::NoPolicy(why)) => {
            refuse(why.code(), PROHIBITED, format!("enforcer: {}", why.detail()))
        }
        (_, Ruling::Unknown) => refuse(
            "unknown-target",
            BLOCKED,
            "enforcer: no target in policy has this name; ask the owner of the policy to add it"
                .to_owned(),
        ),
        (Subject::Reverse(name), Ruling::Known) => match wire(name) {
            Some(target) => give(question, vec![RData::PTR(PTR(target))]),
            None => fail("enforcer: the name cannot be written"),
        },
        (Subject::Name(name), Ruling::Known) => {
            let family = match question.record_type {
                RecordType::A => Family::V4,
                RecordType::AAAA if ipv6 => Family::V6,
                _ => return give(question, Vec::new()),
            };
            match names.assign(agent, name, family) {
                Some(IpAddr::V4(ip)) => give(question, vec![RData::A(A(ip))]),
                Some(IpAddr::V6(ip)) => give(question, vec![RData::AAAA(AAAA(ip))]),
                None => Plan {
                    reason: "names-full",
                    ..fail(
                        "enforcer: this agent holds as many names as it may (limits.names_per_agent)",
                    )
                },
            }
        }
    }
}

/// The answer while the agent asks faster than it may.
pub fn too_fast() -> Plan {
    Plan {
        reason: "rate-limited",
        ..fail("enforcer: this agent asks faster than it may (limits.dns_per_second)")
    }
}

/// The answer when the question cannot be recorded.
pub fn unrecorded() -> Answer {
    fail("enforcer: the question cannot be recorded").answer
}

fn give(question: &Question, data: Vec<RData>) -> Plan {
    let records =
        data.into_iter().map(|data| Record::from_rdata(question.name.clone(), TTL, data)).collect();
    Plan {
        answer: Answer { code: ResponseCode::NoError, records, error: None },
        allowed: true,
        reason: "known-target",
    }
}

fn refuse(reason: &'static str, code: u16, text: String) -> Plan {
    Plan {
        answer: Answer {
            error: Some(ExtendedError { code, text }),
            ..Answer::empty(ResponseCode::Refused)
        },
        allowed: false,
        reason,
    }
}

fn fail(text: &str) -> Plan {
    let error = ExtendedError { code: OTHER, text: text.to_owned() };
    Plan {
        answer: Answer { error: Some(error), ..Answer::empty(ResponseCode::ServFail) },
        allowed: false,
        reason: "failed",
    }
}

fn wire(name: &Name) -> Option<WireName> {
    let mut wire = WireName::from_ascii(name.as_str()).ok()?;
    wire.set_fqdn(true);
    Some(wire)
}

#[cfg(test)]
mod tests;
