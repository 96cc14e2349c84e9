//! A wall clock that is stepped under a running server.

use super::*;
use crate::server::clock::{BOUND, SETTLE};

/// A server whose monotonic and wall clock are in the test's hands.
struct Stepped {
    harness: Harness,
    clocks: Arc<[AtomicI64; 2]>,
}

impl Stepped {
    async fn start() -> Self {
        let mut harness = Harness::start().await;
        harness.stop().await;
        let clocks = Arc::new([AtomicI64::new(0), AtomicI64::new(wall())]);
        harness.run_by(Clock::test(Arc::clone(&clocks), 0)).await;
        Self { harness, clocks }
    }

    fn step(&self, by: Millis) {
        self.clocks[1].fetch_add(by, Ordering::Relaxed);
    }

    /// Both clocks go on, and the server looks.
    async fn pass(&self, ms: Millis) {
        for clock in self.clocks.iter() {
            clock.fetch_add(ms, Ordering::Relaxed);
        }
        self.harness.server().core().expiry.look();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn noticed(&self, code: &str, times: usize) {
        for _ in 0..100 {
            if self.harness.audited(code).await.len() == times {
                return;
            }
            self.harness.server().core().expiry.look();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{code} was not put on record {times} times");
    }
}

#[tokio::test]
async fn a_jump_forward_grants_nothing_and_the_right_time_brings_it_all_back() {
    let all = Stepped::start().await;
    let mut daemon = all.harness.daemon("h1").await;
    let mut ops = all.harness.reviewer("ann", &["ops"]).await;
    let granted = daemon.request(wire("h1", "/1")).await.unwrap().into_inner();
    let waiting = daemon.request(wire("h1", "/2")).await.unwrap().into_inner();
    let (one, two) = (granted.request.unwrap().digest, waiting.request.unwrap().digest);
    ops.decide(vote(&granted.id, &one, true)).await.unwrap();

    all.step(365 * 86_400_000);
    all.noticed("clock.doubted", 1).await;
    let refused = [
        daemon.claim(claim(&granted.id, &one)).await.unwrap_err(),
        ops.decide(vote(&waiting.id, &two, true)).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("clock was stepped"), "{}", status.message());
    }
    let token = all.harness.token(Role::Daemon, "h2", &[]).await;
    let dir = all.harness.identity_dir(Role::Daemon, "h2");
    let late = join::join(&all.harness.url(), &token, &dir).await;
    assert!(matches!(late, Err(join::JoinError::Unreachable(_))), "{late:?}");

    all.step(-365 * 86_400_000);
    all.noticed("clock.restored", 1).await;
    // Nothing expired, and nothing sticks: also not over a restart.
    assert!(daemon.claim(claim(&granted.id, &one)).await.unwrap().into_inner().granted);
    ops.decide(vote(&waiting.id, &two, true)).await.unwrap();
    join::join(&all.harness.url(), &token, &dir).await.unwrap();
    assert!(all.harness.server().core().store.last_time() < wall() + BOUND);
    // A grant's time runs on all the while, by the monotonic clock.
    all.step(365 * 86_400_000);
    all.pass(31_000).await;
    all.step(-365 * 86_400_000);
    all.noticed("clock.restored", 2).await;
    let over = daemon.claim(claim(&waiting.id, &two)).await.unwrap().into_inner();
    assert_eq!((over.granted, over.reason.as_str()), (false, "expired"));
}

#[tokio::test]
async fn a_time_that_stays_is_believed_and_put_back_it_ends_what_was_timed_by_the_old_one() {
    let all = Stepped::start().await;
    let mut daemon = all.harness.daemon("h1").await;
    let mut ops = all.harness.reviewer("ann", &["ops"]).await;
    let old = all.harness.token(Role::Daemon, "h2", &[]).await;
    let mut long = ask("h1", "/1", vec![scope("s", &["ops"], 1, 1)]);
    long.scopes[0].grant_ttl = Duration::from_secs(3600);
    let asked = daemon.request(convert::request(long)).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    ops.decide(vote(&asked.id, &digest, true)).await.unwrap();

    all.step(-600_000);
    all.noticed("clock.doubted", 1).await;
    all.pass(SETTLE).await;
    all.noticed("clock.believed", 1).await;
    let refused = daemon.claim(claim(&asked.id, &digest)).await.unwrap().into_inner();
    assert_eq!((refused.granted, refused.reason.as_str()), (false, "expired"));
    let dir = all.harness.identity_dir(Role::Daemon, "h2");
    let spoiled = join::join(&all.harness.url(), &old, &dir).await;
    assert!(matches!(spoiled, Err(join::JoinError::Refused(_))), "{spoiled:?}");
    // And everything works in the new time.
    let asked = daemon.request(wire("h1", "/2")).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    ops.decide(vote(&asked.id, &digest, true)).await.unwrap();
    assert!(daemon.claim(claim(&asked.id, &digest)).await.unwrap().into_inner().granted);
}
