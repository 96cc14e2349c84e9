//! What only the shared store does: how it is reached, what replicas hear of each other, and a
//! database that goes away.

use super::*;
use crate::server::audit::Code;
use crate::server::store::conformance::place::{Server, database, shared};
use crate::server::store::conformance::{ask, entry, record, verify};
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(100);

async fn open(url: &str) -> Result<Postgres, StoreError> {
    Postgres::open(url, &config::Store::default()).await
}

/// What `wanted` picks of the news, within a generous time.
async fn heard<T>(
    news: &mut mpsc::Receiver<News>,
    mut wanted: impl FnMut(&News) -> Option<T>,
) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(&news.recv().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_hears_of_others_and_not_of_itself() {
    let url = database();
    let (one, two) = (open(&url).await.unwrap(), open(&url).await.unwrap());
    let mut news = two.news().unwrap();
    let missed = |news: &News| (*news == News::Missed).then_some(());
    heard(&mut news, missed).await;
    // Its own is not among them: what comes first is the other's.
    two.ask(ask(record(1, "h", "a", "d1")), 1).await.unwrap();
    one.ask(ask(record(2, "h", "a", "d2")), 1).await.unwrap();
    let id = heard(&mut news, |news| match news {
        News::Record(id) => Some(*id),
        _ => None,
    });
    assert_eq!(id.await, Uuid::from_u128(2));
    assert!(two.get(Uuid::from_u128(2)).await.unwrap().is_some(), "it is there when it is heard");
    let subject = Subject::new(crate::approval::identity::Role::Reviewer, "ann").unwrap();
    let member = Member {
        role: subject.role(),
        name: "ann".to_owned(),
        groups: Vec::new(),
        joined: 1,
        removed: false,
        barred_until: 0,
    };
    one.admit(member, false, entry("ann"), 2).await.unwrap();
    one.remove(&subject, entry("ann"), 3).await.unwrap();
    for _ in 0..2 {
        let who = heard(&mut news, |news| match news {
            News::Member(who) => Some(who.clone()),
            _ => None,
        });
        assert_eq!(who.await, subject);
    }
    // The two clocks are the same machine's.
    let deadline = Instant::now() + PATIENCE;
    while two.ahead().is_none() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(two.ahead().unwrap().abs() < 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_listener_comes_back_and_says_that_it_missed_some() {
    let url = database();
    let store = open(&url).await.unwrap();
    let mut news = store.news().unwrap();
    let missed = |news: &News| (*news == News::Missed).then_some(());
    heard(&mut news, missed).await;
    // Every other connection of this database: the listener, and those of the store.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    store.query(cut, &[]).await.unwrap();
    heard(&mut news, missed).await;
    // And the writer too, by itself.
    store.note(entry("x"), 1).await.unwrap();
    assert_eq!(verify(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing_that_was_answered() {
    let url = database();
    let store = Arc::new(open(&url).await.unwrap());
    let other = open(&url).await.unwrap();
    // Until some calls failed of it, so that no machine is too slow to get anything done.
    let stop = tokio_util::sync::CancellationToken::new();
    let cutter = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut cuts = 0;
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            while !stop.is_cancelled() {
                cuts += other.query(cut, &[]).await.map_or(0, |rows| rows[0].get::<_, i64>(0));
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            cuts
        })
    };
    let mut kept = Vec::new();
    let (mut said, mut failed) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while said < 50 || failed < 20 {
        assert!(Instant::now() < deadline, "{said} {failed}");
        let id = Uuid::new_v4();
        let mut asked = ask(record(id.as_u128(), &id.to_string(), "a", "d"));
        asked.audit = entry(id);
        match store.ask(asked, 1).await {
            Ok(_) => {
                said += 1;
                kept.push(id);
            }
            Err(StoreError::Failed(_)) => {
                failed += 1;
                if failed == 20 {
                    stop.cancel();
                }
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(cutter.await.unwrap() > 0);
    let store = open(&url).await.unwrap();
    verify(&store).await;
    let mut times = std::collections::HashMap::new();
    for record in store.audit(0, usize::MAX).await.unwrap() {
        assert_eq!(record.code, Code::ApprovalRequested.as_str());
        *times.entry(record.subject).or_insert(0) += 1;
    }
    for id in kept {
        assert!(store.get(id).await.unwrap().is_some(), "an answered request is gone");
        assert_eq!(times.get(&id.to_string()), Some(&1), "once on record");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_an_error_at_once_and_comes_back_by_itself() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let url = server.database();
    let store = open(&url).await.unwrap();
    let mut news = store.news().unwrap();
    heard(&mut news, |news| (*news == News::Missed).then_some(())).await;
    let asked = record(1, "h", "a", "d1");
    store.ask(ask(asked.clone()), 1).await.unwrap();
    server.stop();
    let gone = Instant::now();
    let failed = |error: StoreError| matches!(error, StoreError::Failed(_));
    assert!(failed(store.get(asked.id).await.unwrap_err()));
    assert!(failed(store.note(entry("x"), 2).await.unwrap_err()));
    assert!(gone.elapsed() < Duration::from_secs(60), "bounded, whatever the machine does");
    let server = tokio::task::spawn_blocking(move || {
        server.run();
        server
    });
    let server = server.await.unwrap();
    heard(&mut news, |news| (*news == News::Missed).then_some(())).await;
    assert_eq!(store.get(asked.id).await.unwrap(), Some(asked));
    store.note(entry("y"), 3).await.unwrap();
    assert_eq!(verify(&store).await, 2, "what failed is not there");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_holds_nobody_up_for_long() {
    let url = database();
    let store = open(&url).await.unwrap();
    // Stops in the middle of a change: with the lock, and a transaction that says nothing more.
    let frozen = store.readers.get().await.unwrap();
    frozen.batch_execute("BEGIN; SELECT 1 FROM enforcer.tip FOR UPDATE").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while store.note(entry("x"), 1).await.is_err() {
        assert!(Instant::now() < deadline, "the database lets it go");
    }
    assert!(frozen.batch_execute("COMMIT").await.is_err(), "it is out");
    assert_eq!(verify(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_far_from_the_databases_nothing_is_granted() {
    use crate::server::clock::{BOUND, Clock, wall};
    let store = Arc::new(open(&database()).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = "listen = \"127.0.0.1:0\"\nnames = [\"localhost\"]\n";
    let config = config::Config::parse(config, &dir.path().join("server.toml")).unwrap();
    let ca = crate::server::ca::Ca::open(dir.path()).unwrap();
    let clock = Clock::Manual(Arc::new(AtomicI64::new(wall())));
    let key = crate::policy::signed::PolicyKey::open(&dir.path().join("policy.key")).unwrap();
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let core = crate::server::core::Core::new(shared, clock, config, ca, key);
    assert!(core.may_grant().is_ok(), "as it was when it was opened");
    for ahead in [BOUND + 1, -BOUND - 1] {
        store.ahead.store(ahead, Ordering::Relaxed);
        let refused = core.may_grant().unwrap_err();
        assert!(refused.message().contains("two minutes apart"), "{refused}");
    }
    store.ahead.store(-BOUND, Ordering::Relaxed);
    assert!(core.may_grant().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_format_is_refused_and_replicas_that_start_at_once_make_the_tables_once() {
    let url = database();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        starts.spawn(async move { open(&url).await.map(drop) });
    }
    for started in starts.join_all().await {
        started.unwrap();
    }
    let store = open(&url).await.unwrap();
    assert_eq!(store.shared(Shared::Ca).await, Ok(None));
    assert_eq!(store.share(Shared::Ca, b"one").await.unwrap(), b"one");
    assert_eq!(store.share(Shared::Ca, b"two").await.unwrap(), b"one", "the first one holds");
    assert_eq!(store.shared(Shared::Policy).await, Ok(None));
    store.query("UPDATE enforcer.meta SET value = '9' WHERE key = 'format'", &[]).await.unwrap();
    assert_eq!(open(&url).await.unwrap_err(), StoreError::Format("9".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_it_is_tls_and_its_name() {
    let server = shared();
    let url = server.database();
    let right = config::Store {
        password_file: Some(server.password_file()),
        ca_file: Some(server.ca_file()),
        ..config::Store::default()
    };
    let try_it = |host: &'static str, more: &'static str, config: config::Store| {
        let url = server.by_tcp(&url, host, more);
        async move { Postgres::open(&url, &config).await.map(drop).map_err(|e| e.to_string()) }
    };
    assert_eq!(try_it("localhost", "?sslmode=verify-full", right.clone()).await, Ok(()));
    // The certificate is for another name; by another CA; and the database takes no clear text.
    let name = try_it("127.0.0.1", "", right.clone()).await.unwrap_err();
    assert!(name.contains("ertificate"), "{name}");
    let system = config::Store { ca_file: None, ..right.clone() };
    assert!(try_it("localhost", "", system).await.is_err());
    let clear = try_it("localhost", "?sslmode=disable", right.clone()).await.unwrap_err();
    assert!(clear.contains("no encryption"), "{clear}");
    let unknown = config::Store { password_file: None, ..right };
    assert!(try_it("localhost", "", unknown).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_does_not_keep_it_from_the_next() {
    let server = shared();
    let url = server.by_tcp(&server.database(), "localhost", "");
    // Its kernel takes connections; nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let both = format!("@127.0.0.1:{},localhost", silent.local_addr().unwrap().port());
    let config = config::Store {
        password_file: Some(server.password_file()),
        ca_file: Some(server.ca_file()),
        ..config::Store::default()
    };
    let store = Postgres::open(&url.replace("@localhost", &both), &config).await.unwrap();
    // From now on the other one comes first: nothing waits for the silent one.
    assert_eq!(store.link.connect().await.map(drop).map_err(|error| error.to_string()), Ok(()));
    assert!(store.members().await.unwrap().is_empty());
    let mut news = store.news().unwrap();
    heard(&mut news, |news| (*news == News::Missed).then_some(())).await;
}

#[test]
fn the_url_says_how_and_has_no_password() {
    let load = |url: &str| {
        Link::load(url, &config::Store::default()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(load("postgres://e@/db?host=/run/postgresql"), Ok(()));
    assert_eq!(load("postgres://e@h/db?sslmode=disable"), Ok(()));
    for (url, why) in [
        ("host=h user=e", "must be a URL"),
        ("postgres://e:secret@h/db", "password_file"),
        ("postgres://h/db", "names no user"),
        ("postgres://e@/db", "names no host"),
        ("postgres://e@h/db?sslmode=require", "sslmode=require"),
        ("postgres://e@h/db?sslmode=prefer", "sslmode=prefer"),
        ("postgres://e@h/db?host=/run", "not both"),
        ("postgres://e@h/db?hostaddr=127.0.0.1", "hostaddr"),
        ("postgres://e@h,i/db?port=5433", "its own port"),
        ("postgres://e@h,i/db?load_balance_hosts=random", "in order"),
        ("postgres://e@h/db?nothing=1", "nothing"),
    ] {
        let error = load(url).unwrap_err();
        assert!(error.contains(why) && !error.contains("secret@"), "{url}: {error}");
    }
}
