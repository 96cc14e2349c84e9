//! Which target a name or an address means.
//!
//! The most specific pattern decides: an exact name before any wildcard, a
//! longer suffix before a shorter, a longer address prefix before a shorter.
//! When the port is not one of that pattern's targets there is no target; a less
//! specific pattern is never asked instead, because its author did not think of
//! this name.

use super::target::{NamePattern, Target};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Names and addresses of all targets, as positions in their list.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
    /// Longest prefix first.
    blocks: Vec<(IpNet, Vec<usize>)>,
}

impl Index {
    pub(super) fn new(targets: &[Target]) -> Self {
        let mut index = Self::default();
        for (at, target) in targets.iter().enumerate() {
            for pattern in &target.names {
                let (map, name) = match pattern {
                    NamePattern::Exact(name) => (&mut index.exact, name),
                    NamePattern::Below(suffix) => (&mut index.below, suffix),
                };
                map.entry(name.clone()).or_default().push(at);
            }
            for block in &target.addresses {
                match index.blocks.iter_mut().find(|(net, _)| net == block) {
                    Some((_, all)) => all.push(at),
                    None => index.blocks.push((*block, vec![at])),
                }
            }
        }
        index.blocks.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        index
    }

    /// The targets that the most specific pattern for `name` belongs to.
    pub(super) fn by_name(&self, name: &str) -> &[usize] {
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(all) = self.exact.get(name) {
            return all;
        }
        let mut rest = name;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(all) = self.below.get(suffix) {
                return all;
            }
            rest = suffix;
        }
        &[]
    }

    /// The targets that the longest block around `ip` belongs to.
    pub(super) fn by_address(&self, ip: IpAddr) -> &[usize] {
        let ip = ip.to_canonical();
        self.blocks.iter().find(|(net, _)| net.contains(&ip)).map_or(&[], |(_, all)| all)
    }
}
