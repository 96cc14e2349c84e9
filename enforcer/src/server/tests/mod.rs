//! The server in this process, its real clients over real mTLS on a port of the
//! system's choice, and a clock that only the test moves.

use super::clock::{Clock, wall};
use super::config::Config;
use super::model::Millis;
use super::run::{Running, open_at, start_at};
use crate::approval::client::{Client, Options};
use crate::approval::identity::{Identity, Role};
use crate::approval::token::Token;
use crate::approval::{
    ApprovalError, ApprovalId, Approvals, Ask, NotGranted, Scope, State, convert, join, tls,
};
use crate::operation::{Operation, OperationId, Protocol};
use crate::principal::{AgentName, Principal, Process};
use bytes::Bytes;
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use enforcer_proto::v1::approvals_client::ApprovalsClient;
use enforcer_proto::v1::review_client::ReviewClient;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;

mod access;
mod attacks;
mod browser;
mod clock;
mod console;
mod console_tasks;
mod life;
mod link;
mod members;
mod notify;
mod oidc;
mod policies;
mod replicas;
mod strict;
mod tasks;

/// A server and the directory that everything is in.
struct Harness {
    dir: TempDir,
    config: Config,
    time: Arc<AtomicI64>,
    running: Option<Running>,
}

impl Harness {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(more: &str) -> Self {
        let mut harness = Self::made(more);
        harness.run().await;
        harness
    }

    /// All but the running server.
    fn made(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nnames = [\"localhost\", \"127.0.0.1\"]\ndata_dir = \"data\"\n{more}"
        );
        let config = Config::parse(&text, &dir.path().join("server.toml")).unwrap();
        Self { dir, config, time: Arc::new(AtomicI64::new(wall())), running: None }
    }

    fn clock(&self) -> Clock {
        Clock::Manual(Arc::clone(&self.time))
    }

    async fn run(&mut self) {
        self.run_by(self.clock()).await;
    }

    async fn run_by(&mut self, clock: Clock) {
        let running = start_at(self.config.clone(), Some(clock)).await.unwrap();
        // From now on the port is ours: a restart comes back at the same address.
        self.config.listen = running.address;
        self.running = Some(running);
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    fn server(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn url(&self) -> String {
        format!("https://{}", self.config.listen)
    }

    fn pass(&self, time: Duration) {
        let ms = Millis::try_from(time.as_millis()).unwrap();
        self.time.fetch_add(ms, Ordering::Relaxed);
        self.server().core().expiry.look();
    }

    async fn token(&self, role: Role, name: &str, groups: &[&str]) -> Token {
        let ask = v1::CreateTokenRequest {
            role: role.wire().into(),
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ttl_seconds: 60,
        };
        let core = self.server().core();
        let made = super::service::admin::create_token(core, "test", ask).await.unwrap();
        Token::parse(&made.token).unwrap()
    }

    fn identity_dir(&self, role: Role, name: &str) -> PathBuf {
        self.dir.path().join(format!("{}-{name}", role.as_str()))
    }

    async fn join(&self, role: Role, name: &str, groups: &[&str]) -> Channel {
        let token = self.token(role, name, groups).await;
        let dir = self.identity_dir(role, name);
        let identity = join::join(&self.url(), &token, &dir).await.unwrap();
        tls::channel(&self.url(), &identity).unwrap()
    }

    async fn daemon(&self, host: &str) -> ApprovalsClient<Channel> {
        ApprovalsClient::new(self.join(Role::Daemon, host, &[]).await)
    }

    async fn reviewer(&self, name: &str, groups: &[&str]) -> ReviewClient<Channel> {
        ReviewClient::new(self.join(Role::Reviewer, name, groups).await)
    }

    fn options(&self, host: &str) -> Options {
        Options {
            url: self.url(),
            dir: self.identity_dir(Role::Daemon, host),
            token_file: None,
            host: host.to_owned(),
            lost_after: Duration::from_millis(200),
            silence: Duration::from_secs(12),
            renewal_retry: (Duration::from_millis(20), Duration::from_millis(100)),
            policy_again: Duration::from_millis(20),
        }
    }

    async fn client(&self, host: &str) -> Approvals {
        drop(self.join(Role::Daemon, host, &[]).await);
        let client = Client::start(self.options(host)).unwrap();
        client.ready().await;
        Approvals::Remote(client)
    }

    async fn audit(&self) -> Vec<v1::AuditRecord> {
        let records = self.server().core().store.audit(0, usize::MAX).await.unwrap();
        let mut verifier = super::audit::Verifier::default();
        records.iter().for_each(|record| verifier.next(record).unwrap());
        records
    }

    async fn audited(&self, code: &str) -> Vec<v1::AuditRecord> {
        self.audit().await.into_iter().filter(|record| record.code == code).collect()
    }
}

fn scope(name: &str, groups: &[&str], quorum: u32, uses: u32) -> Scope {
    Scope {
        name: name.to_owned(),
        reviewers: groups.iter().map(|g| (*g).to_owned()).collect(),
        quorum,
        deny_threshold: 1,
        request_ttl: Duration::from_secs(60),
        grant_ttl: Duration::from_secs(30),
        uses,
        reason_required: false,
        reason_pattern: None,
        hours: Vec::new(),
        escalate_after: None,
        escalate_to: Vec::new(),
        break_glass: Vec::new(),
        patterns: false,
    }
}

fn ask(host: &str, path: &str, scopes: Vec<Scope>) -> Ask {
    let principal = Principal {
        host: host.to_owned(),
        agent: AgentName::parse("build").unwrap(),
        task: None,
        cgroup: "/agents.slice/build".to_owned(),
        process: Process::default(),
    };
    let resource = format!("https://api.example{path}");
    let mut operation =
        Operation::new("api", "api.example", 443, Protocol::Http, "http.post", resource);
    operation.fact("http.method", "POST");
    operation.fact("http.path", path);
    operation.with_body(Bytes::from_static(b"{\"sum\":1}"));
    let digest = operation.digest(&principal);
    Ask { principal, operation, digest, scopes, policy: "sha256:1".to_owned() }
}

fn wire(host: &str, path: &str) -> v1::ApprovalRequest {
    convert::request(ask(host, path, vec![scope("s", &["ops"], 1, 1)]))
}

fn vote(id: impl ToString, digest: impl ToString, approve: bool) -> v1::DecideRequest {
    v1::DecideRequest {
        id: id.to_string(),
        approve,
        reason: "because".to_owned(),
        digest: digest.to_string(),
        break_glass: false,
    }
}

fn claim(id: impl ToString, digest: impl ToString) -> v1::ClaimRequest {
    v1::ClaimRequest {
        id: id.to_string(),
        digest: digest.to_string(),
        operation: OperationId::new().to_string(),
        step: None,
    }
}

fn gone(role: Role, name: &str) -> v1::RemoveMemberRequest {
    let (role, name) = (role.wire().into(), name.to_owned());
    v1::RemoveMemberRequest { role, name, reason: "left".to_owned() }
}

fn get(id: impl ToString) -> v1::GetRequest {
    v1::GetRequest { id: id.to_string() }
}
