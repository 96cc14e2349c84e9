//! The programs that see the name of a unix socket and nothing else
//! (`cgroup/connect_unix`, `sendmsg_unix`; Linux 6.7). The loader library knows
//! neither hook nor calls of kernel functions, so they are loaded here.

use super::btf::KernelTypes;
use super::loader::OBJECT;
use super::pins::Pins;
use super::sys;
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use enforcer_common::kernel::CAST_TO_KERNEL;
use enforcer_common::names::MAPS;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// A call instruction (`BPF_JMP | BPF_CALL`).
const CALL: u8 = 0x85;
/// Its source register says what is called: another function of the program, or the kernel's.
const HELPER: u8 = 0;
const KERNEL_FUNCTION: u8 = 2;

/// Loads one of the two; the error says why this kernel does not take it.
pub(super) fn load(
    name: &str,
    attach_type: u32,
    types: &KernelTypes,
    pins: &Pins,
) -> Result<OwnedFd, String> {
    let cast = types
        .function("bpf_cast_to_kern_ctx")
        .filter(|_| types.field("bpf_sock_addr_kern", "uaddrlen").is_some())
        .ok_or("hooks on unix sockets need Linux 6.7")?;
    // The maps stay open until the kernel has the program.
    let maps = open_maps(pins)?;
    let mut instructions = linked(name, &maps)?;
    for call in instructions.iter_mut().filter(|i| i.code == CALL && i.imm == CAST_TO_KERNEL) {
        if call.src_reg() == HELPER {
            call.set_src_reg(KERNEL_FUNCTION);
            call.imm = cast.cast_signed();
        }
    }
    sys::load_sock_addr(name, &instructions, attach_type)
        .map_err(|error| format!("loading {name}: {error}"))
}

fn open_maps(pins: &Pins) -> Result<HashMap<&'static str, OwnedFd>, String> {
    let open = |name| {
        let fd =
            sys::pinned(&pins.maps().join(name)).map_err(|e| format!("the map {name}: {e}"))?;
        Ok((name, fd))
    };
    MAPS.into_iter().map(open).collect()
}

/// The instructions of a program, with the maps in their places.
fn linked(name: &str, open: &HashMap<&'static str, OwnedFd>) -> Result<Vec<bpf_insn>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("the object's {name}: {error}");
    let mut object = Object::parse(OBJECT).map_err(|error| bad(&error))?;
    let program = object.programs.get(name).ok_or_else(|| bad(&"is not there"))?;
    let key = program.function_key();
    object.programs.retain(|known, _| known == name);
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut object.maps);
    let placed = maps.iter().filter_map(|(map, inner)| {
        Some((map.as_str(), open.get(map.as_str())?.as_fd().as_raw_fd(), inner))
    });
    object.relocate_maps(placed, &sections).map_err(|error| bad(&error))?;
    object.relocate_calls(&sections).map_err(|error| bad(&error))?;
    let function = object.functions.remove(&key).ok_or_else(|| bad(&"has no code"))?;
    Ok(function.instructions)
}
