//! What a program takes over from its caller without being told: resource
//! limits, priority and standing before the out-of-memory killer. Otherwise it
//! would have the daemon's.

use nix::sys::resource::{Resource, rlim_t};
use std::fs;

/// Every limit but `RLIMIT_CORE`, which the floor sets to nothing.
const LIMITS: [Resource; 15] = [
    Resource::RLIMIT_AS,
    Resource::RLIMIT_CPU,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_LOCKS,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_MSGQUEUE,
    Resource::RLIMIT_NICE,
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_RTPRIO,
    Resource::RLIMIT_RTTIME,
    Resource::RLIMIT_SIGPENDING,
    Resource::RLIMIT_STACK,
];

/// What is taken over.
#[derive(Debug, Default)]
pub(super) struct Caller {
    limits: Vec<(Resource, rlim_t, rlim_t)>,
    nice: Option<i32>,
    oom_score: String,
}

impl Caller {
    /// Reads it of process `pid`; what cannot be read stays as the daemon has it.
    pub(super) fn read(pid: i32) -> Self {
        let limits = LIMITS
            .into_iter()
            .filter_map(|resource| {
                let (soft, hard) = limits_of(pid, resource)?;
                Some((resource, soft, hard))
            })
            .collect();
        let oom_score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
        Self { limits, nice: nice_of(pid), oom_score: oom_score.unwrap_or_else(|_| "0".to_owned()) }
    }

    /// Gives it to this process. What the kernel does not let it raise stays
    /// lower, as it is.
    pub(super) fn take_over(&self) {
        for (resource, soft, hard) in &self.limits {
            if nix::sys::resource::setrlimit(*resource, *soft, *hard).is_err()
                && let Ok((_, own)) = nix::sys::resource::getrlimit(*resource)
            {
                let hard = own.min(*hard);
                let _ = nix::sys::resource::setrlimit(*resource, hard.min(*soft), hard);
            }
        }
        if let Some(nice) = self.nice {
            // SAFETY: no memory is passed.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        }
        let _ = fs::write("/proc/self/oom_score_adj", self.oom_score.trim());
    }
}

fn limits_of(pid: i32, resource: Resource) -> Option<(rlim_t, rlim_t)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call; nothing is set.
    let result = unsafe { libc::prlimit(pid, resource as _, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

fn nice_of(pid: i32) -> Option<i32> {
    nix::errno::Errno::clear();
    let pid = libc::id_t::try_from(pid).ok()?;
    // SAFETY: no memory is passed.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) };
    // -1 is also a priority; only then does errno tell.
    (nice != -1 || nix::errno::Errno::last_raw() == 0).then_some(nice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_priority_of_a_process_are_read() {
        let caller = Caller::read(std::process::id() as i32);
        assert_eq!(caller.limits.len(), LIMITS.len());
        let own = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(caller.limits.contains(&(Resource::RLIMIT_NOFILE, own.0, own.1)));
        assert!(caller.nice.is_some());
    }
}
