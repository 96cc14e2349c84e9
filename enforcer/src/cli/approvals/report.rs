//! The report of bad habits, for people and programs.

use super::{json, text};
use enforcer_proto::v1;
use std::fmt::Write as _;

/// For programs. The keys and codes are an interface.
pub(super) fn json(report: &v1::ReportResponse) -> String {
    let finding = |found: &v1::Finding| {
        serde_json::json!({
            "code": found.code,
            "person": found.person,
            "scope": found.scope,
            "count": found.count,
            "of": found.of,
            "detail": found.detail,
            "approvals": found.approvals,
        })
    };
    let value = serde_json::json!({
        "approvals": report.approvals,
        "more": report.more,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    json::pretty(&value) + "\n"
}

/// For people: a line each, with the newest approvals that it is about below.
pub(super) fn text(report: &v1::ReportResponse) -> String {
    let mut out = format!("{} approvals looked at", report.approvals);
    if report.more {
        out.push_str(" (the newest: there are more)");
    }
    let _ = writeln!(out, ", {} findings", report.findings.len());
    for found in &report.findings {
        let v1::Finding { code, person, scope, count, of, detail, .. } = found;
        let _ = write!(out, "\n{} {count}/{of}", text::line(code));
        if !person.is_empty() {
            let _ = write!(out, " by {}", text::line(person));
        }
        if !scope.is_empty() {
            let _ = write!(out, " in {}", text::line(scope));
        }
        let _ = writeln!(out, ": {}", text::short(detail, 200));
        for id in &found.approvals {
            let _ = writeln!(out, "    {}", text::line(id));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_its_line() {
        let found = v1::Finding {
            code: "no-reason".to_owned(),
            person: "ann".to_owned(),
            detail: "x\ny\u{1b}[2J".to_owned(),
            count: 2,
            of: 3,
            approvals: vec!["id".to_owned()],
            ..v1::Finding::default()
        };
        let report = v1::ReportResponse { approvals: 3, more: false, findings: vec![found] };
        let shown = text(&report);
        assert!(shown.starts_with("3 approvals looked at, 1 findings\n\nno-reason 2/3 by ann: x"));
        assert!(shown.lines().count() == 4 && !shown.contains('\u{1b}'), "{shown}");
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["findings"][0]["detail"], "x\ny\u{1b}[2J");
    }
}
