//! The function-call message: what of it policy lets through, and what is seen of it.

use super::raw::Raw;
use super::*;

const ONE: Plan = Plan {
    rules: r#"
        @id("sessions") permit (principal, action in Action::"sql.session", resource);
        @id("reads") permit (principal, action in Action::"sql.read", resource);
        @id("twice") permit (principal, action == Action::"sql.function", resource)
            when { ["public.twice"].containsAll(context.functions) };
    "#,
    masks: "",
    postgres: "allow = [\"function-call\"]",
};

const FUNCTIONS: &str = "\
    CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';\
    CREATE FUNCTION public.twice(text) RETURNS text LANGUAGE sql AS 'SELECT $1 || $1';\
    CREATE FUNCTION public.other() RETURNS int LANGUAGE sql AS 'SELECT 7';\
    CREATE FUNCTION public.fails(text) RETURNS int LANGUAGE plpgsql AS \
    $$ BEGIN RAISE EXCEPTION 'no %', $1; END $$";

async fn world(plan: Plan) -> World {
    let world = World::with(plan).await;
    world.admin(FUNCTIONS).await;
    world
}

async fn oid(world: &World, signature: &str) -> u32 {
    let sql = format!("SELECT '{signature}'::regprocedure::oid");
    world.admin(&sql).await.trim().parse().unwrap()
}

fn fact(asked: &v1::OperationAsked, name: &str) -> String {
    let fact = asked.facts.iter().find(|fact| fact.name == name);
    fact.map(crate::record::view::fact_text).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_a_rule_names_is_called_with_what_was_judged() {
    let world = world(ONE).await;
    let (twice, text) =
        (oid(&world, "public.twice(int)").await, oid(&world, "public.twice(text)").await);
    let other = oid(&world, "public.other()").await;
    let mut raw = Raw::new(&world).await;
    assert_eq!(raw.call(twice, 0, &[b"21"]).until_ready().await, ["V 42", "Z I"]);
    let told = raw.call(twice, 1, &[&[0, 0, 0, 4]]).until_ready().await;
    assert_eq!(told, ["V \\x00\\x00\\x00\\x08", "Z I"]);
    assert_eq!(raw.call(text, 0, &[b"ab"]).until_ready().await, ["V abab", "Z I"]);
    let told = raw.call(other, 0, &[]).until_ready().await;
    assert!(told[0].starts_with("E 42501 refused by enforcer"), "{told:?}");
    assert_eq!(told[1..], ["Z I"]);
    let told = raw.call(4_000_000_000, 0, &[]).until_ready().await;
    assert!(told[0].contains("no function with the number"), "{told:?}");
    // In a transaction a refusal fails it, here and upstream.
    assert_eq!(raw.query("BEGIN").until_ready().await, ["C BEGIN", "Z T"]);
    assert_eq!(raw.call(twice, 0, &[b"1"]).until_ready().await, ["V 2", "Z T"]);
    let told = raw.call(other, 0, &[]).until_ready().await;
    assert_eq!(told.last().unwrap(), "Z E", "{told:?}");
    let told = raw.call(twice, 0, &[b"1"]).until_ready().await;
    assert!(told[0].starts_with("E 25P02"), "{told:?}");
    assert_eq!(raw.query("ROLLBACK").until_ready().await, ["C ROLLBACK", "Z I"]);
    drop(raw);

    let operations = world.operations().await;
    let calls: Vec<_> =
        operations.iter().filter(|(asked, ..)| asked.action == "sql.function").collect();
    let first = &calls[0].0;
    assert_eq!(fact(first, "sql.statement"), "public.twice(pg_catalog.int4)");
    assert_eq!(fact(first, "sql.functions"), "public.twice");
    assert_eq!(fact(first, "sql.parameter.1"), "21");
    assert_eq!(fact(&calls[1].0, "sql.parameter.1"), "4", "as it prints");
    assert_eq!(fact(&calls[2].0, "sql.statement"), "public.twice(pg_catalog.text)");
    assert_ne!(first.digest, calls[1].0.digest);
    assert_eq!(calls[3].2.outcome, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_where_the_target_does_not_name_it() {
    let world = world(Plan::default()).await;
    let other = oid(&world, "public.other()").await;
    let mut raw = Raw::new(&world).await;
    let told = raw.call(other, 0, &[]).until_ready().await;
    assert!(told[0].contains("does not take the function-call message"), "{told:?}");
    assert_eq!(raw.query("SELECT public.other()").until_ready().await[1], "D 7", "it is there");
    let allowed = Plan { postgres: "allow = [\"function-call\"]", ..Plan::default() };
    world.reload(allowed);
    assert_eq!(raw.call(other, 0, &[]).until_ready().await, ["V 7", "Z I"]);
    let fails = oid(&world, "public.fails(text)").await;
    let told = raw.call(fails, 0, &[b"luck"]).until_ready().await;
    assert_eq!(told, ["E P0001 no luck", "Z I"]);
}

/// libpq's large objects are function-call messages all through.
#[tokio::test(flavor = "multi_thread")]
async fn psql_keeps_large_objects() {
    let world = world(Plan { postgres: "allow = [\"function-call\"]", ..Plan::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&from, &bytes).unwrap();
    let script = format!(
        "\\lo_import '{}'\n\\lo_export :LASTOID '{}'\n\\lo_unlink :LASTOID\n",
        from.display(),
        to.display()
    );
    let printed = world.psql(&script).await;
    assert_eq!(std::fs::read(&to).ok(), Some(bytes), "{printed}");
    let refused = World::new().await.psql(&script).await;
    assert!(refused.contains("enforcer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_masks_a_result_is_followed_or_refused() {
    const MASKED: Plan = Plan {
        rules: RULES,
        masks: "[[mask]]\nname = \"people\"\ntargets = [\"db\"]\n\
                columns = [\"public.people.ssn\"]\n\
                [[mask]]\nname = \"keys\"\ntargets = [\"db\"]\ndetectors = [\"github_pat\"]\n",
        postgres: "allow = [\"function-call\"]",
    };
    let world = world(MASKED).await;
    let made = "CREATE TABLE people (ssn text); INSERT INTO people VALUES ('078-05-1120');\
                CREATE FUNCTION leak() RETURNS text LANGUAGE sql STABLE AS \
                'SELECT ssn FROM public.people'; GRANT ALL ON people TO app";
    world.admin(made).await;
    let leak = oid(&world, "public.leak()").await;
    let lower = oid(&world, "pg_catalog.btrim(text)").await;
    let mut raw = Raw::new(&world).await;
    let told = raw.call(leak, 0, &[]).until_ready().await;
    assert!(told[0].contains("can see more than its arguments"), "{told:?}");
    assert!(!told.concat().contains("078-05"), "{told:?}");
    assert_eq!(raw.call(lower, 0, &[b" a "]).until_ready().await, ["V a", "Z I"]);
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let told = raw.call(lower, 0, &[token.as_bytes()]).until_ready().await;
    assert!(!told[0].contains(&token), "{told:?}");
    // Where policy lets pass what cannot be followed, it passes: the control.
    let postgres = "allow = [\"function-call\"]\nuntraceable = \"allow\"";
    world.reload(Plan { postgres, ..MASKED });
    assert_eq!(raw.call(leak, 0, &[]).until_ready().await[0], "V 078-05-1120");
}
