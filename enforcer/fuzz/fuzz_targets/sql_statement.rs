//! SQL: read or refused, and what is read is traced or refused, too, with no catalog at all.
#![no_main]

use enforcer::protocol::postgres::sql::{Catalog, effective_path, read, resolve, trace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|sql: &str| {
    let Ok(statements) = read(sql) else { return };
    let (catalog, path) = (Catalog::default(), effective_path(&[], "u", None));
    for statement in statements {
        // Each statement's text is in the string, and is read as the same alone.
        assert!(sql.contains(&statement.text));
        let again = read(&statement.text).expect("a statement's own text is read");
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].actions, statement.actions);
        assert_eq!(again[0].writes, statement.writes);
        assert!(!statement.actions.is_empty());
        let found = resolve(&statement, &catalog, &path);
        assert!(statement.actions.iter().all(|action| found.actions.contains(action)));
        let _ = trace(&statement, &catalog, &path);
    }
});
