//! What an operation came to is remembered: never for another operation.

use super::*;
use crate::operation::{Fact, Protocol};
use crate::policy::sql::{
    DATABASE, FLAGS, FUNCTIONS, HAS_WHERE, IN_TRANSACTION, PARAMETER, PARAMETER_TYPES, ROLE,
    SEARCH_PATH, STATEMENT, TABLES_READ, TABLES_WRITTEN, USER,
};

const TARGETS: &str = r#"
[[target]]
name = "db"
names = ["db.test"]
ports = [5432]
protocol = "postgres"
[target.postgres]
users = { app = "agent_rw" }
[[target.postgres.role]]
name = "agent_rw"
file = "/etc/enforcer/rw"
[[target]]
name = "site"
names = ["site.test"]
ports = [443]
"#;

const READS_NONE: &str = r#"
@id("read") permit (principal == Agent::"ci", action in Action::"sql.read", resource)
when { context.tables_read.contains("public.a") && !context.in_transaction };
@id("get") permit (principal, action == Action::"http.get", resource) when { context.path like "/a*" };
"#;

const READS_ALL: &str = r#"
@id("read") permit (principal, action in Action::"sql.read", resource)
when { context.statement like "*a*" };
@id("one") permit (principal, action in Action::"sql.write", resource)
when { context.parameters.hasTag("1") && context.parameters.getTag("1") == "1" };
@id("get") permit (principal, action == Action::"http.get", resource)
when { context.headers.hasTag("x") && context.headers.getTag("x") == "1" };
"#;

/// Operations that differ in one thing each.
fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for action in ["sql.select", "sql.delete"] {
        for text in ["select a", "select b"] {
            for tables in [&["public.a"][..], &["public.b"], &["public.a", "public.b"], &[]] {
                for parameter in [None, Some("1"), Some("2")] {
                    for open in [false, true] {
                        let resource = "postgres://db.test:5432/shop".to_owned();
                        let name = "db.test";
                        let mut op =
                            Operation::new("db", name, 5432, Protocol::Postgres, action, resource);
                        for (fact, value) in
                            [(DATABASE, "shop"), (USER, "app"), (ROLE, "rw"), (STATEMENT, text)]
                        {
                            op.fact(fact, value);
                        }
                        for fact in [TABLES_WRITTEN, FUNCTIONS, FLAGS, SEARCH_PATH] {
                            op.fact(fact, Fact::List(Vec::new()));
                        }
                        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
                        op.fact(TABLES_READ, Fact::List(tables));
                        op.fact(HAS_WHERE, false);
                        op.fact(IN_TRANSACTION, open);
                        if let Some(value) = parameter {
                            op.fact(format!("{PARAMETER}1"), value);
                            op.fact(PARAMETER_TYPES, Fact::List(vec!["text".to_owned()]));
                        }
                        all.push(op);
                    }
                }
            }
        }
    }
    for path in ["/a", "/b", "/a/../b"] {
        for header in [None, Some("1"), Some("2")] {
            let resource = format!("https://site.test{path}");
            let mut op =
                Operation::new("site", "site.test", 443, Protocol::Http, "http.get", resource);
            for (fact, value) in
                [("method", "GET"), ("scheme", "https"), ("authority", "site.test"), ("path", path)]
            {
                op.fact(format!("http.{fact}"), value);
            }
            if let Some(value) = header {
                op.fact("http.header.x", value);
            }
            all.push(op);
        }
    }
    all
}

#[test]
fn one_operation_never_gets_what_another_got() {
    let operations = operations();
    for rules in [READS_NONE, READS_ALL] {
        let remembers = bundle(TARGETS, rules, "");
        let mut verdicts = std::collections::HashSet::new();
        for round in 0..2 {
            for op in &operations {
                for agent in ["ci", "dev"] {
                    let principal = principal(agent);
                    let target = Arc::clone(remembers.target(&op.target).unwrap());
                    let judged = remembers.evaluate(&principal, &target, op);
                    let anew = remembers.evaluate_anew(&principal, &target, op);
                    assert_eq!(judged, anew, "round {round}: {agent} {op:?}");
                    verdicts.insert(judged.verdict.to_string());
                }
            }
        }
        assert_eq!(verdicts.len(), 2, "{rules}: some are allowed and some are not");
    }
}
