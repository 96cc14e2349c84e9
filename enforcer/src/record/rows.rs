//! Rows of a column family, read one by one, also past damage.

use super::error::RecordError;
use super::store::Store;

/// A key and its value.
pub type Row<'a> = (&'a [u8], &'a [u8]);

/// Keys are looked for as numbers of at least this many bytes.
pub(super) const WIDTH: usize = 48;

/// Rows of a column family; damage is an error, not an early end.
pub struct Rows<'a> {
    store: &'a Store,
    iter: rocksdb::DBRawIterator<'a>,
    backwards: bool,
    /// The iterator stands on a row that was not given yet.
    fresh: bool,
    /// The key of the last row, or where it began.
    at: Vec<u8>,
    /// The last call was an error: the next goes on behind the damage.
    damaged: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        store: &'a Store,
        iter: rocksdb::DBRawIterator<'a>,
        backwards: bool,
        at: Vec<u8>,
    ) -> Self {
        Self { store, iter, backwards, fresh: true, at, damaged: false }
    }

    /// The next row; `None` at the end. Not an `Iterator`: rows borrow RocksDB's own memory.
    /// After an error the next call goes on with the first row behind the damage.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, RecordError> {
        if std::mem::take(&mut self.damaged) {
            if !self.pass() {
                return Ok(None);
            }
        } else if !self.fresh && self.iter.valid() {
            if self.backwards {
                self.iter.prev();
            } else {
                self.iter.next();
            }
        }
        self.fresh = false;
        if !self.iter.valid()
            && let Err(error) = self.iter.status()
        {
            self.damaged = true;
            return Err(self.store.error("read", &error));
        }
        if let Some(key) = self.iter.key() {
            self.at.clear();
            self.at.extend_from_slice(key);
        }
        Ok(self.iter.item())
    }

    /// The key of the last row that was given, or where reading began.
    pub fn at(&self) -> &[u8] {
        &self.at
    }

    /// Finds the next key from which on rows can be read; false when there is none.
    ///
    /// RocksDB does not say where the next good block begins, so keys are tried: steps that double
    /// until one can be read, then halves back to the first that can. Good rows between two damaged
    /// places that lie close to each other can be passed over with them.
    fn pass(&mut self) -> bool {
        let mut bad = self.at.clone();
        bad.resize(bad.len().max(WIDTH), if self.backwards { 0xff } else { 0 });
        let mut good = None;
        for bit in 0..bad.len() * 8 {
            let Some(key) = moved(&bad, bit, self.backwards) else { break };
            if self.reads(&key) {
                good = Some(key);
                break;
            }
            bad = key;
        }
        let Some(mut good) = good else { return false };
        while let Some(middle) = between(&bad, &good) {
            if self.reads(&middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        self.reads(&good)
    }

    fn reads(&mut self, key: &[u8]) -> bool {
        if self.backwards {
            self.iter.seek_for_prev(key);
        } else {
            self.iter.seek(key);
        }
        self.iter.valid() || self.iter.status().is_ok()
    }
}

/// The key 2^`bit` further on; `None` past the last or first.
fn moved(key: &[u8], bit: usize, backwards: bool) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    let mut at = key.len().checked_sub(1 + bit / 8)?;
    let mut carry = 1_u8 << (bit % 8);
    loop {
        let (sum, over) =
            if backwards { key[at].overflowing_sub(carry) } else { key[at].overflowing_add(carry) };
        key[at] = sum;
        if !over {
            return Some(key);
        }
        carry = 1;
        at = at.checked_sub(1)?;
    }
}

/// The key half way between two of one length; `None` when they are neighbours or the same.
fn between(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut sum = vec![0_u16; a.len()];
    let mut carry = 0;
    for (n, (a, b)) in a.iter().zip(b).enumerate().rev() {
        let all = u16::from(*a) + u16::from(*b) + carry;
        sum[n] = all & 0xff;
        carry = all >> 8;
    }
    let mut half = Vec::with_capacity(sum.len());
    for byte in sum {
        let all = carry << 8 | byte;
        half.push((all >> 1).to_be_bytes()[1]);
        carry = all & 1;
    }
    (half != a && half != b).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(key: &[u8]) -> u64 {
        u64::from_be_bytes(key.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn keys_move_and_halve_as_numbers_do(a in any::<u64>(), b in any::<u64>(), bit in 0..64_usize) {
            let key = a.to_be_bytes();
            let on = moved(&key, bit, false).map(|key| number(&key));
            prop_assert_eq!(on, a.checked_add(1 << bit));
            let back = moved(&key, bit, true).map(|key| number(&key));
            prop_assert_eq!(back, a.checked_sub(1 << bit));
            let half = ((u128::from(a) + u128::from(b)) / 2) as u64;
            let found = between(&key, &b.to_be_bytes()).map(|key| number(&key));
            prop_assert_eq!(found, (half != a && half != b).then_some(half));
        }
    }
}
