//! Policy as the server distributes it: every version, who made it, and the one in force.
//!
//! A version is a statement signed by the policy key, under a number that only grows; its files
//! are kept by their digest. The highest number is what is in force, also when its files are those
//! of an earlier one. A version comes to be by one compare-and-set, so that of two at once each
//! has its own number.

use super::audit::{Code, Entry};
use super::core::Core;
use super::store::{Keep, Kind};
use crate::policy::signed::{self, PolicyKey, statement_hash};
use crate::policy::{Bundle, Files, Problem, Problems, Severity};
use enforcer_proto::v1;
use prost::Message as _;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

pub mod void;

/// How often it is looked whether another server on the same store made a version.
const LOOK: Duration = Duration::from_secs(5);

/// Bytes of a note.
const NOTE: usize = 1024;

/// Problems and failed tests that one answer tells of.
const TOLD: usize = 200;

/// How often a number is tried again when another version took it.
const RACERS: usize = 16;

/// The version in force.
#[derive(Debug)]
pub struct Current {
    /// What the key says about it.
    pub statement: v1::PolicyStatement,
    /// The same, signed, with the files.
    pub message: v1::PolicyBundle,
    /// What names the statement.
    pub hash: [u8; 32],
    /// The bundle.
    pub bundle: Bundle,
}

/// The policy key, and what it signed last.
#[derive(Debug)]
pub struct Policies {
    key: PolicyKey,
    current: watch::Sender<Option<Arc<Current>>>,
    /// The versions of all bundles that were ever in force.
    known: Mutex<HashSet<String>>,
    changing: tokio::sync::Mutex<()>,
}

impl Policies {
    /// With nothing in force; see [`load`].
    pub fn new(key: PolicyKey) -> Self {
        Self {
            key,
            current: watch::Sender::new(None),
            known: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The key.
    pub fn key(&self) -> &PolicyKey {
        &self.key
    }

    /// The version in force.
    pub fn current(&self) -> Option<Arc<Current>> {
        self.current.borrow().clone()
    }

    /// The version in force, and each that follows.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Current>>> {
        self.current.subscribe()
    }

    /// Whether a bundle of that version was distributed from here, and is not in force any more.
    pub fn superseded(&self, version: &str) -> bool {
        let in_force = self.current().is_some_and(|current| current.statement.version == version);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !in_force && known.contains(version)
    }

    fn number(&self) -> u64 {
        self.current.borrow().as_ref().map_or(0, |current| current.statement.number)
    }

    fn know(&self, version: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(version.to_owned());
    }
}

fn key_of(number: u64) -> String {
    format!("{number:020}")
}

/// Every version, oldest first, as far as the key signed it.
async fn versions(core: &Core) -> Result<Vec<(v1::SignedPolicy, v1::PolicyStatement)>, Status> {
    let public = core.policies.key.public();
    let mut all = Vec::new();
    for (key, stored) in core.store.all_kept(Kind::Policy).await? {
        let signed = v1::SignedPolicy::decode(&stored[..]).ok();
        match signed.and_then(|signed| Some((public.statement(&signed).ok()?, signed))) {
            Some((statement, signed)) => all.push((signed, statement)),
            None => tracing::error!(
                version = %key,
                "a policy version in the store is not signed by the policy key, and is left out"
            ),
        }
    }
    all.sort_by_key(|(_, statement)| statement.number);
    Ok(all)
}

/// Puts the newest version of the store in force here.
///
/// # Errors
/// When the store fails.
pub async fn load(core: &Core) -> Result<(), Status> {
    let all = versions(core).await?;
    for (_, statement) in &all {
        core.policies.know(&statement.version);
    }
    match all.into_iter().next_back() {
        Some((signed, statement)) => take(core, signed, statement).await,
        None => Ok(()),
    }
}

/// Looks now and then for versions that another server on the same store made.
pub async fn follow(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        catch_up(&core).await;
    }
}

/// Puts what another server on the same store made in force here. What was asked here in the
/// meantime, under a version that is not in force any more, is looked at again.
pub async fn catch_up(core: &Core) {
    let before = core.policies.number();
    let done = async {
        refresh(core).await?;
        if core.policies.number() != before {
            void::settle(core, "server").await?;
        }
        Ok::<_, Status>(())
    };
    if let Err(status) = done.await {
        tracing::error!(error = status.message(), "policy versions could not be looked for");
    }
}

async fn refresh(core: &Core) -> Result<(), Status> {
    let public = core.policies.key.public();
    loop {
        let next = core.policies.number() + 1;
        let Some(stored) = core.store.kept(Kind::Policy, &key_of(next)).await? else {
            return Ok(());
        };
        let signed = v1::SignedPolicy::decode(&stored[..]).ok();
        let Some((statement, signed)) =
            signed.and_then(|signed| Some((public.statement(&signed).ok()?, signed)))
        else {
            return Err(Status::internal(format!("version {next} is not by the policy key")));
        };
        take(core, signed, statement).await?;
    }
}

/// Puts a version of the store in force here.
async fn take(
    core: &Core,
    signed: v1::SignedPolicy,
    statement: v1::PolicyStatement,
) -> Result<(), Status> {
    let files = files_of(core, &statement).await?;
    let hash = statement_hash(&signed);
    let message = v1::PolicyBundle { signed: Some(signed), files };
    let public = core.policies.key.public();
    let built = tokio::task::spawn_blocking(move || {
        public.bundle(&message).map(|(_, bundle)| (message, bundle))
    });
    let built = built.await.map_err(|_| Status::internal("the bundle could not be loaded"))?;
    let (message, bundle) = built.map_err(|error| {
        let number = statement.number;
        tracing::error!(number, %error, "a policy version of the store cannot be used");
        Status::internal(format!("version {number} of the store cannot be used"))
    })?;
    core.policies.know(&statement.version);
    let next = Arc::new(Current { statement, message, hash, bundle });
    core.policies.current.send_if_modified(|current| {
        let newer = current.as_ref().is_none_or(|now| now.statement.number < next.statement.number);
        if newer {
            *current = Some(Arc::clone(&next));
        }
        newer
    });
    Ok(())
}

async fn files_of(
    core: &Core,
    statement: &v1::PolicyStatement,
) -> Result<Vec<v1::PolicyFile>, Status> {
    let key = hex::encode(&statement.digest);
    let stored = core.store.kept(Kind::PolicyFiles, &key).await?;
    let files = stored.and_then(|stored| v1::PolicyFiles::decode(&stored[..]).ok());
    let gone = || Status::internal(format!("the files of version {} are gone", statement.number));
    Ok(files.ok_or_else(gone)?.files)
}

/// What became of a bundle's check and tests.
struct Checked {
    bundle: Option<Bundle>,
    answer: v1::PushPolicyResponse,
}

impl Checked {
    /// The bundle, when nothing keeps it from being used.
    fn good(self) -> Result<(Bundle, v1::PushPolicyResponse), Box<v1::PushPolicyResponse>> {
        match self.bundle {
            Some(bundle) if self.answer.failures.is_empty() => Ok((bundle, self.answer)),
            _ => Err(Box::new(self.answer)),
        }
    }
}

fn check(files: &Files) -> Checked {
    let told = |problem: &Problem| v1::PolicyProblem {
        error: problem.severity == Severity::Error,
        text: problem.to_string(),
    };
    let all = |problems: &Problems| problems.iter().take(TOLD).map(told).collect();
    let bundle = match Bundle::from_files(files) {
        Ok(bundle) => bundle,
        Err(problems) => {
            let answer = v1::PushPolicyResponse { problems: all(&problems), ..<_>::default() };
            return Checked { bundle: None, answer };
        }
    };
    let mut answer = v1::PushPolicyResponse {
        problems: all(bundle.warnings()),
        tests: u32::try_from(bundle.cases().len()).unwrap_or(u32::MAX),
        ..<_>::default()
    };
    for case in bundle.cases() {
        let got = match bundle.run(case) {
            Ok(outcome) if outcome.passed => continue,
            Ok(outcome) => {
                let rules = outcome.judgement.rules.join(", ");
                format!("{} by {rules}", outcome.judgement.verdict)
            }
            Err(error) => error.to_string(),
        };
        if answer.failures.len() < TOLD {
            answer.failures.push(v1::PolicyTestFailure {
                file: case.file.clone(),
                name: case.name.clone(),
                expected: case.expect.to_string(),
                got,
            });
        }
    }
    Checked { bundle: Some(bundle), answer }
}

/// Checks a bundle, runs its tests, and puts it in force. An answer without `accepted` says why
/// it was not.
///
/// # Errors
/// When the message is not one of a bundle, or the store fails.
pub async fn push(
    core: &Core,
    actor: &str,
    request: v1::PushPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    noted(&request.note)?;
    let files = signed::files(&request.files).map_err(Status::invalid_argument)?;
    let message = signed::to_message(&files);
    let _one = core.policies.changing.lock().await;
    let checked = tokio::task::spawn_blocking(move || check(&files)).await;
    let checked = checked.map_err(|_| Status::internal("the bundle could not be checked"))?;
    let (bundle, mut answer) = match checked.good() {
        Ok(good) => good,
        Err(answer) => {
            if !request.dry_run {
                let detail = format!(
                    "errors={} failed-tests={}",
                    answer.problems.iter().filter(|problem| problem.error).count(),
                    answer.failures.len()
                );
                core.note(Entry::new(Code::PolicyRefused, actor, "", detail)).await?;
            }
            return Ok(*answer);
        }
    };
    if request.dry_run {
        return Ok(answer);
    }
    let key = hex::encode(bundle.digest());
    let next = Some(v1::PolicyFiles { files: message }.encode_to_vec());
    // The same files under the same digest: one that is there is as good.
    let keep = Keep { kind: Kind::PolicyFiles, key, was: None, next };
    core.store.keep(keep, None, core.clock.now()).await?;
    let statement = v1::PolicyStatement {
        digest: bundle.digest().to_vec(),
        version: bundle.version().to_owned(),
        actor: actor.to_owned(),
        note: request.note,
        ..v1::PolicyStatement::default()
    };
    let accepted = state(core, statement, Code::PolicyPushed).await?;
    answer.voided = void::settle(core, actor).await?;
    answer.accepted = Some(accepted);
    Ok(answer)
}

/// Puts the files of an earlier version in force again, under a new number.
///
/// # Errors
/// When there is no such version, it is the one in force, or it cannot be used any more.
pub async fn roll_back(
    core: &Core,
    actor: &str,
    request: v1::RollBackPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    noted(&request.note)?;
    let _one = core.policies.changing.lock().await;
    refresh(core).await?;
    let old = version(core, request.number).await?.1;
    if core.policies.current().is_some_and(|now| now.statement.digest == old.digest) {
        return Err(Status::failed_precondition(format!(
            "the files of version {} are in force already",
            old.number
        )));
    }
    // What could be used once may not be by this version of the server, or fail its tests.
    let files = files_of(core, &old).await?;
    let files = signed::files(&files).map_err(Status::failed_precondition)?;
    let checked = tokio::task::spawn_blocking(move || check(&files)).await;
    let checked = checked.map_err(|_| Status::internal("the bundle could not be checked"))?;
    let mut answer = match checked.good() {
        Ok((_, answer)) => answer,
        Err(answer) => return Ok(*answer),
    };
    let statement = v1::PolicyStatement {
        digest: old.digest,
        version: old.version,
        actor: actor.to_owned(),
        note: request.note,
        again: old.number,
        ..v1::PolicyStatement::default()
    };
    let accepted = state(core, statement, Code::PolicyRolledBack).await?;
    answer.voided = void::settle(core, actor).await?;
    answer.accepted = Some(accepted);
    Ok(answer)
}

/// Signs a statement under the next number, keeps it and puts it in force.
async fn state(
    core: &Core,
    mut statement: v1::PolicyStatement,
    code: Code,
) -> Result<v1::PolicyStatement, Status> {
    for _ in 0..RACERS {
        refresh(core).await?;
        let now = core.clock.now();
        statement.number = core.policies.number() + 1;
        statement.unix_ms = now;
        let signed = core.policies.key.sign(&statement);
        let detail = match statement.again {
            0 => format!("{} {}", statement.version, statement.note),
            again => format!("{} of version {again} {}", statement.version, statement.note),
        };
        let entry = Entry::new(code, &statement.actor, statement.number, detail.trim_end());
        let keep = Keep {
            kind: Kind::Policy,
            key: key_of(statement.number),
            was: None,
            next: Some(signed.encode_to_vec()),
        };
        if core.store.keep(keep, Some(entry), now).await? {
            core.metrics.event(code);
            take(core, signed, statement.clone()).await?;
            tracing::info!(
                number = statement.number, policy = %statement.version, actor = %statement.actor,
                "a policy version is in force"
            );
            return Ok(statement);
        }
    }
    Err(Status::unavailable("too many versions at once; try again"))
}

/// Every version, newest first; at most so many.
///
/// # Errors
/// When the store fails.
pub async fn list(core: &Core, limit: usize) -> Result<Vec<v1::PolicyStatement>, Status> {
    let all = versions(core).await?;
    Ok(all.into_iter().rev().take(limit).map(|(_, statement)| statement).collect())
}

/// One version with its files; 0 is the one in force.
///
/// # Errors
/// When there is none, or the store fails.
pub async fn show(core: &Core, number: u64) -> Result<v1::PolicyBundle, Status> {
    if number == 0 {
        let none = || Status::not_found("nobody pushed a policy yet");
        return Ok(core.policies.current().ok_or_else(none)?.message.clone());
    }
    let (signed, statement) = version(core, number).await?;
    let files = files_of(core, &statement).await?;
    Ok(v1::PolicyBundle { signed: Some(signed), files })
}

async fn version(
    core: &Core,
    number: u64,
) -> Result<(v1::SignedPolicy, v1::PolicyStatement), Status> {
    let stored = core.store.kept(Kind::Policy, &key_of(number)).await?;
    let signed = stored.and_then(|stored| v1::SignedPolicy::decode(&stored[..]).ok());
    let public = core.policies.key.public();
    signed
        .and_then(|signed| Some((public.statement(&signed).ok()?, signed)))
        .map(|(statement, signed)| (signed, statement))
        .ok_or_else(|| Status::not_found(format!("there is no version {number}")))
}

fn noted(note: &str) -> Result<(), Status> {
    match note.len() <= NOTE && !note.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(Status::invalid_argument("the note must be one line of 1024 bytes at most")),
    }
}
