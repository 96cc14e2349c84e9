//! A task as a whole on the console: what its page shows, and what its form may decide.

use super::browser::{Browser, Page};
use super::console::{CONSOLE, phase, signed_in};
use super::tasks::{asks, patterned, task};
use super::*;

/// A declared task, its steps' approvals, and its page.
async fn declared(harness: &Harness, asks: &[Ask]) -> (Vec<v1::Approval>, String) {
    let (_, mut tasks) = harness.both("h1").await;
    let made = tasks.submit(task(asks)).await.unwrap().into_inner();
    let steps = made.steps.into_iter().map(|step| step.approval.unwrap()).collect();
    (steps, format!("/tasks/{}", made.id))
}

/// The form of a page with these steps ticked.
fn ticked(page: &Page, steps: &[u32], vote: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = [("vote", vote), ("reason", "CHG-7"), ("read", "yes")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    fields.extend(steps.iter().map(|step| (format!("step-{step}"), "yes".to_owned())));
    let hidden = (1..=32).flat_map(|n| [format!("digest-{n}"), format!("seen-{n}")]);
    for name in std::iter::once("csrf".to_owned()).chain(hidden) {
        fields.extend(page.hidden(&name).map(|value| (name.clone(), value.to_owned())));
    }
    fields
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn without(fields: &[(String, String)], name: &str) -> Vec<(String, String)> {
    fields.iter().filter(|(field, _)| field != name).cloned().collect()
}

async fn phases(harness: &Harness, steps: &[v1::Approval]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for step in steps {
        all.push(phase(harness, step).await);
    }
    all
}

#[tokio::test]
async fn one_step_several_or_none_are_decided_from_the_tasks_page() {
    let harness = Harness::start_with(CONSOLE).await;
    let (steps, at) = declared(&harness, &asks(&["/1", "/2", "/3"])).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let link = format!("href=\"{at}\"");
    assert!(ann.get("/").await.text.contains(&link), "from the queue");
    let one = ann.get(&format!("/approvals/{}", steps[1].id)).await;
    assert!(one.text.contains(&link), "from a step");
    let page = ann.get(&at).await;
    let place = |text: &str| page.text.find(text).unwrap_or_else(|| panic!("no {text}"));
    let order = ["pay the invoices", "Step 1 of 3", "Step 2 of 3", "Step 3 of 3"].map(place);
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(page.text.matches("The digest is that of exactly this").count(), 3);
    assert_eq!(page.text.matches("{&quot;sum&quot;:1}").count(), 3, "the bodies, whole");

    let decide = format!("{at}/decide");
    let second = ticked(&page, &[2], "approve");
    for (fields, status) in [
        (ticked(&page, &[], "approve"), 400),
        (ticked(&page, &[9], "approve"), 400),
        (ticked(&page, &[2], "maybe"), 400),
        (without(&second, "read"), 400),
        (without(&second, "seen-2"), 400),
        (without(&second, "digest-2"), 400),
        (without(&second, "csrf"), 403),
    ] {
        assert_eq!(ann.post(&decide, &pairs(&fields)).await.status, status, "{fields:?}");
    }
    assert_eq!(ann.post_from(&decide, &pairs(&second), "https://evil").await.status, 403);
    // One step's proof is not another's, and a digest is that of its own step.
    let swapped: Vec<_> = ticked(&page, &[1, 2], "approve")
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            "digest-1" | "seen-1" => (name.replace('1', "2"), value),
            "digest-2" | "seen-2" => (name.replace('2', "1"), value),
            _ => (name, value),
        })
        .collect();
    assert_eq!(ann.post(&decide, &pairs(&swapped)).await.status, 400);
    assert_eq!(phases(&harness, &steps).await, ["pending"; 3], "nothing was decided by any");

    let done = ann.post(&decide, &pairs(&second)).await;
    assert_eq!((done.status, done.header("location")), (303, at.as_str()), "{}", done.text);
    assert_eq!(phases(&harness, &steps).await, ["pending", "approved", "pending"]);
    // A form of before, with one more step than is open: nothing of it counts.
    let late = ticked(&page, &[1, 2], "deny");
    let refused = ann.post(&decide, &pairs(&late)).await;
    assert!(refused.status == 409 && refused.text.contains("step 2"), "{}", refused.text);
    assert_eq!(phases(&harness, &steps).await, ["pending", "approved", "pending"]);
    let page = ann.get(&at).await;
    assert!(page.hidden("digest-2").is_none() && page.hidden("digest-3").is_some());
    let both = ticked(&page, &[1, 3], "deny");
    assert_eq!(ann.post(&decide, &pairs(&both)).await.status, 303);
    assert_eq!(phases(&harness, &steps).await, ["denied", "approved", "denied"]);
    let votes = harness.audited("approval.voted").await;
    assert_eq!(votes.len(), 3);
    assert!(votes.iter().all(|vote| vote.actor == "reviewer/ann" && vote.detail.contains("CHG-7")));
}

#[tokio::test]
async fn a_tasks_page_is_for_who_may_see_it_and_shows_long_bodies_whole_before_they_are_approved() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut big = ask("h1", "/big", vec![patterned(5)]);
    big.operation = Operation::new(
        "api",
        "api.example",
        443,
        Protocol::Http,
        "http.post",
        "https://api/big".to_owned(),
    );
    big.operation.with_body(Bytes::from("x\n".repeat(20_000)));
    big.digest = big.operation.digest(&big.principal);
    let all = [asks(&["/1"]).remove(0), big];
    let (steps, at) = declared(&harness, &all).await;
    let decide = format!("{at}/decide");
    let mut eve = signed_in(&harness, Role::Reviewer, "eve", &["other"]).await;
    assert_eq!(eve.get(&at).await.status, 404);
    let mut vic = signed_in(&harness, Role::Viewer, "vic", &[]).await;
    let page = vic.get(&at).await;
    assert!(page.status == 200 && page.hidden("digest-1").is_none());
    assert!(!page.text.contains("Decide on step"));
    let csrf = page.hidden("csrf").unwrap().to_owned();
    let request = steps[0].request.clone().unwrap();
    let vote = [("csrf", csrf.as_str()), ("vote", "deny"), ("step-1", "yes")];
    let vote = [&vote[..], &[("digest-1", request.digest.as_str())]].concat();
    assert_eq!(vic.post(&decide, &vote).await.status, 403, "viewers have no vote");

    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let page = ann.get(&at).await;
    assert!(page.hidden("seen-1").is_some() && page.hidden("seen-2").is_none());
    assert!(page.text.contains(&format!("{at}?whole=1#body-2")));
    let fields = ticked(&page, &[1, 2], "approve");
    let refused = ann.post(&decide, &pairs(&fields)).await;
    assert!(refused.status == 400 && refused.text.contains("step 2"), "{}", refused.text);
    assert_eq!(phases(&harness, &steps).await, ["pending"; 2]);
    let page = ann.get(&format!("{at}?whole=1")).await;
    let fields = ticked(&page, &[1, 2], "approve");
    assert_eq!(ann.post(&decide, &pairs(&fields)).await.status, 303);
    assert_eq!(phases(&harness, &steps).await, ["approved"; 2]);
    let mut nobody = Browser::new(&harness);
    assert_eq!(nobody.get(&at).await.header("location"), format!("/signin?to={at}"));
    assert_eq!(ann.get("/tasks/x").await.status, 404);
}
