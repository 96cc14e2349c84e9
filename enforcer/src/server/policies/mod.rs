//! Policy as the server distributes it: every version, who made it, and the one in force.
//!
//! A version is a statement signed by the policy key, under a number that only grows; its files
//! are kept by their digest. The highest number is what is in force, also when its files are those
//! of an earlier one. A version comes to be by one compare-and-set, so that of two at once each
//! has its own number.

use super::audit::{Code, Entry};
use super::core::Core;
use super::store::{Keep, Kind};
use crate::policy::signed::{self, PolicyKey};
use crate::policy::{Bundle, Files, Problem, Problems, Severity};
use enforcer_proto::v1;
use prost::Message as _;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Status;

mod follow;
pub mod void;

pub use follow::{catch_up, follow, load};

/// What whoever made a version has time for to void what it does not bear. Meanwhile a claim is
/// looked at by itself.
const SOON: Duration = Duration::from_secs(2);

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
    /// The highest number in the store, whoever signed it; `None` before the first look.
    highest: Mutex<Option<u64>>,
    /// The highest number that cannot be used here, and why.
    stuck: Mutex<Option<(u64, String)>>,
    settling: Settling,
    look: Notify,
    changing: tokio::sync::Mutex<()>,
}

/// Whether all that was asked and granted was looked at since the last change.
#[derive(Debug, Default)]
struct Settling {
    /// How often there was something to look at.
    wanted: AtomicU64,
    /// Up to where it was done.
    done: AtomicU64,
    /// When the version in force came to be.
    since: Mutex<Option<Instant>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Policies {
    /// With nothing in force; see [`load`].
    pub fn new(key: PolicyKey) -> Self {
        Self {
            key,
            current: watch::Sender::new(None),
            known: Mutex::default(),
            highest: Mutex::default(),
            stuck: Mutex::default(),
            settling: Settling::default(),
            look: Notify::new(),
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

    /// Has [`follow`] look at once for what other servers on the same store made.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Why the newest version of the store is not in force here, when it is not. What is in force
    /// is not the newest then, and nobody is to be told that it is.
    pub fn stuck(&self) -> Option<String> {
        let stuck = held(&self.stuck);
        let (number, why) = stuck.as_ref().filter(|(number, _)| *number > self.number())?;
        Some(format!("policy version {number} of the store cannot be used by this server: {why}"))
    }

    /// Whether a bundle of that version was distributed from here.
    pub fn distributed(&self, version: &str) -> bool {
        held(&self.known).contains(version)
    }

    /// Whether a bundle of that version was distributed from here, and is not in force any more.
    pub fn superseded(&self, version: &str) -> bool {
        let in_force = self.current().is_some_and(|current| current.statement.version == version);
        !in_force && self.distributed(version)
    }

    /// Says that something was perhaps kept under a version that is not in force any more. It is
    /// looked for until that worked, whoever asks for it and goes away.
    pub fn unsettle(&self) {
        self.settling.wanted.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether something asked or granted is still to be looked at.
    pub fn unsettled(&self) -> bool {
        self.settling.done.load(Ordering::SeqCst) < self.settling.wanted.load(Ordering::SeqCst)
    }

    /// Whether it is on [`follow`] to look at that: whoever made the version does at once, and says
    /// how much it was.
    fn due(&self) -> bool {
        self.unsettled() && held(&self.settling.since).is_none_or(|since| since.elapsed() >= SOON)
    }

    fn number(&self) -> u64 {
        self.current.borrow().as_ref().map_or(0, |current| current.statement.number)
    }

    fn highest(&self) -> Option<u64> {
        *held(&self.highest)
    }

    fn saw(&self, number: u64) {
        let mut highest = held(&self.highest);
        *highest = (*highest).max(Some(number));
    }

    fn know(&self, version: &str) {
        held(&self.known).insert(version.to_owned());
    }

    fn knows_any(&self) -> bool {
        !held(&self.known).is_empty()
    }

    fn stick(&self, number: u64, why: &str) {
        let mut stuck = held(&self.stuck);
        let said = |(other, said): &(u64, String)| {
            (*other, said.as_str()) == (number, why) || *other > number
        };
        if stuck.as_ref().is_some_and(said) {
            return;
        }
        tracing::error!(number, %why, "the newest policy version of the store cannot be used");
        *stuck = Some((number, why.to_owned()));
    }

    /// Puts a version in force, unless a newer one is.
    fn put(&self, next: Current) {
        self.know(&next.statement.version);
        let next = Arc::new(next);
        self.current.send_if_modified(|current| {
            let newer = |now: &Arc<Current>| now.statement.number < next.statement.number;
            let newer = current.as_ref().is_none_or(newer);
            if newer {
                // Before anybody can see it: a claim in between is looked at by itself.
                self.unsettle();
                *held(&self.settling.since) = Some(Instant::now());
                *current = Some(Arc::clone(&next));
            }
            newer
        });
        self.look();
    }
}

fn key_of(number: u64) -> String {
    format!("{number:020}")
}

/// Every version, oldest first, as far as the key signed it.
async fn versions(core: &Core) -> Result<Vec<v1::PolicyStatement>, Status> {
    let public = core.policies.key.public();
    let stored = core.store.all_kept(Kind::Policy).await?;
    let mut all: Vec<_> = stored
        .iter()
        .filter_map(|(key, stored)| Some(follow::read(public, key, stored)?.1))
        .collect();
    all.sort_by_key(|statement| statement.number);
    Ok(all)
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

/// Does it to the end, also when whoever asked for it is gone: a version that is in force voids
/// what it does not bear.
async fn to_the_end(
    core: &Arc<Core>,
    change: impl Future<Output = Result<v1::PushPolicyResponse, Status>> + Send + 'static,
) -> Result<v1::PushPolicyResponse, Status> {
    let own = Arc::clone(core);
    let done = tokio::spawn(async move {
        let done = change.await;
        if own.policies.unsettled() {
            own.policies.look();
        }
        done
    });
    done.await
        .unwrap_or_else(|_| Err(Status::internal("it was not done to the end; look at `versions`")))
}

/// Checks a bundle, runs its tests, and puts it in force. An answer without `accepted` says why
/// it was not.
///
/// # Errors
/// When the message is not one of a bundle, or the store fails.
pub async fn push(
    core: &Arc<Core>,
    actor: &str,
    request: v1::PushPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    noted(&request.note)?;
    let files = signed::files(&request.files).map_err(Status::invalid_argument)?;
    let (own, actor) = (Arc::clone(core), actor.to_owned());
    to_the_end(core, async move { pushed(&own, &actor, files, request).await }).await
}

async fn pushed(
    core: &Core,
    actor: &str,
    files: Files,
    request: v1::PushPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    let message = signed::to_message(&files);
    let _one = core.policies.changing.lock().await;
    let checked = tokio::task::spawn_blocking(move || check(&files)).await;
    let checked = checked.map_err(|_| Status::internal("the bundle could not be checked"))?;
    let (bundle, answer) = match checked.good() {
        Ok(good) => good,
        Err(answer) => {
            if !request.dry_run {
                refused(core, actor, "", &answer).await?;
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
    settled(core, answer, state(core, statement, Code::PolicyPushed).await?).await
}

/// Puts on record that a bundle was not taken.
async fn refused(
    core: &Core,
    actor: &str,
    again: &str,
    answer: &v1::PushPolicyResponse,
) -> Result<(), Status> {
    let errors = answer.problems.iter().filter(|problem| problem.error).count();
    let detail = format!("errors={errors} failed-tests={}{again}", answer.failures.len());
    Ok(core.note(Entry::new(Code::PolicyRefused, actor, "", detail)).await?)
}

/// Voids what a version that came in force does not bear.
async fn settled(
    core: &Core,
    mut answer: v1::PushPolicyResponse,
    accepted: v1::PolicyStatement,
) -> Result<v1::PushPolicyResponse, Status> {
    let voided = void::settle(core, &accepted.actor).await.map_err(|status| {
        let number = accepted.number;
        let what = format!("version {number} is in force; what it voids is looked for again soon");
        Status::new(status.code(), format!("{what}: {}", status.message()))
    });
    answer.voided = voided?;
    answer.accepted = Some(accepted);
    Ok(answer)
}

/// Puts the files of an earlier version in force again, under a new number.
///
/// # Errors
/// When there is no such version, it is the one in force, or it cannot be used any more.
pub async fn roll_back(
    core: &Arc<Core>,
    actor: &str,
    request: v1::RollBackPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    noted(&request.note)?;
    let (own, actor) = (Arc::clone(core), actor.to_owned());
    to_the_end(core, async move { rolled_back(&own, &actor, request).await }).await
}

async fn rolled_back(
    core: &Core,
    actor: &str,
    request: v1::RollBackPolicyRequest,
) -> Result<v1::PushPolicyResponse, Status> {
    let _one = core.policies.changing.lock().await;
    follow::refresh(core).await?;
    let old = version(core, request.number).await?.1;
    // Past one that cannot be used, the one before it is a way back.
    let newest = core.policies.current().filter(|_| core.policies.stuck().is_none());
    if newest.is_some_and(|now| now.statement.digest == old.digest) {
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
    let answer = match checked.good() {
        Ok((_, answer)) => answer,
        Err(answer) => {
            refused(core, actor, &format!(" again={}", old.number), &answer).await?;
            return Ok(*answer);
        }
    };
    let statement = v1::PolicyStatement {
        digest: old.digest,
        version: old.version,
        actor: actor.to_owned(),
        note: request.note,
        again: old.number,
        ..v1::PolicyStatement::default()
    };
    settled(core, answer, state(core, statement, Code::PolicyRolledBack).await?).await
}

/// Signs a statement under the next number, keeps it and puts it in force.
async fn state(
    core: &Core,
    mut statement: v1::PolicyStatement,
    code: Code,
) -> Result<v1::PolicyStatement, Status> {
    let policies = &core.policies;
    for _ in 0..RACERS {
        follow::refresh(core).await?;
        let now = core.clock.now();
        // After whatever is there, also what another key signed.
        let next = policies.highest().unwrap_or(0).checked_add(1);
        statement.number = next.ok_or_else(|| Status::internal("there is no higher number"))?;
        statement.unix_ms = now;
        let signed = policies.key.sign(&statement);
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
            policies.know(&statement.version);
            policies.saw(statement.number);
            follow::bring(core).await;
            if let Some(why) = policies.stuck() {
                return Err(Status::unavailable(why));
            }
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
    Ok(all.into_iter().rev().take(limit).collect())
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
    let key = key_of(number);
    let stored = core.store.kept(Kind::Policy, &key).await?;
    stored
        .and_then(|stored| follow::read(core.policies.key.public(), &key, &stored))
        .ok_or_else(|| Status::not_found(format!("there is no version {number}")))
}

fn noted(note: &str) -> Result<(), Status> {
    match note.len() <= NOTE && !note.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(Status::invalid_argument("the note must be one line of 1024 bytes at most")),
    }
}
