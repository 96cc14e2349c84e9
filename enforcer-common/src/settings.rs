//! What the daemon tells the kernel half. Programs cannot write it.

/// The one record of the map `SETTINGS`; all zero until the daemon has written it, and then
/// everything is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Cookie of the network namespace that the proxy listens in.
    pub netns: u64,
    /// A beat older than this is a dead daemon. Nanoseconds of `CLOCK_MONOTONIC`.
    pub heartbeat_limit_ns: u64,
    /// The proxy's TCP port on 127.0.0.1 and `::1`, host order.
    pub proxy_port: u32,
    /// The resolver's UDP and TCP port on 127.0.0.1 and `::1`, host order.
    pub dns_port: u32,
    /// Redirected sockets that one agent can have at once.
    pub max_agent_flows: u32,
    /// How many levels below the cgroup2 mount agents' cgroups are; 0 when governed roots lie at
    /// different depths.
    pub agent_level: u32,
}

const _: () = assert!(size_of::<Settings>() == 32);

impl Settings {
    /// Whether the daemon has filled everything in.
    pub const fn ready(&self) -> bool {
        self.netns != 0
            && self.heartbeat_limit_ns != 0
            && self.proxy_port != 0
            && self.dns_port != 0
            && self.max_agent_flows != 0
    }

    /// Whether a daemon that last beat at `beat` counts as alive at `now` (both
    /// `CLOCK_MONOTONIC`, nanoseconds). A daemon that never beat does not.
    pub const fn alive(&self, beat: u64, now: u64) -> bool {
        beat != 0 && now.saturating_sub(beat) <= self.heartbeat_limit_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_alive_only_while_it_beats() {
        let settings = Settings { heartbeat_limit_ns: 100, ..Settings::default() };
        assert!(!settings.alive(0, 50), "never beat");
        assert!(settings.alive(1000, 1100));
        assert!(!settings.alive(1000, 1101));
        assert!(settings.alive(1001, 1000), "a beat from another CPU, just now");
    }

    #[test]
    fn nothing_is_ready_by_default() {
        assert!(!Settings::default().ready());
        let full = Settings {
            netns: 1,
            heartbeat_limit_ns: 1,
            proxy_port: 1,
            dns_port: 1,
            max_agent_flows: 1,
            agent_level: 0,
        };
        assert!(full.ready());
        assert!(!Settings { netns: 0, ..full }.ready());
        assert!(!Settings { dns_port: 0, ..full }.ready());
        assert!(!Settings { max_agent_flows: 0, ..full }.ready());
    }
}
