//! The data path with a real server behind it and real clients before it: PostgreSQL from
//! Debian's packages on a free port, psql and pgbench, and connections captured as the kernel
//! would.

mod calls;
mod catalogs;
mod copying;
mod direct;
mod masks;
mod portals;
mod raw;
mod refusals;
mod replication;
mod server;
mod sessions;

use crate::accept::{self, Accept};
use crate::approval::{Approvals, fake};
use crate::capture::{Capture, Captured, fake::Fake as FakeCapture};
use crate::config::Config;
use crate::decide::{Decider, Holds};
use crate::flow::Inputs;
use crate::forward::dial::Dialer;
use crate::metrics::Metrics;
use crate::policy::Bundle;
use crate::principal::{AgentName, Principal, Process};
use crate::protocol::dns::names::{Family, Name, Names};
use crate::protocol::http::Pool;
use crate::protocol::postgres::Databases;
use crate::record::Recorder;
use crate::record::read::{Filter, Transcripts};
use crate::tls::{ca::Ca, client::Upstreams, server::Interceptor};
use enforcer_proto::v1::{self, event::Kind};
use server::Server;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The name of the upstream.
const NAME: &str = "db.test";
/// Nothing in a test may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
@id("all") permit (principal, action, resource == Target::"db");
"#;
const SCOPES: &str = "[[scope]]\nname = \"people\"\nquorum = 1\nrequest_ttl = \"10m\"\n\
                      grant_ttl = \"10m\"\nuses = 1\nreason = \"optional\"\n";

/// A daemon without a kernel half, and a server behind it.
struct World {
    inputs: Arc<Inputs>,
    people: fake::Fake,
    policy: watch::Sender<Arc<Bundle>>,
    server: Server,
    /// The port that policy has for it.
    port: u16,
    /// Where an agent's clients connect to.
    gate: SocketAddr,
    _dir: tempfile::TempDir,
}

/// What policy says beside the rest.
#[derive(Clone, Copy)]
struct Plan {
    rules: &'static str,
    masks: &'static str,
    /// Of `[target.postgres]`.
    postgres: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rules: RULES, masks: "", postgres: "" }
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    async fn with(plan: Plan) -> Self {
        let server = Server::start().await;
        let port = server.port;
        Self::behind(plan, server, port).await
    }

    /// A daemon before a server that is reached on this port.
    async fn behind(plan: Plan, server: Server, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "[host]\nname = \"host-a\"\ndata_dir = {:?}\n[[governed]]\ncgroup = \"/agents.slice\"\n\
             [resolver.hosts]\n\"{NAME}\" = [\"127.0.0.1\"]\n[policy]\ndir = \"/none\"\n",
            dir.path()
        );
        let config = Arc::new(Config::parse(&config, &(32768..=60999)).unwrap());
        let (policy, policy_now) = watch::channel(Arc::new(bundle(&server, port, plan)));
        let people = fake::Fake::new();
        let recorder = Recorder::open(&config.transcript, dir.path()).unwrap();
        let resolver = &config.resolver;
        let names = Arc::new(Names::new(resolver.synthetic_v4, resolver.synthetic_v6, 100));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.ca.clone()).unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca")).unwrap();
        let inputs = Arc::new(Inputs {
            decider: Decider::new(
                policy_now,
                Approvals::Fake(people.clone()),
                Holds::new(&config.limits),
            ),
            recorder,
            names: Arc::clone(&names),
            dialer: Dialer::new(&config).unwrap(),
            interceptor: Interceptor::new(ca).unwrap(),
            upstreams: Upstreams::with_roots(roots).unwrap(),
            pool: Pool::default(),
            databases: Databases::default(),
            metrics: Metrics::default(),
            layers: vec!["cgroup".to_owned()],
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            config,
        });
        let capture = Arc::new(Capture::Fake(FakeCapture::default()));
        let accept = Arc::new(Accept::new(Arc::clone(&capture), Arc::clone(&inputs)));
        let listener = accept::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let proxy = listener.local_addr().unwrap();
        tokio::spawn(accept.listen(listener));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut captured = captured(&capture, &names, proxy, port).await;
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut captured).await;
                });
            }
        });
        Self { inputs, people, policy, server, port, gate, _dir: dir }
    }

    /// Puts another policy in force.
    fn reload(&self, plan: Plan) {
        self.policy.send_replace(Arc::new(bundle(&self.server, self.port, plan)));
    }

    /// Runs a client program against the gate; what it printed, and whether it succeeded.
    async fn client(&self, program: &str, args: &[&str], input: &str) -> (String, bool) {
        self.client_with(program, args, input, "disable").await
    }

    async fn client_with(
        &self,
        program: &str,
        args: &[&str],
        input: &str,
        sslmode: &str,
    ) -> (String, bool) {
        self.server.client(program, args, input, self.gate.port(), sslmode).await
    }

    /// Runs SQL through the gate by psql, aligned output off; what was printed.
    async fn psql(&self, sql: &str) -> String {
        let args = ["-X", "-q", "-A", "-t", "-v", "VERBOSITY=verbose", "-f", "-"];
        self.client("psql", &args, sql).await.0
    }

    /// Runs SQL past the gate, as superuser.
    async fn admin(&self, sql: &str) -> String {
        self.server.admin(sql).await
    }

    /// Everything that was recorded, once every flow is sealed.
    async fn transcripts(&self) -> Vec<Vec<v1::Event>> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let flows = read_flows(&self.inputs.config.transcript_dir());
            let sealed = flows.iter().all(|flow| {
                matches!(flow.last().and_then(|event| event.kind.as_ref()), Some(Kind::FlowEnd(_)))
            });
            if sealed && !flows.is_empty() {
                return flows;
            }
            assert!(tokio::time::Instant::now() < deadline, "a flow was never sealed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The operations that were asked, with how each ended.
    async fn operations(&self) -> Vec<(v1::OperationAsked, v1::Decision, v1::OperationEnd)> {
        let mut all = Vec::new();
        for flow in self.transcripts().await {
            let mut asked: Vec<(Vec<u8>, v1::OperationAsked, v1::Decision)> = Vec::new();
            for event in flow {
                match event.kind {
                    Some(Kind::OperationAsked(one)) => {
                        asked.push((event.operation, one, v1::Decision::default()));
                    }
                    Some(Kind::Decision(decision)) => {
                        let of = asked.iter_mut().find(|one| one.0 == event.operation);
                        of.expect("asked before").2 = decision;
                    }
                    Some(Kind::OperationEnd(end)) => {
                        let at = asked.iter().position(|one| one.0 == event.operation).unwrap();
                        let (_, one, decision) = asked.remove(at);
                        all.push((one, decision, end));
                    }
                    _ => {}
                }
            }
        }
        all
    }
}

/// A connection of the agent that the kernel captured.
async fn captured(capture: &Capture, names: &Names, proxy: SocketAddr, port: u16) -> TcpStream {
    let agent = AgentName::parse("agent-a").unwrap();
    let ip = names.assign(&agent, &Name::parse(NAME).unwrap(), Family::V4).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let Capture::Fake(capture) = capture else { unreachable!() };
    let principal = Principal {
        host: "host-a".into(),
        agent,
        task: None,
        cgroup: "/agents.slice/a".into(),
        process: Process { pid: 7, uid: 1000, comm: "test".into(), ..Process::default() },
    };
    let orig = SocketAddr::new(ip, port);
    let captured = Captured { principal, orig, cookie: 1, call: None };
    capture.add_tcp(socket.local_addr().unwrap(), captured);
    let stream = socket.connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_flows(store: &std::path::Path) -> Vec<Vec<v1::Event>> {
    let store = Transcripts::open(store).unwrap();
    let mut ids = Vec::new();
    store
        .flows(&Filter::default(), |flow| {
            ids.push(flow.id);
            Ok(true)
        })
        .unwrap();
    ids.reverse();
    let events = |id| {
        let mut events = Vec::new();
        store
            .events(id, |event| {
                events.push(event);
                Ok(true)
            })
            .unwrap();
        events
    };
    ids.into_iter().map(events).collect()
}

fn bundle(server: &Server, port: u16, plan: Plan) -> Bundle {
    let targets = format!(
        "[[target]]\nname = \"db\"\nnames = [\"{NAME}\"]\nports = [{}]\nprotocol = \"postgres\"\n\
         resolves_to = [\"127.0.0.0/8\"]\nhold = \"20s\"\n[target.postgres]\n\
         users = {{ \"agent\" = \"app\" }}\n{}\n[[target.postgres.role]]\nname = \"app\"\n\
         file = {:?}\n",
        port, plan.postgres, server.password
    );
    let files = [
        ("targets.toml", targets.as_str()),
        ("rules.cedar", plan.rules),
        ("scopes.toml", SCOPES),
        ("masks.toml", plan.masks),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    match Bundle::from_files(&files) {
        Ok(bundle) => bundle,
        Err(problems) => panic!("{problems:?}"),
    }
}
