//! What the screen shows, and what each key does to it.

use super::super::{show, text};
use crate::approval::convert;
use enforcer_proto::v1;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::HashSet;

/// Bytes of a reason that the server takes.
const REASON: usize = 4096;

/// What stands before the rest of a row that is too long for the screen, so that nothing of others
/// ever stands at the margin.
const GOES_ON: &str = "» ";

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A key.
    Key(KeyEvent),
    /// Time passed, or the screen has another size.
    Tick,
    /// An approval, without its body.
    News(Box<v1::Approval>),
    /// All that is live has been told.
    Synced,
    /// There are no news, and why.
    Lost(String),
    /// An approval that was asked for by its id, whole.
    Whole(String, Result<Box<v1::Approval>, String>),
    /// What became of a vote or of taking back.
    Done(Result<Box<v1::Approval>, String>),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Get this approval, whole.
    Fetch(String),
    /// Vote.
    Decide(v1::DecideRequest),
    /// Take back.
    Revoke(v1::RevokeRequest),
    /// Leave.
    Quit,
}

/// What a person can do to an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Vote for it.
    Approve,
    /// Vote against it.
    Deny,
    /// Take the grant back.
    Revoke,
}

/// A question at the bottom.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) act: Act,
    pub(super) reason: String,
    /// After the reason an approval asks for a `yes`; what was typed of it.
    pub(super) sure: Option<String>,
}

/// One approval, whole, as far as it was shown.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) approval: v1::Approval,
    /// The digest of what is shown, or why it cannot be approved.
    pub(super) digest: Result<String, String>,
    /// It is another one by now.
    pub(super) changed: bool,
    lines: Vec<String>,
    /// The lines at the screen's width, each with the number of its line.
    pub(super) rows: Vec<(usize, String)>,
    width: usize,
    height: usize,
    /// The first row on the screen.
    pub(super) top: usize,
    /// Rows from the first on that were on the screen, with none left out.
    pub(super) seen: usize,
}

impl Reading {
    fn new(approval: v1::Approval) -> Self {
        let digest = match &approval.request {
            Some(request) => convert::checked(request).map_err(|error| error.to_string()),
            None => Err("the server sent no request".to_owned()),
        };
        let lines = show::whole(&approval).lines().map(str::to_owned).collect();
        Self {
            digest: digest.map(|digest| digest.to_string()),
            approval,
            changed: false,
            lines,
            rows: Vec::new(),
            width: 0,
            height: 0,
            top: 0,
            seen: 0,
        }
    }

    /// Lays it out for a screen, and notes what is on it now.
    pub(super) fn lay_out(&mut self, width: usize, height: usize) {
        if self.width != width {
            // By lines, because rows are others now. A line that was not seen whole was not seen.
            let line = |row: usize| self.rows.get(row).map(|(line, _)| *line);
            let (top, seen) = (line(self.top), line(self.seen));
            let lines = self.lines.iter().enumerate();
            self.rows =
                lines.flat_map(|(at, line)| cut(line, width).map(move |row| (at, row))).collect();
            let row = |line: usize| self.rows.iter().position(|(at, _)| *at == line).unwrap_or(0);
            let whole = self.width > 0 && seen.is_none();
            self.seen = if whole { self.rows.len() } else { seen.map_or(0, row) };
            self.top = top.map_or(0, row);
            self.width = width;
        }
        self.height = height;
        self.top = self.top.min(self.rows.len().saturating_sub(height));
        if self.top <= self.seen {
            self.seen = self.seen.max((self.top + height).min(self.rows.len()));
        }
    }

    /// Whether all of it was shown.
    pub(super) fn shown(&self) -> bool {
        self.width > 0 && self.seen == self.rows.len()
    }

    fn scroll(&mut self, key: KeyCode) {
        let page = self.height.saturating_sub(1).max(1);
        self.top = match key {
            KeyCode::Down | KeyCode::Char('j') => self.top + 1,
            KeyCode::Up | KeyCode::Char('k') => self.top.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ' | 'f') => self.top + page,
            KeyCode::PageUp | KeyCode::Char('b') => self.top.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => self.rows.len(),
            _ => self.top,
        };
        self.top = self.top.min(self.rows.len().saturating_sub(self.height));
    }

    /// Why this cannot be done to it; `None` when it can be.
    fn refuses(&self, act: Act) -> Option<String> {
        let state = self.approval.state();
        if self.changed {
            return Some("it has changed: Enter shows it anew".to_owned());
        }
        match (act, state) {
            (Act::Revoke, v1::State::Approved | v1::State::Spent) => None,
            (Act::Revoke, _) => Some("there is no grant to take back".to_owned()),
            (_, v1::State::Pending) if act == Act::Deny => None,
            (_, v1::State::Pending) => match &self.digest {
                Err(why) => Some(format!("CANNOT BE APPROVED: {why}")),
                Ok(_) if self.shown() => None,
                Ok(_) => Some(format!(
                    "read it to its end before you approve: {} of {} rows were shown",
                    self.seen,
                    self.rows.len()
                )),
            },
            _ => Some(format!("it is {}: nothing can be decided", show::state(&self.approval))),
        }
    }
}

/// A line in rows of at most so many columns, on any terminal.
fn cut(line: &str, width: usize) -> impl Iterator<Item = String> {
    let mut rows = vec![String::new()];
    let mut columns = 0;
    for piece in text::pieces(line) {
        let wide = text::room(piece);
        if columns + wide > width {
            rows.push(GOES_ON.to_owned());
            columns = text::room(GOES_ON);
        }
        columns += wide;
        if let Some(row) = rows.last_mut() {
            row.push_str(piece);
        }
    }
    rows.into_iter()
}

/// The screen.
#[derive(Debug, Default)]
pub(super) struct App {
    /// What is live: what waits, then what is granted; what ends first comes first.
    pub(super) queue: Vec<v1::Approval>,
    /// The chosen one's id: the choice stays when others come and go.
    pub(super) chosen: Option<String>,
    /// What is read; the queue is below it.
    pub(super) reading: Option<Reading>,
    pub(super) prompt: Option<Prompt>,
    pub(super) help: bool,
    /// The last thing that is worth saying.
    pub(super) notice: String,
    /// Why there are no news; empty when there are.
    pub(super) lost: String,
    /// All that is live has been told.
    pub(super) synced: bool,
    /// What was told of the present state so far.
    told: HashSet<String>,
    /// What was asked for, and what is to be done when it comes.
    opening: Option<(String, Option<Act>)>,
    /// A vote is on its way.
    busy: bool,
}

impl App {
    /// Takes an input in; says what is to be done.
    pub(super) fn take(&mut self, input: Input) -> Option<Effect> {
        match input {
            Input::Key(key) => return self.key(key),
            Input::Tick => {}
            Input::News(approval) => self.heard(*approval),
            Input::Synced => {
                let told = std::mem::take(&mut self.told);
                self.queue.retain(|approval| told.contains(&approval.id));
                let read = self.reading.as_mut();
                if let Some(reading) = read.filter(|read| !told.contains(&read.approval.id)) {
                    let open = [v1::State::Pending, v1::State::Approved];
                    reading.changed |= open.contains(&reading.approval.state());
                }
                (self.synced, self.lost) = (true, String::new());
                self.choose(0);
            }
            Input::Lost(why) => {
                self.told.clear();
                (self.synced, self.lost) = (false, why);
            }
            Input::Whole(id, answer) => self.opened(&id, answer),
            Input::Done(answer) => {
                self.busy = false;
                match answer {
                    Ok(approval) => {
                        let id = text::line(&approval.id);
                        // The word first: on a narrow screen the id is cut.
                        self.notice = format!("{}: {id}", show::state(&approval));
                        (self.reading, self.prompt) = (None, None);
                        self.heard(*approval);
                    }
                    Err(why) => self.notice = format!("not done: {}", text::line(&why)),
                }
            }
        }
        None
    }

    fn heard(&mut self, approval: v1::Approval) {
        self.told.insert(approval.id.clone());
        let read = self.reading.as_mut().filter(|reading| reading.approval.id == approval.id);
        if let Some(reading) = read
            && reading.approval.revision != approval.revision
            && !self.busy
        {
            reading.changed = true;
            self.prompt = None;
        }
        let at = self.at();
        self.queue.retain(|old| old.id != approval.id);
        if matches!(approval.state(), v1::State::Pending | v1::State::Approved) {
            self.queue.push(approval);
        }
        self.queue.sort_by_cached_key(|approval| {
            let waits = approval.state() == v1::State::Pending;
            (!waits, approval.expires_unix_ms, approval.id.clone())
        });
        // Before all is told nothing is chosen, so that the first in the queue will be.
        if self.synced {
            self.choose(at);
        }
    }

    /// The place of the chosen one.
    pub(super) fn at(&self) -> usize {
        let chosen = self.chosen.as_deref();
        self.queue.iter().position(|one| Some(one.id.as_str()) == chosen).unwrap_or(0)
    }

    /// Keeps the choice, or takes the one at this place when the chosen one is gone.
    fn choose(&mut self, at: usize) {
        let there = |id: &String| self.queue.iter().any(|one| one.id == *id);
        if !self.chosen.as_ref().is_some_and(there) {
            let at = at.min(self.queue.len().saturating_sub(1));
            self.chosen = self.queue.get(at).map(|one| one.id.clone());
        }
    }

    fn opened(&mut self, id: &str, answer: Result<Box<v1::Approval>, String>) {
        let wanted = self.opening.take_if(|(wanted, _)| wanted == id);
        let Some((_, act)) = wanted else { return };
        match answer {
            Ok(approval) => {
                self.notice.clear();
                self.reading = Some(Reading::new(*approval));
                if let Some(act) = act {
                    self.ask(act);
                }
            }
            Err(why) => self.notice = text::line(&why),
        }
    }

    fn ask(&mut self, act: Act) {
        let Some(reading) = &self.reading else { return };
        if self.busy {
            return;
        }
        match reading.refuses(act) {
            Some(why) => self.notice = why,
            None => {
                self.notice.clear();
                self.prompt = Some(Prompt { act, reason: String::new(), sure: None });
            }
        }
    }

    fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // As everywhere; in raw mode it is a key.
            return (key.code == KeyCode::Char('c')).then_some(Effect::Quit);
        }
        if self.help {
            self.help = false;
            return None;
        }
        if self.prompt.is_some() {
            return self.typed(key.code);
        }
        if key.code == KeyCode::Char('?') {
            self.help = true;
            return None;
        }
        match &mut self.reading {
            Some(_) => self.key_reading(key.code),
            None => self.key_queue(key.code),
        }
    }

    fn key_queue(&mut self, key: KeyCode) -> Option<Effect> {
        let at = self.at();
        let last = self.queue.len().saturating_sub(1);
        let to = match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Effect::Quit),
            KeyCode::Enter | KeyCode::Char('a') => return self.open(None),
            KeyCode::Char('d') => return self.open(Some(Act::Deny)),
            KeyCode::Char('r') => return self.open(Some(Act::Revoke)),
            KeyCode::Down | KeyCode::Char('j') => (at + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return None,
        };
        self.chosen = self.queue.get(to).map(|one| one.id.clone());
        None
    }

    fn open(&mut self, act: Option<Act>) -> Option<Effect> {
        let id = self.chosen.clone()?;
        self.opening = Some((id.clone(), act));
        Some(Effect::Fetch(id))
    }

    fn key_reading(&mut self, key: KeyCode) -> Option<Effect> {
        let reading = self.reading.as_mut()?;
        match key {
            KeyCode::Char('q') | KeyCode::Esc => {
                self.reading = None;
                self.notice.clear();
            }
            KeyCode::Enter if reading.changed => {
                let id = reading.approval.id.clone();
                self.opening = Some((id.clone(), None));
                return Some(Effect::Fetch(id));
            }
            KeyCode::Char('a') => self.ask(Act::Approve),
            KeyCode::Char('d') => self.ask(Act::Deny),
            KeyCode::Char('r') => self.ask(Act::Revoke),
            key => {
                reading.scroll(key);
                self.notice.clear();
            }
        }
        None
    }

    fn typed(&mut self, key: KeyCode) -> Option<Effect> {
        let prompt = self.prompt.as_mut()?;
        let (field, most) = match &mut prompt.sure {
            Some(sure) => (sure, "yes".len()),
            None => (&mut prompt.reason, REASON),
        };
        match key {
            KeyCode::Esc => {
                self.prompt = None;
                "nothing was decided".clone_into(&mut self.notice);
            }
            KeyCode::Backspace => {
                field.pop();
            }
            KeyCode::Char(c) if !c.is_control() && field.len() + c.len_utf8() <= most => {
                field.push(c);
            }
            KeyCode::Enter => return self.entered(),
            _ => {}
        }
        None
    }

    fn entered(&mut self) -> Option<Effect> {
        let Prompt { act, reason, sure } = self.prompt.as_mut()?;
        let (act, reason) = (*act, reason.trim().to_owned());
        match (act, sure.as_deref()) {
            (Act::Approve, None) => {
                *sure = Some(String::new());
                return None;
            }
            (Act::Approve, Some(said)) if said != "yes" => {
                self.prompt = None;
                "nothing was decided".clone_into(&mut self.notice);
                return None;
            }
            _ => {}
        }
        self.prompt = None;
        let reading = self.reading.as_ref()?;
        // Once more: what happened while the reason was typed counts too.
        if let Some(why) = reading.refuses(act) {
            self.notice = why;
            return None;
        }
        let id = reading.approval.id.clone();
        let named = reading.approval.request.as_ref().map(|request| request.digest.clone());
        let effect = match (act, &reading.digest) {
            (Act::Revoke, _) => Effect::Revoke(v1::RevokeRequest { id, reason }),
            (Act::Approve, Ok(digest)) => Effect::Decide(v1::DecideRequest {
                id,
                approve: true,
                reason,
                digest: digest.clone(),
                break_glass: false,
            }),
            (Act::Approve, Err(_)) => return None,
            (Act::Deny, _) => Effect::Decide(v1::DecideRequest {
                id,
                approve: false,
                reason,
                digest: named.unwrap_or_default(),
                break_glass: false,
            }),
        };
        self.busy = true;
        "sent".clone_into(&mut self.notice);
        Some(effect)
    }
}
