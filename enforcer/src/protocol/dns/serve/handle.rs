//! One packet of a known agent: read, judged, answered, with what is to be recorded.

use super::super::answer::{self, Plan, Ruling, Subject};
use super::super::codec::{self, Question};
use super::super::operation::{self, Event, Judged};
use super::super::rate::Admission;
use super::{Counters, DnsInputs, count};
use crate::capture::Captured;
use crate::operation::Operation;
use crate::policy::Verdict;
use crate::record::RecordError;
use enforcer_proto::v1;
use std::sync::Arc;
use std::time::Instant;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What a packet leads to. The answer must not be sent before the record is in the log.
#[derive(Debug, Default)]
pub(super) struct Handled {
    /// Nothing is sent when there is none.
    pub(super) reply: Option<Vec<u8>>,
    /// Sent instead when the record fails.
    pub(super) unrecorded: Option<Vec<u8>>,
    /// What is recorded; `None` for a packet that is only counted.
    pub(super) record: Option<Record>,
    /// The packet was no question: what follows it on a stream is not to be trusted.
    pub(super) malformed: bool,
}

/// One packet in a transcript.
#[derive(Debug)]
pub(super) struct Record {
    /// The operation's events; none for a packet that is no question.
    pub(super) events: Vec<Event>,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) outcome: &'static str,
    pub(super) error: String,
}

/// Handles one packet.
pub(super) fn packet(
    packet: &[u8],
    captured: &Captured,
    inputs: &DnsInputs,
    transport: Transport,
) -> Handled {
    let admission = inputs.rate.admit(&captured.principal.agent, Instant::now());
    let question = match codec::read(packet) {
        Ok(question) => question,
        Err(why) => {
            count(&inputs.counters.malformed);
            let reply = why.reply(packet);
            // Nothing worth a record of its own beyond the rate.
            let record = (admission == Admission::Admitted).then(|| Record {
                events: Vec::new(),
                name: String::new(),
                target: String::new(),
                outcome: "failed",
                error: format!("the packet is no question: {why}"),
            });
            return Handled { unrecorded: reply.clone(), reply, record, malformed: true };
        }
    };
    let subject = answer::subject(&question, &captured.principal.agent, &inputs.names);
    let (operation, judged, plan) = match admission {
        Admission::Admitted => decide(&question, &subject, captured, inputs),
        Admission::RefusedAndRecorded(unrecorded) => too_fast(&question, &subject, unrecorded),
        Admission::Refused => {
            count(&inputs.counters.failed);
            let plan = answer::too_fast();
            return Handled {
                reply: write(&question, &plan.answer, transport),
                ..Handled::default()
            };
        }
    };
    tally(&inputs.counters, &plan);
    Handled {
        reply: write(&question, &plan.answer, transport),
        unrecorded: write(&question, &answer::unrecorded(), transport),
        malformed: false,
        record: Some(Record {
            name: operation.name.clone(),
            target: operation.target.clone(),
            outcome: operation::outcome(&plan),
            error: String::new(),
            events: operation::events(&operation, &captured.principal, judged, &plan),
        }),
    }
}

fn decide(
    question: &Question,
    subject: &Subject,
    captured: &Captured,
    inputs: &DnsInputs,
) -> (Operation, Judged, Plan) {
    // A snapshot: a policy that changes meanwhile concerns the next question.
    let bundle = Arc::clone(&inputs.policy.borrow());
    let mut judged = Judged { policy: bundle.version().to_owned(), ..Judged::default() };
    let (operation, ruling) = match subject {
        Subject::Name(name) if answer::is_internal(name) => {
            judged.trace.push("the daemon's own name".to_owned());
            (operation::operation(question, subject, ""), Ruling::Known)
        }
        Subject::Reverse(name) => {
            judged.trace.push(format!("an address that stands for {name}"));
            (operation::operation(question, subject, ""), Ruling::Known)
        }
        Subject::NotAName(_) | Subject::Unanswerable => {
            (operation::operation(question, subject, ""), Ruling::Unknown)
        }
        Subject::Name(name) => match bundle.target_for_name(name.as_str(), None) {
            None => {
                let ruling = bundle.absence().map_or(Ruling::Unknown, Ruling::NoPolicy);
                (operation::operation(question, subject, ""), ruling)
            }
            Some(target) => {
                let operation = operation::operation(question, subject, &target.name);
                let judgement = bundle.evaluate(&captured.principal, target, &operation);
                let ruling = match judgement.verdict {
                    Verdict::Allow => Ruling::Known,
                    Verdict::Deny => Ruling::Denied(judgement.rules.clone()),
                    Verdict::NeedsApproval(_) => Ruling::NeedsApproval(judgement.rules.clone()),
                };
                judged.rules = judgement.rules;
                judged.trace = judgement.trace;
                (operation, ruling)
            }
        },
    };
    let agent = &captured.principal.agent;
    let plan = answer::plan(question, subject, &ruling, agent, &inputs.names, inputs.ipv6);
    if let Some(error) = &plan.answer.error
        && judged.trace.is_empty()
    {
        judged.trace.push(error.text.clone());
    }
    (operation, judged, plan)
}

fn too_fast(question: &Question, subject: &Subject, unrecorded: u64) -> (Operation, Judged, Plan) {
    let judged = Judged {
        trace: vec![format!(
            "too fast; {unrecorded} look-ups before this one were refused and are not recorded"
        )],
        ..Judged::default()
    };
    let operation = operation::operation(question, subject, "");
    (operation, judged, answer::too_fast())
}

fn tally(counters: &Counters, plan: &Plan) {
    count(match operation::outcome(plan) {
        "complete" => &counters.answered,
        "failed" => &counters.failed,
        _ => &counters.refused,
    });
}

fn write(question: &Question, answer: &codec::Answer, transport: Transport) -> Option<Vec<u8>> {
    let limit = match transport {
        Transport::Udp => question.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    question
        .write(answer, limit)
        .inspect_err(|error| tracing::warn!(%error, "a DNS answer cannot be written"))
        .ok()
}

/// How a flow to the resolver begins.
pub(super) fn start(
    captured: &Captured,
    inputs: &DnsInputs,
    transport: Transport,
) -> v1::FlowStart {
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    v1::FlowStart {
        principal: Some(v1::Principal::from(&captured.principal)),
        orig_addr: captured.orig.ip().to_string(),
        orig_port: u32::from(captured.orig.port()),
        transport: transport.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: inputs.policy.borrow().version().to_owned(),
        layers: inputs.layers.clone(),
        ..v1::FlowStart::default()
    }
}

/// Says once for each failure that look-ups are not answered.
pub(super) fn not_recorded(inputs: &DnsInputs, error: &RecordError) {
    count(&inputs.counters.unrecorded);
    tracing::error!(%error, "a DNS look-up cannot be recorded, so it is not answered");
}
