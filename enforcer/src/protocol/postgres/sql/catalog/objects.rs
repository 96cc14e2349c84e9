//! Objects of one kind, by oid and by name, in pieces that snapshots share.

use super::stamp::{BUCKETS, bucket};
use std::collections::HashMap;
use std::sync::Arc;

/// What has an oid and a name.
pub(super) trait Object {
    fn oid(&self) -> u32;
    fn name(&self) -> &Arc<str>;
}

/// Pieces of the index by name.
const SHELVES: usize = 64;

/// Objects by oid, in the buckets of a [`Stamp`](super::Stamp), and by name. A copy shares all of
/// it, and what is replaced in the copy is new in no more than the pieces that it is in.
#[derive(Debug, PartialEq)]
pub(super) struct Objects<T> {
    buckets: Vec<Arc<Bucket<T>>>,
    names: Vec<Arc<Names<T>>>,
}

/// The objects of a bucket by their oids.
pub(super) type Bucket<T> = HashMap<u32, Arc<T>>;

/// Objects by their names, in the order of their oids.
type Names<T> = HashMap<Arc<str>, Vec<Arc<T>>>;

impl<T> Clone for Objects<T> {
    fn clone(&self) -> Self {
        Self { buckets: self.buckets.clone(), names: self.names.clone() }
    }
}

impl<T> Default for Objects<T> {
    /// None, without the pieces: they come with the first.
    fn default() -> Self {
        Self { buckets: Vec::new(), names: Vec::new() }
    }
}

impl<T: Object> Objects<T> {
    /// The object with this oid.
    pub(super) fn get(&self, oid: u32) -> Option<&Arc<T>> {
        self.bucket(bucket(oid))?.get(&oid)
    }

    /// Those of this name, in the order of their oids.
    pub(super) fn named(&self, name: &str) -> &[Arc<T>] {
        let shelf = self.names.get(shelf(name));
        shelf.and_then(|shelf| shelf.get(name)).map_or(&[], Vec::as_slice)
    }

    /// All of a bucket.
    pub(super) fn bucket(&self, at: usize) -> Option<&Bucket<T>> {
        self.buckets.get(at).map(|bucket| &**bucket)
    }

    /// All, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.buckets.iter().flat_map(|bucket| bucket.values())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.len()).sum()
    }
}

impl<T: Object + PartialEq> Objects<T> {
    /// Makes these the objects of the bucket, in place of those that it has. One that is equal to
    /// the one before is kept as it was.
    pub(super) fn replace(&mut self, at: usize, objects: impl IntoIterator<Item = T>) {
        self.buckets.resize_with(BUCKETS, Arc::default);
        self.names.resize_with(SHELVES, Arc::default);
        let Some(place) = self.buckets.get_mut(at) else { return };
        let before = std::mem::take(place);
        let mut now = HashMap::new();
        let mut new = Vec::new();
        for object in objects {
            let object = match before.get(&object.oid()) {
                Some(same) if **same == object => Arc::clone(same),
                _ => {
                    let object = Arc::new(object);
                    new.push(Arc::clone(&object));
                    object
                }
            };
            now.insert(object.oid(), object);
        }
        let gone = |(oid, had): &(&u32, &Arc<T>)| {
            now.get(oid).is_none_or(|has: &Arc<T>| !Arc::ptr_eq(has, had))
        };
        for (oid, had) in before.iter().filter(gone) {
            self.unname(had.name(), *oid);
        }
        if let Some(place) = self.buckets.get_mut(at) {
            *place = Arc::new(now);
        }
        for object in new {
            self.name(object);
        }
    }

    /// As [`Objects::replace`], of no more than these: the others of the bucket stay.
    pub(super) fn change(&mut self, at: usize, objects: Vec<T>)
    where
        T: Clone,
    {
        let new = |oid: u32| objects.iter().any(|object| object.oid() == oid);
        let had = self.bucket(at).into_iter().flat_map(HashMap::values);
        let stay = had.filter(|object| !new(object.oid())).map(|object| T::clone(object));
        let all: Vec<T> = stay.collect();
        self.replace(at, all.into_iter().chain(objects));
    }

    fn name(&mut self, object: Arc<T>) {
        if let Some(names) = self.names.get_mut(shelf(object.name())) {
            let list = Arc::make_mut(names).entry(Arc::clone(object.name())).or_default();
            let at = list.partition_point(|other| other.oid() < object.oid());
            list.insert(at, object);
        }
    }

    fn unname(&mut self, name: &str, oid: u32) {
        let Some(names) = self.names.get_mut(shelf(name)).map(Arc::make_mut) else { return };
        if let Some(list) = names.get_mut(name) {
            list.retain(|object| object.oid() != oid);
            if list.is_empty() {
                names.remove(name);
            }
        }
    }
}

#[cfg(test)]
impl<T: Object + PartialEq + std::fmt::Debug> Objects<T> {
    /// What is not the same in both.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let mut oids: Vec<u32> = self.iter().chain(other.iter()).map(|one| one.oid()).collect();
        oids.sort_unstable();
        oids.dedup();
        let pairs = oids.into_iter().map(|oid| (self.get(oid), other.get(oid)));
        let differ = pairs.filter(|(one, other)| one != other);
        differ.map(|(one, other)| format!("{one:?}, not {other:?}")).collect()
    }
}

/// The piece of the index that a name is in.
fn shelf(name: &str) -> usize {
    let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % SHELVES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing(u32, Arc<str>);

    impl Object for Thing {
        fn oid(&self) -> u32 {
            self.0
        }

        fn name(&self) -> &Arc<str> {
            &self.1
        }
    }

    fn things(all: &[(u32, &str)]) -> Vec<Thing> {
        all.iter().map(|(oid, name)| Thing(*oid, Arc::from(*name))).collect()
    }

    #[test]
    fn a_copy_with_other_buckets_shares_the_rest() {
        let mut first = Objects::default();
        assert!(first.get(7).is_none() && first.named("a").is_empty());
        first.replace(bucket(7), things(&[(7, "a"), (8, "b")]));
        let others = [(20_000, "a"), (20_001, "c")];
        first.replace(bucket(20_000), things(&others));
        let mut second = first.clone();
        second.replace(bucket(20_000), things(&[(20_000, "d"), (20_001, "c")]));
        let names = |of: &Objects<Thing>, name: &str| -> Vec<u32> {
            of.named(name).iter().map(|thing| thing.0).collect()
        };
        assert_eq!((names(&first, "a"), names(&second, "a")), (vec![7, 20_000], vec![7]));
        assert_eq!((names(&first, "d"), names(&second, "d")), (vec![], vec![20_000]));
        assert!(Arc::ptr_eq(first.get(20_001).unwrap(), second.get(20_001).unwrap()));
        assert_eq!((first.len(), second.len(), second.iter().count()), (4, 4, 4));
        // Back again it is as the first, whatever was there between.
        second.replace(bucket(20_000), things(&[]));
        assert_eq!((second.len(), names(&second, "c")), (2, vec![]));
        assert_ne!(first, second);
        second.replace(bucket(20_000), things(&others));
        assert_eq!(first, second);
    }
}
