//! `enforcer approvals watch`: on a terminal the queue to work on, else a line for each change.
//!
//! What is shown and what a key does is in [`state`], how it looks in [`draw`]; neither knows a
//! terminal or a server.

use super::{Client, Told, json, show};
use crate::approval::{join, tls};
use crate::server::clock::wall;
use anyhow::bail;
use enforcer_proto::v1;
use enforcer_proto::v1::review_client::ReviewClient;
use enforcer_proto::v1::watch_event::Event;
use ratatui::crossterm::event::{self, Event as TerminalEvent};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

mod draw;
mod state;
#[cfg(test)]
mod tests;

use state::{App, Effect, Input};

/// First and longest pause before a lost server is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How often the clocks on the screen move.
const TICK: Duration = Duration::from_secs(1);

/// How long a key is waited for before it is looked whether anybody still listens.
const KEYS: Duration = Duration::from_millis(100);

/// Inputs that may wait for the screen.
const BACKLOG: usize = 256;

/// Where the server is, and who we are there.
pub(super) struct Place {
    /// The certificate's directory.
    pub(super) dir: PathBuf,
    /// The server, when it is not the one that was joined.
    pub(super) server: Option<String>,
}

/// Whether there is a terminal to work on.
pub(super) fn on_terminal() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb
}

/// A line for each change, until the stream ends.
pub(super) async fn lines(client: &mut Client, json: bool) -> anyhow::Result<()> {
    let news = client.watch(v1::WatchRequest {}).await;
    let mut news = news.map_err(Told)?.into_inner();
    while let Some(event) = news.message().await.map_err(Told)? {
        let Some(Event::Approval(approval)) = event.event else {
            continue;
        };
        let line = if json {
            crate::cli::transcripts::text::json(&json::approval(&approval))
        } else {
            show::summary(&approval, wall())
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    bail!("the server ended the stream")
}

/// The queue on the terminal, until the person leaves. The terminal is put back in every case.
pub(super) async fn screen(place: Place, channel: Channel) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let done = looped(&mut terminal, place, channel).await;
    ratatui::restore();
    done
}

async fn looped(
    terminal: &mut ratatui::DefaultTerminal,
    place: Place,
    channel: Channel,
) -> anyhow::Result<()> {
    let (inputs, mut inbox) = mpsc::channel(BACKLOG);
    let (client, current) = watch::channel(opened(channel));
    let feeding = tokio::spawn(feed(place, client, inputs.clone()));
    let keys = inputs.clone();
    // Reading keys blocks; the thread ends when nobody listens.
    std::thread::spawn(move || read_keys(&keys));
    let mut tick = tokio::time::interval(TICK);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut app = App::default();
    let mut scene = draw::Scene::default();
    loop {
        draw::on(terminal, &mut scene, &mut app, wall())?;
        let input = tokio::select! {
            input = inbox.recv() => input,
            _ = tick.tick() => Some(Input::Tick),
            _ = terminate.recv() => None,
            _ = hung_up.recv() => None,
        };
        let Some(input) = input else { break };
        match app.take(input) {
            None => {}
            Some(Effect::Quit) => break,
            Some(effect) => {
                let client = current.borrow().clone();
                tokio::spawn(carry_out(client, effect, inputs.clone()));
            }
        }
    }
    feeding.abort();
    Ok(())
}

fn opened(channel: Channel) -> Client {
    ReviewClient::new(channel).max_decoding_message_size(tls::MAX_ANSWER)
}

fn read_keys(inputs: &mpsc::Sender<Input>) {
    while !inputs.is_closed() {
        match event::poll(KEYS) {
            Ok(false) => {}
            Ok(true) => {
                let input = match event::read() {
                    Ok(TerminalEvent::Key(key)) if !key.is_release() => Input::Key(key),
                    Ok(TerminalEvent::Resize(..)) => Input::Tick,
                    Ok(_) => continue,
                    Err(_) => return,
                };
                if inputs.blocking_send(input).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Keeps the news coming; a server that was lost is tried again, with a renewed certificate when
/// one is due.
async fn feed(place: Place, client: watch::Sender<Client>, inputs: mpsc::Sender<Input>) {
    let mut pause = RETRY.0;
    loop {
        let mut now = client.borrow().clone();
        let why = match follow(&mut now, &inputs, &mut pause).await {
            Ok(()) => "the server ended the stream".to_owned(),
            Err(status) => Told(status).to_string(),
        };
        if inputs.send(Input::Lost(why)).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
        match join::open(&place.dir, place.server.as_deref()).await {
            Ok((_, channel)) => {
                client.send_replace(opened(channel));
            }
            Err(error) => {
                if inputs.send(Input::Lost(error.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn follow(
    client: &mut Client,
    inputs: &mpsc::Sender<Input>,
    pause: &mut Duration,
) -> Result<(), tonic::Status> {
    let mut news = client.watch(v1::WatchRequest {}).await?.into_inner();
    while let Some(event) = news.message().await? {
        let input = match event.event {
            Some(Event::Approval(approval)) => Input::News(Box::new(approval)),
            Some(Event::Synced(_)) => {
                *pause = RETRY.0;
                Input::Synced
            }
            _ => continue,
        };
        if inputs.send(input).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn carry_out(mut client: Client, effect: Effect, inputs: mpsc::Sender<Input>) {
    let input = match effect {
        Effect::Fetch(id) => {
            let answer = client.show(v1::GetRequest { id: id.clone() }).await;
            Input::Whole(id, boxed(answer))
        }
        Effect::Decide(vote) => Input::Done(boxed(client.decide(vote).await)),
        Effect::Revoke(ask) => Input::Done(boxed(client.revoke(ask).await)),
        Effect::Quit => return,
    };
    // Nobody listens any more: the person has left.
    let _ = inputs.send(input).await;
}

type Answer = Result<tonic::Response<v1::Approval>, tonic::Status>;

fn boxed(answer: Answer) -> Result<Box<v1::Approval>, String> {
    match answer {
        Ok(answer) => Ok(Box::new(answer.into_inner())),
        Err(status) => Err(Told(status).to_string()),
    }
}
