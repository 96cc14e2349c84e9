//! The approval server, as a process with its RocksDB store, on loopback: requests a second and
//! how soon a decision releases an operation, with all hosts connected and with one.

use crate::measure::{Plan, Series, quantile};
use anyhow::{Context as _, bail};
use enforcer::approval::client::{Client, Options};
use enforcer::approval::identity::{Holder, Identity, Role, Subject};
use enforcer::approval::{Approvals, Ask, Scope, State, convert, tls};
use enforcer::operation::{Operation, Protocol};
use enforcer::principal::{AgentName, Principal, Process};
use enforcer::server;
use enforcer::server::audit::{Code, Entry};
use enforcer::server::config::Config;
use enforcer::server::store::{JoinToken, Member};
use enforcer_proto::v1;
use enforcer_proto::v1::approvals_client::ApprovalsClient;
use enforcer_proto::v1::review_client::ReviewClient;
use enforcer_proto::v1::watch_event::Event;
use enforcer_tests::daemon::enforcer;
use futures_util::StreamExt as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Files beside one connection for each host.
const OTHER_FILES: u64 = 1024;

/// Hosts that ask at once.
const ASKING: usize = 64;

/// Handshakes at once; the server takes 64 from one address.
const HANDSHAKES: usize = 32;

/// Decisions measured in a round.
const DECISIONS: usize = 100;

/// The host whose operations are released.
const FIRST: &str = "h0";

/// How long anything may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it and prints a table.
pub(crate) fn run(plan: &Plan) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Err(error) = runtime.block_on(measured(plan)) {
        println!("FAILED: {error:#}");
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// The server's process, which ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Memory of the process, MiB (`proc_pid_status(5)`).
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    }
}

/// Everybody who is there.
struct Site {
    server: Running,
    url: String,
    /// All but the first, which is a whole client.
    hosts: Vec<Identity>,
    first: Approvals,
    reviewer: ReviewClient<Channel>,
    /// Makes each request another one.
    count: AtomicU64,
}

/// Figures of rounds.
#[derive(Default)]
struct Figures {
    rate: Series,
    p50: Series,
    p99: Series,
    release: Series,
    release_p99: Series,
}

async fn measured(plan: &Plan) -> anyhow::Result<()> {
    let hosts = files(plan.hosts)?;
    let dir = tempfile::tempdir()?;
    println!("{hosts} hosts join ...");
    let site = start(dir.path(), hosts).await?;
    println!("{} rounds of {} s and {DECISIONS} decisions each", plan.rounds, plan.seconds);
    let few = rounds(&site, plan).await?;
    tell("1 host connected", &few, &site);
    let begun = Instant::now();
    let all = streams(&site).await?;
    println!("{hosts} streams opened in {:.1} s", begun.elapsed().as_secs_f64());
    let many = rounds(&site, plan).await?;
    tell(&format!("{hosts} hosts connected"), &many, &site);
    let lost = all.iter().filter(|stream| stream.is_finished()).count();
    println!("  streams lost: {lost}");
    all.iter().for_each(JoinHandle::abort);
    drop(all);
    // What the requests of before cost, without the streams.
    let after = rounds(&site, plan).await?;
    tell("1 host connected, again", &after, &site);
    let over = |pick: fn(&Figures) -> &Series| pick(&many).median() / pick(&few).median();
    println!(
        "{hosts} hosts over 1: rate {:.2}, p50 {:.2}, p99 {:.2}, release {:.2}",
        over(|f| &f.rate),
        over(|f| &f.p50),
        over(|f| &f.p99),
        over(|f| &f.release)
    );
    Ok(())
}

fn tell(what: &str, figures: &Figures, site: &Site) {
    println!("{what} (server: {} MiB)", site.server.memory());
    println!("  requests a second      {}", figures.rate.spread(0));
    println!("  request p50 ms         {}", figures.p50.spread(2));
    println!("  request p99 ms         {}", figures.p99.spread(2));
    println!("  decision to release ms {}", figures.release.spread(2));
    println!("  its p99 ms             {}", figures.release_p99.spread(2));
}

/// Makes room for a file for each host, here and in the server, which inherits it; says so when
/// there is less.
fn files(hosts: u32) -> anyhow::Result<usize> {
    let wanted = u64::from(hosts) + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let room = soft.saturating_sub(OTHER_FILES).min(u64::from(hosts));
    if room < u64::from(hosts) {
        println!("NOTE: this process may open {soft} files, so there are {room} hosts");
    }
    if room == 0 {
        bail!("{soft} files are too few");
    }
    Ok(usize::try_from(room)?)
}

async fn start(dir: &Path, hosts: usize) -> anyhow::Result<Site> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // One machine stands for many hosts, and a few of them ask for all.
    let toml = format!(
        "listen = \"127.0.0.1:{port}\"\nnames = [\"127.0.0.1\"]\ndata_dir = \"data\"\n\
         [limits]\nconnections = 100000\npending_per_host = 1000000\npending_per_agent = 1000000\n\
         calls_per_second = 1000000\ncalls_burst = 1000000\n"
    );
    let path = dir.join("server.toml");
    fs::write(&path, toml)?;
    let url = format!("https://127.0.0.1:{port}");
    let (people, identities) = joined(&path, &url, hosts).await?;
    let child = Command::new(enforcer())
        .args(["server", "--config"])
        .arg(&path)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stderr(fs::File::create(dir.join("server.log"))?)
        .spawn()?;
    let server = Running(child);
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("no server: {}", fs::read_to_string(dir.join("server.log"))?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reviewer = ReviewClient::new(tls::channel(&url, &people)?);
    let client = Client::start(Options {
        url: url.clone(),
        dir: dir.join(FIRST),
        token_file: None,
        host: FIRST.to_owned(),
        lost_after: PATIENCE,
        silence: Duration::from_secs(12),
        renewal_retry: (Duration::from_secs(1), PATIENCE),
        policy_again: PATIENCE,
    })?;
    tokio::time::timeout(PATIENCE, client.ready()).await.context("the first host")?;
    let first = Approvals::Remote(client);
    Ok(Site { server, url, hosts: identities, first, reviewer, count: AtomicU64::new(0) })
}

/// Has everybody join, by the server's own code on its own store: over the wire one address gets
/// one certificate a second.
async fn joined(path: &Path, url: &str, hosts: usize) -> anyhow::Result<(Identity, Vec<Identity>)> {
    let core = server::open(Config::load(path)?).await?;
    let join = async |role: Role, name: String, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let now = core.clock.now();
        let token = JoinToken {
            id: format!("bench-{name}"),
            secret_hash: [0; 32],
            role,
            name: name.clone(),
            groups: groups.clone(),
            expires: now + 3_600_000,
        };
        let entry = |code| Entry::new(code, "bench", &name, "");
        core.store.add_token(token.clone(), entry(Code::TokenCreated), now).await?;
        let key = rcgen::KeyPair::generate()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
        let subject = Subject::new(role, &name).context("a name")?;
        let issued = core.ca.issue(&request, &subject, 24, now)?;
        let member = Member {
            role,
            name: name.clone(),
            groups,
            joined: now,
            removed: false,
            barred_until: 0,
        };
        if !core.store.redeem(&token.id, member, entry(Code::JoinAccepted), now).await? {
            bail!("{name} did not join");
        }
        let leaf = CertificateDer::from_pem_slice(issued.pem.as_bytes())?;
        if name == FIRST {
            let dir = path.with_file_name(FIRST);
            Identity::store(&dir, url, &issued.pem, &key.serialize_pem(), core.ca.pem())?;
        }
        Ok(Identity {
            holder: Holder::read(&leaf).context("a certificate of another kind")?,
            chain: vec![leaf],
            key: Arc::new(PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?),
            ca: core.ca.certificate().clone(),
            url: url.to_owned(),
        })
    };
    let reviewer = join(Role::Reviewer, "ann".to_owned(), &["ops"]).await?;
    join(Role::Daemon, FIRST.to_owned(), &[]).await?;
    let numbers = futures_util::stream::iter(1..hosts);
    let all = numbers.map(|n| join(Role::Daemon, format!("h{n}"), &[])).buffered(64);
    let all: Vec<anyhow::Result<Identity>> = all.collect().await;
    Ok((reviewer, all.into_iter().collect::<anyhow::Result<_>>()?))
}

/// Opens the streams of all hosts but the first; each ends when its stream does.
async fn streams(site: &Site) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let open = site.hosts.iter().map(|identity| async {
        let mut client = ApprovalsClient::new(tls::channel(&site.url, identity)?);
        let mut news = client.watch(v1::WatchRequest {}).await?.into_inner();
        while let Some(event) = news.message().await? {
            if let Some(Event::Synced(_)) = event.event {
                break;
            }
        }
        Ok(tokio::spawn(async move {
            // The channel lives as long as its stream.
            let _client = client;
            while let Ok(Some(_)) = news.message().await {}
        }))
    });
    let open = futures_util::stream::iter(open).buffer_unordered(HANDSHAKES);
    let open: Vec<anyhow::Result<_>> = open.collect().await;
    open.into_iter().collect()
}

async fn rounds(site: &Site, plan: &Plan) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let asking: Vec<&Identity> = site.hosts.iter().take(ASKING).collect();
    let clients: Result<Vec<_>, _> = asking
        .iter()
        .map(|identity| {
            let name = identity.holder.subject.name().to_owned();
            tls::channel(&site.url, identity).map(|open| (name, ApprovalsClient::new(open)))
        })
        .collect();
    let clients = clients?;
    for _ in 0..plan.rounds {
        let until = Instant::now() + Duration::from_secs(plan.seconds.into());
        let begun = Instant::now();
        let all = clients.iter().map(|(host, client)| ask_on(site, host, client.clone(), until));
        let mut times = Vec::new();
        for done in futures_util::future::join_all(all).await {
            times.extend(done?);
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let count = times.len() as f64;
        figures.rate.0.push(count / begun.elapsed().as_secs_f64());
        times.sort_by(f64::total_cmp);
        figures.p50.0.push(quantile(&times, 0.5));
        figures.p99.0.push(quantile(&times, 0.99));
        let mut times = Vec::new();
        for _ in 0..DECISIONS {
            times.push(release(site).await?);
        }
        times.sort_by(f64::total_cmp);
        figures.release.0.push(quantile(&times, 0.5));
        figures.release_p99.0.push(quantile(&times, 0.99));
    }
    Ok(figures)
}

/// One host asks, one request after the other; how long each took, milliseconds.
async fn ask_on(
    site: &Site,
    host: &str,
    mut client: ApprovalsClient<Channel>,
    until: Instant,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let request = convert::request(asked(host, site.count.fetch_add(1, Ordering::Relaxed)));
        let begun = Instant::now();
        client.request(request).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// From the decision being sent to the operation that waits for it being let go, milliseconds.
async fn release(site: &Site) -> anyhow::Result<f64> {
    let ask = asked(FIRST, site.count.fetch_add(1, Ordering::Relaxed));
    let digest = ask.digest.to_string();
    let mut ticket = site.first.request(ask).await?;
    let vote = v1::DecideRequest {
        id: ticket.id().to_string(),
        approve: true,
        reason: "bench".to_owned(),
        digest,
        break_glass: false,
    };
    let mut reviewer = site.reviewer.clone();
    let begun = Instant::now();
    let (decided, released) = tokio::join!(reviewer.decide(vote), async {
        let changed = tokio::time::timeout(PATIENCE, ticket.changed()).await;
        (changed, begun.elapsed())
    });
    decided?;
    match released {
        (Ok(Ok(State::Approved { .. })), took) => Ok(took.as_secs_f64() * 1000.0),
        (other, _) => bail!("not released: {other:?}"),
    }
}

/// A request that is like no other.
fn asked(host: &str, number: u64) -> Ask {
    let principal = Principal {
        host: host.to_owned(),
        agent: AgentName::parse("build").expect("a name"),
        task: None,
        cgroup: "/agents.slice/build".to_owned(),
        process: Process::default(),
    };
    let resource = format!("https://api.example/v1/refunds/{number}");
    let mut operation =
        Operation::new("api", "api.example", 443, Protocol::Http, "http.post", resource);
    operation.fact("http.method", "POST");
    operation.with_body(b"{\"sum\": 1}".as_slice().into());
    let digest = operation.digest(&principal);
    let scope = Scope {
        name: "payments".to_owned(),
        reviewers: vec!["ops".to_owned()],
        quorum: 1,
        deny_threshold: 1,
        request_ttl: Duration::from_secs(3600),
        grant_ttl: Duration::from_secs(300),
        uses: 1,
        reason_required: false,
        reason_pattern: None,
        hours: Vec::new(),
        escalate_after: None,
        escalate_to: Vec::new(),
        break_glass: Vec::new(),
        patterns: false,
    };
    Ask { principal, operation, digest, scopes: vec![scope], policy: "sha256:1".to_owned() }
}
