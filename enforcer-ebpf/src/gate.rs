//! Whether the way to the proxy is open at all.

use crate::maps::{BEAT, SETTINGS};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_ktime_get_ns};
use enforcer_common::event::Reason;
use enforcer_common::settings::Settings;

/// The daemon's settings, when it has written them.
#[inline(always)]
pub fn settings() -> Result<&'static Settings, Reason> {
    match SETTINGS.get(0) {
        Some(settings) if settings.ready() => Ok(settings),
        _ => Err(Reason::NotReady),
    }
}

/// The settings, when the caller's socket is in the proxy's network namespace: 127.0.0.1 of
/// another one is not the proxy.
#[inline(always)]
pub fn here(ctx: *mut c_void) -> Result<&'static Settings, Reason> {
    let settings = settings()?;
    // SAFETY: the helper takes the unmodified context.
    if unsafe { bpf_get_netns_cookie(ctx) } != settings.netns {
        return Err(Reason::Namespace);
    }
    Ok(settings)
}

/// The settings, when besides that the daemon is alive.
#[inline(always)]
pub fn open(ctx: *mut c_void) -> Result<&'static Settings, Reason> {
    let settings = here(ctx)?;
    let beat = BEAT.get(0).copied().unwrap_or(0);
    // SAFETY: a helper without arguments.
    if !settings.alive(beat, unsafe { bpf_ktime_get_ns() }) {
        return Err(Reason::Stale);
    }
    Ok(settings)
}
