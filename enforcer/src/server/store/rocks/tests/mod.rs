use super::*;
use crate::approval::identity::Role;
use crate::server::audit::{Code, Verifier};
use crate::server::model::{Ballot, Person, Phase, Rule, fold_key};
use bytes::Bytes;

mod model;

fn record(id: u128, host: &str, agent: &str, digest: &str) -> Record {
    let rule = Rule {
        scope: "s".to_owned(),
        reviewers: Vec::new(),
        quorum: 1,
        deny_threshold: 1,
        request_ttl: 1000,
        grant_ttl: 1000,
        uses: 1,
        ..Rule::default()
    };
    Record::new(Uuid::from_u128(id), (host, agent), digest, vec![rule], Vec::new(), 0)
}

fn ask(record: Record) -> Ask {
    let request =
        v1::ApprovalRequest { digest: record.digest.clone(), ..v1::ApprovalRequest::default() };
    Ask {
        by: None,
        fold: fold_key(&record.host, &record.digest, &record.rules),
        audit: entry(record.id),
        record,
        request: request.encode_to_vec(),
        body: Bytes::from_static(b"body"),
        denied_for: 0,
        host_cap: 3,
        agent_cap: 2,
    }
}

fn entry(subject: impl ToString) -> Entry {
    Entry::new(Code::ApprovalRequested, "daemon/h", subject, "")
}

async fn verify(store: &Rocks) -> usize {
    let records = store.audit(0, usize::MAX).await.unwrap();
    let mut verifier = Verifier::default();
    records.iter().for_each(|record| verifier.next(record).unwrap());
    records.len()
}

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    let asked = record(1, "h", "a", "d1");
    assert_eq!(store.ask(ask(asked.clone()), 5).await, Ok(Asked::New(asked.clone())));
    let ballot = Ballot { approve: true, reason: "", digest: "d1", break_glass: false };
    let voted = asked.vote(Person { name: "p", groups: &[] }, ballot, 6).unwrap();
    assert_eq!(store.update(voted.clone(), 1, None, vec![entry("x")], 6).await, Ok(true));
    assert_eq!(store.last_time(), 6);
    drop(store);

    let store = Rocks::open(dir.path()).unwrap();
    assert_eq!(store.last_time(), 6);
    assert_eq!(store.get(asked.id).await, Ok(Some(voted.clone())));
    assert_eq!(store.live(Some("h")).await, Ok(vec![voted.clone()]));
    assert_eq!(store.live(Some("i")).await, Ok(Vec::new()));
    let with = store.request(asked.id, true).await.unwrap().unwrap();
    assert_eq!((with.digest.as_str(), &with.body[..]), ("d1", &b"body"[..]));
    let without = store.request(asked.id, false).await.unwrap().unwrap();
    assert!(without.body.is_empty());
    store.note(entry("y"), 7).await.unwrap();
    assert_eq!(verify(&store).await, 3);
}

#[tokio::test]
async fn only_the_revision_that_was_read_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    let asked = record(1, "h", "a", "d1");
    store.ask(ask(asked.clone()), 0).await.unwrap();
    let cancelled = asked.cancel(1).unwrap();
    let (one, two) = tokio::join!(
        store.update(cancelled.clone(), 1, None, vec![entry(1)], 1),
        store.update(cancelled.clone(), 1, None, vec![entry(2)], 1),
    );
    let mut done = [one.unwrap(), two.unwrap()];
    done.sort_unstable();
    assert_eq!(done, [false, true]);
    assert!(store.live(None).await.unwrap().is_empty());
    assert_eq!(verify(&store).await, 2, "the one that came second left no trace");
    let missing = record(9, "h", "a", "d9");
    assert_eq!(store.update(missing, 1, None, Vec::new(), 1).await, Ok(false));
}

#[tokio::test]
async fn identical_requests_fold_and_others_are_capped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    let full = |id, agent: &str, digest: &str| store.ask(ask(record(id, "h", agent, digest)), 1);
    full(1, "a", "d1").await.unwrap();
    let Asked::Folded(folded) = full(2, "a", "d1").await.unwrap() else { panic!() };
    assert_eq!((folded.id, folded.asked), (Uuid::from_u128(1), 2));
    full(3, "a", "d2").await.unwrap();
    assert_eq!(full(4, "a", "d3").await, Ok(Asked::Full));
    assert!(matches!(full(5, "b", "d4").await, Ok(Asked::New(_))));
    assert_eq!(full(6, "b", "d5").await, Ok(Asked::Full));
    let cancelled = folded.cancel(1).unwrap();
    assert_eq!(store.update(cancelled, 2, None, Vec::new(), 1).await, Ok(true));
    assert!(matches!(full(7, "a", "d1").await, Ok(Asked::New(_))));
    drop(store);
    let store = Rocks::open(dir.path()).unwrap();
    let again = store.ask(ask(record(8, "h", "b", "d6")), 1).await;
    assert_eq!(again, Ok(Asked::Full), "the counts come back with the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_traded_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Rocks::open(dir.path()).unwrap());
    let token = JoinToken {
        id: "t".to_owned(),
        secret_hash: [0; 32],
        role: Role::Reviewer,
        name: "p".to_owned(),
        groups: vec!["g".to_owned()],
        expires: 10,
    };
    store.add_token(token, entry("t"), 0).await.unwrap();
    let member = Member {
        role: Role::Reviewer,
        name: "p".to_owned(),
        groups: vec!["g".to_owned()],
        joined: 1,
        removed: false,
        barred_until: 0,
    };
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, member) = (Arc::clone(&store), member.clone());
        racers.spawn(async move { store.redeem("t", member, entry("t"), 1).await.unwrap() });
    }
    let won = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let subject = Subject::new(Role::Reviewer, "p").unwrap();
    assert_eq!(store.member(&subject).await, Ok(Some(member)));
    assert_eq!(store.token("t").await, Ok(None));
}

#[tokio::test]
async fn lists_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    for id in 1..=3 {
        store.ask(ask(record(id, &format!("h{id}"), "a", "d")), 0).await.unwrap();
    }
    let ids = |records: Vec<Record>| records.iter().map(|r| r.id.as_u128()).collect::<Vec<_>>();
    let pending = Box::new(|record: &Record| record.phase == Phase::Pending);
    assert_eq!(ids(store.list(2, pending).await.unwrap()), [3, 2]);
    let one = Box::new(|record: &Record| record.host == "h1");
    assert_eq!(ids(store.list(2, one).await.unwrap()), [1]);
}

#[test]
fn one_process_at_a_time_and_one_format() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    assert!(matches!(Rocks::open(dir.path()), Err(StoreError::Locked(_))));
    let meta = store.db.family(META).unwrap();
    store.db.0.put_cf(meta, b"format", b"9").unwrap();
    drop(store);
    assert_eq!(Rocks::open(dir.path()).unwrap_err(), StoreError::Format("9".to_owned()));
}
