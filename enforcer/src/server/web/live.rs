//! News for the pages: that something changed which the person may see. What it is, the page asks
//! for anew, so that there is one way in which things are shown.

use super::guard::Person;
use super::{Web, page};
use crate::server::hub::Change;
use crate::server::people::session::{self, Signed};
use crate::server::service::watch::visible;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Streams at once.
pub(super) const STREAMS: usize = 512;

/// How often it is looked whether the session still is good.
const LOOK: Duration = Duration::from_secs(5);

// Each event has data: browsers drop one without.
type News = Result<Event, Infallible>;

/// The stream.
pub(super) async fn stream(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let Ok(permit) = Arc::clone(&web.streams).try_acquire_owned() else {
        return page::failed(None, &Status::resource_exhausted("too many pages are open"));
    };
    let (news, stream) = mpsc::channel(16);
    tokio::spawn(async move {
        let _permit = permit;
        let _open = web.core.metrics.stream("console");
        follow(&web, &signed, &news).await;
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(10));
    Sse::new(ReceiverStream::new(stream)).keep_alive(alive).into_response()
}

async fn follow(web: &Web, signed: &Signed, news: &Sender<News>) {
    let core = &web.core;
    let mut changes = core.hub.watch();
    let mut members = core.hub.watch_member(&signed.caller.subject);
    let mut look = tokio::time::interval(LOOK);
    let hello = Event::default().event("hello").data("*");
    if news.send(Ok(hello)).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            biased;
            () = news.closed() => return,
            () = core.stop.cancelled() => return,
            _ = members.recv() => {
                if still(web, signed).await {
                    continue;
                }
                Event::default().event("bye").data("*")
            }
            change = changes.recv() => match change {
                Ok(Change::Record(record)) if visible(&signed.caller, &record, core.clock.now()) => {
                    let text = format!("{} {}", record.id, record.revision);
                    Event::default().event("change").data(text)
                }
                Ok(Change::Record(_)) => continue,
                // Some were missed: anything may have changed.
                Ok(Change::Missed) | Err(RecvError::Lagged(_)) => Event::default().event("change").data("*"),
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => {
                if still(web, signed).await {
                    continue;
                }
                Event::default().event("bye").data("*")
            }
        };
        let bye = !still(web, signed).await;
        if news
            .send(Ok(if bye { Event::default().event("bye").data("*") } else { event }))
            .await
            .is_err()
            || bye
        {
            return;
        }
    }
}

async fn still(web: &Web, signed: &Signed) -> bool {
    session::still(&web.core, signed).await.unwrap_or(false)
}
