//! Loads the kernel half, attaches it to the governed roots and pins it; or takes
//! over what an earlier daemon has pinned, without a moment in which a root is
//! not guarded.

use super::cgroup::Root;
use super::error::CaptureError;
use super::flows::Tables;
use super::hooks::{PROGRAMS, Program, UNIX};
use super::layers::{Host, State, descriptors};
use super::pins::Pins;
use super::sys;
use crate::config::Kernel;
use aya::programs::Program as Loaded;
use aya::{Ebpf, EbpfLoader};
use enforcer_common::names::{FLOW_SLACK, FLOWS, SOCKETS};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

/// The object that the build made of `enforcer-ebpf`; empty when it was told to skip it.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-ebpf"));

/// A program that is attached: what [`super::Capture::verify_attached`] looks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    pub(super) program: Program,
    pub(super) id: u32,
}

/// What [`install`] made.
pub(super) struct Installed {
    pub(super) tables: Tables,
    /// Every program that is attached, those of the layers too.
    pub(super) attached: Vec<Attached>,
    /// Unix sockets, by owner or by name.
    pub(super) unix: State,
    /// BPF LSM.
    pub(super) lsm: State,
}

/// Loads, attaches and pins. Maps that are pinned are used again; a link that is pinned gets the
/// new program in one step. `unix_names` is what agents may reach outside. The layers that only some kernels have come first; a kernel without
/// them is no error here.
pub(super) fn install(
    pins: &Pins,
    roots: &[Root],
    kernel: &Kernel,
    unix_names: &[String],
) -> Result<Installed, CaptureError> {
    if OBJECT.is_empty() {
        return Err(CaptureError::NoObject);
    }
    pins.prepare()?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(pins.maps())
        .map_max_entries(SOCKETS, kernel.max_flows)
        .map_max_entries(FLOWS, kernel.max_flows.saturating_add(FLOW_SLACK))
        .load(OBJECT)?;
    let tables = Tables::take(&mut ebpf, kernel.max_flows)?;
    let host = Host::read();
    tables.govern(roots.iter().map(|root| root.id), unix_names)?;
    if let Ok(offsets) = host.offsets() {
        tables.locate(offsets)?;
    }
    let mut attached = Vec::new();
    let mut dirs = Vec::with_capacity(roots.len());
    for root in roots {
        dirs.push((root, pins.prepare_links_of(root.id)?));
    }
    let lsm = match host
        .load_lsm(&mut ebpf)
        .and_then(|programs| attach_layer(&dirs, &descriptors(&ebpf, &programs)?, &mut attached))
    {
        Ok(programs) => {
            let detail = format!("{} programs", programs.len());
            State::of(programs, detail)
        }
        Err(why) => State::missing(why),
    };
    let unix = if lsm.programs.is_empty() {
        let layer = host.load_unix(pins).and_then(|loaded| {
            let loaded: Vec<_> = loaded.iter().map(|(hook, fd)| (*hook, fd.as_fd())).collect();
            attach_layer(&dirs, &loaded, &mut attached)
        });
        match layer {
            Ok(programs) => State::of(programs, "by name: only those in kernel.unix_sockets"),
            Err(why) => State::missing(why),
        }
    } else {
        // By name they would refuse the agent's own sockets, too.
        for (_, dir) in &dirs {
            pins.remove_links(dir, &UNIX.map(|program| program.name))?;
        }
        State::of(lsm.programs.clone(), "by owner: the agent's own, and kernel.unix_sockets")
    };
    for program in PROGRAMS {
        load(&mut ebpf, program)?;
        let fd = program_fd(&ebpf, program)?;
        let id = sys::program_id(fd).map_err(CaptureError::system("reading a program's id"))?;
        attached.push(Attached { program, id });
    }
    for (root, dir) in &dirs {
        for program in PROGRAMS {
            attach(root, program, program_fd(&ebpf, program)?, dir)?;
        }
    }
    pins.prune()?;
    Ok(Installed { tables, attached, unix, lsm })
}

/// Attaches the programs of a layer to every root, or none of them.
fn attach_layer(
    dirs: &[(&Root, PathBuf)],
    programs: &[(Program, BorrowedFd<'_>)],
    attached: &mut Vec<Attached>,
) -> Result<Vec<Program>, String> {
    let mut made = Vec::with_capacity(programs.len());
    let mut new = Vec::new();
    for (program, fd) in programs {
        let done = sys::program_id(*fd).map_err(|error| error.to_string()).and_then(|id| {
            made.push(Attached { program: *program, id });
            dirs.iter().try_for_each(|(root, dir)| {
                let pin = dir.join(program.name);
                if !pin.exists() {
                    new.push(pin);
                }
                attach(root, *program, *fd, dir).map_err(|error| error.to_string())
            })
        });
        if let Err(why) = done {
            // With its pin a link goes. What an earlier daemon attached stays.
            for pin in new {
                let _was_never_made = std::fs::remove_file(pin);
            }
            return Err(why);
        }
    }
    let programs = made.iter().map(|attached| attached.program).collect();
    attached.extend(made);
    Ok(programs)
}

fn load(ebpf: &mut Ebpf, program: Program) -> Result<(), CaptureError> {
    let missing = || CaptureError::Mismatch(format!("no program {} in the object", program.name));
    let loaded = match ebpf.program_mut(program.name).ok_or_else(missing)? {
        Loaded::CgroupSockAddr(p) => p.load(),
        Loaded::CgroupSock(p) => p.load(),
        Loaded::CgroupSockopt(p) => p.load(),
        Loaded::CgroupSkb(p) => p.load(),
        Loaded::SockOps(p) => p.load(),
        _ => return Err(missing()),
    };
    loaded.map_err(|source| CaptureError::Program { program: program.name, source })
}

fn program_fd(ebpf: &Ebpf, program: Program) -> Result<BorrowedFd<'_>, CaptureError> {
    let missing = || CaptureError::Mismatch(format!("no program {} in the object", program.name));
    let loaded = ebpf.program(program.name).ok_or_else(missing)?;
    let fd =
        loaded.fd().map_err(|source| CaptureError::Program { program: program.name, source })?;
    Ok(fd.as_fd())
}

/// Attaches one program to one root, through the pinned link when there is one.
fn attach(
    root: &Root,
    program: Program,
    fd: BorrowedFd<'_>,
    dir: &std::path::Path,
) -> Result<(), CaptureError> {
    let pin = dir.join(program.name);
    match sys::pinned(&pin) {
        Ok(link) => {
            let info = sys::link_info(link.as_fd()).map_err(CaptureError::file("reading", &pin))?;
            if info.cgroup != root.id || info.attach_type != program.attach_type {
                return Err(CaptureError::Mismatch(format!(
                    "{} is pinned for another cgroup or hook",
                    pin.display()
                )));
            }
            sys::link_update(link.as_fd(), fd)
                .map_err(CaptureError::file("replacing the program behind", &pin))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let action = format!("attaching {} to {}", program.name, root.path);
            let link = sys::link_create(fd, root.fd.as_fd(), program.attach_type)
                .map_err(CaptureError::system(action))?;
            sys::pin(link.as_fd(), &pin).map_err(CaptureError::file("pinning", &pin))
        }
        Err(e) => Err(CaptureError::file("opening", &pin)(e)),
    }
}
