//! Two approval servers over one PostgreSQL: the daemon at one, the reviewer at the other.

use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::postgres::{DATABASE, Postgres};
use enforcer_tests::servers::Pki;
use enforcer_tests::world::World;
use std::process::Stdio;

const PAY: &str = "https://api.test:8443/payments";

#[test]
fn what_is_decided_at_one_server_goes_on_at_the_other() {
    let world = World::new();
    let pki = Pki::new(world.dir());
    let postgres = Postgres::start(&world, &pki, &["db.test"]);
    let socket = postgres.socket();
    let store = format!(
        "[store]\npostgres = \"postgres://postgres@/{DATABASE}?host={}\"\n",
        socket.parent().expect("in a directory").display()
    );
    let all = Fixture::start_in(world, pki, "", &store);
    let (replica, url) = all.deployment.start_replica(&all.world);
    for (verb, reason, code) in [("approve", "invoice 1", " 200"), ("deny", "once only", " 403")] {
        let held = all
            .deployment
            .agent("probe", "curl")
            .args(["-sS", "-m", "100", "-w", " %{http_code}", "-d", "amount=100", PAY])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let asked = all.deployment.pending("/payments");
        let id = asked["id"].as_str().expect("an id");
        let paid = all.origin.seen().len();
        let mut args = vec![verb, id, "--reason", reason, "--server", &url];
        args.extend((verb == "approve").then_some("--yes"));
        let out = all.deployment.review("alice", &args);
        assert!(out.status.success(), "{}", text(&out));
        let out = text(&held.wait_with_output().expect("ends"));
        assert!(out.ends_with(code), "{out}");
        let more = usize::from(verb == "approve");
        assert_eq!(all.origin.seen().len(), paid + more);
    }
    let granted = "SELECT count(*) FROM enforcer.audit \
                   WHERE position('grant.claimed'::bytea IN value) > 0";
    assert_eq!(postgres.admin(DATABASE, granted), "1");
    // One that dies takes nothing with it.
    drop(replica);
    let out = all.deployment.review("alice", &["list", "--json", "--server", &url]);
    assert!(!out.status.success(), "it is gone");
    let out = all.deployment.review("alice", &["list", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    all.verify();
}
