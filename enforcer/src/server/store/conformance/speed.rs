//! How fast the stores are. Run alone, on a machine that does nothing else:
//! `cargo test --lib -- --ignored --nocapture server::store::conformance::speed`.

use super::place::Server;
use super::*;
use std::time::{Duration, Instant};

const CLAIMS: usize = 2_000;

/// Approved requests of one use each, claimed by 64 at once.
async fn claims(stores: &[Arc<dyn Store>]) -> f64 {
    let mut ids = Vec::new();
    for _ in 0..CLAIMS {
        let id = Uuid::now_v7();
        let mut granted = record(id.as_u128(), &id.to_string(), "a", model::DIGEST);
        granted.phase = Phase::Approved;
        granted.grant_until = 1_000;
        stores[0].ask(ask(granted), 0).await.unwrap();
        ids.push(id);
    }
    let began = Instant::now();
    let mut racers = tokio::task::JoinSet::new();
    for (n, mine) in ids.chunks(CLAIMS.div_ceil(64)).enumerate() {
        let (store, mine) = (Arc::clone(&stores[n % stores.len()]), mine.to_vec());
        racers.spawn(async move {
            for id in mine {
                let told =
                    model::play(Arc::clone(&store), id, model::Act::Claim { op: 1 }, 2).await;
                assert!(matches!(told, model::Told::Claimed { .. }));
            }
        });
    }
    racers.join_all().await;
    CLAIMS as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn claims_a_second() {
    // On the disk, with every commit synced.
    let dir = tempfile::tempdir().unwrap();
    let rocks = place::open(dir.path().to_str().unwrap()).await;
    println!("RocksDB: {:.0} claims/s", claims(&[rocks]).await);
    let server = Server::start();
    server.sql("postgres", "ALTER SYSTEM SET fsync = on");
    server.sql("postgres", "ALTER SYSTEM SET full_page_writes = on");
    server.sql("postgres", "SELECT pg_reload_conf()");
    for replicas in [1, 3] {
        let url = server.database();
        let mut stores = Vec::new();
        for _ in 0..replicas {
            stores.push(place::open(&url).await);
        }
        println!("PostgreSQL, {replicas} at it: {:.0} claims/s", claims(&stores).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn from_a_change_to_the_news_of_it() {
    let server = Server::start();
    server.sql("postgres", "ALTER SYSTEM SET fsync = on");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let url = server.database();
    let (one, two) = (place::open(&url).await, place::open(&url).await);
    let mut news = two.news().unwrap();
    assert_eq!(news.recv().await, Some(News::Missed));
    let mut times = Vec::new();
    for n in 0..500u128 {
        let began = Instant::now();
        one.ask(ask(record(n + 1, &format!("h{n}"), "a", "d")), 0).await.unwrap();
        let answered = began.elapsed();
        assert_eq!(news.recv().await, Some(News::Record(Uuid::from_u128(n + 1))));
        assert!(two.get(Uuid::from_u128(n + 1)).await.unwrap().is_some());
        times.push((began.elapsed(), answered));
    }
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "change to record read elsewhere (of that, to its own answer): median {:?}, 99th of 100 {:?}",
        at(50),
        at(99)
    );
    assert!(at(99).0 < Duration::from_millis(100));
}
