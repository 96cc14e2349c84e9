//! What every store does, over both: the same tests, and the same interleavings.

use super::*;
use crate::server::audit::{Code, Verifier};
use crate::server::model::{Ballot, Person, Phase, Rule, fold_key};
use prost::Message as _;
use rstest::rstest;
use std::sync::Arc;

mod killed;
mod model;
pub(in crate::server) mod place;
mod speed;

use place::{Place, Which};

pub(in crate::server) fn record(id: u128, host: &str, agent: &str, digest: &str) -> Record {
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

pub(in crate::server) fn ask(record: Record) -> Ask {
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

pub(in crate::server) fn entry(subject: impl ToString) -> Entry {
    Entry::new(Code::ApprovalRequested, "daemon/h", subject, "")
}

pub(in crate::server) async fn verify(store: &dyn Store) -> usize {
    let records = store.audit(0, usize::MAX).await.unwrap();
    let mut verifier = Verifier::default();
    records.iter().for_each(|record| verifier.next(record).unwrap());
    records.len()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_store_has_everything(#[values(Which::Rocks, Which::Postgres)] which: Which) {
    let place = Place::new(which);
    let store = place.open().await;
    let asked = record(1, "h", "a", "d1");
    assert_eq!(store.ask(ask(asked.clone()), 5).await, Ok(Asked::New(asked.clone())));
    let ballot = Ballot { approve: true, reason: "", digest: "d1", break_glass: false };
    let voted = asked.vote(Person { name: "p", groups: &[] }, ballot, 6).unwrap();
    assert_eq!(store.update(voted.clone(), 1, None, vec![entry("x")], 6).await, Ok(true));
    assert_eq!(store.last_time(), 6);
    drop(store);

    let store = place.open().await;
    assert_eq!(store.last_time(), 6);
    assert_eq!(store.get(asked.id).await, Ok(Some(voted.clone())));
    assert_eq!(store.live(Some("h")).await, Ok(vec![voted.clone()]));
    assert_eq!(store.live(Some("i")).await, Ok(Vec::new()));
    let with = store.request(asked.id, true).await.unwrap().unwrap();
    assert_eq!((with.digest.as_str(), &with.body[..]), ("d1", &b"body"[..]));
    let without = store.request(asked.id, false).await.unwrap().unwrap();
    assert!(without.body.is_empty());
    store.note(entry("y"), 7).await.unwrap();
    assert_eq!(verify(&*store).await, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_the_revision_that_was_read_can_be_replaced(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let place = Place::new(which);
    let store = place.open().await;
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
    assert_eq!(verify(&*store).await, 2, "the one that came second left no trace");
    let missing = record(9, "h", "a", "d9");
    assert_eq!(store.update(missing, 1, None, Vec::new(), 1).await, Ok(false));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn identical_requests_fold_and_others_are_capped(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let place = Place::new(which);
    let store = place.open().await;
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
    let store = place.open().await;
    let again = store.ask(ask(record(8, "h", "b", "d6")), 1).await;
    assert_eq!(again, Ok(Asked::Full), "the counts come back with the store");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_traded_once(#[values(Which::Rocks, Which::Postgres)] which: Which) {
    let place = Place::new(which);
    let stores = place.replicas().await;
    let store = &stores[0];
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
    for n in 0..32 {
        let (store, member) = (Arc::clone(&stores[n % stores.len()]), member.clone());
        racers.spawn(async move { store.redeem("t", member, entry("t"), 1).await.unwrap() });
    }
    let won = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let subject = Subject::new(Role::Reviewer, "p").unwrap();
    assert_eq!(store.member(&subject).await, Ok(Some(member)));
    assert_eq!(store.token("t").await, Ok(None));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lists_newest_first(#[values(Which::Rocks, Which::Postgres)] which: Which) {
    let place = Place::new(which);
    let store = place.open().await;
    for id in 1..=3 {
        store.ask(ask(record(id, &format!("h{id}"), "a", "d")), 0).await.unwrap();
    }
    let ids = |records: Vec<Record>| records.iter().map(|r| r.id.as_u128()).collect::<Vec<_>>();
    let pending = Box::new(|record: &Record| record.phase == Phase::Pending);
    assert_eq!(ids(store.list(2, pending).await.unwrap()), [3, 2]);
    let one = Box::new(|record: &Record| record.host == "h1");
    assert_eq!(ids(store.list(2, one).await.unwrap()), [1]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_racing_claims_of_one_use_one_wins(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let place = Place::new(which);
    let stores = place.replicas().await;
    // On one, and over all that there are.
    for over in [1, stores.len()] {
        let id = Uuid::now_v7();
        let asked = record(id.as_u128(), &id.to_string(), "a", model::DIGEST);
        stores[0].ask(ask(asked), 0).await.unwrap();
        let yes = model::Act::Vote { person: 1, approve: true };
        model::play(Arc::clone(&stores[0]), id, yes, 1).await;
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..64 {
            let store = Arc::clone(&stores[usize::from(n) % over]);
            racers.spawn(model::play(store, id, model::Act::Claim { op: n }, 2));
        }
        let told = racers.join_all().await;
        let won = told.iter().filter(|told| matches!(told, model::Told::Claimed { .. })).count();
        assert_eq!(won, 1);
        assert_eq!(stores[0].get(id).await.unwrap().unwrap().uses.len(), 1);
    }
    verify(&*stores[0]).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn racing_requests_fold_and_stay_within_the_caps(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let place = Place::new(which);
    let stores = place.replicas().await;
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..48u128 {
        let store = Arc::clone(&stores[usize::try_from(n).unwrap() % stores.len()]);
        // Half of them the same of one agent, the others all different of another.
        let asked = match n % 2 {
            0 => record(n + 1, "h", "a", "same"),
            _ => record(n + 1, "h", "b", &format!("d{n}")),
        };
        racers.spawn(async move { store.ask(ask(asked), 1).await.unwrap() });
    }
    let mut kept = std::collections::BTreeMap::new();
    let mut folded = 0;
    for asked in racers.join_all().await {
        match asked {
            Asked::New(record) => *kept.entry(record.agent).or_insert(0) += 1,
            Asked::Folded(_) => folded += 1,
            Asked::Full => {}
            other => panic!("{other:?}"),
        }
    }
    // An agent may have 2, the host 3; what is the same counts once.
    let all: i32 = kept.values().sum();
    assert!(all == 3 && kept.get("a") == Some(&1) && kept.get("b") == Some(&2), "{kept:?}");
    assert_eq!(folded, 23);
    let live = stores[0].live(Some("h")).await.unwrap();
    assert_eq!((live.len(), verify(&*stores[0]).await), (3, 3));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_their_steps(#[values(Which::Rocks, Which::Postgres)] which: Which) {
    use crate::server::model::StepOf;
    let place = Place::new(which);
    let store = place.open().await;
    let by = Subject::new(Role::Daemon, "h").unwrap();
    let owner = Owner { host: "h".to_owned(), agent: "a".to_owned(), task: "t".to_owned() };
    let submission = |id: u128| {
        let steps = [id + 1, id + 2].map(Uuid::from_u128);
        let mut asked = record(id + 1, "h", "a", "d");
        asked.step = Some(StepOf {
            declared: Uuid::from_u128(id),
            number: 1,
            task: "t".to_owned(),
            uses: 1,
            what: crate::approval::step::What::Exact("d".to_owned()),
        });
        Submission {
            by: by.clone(),
            task: Declared {
                id: Uuid::from_u128(id),
                owner: owner.clone(),
                objective: "o".to_owned(),
                created: 1,
                steps: vec![
                    DeclaredStep { id: steps[0], asked: true },
                    DeclaredStep { id: steps[1], asked: false },
                ],
            },
            fold: [u8::try_from(id % 200).unwrap(); 32],
            records: vec![asked],
            requests: steps.map(|id| (id, Vec::new(), Bytes::new())).to_vec(),
            denied_for: 0,
            host_cap: 2,
            agent_cap: 2,
            audit: vec![entry(id)],
        }
    };
    assert_eq!(store.submit(submission(10), 1).await, Ok(Submitted::Removed), "no member yet");
    let member = Member {
        role: Role::Daemon,
        name: "h".to_owned(),
        groups: Vec::new(),
        joined: 1,
        removed: false,
        barred_until: 0,
    };
    assert_eq!(store.admit(member.clone(), false, entry("h"), 1).await, Ok(true));
    assert_eq!(store.submit(submission(10), 1).await, Ok(Submitted::New));
    assert_eq!(store.submit(submission(10), 1).await, Ok(Submitted::Found(Uuid::from_u128(10))));
    assert_eq!(store.submit(submission(20), 1).await, Ok(Submitted::New));
    assert_eq!(store.submit(submission(30), 1).await, Ok(Submitted::Full));
    let ids = |tasks: Vec<Declared>| tasks.iter().map(|t| t.id.as_u128()).collect::<Vec<_>>();
    assert_eq!(ids(store.tasks(9, None).await.unwrap()), [20, 10]);
    assert_eq!(ids(store.tasks(1, Some(owner.clone())).await.unwrap()), [20]);
    let nobody = Owner { task: "u".to_owned(), ..owner.clone() };
    assert!(store.tasks(9, Some(nobody.clone())).await.unwrap().is_empty());
    assert_eq!(store.task(Uuid::from_u128(10)).await.unwrap().unwrap().objective, "o");
    let steps = store.steps(&owner).await.unwrap();
    assert_eq!(steps.iter().map(|r| r.id.as_u128()).collect::<Vec<_>>(), [11, 21]);
    assert!(store.steps(&nobody).await.unwrap().is_empty());
    let ended = steps[0].cancel(2).unwrap();
    assert_eq!(store.update(ended, 1, Some(by.clone()), Vec::new(), 2).await, Ok(true));
    assert_eq!(store.steps(&owner).await.unwrap().len(), 1);
    // Who is removed changes nothing any more.
    assert_eq!(store.remove(&by, entry("h"), 3).await, Ok(Some(0)));
    assert_eq!(store.remove(&by, entry("h"), 3).await, Ok(None));
    let ended = steps[1].cancel(4).unwrap();
    assert_eq!(store.update(ended, 1, Some(by.clone()), Vec::new(), 4).await, Ok(false));
    let gone = Member { removed: true, barred_until: 3, ..member.clone() };
    assert_eq!(store.members().await, Ok(vec![gone]));
    assert_eq!(store.admit(member.clone(), false, entry("h"), 5).await, Ok(false));
    assert_eq!(store.admit(member, true, entry("h"), 5).await, Ok(true));
    assert_eq!(store.member(&by).await.unwrap().unwrap().barred_until, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn small_things_by_kind_and_key(#[values(Which::Rocks, Which::Postgres)] which: Which) {
    let place = Place::new(which);
    let store = place.open().await;
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let put = |kind, key: &str, was: Option<&str>, next: Option<&str>| {
        let (was, next) = (was.and_then(bytes), next.and_then(bytes));
        store.keep(Keep { kind, key: key.to_owned(), was, next }, Some(entry(key)), 1)
    };
    assert_eq!(put(Kind::Session, "b", None, Some("1")).await, Ok(true));
    assert_eq!(put(Kind::Session, "b", None, Some("2")).await, Ok(false), "it is there");
    assert_eq!(put(Kind::Session, "a", None, Some("3")).await, Ok(true));
    assert_eq!(put(Kind::Used, "b", None, Some("4")).await, Ok(true));
    assert_eq!(put(Kind::Session, "b", Some("1"), Some("")).await, Ok(true));
    assert_eq!(store.kept(Kind::Session, "b").await, Ok(bytes("")));
    let all = vec![("a".to_owned(), b"3".to_vec()), ("b".to_owned(), Vec::new())];
    assert_eq!(store.all_kept(Kind::Session).await, Ok(all));
    assert_eq!(put(Kind::Session, "a", Some("x"), None).await, Ok(false), "it is another");
    assert_eq!(put(Kind::Session, "a", Some("3"), None).await, Ok(true));
    assert_eq!(store.kept(Kind::Session, "a").await, Ok(None));
    assert_eq!(store.all_kept(Kind::Account).await, Ok(Vec::new()));
    for id in ["t1", "t2"] {
        let token = JoinToken {
            id: id.to_owned(),
            secret_hash: [0; 32],
            role: Role::Daemon,
            name: id.to_owned(),
            groups: Vec::new(),
            expires: 9,
        };
        store.add_token(token, entry(id), 2).await.unwrap();
    }
    let one = Subject::new(Role::Daemon, "t1").unwrap();
    assert_eq!(store.remove(&one, entry("t1"), 3).await, Ok(Some(1)), "its unused token");
    assert!(store.token("t2").await.unwrap().is_some());
    store.forget_tokens(entry("all"), 3).await.unwrap();
    assert_eq!(store.token("t2").await, Ok(None));
    assert_eq!((verify(&*store).await, store.last_time()), (9, 3));
    let page = store.audit(7, 1).await.unwrap();
    assert_eq!((page.len(), page[0].seq), (1, 8));
}
