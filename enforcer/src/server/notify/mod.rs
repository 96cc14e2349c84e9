//! Tells people what waits for them, by webhook.
//!
//! Nothing waits for it: a change is on disk before it is told, telling it is putting it into a
//! queue, and a full queue drops it. What an endpoint gets is news, no right: whoever follows it
//! has to show the own certificate to decide anything.

mod config;
mod message;
mod send;

pub use config::{Endpoint, EndpointError, Format, Notify};

use super::audit::Code;
use super::core::Core;
use super::model::Record;
use message::News;
use send::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// News that may wait, for all and for each endpoint.
const QUEUE: usize = 1024;

type Changed = (Code, Record);

/// Where changes are put to be told.
#[derive(Debug)]
pub struct Notifier {
    news: mpsc::Sender<Changed>,
    /// Taken by the task that tells them; without one there is nothing to tell.
    queue: Mutex<Option<mpsc::Receiver<Changed>>>,
    wanted: bool,
}

impl Notifier {
    /// For these endpoints.
    pub fn new(endpoints: &[Notify]) -> Self {
        let (news, queue) = mpsc::channel(QUEUE);
        Self { news, queue: Mutex::new(Some(queue)), wanted: !endpoints.is_empty() }
    }

    /// Tells a change that is on disk. Never waits.
    pub fn tell(&self, code: Code, record: &Record) {
        if self.wanted && self.news.try_send((code, record.clone())).is_err() {
            tracing::warn!(approval = %record.id, code = code.as_str(), "too much news; nobody is told this");
        }
    }
}

/// Tells the endpoints until the server stops.
pub async fn run(core: Arc<Core>, endpoints: Vec<Endpoint>, stop: CancellationToken) {
    let queue = core.notifier.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut queue) = queue else { return };
    let mut senders = tokio::task::JoinSet::new();
    let mut ways = Vec::new();
    for endpoint in endpoints {
        let (way, news) = mpsc::channel::<Arc<News>>(QUEUE);
        let endpoint = Arc::new(endpoint);
        senders.spawn(Sender::new(Arc::clone(&endpoint), Arc::clone(&core)).run(news));
        ways.push((endpoint, way));
    }
    loop {
        let (code, record) = tokio::select! {
            () = stop.cancelled() => return,
            changed = queue.recv() => match changed {
                Some(changed) => changed,
                None => return,
            },
        };
        if !ways.iter().any(|(endpoint, _)| endpoint.wants(code, &record)) {
            continue;
        }
        // What was asked is for the message only: without it there still is news.
        let asked = core.store.request(record.id, false).await.ok().flatten().unwrap_or_default();
        let news = Arc::new(News::new(
            code,
            &record,
            &asked,
            core.config.console.link(record.id),
            core.clock.now(),
        ));
        for (endpoint, way) in &ways {
            if endpoint.wants(code, &record) && way.try_send(Arc::clone(&news)).is_err() {
                core.metrics.told(&endpoint.name, "dropped");
                tracing::warn!(endpoint = %endpoint.name, "too much news waits; this is not told");
            }
        }
    }
}
