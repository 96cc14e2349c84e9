//! A process that is killed in the middle of its work.

use super::model::{Act, DIGEST, Told, play};
use super::*;
use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::process::{Command as Process, Stdio};

/// Where the child below works.
const STORE: &str = "ENFORCER_TEST_STORE";

/// Asks, votes and claims until it is killed, and says what was answered; run by the test below.
#[test]
fn child_that_is_killed() {
    let Ok(word) = std::env::var(STORE) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(place::open(&word));
    let tell = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {line}").unwrap();
        out.flush().unwrap();
    };
    loop {
        let id = Uuid::now_v7();
        runtime.block_on(async {
            let asked = record(id.as_u128(), &id.to_string(), "a", DIGEST);
            store.ask(ask(asked), 0).await.unwrap();
            tell(format!("asked {id}"));
            let vote = Act::Vote { person: 1, approve: true };
            if let Told::Voted { .. } = play(Arc::clone(&store), id, vote, 1).await {
                tell(format!("voted {id}"));
            }
            let mut racers = tokio::task::JoinSet::new();
            for op in 0..8 {
                racers.spawn(play(Arc::clone(&store), id, Act::Claim { op }, 2));
            }
            while let Some(told) = racers.join_next().await {
                if let Told::Claimed { claim, .. } = told.unwrap() {
                    tell(format!("claimed {id} {claim}"));
                }
            }
        });
    }
}

#[rstest]
fn a_killed_process_loses_nothing_that_it_answered(
    #[values(Which::Rocks, Which::Postgres)] which: Which,
) {
    let place = Place::new(which);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lines: Vec<String> = Vec::new();
    for round in 0..12u64 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::store::conformance::killed::child_that_is_killed"])
            .arg("--nocapture")
            .env(STORE, place.word())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let before = lines.len();
        let mut line = String::new();
        // Killed in the middle of its work, at another place each time.
        while out.read_line(&mut line).unwrap() > 0 {
            // What is cut was not told whole, and counts as not told.
            if line.ends_with('\n') && line.contains("ack ") {
                lines.push(line.trim().to_owned());
            }
            line.clear();
            if lines.len() == before + 20 + 7 * usize::try_from(round).unwrap() {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(lines.len() > before, "the child did something");

        let store = runtime.block_on(place.open());
        runtime.block_on(async {
            verify(&*store).await;
            let mut claims = BTreeSet::new();
            for line in &lines {
                let words: Vec<&str> = line.split(' ').skip_while(|w| *w != "ack").collect();
                let id: Uuid = words[2].parse().unwrap();
                let kept = store.get(id).await.unwrap().expect("what was asked is kept");
                assert!(kept.uses.len() <= 1, "one use, spent {} times", kept.uses.len());
                match words[1] {
                    "asked" => {}
                    "voted" => assert_eq!(kept.votes.len(), 1, "a decision was lost"),
                    _ => {
                        assert!(claims.insert(id), "two claims of one use were granted");
                        assert_eq!(kept.uses[0].claim.to_string(), words[3], "another's use");
                    }
                }
            }
            assert!(!claims.is_empty());
        });
    }
}
