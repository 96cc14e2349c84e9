//! Values of named columns, asked for in every way that one can think of.

use super::raw::Raw;
use super::*;
use crate::protocol::postgres::codec::frontend::{Bind, Named};

const MASKS: &str = "[[mask]]\nname = \"mail\"\ntargets = [\"db\"]\n\
                     columns = [\"public.users.email\", \"*.*.ssn\"]\nreplace = \"redact\"\n";

/// What no agent may see.
const SECRET: &str = "ada@secret.example";

async fn world(postgres: &'static str) -> World {
    let world = World::with(Plan { masks: MASKS, postgres, ..Plan::default() }).await;
    world
        .admin(&format!(
            "CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, ssn text, note text);\
             INSERT INTO users VALUES (1, '{SECRET}', '078-05-1120', 'plain');\
             CREATE VIEW people AS SELECT id, lower(email) AS mail, note FROM users;\
             CREATE FUNCTION leak() RETURNS text LANGUAGE sql AS 'SELECT email FROM users';\
             CREATE TABLE other (id int, what text); GRANT ALL ON ALL TABLES IN SCHEMA public TO app"
        ))
        .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_column_is_masked_however_it_is_asked_for() {
    let world = world("").await;
    let printed = world.psql("SELECT id, email, ssn, note FROM users;\n").await;
    assert_eq!(printed, "1|***|***|plain\n");
    for sql in [
        "SELECT * FROM users",
        "SELECT email AS id FROM users",
        "SELECT u.email || '' FROM users u",
        "SELECT u FROM users u",
        "SELECT u::text FROM users u",
        "SELECT row_to_json(u) FROM users u",
        "SELECT json_build_object('x', email) FROM users",
        "SELECT array_agg(email) FROM users",
        "SELECT max(email), count(*) FROM users",
        "SELECT string_agg(email, ',') FROM users",
        "WITH x AS (SELECT email e FROM users) SELECT e FROM x",
        "WITH RECURSIVE x(e, n) AS (SELECT email, 1 FROM users UNION ALL SELECT e, n + 1 FROM x WHERE n < 2) SELECT e FROM x",
        "SELECT note FROM users UNION ALL SELECT email FROM users",
        "SELECT (SELECT email FROM users LIMIT 1)",
        "SELECT s.e FROM (SELECT email AS e FROM users) s",
        "SELECT x.* FROM users, LATERAL (SELECT users.email) x",
        "SELECT mail FROM people",
        "SELECT * FROM people",
        "TABLE users",
        "SELECT CASE WHEN true THEN email END FROM users",
        "SELECT xmlelement(name e, email) FROM users",
        "SELECT encode(convert_to(email, 'UTF8'), 'base64') FROM users",
        "UPDATE users SET note = note RETURNING email",
        "UPDATE users SET note = note RETURNING *",
        "COPY users TO STDOUT",
        "COPY users (id, email) TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY (SELECT email FROM users) TO STDOUT",
        "BEGIN; DECLARE c CURSOR FOR SELECT email FROM users",
        "PREPARE p AS SELECT email FROM users",
        "SELECT leak()",
        "SELECT * FROM query_to_xml('SELECT * FROM users', true, true, '')",
        "SELECT email::int FROM users",
        "SELECT 1 FROM users WHERE email::int = 1",
        "INSERT INTO users (id, email) SELECT 2, email FROM users",
        "CREATE TABLE copy AS SELECT email FROM users",
        "SELECT email INTO copy2 FROM users",
        "INSERT INTO other SELECT id, email FROM users",
        "UPDATE other SET what = (SELECT email FROM users LIMIT 1)",
        "CREATE TEMP TABLE users AS SELECT * FROM public.users",
        "CREATE VIEW v AS SELECT email AS harmless FROM users",
        "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM public.users); END $$",
        "SELECT most_common_vals FROM pg_stats WHERE tablename = 'users'",
        "ALTER TABLE users RENAME COLUMN email TO harmless",
        "SELECT harmless FROM users",
    ] {
        let mut raw = Raw::new(&world).await;
        let mut told = raw.query(sql).until_ready().await;
        match sql {
            _ if sql.contains("DECLARE") => {
                told.extend(raw.query("FETCH ALL FROM c").until_ready().await);
            }
            _ if sql.starts_with("PREPARE") => {
                told.extend(raw.query("EXECUTE p").until_ready().await);
            }
            _ if sql.contains("VIEW") => {
                told.extend(raw.query("SELECT harmless FROM v").until_ready().await);
            }
            _ if sql.contains("TEMP") => {
                told.extend(raw.query("SELECT * FROM users").until_ready().await);
            }
            _ => {}
        }
        let leaks = told.iter().any(|word| {
            word.contains("secret") || word.contains("c2VjcmV0") || word.contains("078-05")
        });
        assert!(!leaks, "{sql}: {told:?}");
    }
    // What was refused did not happen.
    let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('copy', 'copy2')";
    assert_eq!(world.admin(tables).await.trim(), "0");
    assert_eq!(world.admin("SELECT count(*) FROM other").await.trim(), "0");
    let recorded = world.transcripts().await;
    let recorded = format!("{recorded:?}");
    assert!(!recorded.contains("secret.example"), "a value is in the transcript");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_show_no_named_column_are_as_they_are() {
    let world = world("").await;
    let mut raw = Raw::new(&world).await;
    let told = raw.query("SELECT id, note FROM users").until_ready().await;
    assert_eq!(told, ["T", "D 1|plain", "C SELECT 1", "Z I"]);
    let told = raw.query("SELECT 1 + 1, now() IS NULL").until_ready().await;
    assert_eq!(told[1], "D 2|f");
    let told = raw.query("INSERT INTO other VALUES (1, 'x') RETURNING what").until_ready().await;
    assert_eq!(told, ["T", "D x", "C INSERT 0 1", "Z I"]);
    let told = raw.query("SELECT 1/0").until_ready().await;
    assert_eq!(told[0..1], ["E 22012 division by zero"]);
    let told = raw.query("SHOW server_version").until_ready().await;
    assert!(told[1].starts_with("D "), "{told:?}");
}

/// The server's words come as they are about tables without a named column, whatever a rule's
/// pattern could mean, and not where they may be about values of others.
#[tokio::test(flavor = "multi_thread")]
async fn words_come_where_no_named_value_can_be_in_them() {
    let world = world("").await;
    world
        .admin(
            "INSERT INTO other VALUES (1, 'word');\
             CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);\
             ALTER TABLE users ADD parent int NOT NULL DEFAULT 1 REFERENCES parent ON DELETE SET NULL;\
             INSERT INTO users SELECT g, g || 'ada@secret.example' FROM generate_series(10, 40) g;\
             GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
        )
        .await;
    world.admin("ANALYZE users").await;
    let printed = world.psql("SELECT what::int FROM other;\n").await;
    assert!(printed.contains("invalid input syntax for type integer: \"word\""), "{printed}");
    // What the foreign key would say of the other table is there to be said.
    let said = world
        .admin(
            "DO $$ DECLARE said text; BEGIN DELETE FROM parent; \
             EXCEPTION WHEN not_null_violation THEN \
             GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL; \
             PERFORM set_config('a.said', said, false); END $$; SELECT current_setting('a.said')",
        )
        .await;
    assert!(said.contains("secret.example"), "{said}");
    for (sql, state) in [
        ("DELETE FROM parent", "23502"),
        ("SELECT note::int FROM users", "22P02"),
        (
            "SELECT 1 FROM pg_stats WHERE CASE WHEN tablename = 'users' AND attname = 'email' \
             THEN histogram_bounds::text::int = 1 END",
            "22P02",
        ),
        ("SELECT 1 FROM pg_stat_activity WHERE (query || 'x')::int = 1", "22P02"),
    ] {
        let printed = world.psql(&format!("{sql};\n")).await;
        assert!(printed.contains("words are withheld"), "{sql}: {printed}");
        assert!(printed.contains(state) && !printed.contains("secret"), "{sql}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_masked_in_the_extended_protocol_and_in_binary() {
    let world = world("").await;
    let mut raw = Raw::new(&world).await;
    raw.parse("s", "SELECT id, email FROM users WHERE id = $1").bind("", "s", &["1"]);
    raw.execute("", 0).sync();
    assert_eq!(raw.until_ready().await, ["1", "2", "D 1|***", "C SELECT 1", "Z I"]);
    raw.bind("", "s", &["1"]).describe(Named::Portal(String::new())).execute("", 0).sync();
    assert_eq!(raw.until_ready().await, ["2", "T", "D 1|***", "C SELECT 1", "Z I"]);
    Bind {
        portal: String::new(),
        statement: "s".to_owned(),
        formats: Vec::new(),
        values: vec![Some("1".into())],
        results: vec![1],
    }
    .put(raw.out());
    raw.execute("", 0).sync();
    assert_eq!(raw.until_ready().await[1], "D \0\0\0\u{1}|***");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_defines_is_looked_up_where_it_is_seen() {
    let world = world("").await;
    world.admin("CREATE SEQUENCE s; GRANT ALL ON s TO app; ALTER VIEW people OWNER TO app").await;
    let mut raw = Raw::new(&world).await;
    assert_eq!(raw.query("SELECT note FROM people").until_ready().await[1], "D plain");
    raw.query("BEGIN").until_ready().await;
    let sql = "CREATE OR REPLACE VIEW people AS SELECT id, lower(email) AS mail, upper(email) AS note FROM users";
    let told = raw.query(sql).until_ready().await;
    assert_eq!(told, ["C CREATE VIEW", "Z T"]);
    assert_eq!(raw.query("SELECT note FROM people").until_ready().await[1], "D ***");
    // After the end it is the old one again, here and for others.
    let mut other = Raw::new(&world).await;
    assert_eq!(raw.query("ROLLBACK").until_ready().await, ["C ROLLBACK", "Z I"]);
    assert_eq!(raw.query("SELECT note FROM people").until_ready().await[1], "D plain");
    assert_eq!(other.query("SELECT note FROM people").until_ready().await[1], "D plain");
    assert_eq!(raw.query(sql).until_ready().await, ["C CREATE VIEW", "Z I"]);
    assert_eq!(other.query("SELECT note FROM people").until_ready().await[1], "D ***");
    // In a series that is no block it cannot be looked up, and so is not used.
    raw.parse("", "CREATE TABLE fresh (a int)").bind("", "", &[]).execute("", 0);
    raw.parse("", "SELECT 1").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert!(told.iter().any(|word| word.contains("send a Sync")), "{told:?}");
    assert_eq!(world.admin("SELECT to_regclass('fresh') IS NULL").await.trim(), "t");
    // What only could have defined something is no trouble in a series.
    raw.parse("", "SELECT nextval('s')").bind("", "", &[]).execute("", 0);
    raw.parse("", "SELECT id, email FROM users").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert!(told.contains(&"D 1|***".to_owned()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_mean_what_the_session_says_they_mean() {
    let world = world("").await;
    world
        .admin("CREATE SCHEMA s2; CREATE TABLE s2.users (id int, email text); INSERT INTO s2.users VALUES (1, 'free'); GRANT ALL ON SCHEMA s2 TO app; GRANT ALL ON s2.users TO app")
        .await;
    let mut raw = Raw::new(&world).await;
    assert_eq!(raw.query("SELECT email FROM users").until_ready().await[1], "D ***");
    raw.query("SET search_path = s2, public").until_ready().await;
    assert_eq!(raw.query("SELECT email FROM users").until_ready().await[1], "D free");
    raw.query("BEGIN").until_ready().await;
    raw.query("SET LOCAL search_path = public").until_ready().await;
    assert_eq!(raw.query("SELECT email FROM users").until_ready().await[1], "D ***");
    raw.query("COMMIT").until_ready().await;
    assert_eq!(raw.query("SELECT email FROM users").until_ready().await[1], "D free");
    raw.query("SELECT set_config('search_path', 'public', false)").until_ready().await;
    assert_eq!(raw.query("SELECT email FROM users").until_ready().await[1], "D ***");
    let told = raw.query("SET search_path = s2; SELECT email FROM users").until_ready().await;
    assert!(told[0].starts_with("E 42501"), "{told:?}");
    // A cursor reads what it meant when it was declared, and only one that was declared here.
    raw.query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT lower(email) FROM users")
        .until_ready()
        .await;
    raw.query("COMMIT").until_ready().await;
    raw.query("SET search_path = s2").until_ready().await;
    assert_eq!(raw.query("FETCH c").until_ready().await[1], "D ***");
    let swap = "DO $$ BEGIN EXECUTE 'CLOSE c'; EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT upper(email) FROM public.users'; END $$";
    raw.query(swap).until_ready().await;
    let told = raw.query("FETCH c").until_ready().await;
    assert!(told.iter().all(|word| !word.contains("SECRET")), "{told:?}");
    // A statement prepared behind our back under a known name is not run.
    raw.parse("x", "SELECT 1").sync().until_ready().await;
    let swap = "DO $$ BEGIN EXECUTE 'DEALLOCATE x'; EXECUTE 'PREPARE x AS SELECT email FROM public.users'; END $$";
    raw.query(swap).until_ready().await;
    let told = raw.bind("", "x", &[]).execute("", 0).sync().until_ready().await;
    assert!(told.iter().all(|word| !word.contains("secret")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_inside_json_columns_are_masked_in_place() {
    let masks = "[[mask]]\nname = \"docs\"\ntargets = [\"db\"]\n\
                 columns = [\"public.docs.*\"]\npaths = [\"$.mail\", \"$.tags[*].ssn\"]\n\
                 [[mask]]\nname = \"keys\"\ntargets = [\"db\"]\ndetectors = [\"github_pat\"]\n";
    let world = World::with(Plan { masks, ..Plan::default() }).await;
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let doc = format!(
        r#"{{"id": 7, "mail": "{SECRET}", "tags": [{{"ssn": "078-05-1120"}}], "key": "{token}"}}"#
    );
    world
        .admin(&format!(
            "CREATE TABLE docs (j json, b jsonb, t text); GRANT ALL ON docs TO app;\
             INSERT INTO docs VALUES ('{doc}', '{doc}', '{doc}')"
        ))
        .await;
    let printed = world.psql("SELECT j, b, t FROM docs;\nSELECT d.j FROM docs d;\n").await;
    let lines: Vec<&str> = printed.lines().collect();
    let [row, alone] = lines[..] else { panic!("{printed}") };
    let fields: Vec<&str> = row.split('|').collect();
    assert_eq!((fields[0], fields[2]), (alone, "***"), "a text is masked whole");
    for field in &fields[..2] {
        let shown: serde_json::Value = serde_json::from_str(field).expect("it is still JSON");
        assert_eq!((&shown["id"], &shown["mail"]), (&7.into(), &"***".into()), "{field}");
        assert_eq!(shown["tags"][0]["ssn"], "***", "{field}");
        assert!(!field.contains(&token), "detectors look at the rest: {field}");
    }
    // jsonb in the binary format keeps its version byte.
    let mut raw = Raw::new(&world).await;
    raw.parse("", "SELECT b FROM docs");
    let bind = Bind {
        portal: String::new(),
        statement: String::new(),
        formats: Vec::new(),
        values: Vec::new(),
        results: vec![1],
    };
    bind.put(raw.out());
    let told = raw.execute("", 0).sync().until_ready().await;
    let value = told[2].strip_prefix("D \u{1}").expect("the version");
    assert_eq!(serde_json::from_str::<serde_json::Value>(value).unwrap()["mail"], "***");
    // What is made of the column goes whole, and what keeps it elsewhere is refused.
    for sql in ["j->>'id'", "j::text", "row_to_json(d)", "b || '{}'", "jsonb_pretty(b)", "d"] {
        let printed = world.psql(&format!("SELECT {sql} FROM docs d;\n")).await;
        assert!(!printed.contains(SECRET) && !printed.contains("078-05"), "{sql}: {printed}");
        assert!(!printed.contains("ERROR"), "{sql}: {printed}");
    }
    let printed = world.psql("COPY docs TO STDOUT;\n").await;
    assert!(!printed.contains(SECRET) && printed.contains("***"), "{printed}");
    let printed = world.psql("CREATE TABLE kept AS SELECT j FROM docs;\n").await;
    assert!(printed.contains("42501"), "{printed}");
}
