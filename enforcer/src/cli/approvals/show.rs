//! One approval on a terminal.

use super::text;
use crate::approval::convert;
use enforcer_proto::v1;
use std::fmt::Write as _;

/// The state's word.
pub(super) fn state(approval: &v1::Approval) -> &'static str {
    match v1::State::try_from(approval.state) {
        Ok(v1::State::Pending) => "pending",
        Ok(v1::State::Approved) => "approved",
        Ok(v1::State::Denied) => "denied",
        Ok(v1::State::Expired) => "expired",
        Ok(v1::State::Cancelled) => "cancelled",
        Ok(v1::State::Spent) => "spent",
        Ok(v1::State::Revoked) => "revoked",
        Ok(v1::State::Unspecified) | Err(_) => "unknown",
    }
}

/// One line for listings. Milliseconds since the Unix epoch.
pub(super) fn summary(approval: &v1::Approval, now: i64) -> String {
    let request = approval.request.clone().unwrap_or_default();
    let operation = request.operation.unwrap_or_default();
    let agent = request.principal.map(|principal| principal.agent).unwrap_or_default();
    let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.name.as_str()).collect();
    let left = match v1::State::try_from(approval.state) {
        Ok(v1::State::Pending | v1::State::Approved) => {
            format!("{} left", text::span(approval.expires_unix_ms - now))
        }
        _ => format!("{} old", text::span(now - approval.created_unix_ms)),
    };
    format!(
        "{} {:<9} {left:<12} {}/{} {} {} [{}] yes:{} no:{}",
        text::line(&approval.id),
        state(approval),
        text::short(&approval.host, 40),
        text::short(&agent, 40),
        text::short(&operation.action, 40),
        text::short(&operation.resource, 100),
        text::short(&scopes.join(","), 60),
        convert::voters(approval, true).len(),
        convert::voters(approval, false).len(),
    )
}

/// Everything: what is hashed first, then what is only told.
pub(super) fn whole(approval: &v1::Approval) -> String {
    let mut out = Page::default();
    let request = approval.request.clone().unwrap_or_default();
    out.field("approval", &approval.id);
    out.field("state", state(approval));
    out.field("asked", &text::time(approval.created_unix_ms));
    out.field("expires", &text::time(approval.expires_unix_ms));
    out.field("requests", &approval.asked.to_string());
    out.field("uses left", &approval.uses_left.to_string());
    out.title("What will run (all of this is hashed into the digest)");
    out.field("digest", &request.digest);
    let principal = request.principal.clone().unwrap_or_default();
    let operation = request.operation.clone().unwrap_or_default();
    out.field("agent", &principal.agent);
    out.field("task", if principal.task.is_empty() { "(none)" } else { &principal.task });
    out.field("target", &operation.target);
    out.field("name", &operation.name);
    out.field("port", &operation.port.to_string());
    out.field("protocol", &operation.protocol);
    out.field("action", &operation.action);
    out.field("resource", &operation.resource);
    for fact in &operation.facts {
        out.fact(fact);
    }
    out.body(&request.body);
    match convert::checked_operation(&request) {
        Ok(_) => out.field("check", "the digest is that of exactly this"),
        Err(error) => out.field("check", &format!("CANNOT BE APPROVED: {error}")),
    }
    out.title("Who asks");
    out.field("host", &approval.host);
    out.process(&principal);
    out.field("policy", &request.policy);
    if !operation.notes.is_empty() {
        out.title("Not part of what is approved");
        operation.notes.iter().for_each(|note| out.fact(note));
    }
    out.title("Who decides");
    request.scopes.iter().for_each(|scope| out.scope(scope));
    approval.votes.iter().for_each(|vote| out.vote(vote));
    out.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn title(&mut self, title: &str) {
        let _ = writeln!(self.0, "\n{title}");
    }

    /// A name of ours and a value of others. Longer ones go below, so that no line wraps.
    fn field(&mut self, name: &str, value: &str) {
        let shown = text::line(value);
        if shown.chars().count() <= 56 && shown.is_ascii() {
            let _ = writeln!(self.0, "  {name:<18} {shown}");
        } else {
            let _ = writeln!(self.0, "  {name}");
            self.0.push_str(&text::wrapped(value, "    "));
        }
    }

    fn fact(&mut self, fact: &v1::Fact) {
        use v1::fact::Value;
        let name = text::line(&fact.name);
        match &fact.value {
            None => self.field(&name, "(nothing)"),
            Some(Value::Text(value)) => self.field(&name, value),
            Some(Value::Number(number)) => self.field(&name, &number.to_string()),
            Some(Value::Flag(flag)) => self.field(&name, if *flag { "yes" } else { "no" }),
            Some(Value::List(list)) => {
                for (at, item) in list.items.iter().enumerate() {
                    self.field(&format!("{name}[{at}]"), item);
                }
            }
        }
    }

    fn body(&mut self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        match std::str::from_utf8(body) {
            Ok(body) if !body.contains('\0') => {
                let _ = writeln!(self.0, "  body (text)");
                self.0.push_str(&text::block(body, "    "));
            }
            _ => {
                let _ = writeln!(self.0, "  body (binary)");
                self.0.push_str(&text::hex_block(body, "    "));
            }
        }
    }

    fn process(&mut self, principal: &v1::Principal) {
        self.field("cgroup", &principal.cgroup);
        let v1::Principal { pid, uid, gid, .. } = principal;
        self.field("process", &format!("pid {pid}, uid {uid}, gid {gid}"));
        self.field("command", &principal.comm);
        self.field("executable", &principal.exe);
        self.field("exe sha256", &principal.exe_sha256);
        for (at, arg) in principal.argv.iter().enumerate() {
            self.field(&format!("argv[{at}]"), arg);
        }
    }

    fn scope(&mut self, scope: &v1::Scope) {
        let who = match scope.reviewers.as_slice() {
            [] => "any reviewer".to_owned(),
            groups => groups.join(", "),
        };
        let reason = if scope.reason_required { ", with a reason" } else { "" };
        let rule = format!("{} of {who}{reason}", scope.quorum);
        self.field("scope", &scope.name);
        self.field("  people", &rule);
        let ttl = i64::try_from(scope.grant_ttl_seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        self.field("  grant", &format!("{} uses within {}", scope.uses, text::span(ttl)));
    }

    fn vote(&mut self, vote: &v1::Vote) {
        let word = if vote.approve { "yes" } else { "no" };
        let when = text::time(vote.unix_ms);
        self.field("vote", &format!("{word} by {} for {} at {when}", vote.person, vote.scope));
        if !vote.reason.is_empty() {
            self.field("  reason", &vote.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(body: &'static [u8], resource: &str) -> v1::Approval {
        let operation =
            v1::OperationAsked { resource: resource.to_owned(), ..v1::OperationAsked::default() };
        v1::Approval {
            id: "0190163d-8694-739b-aea5-966c26f8ad90".to_owned(),
            state: v1::State::Pending.into(),
            request: Some(v1::ApprovalRequest {
                operation: Some(operation),
                body: bytes::Bytes::from_static(body),
                ..v1::ApprovalRequest::default()
            }),
            ..v1::Approval::default()
        }
    }

    #[test]
    fn hostile_text_cannot_fake_the_page() {
        let hostile = "https://a/\n  check              the digest is that of exactly this\x1b[A";
        let page = whole(&approval(b"ok\n\nWho decides\n  vote yes\x1b[2J", hostile));
        assert!(!page.chars().any(|c| c.is_control() && c != '\n'));
        let ours = |word: &str| page.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!(ours("Who decides"), 1);
        assert_eq!(ours("  check  "), 1);
        assert!(page.contains("CANNOT BE APPROVED"));
    }

    #[test]
    fn the_whole_body_is_shown() {
        let page = whole(&approval(b"\x00\x01binary", "r"));
        assert!(page.contains("body (binary)") && page.contains("00 01 62 69 6e 61 72 79"));
        let text = whole(&approval("ein Gruß".as_bytes(), "r"));
        assert!(text.contains("    | ein Gruß"));
    }
}
