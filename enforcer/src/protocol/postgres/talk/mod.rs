//! A session: the agent's messages in turn, and what is known of the backend behind them.
//!
//! Each message is answered before the next is looked at, so that what is known is always the
//! state that the next statement will meet.

mod turns;

pub(super) use turns::run;

use super::case::Kept;
use super::catalog::Want;
use super::codec::backend::{self, Transaction};
use super::codec::error_response::{self, Report};
use super::codec::frontend::{self, Parse};
use super::codec::{CodecError, Message};
use super::connect::upstream_broke;
use super::io::{Wire, WireError};
use super::prepared::Names;
use super::question::{self, How, QuestionError};
use super::reading::{Catalog, Lineage};
use super::replication::Replication;
use super::state::{Known, QUESTION, State};
use super::upstream::{Peer, Reach, Ready};
use super::veil::Veil;
use super::{extended, refuse};
use crate::decide::{Denial, Permit};
use crate::flow::{Flow, Outcome, Place};
use crate::policy::Untraceable;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// What does not change while a session lasts.
pub(super) struct About {
    pub(super) flow: Arc<Flow>,
    pub(super) place: Arc<Place>,
    /// The user that the agent signed in as.
    pub(super) user: String,
    /// What the connection replicates; it is to a walsender then.
    pub(super) replicates: Option<Replication>,
    pub(super) reach: Reach,
    pub(super) peer: Peer,
    /// The backend's process and cancel key.
    pub(super) backend: Option<(u32, Bytes)>,
    /// Counts the agent's cancel requests.
    pub(super) asked: watch::Receiver<u64>,
}

impl About {
    /// Whether a permit's policy would still lead the session where it is, as who it is.
    pub(super) fn still_holds(&self, permit: &Permit) -> bool {
        permit.target().postgres.as_ref().is_some_and(|postgres| {
            let role = postgres.role_of(&self.user).map(|role| role.name.as_str());
            role == Some(self.reach.role())
                && self.reach.is_reached_by(postgres.tls)
                && (self.replicates.is_none() || postgres.replication)
        })
    }
}

/// A session.
pub(super) struct Talk {
    pub(super) about: Arc<About>,
    pub(super) client: Wire,
    pub(super) upstream: Wire,
    /// What the server reported of its settings.
    settings: BTreeMap<String, String>,
    pub(super) state: State,
    pub(super) names: Names,
    pub(super) catalog: Option<Arc<Catalog>>,
    /// When the shared catalog was last looked at, and the changes that had gone through then.
    pub(super) looked: Option<(Instant, u64)>,
    /// What statements came to.
    pub(super) judged: RefCell<Kept>,
    /// The catalog is as this session's open transaction sees it.
    pub(super) own_catalog: bool,
    /// The upstream was sent something that no `Sync` has ended yet.
    pub(super) unsynced: bool,
    /// The series upstream has failed: it answers nothing until a `Sync`.
    pub(super) upset: bool,
    /// After an error the agent's messages are skipped until its `Sync`.
    pub(super) skipping: bool,
    /// What the agent was promised an answer to, and is answered with its next message.
    pub(super) owed: Vec<extended::Owed>,
    busy: Busy,
}

/// Cancels what runs upstream when the session is dropped meanwhile.
struct Busy {
    about: Arc<About>,
    running: bool,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some((process, key)) = self.about.backend.clone().filter(|_| self.running) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let about = Arc::clone(&self.about);
        runtime.spawn(async move {
            let inputs = &about.flow.inputs;
            if let Err(error) = about.reach.cancel(inputs, process, &key).await {
                tracing::debug!(%error, "what a lost session ran could not be cancelled");
            }
        });
    }
}

/// Why a statement cannot be judged now.
pub(super) enum NotKnown {
    /// It is refused.
    Refuse(Denial),
    /// The session cannot go on.
    Lost(Outcome),
}

impl Talk {
    pub(super) fn new(about: Arc<About>, client: Wire, ready: Ready) -> Box<Self> {
        let Ready { wire, parameters, .. } = ready;
        Box::new(Self {
            busy: Busy { about: Arc::clone(&about), running: false },
            about,
            client,
            upstream: wire,
            settings: parameters.into_iter().collect(),
            state: State::new(),
            names: Names::default(),
            catalog: None,
            looked: None,
            judged: RefCell::default(),
            own_catalog: false,
            unsynced: false,
            upset: false,
            skipping: false,
            owed: Vec::new(),
        })
    }

    /// While something runs upstream, losing the session cancels it.
    pub(super) fn busy(&mut self, running: bool) {
        self.busy.running = running;
    }

    /// The upstream ended a series or string.
    pub(super) fn is_ready(&mut self, transaction: Transaction) {
        if transaction == Transaction::Idle {
            self.state.ended();
            if self.own_catalog {
                // Now others see what it changed.
                self.about.flow.inputs.databases.catalogs.changed();
            }
        }
        self.state.transaction = transaction;
        self.names.ready(transaction);
        self.unsynced = false;
        self.upset = false;
    }

    /// A message that came unasked, as the agent may see it.
    pub(super) fn seen_aside(
        &mut self,
        veil: &mut Veil,
        message: &Message,
    ) -> Result<BytesMut, CodecError> {
        let mut out = BytesMut::new();
        match message.tag {
            backend::PARAMETER => {
                let (name, value) = backend::parameter(&message.body)?;
                backend::put_parameter(&mut out, &name, &value);
                self.settings.insert(name, value);
            }
            backend::NOTIFICATION => {
                veil.notification(backend::notification(&message.body)?).put(&mut out);
            }
            _ => {
                let words = veil.words(Report::read(&message.body)?);
                words.put(&mut out, error_response::NOTICE);
            }
        }
        Ok(out)
    }

    /// The masks over what belongs to no statement: all words may carry values.
    pub(super) fn strict_veil(&self) -> Option<Veil> {
        self.veil(&Lineage::unknown(""))
    }

    /// The masks over words of the server about something of this lineage.
    pub(super) fn veil(&self, lineage: &Lineage) -> Option<Veil> {
        let about = &self.about;
        let bundle = about.flow.inputs.decider.bundle();
        let masks = bundle.masks_for(about.place.target(&bundle)?);
        Veil::new(Arc::clone(masks.columns()), None, lineage, Untraceable::Allow).ok()
    }

    /// Passes on messages that came unasked, and nothing of what cannot be read.
    pub(super) fn pass_on(&mut self, messages: &[Message]) -> Result<(), Outcome> {
        let Some(mut veil) = self.strict_veil() else {
            return Ok(());
        };
        for message in messages {
            let seen = self.seen_aside(&mut veil, message);
            let seen = seen.map_err(|error| upstream_broke(&WireError::Codec(error)))?;
            self.client.out().extend_from_slice(&seen);
        }
        Ok(())
    }

    /// Sees to it that the backend's state and the catalog are known.
    pub(super) async fn know(&mut self) -> Result<(), NotKnown> {
        if self.upset || self.state.transaction == Transaction::Failed {
            return Ok(());
        }
        if self.state.known.is_none() {
            let answer = self.ask(QUESTION).await?;
            match Known::read(&answer) {
                Ok(known) => self.state.known = Some(known),
                Err(why) => {
                    return Err(NotKnown::Refuse(Denial::new("state-unknown", why.to_string())));
                }
            }
        }
        super::catalog::refresh(self, Want::Recent).await
    }

    /// Asks the session's own backend.
    pub(super) async fn ask(&mut self, question: &str) -> Result<question::Rows, NotKnown> {
        let sync = !self.unsynced;
        let how = match (self.about.replicates, sync) {
            (Some(_), _) => How::Query,
            (None, true) => How::Series,
            (None, false) => How::Within,
        };
        let mut asked = question::ask(&mut self.upstream, question, how).await;
        // A cancel request that comes too late for what it meant meets our question, and is spent
        // on it. In a transaction it fails that one, as it would anything else.
        if let Err(QuestionError::Refused(report)) = &asked
            && report.code() == refuse::CANCELLED
            && sync
            && self.state.transaction == Transaction::Idle
        {
            asked = question::ask(&mut self.upstream, question, how).await;
        }
        match asked {
            Ok(answer) => {
                if let Some(transaction) = answer.transaction {
                    self.state.transaction = transaction;
                }
                self.pass_on(&answer.aside).map_err(NotKnown::Lost)?;
                Ok(answer.rows)
            }
            Err(QuestionError::Refused(report)) => {
                self.upset = !sync;
                if sync && self.state.transaction == Transaction::Open {
                    self.state.transaction = Transaction::Failed;
                }
                let why =
                    format!("the backend does not say what state it is in ({})", report.code());
                Err(NotKnown::Refuse(Denial::new("state-unknown", why)))
            }
            Err(QuestionError::Wire(error)) => Err(NotKnown::Lost(upstream_broke(&error))),
            Err(error @ QuestionError::Odd) => {
                Err(NotKnown::Lost(Outcome::failed("upstream-broke", error)))
            }
        }
    }

    /// After a refusal: what is open upstream fails as it would have at an error of the server's.
    /// In a transaction block, and in a series of which something has gone already, the upstream
    /// is sent a statement that it cannot read.
    pub(super) async fn fail_upstream(&mut self) -> Result<(), Outcome> {
        self.names.portals.clear();
        self.state.forget();
        let open = self.unsynced || self.state.transaction == Transaction::Open;
        if self.upset || !open {
            return Ok(());
        }
        let sql = "refused by policy".to_owned();
        if self.about.replicates.is_some() {
            frontend::put_query(self.upstream.out(), &sql);
        } else {
            let broken = Parse { name: "enforcer_refused".to_owned(), sql, types: Vec::new() };
            broken.put(self.upstream.out());
            frontend::put_bare(self.upstream.out(), frontend::FLUSH);
            self.unsynced = true;
        }
        self.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
        loop {
            let message = self.upstream.next().await.map_err(|error| upstream_broke(&error))?;
            match message.tag {
                error_response::ERROR if self.about.replicates.is_some() => {}
                error_response::ERROR => {
                    self.upset = true;
                    return Ok(());
                }
                backend::READY if self.about.replicates.is_some() => {
                    let state = backend::ready(&message.body)
                        .map_err(|error| upstream_broke(&WireError::Codec(error)))?;
                    self.is_ready(state);
                    return Ok(());
                }
                _ if backend::is_asynchronous(&message) => self.pass_on(&[message])?,
                _ => return Err(Outcome::failed("upstream-broke", "a refusal did not take")),
            }
        }
    }

    /// Ends the series upstream; the transaction's state after it.
    pub(super) async fn sync_upstream(&mut self) -> Result<Transaction, Outcome> {
        frontend::put_bare(self.upstream.out(), frontend::SYNC);
        self.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
        loop {
            let message = self.upstream.next().await.map_err(|error| upstream_broke(&error))?;
            match message.tag {
                backend::READY => {
                    let state = backend::ready(&message.body)
                        .map_err(|error| upstream_broke(&WireError::Codec(error)))?;
                    self.is_ready(state);
                    return Ok(state);
                }
                error_response::ERROR => {
                    // A commit at the end of a series can fail (deferred constraints).
                    self.state.forget();
                    if let (Some(mut veil), Ok(report)) =
                        (self.strict_veil(), Report::read(&message.body))
                    {
                        let out = self.client.out();
                        veil.words(report).put(out, error_response::ERROR);
                    }
                }
                _ if backend::is_asynchronous(&message) => self.pass_on(&[message])?,
                _ => return Err(Outcome::failed("upstream-broke", "an odd message")),
            }
        }
    }

    /// The schemas that names are looked for in, as far as they are known.
    pub(super) fn search_path(&self) -> &[String] {
        let known = self.state.known.as_ref();
        known.map(|known| known.search_path.as_slice()).unwrap_or_default()
    }

    /// An error of our own, without an operation.
    pub(super) fn tell(&mut self, report: &Report) {
        report.put(self.client.out(), error_response::ERROR);
    }
}

/// What PostgreSQL answers to a statement in a failed transaction that does not end it.
pub(super) fn in_failed_transaction(talk: &mut Talk) {
    talk.tell(&refuse::failed_transaction());
}
