//! Keeps the daemon joined, its certificate fresh and the stream of news open.

use super::{Options, Shared, own, view};
use crate::approval::identity::Identity;
use crate::approval::join::{self, JoinError};
use crate::approval::tls;
use crate::approval::token::Token;
use crate::approval::{ApprovalError, ApprovalId, View};
use enforcer_proto::v1;
use enforcer_proto::v1::watch_event::Event;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

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
    Lost(String),
}

pub(super) async fn run(shared: Arc<Shared>, identity: Option<Identity>, token: Option<Token>) {
    let mut identity = match (identity, token) {
        (Some(identity), _) => identity,
        (None, Some(token)) => join_until_done(&shared.options, &token).await,
        (None, None) => return,
    };
    let mut pause = BACKOFF.0;
    loop {
        let started = Instant::now();
        match stream(&shared, &identity).await {
            End::Renewed(renewed) => {
                identity = *renewed;
                continue;
            }
            End::Lost(why) => {
                let was_up = shared.table.connected();
                shared.table.down();
                if was_up {
                    tracing::warn!(%why, "the approval server is lost; what needs approval is denied");
                } else {
                    tracing::debug!(%why, "the approval server is not reached");
                }
            }
        }
        if started.elapsed() > BACKOFF.1 {
            pause = BACKOFF.0;
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

async fn join_until_done(options: &Options, token: &Token) -> Identity {
    let mut pause = BACKOFF.0;
    loop {
        match join::join(&options.url, token, &options.dir).await {
            Ok(identity) => match own(&identity, options) {
                Ok(()) => {
                    tracing::info!(holder = %identity.holder.subject, "joined the approval server");
                    return identity;
                }
                Err(error) => tracing::error!(%error, "joined as somebody else"),
            },
            Err(error @ JoinError::Refused(_)) => {
                tracing::error!(%error, "the join token was not taken; what needs approval is denied");
                pause = BACKOFF.1 * 10;
            }
            Err(error) => tracing::warn!(%error, "not joined yet"),
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(BACKOFF.1 * 10);
    }
}

/// Many daemons that lost one server must not come back in one moment.
fn jittered(pause: Duration) -> Duration {
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
        Err(error) => return End::Lost(error.to_string()),
    };
    shared.channel.store(Some(Arc::new(channel.clone())));
    let opened = match shared.api_while_down() {
        Ok(mut api) => timeout(shared.options.silence, api.watch(v1::WatchRequest {})).await,
        Err(error) => return End::Lost(error.to_string()),
    };
    let mut news = match opened {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return End::Lost(join::words(&status)),
        Err(_) => return End::Lost("no answer in time".to_owned()),
    };
    tokio::select! {
        lost = follow(shared, &mut news) => End::Lost(lost),
        renewed = renewal(shared, identity, channel) => End::Renewed(Box::new(renewed)),
    }
}

/// Takes in news until there are none any more, and says why.
async fn follow(shared: &Shared, news: &mut Streaming<v1::WatchEvent>) -> String {
    let mut seen = HashSet::new();
    loop {
        let event = match timeout(shared.options.silence, news.message()).await {
            Ok(Ok(Some(event))) => event.event,
            Ok(Ok(None)) => return "the server ended the stream".to_owned(),
            Ok(Err(status)) => return join::words(&status),
            Err(_) => return "nothing was heard for too long".to_owned(),
        };
        match event {
            Some(Event::Approval(approval)) => match view(&approval) {
                Ok(view) => {
                    seen.insert(view.id);
                    shared.table.update(view);
                }
                Err(error) => return error.to_string(),
            },
            Some(Event::Heartbeat(_)) => {}
            Some(Event::Synced(_)) => {
                if let Err(error) = catch_up(shared, &seen).await {
                    return error.to_string();
                }
                seen.clear();
                shared.table.up();
            }
            None => return "an event of an unknown kind".to_owned(),
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

/// Ends with a new certificate, at the time when one is due.
async fn renewal(
    shared: &Shared,
    identity: &Identity,
    channel: tonic::transport::Channel,
) -> Identity {
    loop {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        if identity.holder.renewal_due(now) {
            let options = &shared.options;
            match join::renew(identity, &options.url, channel.clone(), &options.dir).await {
                Ok(renewed) => return renewed,
                Err(error) => tracing::warn!(%error, "the certificate was not renewed"),
            }
        }
        sleep(RENEWAL_CHECK).await;
    }
}
