//! What is told, in each format. Text of others is shown as text: no format reads markup in it.

use super::Format;
use crate::cli::approvals::text;
use crate::server::audit::Code;
use crate::server::model::{Millis, Record};
use enforcer_proto::v1;
use serde_json::{Value, json};
use uuid::Uuid;

/// Columns of one value.
const SHOWN: usize = 200;

/// One piece of news.
#[derive(Debug)]
pub(super) struct News {
    /// The same in every try, and for every endpoint.
    pub(super) delivery: Uuid,
    code: &'static str,
    at: Millis,
    title: String,
    /// Name and value, made safe to show.
    lines: Vec<(&'static str, String)>,
    approval: Value,
}

impl News {
    pub(super) fn new(
        code: Code,
        record: &Record,
        asked: &v1::ApprovalRequest,
        link: Option<String>,
        now: Millis,
    ) -> Self {
        let mut operation = asked.operation.clone().unwrap_or_default();
        if let Some(step) = &asked.step {
            operation.resource = crate::task::words(asked);
            if operation.action.is_empty() {
                "pattern".clone_into(&mut operation.action);
            }
            if let Some(v1::step::What::Pattern(pattern)) = &step.what {
                operation.target.clone_from(&pattern.target);
            }
        }
        let scopes: Vec<&str> = record.rules.iter().map(|rule| rule.scope.as_str()).collect();
        let who = format!("{}/{}", record.host, record.agent);
        let title = format!("{}: {}", sentence(code), text::short(&who, 80));
        let mut lines = vec![
            ("agent", text::short(&who, SHOWN)),
            ("action", text::short(&operation.action, SHOWN)),
            ("target", text::short(&operation.target, SHOWN)),
            ("resource", text::short(&operation.resource, SHOWN)),
            ("scopes", text::short(&scopes.join(", "), SHOWN)),
        ];
        for vote in &record.votes {
            let word = match (vote.approve, vote.broke.is_empty()) {
                (true, true) => "yes",
                (true, false) => "yes, THE GLASS BROKEN",
                (false, _) => "no",
            };
            let said = format!("{word} by {}: {}", vote.person, vote.reason);
            lines.push(("vote", text::short(&said, SHOWN)));
        }
        if record.phase.live() {
            lines.push(("until", text::time(record.expires())));
        }
        // Nothing here decides: the page asks to sign in, the command for the own certificate.
        let command = format!("enforcer approvals show {}", record.id);
        lines.push(("look at it", link.clone().unwrap_or_else(|| command.clone())));
        let mut approval = json!({
            "id": record.id,
            "state": record.phase.as_str(),
            "host": record.host,
            "agent": record.agent,
            "digest": record.digest,
            "action": operation.action,
            "target": operation.target,
            "resource": operation.resource,
            "scopes": scopes,
            "expires_unix_ms": record.expires(),
            "requests": record.asked,
            "revision": record.revision,
            "escalated": record.escalated,
            "unreviewed": record.unreviewed(),
            "votes": record.votes.iter().map(|vote| json!({
                "person": vote.person,
                "approve": vote.approve,
                "break_glass": !vote.broke.is_empty(),
                "reason": vote.reason,
                "unix_ms": vote.at,
            })).collect::<Vec<_>>(),
            "command": command,
        });
        if let Some(link) = link {
            approval["url"] = link.into();
        }
        Self { delivery: Uuid::now_v7(), code: code.as_str(), at: now, title, lines, approval }
    }

    /// The body of the request to an endpoint.
    pub(super) fn body(&self, format: Format) -> Vec<u8> {
        let value = match format {
            Format::Json => json!({
                "version": 1,
                "delivery": self.delivery,
                "event": self.code,
                "unix_ms": self.at,
                "approval": self.approval,
            }),
            Format::Slack => self.slack(),
            Format::Teams => self.teams(),
        };
        value.to_string().into_bytes()
    }

    /// <https://api.slack.com/reference/block-kit/composition-objects#text>: `plain_text` has no
    /// markup; the `text` beside the blocks has, so its three signs are escaped.
    fn slack(&self) -> Value {
        let plain = |text: String| json!({ "type": "plain_text", "emoji": false, "text": text });
        let escaped = self.title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let lines = self.lines.iter().map(|(name, value)| format!("{name}: {value}"));
        let lines: String = lines.collect::<Vec<_>>().join("\n").chars().take(2900).collect();
        json!({
            "text": escaped,
            "blocks": [
                { "type": "header", "text": plain(self.title.chars().take(140).collect()) },
                { "type": "section", "text": plain(lines) },
            ],
        })
    }

    /// An adaptive card: the runs of a `RichTextBlock` have no markup, a `TextBlock` has.
    /// <https://adaptivecards.io/explorer/TextRun.html>
    fn teams(&self) -> Value {
        let block = |runs: Value| json!({ "type": "RichTextBlock", "inlines": runs });
        let run =
            |text: &str, weight: &str| json!({ "type": "TextRun", "text": text, "weight": weight });
        let mut body = vec![block(json!([run(&self.title, "bolder")]))];
        for (name, value) in &self.lines {
            let name = format!("{name}: ");
            body.push(block(json!([run(&name, "lighter"), run(value, "default")])));
        }
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": body,
                },
            }],
        })
    }
}

fn sentence(code: Code) -> &'static str {
    match code {
        Code::ApprovalRequested => "An approval is asked for",
        Code::ApprovalEscalated => "An approval waits for too long, and now for you",
        Code::ApprovalVoted => "Somebody voted",
        Code::ApprovalApproved => "Approved",
        Code::ApprovalDenied => "Denied",
        Code::ApprovalExpired => "Nobody decided in time",
        Code::ApprovalCancelled => "Withdrawn",
        Code::GlassBroken => "THE GLASS WAS BROKEN: somebody approved alone",
        Code::GlassReviewed => "A broken glass was reviewed",
        Code::GrantClaimed => "A grant was used",
        Code::GrantRevoked => "A grant was taken back",
        Code::GrantVoided => "A grant ended with a new policy",
        _ => code.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::model::Rule;

    fn news(agent: &str) -> News {
        let rule = Rule { scope: "s".to_owned(), request_ttl: 1000, ..Rule::default() };
        let record = Record::new(Uuid::nil(), ("h", agent), "v1:aa", vec![rule], Vec::new(), 5);
        let operation = v1::OperationAsked {
            resource: "https://a/<!channel>\n*x*\u{202e}".to_owned(),
            ..v1::OperationAsked::default()
        };
        let asked = v1::ApprovalRequest { operation: Some(operation), ..Default::default() };
        News::new(Code::ApprovalRequested, &record, &asked, None, 7)
    }

    fn value(news: &News, format: Format) -> Value {
        serde_json::from_slice(&news.body(format)).unwrap()
    }

    #[test]
    fn ours_has_everything_as_it_is() {
        let news = news("a");
        let value = value(&news, Format::Json);
        assert_eq!(value["event"], "approval.requested");
        assert_eq!(value["delivery"], news.delivery.to_string());
        assert_eq!(value["approval"]["resource"], "https://a/<!channel>\n*x*\u{202e}");
        assert_eq!(value["approval"]["expires_unix_ms"], 1005);
        let command = value["approval"]["command"].as_str().unwrap();
        assert!(command.starts_with("enforcer approvals show 0000"), "{command}");
    }

    #[test]
    fn text_of_others_is_text_in_a_chat() {
        let slack = value(&news("<!here>&"), Format::Slack);
        assert!(slack["text"].as_str().unwrap().ends_with("h/&lt;!here&gt;&amp;"));
        for block in slack["blocks"].as_array().unwrap() {
            assert_eq!(block["text"]["type"], "plain_text");
        }
        let lines = slack["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(!lines.contains('\u{202e}') && lines.lines().count() == 7, "{lines}");
        let teams = value(&news("a"), Format::Teams);
        let body = teams["attachments"][0]["content"]["body"].as_array().unwrap();
        assert!(body.iter().all(|block| block["type"] == "RichTextBlock"));
        assert_eq!(body.len(), 8);
    }

    #[test]
    fn a_message_has_a_bound() {
        let slack = value(&news(&"x".repeat(10_000)), Format::Slack);
        assert!(slack.to_string().len() < 6_000);
    }
}
