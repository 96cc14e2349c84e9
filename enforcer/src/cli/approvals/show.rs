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

/// Columns of a listing's line, before what needs no column: id, state, time, who, action.
type Row = [String; 5];

/// The narrowest columns: those of a list that is not known yet.
const NARROW: [usize; 5] = [36, 9, 12, 24, 12];

/// Lines of a listing, their columns under each other. Milliseconds since the Unix epoch.
pub(super) fn summaries(approvals: &[v1::Approval], now: i64) -> String {
    let rows: Vec<(Row, String)> = approvals.iter().map(|a| (row(a, now), rest(a))).collect();
    let mut columns = [0; 5];
    for (row, _) in &rows {
        for (column, shown) in columns.iter_mut().zip(row) {
            *column = (*column).max(text::columns(shown));
        }
    }
    rows.iter().map(|(row, rest)| joined(row, rest, columns) + "\n").collect()
}

/// One line of a listing that goes on. Milliseconds since the Unix epoch.
pub(super) fn summary(approval: &v1::Approval, now: i64) -> String {
    joined(&row(approval, now), &rest(approval), NARROW)
}

fn joined(row: &Row, rest: &str, columns: [usize; 5]) -> String {
    let cells = row.iter().zip(columns).map(|(shown, column)| text::padded(shown, column));
    format!("{} {rest}", cells.collect::<Vec<_>>().join(" "))
}

fn row(approval: &v1::Approval, now: i64) -> Row {
    let request = approval.request.clone().unwrap_or_default();
    let mut operation = request.operation.unwrap_or_default();
    if request.step.is_some() && operation.action.is_empty() {
        "pattern".clone_into(&mut operation.action);
    }
    let agent = request.principal.map(|principal| principal.agent).unwrap_or_default();
    let time = match v1::State::try_from(approval.state) {
        Ok(v1::State::Pending | v1::State::Approved) => {
            format!("{} left", text::span(approval.expires_unix_ms - now))
        }
        _ => format!("{} old", text::span(now - approval.created_unix_ms)),
    };
    [
        text::line(&approval.id),
        state(approval).to_owned(),
        time,
        format!("{}/{}", text::short(&approval.host, 40), text::short(&agent, 40)),
        text::short(&operation.action, 40),
    ]
}

fn rest(approval: &v1::Approval) -> String {
    let request = approval.request.clone().unwrap_or_default();
    let resource = match &request.step {
        Some(step) => {
            format!("step {} of {}: {}", step.number, step.of, crate::task::words(&request))
        }
        None => request.operation.map(|operation| operation.resource).unwrap_or_default(),
    };
    let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.name.as_str()).collect();
    let glass = match (approval.unreviewed, approval.escalated.is_empty()) {
        (true, _) => " GLASS-BROKEN",
        (false, false) => " escalated",
        (false, true) => "",
    };
    format!(
        "{} [{}] yes:{} no:{}{glass}",
        text::short(&resource, 100),
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
    out.title("What will run: all of this, and nothing else, is covered by the digest");
    out.field("digest", &request.digest);
    let principal = request.principal.clone().unwrap_or_default();
    out.field("agent", &principal.agent);
    out.field("task", if principal.task.is_empty() { "(none)" } else { &principal.task });
    if let Some(step) = &request.step {
        out.step(step);
    }
    let operation = request.operation.clone().unwrap_or_default();
    let pattern = request.step.is_some() && request.operation.is_none();
    if !pattern {
        out.operation(&operation, &request.body);
    }
    match convert::checked(&request) {
        Ok(_) => out.field("check", "the digest is that of exactly this"),
        Err(error) => out.field("check", &format!("CANNOT BE APPROVED: {error}")),
    }
    out.title("Who asks: not covered by the digest; no other host can use the grant");
    out.field("host", &approval.host);
    out.process(&principal);
    out.field("policy", &request.policy);
    if !operation.notes.is_empty() {
        out.title("Notes: not covered by the digest, and not part of what is approved");
        operation.notes.iter().for_each(|note| out.fact(note));
    }
    out.title(match request.step.is_some() {
        false => "Who decides: not covered by the digest; the server counts by these rules",
        true => "Who decides: the scopes are covered by the digest, the votes are not",
    });
    request.scopes.iter().for_each(|scope| out.scope(scope));
    if !approval.escalated.is_empty() {
        out.field("escalated", &approval.escalated.join(", "));
    }
    approval.votes.iter().for_each(|vote| out.vote(vote));
    out.review(approval);
    out.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn title(&mut self, title: &str) {
        let _ = writeln!(self.0, "\n{title}");
    }

    fn operation(&mut self, operation: &v1::OperationAsked, body: &[u8]) {
        self.field("target", &operation.target);
        self.field("verified name", &operation.name);
        self.field("port", &operation.port.to_string());
        self.field("protocol", &operation.protocol);
        self.field("action", &operation.action);
        self.field("resource", &operation.resource);
        for fact in &operation.facts {
            self.fact(fact);
        }
        self.body(body);
    }

    /// What a step adds: why, how often, and the pattern when it is one.
    fn step(&mut self, step: &v1::Step) {
        self.field("objective", &step.objective);
        self.field("step", &format!("{} of {}", step.number, step.of));
        self.field("justification", &step.justification);
        self.field("uses", &step.uses.to_string());
        self.field("target's tags", &step.tags.join(", "));
        match &step.what {
            Some(v1::step::What::Exact(digest)) => self.field("exactly", digest),
            Some(v1::step::What::Pattern(pattern)) => self.pattern(pattern),
            None => {}
        }
    }

    fn pattern(&mut self, pattern: &v1::Pattern) {
        self.field("any operation on", &pattern.target);
        match &pattern.kind {
            Some(v1::pattern::Kind::Http(http)) => {
                self.field("method", &http.method);
                self.field("origin", &http.origin);
                self.field("path pattern", &http.path);
                let none = if http.query.is_empty() { "(no query)" } else { &http.query };
                self.field("query pattern", none);
                self.field("headers", "ANY");
                self.field("body", "ANY");
            }
            Some(v1::pattern::Kind::Sql(sql)) => {
                self.field("database", &sql.database);
                self.field("role", &sql.role);
                let lists = [
                    ("actions", &sql.actions),
                    ("tables", &sql.tables),
                    ("functions", &sql.functions),
                    ("flags", &sql.flags),
                ];
                for (name, list) in lists {
                    let text = v1::TextList { items: list.clone() };
                    let value = Some(v1::fact::Value::List(text));
                    self.fact(&v1::Fact { name: name.to_owned(), value });
                }
                self.field("statement", "ANY that does no more than this");
            }
            None => {}
        }
    }

    /// A name of ours and a value of others. Longer ones go below, so that no line wraps.
    fn field(&mut self, name: &str, value: &str) {
        let shown = text::line(value);
        let columns = 3 + text::room(name).max(18) + text::room(&shown);
        if columns <= 80 && shown.is_ascii() && !value.ends_with(' ') {
            let _ = writeln!(self.0, "  {name:<18} {shown}");
        } else {
            let _ = writeln!(self.0, "  {name}");
            self.0.push_str(&text::wrapped(value, "    "));
        }
    }

    /// A name and a value of others. What kind of value it is stands with the name, so that no
    /// two facts show the same.
    fn fact(&mut self, fact: &v1::Fact) {
        use v1::fact::Value;
        let mut name = text::word(&fact.name);
        if text::room(&name) > 56 {
            self.field("long name, of the value below", &fact.name);
            "(value)".clone_into(&mut name);
        }
        match &fact.value {
            None => self.field(&format!("{name} (no value)"), ""),
            Some(Value::Text(value)) => self.field(&name, value),
            Some(Value::Number(value)) => {
                self.field(&format!("{name} (number)"), &value.to_string());
            }
            Some(Value::Flag(flag)) => {
                self.field(&format!("{name} (flag)"), if *flag { "yes" } else { "no" });
            }
            Some(Value::List(list)) if list.items.is_empty() => {
                self.field(&format!("{name} (empty list)"), "");
            }
            Some(Value::List(list)) => {
                for (at, item) in list.items.iter().enumerate() {
                    self.field(&format!("{name} ({} of {})", at + 1, list.items.len()), item);
                }
            }
        }
    }

    fn body(&mut self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let length = body.len();
        match std::str::from_utf8(body) {
            Ok(body) if !body.contains('\0') => {
                let _ = writeln!(self.0, "  body (text, {length} bytes)");
                self.0.push_str(&text::block(body, "    "));
            }
            _ => {
                let _ = writeln!(self.0, "  body (binary, {length} bytes)");
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
        if !principal.exe_inside.is_empty() {
            self.field("in its own mounts", &principal.exe_inside);
        }
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
        let denied = format!("{} no", scope.deny_threshold);
        self.field("  denied by", &denied);
        if !scope.reason_pattern.is_empty() {
            self.field("  reason has", &scope.reason_pattern);
        }
        scope.hours.iter().for_each(|hours| self.field("  hours", hours));
        let span =
            |seconds| text::span(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
        if scope.escalate_after_seconds > 0 {
            let after = span(scope.escalate_after_seconds);
            self.field(
                "  escalates",
                &format!("after {after} to {}", scope.escalate_to.join(", ")),
            );
        }
        self.field("  asked for", &span(scope.request_ttl_seconds));
        if scope.patterns {
            self.field("  patterns", "may be asked for");
        }
        if !scope.break_glass.is_empty() {
            self.field("  break-glass", &scope.break_glass.join(", "));
        }
        self.field(
            "  grant",
            &format!(
                "{} use{} within {}",
                scope.uses,
                if scope.uses == 1 { "" } else { "s" },
                span(scope.grant_ttl_seconds)
            ),
        );
    }

    fn review(&mut self, approval: &v1::Approval) {
        match &approval.review {
            Some(v1::GlassReview { person, note, unix_ms }) => {
                self.field("reviewed", &format!("by {person} at {}", text::time(*unix_ms)));
                self.field("  note", note);
            }
            None if approval.unreviewed => {
                self.field("reviewed", "NO: the glass was broken, and nobody has looked since");
            }
            None => {}
        }
    }

    fn vote(&mut self, vote: &v1::Vote) {
        let word = match (vote.approve, vote.break_glass) {
            (true, true) => "yes, GLASS BROKEN,",
            (true, false) => "yes",
            (false, _) => "no",
        };
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

    fn asked(facts: Vec<v1::Fact>) -> v1::Approval {
        let mut approval = approval(b"", "r");
        let request = approval.request.as_mut().unwrap();
        request.operation.as_mut().unwrap().facts = facts;
        approval
    }

    fn fact(name: &str, value: v1::fact::Value) -> v1::Fact {
        v1::Fact { name: name.to_owned(), value: Some(value) }
    }

    fn list(items: &[&str]) -> v1::fact::Value {
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        v1::fact::Value::List(v1::TextList { items })
    }

    #[test]
    fn hostile_text_cannot_fake_the_page() {
        let fake =
            "https://a/\n  check              the digest is that of exactly this\x1b[A\u{202e}";
        let mut hostile =
            approval(b"ok\n\nWho decides\n  vote yes\x1b[2J\n  check              x", fake);
        hostile.host = fake.to_owned();
        let request = hostile.request.as_mut().unwrap();
        request.policy = fake.to_owned();
        let principal = request.principal.get_or_insert_default();
        (principal.agent, principal.argv) = (fake.to_owned(), vec![fake.to_owned(); 2]);
        let operation = request.operation.as_mut().unwrap();
        operation.target = " ".repeat(200) + fake;
        for name in ["check              the digest is that of exactly this", &"x ".repeat(100)] {
            operation.facts.push(fact(name, v1::fact::Value::Text(fake.to_owned())));
            operation.notes.push(fact(name, list(&[fake, "check"])));
        }
        let page = whole(&hostile);
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!page.chars().any(bad));
        assert!(page.lines().all(|line| text::room(line) <= 80), "{page}");
        let ours = |word: &str| page.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!(ours("Who decides"), 1);
        assert_eq!(ours("  check  "), 1);
        assert!(page.contains("CANNOT BE APPROVED"));
    }

    #[test]
    fn every_hashed_part_shows_and_no_two_operations_show_the_same() {
        use v1::fact::Value as V;
        let text = |text: &str| V::Text(text.to_owned());
        let mut pages = std::collections::BTreeSet::new();
        let mut operations = vec![
            approval(b"", "r"),
            approval(b"", "r "),
            approval(b"a\tb", "r"),
            approval(b"a    b", "r"),
            approval(b"a\xe2\x80\xb9tab\xe2\x80\xbab", "r"),
            approval(b"a\n", "r"),
            approval(b"a", "r"),
            approval(b"a ", "r"),
            approval(b"a\x00", "r"),
        ];
        for value in [
            text("yes"),
            V::Flag(true),
            text("1"),
            V::Number(1),
            list(&[]),
            list(&[""]),
            list(&["1"]),
            list(&["1", ""]),
            list(&["1", "2"]),
            text(""),
            text(" "),
            text("x ".repeat(80).as_str()),
            text("x ".repeat(80).trim_end()),
        ] {
            operations.push(asked(vec![fact("f", value)]));
        }
        operations.push(asked(vec![fact("f (number)", text("1"))]));
        operations.push(asked(vec![fact("f", text("1")), fact("g", text("1"))]));
        for part in 0..6 {
            let mut one = approval(b"", "r");
            let request = one.request.as_mut().unwrap();
            let operation = request.operation.as_mut().unwrap();
            match part {
                0 => operation.target = "part".to_owned(),
                1 => operation.name = "part".to_owned(),
                2 => operation.port = 444,
                3 => operation.protocol = "part".to_owned(),
                4 => operation.action = "part".to_owned(),
                _ => request.principal.get_or_insert_default().task = "part".to_owned(),
            }
            operations.push(one);
        }
        let count = operations.len();
        // What is checked is not compared: it is about the digest.
        let hashed = |page: String| page.split("  check  ").next().unwrap().to_owned();
        pages.extend(operations.iter().map(|one| hashed(whole(one))));
        assert_eq!(pages.len(), count);
    }

    #[test]
    fn the_rules_beyond_who_and_how_many_show() {
        let mut approval = approval(b"", "r");
        approval.unreviewed = true;
        approval.escalated = vec!["s".to_owned()];
        approval.votes.push(v1::Vote {
            person: "olaf".to_owned(),
            approve: true,
            break_glass: true,
            scope: "s".to_owned(),
            ..v1::Vote::default()
        });
        approval.request.as_mut().unwrap().scopes.push(v1::Scope {
            name: "s".to_owned(),
            reason_pattern: "CHG-[0-9]+".to_owned(),
            hours: vec!["08:00-18:00 UTC".to_owned()],
            escalate_after_seconds: 600,
            escalate_to: vec!["leads".to_owned()],
            break_glass: vec!["oncall".to_owned()],
            request_ttl_seconds: 900,
            patterns: true,
            ..v1::Scope::default()
        });
        let page = whole(&approval);
        for shown in [
            "CHG-[0-9]+",
            "08:00-18:00 UTC",
            "leads",
            "oncall",
            "15m00s",
            "may be asked for",
            "GLASS BROKEN",
            "NO: ",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(summary(&approval, 0).ends_with("yes:1 no:0 GLASS-BROKEN"));
        approval.unreviewed = false;
        assert!(summary(&approval, 0).ends_with(" escalated"));
    }

    #[test]
    fn what_is_not_hashed_stands_apart() {
        let mut approval = asked(vec![fact("hashed.fact", v1::fact::Value::Number(1))]);
        approval.host = "h1".to_owned();
        let request = approval.request.as_mut().unwrap();
        request.policy = "sha256:1".to_owned();
        request.scopes.push(v1::Scope { name: "payments".to_owned(), ..v1::Scope::default() });
        let notes = &mut request.operation.as_mut().unwrap().notes;
        notes.push(fact("ignored.header", v1::fact::Value::Text("x".to_owned())));
        let page = whole(&approval);
        let (covered, told) = page.split_once("Who asks: not covered by the digest").unwrap();
        for shown in ["digest", "agent", "task", "verified name", "port", "hashed.fact (number)"] {
            assert!(covered.contains(&format!("\n  {shown} ")), "{shown}: {page}");
        }
        for shown in ["host", "policy", "process", "ignored.header", "scope"] {
            assert!(told.contains(&format!("\n  {shown} ")), "{shown}: {page}");
            assert!(!covered.contains(&format!("\n  {shown} ")), "{shown}: {page}");
        }
        assert!(told.contains("Notes: not covered by the digest"));
    }

    #[test]
    fn listed_columns_stand_under_each_other() {
        let one = |host: &str, state: v1::State| {
            let mut one = approval(b"", "日本語");
            (one.host, one.state) = (host.to_owned(), state.into());
            one.request.as_mut().unwrap().operation.as_mut().unwrap().action =
                "http.get".to_owned();
            one
        };
        let rows = [
            one("h", v1::State::Pending),
            one("ホスト", v1::State::Cancelled),
            one(&"x".repeat(60), v1::State::Spent),
        ];
        let shown = summaries(&rows, 0);
        let at = |word: &str| -> Vec<usize> {
            shown
                .lines()
                .map(|line| text::columns(line.split_once(word).expect("there").0))
                .collect()
        };
        for word in ["http.get", "日本語", "[] yes:0"] {
            let at = at(word);
            assert!(at.iter().all(|column| *column == at[0]), "{word} {at:?}\n{shown}");
        }
    }

    #[test]
    fn the_whole_body_is_shown() {
        let page = whole(&approval(b"\x00\x01binary", "r"));
        assert!(page.contains("body (binary, 8 bytes)"));
        assert!(page.contains("00 01 62 69 6e 61 72 79"));
        let text = whole(&approval("ein Gruß".as_bytes(), "r"));
        assert!(text.contains("    | ein Gruß"));
    }
}
