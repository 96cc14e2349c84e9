//! The Merkle tree of RFC 6962 section 2.1, as a frontier that grows by one leaf.
//!
//! Pure. The frontier holds the roots of the perfect subtrees from the left,
//! largest first; their sizes are the bits of the leaf count.

use super::chain::Hash;
use enforcer_proto::v1;
use sha2::{Digest as _, Sha256};

/// A tree of `size` leaves, without the leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

/// The hash of a leaf: SHA-256(0x00 || leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

impl Frontier {
    /// How many leaves were added.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut node = leaf_hash(leaf);
        // Each trailing one bit of the size is a subtree that is now complete on both sides.
        let mut rest = self.size;
        while rest & 1 == 1 {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
            rest >>= 1;
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The tree hash; of no leaves the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else {
            return Sha256::digest([]).into();
        };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// As stored.
    pub fn to_proto(&self) -> v1::Frontier {
        v1::Frontier {
            size: self.size,
            nodes: self.nodes.iter().map(|node| node.to_vec()).collect(),
        }
    }

    /// Reads a stored frontier; `None` when the nodes do not fit the size.
    pub fn from_proto(proto: &v1::Frontier) -> Option<Self> {
        let nodes = proto
            .nodes
            .iter()
            .map(|node| Hash::try_from(node.as_slice()).ok())
            .collect::<Option<Vec<_>>>()?;
        (nodes.len() == proto.size.count_ones() as usize)
            .then_some(Self { size: proto.size, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, by its own recursive definition.
    fn reference(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => leaf_hash(leaf),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&reference(&leaves[..split]), &reference(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_frontier_has_the_root_of_the_definition() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        for i in 0..70_u8 {
            assert_eq!(frontier.root(), reference(&leaves), "{i} leaves");
            assert_eq!(Frontier::from_proto(&frontier.to_proto()), Some(frontier.clone()));
            leaves.push(vec![i; usize::from(i) % 5]);
            frontier.push(&leaves[usize::from(i)]);
        }
    }

    /// Test vectors of the certificate-transparency project (`testdata`, tree of 8 leaves).
    #[test]
    fn known_answers() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        for (leaf, root) in leaves.iter().zip(roots) {
            frontier.push(&hex::decode(leaf).unwrap());
            assert_eq!(hex::encode(frontier.root()), root);
        }
    }

    #[test]
    fn a_frontier_that_does_not_fit_is_refused() {
        let bad = v1::Frontier { size: 3, nodes: vec![vec![0; 32]] };
        assert_eq!(Frontier::from_proto(&bad), None);
        let short = v1::Frontier { size: 1, nodes: vec![vec![0; 31]] };
        assert_eq!(Frontier::from_proto(&short), None);
    }
}
