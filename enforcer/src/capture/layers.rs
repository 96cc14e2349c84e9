//! The layers that only some kernels have: BPF LSM, and unix sockets by owner
//! (BPF LSM) or by name (Linux 6.7). A layer holds whole or not at all, and when
//! it does not, its reason is kept for `status` and for the refusal to start.

use super::btf::KernelTypes;
use super::hooks::{LSM, LSM_URING, Program, UNIX};
use super::pins::Pins;
use super::unix;
use aya::programs::Program as Loaded;
use aya::{Btf, Ebpf};
use enforcer_common::kernel::Offsets;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// The security modules that are active, separated by commas.
const ACTIVE: &str = "/sys/kernel/security/lsm";

/// What stays open without BPF LSM for programs that are not started by `enforcer run`.
pub(super) const OPEN_WITHOUT_LSM: &str = "open outside of `enforcer run`: socket families beside \
     inet and unix, other cgroups' files, bpf(2), other processes, sockets handed in, io_uring";

/// What stays open without any hook on unix sockets.
pub(super) const OPEN_WITHOUT_UNIX: &str =
    "open: unix sockets of other local programs that the agent can find";

/// A layer as it was installed.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The programs that make it; empty when it does not hold.
    pub(super) programs: Vec<Program>,
    /// How it holds, or why it does not.
    pub(super) detail: String,
}

impl State {
    /// It holds by these programs.
    pub(super) fn of(programs: Vec<Program>, detail: impl Into<String>) -> Self {
        Self { programs, detail: detail.into() }
    }

    /// It does not hold.
    pub(super) fn missing(why: impl Into<String>) -> Self {
        Self { programs: Vec::new(), detail: why.into() }
    }
}

/// What the running kernel says of itself.
pub(super) struct Host {
    types: Result<KernelTypes, String>,
    btf: Result<Btf, String>,
}

impl Host {
    pub(super) fn read() -> Self {
        Self {
            types: KernelTypes::of_this_kernel(),
            btf: Btf::from_sys_fs().map_err(|error| error.to_string()),
        }
    }

    /// The offsets for the kernel half; the error says what is missing.
    pub(super) fn offsets(&self) -> Result<Offsets, String> {
        self.types.as_ref().map_err(Clone::clone)?.offsets()
    }

    /// Loads every LSM program that this kernel has; the error says why the layer cannot hold.
    pub(super) fn load_lsm(&self, ebpf: &mut Ebpf) -> Result<Vec<Program>, String> {
        let active = fs::read_to_string(ACTIVE)
            .map_err(|error| format!("{ACTIVE}: {error} (is securityfs mounted?)"))?;
        if !active.trim().split(',').any(|module| module == "bpf") {
            return Err(format!(
                "bpf is not among the active security modules ({})",
                active.trim()
            ));
        }
        self.offsets()?;
        let types = self.types.as_ref().map_err(Clone::clone)?;
        let mut programs = LSM.to_vec();
        // The first that the kernel knows: the newer one sees every ring.
        programs.extend(
            LSM_URING
                .into_iter()
                .find(|program| types.function(&format!("bpf_lsm_{}", hook(*program))).is_some()),
        );
        let btf = self.btf.as_ref().map_err(Clone::clone)?;
        for program in &programs {
            let loaded = match ebpf.program_mut(program.name) {
                Some(Loaded::LsmCgroup(loaded)) => loaded.load(hook(*program), btf),
                _ => return Err(format!("no program {} in the object", program.name)),
            };
            loaded.map_err(|error| format!("loading {}: {}", program.name, chain(&error)))?;
        }
        Ok(programs)
    }

    /// Loads the programs that see names.
    pub(super) fn load_unix(&self, pins: &Pins) -> Result<Vec<(Program, OwnedFd)>, String> {
        self.offsets()?;
        let types = self.types.as_ref().map_err(Clone::clone)?;
        UNIX.iter()
            .map(|program| {
                Ok((*program, unix::load(program.name, program.attach_type, types, pins)?))
            })
            .collect()
    }
}

/// The kernel's hook of a program that is named after it.
fn hook(program: Program) -> &'static str {
    program.name.strip_prefix("lsm_").unwrap_or(program.name)
}

/// An error with all its causes, in one line: the verifier's last words are among them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    last.into_iter().rev().collect::<Vec<_>>().join(" ")
}

/// The programs of a layer that the library has loaded, with their descriptors.
pub(super) fn descriptors<'a>(
    ebpf: &'a Ebpf,
    programs: &[Program],
) -> Result<Vec<(Program, BorrowedFd<'a>)>, String> {
    programs
        .iter()
        .map(|program| {
            let fd = ebpf.program(program.name).ok_or("a program is gone")?.fd();
            Ok((*program, fd.map_err(|error| error.to_string())?.as_fd()))
        })
        .collect()
}
