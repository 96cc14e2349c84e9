//! Streams of news: the present state, a mark, then every change, and a
//! heartbeat. A listener that fell behind gets the present state again.

use crate::approval::identity::Role;
use crate::server::core::{Caller, Core};
use crate::server::hub::Change;
use crate::server::model::{Millis, Person, Record};
use crate::server::wire;
use enforcer_proto::v1;
use enforcer_proto::v1::watch_event::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Clients take more than 10 seconds of silence for a loss.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Events that wait for a slow client, beside the hub's own backlog.
const QUEUE: usize = 64;

type News = Result<v1::WatchEvent, Status>;

/// A stream of news.
pub(super) type Stream = ReceiverStream<News>;

/// Opens the stream of what the caller may see.
pub(super) fn open(core: Arc<Core>, caller: Caller) -> Stream {
    let (news, stream) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _open = core.metrics.stream(caller.subject.role().as_str());
        if let Err(Some(status)) = feed(&core, &caller, &news).await {
            let _ = news.send(Err(status)).await;
        }
    });
    ReceiverStream::new(stream)
}

/// Ends with the status to send, or with `None` when the client is gone.
async fn feed(core: &Core, caller: &Caller, news: &Sender<News>) -> Result<(), Option<Status>> {
    let mut members = core.hub.watch_member(&caller.subject);
    loop {
        // Listening before looking, so that no change falls between the two.
        let mut changes = match caller.subject.role() {
            Role::Daemon => core.hub.watch_host(caller.subject.name()),
            _ => core.hub.watch(),
        };
        core.still(caller).await.map_err(Some)?;
        let host = (caller.subject.role() == Role::Daemon).then(|| caller.subject.name());
        let present = core.store.live(host).await.map_err(|error| Some(error.into()))?;
        for record in present {
            let record = record.at(core.clock.now());
            show(core, caller, news, &record).await?;
        }
        send(news, Event::Synced(v1::Synced {})).await?;
        follow(core, caller, news, &mut changes, &mut members).await?;
    }
}

/// Passes changes on; ends well when some were missed.
async fn follow(
    core: &Core,
    caller: &Caller,
    news: &Sender<News>,
    changes: &mut Receiver<Change>,
    members: &mut Receiver<()>,
) -> Result<(), Option<Status>> {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        // In this order: what is taken from a member is told before its stream ends.
        tokio::select! {
            biased;
            () = news.closed() => return Err(None),
            () = core.stop.cancelled() => {
                return Err(Some(Status::unavailable("the server stops")));
            }
            change = changes.recv() => match change {
                Ok(Change::Record(record)) => show(core, caller, news, &record).await?,
                Ok(Change::Missed) | Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(None),
            },
            // Once or several times: what counts is what it is now.
            _ = members.recv() => core.still(caller).await.map_err(Some)?,
            _ = beat.tick() => {
                let now = core.clock.now();
                if now >= caller.until {
                    let over = Status::unauthenticated("the client certificate ran out");
                    return Err(Some(over));
                }
                send(news, Event::Heartbeat(v1::Heartbeat { unix_ms: now })).await?;
            }
        }
    }
}

async fn show(
    core: &Core,
    caller: &Caller,
    news: &Sender<News>,
    record: &Record,
) -> Result<(), Option<Status>> {
    let approval = match caller.subject.role() {
        Role::Daemon if record.host == caller.subject.name() => wire::brief(record),
        Role::Daemon => return Ok(()),
        _ if visible(caller, record, core.clock.now()) => {
            let asked = core.store.request(record.id, false).await;
            let asked = asked.map_err(|error| Some(error.into()))?;
            wire::approval(record, asked.unwrap_or_default())
        }
        _ => return Ok(()),
    };
    send(news, Event::Approval(approval)).await
}

async fn send(news: &Sender<News>, event: Event) -> Result<(), Option<Status>> {
    let event = v1::WatchEvent { event: Some(event) };
    news.send(Ok(event)).await.map_err(|_| None)
}

/// What a person may see: a reviewer what one of its groups may decide, everybody else all.
pub(in crate::server) fn visible(caller: &Caller, record: &Record, now: Millis) -> bool {
    let person = Person { name: caller.subject.name(), groups: &caller.groups };
    match caller.subject.role() {
        Role::Admin | Role::Viewer | Role::PolicyAdmin => true,
        Role::Reviewer => !record.eligible(person, now).is_empty(),
        Role::Daemon => false,
    }
}
