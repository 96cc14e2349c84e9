//! Keeps the daemon joined, its certificate fresh and the stream of news open.

use super::enrol::{Enrolment, good};
use super::{Shared, view};
use crate::approval::identity::Identity;
use crate::approval::join;
use crate::approval::tls;
use crate::approval::{ApprovalError, ApprovalId, View};
use enforcer_proto::v1;
use enforcer_proto::v1::watch_event::Event;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, Streaming};

/// First and longest pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// How often the certificate's age is looked at; the wall clock may jump, so no long sleeps.
const RENEWAL_CHECK: Duration = Duration::from_secs(30);

/// The server paces its callers: pause before it is asked again, and how often it is.
const PACED: (Duration, u32) = (Duration::from_millis(200), 25);

/// What ended one stream.
enum End {
    /// A new certificate is there: connect with it. The old stream was good to the end.
    Renewed(Box<Identity>),
    /// No news can come.
    Lost(Lost),
}

/// Why no news can come.
struct Lost {
    why: String,
    /// The server was reached, and does not take our certificate.
    refused: bool,
}

impl From<String> for Lost {
    fn from(why: String) -> Self {
        Self { why, refused: false }
    }
}

impl From<&Status> for Lost {
    fn from(status: &Status) -> Self {
        let refused = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
        Self { why: join::words(status), refused }
    }
}

pub(super) async fn run(shared: Arc<Shared>, mut identity: Option<Identity>) {
    let mut enrolment = Enrolment::new(&shared.options);
    let mut pause = BACKOFF.0;
    loop {
        let current = match identity.take().filter(good) {
            Some(current) => current,
            None => enrolment.wait().await,
        };
        let started = Instant::now();
        match stream(&shared, &current).await {
            End::Renewed(renewed) => {
                identity = Some(*renewed);
                continue;
            }
            End::Lost(lost) => {
                let was_up = shared.table.connected();
                shared.table.down();
                let why = lost.why;
                if was_up {
                    tracing::warn!(%why, "the approval server is lost; what needs approval is denied");
                } else {
                    tracing::debug!(%why, "the approval server is not reached");
                }
                if lost.refused {
                    identity = enrolment.after_refusal(&why, &current).await;
                }
            }
        }
        if started.elapsed() > BACKOFF.1 {
            pause = BACKOFF.0;
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(BACKOFF.1);
        identity = identity.or(Some(current));
    }
}

/// Many daemons that lost one server must not come back in one moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let part = match getrandom::fill(&mut byte) {
        Ok(()) => u32::from(byte[0]),
        Err(_) => 128,
    };
    pause / 2 + pause * part / 512
}

/// One connection: the present state, then news until it ends.
async fn stream(shared: &Shared, identity: &Identity) -> End {
    let channel = match tls::channel(&shared.options.url, identity) {
        Ok(channel) => channel,
        Err(error) => return End::Lost(error.to_string().into()),
    };
    shared.channel.store(Some(Arc::new(channel.clone())));
    shared.holds(identity, None);
    let opened = match shared.api_while_down() {
        Ok(mut api) => timeout(shared.options.silence, api.watch(v1::WatchRequest {})).await,
        Err(error) => return End::Lost(error.to_string().into()),
    };
    let mut news = match opened {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return End::Lost(Lost::from(&status)),
        Err(_) => return End::Lost("no answer in time".to_owned().into()),
    };
    tokio::select! {
        lost = follow(shared, &mut news) => End::Lost(lost),
        renewed = renewal(shared, identity, channel) => End::Renewed(Box::new(renewed)),
    }
}

/// Takes in news until there are none any more, and says why.
async fn follow(shared: &Shared, news: &mut Streaming<v1::WatchEvent>) -> Lost {
    let mut seen = HashSet::new();
    loop {
        let event = match timeout(shared.options.silence, news.message()).await {
            Ok(Ok(Some(event))) => event.event,
            Ok(Ok(None)) => return "the server ended the stream".to_owned().into(),
            Ok(Err(status)) => return Lost::from(&status),
            Err(_) => return "nothing was heard for too long".to_owned().into(),
        };
        match event {
            Some(Event::Approval(approval)) => match view(&approval) {
                Ok(view) => {
                    seen.insert(view.id);
                    shared.table.update(view);
                }
                Err(error) => return error.to_string().into(),
            },
            Some(Event::Heartbeat(_)) => {}
            Some(Event::Synced(_)) => {
                if let Err(error) = catch_up(shared, &seen).await {
                    return error.to_string().into();
                }
                seen.clear();
                shared.table.up();
            }
            None => return "an event of an unknown kind".to_owned().into(),
        }
    }
}

/// Asks about what we know and the present state did not have: it ended in a gap of the stream.
async fn catch_up(shared: &Shared, seen: &HashSet<ApprovalId>) -> Result<(), ApprovalError> {
    for id in shared.table.known() {
        if seen.contains(&id) {
            continue;
        }
        match patiently(shared, id).await {
            Ok(view) => shared.table.update(view),
            Err(ApprovalError::Unknown) => shared.table.forget(id),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A host that has much to ask about would otherwise run into the server's limit each time, and
/// never be up again.
async fn patiently(shared: &Shared, id: ApprovalId) -> Result<View, ApprovalError> {
    for _ in 1..PACED.1 {
        match shared.get(id).await {
            Err(ApprovalError::Refused(_)) => sleep(PACED.0).await,
            answer => return answer,
        }
    }
    shared.get(id).await
}

/// Ends with a new certificate, at the time when one is due. A third of its time is left for tries
/// that fail; they come ever more slowly, and the stream goes on meanwhile.
async fn renewal(
    shared: &Shared,
    identity: &Identity,
    channel: tonic::transport::Channel,
) -> Identity {
    let options = &shared.options;
    let mut retry = options.renewal_retry.0;
    loop {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let pause = if identity.holder.renewal_due(now) {
            match join::renew(identity, &options.url, channel.clone(), &options.dir).await {
                Ok(renewed) => {
                    tracing::info!(until = renewed.holder.not_after, "the certificate was renewed");
                    return renewed;
                }
                Err(error) => {
                    let left_s = identity.holder.not_after.saturating_sub(now);
                    tracing::warn!(%error, left_s, "the certificate was not renewed");
                    shared.holds(identity, Some(error.to_string()));
                }
            }
            let pause = retry;
            retry = (retry * 2).min(options.renewal_retry.1);
            pause
        } else {
            RENEWAL_CHECK
        };
        // Hosts that joined together must not renew together.
        sleep(jittered(pause)).await;
    }
}
