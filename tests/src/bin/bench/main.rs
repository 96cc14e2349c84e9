//! Benches with real servers and clients, in one run and in turns; they print ratios. `postgres`: the
//! way through the gate, on the real kernel, beside the direct way and what else people put there.
//! `approvals`: the approval server with many hosts connected, beside the same with one.
//!
//! `cargo xtask bench` builds it, and the product, as they are released, and runs it.
#![expect(clippy::print_stdout, reason = "figures are for a person")]

mod approvals;
mod measure;
mod postgres;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut plan = measure::Plan::default();
    let mut what: fn(&measure::Plan) = postgres::run;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let number = match word.as_str() {
            "postgres" => {
                what = postgres::run;
                continue;
            }
            "approvals" => {
                what = approvals::run;
                continue;
            }
            "--hosts" => &mut plan.hosts,
            "--rounds" => &mut plan.rounds,
            "--seconds" => &mut plan.seconds,
            _ => return usage(),
        };
        match rest.next().and_then(|said| said.parse().ok()) {
            Some(said) if said > 0 => *number = said,
            _ => return usage(),
        }
    }
    if cfg!(debug_assertions) {
        println!("NOTE: this is a debug build; its figures say nothing about the product");
    }
    what(&plan);
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("usage: bench [postgres] [--rounds N] [--seconds N]");
    println!("       bench approvals [--hosts N] [--rounds N] [--seconds N]");
    ExitCode::from(2)
}
