//! One statement on its way through the spine.
//!
//! The session is lent to the operation that runs, and comes back with how it went: there is one
//! owner at a time, and whoever is cut takes the session with it.

use super::codec::copy::{self, CopyResponse};
use super::codec::error_response;
use super::relay::{self, Ended, Takes, Work};
use super::talk::Talk;
use super::{copy_data, refuse};
use crate::decide::{Denial, Permit, Room};
use crate::flow::{Asked, Flow, Ledger, Outcome, Place, STREAMED, Underway};
use crate::session::{self, Exchange};
use bytes::{Bytes, BytesMut};
use enforcer_proto::v1::{self, event::Kind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The session on its way back.
pub(super) enum Return {
    /// The statement was refused, and the agent told.
    Refused(Box<Talk>),
    /// It may run, and waits for its turn.
    Permitted(Box<Talk>, oneshot::Sender<Box<Talk>>),
    /// It ran.
    Done(Box<Talk>, Ended),
    /// Its portal has rows left; the operation waits for the next call.
    Suspended(Box<Talk>, oneshot::Sender<Resume>),
}

/// Where the session comes back, and the operation that has it. When it ends without giving it
/// back, the connection was cut.
pub(super) struct Home {
    returns: mpsc::Receiver<Return>,
    operation: Underway,
}

impl Home {
    /// Of an operation that goes on by itself.
    pub(super) fn of(returns: mpsc::Receiver<Return>) -> Self {
        Self { returns, operation: Underway::default() }
    }

    /// Waits for the session.
    pub(super) async fn recv(&mut self) -> Option<Return> {
        let back = self.operation.until(self.returns.recv()).await;
        if matches!(back, Some(Return::Permitted(..) | Return::Suspended(..))) {
            // It waits, and may be cut, while the session goes on.
            self.operation.release();
        }
        back
    }
}

/// The next call of a portal that has rows left.
pub(super) struct Resume {
    pub(super) talk: Box<Talk>,
    pub(super) home: mpsc::Sender<Return>,
    pub(super) rows: u32,
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A statement that is asked.
struct Ask {
    place: Arc<Place>,
    /// `None` while it waits for its turn.
    talk: Option<Box<Talk>>,
    asked: Arc<Asked>,
    flaw: Option<Denial>,
    /// What it does; nothing when it is refused for its flaw.
    work: Option<Work>,
    /// Other statements of the same string are decided before it runs.
    waits: bool,
    home: mpsc::Sender<Return>,
    cancels: watch::Receiver<u64>,
    /// What the agent was told before the decision: that its data are wanted.
    told: BytesMut,
    /// The room that data take which were read before the decision.
    room: Option<Room>,
}

/// Takes a statement through the spine.
pub(super) fn begin(
    talk: Box<Talk>,
    asked: Asked,
    flaw: Option<Denial>,
    work: Option<Work>,
    waits: bool,
) -> Home {
    let (home, returns) = mpsc::channel(1);
    let about = Arc::clone(&talk.about);
    let mut cancels = about.asked.clone();
    cancels.mark_unchanged();
    let exchange = Ask {
        place: Arc::clone(&about.place),
        talk: Some(talk),
        asked: Arc::new(asked),
        flaw,
        work,
        waits,
        home,
        cancels,
        told: BytesMut::new(),
        room: None,
    };
    let flow = &about.flow;
    let operation = session::operate(Arc::clone(flow), exchange);
    Home { returns, operation: Underway::new(&flow.operations, operation) }
}

impl Exchange for Ask {
    fn place(&self) -> &Arc<Place> {
        &self.place
    }

    async fn ask(&mut self, flow: &Flow) -> (Arc<Asked>, Option<Denial>) {
        let mut flaw = self.flaw.take();
        let takes = self.work.as_mut().map(|work| &mut work.takes);
        if let Some(takes) = takes
            && let Takes::Streamed(asked_for) = takes
        {
            let asked_for = asked_for.take();
            match flaw {
                None => flaw = self.read_data(flow, asked_for).await.err(),
                Some(_) => self.streams(flow),
            }
        }
        (Arc::clone(&self.asked), flaw)
    }

    async fn gone(&mut self) {
        let cancels = &mut self.cancels;
        let cancelled = async {
            // A sender that is gone is no request.
            if cancels.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let left = async {
            match &mut self.talk {
                Some(talk) => talk.client.gone().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancelled => self.cancels.mark_changed(),
            () = left => {}
            () = self.home.closed() => {}
        }
    }

    async fn refuse(mut self, denial: &Denial, ledger: &Ledger) -> Outcome {
        let Some(mut talk) = self.talk.take() else {
            return Outcome::refused(denial.code);
        };
        let cancelled = denial.code == "cancelled" && self.cancels.has_changed().unwrap_or(false);
        let report = match cancelled {
            true => refuse::cancelled(),
            false => refuse::denied(denial, &self.asked, false),
        };
        let mut words = BytesMut::new();
        report.put(&mut words, error_response::ERROR);
        if let Some(Takes::Read { told, .. }) = self.work.as_ref().map(|work| &work.takes) {
            self.told.extend_from_slice(told);
        }
        self.told.extend_from_slice(&words);
        // A refusal that could not be recorded is told all the same: nothing has left.
        let recorded = ledger.append([delivered(self.told, true)]).await;
        ledger.delivered(words.len());
        talk.client.out().extend_from_slice(&words);
        let back = self.home.send(Return::Refused(talk)).await;
        match (recorded, back) {
            (Err(error), _) => Outcome::failed(error.code(), error),
            (Ok(()), Err(_)) => Outcome::cancelled(),
            (Ok(()), Ok(())) if denial.code == "cancelled" => Outcome::cancelled(),
            (Ok(()), Ok(())) => Outcome::refused(denial.code),
        }
    }

    async fn forward(mut self, permit: Permit, _: &Flow, ledger: &Ledger) -> Outcome {
        let (Some(mut talk), Some(mut work)) = (self.talk.take(), self.work.take()) else {
            return Outcome::failed("internal", "nothing to run");
        };
        if self.waits {
            let (turn, mine) = oneshot::channel();
            if self.home.send(Return::Permitted(talk, turn)).await.is_err() {
                return Outcome::cut("cut", "the connection was cut");
            }
            match mine.await {
                Ok(back) => talk = back,
                // Another statement of the same string was refused, or failed.
                Err(_) => return Outcome::refused("not-run"),
            }
        }
        if !talk.about.still_holds(&permit) {
            return Outcome::cut("policy-changed", "policy maps the session's user elsewhere now");
        }
        let mut veil = match relay::veil(&permit, &talk, &work) {
            Ok(veil) => veil,
            Err(why) => return self.withhold(talk, &why, ledger).await,
        };
        loop {
            let running = Box::pin(relay::run(&mut talk, &mut veil, &mut work, ledger));
            let ended = tokio::select! {
                biased;
                () = self.home.closed() => {
                    return Outcome::cut("cut", "the connection was cut");
                }
                ended = running => ended,
            };
            ledger.masked(&veil.counts().counts);
            let ended = match ended {
                Ok(ended) => ended,
                // The session goes with it.
                Err(outcome) => return outcome,
            };
            if !matches!(ended, Ended::Suspended) {
                let outcome = ended.outcome();
                // What it brought last is recorded with the end, and delivered after that.
                let home = self.home;
                ledger.then(move || {
                    // There is room: the session is in one place at a time.
                    let _ = home.try_send(Return::Done(talk, ended));
                });
                return outcome;
            }
            let (again, next) = oneshot::channel();
            if self.home.send(Return::Suspended(talk, again)).await.is_err() {
                return Outcome::cut("cut", "the connection was cut");
            }
            let Ok(resume) = next.await else {
                // The portal was closed with rows left.
                let end = delivered(BytesMut::new(), true);
                return match ledger.append([end]).await {
                    Ok(()) => Outcome::complete(),
                    Err(error) => Outcome::failed(error.code(), error),
                };
            };
            talk = resume.talk;
            self.home = resume.home;
            work = Work::again(&work, resume.rows);
        }
    }
}

impl Ask {
    /// The data will stream: nobody can see them before.
    fn streams(&mut self, flow: &Flow) {
        let mut operation = self.asked.operation.clone();
        operation.fact(STREAMED, "streamed");
        self.asked = Arc::new(Asked::new(operation, Vec::new(), Vec::new(), &flow.principal));
    }

    /// Reads the data of `COPY FROM STDIN` where people must see them. They stream where nobody
    /// must, and where other statements of the same string run before this one.
    async fn read_data(
        &mut self,
        flow: &Flow,
        asked_for: Option<CopyResponse>,
    ) -> Result<(), Denial> {
        let whole = Arc::clone(&self.asked);
        self.streams(flow);
        let decider = &flow.inputs.decider;
        let (Some(asked_for), Some(talk)) = (asked_for, &mut self.talk) else { return Ok(()) };
        if self.waits || !decider.wants_body(&flow.principal, &self.place, &self.asked) {
            return Ok(());
        }
        let limits = &flow.inputs.config.limits;
        let patience = Duration::from_millis(limits.handshake_ms);
        let limit = limits.approval_body;
        let room = decider.holds().room(&flow.principal.agent, limit);
        let Ok(Ok(room)) = tokio::time::timeout(patience, room).await else {
            let why = "too many bodies and data of COPY wait for a decision; send it again later";
            return Err(Denial::new("held-limit", why));
        };
        if let Some(work) = &mut self.work {
            work.run.settle(&mut self.told);
        }
        asked_for.put(&mut self.told, copy::IN_RESPONSE);
        talk.client.out().extend_from_slice(&self.told);
        let data = copy_data::read(&mut talk.client, limit, patience).await?;
        let mut operation = whole.operation.clone();
        operation.with_body(data.clone());
        self.asked = Arc::new(Asked::new(operation, Vec::new(), Vec::new(), &flow.principal));
        self.room = Some(room);
        if let Some(work) = &mut self.work {
            work.takes = Takes::Read { data, told: std::mem::take(&mut self.told) };
        }
        Ok(())
    }

    /// Policy changed between asking and the permit, and now more must be masked than can be.
    async fn withhold(
        self,
        mut talk: Box<Talk>,
        why: &super::veil::Withheld,
        ledger: &Ledger,
    ) -> Outcome {
        let mut words = BytesMut::new();
        refuse::failed(why.code(), &why.to_string()).put(&mut words, error_response::ERROR);
        let recorded = ledger.append([delivered(words.clone(), true)]).await;
        talk.client.out().extend_from_slice(&words);
        let _ = self.home.send(Return::Refused(talk)).await;
        match recorded {
            Ok(()) => Outcome::refused(why.code()),
            Err(error) => Outcome::failed(error.code(), error),
        }
    }
}

/// A piece of an answer as it is recorded: the very messages that the agent gets.
pub(super) fn delivered(messages: impl Into<Bytes>, last: bool) -> Kind {
    Kind::ResponseBody(v1::Body { data: messages.into(), last, ..v1::Body::default() })
}
