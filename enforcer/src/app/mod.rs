//! The daemon, put together in the order in which it must come up.
//!
//! Whatever fails here keeps it from starting; a daemon that runs has all that
//! it promised. Governed processes get out only while the heart beats, and it
//! beats only after everything below is in place. Nothing imports this module
//! but the command line.

mod account;
mod distributed;
mod health;
mod listen;
mod manager;
mod refusals;
mod reload;
mod status;

use crate::accept::{self, Accept};
use crate::approval::{Approvals, client};
use crate::capture::{self, Capture};
use crate::completeness::Completeness;
use crate::config::Config;
use crate::decide::{Decider, Holds};
use crate::flow::Inputs;
use crate::forward::dial::Dialer;
use crate::metrics::{self, Metrics};
use crate::policy::Bundle;
use crate::protocol::dns;
use crate::protocol::dns::names::Names;
use crate::protocol::http::Pool;
use crate::protocol::postgres::Databases;
use crate::record::Recorder;
use crate::run::control;
use crate::tls;
use anyhow::Context;
use distributed::Distributed;
use listen::Listeners;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long open connections may go on after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How often unused upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(15);

/// Runs the daemon until it is told to stop. Must be called inside a runtime.
pub async fn run(mut config: Config) -> anyhow::Result<()> {
    accept::fit(&mut config.limits);
    let config = Arc::new(config);
    let signals = Signals::new()?;

    let recorder = open_recorder(Arc::clone(&config)).await?;
    let done = serve(config, signals, &recorder).await;
    // However it ended: a process that ends while the store's threads work can abort.
    recorder.shutdown().await;
    done?;
    info!("stopped; governed processes stay cut off until the daemon is back");
    Ok(())
}

async fn serve(config: Arc<Config>, signals: Signals, recorder: &Recorder) -> anyhow::Result<()> {
    // What is allowed, who decides.
    let mask_key = recorder.derived_key("mask");
    let (bundle, distributed) = match &config.policy.dir {
        Some(dir) => {
            let bundle = reload::load(dir, &mask_key).await.context("the policy cannot be used")?;
            info!(policy = bundle.version(), "policy loaded");
            (bundle, None)
        }
        None => {
            let (distributed, none) = Distributed::open(&config, &mask_key).await?;
            (none, Some(distributed))
        }
    };
    let (policy, policy_now) = watch::channel(Arc::new(bundle));
    let policy = Arc::new(policy);
    let approvals = approvals(&config)?;
    let holds = Holds::new(&config.limits);

    // TLS, and the way out.
    let interceptor = interceptor(Arc::clone(&config)).await?;
    let upstreams = tls::client::Upstreams::new(&config.tls)?;
    let dialer = Dialer::new(&config)?;
    let resolver = &config.resolver;
    let names = Names::open(
        resolver.synthetic_v4,
        resolver.synthetic_v6,
        config.limits.names_per_agent,
        &config.names_file(),
    );
    let names = Arc::new(names.with_context(|| config.names_file().display().to_string())?);

    // Listeners first: from the moment that the kernel redirects, the ports must be ours.
    let listeners = Listeners::open(&config).await?;
    let capture = install(Arc::clone(&config)).await?;
    let layers = capture.layers();
    let layers: Vec<String> =
        layers.into_iter().filter(|layer| layer.holds).map(|layer| layer.name.to_owned()).collect();

    let metrics = Metrics::default();
    let inputs = Arc::new(Inputs {
        decider: Decider::new(policy_now.clone(), approvals.clone(), Arc::clone(&holds)),
        recorder: recorder.clone(),
        names: Arc::clone(&names),
        dialer,
        interceptor,
        upstreams,
        pool: Pool::default(),
        databases: Databases::default(),
        metrics: metrics.clone(),
        layers: layers.clone(),
        draining: CancellationToken::new(),
        stopping: CancellationToken::new(),
        config: Arc::clone(&config),
    });
    let dns = Arc::new(dns::serve::DnsInputs::new(
        Arc::clone(&capture),
        policy_now,
        names,
        recorder.clone(),
        &config.limits,
        listeners.ipv6,
        layers.clone(),
    ));
    let completeness = Completeness::new(Arc::clone(&capture), recorder.clone());
    let completeness = Arc::new(completeness);
    let accept = Arc::new(Accept::new(Arc::clone(&capture), Arc::clone(&inputs)));
    let health = health::Health::new(
        Arc::clone(&capture),
        recorder.clone(),
        Arc::clone(&accept.pulses),
        &config,
    );

    let draining = &inputs.draining;
    let standing = distributed::Standing::default();
    if let (Some(mut distributed), Approvals::Remote(client)) = (distributed, approvals.clone()) {
        // What was kept and is young enough is in force before anybody is served.
        distributed.look(&policy, &standing, &metrics);
        let (policy, standing) = (Arc::clone(&policy), Arc::clone(&standing));
        tokio::spawn(distributed.run(draining.clone(), client, policy, standing, metrics.clone()));
    }
    for listener in listeners.proxy {
        tokio::spawn(accept.listen(listener));
    }
    let turned_away = tokio::spawn(Arc::clone(&accept).record_turned_away());
    tokio::spawn(dns::serve::serve(listeners.dns, Arc::clone(&dns), draining.clone()));
    let parts = metrics::Parts {
        capture: Arc::clone(&capture),
        recorder: recorder.clone(),
        holds: Arc::clone(&holds),
        approvals: approvals.clone(),
        dns,
        completeness: Arc::clone(&completeness),
    };
    if let Some(listener) = listeners.metrics {
        let registry = registry(&metrics, parts);
        tokio::spawn(metrics::serve(listener, registry, draining.clone()));
    }
    let refusals = refusals::Refusals::new(
        Arc::clone(&capture),
        recorder.clone(),
        Arc::clone(&inputs.names),
        Arc::clone(&completeness),
        config.host_name(),
        layers,
    );
    let refusals = tokio::spawn(refusals.run(draining.clone()));
    tokio::spawn(until(draining.clone(), sweep(Arc::clone(&inputs))));

    // The kernel half must be what it says before anything is let through.
    health.check().await.context("the kernel half does not hold")?;
    tokio::spawn(until(draining.clone(), health.clone().run()));
    let reporter = status::Reporter::new(&inputs, &capture, &health, completeness, standing);
    tokio::spawn(until(draining.clone(), account::run(Arc::clone(&inputs), Arc::clone(&reporter))));
    let learn = move |cgroup: &std::path::Path| capture.learn(cgroup);
    let control =
        control::ControlInputs::new(Arc::clone(&config), reporter, health.guard(), Arc::new(learn));
    tokio::spawn(control::serve(
        listeners.control,
        Arc::new(control),
        draining.clone().cancelled_owned(),
    ));
    manager::tell(sd_notify::NotifyState::Ready);
    info!(
        port = config.proxy.port,
        layers = inputs.layers.join(","),
        "ready: governed processes reach the network through policy only"
    );

    signals.run(&config, &mask_key, &policy, &metrics).await;
    drop(policy);
    drain(&inputs, &accept).await;
    turned_away.await?;
    refusals.await.context("recording the kernel's refusals")?;
    Ok(())
}

async fn open_recorder(config: Arc<Config>) -> anyhow::Result<Recorder> {
    let open = move || Recorder::open(&config.transcript, &config.host.data_dir);
    let recorder = tokio::task::spawn_blocking(open).await??;
    let recovered = recorder.stats().recovered;
    if recovered > 0 {
        warn!(target: "audit", flows = recovered, "the daemon had died: open flows were sealed as recovered");
    }
    Ok(recorder)
}

fn approvals(config: &Config) -> anyhow::Result<Approvals> {
    let Some(server) = &config.server else {
        warn!("no [server] is configured: whatever needs approval is denied");
        return Ok(Approvals::None);
    };
    let options = client::Options::new(server, &config.host.data_dir, config.host_name());
    Ok(Approvals::Remote(client::Client::start(options)?))
}

async fn interceptor(config: Arc<Config>) -> anyhow::Result<tls::server::Interceptor> {
    let make = move || -> anyhow::Result<_> {
        let ca = tls::ca::Ca::load_or_create(&config.ca_dir())?;
        let interceptor = tls::server::Interceptor::new(ca)?;
        tls::warm_up(&interceptor)?;
        Ok(interceptor)
    };
    tokio::task::spawn_blocking(make).await?
}

async fn install(config: Arc<Config>) -> anyhow::Result<Arc<Capture>> {
    let installed = tokio::task::spawn_blocking(move || capture::install(&config)).await?;
    Ok(Arc::new(installed.context("the kernel half could not be installed")?))
}

fn registry(
    metrics: &Metrics,
    parts: metrics::Parts,
) -> Arc<prometheus_client::registry::Registry> {
    let mut registry = prometheus_client::registry::Registry::with_prefix("enforcer");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(parts));
    Arc::new(registry)
}

async fn sweep(inputs: Arc<Inputs>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        inputs.pool.sweep();
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled_owned(work).await;
}

/// Takes no more, gives what runs its time, then cuts it.
async fn drain(inputs: &Inputs, accept: &Accept) {
    manager::tell(sd_notify::NotifyState::Stopping);
    info!("draining");
    inputs.draining.cancel();
    accept.sessions.close();
    if tokio::time::timeout(DRAIN, accept.sessions.wait()).await.is_err() {
        warn!(sessions = accept.sessions.len(), "cutting what did not end in time");
        inputs.stopping.cancel();
        accept.sessions.wait().await;
    }
}

/// What the daemon is told from outside.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads policy at each hang-up; ends when the daemon shall stop.
    async fn run(
        mut self,
        config: &Config,
        mask_key: &[u8],
        policy: &watch::Sender<Arc<Bundle>>,
        metrics: &Metrics,
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => match &config.policy.dir {
                    Some(dir) => reload::reload(dir, mask_key, policy, metrics).await,
                    None => info!("policy comes from the server: there is nothing to reload"),
                },
            }
        }
    }
}
