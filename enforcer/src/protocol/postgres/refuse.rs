//! Refusals and failures in PostgreSQL's own words.

use super::codec::error_response::Report;
use super::reading::NOT_TAKEN;
use crate::decide::Denial;
use crate::flow::Asked;
use crate::protocol::dns::names::INTERNAL_NAME;

/// `insufficient_privilege`.
pub(super) const REFUSED: &str = "42501";
/// `syntax_error`.
const SYNTAX: &str = "42601";
/// `query_canceled`.
pub(super) const CANCELLED: &str = "57014";
/// `in_failed_sql_transaction`.
const FAILED_TRANSACTION: &str = "25P02";

/// An operation that was not let through. With `fatal` the connection ends with it.
pub(super) fn denied(denial: &Denial, asked: &Asked, fatal: bool) -> Report {
    let severity = if fatal { "FATAL" } else { "ERROR" };
    let approval = denial.approval.map(|id| id.to_string());
    let mut detail = format!("Reason {}, operation {}", denial.code, asked.operation.id);
    if !denial.rules.is_empty() {
        detail.push_str(&format!(", rules {}", denial.rules.join(", ")));
    }
    if let Some(approval) = &approval {
        detail.push_str(&format!(", approval {approval}"));
    }
    detail.push_str(&format!(", digest {}.", asked.digest));
    let hint = match (&approval, denial.pending) {
        (Some(approval), true) => format!(
            "Send the same statement again once people have approved it; \
             http://{INTERNAL_NAME}/v1/approvals/{approval} tells when."
        ),
        _ => String::new(),
    };
    let why = match denial.code {
        // The only thing here that is sent after the statement.
        "body-not-read" => {
            "people must see the data of COPY before the statement runs: send it as the only one \
             of its string, into a table that the catalog knows"
        }
        _ => denial.detail.as_str(),
    };
    // What is no SQL is an error of the server's, too, and clients know it by its code.
    let state = match denial.code {
        "unreadable" if denial.detail.starts_with(NOT_TAKEN) => SYNTAX,
        _ => REFUSED,
    };
    Report::new(severity, state, format!("refused by enforcer: {why}"))
        .with(b'D', detail)
        .with(b'H', hint)
}

/// The agent cancelled what was held.
pub(super) fn cancelled() -> Report {
    Report::new("ERROR", CANCELLED, "canceling statement due to user request")
}

/// What was permitted and could not be done, or not be delivered.
pub(super) fn failed(code: &str, what: &str) -> Report {
    Report::new("ERROR", REFUSED, format!("withheld by enforcer: {what}"))
        .with(b'D', format!("Reason {code}."))
}

/// The connection cannot go on.
pub(super) fn fatal(sqlstate: &str, what: &str) -> Report {
    Report::new("FATAL", sqlstate, what)
}

/// What PostgreSQL says of every statement in a failed transaction but its end.
pub(super) fn failed_transaction() -> Report {
    let what = "current transaction is aborted, commands ignored until end of transaction block";
    Report::new("ERROR", FAILED_TRANSACTION, what)
}

#[cfg(test)]
mod tests {
    use super::super::reading::Unreadable;
    use super::*;
    use crate::approval::ApprovalId;
    use crate::operation::{Operation, Protocol};

    #[test]
    fn a_refusal_says_why_and_what_next() {
        let operation =
            Operation::new("db", "db.test", 5432, Protocol::Postgres, "sql.delete", "x".into());
        let digest = "v1:".to_owned() + &"ab".repeat(32);
        let asked = Asked {
            operation,
            readings: Vec::new(),
            notes: Vec::new(),
            digest: digest.parse().unwrap(),
        };
        let id = ApprovalId(uuid::Uuid::now_v7());
        let denial = Denial {
            approval: Some(id),
            pending: true,
            rules: vec!["writes".into()],
            ..Denial::new("approval-pending", "people have not decided yet")
        };
        let report = denied(&denial, &asked, false);
        assert_eq!(report.code(), "42501");
        let detail = report.get(b'D').unwrap();
        for part in ["approval-pending", "writes", &id.to_string(), &digest] {
            assert!(detail.contains(part), "{detail}");
        }
        assert!(report.get(b'H').unwrap().contains(&id.to_string()));
        let plain = denied(&Denial::new("policy", "no rule"), &asked, true);
        assert_eq!((plain.get(b'S'), plain.get(b'H')), (Some("FATAL"), None));
        assert_eq!(plain.code(), "42501");
        for (why, code) in [
            (Unreadable::Syntax("syntax error at or near \"SELEC\"".to_owned()), "42601"),
            (Unreadable::Long(2 << 20), "42501"),
        ] {
            let report = denied(&Denial::new("unreadable", why.to_string()), &asked, false);
            assert_eq!(report.code(), code, "{why}");
            assert!(report.get(b'M').unwrap().starts_with("refused by enforcer: "), "{why}");
        }
    }
}
