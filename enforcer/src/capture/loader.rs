//! Loads the kernel half, attaches it to the governed roots and pins it; or takes
//! over what an earlier daemon has pinned, without a moment in which a root is
//! not guarded.

use super::cgroup::Root;
use super::error::CaptureError;
use super::flows::Tables;
use super::hooks::{PROGRAMS, Program};
use super::pins::Pins;
use super::sys;
use aya::programs::Program as Loaded;
use aya::{Ebpf, EbpfLoader};
use enforcer_common::names::{FLOW_SLACK, FLOWS, SOCKETS};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

/// The object that the build made of `enforcer-ebpf`; empty when it was told to skip it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-ebpf"));

/// A program that is attached: what [`super::Capture::verify_attached`] looks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    pub(super) program: Program,
    pub(super) id: u32,
}

/// Loads, attaches and pins. Maps that are pinned are used again; a link that is pinned gets the
/// new program in one step.
pub(super) fn install(
    pins: &Pins,
    roots: &[Root],
    max_flows: u32,
) -> Result<(Tables, Vec<Attached>), CaptureError> {
    if OBJECT.is_empty() {
        return Err(CaptureError::NoObject);
    }
    pins.prepare()?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(pins.maps())
        .map_max_entries(SOCKETS, max_flows)
        .map_max_entries(FLOWS, max_flows.saturating_add(FLOW_SLACK))
        .load(OBJECT)?;
    let tables = Tables::take(&mut ebpf, max_flows)?;
    let mut attached = Vec::with_capacity(PROGRAMS.len());
    for program in PROGRAMS {
        load(&mut ebpf, program)?;
        let fd = program_fd(&ebpf, program)?;
        let id = sys::program_id(fd).map_err(CaptureError::system("reading a program's id"))?;
        attached.push(Attached { program, id });
    }
    for root in roots {
        let dir = pins.prepare_links_of(root.id)?;
        for program in PROGRAMS {
            attach(root, program, program_fd(&ebpf, program)?, &dir)?;
        }
    }
    pins.prune()?;
    Ok((tables, attached))
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
