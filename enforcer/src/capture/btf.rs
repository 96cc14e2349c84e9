//! The running kernel's own description of its types (BTF): where fields lie and
//! which number a function has. Only what the kernel half asks for; the kernel
//! half cannot ask itself, since rustc emits no relocations for kernel types.
//!
//! Format: Documentation/bpf/btf.rst.

use enforcer_common::kernel::Offsets;
use std::collections::HashMap;
use std::fs;

/// Where the kernel shows it.
const FILE: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Header, fixed part of a type, member of a structure: bytes.
const HEADER: usize = 24;
const TYPE: usize = 12;
const MEMBER: usize = 12;

/// `BTF_KIND_*`.
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

/// Anonymous structures are followed this deep.
const MAX_NESTING: u32 = 4;

/// One kernel's types.
pub(super) struct KernelTypes {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; type ids begin at 1.
    at: Vec<usize>,
    structures: HashMap<String, u32>,
    functions: HashMap<String, u32>,
}

impl KernelTypes {
    /// Reads the running kernel's.
    pub(super) fn of_this_kernel() -> Result<Self, String> {
        let bytes = fs::read(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        Self::parse(bytes).ok_or_else(|| format!("{FILE} cannot be read"))
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut types = Self {
            bytes,
            strings: 0,
            at: Vec::new(),
            structures: HashMap::new(),
            functions: HashMap::new(),
        };
        if types.u32_at(0)? & 0xffff != u32::from(MAGIC) {
            return None;
        }
        let header = types.u32_at(4)? as usize;
        if header < HEADER {
            return None;
        }
        let begin = header.checked_add(types.u32_at(8)? as usize)?;
        let end = begin.checked_add(types.u32_at(12)? as usize)?;
        types.strings = header.checked_add(types.u32_at(16)? as usize)?;
        let mut at = begin;
        while at < end {
            let (kind, count) = types.kind(at)?;
            types.at.push(at);
            let id = u32::try_from(types.at.len()).ok()?;
            // Only what is asked for: a kernel has a hundred thousand types, and each start of the
            // daemon reads them.
            if kind == STRUCT || kind == FUNC {
                let name = types.name(at)?;
                let table =
                    if kind == STRUCT { &mut types.structures } else { &mut types.functions };
                // The first of its name; later ones belong to single files.
                table.entry(name).or_insert(id);
            }
            at = at.checked_add(TYPE)?.checked_add(more(kind, count)?)?;
        }
        Some(types)
    }

    /// The number of a function of the kernel.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name).copied()
    }

    /// Byte offset of a field, also one of an anonymous member.
    pub(super) fn field(&self, structure: &str, field: &str) -> Option<u32> {
        let id = *self.structures.get(structure)?;
        self.field_of(id, field, MAX_NESTING)
    }

    fn field_of(&self, id: u32, field: &str, deeper: u32) -> Option<u32> {
        let at = *self.at.get(usize::try_from(id.checked_sub(1)?).ok()?)?;
        let (kind, count) = self.kind(at)?;
        if kind != STRUCT && kind != UNION {
            return None;
        }
        (0..count).find_map(|number| {
            let member = at + TYPE + number * MEMBER;
            let name = self.name(member)?;
            // The upper byte is a bit field's width in structures that have any.
            let offset = (self.u32_at(member + 8)? & 0x00ff_ffff) / 8;
            if name == field {
                return Some(offset);
            }
            if !name.is_empty() || deeper == 0 {
                return None;
            }
            Some(offset + self.field_of(self.u32_at(member + 4)?, field, deeper - 1)?)
        })
    }

    /// Kind and number of parts of the type at this place.
    fn kind(&self, at: usize) -> Option<(u32, usize)> {
        let info = self.u32_at(at + 4)?;
        Some(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }

    fn name(&self, at: usize) -> Option<String> {
        let from = self.strings.checked_add(self.u32_at(at)? as usize)?;
        let text = self.bytes.get(from..)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    /// Every place that the kernel half reads; the error names one that this kernel does not have.
    pub(super) fn offsets(&self) -> Result<Offsets, String> {
        let at = |structure: &str, field: &str| {
            self.field(structure, field)
                .ok_or_else(|| format!("this kernel has no {structure}.{field}"))
        };
        Ok(Offsets {
            file_mode: at("file", "f_mode")?,
            file_inode: at("file", "f_inode")?,
            file_private: at("file", "private_data")?,
            inode_mode: at("inode", "i_mode")?,
            inode_sb: at("inode", "i_sb")?,
            inode_private: at("inode", "i_private")?,
            sb_magic: at("super_block", "s_magic")?,
            // Renamed in Linux 6.15.
            kernfs_parent: at("kernfs_node", "__parent")
                .or_else(|_| at("kernfs_node", "parent"))?,
            kernfs_id: at("kernfs_node", "id")?,
            inode_number: at("inode", "i_ino")?,
            task_mm: at("task_struct", "mm")?,
            mm_exe: at("mm_struct", "exe_file")?,
            mm_stack: at("mm_struct", "start_stack")?,
            task_cgroups: at("task_struct", "cgroups")?,
            css_set_cgroup: at("css_set", "dfl_cgrp")?,
            cgroup_level: at("cgroup", "level")?,
            cgroup_kernfs: at("cgroup", "kn")?,
            cgroup_ancestors: at("cgroup", "ancestors")?,
            socket_sk: at("socket", "sk")?,
            sock_cgroup: at("sock", "sk_cgrp_data")?,
            unix_address: at("unix_sock", "addr")?,
            unix_address_len: at("unix_address", "len")?,
            unix_address_name: at("unix_address", "name")?,
            skb_data: at("sk_buff", "data")?,
            skb_len: at("sk_buff", "len")?,
            // Linux 6.7; without them no name can be read in the hooks that see names only.
            sock_addr_name: self.field("bpf_sock_addr_kern", "uaddr").unwrap_or(0),
            sock_addr_len: self.field("bpf_sock_addr_kern", "uaddrlen").unwrap_or(0),
            complete: 1,
        })
    }
}

/// Bytes behind the fixed part of a type.
fn more(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array; structures and unions; 64-bit enumerations; sections
        3 => 12,
        4 | 5 | 15 | 19 => 12 * count,
        // enumerations; prototypes
        6 | 13 => 8 * count,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description with `struct outer { int a; struct { long b; }; }` and the function `f`.
    fn small() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0f\0";
        let info = |kind: u32, count: u32| (kind << 24) | count;
        let words: [u32; 27] = [
            // 1: integer
            0,
            info(1, 0),
            4,
            32,
            // 2: anonymous structure with b
            0,
            info(STRUCT, 1),
            8,
            9,
            1,
            0,
            // 3: outer with a and the anonymous one at byte 8
            1,
            info(STRUCT, 2),
            16,
            7,
            1,
            0,
            0,
            2,
            64,
            // 4: a prototype; 5: f
            0,
            info(13, 0),
            0,
            11,
            info(FUNC, 0),
            4,
            // 6: a pointer
            0,
            info(2, 0),
        ];
        let mut types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        types.extend(1u32.to_ne_bytes());
        let mut all = u32::from(MAGIC).to_ne_bytes().to_vec();
        for word in [HEADER as u32, 0, types.len() as u32, types.len() as u32, strings.len() as u32]
        {
            all.extend(word.to_ne_bytes());
        }
        all.extend(types);
        all.extend(strings);
        all
    }

    #[test]
    fn fields_are_found_also_in_anonymous_members() {
        let types = KernelTypes::parse(small()).unwrap();
        assert_eq!(types.field("outer", "a"), Some(0));
        assert_eq!(types.field("outer", "b"), Some(8));
        assert_eq!(types.field("outer", "c"), None);
        assert_eq!(types.field("inner", "a"), None);
        assert_eq!((types.function("f"), types.function("g")), (Some(5), None));
        assert!(types.offsets().unwrap_err().contains("file.f_mode"));
    }

    #[test]
    fn damaged_descriptions_are_no_panic() {
        let whole = small();
        for end in 0..whole.len() {
            let _read_or_not =
                KernelTypes::parse(whole[..end].to_vec()).map(|types| types.field("outer", "b"));
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0xff;
            let _read_or_not = KernelTypes::parse(bad).map(|types| types.field("outer", "b"));
        }
    }
}
