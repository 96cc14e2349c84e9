use super::*;

#[test]
fn one_process_at_a_time_and_one_format() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path()).unwrap();
    assert!(matches!(Rocks::open(dir.path()), Err(StoreError::Locked(_))));
    let meta = store.db.family(META).unwrap();
    store.db.0.put_cf(meta, b"format", b"9").unwrap();
    drop(store);
    assert_eq!(Rocks::open(dir.path()).unwrap_err(), StoreError::Format("9".to_owned()));
}
