//! Chains that hold and chains that do not.

use super::*;
use crate::server::audit::{Code, Entry, Head};
use serde_json::Value;

fn chain() -> Vec<v1::AuditRecord> {
    let mut head = Head::start();
    [Code::TokenCreated, Code::VoteRefused, Code::GlassBroken]
        .into_iter()
        .map(|code| {
            let entry = Entry::new(code, "reviewer/ann", "id", "a\n\"b\"");
            v1::AuditRecord::decode(&head.append(entry, 5).1[..]).unwrap()
        })
        .collect()
}

fn check(records: &[v1::AuditRecord], head: Option<Mark>) -> Result<Mark, String> {
    let checked = || {
        let mut check = Check::new(head)?;
        records.iter().try_for_each(|record| check.next(record))?;
        check.finish()
    };
    checked().map_err(|error| error.to_string())
}

/// Checks an export of these lines as the command does, on a machine with nothing else.
fn verify(lines: &[String], head: Option<Mark>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let command = Command::Verify { head, file: Some(path), json: true };
    let done = of_file(Some(&command)).expect("it needs no server");
    done.map_err(|error| format!("{error:#}"))
}

#[test]
fn a_known_head_finds_a_chain_that_was_cut_or_made_anew() {
    let all = chain();
    let mark = check(&all[..2], None).unwrap();
    assert_eq!(mark.seq, 2);
    assert_eq!(mark.to_string().parse(), Ok(mark.clone()));
    assert_eq!(check(&all, Some(mark.clone())).unwrap().seq, 3);
    // The head of no records, too.
    let start = check(&[], None).unwrap();
    assert_eq!(start.seq, 0);
    assert_eq!(check(&all, Some(start.clone())).unwrap().seq, 3);
    assert_eq!(check(&[], Some(start)).unwrap().seq, 0);
    let other = Mark { seq: 0, hash: "0".repeat(64) };
    assert!(check(&all, Some(other)).unwrap_err().contains("was rewritten"));
    assert!(check(&all[..1], Some(mark.clone())).unwrap_err().contains("was cut"));
    // Another history, whose chain holds by itself.
    let mut head = Head::start();
    let anew: Vec<_> = (0..3)
        .map(|n| head.append(Entry::new(Code::JoinAccepted, "x", n, ""), 5).1)
        .map(|stored| v1::AuditRecord::decode(&stored[..]).unwrap())
        .collect();
    assert!(check(&anew, None).is_ok());
    assert!(check(&anew, Some(mark)).unwrap_err().contains("was rewritten"));
    for bad in ["", "2", "x:00", "2:zz", "2:00"] {
        assert!(bad.parse::<Mark>().is_err(), "{bad}");
    }
}

#[test]
fn an_export_has_all_that_the_chain_needs() {
    let all = chain();
    let mut lines: Vec<String> = all.iter().map(stored).collect();
    let verify = |lines: &[String]| verify(lines, None);
    assert_eq!(verify(&lines), Ok(()));
    // Each line names the one before it, so that others need no protobuf to follow the chain.
    let field = |line: &str, key: &str| {
        serde_json::from_str::<Value>(line).unwrap()[key].as_str().unwrap().to_owned()
    };
    assert_eq!(field(&lines[0], "hash"), field(&lines[1], "prev"));
    lines[1] = lines[1].replace("ann", "bob");
    assert!(verify(&lines).unwrap_err().contains("audit.jsonl:2: the record's hash"));
    // With a hash that fits the line, the chain does not.
    let mut changed = all.clone();
    changed[1].actor = "reviewer/bob".to_owned();
    lines[1] = stored(&changed[1]);
    assert!(verify(&lines).unwrap_err().contains("broken at record 3"));
    lines[1] = "{}".to_owned();
    assert!(verify(&lines).unwrap_err().contains("audit.jsonl:2"));
}

#[test]
fn a_line_says_no_more_than_its_hash_covers() {
    let all = chain();
    let good: Vec<String> = all.iter().map(stored).collect();
    let with = |at: usize, line: String| {
        let mut lines = good.clone();
        lines[at] = line;
        verify(&lines, None)
    };
    assert_eq!(with(1, good[1].clone()), Ok(()));
    let first = good[1].strip_prefix('{').unwrap();
    for more in ["\"note\":\"looked at\",", "\"actor\":\"reviewer/bob\",", "\"a\\u001b[2J\":1,"] {
        let why = with(1, format!("{{{more}{first}")).unwrap_err();
        assert!(why.contains("audit.jsonl:2: no audit record"), "{why}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
    }
    let value: Value = serde_json::from_str(&good[1]).unwrap();
    let keys = ["seq", "unix_ms", "code", "actor", "subject", "detail", "prev", "hash"];
    let list: Vec<&Value> = keys.iter().map(|key| &value[key]).collect();
    let why = with(1, serde_json::to_string(&list).unwrap()).unwrap_err();
    assert!(why.contains("no JSON object"), "{why}");
    // An export of the later records is whole, but no chain from its start.
    let why = verify(&good[1..], None).unwrap_err();
    assert!(why.contains("does not start at the first record"), "{why}");
}

#[test]
fn what_is_printed_cannot_act_and_reads_back_the_same() {
    let mut head = Head::start();
    let hostile = "x\u{9b}31m\u{202e}\u{200b}\u{1b}[2J";
    let entry = Entry::new(Code::VoteRefused, hostile, hostile, hostile);
    let record = v1::AuditRecord::decode(&head.append(entry, 5).1[..]).unwrap();
    let line = stored(&record);
    for line in [&line, &text::json(&ocsf::event(&record)), &shown(&record)] {
        let acts = |c: char| c.is_control() || "\u{202e}\u{200b}".contains(c);
        assert!(!line.chars().any(acts), "{line:?}");
    }
    assert_eq!(parsed(&line).unwrap(), (record.clone(), hash_of(&record)));
    assert_eq!(verify(&[line], None), Ok(()));
}

#[test]
fn only_a_file_is_checked_without_a_server() {
    assert!(of_file(None).is_none());
    let stored = Command::Verify { head: None, file: None, json: false };
    assert!(of_file(Some(&stored)).is_none());
    let missing = Command::Verify { head: None, file: Some("/nowhere".into()), json: false };
    assert!(of_file(Some(&missing)).unwrap().is_err());
}
