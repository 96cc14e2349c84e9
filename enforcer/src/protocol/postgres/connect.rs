//! Signing in: the operation that a session is, from its start-up to its end.
//!
//! It is decided and recorded before the upstream is dialled. The role, the database and the
//! credentials are policy's; what the agent sent as its password is never asked for. While the
//! session lasts its permit is watched: when it falls, the connection is cut.

use super::cancel::Registered;
use super::codec::startup::Startup;
use super::codec::{backend, error_response};
use super::encoding::{encoding_refused, is_utf8, unreadable};
use super::io::{Wire, WireError};
use super::replication::Replication;
use super::serve::tell_fatal;
use super::talk::{About, Talk};
use super::upstream::{ConnectError, Peer, Reach, Ready};
use super::veil::Withheld;
use super::{refuse, talk};
use crate::decide::{Denial, Permit};
use crate::flow::{Asked, Flow, Ledger, Outcome, Place};
use crate::operation::{Fact, Operation, Protocol};
use crate::policy::{Bundle, Postgres, Target, sql};
use crate::session::Exchange;
use enforcer_proto::v1::{self, event::Kind};
use std::sync::Arc;
use tokio::sync::oneshot;

/// `protocol_violation`.
pub(super) const BAD_START: &str = "08P01";
/// `connection_failure`.
const NO_UPSTREAM: &str = "08006";
/// What a connection replicates.
const REPLICATES: &str = "sql.replicates";
/// The database of who replicates them all.
const EVERY_DATABASE: &str = "replication";
/// What a setting of the start-up is called among the facts; its name follows.
const SETTING: &str = "sql.setting.";

/// A session that is asked for.
pub(super) struct Connect {
    flow: Arc<Flow>,
    place: Arc<Place>,
    client: Wire,
    startup: Startup,
    encrypted: bool,
    asked: Option<Arc<Asked>>,
    /// Tells the connection's own end; gone when the connection is cut.
    ended: oneshot::Sender<Outcome>,
}

impl Connect {
    pub(super) fn new(
        flow: Arc<Flow>,
        place: Place,
        client: Wire,
        startup: Startup,
        encrypted: bool,
        ended: oneshot::Sender<Outcome>,
    ) -> Self {
        Self { flow, place: Arc::new(place), client, startup, encrypted, asked: None, ended }
    }

    /// The user that the agent signs in as.
    fn user(&self) -> &str {
        self.startup.get("user").unwrap_or_default()
    }

    /// The database that it asks for; PostgreSQL's default is the user's name. Replication of the
    /// whole cluster is of none, and `pg_hba.conf` calls that so.
    fn database(&self) -> &str {
        if self.replicates() == Some(Replication::Physical) {
            return EVERY_DATABASE;
        }
        match self.startup.get("database") {
            None | Some("") => self.user(),
            Some(database) => database,
        }
    }

    /// What it replicates, if that is what the connection is for.
    fn replicates(&self) -> Option<Replication> {
        Replication::asked(self.startup.get("replication")).ok().flatten()
    }

    /// The database as the upstream calls it.
    fn upstream_database<'a>(&'a self, postgres: &'a Postgres) -> Option<&'a str> {
        match self.replicates() {
            Some(Replication::Physical) => Some(EVERY_DATABASE),
            _ => postgres.database_of(self.database()),
        }
    }

    /// The settings that go upstream: all but who and what, and the encoding, which is fixed.
    fn settings(&self) -> impl Iterator<Item = &(String, String)> {
        let own = ["user", "database", "replication", "client_encoding"];
        self.startup.parameters.iter().filter(move |(name, _)| !own.contains(&name.as_str()))
    }

    /// What is wrong with the start-up under what policy says of the target.
    fn flaw(&self, bundle: &Bundle, target: Option<&Target>) -> Option<Denial> {
        let database = self.database();
        if self.user().is_empty() {
            return Some(Denial::new("bad-start-up", "the start-up names no user"));
        }
        let Ok(replicates) = Replication::asked(self.startup.get("replication")) else {
            return Some(Denial::new(
                "bad-start-up",
                "the start-up's `replication` is none of on, off and database",
            ));
        };
        if let Some(encoding) = self.startup.get("client_encoding")
            && !is_utf8(encoding)
        {
            return Some(encoding_refused(encoding));
        }
        // Without a target there is nothing to say; policy says that it knows none.
        let target = target?;
        let postgres = target.postgres.as_ref()?;
        if replicates.is_some()
            && let Some(flaw) = unreplicable(bundle, target, postgres)
        {
            return Some(flaw);
        }
        if postgres.role_of(self.user()).is_none() {
            let why = format!("policy maps user {:?} to no role of this target", self.user());
            return Some(Denial::new("unknown-user", why));
        }
        if self.upstream_database(postgres).is_none() {
            let why = format!("policy knows no database {database:?} of this target");
            return Some(Denial::new("unknown-database", why));
        }
        None
    }

    fn end(self, outcome: Outcome) -> Outcome {
        // Nobody waits when the flow was cut; its outcome is then already known.
        let _ = self.ended.send(outcome.clone());
        outcome
    }

    async fn fail(mut self, error: &ConnectError) -> Outcome {
        match &error.report {
            Some(report) => {
                report.put(self.client.out(), error_response::ERROR);
                let _ = self.client.flush().await;
            }
            None => tell_fatal(&mut self.client, NO_UPSTREAM, public(error.code)).await,
        }
        let outcome = Outcome::failed(error.code, error);
        self.end(outcome)
    }

    /// Answers the start-up as a server that asks for nothing, and gives the agent a key of ours.
    fn welcome(&mut self, ready: &Ready, own: &Registered) {
        let out = self.client.out();
        backend::put_authenticated(out);
        for (name, value) in &ready.parameters {
            // The role is not the agent's, but what it may do follows from it.
            backend::put_parameter(out, name, value);
        }
        backend::put_key_data(out, own.process, &own.key);
        backend::put_ready(out, backend::Transaction::Idle);
    }
}

impl Exchange for Connect {
    fn place(&self) -> &Arc<Place> {
        &self.place
    }

    async fn ask(&mut self, flow: &Flow) -> (Arc<Asked>, Option<Denial>) {
        let bundle = flow.inputs.decider.bundle();
        let target = self.place.target(&bundle);
        let postgres = target.and_then(|target| target.postgres.as_ref());
        let flaw = self.flaw(&bundle, target.map(|target| &**target));
        let role = postgres.and_then(|postgres| postgres.role_of(self.user()));
        let database = postgres.and_then(|postgres| self.upstream_database(postgres));
        let database = database.unwrap_or_else(|| self.database());
        let Place { name, port, .. } = &*self.place;
        let mut operation = Operation::new(
            target.map_or("", |target| target.name.as_str()),
            name,
            *port,
            Protocol::Postgres,
            "sql.connect",
            format!("postgres://{name}:{port}/{database}"),
        );
        operation.fact(sql::USER, self.user());
        operation.fact(sql::DATABASE, database);
        operation.fact(sql::ROLE, role.map_or("", |role| role.name.as_str()));
        if let Some(replicates) = self.replicates() {
            operation.fact(REPLICATES, replicates.parameter());
            operation.fact(sql::ACTIONS, Fact::List(vec!["sql.replication".to_owned()]));
        }
        for (name, value) in self.settings() {
            operation.fact(format!("{SETTING}{name}"), value.as_str());
        }
        let notes = vec![v1::Fact {
            name: "tls".to_owned(),
            value: Some(v1::fact::Value::Flag(self.encrypted)),
        }];
        let asked = Arc::new(Asked::new(operation, Vec::new(), notes, &flow.principal));
        self.asked = Some(Arc::clone(&asked));
        (asked, flaw)
    }

    async fn gone(&mut self) {
        tokio::select! {
            () = self.client.gone() => {}
            () = self.ended.closed() => {}
        }
    }

    async fn refuse(mut self, denial: &Denial, _: &Ledger) -> Outcome {
        if let Some(asked) = &self.asked {
            refuse::denied(denial, asked, true).put(self.client.out(), error_response::ERROR);
            let _ = self.client.flush().await;
        }
        self.end(Outcome::refused(denial.code))
    }

    async fn forward(mut self, permit: Permit, flow: &Flow, ledger: &Ledger) -> Outcome {
        let (reach, asked_as) = match self.reach(&permit) {
            Ok(found) => found,
            Err(error) => return self.fail(&error).await,
        };
        let mut settings: Vec<_> = self.settings().cloned().collect();
        settings.push(("client_encoding".to_owned(), "UTF8".to_owned()));
        let replicates = self.replicates();
        if let Some(replicates) = replicates {
            settings.push(("replication".to_owned(), replicates.parameter().to_owned()));
        }
        let signing = Box::pin(reach.sign_in(&flow.inputs, self.startup.minor, &settings));
        let signed_in = tokio::select! {
            biased;
            () = self.ended.closed() => return Outcome::cut("cut", "the connection was cut"),
            signed_in = signing => signed_in,
        };
        let (ready, peer) = match signed_in {
            Ok(signed_in) => signed_in,
            Err(error) => return self.fail(&error).await,
        };
        if let Err(error) = ledger.append([Kind::Forwarded(forwarded(&peer))]).await {
            let outcome = Outcome::cut(error.code(), error);
            return self.end(outcome);
        }
        let odd = unreadable(&|name| ready.parameter(name).map(str::to_owned));
        if let Some(why) = odd {
            return self.fail(&ConnectError { code: "encoding", detail: why, report: None }).await;
        }
        let long = self.startup.minor >= 2;
        let cancels = &flow.inputs.databases.cancels;
        let backend = ready.key.as_ref().map(|(process, _)| *process);
        let Some(own) = cancels.register(&flow.principal.agent, backend, long) else {
            let detail = "no cancel key could be made".to_owned();
            return self.fail(&ConnectError { code: "internal", detail, report: None }).await;
        };
        self.welcome(&ready, &own);
        if let Err(error) = self.client.flush().await {
            let outcome = super::serve::broke(&error);
            return self.end(outcome);
        }
        let Self { flow: shared, place, client, mut ended, .. } = self;
        let about = Arc::new(About {
            flow: Arc::clone(&shared),
            place,
            user: asked_as,
            replicates,
            reach,
            peer,
            backend: ready.key.clone(),
            asked: own.asked.clone(),
        });
        let cancelling = pass_cancels(Arc::clone(&about), own);
        let talking = talk::run(Talk::new(about, client, ready));
        let outcome = tokio::select! {
            biased;
            () = ended.closed() => Outcome::cut("cut", "the connection was cut"),
            outcome = Box::pin(talking) => outcome,
            () = cancelling => Outcome::cut("cut", "its cancel key is gone"),
        };
        let _ = ended.send(outcome.clone());
        outcome
    }
}

impl Connect {
    /// Where the permit leads, and the user that was asked for. The permit may be of a newer
    /// policy than the one that the start-up was read under: what was judged must still hold.
    fn reach(&self, permit: &Permit) -> Result<(Reach, String), ConnectError> {
        let changed = || ConnectError {
            code: "policy-changed",
            detail: "policy changed, and role or database were not judged under it".to_owned(),
            report: None,
        };
        let postgres = permit.target().postgres.as_ref().ok_or_else(changed)?;
        let role = postgres.role_of(self.user()).ok_or_else(changed)?.clone();
        let database = self.upstream_database(postgres).ok_or_else(changed)?.to_owned();
        let operation = &permit.asked().operation;
        let judged = operation.get(sql::ROLE) == Some(&role.name.as_str().into())
            && operation.get(sql::DATABASE) == Some(&database.as_str().into());
        if !judged {
            return Err(changed());
        }
        Ok((Reach::new(permit, postgres.tls, role, database), self.user().to_owned()))
    }
}

/// Why a target does not take the replication protocol.
fn unreplicable(bundle: &Bundle, target: &Target, postgres: &Postgres) -> Option<Denial> {
    if !postgres.replication {
        return Some(Denial::new(
            "replication-refused",
            "this target does not take the replication protocol",
        ));
    }
    let masked = !bundle.masks_for(target).columns().is_empty();
    masked.then(|| Denial::new(Withheld::Stream.code(), Withheld::Stream.to_string()))
}

/// Passes the agent's cancel requests on to the backend; ends when the session's key is gone.
async fn pass_cancels(about: Arc<About>, mut own: Registered) {
    while own.asked.changed().await.is_ok() {
        let count = *own.asked.borrow_and_update();
        if let Some((process, key)) = &about.backend {
            let inputs = &about.flow.inputs;
            if let Err(error) = Box::pin(about.reach.cancel(inputs, *process, key)).await {
                tracing::debug!(%error, "a cancel request could not be passed on");
            }
        }
        own.passed.send_replace(count);
    }
}

/// The far end as it is recorded.
pub(super) fn forwarded(peer: &Peer) -> v1::Forwarded {
    let tls = peer.tls.clone().unwrap_or_default();
    v1::Forwarded {
        upstream: peer.addr.to_string(),
        tls_version: tls.version,
        certificate_sha256: tls.certificate_sha256,
        alpn: tls.alpn,
        uninspected: false,
    }
}

/// What an agent is told of a failure: the kind of thing, not the inside of the host.
fn public(code: &str) -> &'static str {
    match code {
        "upstream-tls" => "enforcer: the upstream's TLS could not be verified",
        "upstream-sign-in" => "enforcer: the upstream refused the credentials of this target",
        "credential" => "enforcer: the credentials of this target cannot be used",
        "upstream-timeout" | "dial-timeout" => "enforcer: the upstream did not answer in time",
        "address-forbidden" | "own-port" => {
            "enforcer: the name leads to an address that may not be reached"
        }
        "encoding" => {
            "enforcer: the session must use client_encoding UTF8 and standard_conforming_strings on"
        }
        "policy-changed" => "enforcer: policy just changed; connect again",
        _ => "enforcer: the upstream cannot be reached",
    }
}

/// How the upstream's side ends a connection.
pub(super) fn upstream_broke(error: &WireError) -> Outcome {
    match error {
        WireError::Closed => Outcome::failed("upstream-closed", "the upstream closed the session"),
        error => Outcome::failed("upstream-broke", error),
    }
}
