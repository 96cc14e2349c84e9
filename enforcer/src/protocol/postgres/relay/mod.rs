//! Runs a permitted statement upstream and delivers what comes back: masked, recorded, then sent.

mod copy;
mod work;

pub(super) use work::{Ended, Run, Takes, Work};

use super::codec::error_response::{self, Report};
use super::codec::frontend::{self, Execute, Named};
use super::codec::row_description::{self, Field};
use super::codec::{Message, backend, copy as copying, data_row, function_call};
use super::connect::{forwarded, upstream_broke};
use super::io::WireError;
use super::refuse;
use super::serve::broke;
use super::statement::delivered;
use super::talk::Talk;
use super::veil::{Veil, Withheld};
use crate::decide::Permit;
use crate::flow::{Ledger, Outcome};
use crate::mask::copy::CopyOptions;
use crate::policy::Untraceable;
use bytes::{Bytes, BytesMut};
use enforcer_proto::v1::event::Kind;
use std::sync::Arc;

/// What is delivered at once, at most.
const PAGE: usize = 64 << 10;

/// Room for most answers.
const USUAL: usize = 1 << 10;

/// The masks over what a permitted statement brings.
pub(super) fn veil(permit: &Permit, talk: &Talk, work: &Work) -> Result<Veil, Withheld> {
    let rules = Arc::clone(permit.masks().columns());
    let untraceable = permit.target().postgres.as_ref().map(|postgres| postgres.untraceable);
    let untraceable = untraceable.unwrap_or(Untraceable::Refuse);
    if matches!(work.run, Run::Replication(_)) && !rules.is_empty() {
        return Err(Withheld::Stream);
    }
    Veil::new(rules, talk.catalog.clone(), &work.lineage, untraceable)
}

/// Runs it. An error means that the session cannot go on.
pub(super) async fn run(
    talk: &mut Talk,
    veil: &mut Veil,
    work: &mut Work,
    ledger: &Ledger,
) -> Result<Ended, Outcome> {
    if work.alone {
        talk.about.flow.inputs.databases.catalogs.let_go().await;
    }
    let (held, told) = match std::mem::replace(&mut work.takes, Takes::Nothing) {
        Takes::Read { data, told } => (Some(data), told),
        Takes::Nothing | Takes::Streamed(_) => (None, BytesMut::new()),
    };
    let mut relay = Relay {
        talk,
        veil,
        ledger,
        page: BytesMut::with_capacity(USUAL),
        copy: work.copy.take(),
        begun: false,
        withheld: None,
        copied: false,
        held,
        told,
    };
    relay.talk.busy(true);
    let ended = relay.run(&mut work.run).await;
    if ended.is_err() {
        // What the server said last may say why; whoever is gone does not hear it.
        if relay.turn(true).await.is_ok() {
            let _ = relay.talk.client.flush().await;
        }
    } else {
        relay.talk.busy(false);
    }
    ended
}

struct Relay<'a> {
    talk: &'a mut Talk,
    veil: &'a mut Veil,
    ledger: &'a Ledger,
    page: BytesMut,
    copy: Option<CopyOptions>,
    /// Its first page was recorded, and before it where it went.
    begun: bool,
    withheld: Option<(&'static str, String)>,
    /// It took `COPY` data, and with it any `Sync` that was sent before.
    copied: bool,
    /// The data for `COPY`, where they were read before the decision: the agent was asked for
    /// them, and is not asked again.
    held: Option<Bytes>,
    /// What it was sent for that, which is not recorded yet.
    told: BytesMut,
}

impl Relay<'_> {
    async fn run(&mut self, run: &mut Run) -> Result<Ended, Outcome> {
        let (ends, told) = self.send(run).await?;
        if matches!(run, Run::Replication(_)) {
            return self.stream().await;
        }
        let ended = self.until_end(told).await?;
        let failed = matches!(ended, Ended::Failed(_));
        let ready = match run {
            Run::Query { last, .. } => *last || failed,
            Run::Portal { .. } => ends && !self.copied,
            Run::Function { .. } | Run::Replication(_) => true,
        };
        if ready {
            self.until_ready().await?;
        }
        if ended == Ended::Suspended {
            self.turn(false).await?;
        } else {
            self.leave();
        }
        Ok(match self.withheld.take() {
            Some((code, why)) => Ended::Withheld(code, why),
            None => ended,
        })
    }

    /// Sends it; whether the series ends with it, and which answers the agent was promised.
    async fn send(&mut self, run: &mut Run) -> Result<(bool, Told), Outcome> {
        let out = self.talk.upstream.out();
        let before = out.len();
        let mut told = Told { bound: false, described: false };
        let mut ends = false;
        match run {
            Run::Query { text, .. } => {
                if let Some(text) = text.take() {
                    frontend::put_query(out, &text);
                }
            }
            Run::Function { call, result } => {
                call.put(out);
                let field = Field::unnamed(*result, call.result);
                if let Err(why) = self.veil.describe(&[field]) {
                    self.withhold(&why);
                }
            }
            Run::Replication(text) => frontend::put_query(out, text),
            Run::Portal { portal, bind, tell_bound, describe, fields, rows, sync } => {
                told = Told { bound: *tell_bound, described: *describe };
                let bind = bind.take();
                if let Some(fields) = fields {
                    if let Some(bind) = &bind {
                        for (at, field) in fields.iter_mut().enumerate() {
                            field.format = bind.result_format(at);
                        }
                    }
                    if let Err(why) = self.veil.describe(fields) {
                        self.withhold(&why);
                    }
                }
                let out = self.talk.upstream.out();
                if let Some(bind) = bind {
                    bind.put(out);
                    if *describe {
                        Named::Portal(portal.clone()).put_describe(out);
                    }
                }
                Execute { portal: portal.clone(), rows: *rows }.put(out);
                frontend::put_bare(out, if *sync { frontend::SYNC } else { frontend::FLUSH });
                self.talk.unsynced = true;
                ends = *sync;
            }
        }
        let sent = self.talk.upstream.out().len() - before;
        self.talk.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
        self.ledger.sent(sent);
        Ok((ends, told))
    }

    /// The next message of the upstream. What is there to be delivered goes first.
    async fn next(&mut self) -> Result<Message, Outcome> {
        let broke_off = |error: WireError| upstream_broke(&error);
        if let Some(message) = self.talk.upstream.buffered().map_err(broke_off)? {
            if self.page.len() >= PAGE {
                self.turn(false).await?;
            }
            return Ok(message);
        }
        if !self.page.is_empty() {
            self.turn(false).await?;
        }
        self.talk.client.flush().await.map_err(|error| broke(&error))?;
        let Talk { client, upstream, .. } = &mut *self.talk;
        tokio::select! {
            biased;
            message = upstream.next() => message.map_err(broke_off),
            () = client.gone() => Err(Outcome::cancelled()),
        }
    }

    async fn until_end(&mut self, told: Told) -> Result<Ended, Outcome> {
        loop {
            let message = self.next().await?;
            match message.tag {
                backend::BOUND if !told.bound => {}
                backend::NO_DATA if !told.described => return Err(odd(&message)),
                backend::BOUND | backend::NO_DATA => self.deliver(&message),
                row_description::TAG => {
                    let fields = row_description::read(&message.body);
                    let fields = fields.map_err(|_| odd(&message))?;
                    match self.veil.describe(&fields) {
                        Ok(()) => self.deliver(&message),
                        Err(why) => self.withhold(&why),
                    }
                }
                data_row::TAG => self.row(&message),
                function_call::RESPONSE => {
                    self.result(&message);
                    return Ok(Ended::Complete);
                }
                backend::COMPLETE | backend::EMPTY => {
                    self.deliver(&message);
                    return Ok(Ended::Complete);
                }
                backend::SUSPENDED => {
                    self.deliver(&message);
                    return Ok(Ended::Suspended);
                }
                error_response::ERROR => return self.error(&message),
                copying::IN_RESPONSE => {
                    if let Some(data) = self.held.take() {
                        self.copy_read(&data).await?;
                        continue;
                    }
                    self.deliver(&message);
                    if let Some(ended) = self.copy_in().await? {
                        return Ok(ended);
                    }
                }
                copying::OUT_RESPONSE => {
                    let said = copying::read(&message.body).map_err(|_| odd(&message))?;
                    match self.veil.begin_copy(self.copy.take(), said.formats.len()) {
                        Ok(()) => self.deliver(&message),
                        Err(why) => self.withhold(&why),
                    }
                }
                copying::DATA => match self.veil.copy(&message.body) {
                    Ok(None) => self.deliver(&message),
                    Ok(Some(data)) if self.withheld.is_none() => {
                        if !data.is_empty() {
                            copying::put_data(&mut self.page, &data);
                        }
                    }
                    Ok(Some(_)) => {}
                    Err(why) => self.withhold(&why),
                },
                copying::DONE => match self.veil.end_copy() {
                    Ok(()) => self.deliver(&message),
                    Err(why) => self.withhold(&why),
                },
                _ if backend::is_asynchronous(&message) => self.aside(&message)?,
                _ => return Err(odd(&message)),
            }
        }
    }

    /// To the end of the series or string.
    async fn until_ready(&mut self) -> Result<(), Outcome> {
        loop {
            let message = self.next_or_turn().await?;
            match message.tag {
                backend::READY => {
                    let state = backend::ready(&message.body).map_err(|_| odd(&message))?;
                    self.talk.is_ready(state);
                    // After something withheld the session tells it, in the state that is left.
                    self.deliver(&message);
                    return Ok(());
                }
                error_response::ERROR => {
                    self.error(&message)?;
                }
                _ if backend::is_asynchronous(&message) => self.aside(&message)?,
                _ => return Err(odd(&message)),
            }
        }
    }

    /// Like [`Self::next`], but what is there waits for the message that ends it.
    async fn next_or_turn(&mut self) -> Result<Message, Outcome> {
        let there = self.talk.upstream.buffered().map_err(|error| upstream_broke(&error))?;
        if let Some(message) = there {
            return Ok(message);
        }
        match tokio::time::timeout(AT_ONCE, self.talk.upstream.next()).await {
            Ok(message) => message.map_err(|error| upstream_broke(&error)),
            Err(_) => self.next().await,
        }
    }

    /// Puts a message down for the agent, unless what it belongs to is withheld.
    fn deliver(&mut self, message: &Message) {
        if self.withheld.is_none() {
            message.put(&mut self.page);
        }
    }

    fn row(&mut self, message: &Message) {
        if self.withheld.is_some() {
            return;
        }
        if self.veil.is_clear() {
            message.put(&mut self.page);
        } else if let Err(why) = self.veil.row(&message.body, &mut self.page) {
            self.withhold(&why);
        }
    }

    /// The result of a function that was called by its number.
    fn result(&mut self, message: &Message) {
        if self.withheld.is_some() {
            return;
        }
        if self.veil.is_clear() {
            message.put(&mut self.page);
        } else if let Err(why) = self.veil.result(&message.body, &mut self.page) {
            self.withhold(&why);
        }
    }

    /// From here on nothing of the answer is delivered but the error that says so.
    fn withhold(&mut self, why: &Withheld) {
        if self.withheld.is_none() {
            let report = refuse::failed(why.code(), &why.to_string());
            report.put(&mut self.page, error_response::ERROR);
            self.withheld = Some((why.code(), why.to_string()));
        }
    }

    fn error(&mut self, message: &Message) -> Result<Ended, Outcome> {
        let report = Report::read(&message.body).map_err(|_| odd(message))?;
        let code = report.code().to_owned();
        if self.withheld.is_none() {
            self.veil.words(report).put(&mut self.page, error_response::ERROR);
        }
        Ok(Ended::Failed(code))
    }

    fn aside(&mut self, message: &Message) -> Result<(), Outcome> {
        let seen = self.talk.seen_aside(self.veil, message).map_err(|_| odd(message))?;
        self.page.extend_from_slice(&seen);
        Ok(())
    }

    /// Records what is to be delivered, then hands it to the client's connection.
    async fn turn(&mut self, last: bool) -> Result<(), Outcome> {
        if self.page.is_empty() && !last {
            return Ok(());
        }
        let page = self.page.split().freeze();
        let events = self.events(page.clone(), last);
        let recorded = self.ledger.append(events).await;
        recorded.map_err(|error| Outcome::cut(error.code(), error))?;
        self.ledger.delivered(page.len());
        self.talk.client.out().extend_from_slice(&page);
        Ok(())
    }

    /// The last page: it is recorded with the operation's end, in one write, and the session,
    /// which holds what the client gets, goes on after that.
    fn leave(&mut self) {
        let page = self.page.split().freeze();
        for event in self.events(page.clone(), true) {
            self.ledger.note(event);
        }
        self.ledger.leaving(page.len());
        self.talk.client.out().extend_from_slice(&page);
    }

    fn events(&mut self, page: Bytes, last: bool) -> Vec<Kind> {
        let mut events = Vec::with_capacity(2);
        if !std::mem::replace(&mut self.begun, true) {
            events.push(Kind::Forwarded(forwarded(&self.talk.about.peer)));
        }
        let mut said = std::mem::take(&mut self.told);
        let said = match said.is_empty() {
            true => page,
            false => {
                said.extend_from_slice(&page);
                said.freeze()
            }
        };
        events.push(delivered(said, last));
        events
    }
}

/// How long the end of a series is waited for before what came so far is delivered.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(2);

/// Answers that the agent waits for.
#[derive(Clone, Copy)]
struct Told {
    bound: bool,
    described: bool,
}

/// A message that nothing asked for: whoever sends it is not understood.
fn odd(message: &Message) -> Outcome {
    let tag = char::from(message.tag).escape_default().to_string();
    Outcome::failed("upstream-broke", format!("an odd message: {tag}"))
}
