use super::*;
use proptest::prelude::*;

const DIGEST: &str = "v1:aa";

fn rule(scope: &str, groups: &[&str], quorum: u32, uses: u32) -> Rule {
    Rule {
        scope: scope.to_owned(),
        reviewers: groups.iter().map(|g| (*g).to_owned()).collect(),
        quorum,
        deny_threshold: 1,
        request_ttl: 100,
        grant_ttl: 50,
        uses,
        ..Rule::default()
    }
}

fn ballot(reason: &str) -> Ballot<'_> {
    Ballot { approve: true, reason, digest: DIGEST, break_glass: false }
}

fn record(rules: Vec<Rule>) -> Record {
    let excluded = vec!["owner".to_owned()];
    Record::new(Uuid::from_u128(1), ("h", "agent"), DIGEST, rules, excluded, 0)
}

fn vote(
    record: &Record,
    name: &str,
    groups: &[&str],
    approve: bool,
    now: Millis,
) -> Result<Record, VoteError> {
    let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
    let person = Person { name, groups: &groups };
    record.vote(person, Ballot { approve, ..ballot("because") }, now)
}

fn claim(record: &Record, op: u128, now: Millis) -> Claimed {
    record.claim(Uuid::from_u128(op), DIGEST, Uuid::from_u128(op + 1000), now)
}

fn claimed(record: &Record, op: u128, now: Millis) -> Record {
    match claim(record, op, now) {
        Claimed::New(next, _) => *next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_grants_clock_starts_at_the_decision() {
    let granted = vote(&record(vec![rule("s", &[], 1, 1)]), "a", &[], true, 99).unwrap();
    assert_eq!(granted.expires(), 149);
    assert!(matches!(claim(&granted, 1, 148), Claimed::New(..)));
    assert_eq!(claim(&granted, 1, 149), Claimed::Refused(NotGranted::Expired));
}

#[test]
fn nobody_in_time() {
    let pending = record(vec![rule("s", &[], 1, 1)]);
    assert_eq!(vote(&pending, "a", &[], true, 100), Err(VoteError::NotNow(NotNow(Phase::Expired))));
    assert_eq!(claim(&pending, 1, 100), Claimed::Refused(NotGranted::Expired));
    assert_eq!(pending.at(500).ended, 100);
}

#[test]
fn quorum_is_of_distinct_people() {
    let pending = record(vec![rule("s", &[], 2, 1)]);
    let one = vote(&pending, "a", &[], true, 1).unwrap();
    let again = vote(&one, "a", &["x"], true, 2).unwrap();
    assert_eq!(again, one);
    assert_eq!(vote(&one, "a", &[], false, 2), Err(VoteError::Voted));
    assert_eq!(vote(&one, "b", &[], true, 2).unwrap().phase, Phase::Approved);
}

#[test]
fn who_asks_has_no_vote() {
    let pending = record(vec![rule("s", &[], 1, 1)]);
    assert_eq!(vote(&pending, "owner", &[], true, 1), Err(VoteError::Requester));
    assert_eq!(vote(&pending, "owner", &[], false, 1), Err(VoteError::Requester));
}

#[test]
fn every_scope_must_approve_and_any_can_deny() {
    let pending = record(vec![rule("db", &["dba"], 1, 3), rule("sec", &["security"], 1, 2)]);
    assert_eq!(vote(&pending, "x", &["other"], true, 1), Err(VoteError::NotEligible));
    let half = vote(&pending, "d", &["dba"], true, 1).unwrap();
    assert_eq!(half.phase, Phase::Pending);
    let denied = vote(&half, "s", &["security"], false, 2).unwrap();
    assert_eq!(denied.phase, Phase::Denied);
    let whole = vote(&half, "s", &["security"], true, 2).unwrap();
    assert_eq!((whole.phase, whole.uses_left()), (Phase::Approved, 2));
    // One person in both groups is one vote in each scope.
    let both = vote(&pending, "b", &["dba", "security"], true, 1).unwrap();
    assert_eq!(both.phase, Phase::Approved);
}

#[test]
fn a_deny_threshold_counts_people() {
    let mut rule = rule("s", &[], 2, 1);
    rule.deny_threshold = 2;
    let one = vote(&record(vec![rule]), "a", &[], false, 1).unwrap();
    assert_eq!(one.phase, Phase::Pending);
    assert_eq!(vote(&one, "b", &[], false, 2).unwrap().phase, Phase::Denied);
}

#[test]
fn a_vote_needs_the_digest_and_the_reason() {
    let mut strict = rule("s", &[], 1, 1);
    strict.reason_required = true;
    let pending = record(vec![strict]);
    let person = Person { name: "a", groups: &[] };
    let other = Ballot { digest: "v1:bb", ..ballot("r") };
    assert_eq!(pending.vote(person, other, 1), Err(VoteError::Mismatch));
    assert_eq!(pending.vote(person, ballot(" \n"), 1), Err(VoteError::ReasonMissing));
    assert_eq!(pending.vote(person, ballot(" r "), 1).unwrap().votes[0].reason, "r");
}

#[test]
fn a_use_is_spent_once_an_operation() {
    let granted = vote(&record(vec![rule("s", &[], 1, 2)]), "a", &[], true, 1).unwrap();
    let one = claimed(&granted, 1, 2);
    assert_eq!(claim(&one, 1, 3), Claimed::Again(Uuid::from_u128(1001)));
    let two = claimed(&one, 2, 3);
    assert_eq!(two.phase, Phase::Spent);
    assert_eq!(claim(&two, 2, 3), Claimed::Again(Uuid::from_u128(1002)));
    assert_eq!(claim(&two, 3, 3), Claimed::Refused(NotGranted::Spent));
    assert_eq!(claim(&two, 2, 51), Claimed::Refused(NotGranted::Expired));
    let other = two.claim(Uuid::from_u128(2), "v1:bb", Uuid::nil(), 3);
    assert_eq!(other, Claimed::Refused(NotGranted::Mismatch));
}

#[test]
fn a_revoked_grant_gives_nothing_not_even_again() {
    let granted = vote(&record(vec![rule("s", &[], 1, 1)]), "a", &[], true, 1).unwrap();
    let spent = claimed(&granted, 1, 2);
    let revoked = spent.revoke("a", "oops", 3).unwrap();
    assert_eq!(claim(&revoked, 1, 4), Claimed::Refused(NotGranted::Revoked));
    assert_eq!(revoked.revoke("a", "", 4), Err(NotNow(Phase::Revoked)));
    let pending = record(vec![rule("s", &[], 1, 1)]);
    assert_eq!(pending.revoke("a", "", 1), Err(NotNow(Phase::Pending)));
}

#[test]
fn a_grant_that_ran_out_is_revoked_when_something_may_still_run_on_it() {
    let granted = vote(&record(vec![rule("s", &[], 1, 2)]), "a", &[], true, 1).unwrap();
    let used = claimed(&granted, 1, 2);
    let late = used.expires() + 10;
    assert_eq!(used.revoke("a", "oops", late).unwrap().phase, Phase::Revoked);
    assert_eq!(used.at(late).revoke("a", "oops", late).unwrap().phase, Phase::Revoked);
    assert_eq!(granted.revoke("a", "oops", late), Err(NotNow(Phase::Expired)));
}

#[test]
fn identical_requests() {
    let pending = record(vec![rule("s", &[], 1, 1)]);
    let Answer::Folded(folded) = pending.answers(10, 1) else { panic!() };
    assert_eq!((folded.asked, folded.revision), (2, 2));
    assert_eq!(pending.answers(10, 100), Answer::None);
    let denied = vote(&pending, "a", &[], false, 5).unwrap();
    assert_eq!(denied.answers(10, 14), Answer::Found);
    assert_eq!(denied.answers(10, 15), Answer::None);
    let granted = vote(&pending, "a", &[], true, 5).unwrap();
    assert_eq!(granted.answers(10, 6), Answer::Found);
    assert_eq!(claimed(&granted, 1, 6).answers(10, 7), Answer::None);
}

#[test]
fn rules_are_part_of_the_fold() {
    let weak = vec![rule("s", &[], 1, 1)];
    let strong = vec![rule("s", &[], 2, 1)];
    assert_ne!(fold_key("h", DIGEST, &weak), fold_key("h", DIGEST, &strong));
    assert_ne!(fold_key("h", DIGEST, &weak), fold_key("i", DIGEST, &weak));
    let groups = |list: &[&str]| fold_key("h", DIGEST, &[rule("s", list, 1, 1)]);
    assert_ne!(groups(&["a", "b"]), groups(&["ab"]));
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Vote { person: u8, approve: bool, digest: bool },
    Claim { op: u8, digest: bool },
    Revoke,
    Cancel,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Ask),
        (0u8..5, prop::bool::weighted(0.8), prop::bool::weighted(0.9))
            .prop_map(|(person, approve, digest)| Step::Vote { person, approve, digest }),
        (0u8..6, prop::bool::weighted(0.9)).prop_map(|(op, digest)| Step::Claim { op, digest }),
        prop::bool::weighted(0.2).prop_map(|go| if go { Step::Revoke } else { Step::Wait(0) }),
        prop::bool::weighted(0.2).prop_map(|go| if go { Step::Cancel } else { Step::Wait(0) }),
        (0u8..30).prop_map(Step::Wait),
    ]
}

// Person 0 is the requester's owner, 1 and 2 are in both groups' rules, 3 in one, 4 in none.
const PEOPLE: [(&str, &[&str]); 5] =
    [("owner", &["x", "y"]), ("a", &["x", "y"]), ("b", &["x", "y"]), ("c", &["x"]), ("d", &["z"])];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// What an independent observer counts, whatever happens in whatever order.
    #[test]
    fn never_more_than_was_granted(
        quorums in (1u32..3, 1u32..3),
        uses in 1u32..3,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let rules = vec![rule("x", &["x"], quorums.0, uses), rule("y", &["y"], quorums.1, uses + 1)];
        let mut record = record(rules);
        let mut now = 0;
        let mut yes: std::collections::BTreeMap<u8, bool> = std::collections::BTreeMap::new();
        let mut granted_ops = std::collections::BTreeSet::new();
        let mut decided_at = None;
        for step in steps {
            let before = record.clone();
            match step {
                Step::Wait(ms) => now += Millis::from(ms),
                Step::Ask => if let Answer::Folded(next) = record.answers(0, now) { record = *next },
                Step::Revoke => if let Ok(next) = record.revoke("a", "r", now) { record = next },
                Step::Cancel => if let Ok(next) = record.cancel(now) { record = next },
                Step::Vote { person, approve, digest } => {
                    let (name, groups) = PEOPLE[usize::from(person)];
                    let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
                    let digest = if digest { DIGEST } else { "v1:bb" };
                    let result = record.vote(
                        Person { name, groups: &groups },
                        Ballot { approve, digest, ..ballot("r") },
                        now,
                    );
                    if digest != DIGEST || person == 0 || person == 4 {
                        prop_assert!(result.is_err());
                    }
                    if let Ok(next) = result {
                        if next.votes.len() > record.votes.len() {
                            prop_assert!(yes.insert(person, approve).is_none());
                        }
                        if record.phase != Phase::Approved && next.phase == Phase::Approved {
                            decided_at = Some(now);
                        }
                        record = next;
                    }
                }
                Step::Claim { op, digest } => {
                    let operation = Uuid::from_u128(u128::from(op));
                    let digest = if digest { DIGEST } else { "v1:bb" };
                    match record.claim(operation, digest, Uuid::from_u128(7), now) {
                        Claimed::New(next, _) => {
                            prop_assert!(granted_ops.insert(op));
                            prop_assert_eq!(digest, DIGEST);
                            let count = |people: &[u8]| people.iter().filter(|p| yes.get(p) == Some(&true)).count();
                            prop_assert!(count(&[1, 2, 3]) >= quorums.0 as usize);
                            prop_assert!(count(&[1, 2]) >= quorums.1 as usize);
                            prop_assert!(yes.values().all(|approve| *approve));
                            prop_assert!(now < decided_at.unwrap() + 50);
                            record = *next;
                        }
                        Claimed::Again(_) => prop_assert!(granted_ops.contains(&op)),
                        Claimed::Refused(_) => {}
                    }
                    prop_assert!(granted_ops.len() <= uses as usize);
                }
            }
            prop_assert!(record == before || record.revision > before.revision);
            prop_assert!(!(before.at(now).phase != Phase::Approved && before.phase != Phase::Pending
                && before.phase != Phase::Approved && record.phase == Phase::Approved));
        }
    }
}

/// A step's grant against a model: never more uses than the step or a scope gives, and only by the
/// host, agent, task and digest that it is for.
mod steps {
    use super::*;
    use crate::approval::step::What;
    use crate::operation::{Digest, Operation, Protocol};

    #[derive(Clone, Debug)]
    struct Try {
        op: u8,
        wrong: Option<u8>,
        at: Millis,
    }

    fn tries() -> impl Strategy<Value = Vec<Try>> {
        let one = (0u8..8, prop::option::weighted(0.3, 0u8..5), 0i64..40);
        prop::collection::vec(one.prop_map(|(op, wrong, at)| Try { op, wrong, at }), 1..40)
    }

    proptest! {
        #[test]
        fn are_never_overspent_nor_used_by_others(
            tries in tries(), uses in 1u32..5, scope_uses in 1u32..5,
        ) {
            let mut step = record(vec![rule("s", &[], 1, scope_uses)]);
            let mine = Digest([1; 32]);
            step.step = Some(StepOf {
                declared: Uuid::nil(),
                number: 1,
                task: "t".to_owned(),
                uses,
                what: What::Exact(mine.to_string()),
            });
            let mut step = vote(&step, "a", &[], true, 1).unwrap();
            let operation =
                Operation::new("t", "n", 1, Protocol::Http, "http.get", String::new());
            let mut spent = std::collections::BTreeSet::new();
            for Try { op, wrong, at } in tries {
                let digest = if wrong == Some(3) { Digest([2; 32]) } else { mine };
                let using = Using {
                    host: if wrong == Some(0) { "h2" } else { "h" },
                    agent: if wrong == Some(1) { "other" } else { "agent" },
                    task: if wrong == Some(2) { "" } else { "t" },
                    operation: &operation,
                    digest: &digest,
                };
                let seen = if wrong == Some(4) { "v1:bb" } else { DIGEST };
                let ids = (Uuid::from_u128(op.into()), Uuid::from_u128(99));
                match step.claim_step(ids, seen, &using, 2 + at) {
                    Claimed::New(next, _) => {
                        prop_assert!(wrong.is_none() && spent.insert(op));
                        step = *next;
                    }
                    Claimed::Again(_) => prop_assert!(wrong.is_none() && spent.contains(&op)),
                    Claimed::Refused(why) => {
                        prop_assert_eq!(wrong.is_some(), why == NotGranted::Mismatch);
                    }
                }
                prop_assert!(spent.len() <= uses.min(scope_uses) as usize);
                // Without saying what runs, nothing is ever claimed.
                let bare = step.claim(ids.0, DIGEST, ids.1, 2 + at);
                prop_assert_eq!(bare, Claimed::Refused(NotGranted::Mismatch));
            }
        }
    }
}
