//! What is folded, and that nothing goes uncounted.

use super::*;
use crate::capture::CounterRow;
use crate::capture::fake::Fake;
use crate::config::{Resolver, Transcript};
use crate::principal::{AgentName, Principal, Process};
use crate::record::read::{Filter, Transcripts};
use crate::record::store_dir;
use std::path::Path;

fn principal(agent: &str) -> Principal {
    Principal {
        host: "host-a".into(),
        agent: AgentName::parse(agent).unwrap(),
        task: None,
        cgroup: format!("/agents.slice/{agent}"),
        process: Process::default(),
    }
}

fn refusal(agent: &str, hook: &'static str, to: &str) -> Refusal {
    Refusal {
        principal: Some(principal(agent)),
        boot_ns: crate::capture::boottime_ns(),
        hook,
        reason: "protocol",
        destination: Some(to.parse().unwrap()),
        protocol: 17,
        cookie: 0,
        detail: 0,
        unix_name: None,
        dropped: 0,
    }
}

struct Setup {
    dir: tempfile::TempDir,
    recorder: Recorder,
    capture: Arc<Capture>,
    names: Arc<Names>,
    refusals: Refusals,
    completeness: Arc<Completeness>,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&Transcript::default(), dir.path()).unwrap();
    let capture = Arc::new(Capture::Fake(Fake::default()));
    let resolver = Resolver::default();
    let names = Arc::new(Names::new(resolver.synthetic_v4, resolver.synthetic_v6, 10));
    let completeness = Arc::new(Completeness::new(Arc::clone(&capture), recorder.clone()));
    let refusals = Refusals::new(
        Arc::clone(&capture),
        recorder.clone(),
        Arc::clone(&names),
        Arc::clone(&completeness),
        "host-a",
        Vec::new(),
    );
    Setup { dir, recorder, capture, names, refusals, completeness }
}

/// The refusals in a store: count, destinations, and by which hook.
fn recorded(dir: &Path) -> Vec<v1::KernelRefusal> {
    let all = Transcripts::open(&store_dir(&Transcript::default(), dir)).unwrap();
    let mut found = Vec::new();
    all.flows(&Filter { denied: true, ..Filter::default() }, |flow| {
        all.events(flow.id, |event| {
            if let Some(v1::event::Kind::FlowStart(start)) = event.kind {
                found.extend(start.refusal);
            }
            Ok(true)
        })?;
        Ok(true)
    })
    .unwrap();
    found.reverse();
    found
}

#[tokio::test]
async fn refusals_alike_are_one_record_with_their_count() {
    let mut all = setup();
    for n in 0..1000 {
        // Other ports and addresses of the same kind are alike; another hook is not.
        let to = format!("192.0.2.{}:{}", n % 40, 1000 + n);
        all.refusals.take(refusal("a", "connect4", &to)).await;
    }
    all.refusals.take(refusal("a", "sendmsg4", "192.0.2.1:443")).await;
    all.refusals.take(refusal("b", "connect4", "192.0.2.1:443")).await;
    assert_eq!(recorded(all.dir.path()).iter().map(|r| r.count).collect::<Vec<_>>(), [1, 1, 1]);
    all.refusals.write_out(Duration::ZERO).await;
    let found = recorded(all.dir.path());
    assert_eq!(found.iter().map(|r| r.count).sum::<u64>(), 1002, "none goes uncounted");
    assert_eq!(found.len(), 4, "one more with the rest");
    let rest = &found[3];
    assert_eq!((rest.count, rest.destinations.len()), (999, DESTINATIONS));
    assert!(rest.first_unix_ns > 0 && rest.first_unix_ns <= rest.last_unix_ns);
    all.recorder.shutdown().await;
}

#[tokio::test]
async fn what_waits_is_written_at_the_end() {
    let all = setup();
    let Capture::Fake(fake) = &*all.capture else { unreachable!() };
    for _ in 0..50 {
        fake.refuse(refusal("a", "connect4", "192.0.2.1:443"));
    }
    let stop = CancellationToken::new();
    let work = tokio::spawn(all.refusals.run(stop.clone()));
    while all.completeness.lines().first().is_none_or(|line| line.recorded < 50) {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    work.await.unwrap();
    assert_eq!(recorded(all.dir.path()).iter().map(|r| r.count).sum::<u64>(), 50);
    all.recorder.shutdown().await;
}

#[tokio::test]
async fn a_stand_in_is_shown_as_the_name_it_stands_for() {
    let mut all = setup();
    let agent = AgentName::parse("a").unwrap();
    let name = crate::protocol::dns::names::Name::parse("api.test").unwrap();
    let family = crate::protocol::dns::names::Family::V4;
    let ip = all.names.assign(&agent, &name, family).unwrap();
    all.refusals.take(refusal("a", "connect4", &format!("{ip}:443"))).await;
    assert_eq!(recorded(all.dir.path())[0].destinations, ["api.test:443"]);
    let store = Transcripts::open(&store_dir(&Transcript::default(), all.dir.path())).unwrap();
    let mut found = String::new();
    store
        .flows(&Filter::default(), |flow| {
            found = flow.record.name;
            Ok(true)
        })
        .unwrap();
    assert_eq!(found, "api.test");
    all.recorder.shutdown().await;
}

#[tokio::test]
async fn what_only_the_kernel_counted_gets_a_record_with_its_count() {
    let mut all = setup();
    let Capture::Fake(fake) = &*all.capture else { unreachable!() };
    fake.count(vec![CounterRow {
        agent: AgentName::parse("a"),
        redirected: 5,
        unconnected: 0,
        dns: 0,
        refused: [("protocol", 30)].into(),
    }]);
    all.refusals.take(refusal("a", "connect4", "192.0.2.1:443")).await;
    all.refusals.write_counted().await;
    assert_eq!(recorded(all.dir.path()).len(), 1, "it may still be on its way");
    all.refusals.write_counted().await;
    all.refusals.write_counted().await;
    let found = recorded(all.dir.path());
    assert_eq!(found.iter().map(|r| r.count).sum::<u64>(), 30);
    assert_eq!((found.len(), found[1].hook.as_str()), (2, COUNTED));
    let lines = all.completeness.lines();
    let unexplained: Vec<_> = lines.iter().map(|l| (l.what.as_str(), l.unexplained())).collect();
    assert_eq!(unexplained, [("protocol", 0), (REDIRECTED, 5)], "a redirect is never made up for");
    all.recorder.shutdown().await;
}
