//! Statements by their exact text, or by its shape. They are a pure function of it, so an entry is
//! never stale.

use super::read::{Unreadable, read};
use super::shape::Shape;
use super::statement::Statement;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Texts in each of the two generations.
const TEXTS: usize = 1024;
/// A longer text is read each time: it is rarely sent twice, and its tree is large.
const LONGEST: usize = 4096;

/// Keeps what was read of the texts used last; at most 2 x 1024 of at most 4 KiB. Texts of one
/// [`Shape`] count as one.
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
        // No text is the key of a shape, but itself of one: where `0` stands for all integers.
        let shape = Shape::of(sql);
        let key = shape.as_ref().map_or(sql, |shape| &shape.key);
        if let Some(found) = self.lock().find(key) {
            return Ok(match shape {
                Some(shape) if found.iter().any(|one| one.text != shape.text) => {
                    let one =
                        |one: &Statement| Statement { text: shape.text.to_owned(), ..one.clone() };
                    found.iter().map(one).collect()
                }
                _ => found,
            });
        }
        let statements = read(sql)?;
        // Not of those that share a shape: such a text is read each time.
        if shape.as_ref().is_none_or(|shape| shape.fits(&statements)) {
            let recurs = statements.iter().map(|one| Statement { recurs: true, ..one.clone() });
            self.lock().keep(key, recurs.collect());
        }
        Ok(statements.into())
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
        assert!(!first[0].recurs);
        for n in 0..TEXTS + 10 {
            cache.read(&format!("SELECT {n} AS other")).unwrap();
            let again = cache.read("SELECT 1").unwrap();
            assert!(again[0].recurs && again[0].reading() == first[0].reading());
        }
        let held = cache.lock();
        assert!(held.young.len() <= TEXTS && held.old.len() <= TEXTS);
        assert!(!held.young.contains_key("SELECT 0 AS other"));
    }

    #[test]
    fn texts_of_one_shape_are_read_once_and_keep_their_text() {
        let cache = Cache::default();
        let first = cache.read("SELECT a FROM t WHERE b = 1;").unwrap();
        let other = cache.read(" SELECT a FROM t WHERE b = 22 ; ").unwrap();
        assert_eq!(first[0].reading(), other[0].reading());
        assert_eq!(
            [&first[0].text, &other[0].text],
            ["SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 22"]
        );
        let again = cache.read("SELECT a FROM t WHERE b = 1").unwrap();
        assert_eq!(again[0].text, first[0].text);
        // What is no query or change of rows is read each time.
        let one = cache.read("SET work_mem = 1000").unwrap();
        let other = cache.read("SET work_mem = 2000").unwrap();
        assert_ne!(one[0].reading(), other[0].reading());
        let (one, other) = (&one[0].effect, &other[0].effect);
        assert_ne!(one, other);
    }

    #[test]
    fn what_differs_in_a_byte_is_another_text() {
        let cache = Cache::default();
        assert_eq!(cache.read("SELECT 1").unwrap()[0].text, "SELECT 1");
        assert_eq!(cache.read("select 1").unwrap()[0].text, "select 1");
        assert!(cache.read("SELEC").is_err());
    }
}
