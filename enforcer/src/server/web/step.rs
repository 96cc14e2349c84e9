//! A step of a task on an approval's page: all of it is covered by the digest.

use super::approval::field;
use super::text;
use enforcer_proto::v1;
use enforcer_proto::v1::pattern::Kind;
use enforcer_proto::v1::step::What;
use maud::{Markup, html};

/// What a step adds to what will run: why, how often, and which operations it lets through.
pub(super) fn fields(step: &v1::Step) -> Markup {
    html! {
        (field("objective", text::block(&step.objective)))
        (field("step", html! { (step.number) " of " (step.of) }))
        (field("justification", text::block(&step.justification)))
        (field("uses", html! { (step.uses) }))
        @if !step.tags.is_empty() {
            (field("target's tags", text::line(&step.tags.join(", "))))
        }
        @match &step.what {
            Some(What::Exact(digest)) => {
                (field("lets through", html! {
                    "exactly this operation: " span.digest { (text::line(digest)) }
                }))
            }
            Some(What::Pattern(pattern)) => (self::pattern(pattern)),
            None => {}
        }
    }
}

fn pattern(pattern: &v1::Pattern) -> Markup {
    let list = |name: &str, items: &[String]| {
        let none = html! { i { "none" } };
        let items = if items.is_empty() { none } else { text::line(&items.join(", ")) };
        field(name, items)
    };
    html! {
        (field("lets through", html! {
            strong { "every operation that this pattern describes" }
        }))
        (field("target", text::line(&pattern.target)))
        @match &pattern.kind {
            Some(Kind::Http(http)) => {
                (field("method", text::line(&http.method)))
                (field("origin", text::line(&http.origin)))
                (field("path", text::line(&http.path)))
                (field("query", match http.query.as_str() {
                    "" => html! { i { "none" } },
                    query => text::line(query),
                }))
                (field("headers, body", html! { i { "any" } }))
            }
            Some(Kind::Sql(sql)) => {
                (field("database", text::line(&sql.database)))
                (field("role", text::line(&sql.role)))
                (list("actions", &sql.actions))
                (list("tables", &sql.tables))
                (list("functions", &sql.functions))
                (list("flags", &sql.flags))
                (field("text, parameters", html! { i { "any" } }))
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shown_whole_and_hostile_text_is_text() {
        let path = "/refunds/*<script>".to_owned();
        let http = v1::HttpPattern {
            method: "POST".into(),
            origin: "https://pay.test".into(),
            path,
            query: String::new(),
        };
        let pattern = v1::Pattern { target: "pay".into(), kind: Some(Kind::Http(http)) };
        let step = v1::Step {
            objective: "refund".into(),
            number: 2,
            of: 3,
            justification: "ticket 7".into(),
            uses: 5,
            what: Some(What::Pattern(pattern)),
            ..v1::Step::default()
        };
        let shown = fields(&step).into_string();
        for part in ["refund", "2 of 3", "ticket 7", "https://pay.test", "POST", "any", ">5<"] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert!(!shown.contains("<script>"), "{shown}");
    }
}
