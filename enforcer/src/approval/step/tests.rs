use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn request(method: &str, path: &str, query: Option<&str>) -> Operation {
    let (name, resource) = ("api.example", format!("https://api.example{path}"));
    let mut op = Operation::new("api", name, 443, Protocol::Http, "http.post", resource);
    op.fact("http.method", method);
    op.fact("http.scheme", "https");
    op.fact("http.authority", name);
    op.fact("http.path", path);
    if let Some(query) = query {
        op.fact("http.query", query);
    }
    op
}

fn pattern(path: &str, query: &str) -> Pattern {
    let kind = Kind::Http {
        method: "POST".to_owned(),
        origin: "https://api.example".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    Pattern { target: "api".to_owned(), kind }
}

#[rstest]
#[case("/keys/1", "/keys/1", true)]
#[case("/keys/*", "/keys/1", true)]
#[case("/keys/*", "/keys/", true)]
#[case("/keys/*", "/keys", false)]
#[case("/keys/*", "/keys/1/x", false)]
#[case("/keys/**", "/keys/1/x", true)]
#[case("/keys/*/x", "/keys/1/x", true)]
#[case("/keys/*/x", "/keys/1/2/x", false)]
#[case("/**/x", "/a/b/x", true)]
#[case("/**", "/a//b", false)]
#[case("/**", "/a/../b", false)]
#[case("/**", "/a/./b", false)]
#[case("/**", "/a/%2e%2e/b", false)]
#[case("/**", "/a;x/b", false)]
#[case("/**", "/a\\b", false)]
#[case("/a?b", "/axb", false)]
#[case("/a.b", "/axb", false)]
fn paths(#[case] of: &str, #[case] path: &str, #[case] fits: bool) {
    assert_eq!(pattern(of, "").fits(&request("POST", path, None)), fits);
}

#[rstest]
#[case("", None, true)]
#[case("", Some("a=1"), false)]
#[case("", Some(""), false)]
#[case("a=*", Some("a=1"), true)]
#[case("a=*", Some("a=1&b=2"), false)]
#[case("**", Some("a=1&b=2"), true)]
#[case("**", None, false)]
fn queries(#[case] of: &str, #[case] query: Option<&str>, #[case] fits: bool) {
    assert_eq!(pattern("/k", of).fits(&request("POST", "/k", query)), fits);
}

#[test]
fn every_part_must_fit() {
    let fits = |change: &dyn Fn(&mut Operation)| {
        let mut op = request("POST", "/k", None);
        change(&mut op);
        pattern("/*", "").fits(&op)
    };
    assert!(fits(&|_| ()));
    assert!(!fits(&|op| op.target = "other".to_owned()));
    assert!(!fits(&|op| op.protocol = Protocol::Postgres));
    assert!(!fits(&|op| op.fact("http.method", "PUT")));
    assert!(!fits(&|op| op.fact("http.scheme", "http")));
    assert!(!fits(&|op| op.fact("http.authority", "api.example:8443")));
    assert!(!fits(&|op| op.fact("http.path", Fact::List(vec!["/k".to_owned()]))));
}

fn statement() -> Operation {
    let resource = "postgres://db:5432/shop".to_owned();
    let mut op = Operation::new("db", "db", 5432, Protocol::Postgres, "sql.select", resource);
    let list = |items: &[&str]| Fact::List(items.iter().map(|i| (*i).to_owned()).collect());
    op.fact(sql::ROLE, "app");
    op.fact(sql::ACTIONS, list(&["sql.select"]));
    op.fact(sql::TABLES_READ, list(&["shop.orders"]));
    op.fact(sql::TABLES_WRITTEN, list(&[]));
    op.fact(sql::FUNCTIONS, list(&["pg_catalog.count"]));
    op.fact(sql::FLAGS, list(&[]));
    op
}

#[test]
fn a_statement_does_nothing_but_what_is_shown() {
    let texts = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
    let kind = Kind::Sql {
        database: "postgres://db:5432/shop".to_owned(),
        role: "app".to_owned(),
        actions: texts(&["sql.select"]),
        tables: texts(&["shop.*"]),
        functions: texts(&["pg_catalog.count"]),
        flags: Vec::new(),
    };
    let pattern = Pattern { target: "db".to_owned(), kind };
    let fits = |change: &dyn Fn(&mut Operation)| {
        let mut op = statement();
        change(&mut op);
        pattern.fits(&op)
    };
    let list = |items: &[&str]| Fact::List(items.iter().map(|i| (*i).to_owned()).collect());
    assert!(fits(&|_| ()));
    assert!(!fits(&|op| op.fact(sql::ACTIONS, list(&["sql.select", "sql.delete"]))));
    assert!(!fits(&|op| op.fact(sql::TABLES_READ, list(&["shop.orders", "hr.people"]))));
    assert!(!fits(&|op| op.fact(sql::TABLES_WRITTEN, list(&["hr.people"]))));
    assert!(!fits(&|op| op.fact(sql::FUNCTIONS, list(&["pg_catalog.pg_read_file"]))));
    assert!(!fits(&|op| op.fact(sql::FLAGS, list(&["dynamic-sql"]))));
    assert!(!fits(&|op| op.fact(sql::ROLE, "owner")));
    assert!(!fits(&|op| op.fact("sql.session_role", "owner")));
    assert!(!fits(&|op| op.resource = "postgres://db:5432/other".to_owned()));
    // A session's start has none of the lists, and settings that nothing shows.
    let mut bare = Operation::new(
        "db",
        "db",
        5432,
        Protocol::Postgres,
        "sql.select",
        "postgres://db:5432/shop".to_owned(),
    );
    bare.fact(sql::ROLE, "app");
    assert!(!pattern.fits(&bare));
}

fn wire(change: impl Fn(&mut v1::ApprovalRequest, &mut v1::Step)) -> Result<Digest, ConvertError> {
    let scope = v1::Scope { name: "s".to_owned(), uses: 3, patterns: true, ..v1::Scope::default() };
    let mut request = v1::ApprovalRequest {
        principal: Some(v1::Principal { agent: "a".to_owned(), ..v1::Principal::default() }),
        scopes: vec![scope],
        ..v1::ApprovalRequest::default()
    };
    let mut step = v1::Step {
        objective: "o".to_owned(),
        number: 1,
        of: 2,
        justification: "j".to_owned(),
        uses: 1,
        what: Some(v1::step::What::Pattern(pattern("/*", "").into())),
        tags: vec!["people".to_owned()],
    };
    change(&mut request, &mut step);
    check(&request, &step).map(|checked| checked.digest)
}

#[test]
fn the_digest_covers_all_that_is_shown() {
    type Change = fn(&mut v1::ApprovalRequest, &mut v1::Step);
    let changes: [Change; 13] = [
        |_, s| s.tags.clear(),
        |_, _| (),
        |r, _| r.principal.as_mut().unwrap().agent = "b".to_owned(),
        |r, _| r.principal.as_mut().unwrap().task = "t".to_owned(),
        |r, _| r.scopes[0].quorum = 2,
        |r, _| r.scopes[0].name = "t".to_owned(),
        |_, s| s.objective = "o2".to_owned(),
        |_, s| s.justification = "j2".to_owned(),
        |_, s| s.number = 2,
        |_, s| s.of = 3,
        |_, s| s.uses = 2,
        |_, s| s.what = Some(v1::step::What::Pattern(pattern("/**", "").into())),
        |_, s| s.what = Some(v1::step::What::Exact(format!("v1:{}", "0".repeat(64)))),
    ];
    let digests: std::collections::BTreeSet<String> =
        changes.iter().map(|change| wire(change).unwrap().to_string()).collect();
    assert_eq!(digests.len(), changes.len());
}

#[test]
fn what_is_out_of_its_range_is_refused() {
    type Spoil = fn(&mut v1::ApprovalRequest, &mut v1::Step);
    let cases: [(Spoil, ConvertError); 10] = [
        (|_, s| s.objective.clear(), ConvertError::Invalid("objective")),
        (|_, s| s.objective = "x".repeat(TEXT + 1), ConvertError::Invalid("objective")),
        (|_, s| s.justification = " ".to_owned(), ConvertError::Invalid("justification")),
        (|_, s| s.number = 3, ConvertError::Invalid("step.number")),
        (|_, s| s.uses = 0, ConvertError::Invalid("step.uses")),
        (|_, s| s.uses = 4, ConvertError::Invalid("step.uses")),
        (|_, s| s.what = None, ConvertError::Missing("step.what")),
        (|r, _| r.scopes[0].patterns = false, ConvertError::Invalid("step.pattern")),
        (|r, _| r.scopes.clear(), ConvertError::Invalid("step.pattern")),
        (
            |_, s| s.what = Some(v1::step::What::Pattern(pattern("/a/../b", "").into())),
            ConvertError::Invalid("pattern.path"),
        ),
    ];
    for (spoil, error) in cases {
        assert_eq!(wire(spoil).unwrap_err(), error);
    }
}

/// The obvious reading of a glob, by backtracking.
fn slow(pattern: &[char], text: &[char], separator: char) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', '*', rest @ ..] => (0..=text.len()).any(|at| slow(rest, &text[at..], separator)),
        ['*', rest @ ..] => (0..=text.len())
            .take_while(|at| text[..*at].iter().all(|c| *c != separator))
            .any(|at| slow(rest, &text[at..], separator)),
        [sign, rest @ ..] => text.first() == Some(sign) && slow(rest, &text[1..], separator),
    }
}

proptest! {
    #[test]
    fn globs_mean_the_obvious(pattern in "[ab/*]{0,8}", text in "[ab/]{0,8}") {
        let signs: Vec<char> = pattern.chars().collect();
        let chars: Vec<char> = text.chars().collect();
        prop_assert_eq!(glob(&pattern, &text, '/'), slow(&signs, &chars, '/'));
    }

    #[test]
    fn an_exact_step_fits_its_digest_alone(mine: [u8; 32], other: [u8; 32]) {
        let what = What::Exact(Digest(mine).to_string());
        let op = request("POST", "/k", None);
        prop_assert!(what.fits(&op, &Digest(mine)));
        prop_assert_eq!(what.fits(&op, &Digest(other)), mine == other);
    }
}
