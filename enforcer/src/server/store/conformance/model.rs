//! The life of approvals on the real store, whatever happens in whatever order: races, waits,
//! reopened stores, and a process that is killed. An observer that knows none of the store's code
//! keeps count of what was answered.

use super::*;
use crate::server::model::Claimed;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

pub(super) const DIGEST: &str = "d";
const GRANT: Millis = 50;

/// What somebody does. Person 0 owns the agent that asks.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Ask,
    Vote { person: u8, approve: bool },
    Claim { op: u8 },
    Revoke,
    Cancel,
    Expire,
}

/// What happens next.
#[derive(Clone, Debug)]
enum Turn {
    /// All at once.
    Race(Vec<Act>),
    /// Time passes. Milliseconds.
    Wait(u8),
    /// A store is closed and opened again.
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Ask),
        6 => (0u8..5, prop::bool::weighted(0.9)).prop_map(|(person, approve)| Act::Vote { person, approve }),
        8 => (0u8..8).prop_map(|op| Act::Claim { op }),
        1 => Just(Act::Revoke),
        1 => Just(Act::Cancel),
        1 => Just(Act::Expire),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        90 => prop::collection::vec(act(), 1..8).prop_map(Turn::Race),
        20 => (0u8..40).prop_map(Turn::Wait),
        1 => Just(Turn::Reopen),
    ]
}

/// What was answered.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Voted { person: u8, approve: bool },
    Claimed { op: u8, claim: Uuid },
    Ended(Phase),
    Nothing,
}

/// What an observer knows of one approval, from answers alone.
#[derive(Debug, Default)]
struct Seen {
    votes: BTreeMap<u8, bool>,
    claims: BTreeMap<u8, Uuid>,
    granted: Option<Millis>,
    ended: Option<Phase>,
}

/// Changes a record as the server does: looks, steps, and tries again when another came first.
async fn change<T>(
    store: &dyn Store,
    id: Uuid,
    now: Millis,
    step: impl Fn(&Record) -> Option<(Record, T)>,
) -> Option<T> {
    loop {
        let record = store.get(id).await.unwrap()?;
        let (next, done) = step(&record)?;
        let audit = vec![Entry::new(Code::ApprovalVoted, "test", id, next.phase.as_str())];
        if store.update(next, record.revision, None, audit, now).await.unwrap() {
            return Some(done);
        }
    }
}

pub(super) async fn play(store: Arc<dyn Store>, id: Uuid, act: Act, now: Millis) -> Told {
    let ended = |phase: Phase| move |next: Record| Some((next, Told::Ended(phase)));
    let told = match act {
        Act::Ask => None,
        Act::Vote { person, approve } => {
            let name = format!("p{person}");
            change(&*store, id, now, |record| {
                let person_of = Person { name: &name, groups: &[] };
                let ballot = Ballot { approve, reason: "r", digest: DIGEST, break_glass: false };
                let next = record.vote(person_of, ballot, now).ok()?;
                (next.revision > record.revision).then_some((next, Told::Voted { person, approve }))
            })
            .await
        }
        Act::Claim { op } => {
            let claim = Uuid::now_v7();
            change(&*store, id, now, |record| {
                let operation = Uuid::from_u128(u128::from(op) + 1);
                match record.claim(operation, DIGEST, claim, now) {
                    Claimed::New(next, claim) => Some((*next, Told::Claimed { op, claim })),
                    Claimed::Again(_) | Claimed::Refused(_) => None,
                }
            })
            .await
        }
        Act::Revoke => {
            change(&*store, id, now, |r| {
                r.revoke("a", "r", now).ok().and_then(ended(Phase::Revoked))
            })
            .await
        }
        Act::Cancel => {
            change(&*store, id, now, |r| r.cancel(now).ok().and_then(ended(Phase::Cancelled))).await
        }
        Act::Expire => {
            change(&*store, id, now, |record| {
                let next = record.at(now);
                (next.revision > record.revision).then_some((next, Told::Ended(Phase::Expired)))
            })
            .await
        }
    };
    told.unwrap_or(Told::Nothing)
}

/// The store through all interleavings, and what was counted.
struct World {
    place: Place,
    runtime: Runtime,
    /// One, or several replicas.
    stores: Vec<Arc<dyn Store>>,
    next: u128,
    asked: u64,
    changed: u64,
    reopened: u64,
    spent: u64,
}

impl World {
    fn new(which: Which) -> Self {
        let place = Place::new(which);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        let replicas = if which == Which::Postgres { 3 } else { 1 };
        let stores = (0..replicas).map(|_| runtime.block_on(place.open())).collect();
        Self { place, runtime, stores, next: 0, asked: 0, changed: 0, reopened: 0, spent: 0 }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.stores[0]
    }

    /// The one that was opened first goes, and a new one comes.
    fn reopen(&mut self) {
        let store = self.stores.remove(0);
        assert_eq!(Arc::strong_count(&store), 1, "nothing uses it");
        drop(store);
        self.stores.push(self.runtime.block_on(self.place.open()));
        self.reopened += 1;
    }

    fn ask(&mut self, host: &str, (quorum, uses): (u32, u32), now: Millis) -> Uuid {
        self.next += 1;
        let mut record = record(self.next, host, "a", DIGEST);
        record.rules[0].quorum = quorum;
        record.rules[0].uses = uses;
        record.rules[0].grant_ttl = GRANT;
        record.excluded = vec!["p0".to_owned()];
        record.created = now;
        record.pending_until = now + 100;
        let asked = self.runtime.block_on(self.store().ask(ask(record), now)).unwrap();
        match asked {
            Asked::New(record) => {
                self.asked += 1;
                record.id
            }
            Asked::Folded(record) | Asked::Found(record) => record.id,
            other => panic!("{other:?}"),
        }
    }

    fn case(&mut self, quorum: u32, uses: u32, turns: Vec<Turn>) -> Result<(), TestCaseError> {
        let host = format!("h{}", self.next);
        let mut now = 1_000;
        let mut id = self.ask(&host, (quorum, uses), now);
        let mut all: BTreeMap<Uuid, Seen> = BTreeMap::new();
        for turn in turns {
            match turn {
                Turn::Wait(ms) => now += Millis::from(ms),
                Turn::Reopen => self.reopen(),
                Turn::Race(acts) => {
                    if acts.iter().any(|act| matches!(act, Act::Ask)) {
                        id = self.ask(&host, (quorum, uses), now);
                    }
                    let stores = self.stores.clone();
                    let told = self.runtime.block_on(async move {
                        let mut racers = tokio::task::JoinSet::new();
                        for (act, store) in acts.into_iter().zip(stores.into_iter().cycle()) {
                            racers.spawn(play(store, id, act, now));
                        }
                        racers.join_all().await
                    });
                    let seen = all.entry(id).or_default();
                    self.changed += seen.take(told, (quorum, uses), now)?;
                }
            }
            for (id, seen) in &all {
                let stored = self.runtime.block_on(self.store().get(*id)).unwrap().unwrap();
                seen.holds(&stored)?;
            }
        }
        self.spent += all.values().map(|seen| seen.claims.len() as u64).sum::<u64>();
        // So that what is left does not slow the cases after it.
        let store = Arc::clone(self.store());
        let left = self.runtime.block_on(play(store, id, Act::Expire, now + 1_000));
        self.changed += u64::from(!matches!(left, Told::Nothing));
        Ok(())
    }
}

impl Seen {
    /// Takes what was answered in one race, and says how many changes that were.
    fn take(
        &mut self,
        told: Vec<Told>,
        (quorum, uses): (u32, u32),
        now: Millis,
    ) -> Result<u64, TestCaseError> {
        let mut changes = 0;
        let ended_before = self.ended;
        let mut claimed = false;
        for told in told {
            changes += u64::from(!matches!(told, Told::Nothing));
            match told {
                Told::Voted { person, approve } => {
                    prop_assert!(person != 0, "the owner has no vote");
                    prop_assert!(ended_before.is_none());
                    prop_assert!(self.votes.insert(person, approve).is_none(), "one vote each");
                }
                Told::Claimed { op, claim } => {
                    claimed = true;
                    prop_assert!(self.claims.insert(op, claim).is_none(), "spent twice");
                }
                Told::Ended(phase) => self.ended = Some(phase),
                Told::Nothing => {}
            }
        }
        let yes = self.votes.values().filter(|approve| **approve).count();
        if yes >= quorum as usize && self.votes.values().all(|approve| *approve) {
            self.granted.get_or_insert(now);
        }
        prop_assert!(self.claims.len() <= uses as usize, "more than was granted");
        if claimed {
            prop_assert!(ended_before.is_none(), "claimed after {ended_before:?}");
            let granted = self.granted;
            prop_assert!(granted.is_some_and(|at| now < at + GRANT), "claimed on nothing");
        }
        Ok(changes)
    }

    /// Everything that was answered is in the store, and no use that was not.
    fn holds(&self, stored: &Record) -> Result<(), TestCaseError> {
        let votes: BTreeMap<u8, bool> = stored
            .votes
            .iter()
            .map(|vote| (vote.person[1..].parse().unwrap(), vote.approve))
            .collect();
        prop_assert_eq!(&votes, &self.votes, "votes");
        let uses: BTreeMap<u8, Uuid> = stored
            .uses
            .iter()
            .map(|used| (u8::try_from(used.operation.as_u128() - 1).unwrap(), used.claim))
            .collect();
        prop_assert_eq!(&uses, &self.claims, "uses");
        if let Some(ended) = self.ended {
            // What ran out after a use can still be taken back, and nothing else.
            let fits = stored.phase == ended || stored.phase == Phase::Revoked;
            prop_assert!(fits, "{ended:?} became {:?}", stored.phase);
        }
        Ok(())
    }
}

/// How many interleavings are tried: in RocksDB always all, in PostgreSQL, where one takes a
/// tenth of a second, as many as this says.
const CASES: &str = "ENFORCER_INTERLEAVINGS";

#[rstest]
fn of_ten_thousand_interleavings_none_spends_twice_or_loses_a_decision(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let asked = std::env::var(CASES).ok().and_then(|cases| cases.parse().ok());
    let cases = match which {
        Which::Rocks => 10_000,
        Which::Postgres => asked.unwrap_or(100),
    };
    let world = RefCell::new(World::new(which));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let interleavings = (1u32..3, 1u32..4, prop::collection::vec(turn(), 1..8));
    TestRunner::new(config)
        .run(&interleavings, |(quorum, uses, turns)| world.borrow_mut().case(quorum, uses, turns))
        .unwrap();
    let mut world = world.into_inner();
    world.reopen();
    // Each change that was answered, and each request, has its record in the chain.
    let records = world.runtime.block_on(verify(&**world.store())) as u64;
    assert_eq!(records, world.asked + world.changed);
    println!(
        "{which:?}: {cases} interleavings, {} requests, {} changes, {} uses spent, {} reopened",
        world.asked, world.changed, world.spent, world.reopened
    );
    // The cases reach what they are about.
    let cases = u64::from(cases);
    assert!(
        world.spent > cases / 20 && world.reopened > cases / 200,
        "{} {}",
        world.spent,
        world.reopened
    );
}
