//! tokio-postgres as an agent uses it: told where to go by PostgreSQL's variables, without TLS.
//! Prints what it saw, and nothing that two runs have different.

#![expect(clippy::print_stdout, reason = "what it saw is its result")]

use futures_util::future::try_join_all;
use std::env::var;
use std::time::Duration;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut config = Config::new();
    config.host(var("PGHOST")?).port(var("PGPORT")?.parse()?).user(var("PGUSER")?);
    config.password(var("PGPASSWORD")?).dbname(var("PGDATABASE")?);
    let (mut client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    types(&client).await?;
    pipelined(&client).await?;
    transactions(&mut client).await?;
    errors(&client).await?;
    cancelled(&client).await?;
    simple(&client).await?;
    Ok(())
}

/// Values in the binary format, each way.
async fn types(client: &Client) -> Result<(), Failure> {
    let sql = "SELECT $1::int4, $2::int8, $3::text, $4::bytea, $5::float8, $6::bool, $7::text[], $8::jsonb";
    let document = serde_json::json!({ "a": [1, null] });
    let texts = vec!["x".to_owned(), "\u{fc} \"y\"".to_owned()];
    let row = client
        .query_one(
            sql,
            &[
                &1i32,
                &(1i64 << 40),
                &"t",
                &&b"\0\xff"[..],
                &0.5f64,
                &true,
                &texts,
                &Json(&document),
            ],
        )
        .await?;
    let back: Json<serde_json::Value> = row.get(7);
    println!(
        "types {} {} {} {:?} {} {} {:?} {}",
        row.get::<_, i32>(0),
        row.get::<_, i64>(1),
        row.get::<_, String>(2),
        row.get::<_, Vec<u8>>(3),
        row.get::<_, f64>(4),
        row.get::<_, bool>(5),
        row.get::<_, Vec<String>>(6),
        back.0
    );
    let typed = client.prepare_typed("SELECT $1 + 1", &[Type::INT2]).await?;
    println!("prepared {:?} {:?}", typed.params(), typed.columns()[0].type_());
    Ok(())
}

/// Many statements on their way at once, an error in their middle: each series has its own Sync.
async fn pipelined(client: &Client) -> Result<(), Failure> {
    client.batch_execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)").await?;
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await?;
    let ask = client.prepare("SELECT count(*) FROM t").await?;
    let all = tokio::join!(
        client.execute(&insert, &[&1i32, &"one"]),
        client.execute(&insert, &[&2i32, &"two"]),
        client.execute(&insert, &[&1i32, &"again"]),
        client.query_one(&ask, &[]),
        client.execute(&insert, &[&3i32, &None::<String>]),
        client.query_one(&ask, &[]),
    );
    let code = |error: &tokio_postgres::Error| error.code().map(|code| code.code().to_owned());
    println!(
        "pipelined {} {} {:?} {} {} {}",
        all.0?,
        all.1?,
        all.2.as_ref().map_err(code),
        all.3?.get::<_, i64>(0),
        all.4?,
        all.5?.get::<_, i64>(0)
    );
    let asked = (0..200i32).map(|n| async move {
        let row = client.query_one("SELECT $1::int4 * 2", &[&n]).await?;
        row.try_get::<_, i32>(0)
    });
    let sum: i32 = try_join_all(asked).await?.into_iter().sum();
    println!("sum {sum}");
    Ok(())
}

/// Portals in parts, savepoints, what is rolled back.
async fn transactions(client: &mut Client) -> Result<(), Failure> {
    let mut transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT a FROM t ORDER BY a", &[]).await?;
    for most in [2, 2, 2] {
        let rows = transaction.query_portal(&portal, most).await?;
        println!("portal {:?}", rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>());
    }
    let inner = transaction.transaction().await?;
    inner.execute("DELETE FROM t", &[]).await?;
    inner.rollback().await?;
    let inner = transaction.savepoint("other").await?;
    inner.execute("UPDATE t SET b = 'x' WHERE a = $1", &[&2i32]).await?;
    inner.commit().await?;
    transaction.commit().await?;
    for row in client.query("SELECT a, b FROM t ORDER BY a", &[]).await? {
        println!("row {} {:?}", row.get::<_, i32>(0), row.get::<_, Option<String>>(1));
    }
    Ok(())
}

async fn errors(client: &Client) -> Result<(), Failure> {
    for sql in ["SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO t VALUES (1)"] {
        let error = client.execute(sql, &[]).await.err().ok_or("no error")?;
        let told = error.as_db_error().ok_or("no error of the server's")?;
        println!("error {} {:?}", told.code().code(), told.table());
    }
    Ok(())
}

async fn cancelled(client: &Client) -> Result<(), Failure> {
    let token = client.cancel_token();
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, asked) = tokio::join!(client.execute("SELECT pg_sleep(60)", &[]), later);
    asked?;
    println!("cancelled {:?}", slept.err().and_then(|error| error.code().cloned()));
    Ok(())
}

/// Strings of several statements.
async fn simple(client: &Client) -> Result<(), Failure> {
    for message in client.simple_query("SELECT 1 AS a; DELETE FROM t WHERE a > 1; TABLE t").await? {
        match message {
            SimpleQueryMessage::Row(row) => println!("text {:?}", row.get(0)),
            SimpleQueryMessage::CommandComplete(rows) => println!("done {rows}"),
            _ => {}
        }
    }
    Ok(())
}
