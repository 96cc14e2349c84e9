//! What other replicas changed, by LISTEN. A connection of its own, made anew whenever it is
//! lost; then something may have been missed, and says so.

use super::link::{Link, Tls};
use super::writer::CHANNEL;
use super::{CALL, failed, timed_out};
use crate::approval::identity::{Role, Subject};
use crate::server::clock::wall;
use crate::server::store::{News, StoreError};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Connection, Socket};
use uuid::Uuid;

/// How often it is looked whether the connection lives, and what time the database has.
const BEAT: Duration = Duration::from_secs(3);

/// The database's time, milliseconds since the Unix epoch.
pub(super) const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// The pause after a lost connection.
const PAUSE: Duration = Duration::from_millis(250);

/// News that wait to be read.
const BACKLOG: usize = 1024;

/// Begins to listen; ends with the receiver.
pub(super) fn start(link: Link, origin: String, ahead: Arc<AtomicI64>) -> Receiver<News> {
    let (news, heard) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        loop {
            let lost = tokio::select! {
                () = news.closed() => return,
                lost = listen(&link, &origin, &ahead, &news) => lost,
            };
            if news.is_closed() {
                return;
            }
            tracing::warn!(error = %lost, "nothing is heard of other replicas; connecting anew");
            tokio::time::sleep(PAUSE).await;
        }
    });
    heard
}

/// Listens until the connection is lost, and says why it was.
async fn listen(link: &Link, origin: &str, ahead: &AtomicI64, news: &Sender<News>) -> StoreError {
    let connected = tokio::time::timeout(link.patience(), link.connect()).await;
    let (client, mut connection) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return failed(error),
        Err(_) => return timed_out(),
    };
    // The connection only moves while it is polled, so both go on side by side.
    tokio::select! {
        lost = hear(&mut connection, origin, news) => lost,
        lost = beat(&client, ahead, news) => lost,
    }
}

async fn hear(
    connection: &mut Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>,
    origin: &str,
    news: &Sender<News>,
) -> StoreError {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(told))) => {
                if let Some(heard) = read(told.payload(), origin)
                    && news.send(heard).await.is_err()
                {
                    return StoreError::Failed("nobody listens any more".to_owned());
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return failed(error),
            None => return StoreError::Failed("the database closed the connection".to_owned()),
        }
    }
}

/// One that is not our own. What cannot be read is from another version: anything may be meant.
fn read(payload: &str, own: &str) -> Option<News> {
    let mut words = payload.splitn(3, ' ');
    if words.next() == Some(own) {
        return None;
    }
    let heard = match (words.next(), words.next()) {
        (Some("policy"), _) => Some(News::Policy),
        (Some("record"), Some(id)) => Uuid::try_parse(id).ok().map(News::Record),
        (Some("member"), Some(member)) => member
            .split_once('/')
            .and_then(|(role, name)| Subject::new(Role::parse(role)?, name))
            .map(News::Member),
        _ => None,
    };
    Some(heard.unwrap_or(News::Missed))
}

async fn beat(
    client: &tokio_postgres::Client,
    ahead: &AtomicI64,
    news: &Sender<News>,
) -> StoreError {
    let listen = format!("LISTEN {CHANNEL}");
    match tokio::time::timeout(CALL, client.batch_execute(&listen)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return failed(error),
        Err(_) => return timed_out(),
    }
    // Only from here on nothing is missed.
    if news.send(News::Missed).await.is_err() {
        return StoreError::Failed("nobody listens any more".to_owned());
    }
    loop {
        let asked = Instant::now();
        match tokio::time::timeout(CALL, client.query_one(TIME, &[])).await {
            Ok(Ok(row)) => {
                // An answer that took long says little about the time.
                if asked.elapsed() < Duration::from_secs(1) {
                    ahead.store(wall().saturating_sub(row.get(0)), Ordering::Relaxed);
                }
            }
            Ok(Err(error)) => return failed(error),
            Err(_) => return timed_out(),
        }
        tokio::time::sleep(BEAT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_and_own_ones_are_not() {
        let id = Uuid::from_u128(7);
        let member = Subject::new(Role::Reviewer, "ann").unwrap();
        assert_eq!(read(&format!("me record {id}"), "me"), None);
        assert_eq!(read(&format!("you record {id}"), "me"), Some(News::Record(id)));
        assert_eq!(read("you member reviewer/ann", "me"), Some(News::Member(member)));
        assert_eq!(read("you policy *", "me"), Some(News::Policy));
        for strange in ["", "you", "you record x", "you member ann", "you other 1", "x y z w"] {
            assert_eq!(read(strange, "me"), Some(News::Missed), "{strange}");
        }
    }
}
