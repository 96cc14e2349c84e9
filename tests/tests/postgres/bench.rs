//! pgbench through the gate: every way to send a statement, and balances that agree.

use crate::gate::{Gate, both};
use enforcer_tests::postgres::{DATABASE, bin};

#[test]
fn pgbench_completes_with_correct_balances() {
    let gate = Gate::start();
    let pgbench = |args: &[&str]| {
        let out = gate
            .agent("free", "db.test", bin().join("pgbench"))
            .args(args)
            .output()
            .expect("pgbench starts");
        assert!(out.status.success(), "{args:?}: {}", both(&out));
        both(&out)
    };
    pgbench(&["-i", "-q", "-s", "1"]);
    let accounts = gate.postgres.admin(DATABASE, "SELECT count(*) FROM pgbench_accounts");
    assert_eq!(accounts, "100000");
    let mut transactions = 0;
    for mode in ["simple", "extended", "prepared"] {
        let said = pgbench(&["-M", mode, "-c", "4", "-j", "2", "-t", "25", "-n"]);
        assert!(said.contains("number of transactions actually processed: 100/100"), "{said}");
        assert!(said.contains("number of failed transactions: 0"), "{said}");
        transactions += 100;
        let said = pgbench(&["-S", "-M", mode, "-c", "8", "-j", "2", "-t", "50", "-n"]);
        assert!(said.contains("number of transactions actually processed: 400/400"), "{said}");
    }
    let sums = gate.postgres.admin(
        DATABASE,
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT count(*) FROM pgbench_history)",
    );
    assert_eq!(sums, format!("t|t|t|{transactions}"));
    gate.verify();
}
