//! The real capture: the kernel half, installed and pinned.

use super::cgroup::{Root, governed_root, open_roots, refuse_inside};
use super::counters::{CounterRow, Ledger};
use super::error::CaptureError;
use super::events::{Refusal, Stream};
use super::flows::{Tables, address};
use super::hooks::PROGRAMS;
use super::identity::Identities;
use super::layers::{OPEN_WITHOUT_LSM, OPEN_WITHOUT_UNIX, State};
use super::loader::{self, Attached, Installed};
use super::pins::Pins;
use super::{Captured, Layer, sys};
use crate::config::Config;
use crate::run::control::socket_path;
use enforcer_common::flow::{FlowEntry, FlowKey};
use enforcer_common::matching::TCP;
use enforcer_common::settings::Settings;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often old entries are swept, at most.
const SWEEP_EVERY_NS: u64 = 10_000_000_000;
/// How long a connection or a look-up waits for what `/proc` says of its process. The largest
/// executable that is hashed takes about one.
const PATIENCE: Duration = Duration::from_secs(3);

/// The installed kernel half. Dropping it changes nothing in the kernel: the programs stay
/// attached, and refuse as soon as the beat is stale.
pub struct Kernel {
    tables: Tables,
    identities: Identities,
    attached: Vec<Attached>,
    unix: State,
    lsm: State,
    roots: Vec<Root>,
    pins: Pins,
    netns: u64,
    ledger: Ledger,
    refusals: Stream,
    swept: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Connections of an earlier run that wait for this one. They were counted then, and stand for
/// nothing of this run, whether they are taken now or fail.
#[derive(Default)]
struct Waiting {
    /// Cookie and agent.
    flows: HashMap<FlowKey, (u64, String)>,
    /// How many are no longer there, by agent.
    ended: BTreeMap<String, u64>,
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    /// Makes the governed roots, loads, attaches and pins; or adopts what is pinned.
    pub(super) fn install(cfg: &Config) -> Result<Self, CaptureError> {
        let roots = open_roots(&cfg.governed)?;
        refuse_inside(&roots)?;
        let netns = sys::netns_cookie()
            .map_err(CaptureError::system("reading the network namespace's cookie"))?;
        let host = match &cfg.host.name {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()
                .map_err(|e| CaptureError::system("reading the host's name")(e.into()))?
                .to_string_lossy()
                .into_owned(),
        };
        let paths = roots.iter().map(|root| root.path.clone()).collect();
        let identities = Identities::new(host, paths)?;
        for governed in &cfg.governed {
            identities.learn(&governed_root(governed)?);
        }
        let pins = Pins::at(&cfg.kernel.pin_dir);
        let Installed { tables, attached, unix, lsm } =
            loader::install(&pins, &roots, &cfg.kernel, &unix_names(cfg))?;
        for (name, state) in [("unix", &unix), ("lsm", &lsm)] {
            let required = cfg.kernel.require.iter().any(|required| required == name);
            if required && state.programs.is_empty() {
                let reason = state.detail.clone();
                return Err(CaptureError::Layer { name, reason });
            }
        }
        tables.configure(Settings {
            netns,
            heartbeat_limit_ns: cfg.kernel.heartbeat_limit_ms.saturating_mul(1_000_000),
            proxy_port: cfg.proxy.port.into(),
            dns_port: cfg.proxy.dns_port.into(),
            max_agent_flows: cfg.kernel.max_agent_flows(),
            agent_level: agent_level(&roots),
        })?;
        let kernel = Self {
            tables,
            identities,
            attached,
            unix,
            lsm,
            roots,
            pins,
            netns,
            ledger: Ledger::default(),
            refusals: Stream::default(),
            swept: AtomicU64::new(0),
            waiting: Mutex::default(),
        };
        kernel.verify_attached()?;
        Ok(kernel)
    }

    pub(super) fn take_tcp(&self, peer: SocketAddr) -> Option<Captured> {
        let entry = self.tables.take_tcp(self.netns, peer)?;
        self.captured(&entry)
    }

    pub(super) fn learn(&self, cgroup: &Path) {
        self.identities.learn(cgroup);
    }

    pub(super) fn begin(&self) {
        let before = |(key, entry): (FlowKey, FlowEntry)| {
            let principal = self.identities.principal(&entry).filter(|_| key.protocol == TCP);
            let agent = principal?.agent;
            Some((key, (entry.cookie, agent.to_string())))
        };
        let flows = self.tables.flows().filter_map(before).collect();
        *lock(&self.waiting) = Waiting { flows, ended: BTreeMap::new() };
    }

    pub(super) fn earlier(&self) -> BTreeMap<String, u64> {
        let mut waiting = lock(&self.waiting);
        let Waiting { flows, ended } = &mut *waiting;
        flows.retain(|key, (cookie, agent)| {
            let there = self.tables.has_flow(key, *cookie);
            if !there {
                *ended.entry(agent.clone()).or_default() += 1;
            }
            there
        });
        ended.clone()
    }

    pub(super) fn peek_udp(&self, peer: SocketAddr) -> Option<Captured> {
        self.captured(&self.tables.peek_udp(self.netns, peer)?)
    }

    fn captured(&self, entry: &FlowEntry) -> Option<Captured> {
        let Some(principal) = self.identities.principal(entry) else {
            tracing::warn!(
                cgroup = entry.cgroup,
                pid = entry.tgid,
                "a captured flow belongs to no agent; it is closed"
            );
            return None;
        };
        Some(Captured {
            principal,
            orig: address(entry.orig_addr, entry.orig_port)?,
            cookie: entry.cookie,
            call: Some(*entry),
        })
    }

    pub(super) async fn look_up(&self, captured: Captured) -> Captured {
        let Some(call) = captured.call else {
            return captured;
        };
        let principal = self.identities.look_up(captured.principal, &call, PATIENCE).await;
        Captured { principal, call: None, ..captured }
    }

    pub(super) fn beat(&self) {
        let now = sys::monotonic_ns();
        if let Err(error) = self.tables.beat(now) {
            tracing::error!(%error, "writing the heartbeat; governed processes are refused");
        }
        let last = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(last) > SWEEP_EVERY_NS
            && self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let mut waiting = lock(&self.waiting);
            for key in self.tables.sweep(sys::boottime_ns()) {
                // It neither failed nor was taken: nothing counts for it in this run.
                waiting.flows.remove(&key);
            }
            drop(waiting);
            self.tables.forget_shares(|agent| self.identities.alive(agent));
        }
    }

    pub(super) fn counters(&self) -> Vec<CounterRow> {
        self.ledger.read(&self.tables, &self.identities)
    }

    pub(super) async fn next_refusal(&self) -> Refusal {
        self.refusals.next(&self.tables, &self.identities).await
    }

    /// Asks the kernel, not our own memory, for every program on every root.
    pub(super) fn verify_attached(&self) -> Result<(), CaptureError> {
        self.verify_all(&self.attached)
    }

    fn verify_all<'a>(
        &self,
        attached: impl IntoIterator<Item = &'a Attached> + Clone,
    ) -> Result<(), CaptureError> {
        for root in &self.roots {
            for attached in attached.clone() {
                if let Err(reason) = self.verify(root, attached) {
                    return Err(CaptureError::Detached {
                        hook: attached.program.name,
                        root: root.path.clone(),
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    fn verify(&self, root: &Root, attached: &Attached) -> Result<(), String> {
        if !root.alive() {
            return Err("the cgroup was removed".into());
        }
        let kind = attached.program.attach_type;
        let ids = sys::effective(root.fd.as_fd(), kind).map_err(|e| e.to_string())?;
        if !ids.contains(&attached.id) {
            return Err("it does not run for the cgroup".into());
        }
        let pin = self.pins.links_of(root.id).join(attached.program.name);
        let info = sys::pinned(&pin)
            .and_then(|link| sys::link_info(link.as_fd()))
            .map_err(|e| format!("{}: {e}", pin.display()))?;
        if info.program != attached.id || info.cgroup != root.id {
            return Err(format!("{} holds something else", pin.display()));
        }
        Ok(())
    }

    pub(super) fn layers(&self) -> Vec<Layer> {
        let roots: Vec<&str> = self.roots.iter().map(|root| root.path.as_str()).collect();
        let cgroup = State::of(
            PROGRAMS.to_vec(),
            format!("{} programs on {}", PROGRAMS.len(), roots.join(", ")),
        );
        vec![
            self.layer("cgroup", &cgroup, ""),
            self.layer("unix", &self.unix, OPEN_WITHOUT_UNIX),
            self.layer("lsm", &self.lsm, OPEN_WITHOUT_LSM),
        ]
    }

    fn layer(&self, name: &'static str, state: &State, open: &str) -> Layer {
        if state.programs.is_empty() {
            let detail = format!("{}; {open}", state.detail);
            return Layer { name, holds: false, detail };
        }
        let own: Vec<&Attached> = self
            .attached
            .iter()
            .filter(|attached| state.programs.iter().any(|p| p.name == attached.program.name))
            .collect();
        match self.verify_all(own) {
            Ok(()) => Layer { name, holds: true, detail: state.detail.clone() },
            Err(error) => Layer { name, holds: false, detail: error.to_string() },
        }
    }
}

/// The unix sockets outside that agents may reach: those of the configuration, and the daemon's
/// own, which looks at who asks.
/// How many levels below the cgroup2 mount the agents of all roots are; 0 when that differs.
fn agent_level(roots: &[Root]) -> u32 {
    let mut levels =
        roots.iter().map(|root| root.path.split('/').filter(|p| !p.is_empty()).count());
    let first = levels.next().unwrap_or(0);
    match levels.all(|level| level == first) {
        true => u32::try_from(first + 1).unwrap_or(0),
        false => 0,
    }
}

fn unix_names(cfg: &Config) -> Vec<String> {
    let own = socket_path(&cfg.host.runtime_dir).display().to_string();
    cfg.kernel.unix_sockets.iter().cloned().chain([own]).collect()
}
