//! What is signed is what is taken, and nothing else.

use super::*;

fn key() -> (tempfile::TempDir, PolicyKey) {
    let dir = tempfile::tempdir().unwrap();
    let key = PolicyKey::open(&dir.path().join("policy.key")).unwrap();
    (dir, key)
}

fn empty() -> Files {
    ["targets.toml", "rules.cedar", "scopes.toml", "masks.toml"]
        .map(|file| (file.to_owned(), String::new()))
        .into()
}

fn signed(key: &PolicyKey, number: u64) -> v1::PolicyBundle {
    let bundle = Bundle::from_files(&empty()).unwrap();
    let statement = v1::PolicyStatement {
        number,
        digest: bundle.digest().to_vec(),
        version: bundle.version().to_owned(),
        ..v1::PolicyStatement::default()
    };
    v1::PolicyBundle { signed: Some(key.sign(&statement)), files: to_message(&empty()) }
}

#[test]
fn the_key_is_made_once_and_private() {
    let (dir, key) = key();
    let path = dir.path().join("policy.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(PolicyKey::open(&path).unwrap().public(), key.public());
    assert_eq!(PublicKey::parse(&key.public().to_hex()), Some(key.public()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(PolicyKey::open(&path).unwrap_err().to_string().contains("readable by others"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, b"short").unwrap();
    assert!(PolicyKey::open(&path).is_err());
}

#[test]
fn only_the_files_that_the_key_signed_are_taken() {
    let ((_dir, key), (_other_dir, other)) = (key(), key());
    let good = signed(&key, 3);
    let (statement, bundle) = key.public().bundle(&good).unwrap();
    assert_eq!((statement.number, statement.version.as_str()), (3, bundle.version()));

    assert!(matches!(other.public().bundle(&good), Err(Untrusted::Signature)), "another key");
    let mut changed = good.clone();
    changed.files[0].text.push('\n');
    assert!(matches!(key.public().bundle(&changed), Err(Untrusted::Digest)), "a changed file");
    let mut forged = good.clone();
    let statement = forged.signed.as_mut().unwrap();
    let last = statement.signature.len() - 1;
    statement.signature[last] ^= 1;
    assert!(matches!(key.public().bundle(&forged), Err(Untrusted::Signature)), "a signature");
    let mut forged = good.clone();
    let mut statement = key.public().statement(forged.signed.as_ref().unwrap()).unwrap();
    statement.number = 9;
    forged.signed.as_mut().unwrap().statement = statement.encode_to_vec();
    assert!(matches!(key.public().bundle(&forged), Err(Untrusted::Signature)), "a number");
    let missing = v1::PolicyBundle { signed: None, ..good };
    assert!(matches!(key.public().bundle(&missing), Err(Untrusted::Form(_))));
    let nothing = v1::PolicyStatement::default();
    assert!(matches!(key.public().statement(&key.sign(&nothing)), Err(Untrusted::Form(_))));
}

#[test]
fn a_confirmation_is_of_one_statement_and_is_no_statement() {
    let (_dir, key) = key();
    let (old, new) = (signed(&key, 1).signed.unwrap(), signed(&key, 2).signed.unwrap());
    let confirmed = key.confirm(&new, 77);
    assert_eq!(key.public().confirmed(&confirmed, &new).unwrap(), 77);
    assert!(matches!(key.public().confirmed(&confirmed, &old), Err(Untrusted::Other)));
    let mut later = confirmed.clone();
    let hash = statement_hash(&new).to_vec();
    later.confirmation =
        v1::PolicyConfirmation { statement_sha256: hash, unix_ms: 78 }.encode_to_vec();
    assert!(matches!(key.public().confirmed(&later, &new), Err(Untrusted::Signature)));
    // The same bytes and signature under the other name are nothing.
    let crossed = v1::SignedPolicy {
        statement: confirmed.confirmation.clone(),
        signature: confirmed.signature,
    };
    assert!(matches!(key.public().statement(&crossed), Err(Untrusted::Signature)));
}

#[test]
fn files_are_bounded_and_belong_to_a_bundle() {
    let file = |path: &str, text: &str| v1::PolicyFile { path: path.into(), text: text.into() };
    assert_eq!(files(&to_message(&empty())), Ok(empty()));
    assert!(files(&[file("tests/a.toml", "")]).is_ok());
    for bad in ["other.cedar", "tests/../rules.cedar", "tests/.a.toml", "tests/a/b.toml", "/x", ""]
    {
        assert!(files(&[file(bad, "")]).is_err(), "{bad}");
    }
    assert!(files(&[file("rules.cedar", ""), file("rules.cedar", "")]).is_err());
    let half = "x".repeat(MAX_BYTES / 2);
    assert!(files(&[file("rules.cedar", &half), file("masks.toml", &half)]).is_ok());
    let more = format!("{half}x");
    assert!(files(&[file("rules.cedar", &half), file("masks.toml", &more)]).is_err());
    let many: Vec<_> = (0..=MAX_FILES).map(|n| file(&format!("tests/{n}.toml"), "")).collect();
    assert!(files(&many).is_err());
    assert!(files(&many[1..]).is_ok());
}
