//! Statements: which rules make which verdict, and what is wrong with targets, rules and masks
//! of a database.

use super::*;
use crate::operation::{Fact, Protocol};
use crate::policy::sql::*;
use rstest::rstest;

const TARGETS: &str = r#"
[[target]]
name = "db"
names = ["db.test"]
ports = [5432]
protocol = "postgres"
tags = ["prod"]
[target.postgres]
users = { app = "agent_rw", "*" = "agent_ro" }
databases = { shop = "shop_v2" }
[[target.postgres.role]]
name = "agent_rw"
credential = "db-rw"
[[target.postgres.role]]
name = "agent_ro"
file = "/etc/enforcer/ro"
certificate = "/etc/enforcer/ro.pem"
key = "/etc/enforcer/ro.key"

[[target]]
name = "site"
names = ["site.test"]
ports = [443]
"#;

/// A statement the way the proxy describes it.
fn statement(action: &str, lists: &[(&'static str, &[&str])]) -> Operation {
    let resource = "postgres://db.test:5432/shop_v2".to_owned();
    let mut op = Operation::new("db", "db.test", 5432, Protocol::Postgres, action, resource);
    for (fact, text) in [(DATABASE, "shop_v2"), (USER, "app"), (ROLE, "agent_rw"), (STATEMENT, "")]
    {
        op.fact(fact, text);
    }
    for fact in [TABLES_READ, TABLES_WRITTEN, FUNCTIONS, FLAGS, SEARCH_PATH] {
        op.fact(fact, Fact::List(Vec::new()));
    }
    for (fact, items) in lists {
        op.fact(*fact, Fact::List(items.iter().map(|item| (*item).to_owned()).collect()));
    }
    op.fact(HAS_WHERE, false);
    op.fact(IN_TRANSACTION, false);
    op
}

fn judge(rules: &str, op: &Operation) -> Judgement {
    let bundle = bundle(TARGETS, rules, "[[scope]]\nname = \"one\"\n[[scope]]\nname = \"two\"\n");
    let target = Arc::clone(bundle.target("db").unwrap());
    bundle.evaluate(&principal("ci"), &target, op)
}

fn verdict(rules: &str, op: &Operation) -> String {
    judge(rules, op).verdict.to_string()
}

#[rstest]
#[case("sql.select", "sql.read", "allow")]
#[case("sql.select", "read", "allow")]
#[case("sql.select", "sql.write", "deny")]
#[case("sql.delete", "write", "allow")]
#[case("sql.delete", "sql.read", "deny")]
#[case("sql.ddl.drop", "sql.ddl", "allow")]
#[case("sql.ddl.drop", "sql.write", "allow")]
#[case("sql.update", "sql.ddl", "deny")]
#[case("sql.connect", "sql.session", "allow")]
#[case("sql.connect", "sql.read", "deny")]
#[case("sql.show", "sql.session", "allow")]
#[case("sql.show", "sql.read", "allow")]
#[case("sql.set", "sql.write", "deny")]
#[case("sql.nonsense", "write", "deny")]
#[case("sql.function", "write", "deny")]
#[case("sql.replication", "write", "deny")]
#[case("http.get", "read", "deny")]
fn groups(#[case] action: &str, #[case] group: &str, #[case] want: &str) {
    let rules = format!(
        r#"@id("p") permit (principal, action in Action::"{group}", resource == Target::"db");
           @id("q") permit (principal, action in Action::"http.read", resource == Target::"site");"#
    );
    assert_eq!(verdict(&rules, &statement(action, &[])), want);
}

#[test]
fn what_a_target_allows_by_name_can_be_permitted() {
    let targets =
        TARGETS.replace("users = {", "allow = [\"function-call\", \"replication\"]\nusers = {");
    let rules =
        r#"@id("p") permit (principal, action in Action::"write", resource == Target::"db");"#;
    let bundle = bundle(&targets, rules, "");
    let target = Arc::clone(bundle.target("db").unwrap());
    for action in ["sql.function", "sql.replication"] {
        let judged = bundle.evaluate(&principal("ci"), &target, &statement(action, &[]));
        assert_eq!(judged.verdict, Verdict::Allow, "{action}");
    }
}

#[rstest]
#[case("context.tables_read.contains(\"public.users\")", true)]
#[case("context.tables_read.contains(\"public.orders\")", false)]
#[case("context.tables_written.isEmpty()", true)]
#[case("context.functions.containsAny([\"pg_catalog.now\", \"public.f\"])", true)]
#[case("context.flags.contains(\"copy-program\")", false)]
#[case("context.has_where", false)]
#[case("context.database == \"shop_v2\" && context.user == \"app\"", true)]
#[case("context.role == \"agent_rw\" && context.search_path == \"app, public\"", true)]
#[case("context.in_transaction", false)]
#[case("context has columns && context.columns.contains(\"public.users.email\")", true)]
#[case("context has looked_at && context.looked_at.contains(\"public.users.email\")", false)]
#[case("context.parameters.hasTag(\"1\") && context.parameters.getTag(\"1\") == \"42\"", true)]
#[case("context.parameters.hasTag(\"2\")", false)]
#[case("context.host == \"db.test\" && context.port == 5432", true)]
fn facts(#[case] condition: &str, #[case] holds: bool) {
    let mut op = statement(
        "sql.select",
        &[
            (TABLES_READ, &["public.users"]),
            (FUNCTIONS, &["pg_catalog.now"]),
            (SEARCH_PATH, &["app", "public"]),
            (COLUMNS, &["public.users.email"]),
            (LOOKED_AT, &["public.users.id"]),
        ],
    );
    op.fact("sql.parameter.1", "42");
    let rules = format!(
        r#"@id("p") permit (principal, action == Action::"sql.select", resource) when {{ {condition} }};
           @id("s") permit (principal, action in Action::"sql.session", resource);"#
    );
    assert_eq!(verdict(&rules, &op) == "allow", holds);
}

#[rstest]
#[case(DATABASE)]
#[case(USER)]
#[case(ROLE)]
#[case(STATEMENT)]
#[case(TABLES_READ)]
#[case(TABLES_WRITTEN)]
#[case(FUNCTIONS)]
#[case(FLAGS)]
#[case(SEARCH_PATH)]
#[case(HAS_WHERE)]
#[case(IN_TRANSACTION)]
fn a_fact_that_is_of_another_kind_is_a_denial(#[case] fact: &'static str) {
    let rules = r#"@id("p") permit (principal, action, resource);"#;
    let mut op = statement("sql.select", &[]);
    assert_eq!(verdict(rules, &op), "allow");
    op.fact(fact, 7_i64);
    let judged = judge(rules, &op);
    assert_eq!(judged.verdict, Verdict::Deny);
    assert!(judged.trace.join("\n").contains(fact), "{:?}", judged.trace);
}

#[test]
fn a_fact_that_is_missing_is_a_denial_and_signing_in_has_no_statement() {
    let rules = r#"@id("p") permit (principal, action, resource);"#;
    let bare = |action: &str| {
        let resource = String::new();
        let mut op = Operation::new("db", "db.test", 5432, Protocol::Postgres, action, resource);
        for (fact, text) in [(DATABASE, "shop_v2"), (USER, "app"), (ROLE, "agent_rw")] {
            op.fact(fact, text);
        }
        op
    };
    assert_eq!(verdict(rules, &bare("sql.connect")), "allow");
    assert_eq!(verdict(rules, &bare("sql.select")), "deny");
}

#[test]
fn columns_that_are_not_known_deny_where_a_rule_asks_for_them() {
    let rules = r#"
        @id("p") permit (principal, action in Action::"read", resource == Target::"db");
        @id("f") forbid (principal, action in Action::"read", resource == Target::"db")
        when { context has columns && context.columns.contains("public.users.email") };"#;
    let unknown = statement("sql.select", &[(TABLES_READ, &["public.users"])]);
    let judged = judge(rules, &unknown);
    assert_eq!(judged.verdict, Verdict::Deny);
    assert!(judged.trace.join("\n").contains("columns"), "{:?}", judged.trace);
    let known = statement("sql.select", &[(COLUMNS, &["public.users.id"]), (LOOKED_AT, &[])]);
    assert_eq!(verdict(rules, &known), "allow");
    let shown = statement("sql.select", &[(COLUMNS, &["public.users.email"]), (LOOKED_AT, &[])]);
    assert_eq!(verdict(rules, &shown), "deny");
    let bundle = bundle(TARGETS, rules, "");
    let db = bundle.target("db").unwrap();
    assert!(bundle.reads_columns(db, "sql.select") && !bundle.reads_columns(db, "sql.delete"));
}

#[test]
fn a_statement_is_judged_as_everything_that_it_does() {
    let rules = r#"
        @id("read") permit (principal, action in Action::"sql.read", resource);
        @id("delete") @approval("one") permit (principal, action == Action::"sql.delete", resource);
        @id("insert") @approval("two") permit (principal, action == Action::"sql.insert", resource);"#;
    let does = |action, others| verdict(rules, &statement(action, &[(ACTIONS, others)]));
    assert_eq!(does("sql.select", &[]), "allow");
    assert_eq!(does("sql.delete", &["sql.delete", "sql.select"]), "needs-approval(one)");
    assert_eq!(does("sql.delete", &["sql.insert"]), "needs-approval(one, two)");
    assert_eq!(does("sql.select", &["sql.insert", "sql.select"]), "needs-approval(two)");
    assert_eq!(does("sql.delete", &["sql.update"]), "deny");
    assert_eq!(does("sql.select", &["sql.what"]), "deny");
    let judged = judge(rules, &statement("sql.delete", &[(ACTIONS, &["sql.insert"])]));
    assert_eq!(judged.rules, ["delete", "insert"]);
}

#[test]
fn a_change_that_reads_other_tables_is_a_read_too() {
    let rules = r#"
        @id("insert") permit (principal, action == Action::"sql.insert", resource);
        @id("products") permit (principal, action == Action::"sql.select", resource)
        unless { context.tables_read.contains("public.users") };"#;
    let insert = |reads: &[&str]| {
        let op =
            statement("sql.insert", &[(TABLES_WRITTEN, &["public.orders"]), (TABLES_READ, reads)]);
        verdict(rules, &op)
    };
    assert_eq!(insert(&[]), "allow");
    assert_eq!(insert(&["public.orders"]), "allow");
    assert_eq!(insert(&["public.products"]), "allow");
    assert_eq!(insert(&["public.products", "public.users"]), "deny");
}

#[test]
fn users_and_databases_are_mapped() {
    let bundle = bundle(TARGETS, r#"@id("p") permit (principal, action, resource);"#, "");
    let db = bundle.target("db").unwrap().postgres.as_ref().unwrap();
    let role = |user| db.role_of(user).map(|role| role.name.as_str());
    assert_eq!(role("app"), Some("agent_rw"));
    assert_eq!(role("agent_rw"), Some("agent_ro"), "what is mapped is the agent's word for it");
    assert_eq!(db.database_of("shop"), Some("shop_v2"));
    assert_eq!(db.database_of("shop_v2"), None);
    let ro = db.role_of("anybody").unwrap();
    assert!(ro.certificate.is_some());
    assert!(ro.password().is_err(), "the file is not there");
    let plain = Postgres { roles: db.roles.clone(), ..Postgres::default() };
    assert_eq!(plain.role_of("agent_ro").map(|role| role.name.as_str()), Some("agent_ro"));
    assert!(plain.role_of("app").is_none());
    assert_eq!(plain.database_of("any"), Some("any"));
}

/// What is wrong with these files, as it is told.
fn problems(files: &Files) -> String {
    match Bundle::from_files(files) {
        Ok(bundle) => bundle.warnings().to_string(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn wrong_targets() {
    let found = problems(&files(
        r#"
[[target]]
name = "bare"
names = ["a.test"]
protocol = "postgres"
tls = "passthrough"
ignore_headers = ["x-a"]
[[target]]
name = "web"
names = ["b.test"]
[target.postgres]
[[target]]
name = "wrong"
names = ["c.test"]
protocol = "postgres"
[target.postgres]
users = { app = "nobody", "" = "one" }
databases = { shop = "" }
tls = "prefer"
untraceable = "mask"
allow = ["copy"]
user = "x"
[[target.postgres.role]]
name = "one"
[[target.postgres.role]]
name = "one"
file = "relative"
env = "TWO"
[[target.postgres.role]]
name = "half"
certificate = "/a.pem"
"#,
        r#"@id("p") permit (principal, action, resource);"#,
        "",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn wrong_rules() {
    let found = problems(&files(
        TARGETS,
        r#"
@id("sign-in") forbid (principal, action == Action::"sql.connect", resource);
@id("read") permit (principal, action in Action::"sql.read", resource);
@id("table") forbid (principal, action in Action::"sql.write", resource) when { context.tables_written.contains("users") };
@id("tables") forbid (principal, action in Action::"sql.write", resource) when { context.tables_read.containsAny(["public.a", "b"]) };
@id("column") forbid (principal, action in Action::"sql.read", resource) when { context has columns && context.columns.contains("users.email") };
@id("function") forbid (principal, action in Action::"sql.read", resource) when { context.functions.contains("now") };
@id("text") forbid (principal, action in Action::"sql.write", resource) when { context.statement like "*DROP*" };
@id("texts") forbid (principal, action in Action::"sql.write", resource) unless { context.statement == "DELETE FROM a" };
@id("optional") forbid (principal, action in Action::"sql.read", resource) when { context.columns.contains("a.b.c") };
@id("both") permit (principal, action in Action::"read", resource) when { context.path like "/x*" };
@id("http") permit (principal, action in Action::"read", resource == Target::"site") when { context.path like "/x*" };
@id("sql") permit (principal, action in Action::"read", resource == Target::"db") when { context.role == "r" };
@id("flag") forbid (principal, action in Action::"sql.write", resource) when { context.flags.contains("copy_program") };
@id("function-call") permit (principal, action == Action::"sql.function", resource);
"#,
        "",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn rules_that_leave_a_target_without_a_way_in() {
    let found = problems(&files(
        TARGETS,
        r#"@id("read") permit (principal, action in Action::"read", resource);"#,
        "",
        "",
    ));
    assert!(found.contains("no rule permits `sql.connect` on target `db`"), "{found}");
    let found = problems(&files(
        TARGETS,
        r#"@id("f") permit (principal, action == Action::"sql.function", resource);"#,
        "",
        "",
    ));
    assert!(found.contains("rule `f` cannot fire"), "{found}");
    let quiet =
        problems(&files(TARGETS, r#"@id("p") permit (principal, action, resource);"#, "", ""));
    assert_eq!(quiet, "");
}

#[test]
fn wrong_masks() {
    let found = problems(&files(
        TARGETS,
        r#"@id("p") permit (principal, action, resource);"#,
        "",
        r#"
[[mask]]
name = "column"
columns = ["users.email"]
[[mask]]
name = "of-http"
targets = ["db"]
json = ["$.a"]
[[mask]]
name = "of-postgres"
targets = ["site"]
columns = ["public.users.email"]
[[mask]]
name = "nothing"
targets = ["db"]
"#,
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn a_mask_without_targets_is_for_those_that_can_have_it() {
    let files = files(
        TARGETS,
        r#"@id("p") permit (principal, action, resource);"#,
        "",
        "[[mask]]\nname = \"c\"\ncolumns = [\"*.*.ssn\"]\n[[mask]]\nname = \"j\"\njson = [\"$.a\"]\n",
    );
    let bundle = Bundle::from_files(&files).unwrap();
    let (db, site) = (bundle.target("db").unwrap(), bundle.target("site").unwrap());
    assert_eq!(bundle.mask_names(db), ["c"]);
    assert_eq!(bundle.mask_names(site), ["j"]);
    assert!(bundle.masks_for(db).columns().any() && !bundle.masks_for(site).columns().any());
}

/// Cases of SQL: what a person writes is read as what an agent sends.
#[test]
fn cases() {
    let rules = r#"
@id("sign-in") permit (principal, action in Action::"sql.session", resource == Target::"db");
@id("read") permit (principal, action in Action::"sql.read", resource == Target::"db");
@id("never-salaries") forbid (principal, action, resource == Target::"db")
when { context has tables_read && context.tables_read.contains("hr.salaries") };
@id("orders") @approval("one") permit (principal, action in [Action::"sql.update", Action::"sql.delete"], resource == Target::"db")
when { context.has_where && ["public.orders"].containsAll(context.tables_written) };
@id("insert") permit (principal, action == Action::"sql.insert", resource == Target::"db")
when { context.parameters.hasTag("1") && context.parameters.getTag("1") == "7" };
@id("not-by-email") forbid (principal, action == Action::"sql.select", resource == Target::"db")
when { context.user == "other" && context has looked_at && context.looked_at.contains("public.users.email") };
"#;
    let cases = r#"
[[test]]
name = "signs in"
agent = "ci"
target = "db"
sign_in = true
expect = "allow"
rules = ["sign-in"]
[[test]]
name = "reads"
agent = "ci"
target = "db"
sql = "SELECT count(*) FROM orders"
columns = []
looked_at = []
expect = "allow"
[[test]]
name = "not salaries, however they are called"
agent = "ci"
target = "db"
sql = 'SELECT * FROM U&"h\0072" . "salaries" /* nothing */'
columns = []
looked_at = []
expect = "deny"
rules = ["never-salaries"]
[[test]]
name = "not salaries by the search path"
agent = "ci"
target = "db"
search_path = ["hr", "public"]
sql = "TABLE salaries"
columns = []
looked_at = []
expect = "deny"
[[test]]
name = "a delete with a condition"
agent = "ci"
target = "db"
sql = "DELETE FROM orders WHERE id = 1"
expect = "needs-approval(one)"
[[test]]
name = "a delete without one"
agent = "ci"
target = "db"
sql = "DELETE FROM orders"
expect = "deny"
[[test]]
name = "of another table"
agent = "ci"
target = "db"
sql = "DELETE FROM users WHERE id = 1"
expect = "deny"
[[test]]
name = "one refusal refuses all"
agent = "ci"
target = "db"
sql = "SELECT 1; DROP TABLE orders; SELECT 2"
columns = []
looked_at = []
expect = "deny"
[[test]]
name = "a write in a CTE"
agent = "ci"
target = "db"
sql = "WITH gone AS (DELETE FROM orders WHERE id = 1 RETURNING *) SELECT * FROM gone"
columns = []
looked_at = []
expect = "needs-approval(one)"
rules = ["orders", "read"]
[[test]]
name = "a prepared write"
agent = "ci"
target = "db"
sql = "PREPARE p AS DELETE FROM orders; EXECUTE p"
expect = "deny"
[[test]]
name = "what was never prepared"
agent = "ci"
target = "db"
sql = "EXECUTE p"
expect = "deny"
[[test]]
name = "a parameter"
agent = "ci"
target = "db"
sql = "INSERT INTO orders VALUES ($1)"
parameters = { 1 = "7" }
expect = "allow"
[[test]]
name = "another parameter"
agent = "ci"
target = "db"
sql = "INSERT INTO orders VALUES ($1)"
parameters = { 1 = "8" }
expect = "deny"
[[test]]
name = "inference"
agent = "ci"
target = "db"
user = "other"
sql = "SELECT count(*) FROM users WHERE email LIKE 'a%'"
columns = []
looked_at = ["public.users.email"]
expect = "deny"
rules = ["not-by-email"]
[[test]]
name = "no such database"
agent = "ci"
target = "db"
database = "postgres"
sql = "SELECT 1"
expect = "deny"
[[test]]
name = "what cannot be read"
agent = "ci"
target = "db"
sql = "SELEC 1"
expect = "deny"
"#;
    let mut files = files(TARGETS, rules, "[[scope]]\nname = \"one\"\n", "");
    files.insert("tests/sql.toml".to_owned(), cases.to_owned());
    let bundle = Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(bundle.cases().len() > 10);
    for case in bundle.cases() {
        let outcome = bundle.run(case).unwrap();
        assert!(outcome.passed, "{}: {:#?}", case.name, outcome.judgement);
    }
}

#[test]
fn what_is_no_statement_is_said() {
    let bundle = bundle(TARGETS, r#"@id("p") permit (principal, action, resource);"#, "");
    let said = |ask: Ask| bundle.judge(&ask).unwrap_err().to_string();
    let ask = || Ask { agent: "ci".to_owned(), sql: Some("SELECT 1".to_owned()), ..Ask::default() };
    assert!(said(ask()).contains("target"));
    assert!(said(Ask { target: Some("nope".to_owned()), ..ask() }).contains("no target"));
    assert!(said(Ask { target: Some("site".to_owned()), ..ask() }).contains("does not speak"));
    let target = Some("db".to_owned());
    let empty = Some("-- nothing".to_owned());
    assert!(said(Ask { target: target.clone(), sql: empty, ..ask() }).contains("no statement"));
    let both = Ask { target, dns: Some("db.test".to_owned()), ..ask() };
    assert!(said(both).contains("exactly one"));
}
