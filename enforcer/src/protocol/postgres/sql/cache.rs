//! Statements by their exact text. They are a pure function of it, so an entry is never stale.

use super::read::{Unreadable, read};
use super::statement::Statement;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Texts in each of the two generations.
const TEXTS: usize = 1024;
/// A longer text is read each time: it is rarely sent twice, and its tree is large.
const LONGEST: usize = 4096;

/// Keeps what was read of the texts used last; at most 2 x 1024 of at most 4 KiB.
#[derive(Default)]
pub struct Cache(Mutex<Generations>);

/// What was read of one query string.
type Statements = Arc<[Statement]>;

#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Statements>,
    old: HashMap<Box<str>, Statements>,
}

impl Cache {
    /// As [`read`]; a text that was read lately is not read again.
    ///
    /// # Errors
    /// As [`read`]; errors are not kept.
    pub fn read(&self, sql: &str) -> Result<Arc<[Statement]>, Unreadable> {
        if sql.len() > LONGEST {
            return read(sql).map(Arc::from);
        }
        if let Some(found) = self.lock().find(sql) {
            return Ok(found);
        }
        let statements: Arc<[Statement]> = read(sql)?.into();
        self.lock().keep(sql, Arc::clone(&statements));
        Ok(statements)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&mut self, sql: &str) -> Option<Statements> {
        if let Some(found) = self.young.get(sql) {
            return Some(Arc::clone(found));
        }
        let (text, found) = self.old.remove_entry(sql)?;
        self.keep(&text, Arc::clone(&found));
        Some(found)
    }

    fn keep(&mut self, sql: &str, statements: Statements) {
        if self.young.len() >= TEXTS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(sql.into(), statements);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_used_again_stays_and_others_go() {
        let cache = Cache::default();
        let first = cache.read("SELECT 1").unwrap();
        for n in 0..TEXTS + 10 {
            cache.read(&format!("SELECT {n} AS other")).unwrap();
            assert!(Arc::ptr_eq(&first, &cache.read("SELECT 1").unwrap()));
        }
        let held = cache.lock();
        assert!(held.young.len() <= TEXTS && held.old.len() <= TEXTS);
        assert!(!held.young.contains_key("SELECT 0 AS other"));
    }

    #[test]
    fn what_differs_in_a_byte_is_another_text() {
        let cache = Cache::default();
        assert_eq!(cache.read("SELECT 1").unwrap()[0].text, "SELECT 1");
        assert_eq!(cache.read("select 1").unwrap()[0].text, "select 1");
        assert!(cache.read("SELEC").is_err());
    }
}
