//! `COPY ... FROM STDIN` that people must approve: they see its data first.

use super::raw::Raw;
use super::*;
use crate::protocol::postgres::codec::copy;
use crate::protocol::postgres::codec::frontend::Named;

const ASK: Plan = Plan {
    rules: r#"
        @id("all") permit (principal, action, resource == Target::"db")
            unless { action == Action::"sql.copy.in" };
        @id("copies") @approval("people")
            permit (principal, action == Action::"sql.copy.in", resource == Target::"db");
    "#,
    masks: "",
    postgres: "",
};

const TABLE: &str = "\
    CREATE TABLE t (a int, b text, double int GENERATED ALWAYS AS (a * 2) STORED);\
    GRANT ALL ON t TO app";

async fn world() -> World {
    let world = World::with(ASK).await;
    world.admin(TABLE).await;
    world
}

/// Decides the next request; what was asked.
fn decide(world: &World, approve: bool) -> tokio::task::JoinHandle<crate::approval::Ask> {
    let people = world.people.clone();
    tokio::spawn(async move {
        let id = people.next_pending().await;
        let all = people.requests();
        let (_, ask, _) = all.into_iter().find(|(other, ..)| *other == id).unwrap();
        match approve {
            true => people.approve(id, "alice"),
            false => people.deny(id, "alice", "not those rows"),
        }
        ask
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_the_data_and_what_they_saw_is_what_is_copied() {
    let world = world().await;
    let approving = decide(&world, true);
    let printed = world.psql("COPY t FROM STDIN;\n1\tone\n2\ttwo\n\\.\nSELECT 'after';\n").await;
    assert_eq!(printed, "after\n");
    let ask = approving.await.unwrap();
    assert_eq!(ask.operation.get("http.body"), None, "nothing streams");
    // psql sends the line that ends the data, too, before version 18.
    let data = |body: &[u8]| String::from_utf8_lossy(body).replace("\\.\n", "");
    assert_eq!(data(&ask.operation.body.unwrap()), "1\tone\n2\ttwo\n");
    assert_eq!(world.admin("SELECT * FROM t ORDER BY a").await, "1|one|2\n2|two|4\n");
    // Other data are another operation.
    let other = decide(&world, false);
    let printed = world.psql("COPY t (b, a) FROM STDIN CSV;\nx,9\n\\.\nSELECT 'on';\n").await;
    assert!(printed.starts_with("on\n") && printed.contains("not those rows"), "{printed}");
    let other = other.await.unwrap();
    assert_eq!(data(&other.operation.body.unwrap()), "x,9\n");
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "2");
    assert_eq!(world.people.requests().len(), 2);

    let mut copied = Vec::new();
    for event in world.transcripts().await.into_iter().flatten() {
        if let Some(Kind::RequestBody(body)) = event.kind {
            copied.push(data(&body.data));
        }
    }
    assert_eq!(copied, ["1\tone\n2\ttwo\n", "x,9\n"], "both are recorded, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_asked_for_data_as_the_server_would_ask() {
    let world = world().await;
    let mut raw = Raw::new(&world).await;
    // In the extended protocol a Sync comes before the data, as libpq sends it.
    raw.parse("", "COPY t FROM STDIN (FORMAT csv)").bind("", "", &[]);
    raw.describe(Named::Portal(String::new())).execute("", 0).sync();
    for want in ["1", "2", "n"] {
        assert_eq!(raw.one().await, want);
    }
    let asked = raw.message().await;
    let said = copy::read(&asked.body).unwrap();
    assert_eq!((asked.tag, said.binary, said.formats), (copy::IN_RESPONSE, false, vec![0, 0]));
    let approving = decide(&world, true);
    copy::put_data(raw.out(), b"5,f");
    copy::put_data(raw.out(), b"ive\n");
    let told = raw.bare(copy::DONE).sync().until_ready().await;
    assert_eq!(told, ["C COPY 1", "Z I"]);
    approving.await.unwrap();
    // What the server says against the data is told as ever.
    let approving = decide(&world, true);
    raw.query("COPY t FROM STDIN");
    assert_eq!(raw.one().await, "G");
    copy::put_data(raw.out(), b"no number\tx\n");
    let told = raw.bare(copy::DONE).until_ready().await;
    assert!(told[0].starts_with("E 22P02") && told[1..] == ["Z I"], "{told:?}");
    approving.await.unwrap();
    // A client that gives up.
    raw.query("COPY t FROM STDIN");
    assert_eq!(raw.one().await, "G");
    copy::put_data(raw.out(), b"6\tsix\n");
    copy::put_fail(raw.out(), "never mind");
    let told = raw.until_ready().await;
    assert!(told[0].starts_with("E 42501") && told[1..] == ["Z I"], "{told:?}");
    assert_eq!(raw.query("SELECT count(*) FROM t").until_ready().await[1], "D 1");
    assert_eq!(world.people.requests().len(), 2, "nobody was asked about that");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_is_refused_and_nothing_of_it_is_copied() {
    let world = world().await;
    let mut raw = Raw::new(&world).await;
    raw.query("COPY t FROM STDIN");
    assert_eq!(raw.one().await, "G");
    let row = format!("1\t{}\n", "x".repeat(60_000));
    for _ in 0..20 {
        copy::put_data(raw.out(), row.as_bytes());
    }
    let told = raw.bare(copy::DONE).until_ready().await;
    assert!(told[0].contains("limits.approval_body"), "{told:?}");
    assert_eq!(told[1..], ["Z I"]);
    // Others of the same string would run before the data come.
    let told = raw.query("COPY t FROM STDIN; SELECT 1").until_ready().await;
    assert!(told[0].contains("people must see the data"), "{told:?}");
    assert_eq!(raw.query("SELECT count(*) FROM t").until_ready().await[1], "D 0");
    assert!(world.people.requests().is_empty());
    // The control: where policy asks nobody, any length goes through, also in such a string.
    world.reload(Plan::default());
    raw.query("COPY t FROM STDIN; SELECT 1");
    assert_eq!(raw.one().await, "G");
    for _ in 0..20 {
        copy::put_data(raw.out(), row.as_bytes());
    }
    let told = raw.bare(copy::DONE).until_ready().await;
    assert_eq!(told, ["C COPY 20", "T", "D 1", "C SELECT 1", "Z I"]);
    raw.parse("", "COPY t (a) FROM STDIN").bind("", "", &[]).execute("", 0).sync();
    for want in ["1", "2", "G"] {
        assert_eq!(raw.one().await, want);
    }
    copy::put_data(raw.out(), b"7\n");
    let told = raw.bare(copy::DONE).sync().until_ready().await;
    assert_eq!(told, ["C COPY 1", "Z I"], "in the extended protocol too");
}
