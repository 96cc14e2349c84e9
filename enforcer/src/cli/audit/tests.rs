//! Chains that hold and chains that do not.

use super::*;
use crate::server::audit::{Code, Entry, Head};

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

fn check(records: &[v1::AuditRecord], head: Option<Mark>) -> Result<String, String> {
    let mut check = Check::new(head);
    records.iter().try_for_each(|record| check.next(record)).map_err(|e| e.to_string())?;
    check.finish().map_err(|e| e.to_string())
}

#[test]
fn a_known_head_finds_a_chain_that_was_cut_or_made_anew() {
    let all = chain();
    let told = check(&all[..2], None).unwrap();
    let mark: Mark = told.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(mark.seq, 2);
    assert!(check(&all, Some(mark.clone())).unwrap().starts_with("3 records, the chain holds"));
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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let all = chain();
    let mut lines: Vec<String> = all.iter().map(stored).collect();
    let verify = |lines: &[String]| {
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut seen = Check::new(None);
        read(&path, |record| seen.next(record)).map_err(|e| e.to_string())?;
        Ok::<u64, String>(seen.mark().seq)
    };
    assert_eq!(verify(&lines), Ok(3));
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
