//! A look-up as an operation, and as it is recorded.

use super::answer::{Plan, Subject};
use super::codec::Question;
use crate::operation::{Operation, OperationId, Protocol};
use crate::principal::Principal;
use crate::record::convert;
use enforcer_proto::v1::{self, event::Kind};
use hickory_proto::op::ResponseCode;

/// The action that policy knows look-ups by.
pub const ACTION: &str = "dns.query";
const PORT: u16 = 53;

/// The operation that a question asks for; `target` is empty when none has the name.
pub fn operation(question: &Question, subject: &Subject, target: &str) -> Operation {
    let name = match subject {
        Subject::Name(name) => name.as_str().to_owned(),
        // As asked, with what is not printable escaped.
        _ => {
            let mut text = question.name.to_ascii().to_ascii_lowercase();
            if text.len() > 1 && text.ends_with('.') {
                text.pop();
            }
            text
        }
    };
    let record_type = question.record_type.to_string();
    let resource = format!("{record_type} {name}");
    let mut operation = Operation::new(target, &name, PORT, Protocol::Dns, ACTION, resource);
    operation.fact("dns.name", name);
    operation.fact("dns.type", record_type);
    operation
}

/// An event and the operation it belongs to.
pub type Event = (Option<OperationId>, Kind);

/// What was decided, beside the plan itself.
#[derive(Debug, Default)]
pub struct Judged {
    /// Rules that decided.
    pub rules: Vec<String>,
    /// How, in words.
    pub trace: Vec<String>,
    /// The bundle's version.
    pub policy: String,
}

/// All events of one look-up, in order.
pub fn events(
    operation: &Operation,
    principal: &Principal,
    judged: Judged,
    plan: &Plan,
) -> Vec<Event> {
    let verdict = if plan.allowed { v1::Verdict::Allow } else { v1::Verdict::Deny };
    let decision = v1::Decision {
        verdict: verdict.into(),
        reason: plan.reason.to_owned(),
        rules: judged.rules,
        trace: judged.trace,
        policy: judged.policy,
        ..v1::Decision::default()
    };
    let records = plan.answer.records.iter().map(|record| v1::Header {
        name: record.record_type().to_string(),
        value: record.data().to_string(),
    });
    let explained = plan.answer.error.iter().map(|error| v1::Header {
        name: "EDE".to_owned(),
        value: format!("{} {}", error.code, error.text),
    });
    let head = v1::ResponseHead {
        status: u32::from(u16::from(plan.answer.code)),
        headers: records.chain(explained).collect(),
        version: "DNS".to_owned(),
        synthetic: true,
    };
    let end = v1::OperationEnd { outcome: outcome(plan).to_owned(), ..v1::OperationEnd::default() };
    let asked = convert::asked(operation, &operation.digest(principal), Vec::new());
    [
        Kind::OperationAsked(asked),
        Kind::Decision(decision),
        Kind::ResponseHead(head),
        Kind::OperationEnd(end),
    ]
    .map(|kind| (Some(operation.id), kind))
    .to_vec()
}

/// The word for how a look-up ended.
pub fn outcome(plan: &Plan) -> &'static str {
    match (plan.allowed, plan.answer.code) {
        (true, _) => "complete",
        (false, ResponseCode::ServFail) => "failed",
        (false, _) => "refused",
    }
}
