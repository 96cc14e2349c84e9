//! The server's news about policy, as they come; whoever takes them checks them.

use super::link::jittered;
use super::{Client, Shared};
use crate::policy::signed;
use enforcer_proto::v1;
use enforcer_proto::v1::policies_client::PoliciesClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// Pause before the stream is opened again.
const AGAIN: Duration = Duration::from_secs(2);

/// The server says something every 5 seconds; without a word for that long it is lost.
const SILENCE: Duration = Duration::from_secs(20);

impl Client {
    /// Passes the news on until nobody takes them. `has` says what names the statement that the
    /// host has, so that its files are not sent again; after `refused` is told that a bundle was
    /// not taken, the server is asked for it anew some time later: the host may be able to by then.
    pub async fn follow_policy(
        &self,
        has: impl Fn() -> Vec<u8>,
        refused: &Notify,
        news: Sender<v1::PolicyNews>,
    ) {
        let shared = &self.0.shared;
        let mut said = String::new();
        while !news.is_closed() {
            shared.table.ready().await;
            match follow(shared, has(), refused, &news).await {
                // It told all it was asked for; another stream is asked for more.
                Ok(()) => said.clear(),
                Err(status) => {
                    let why = status.message().to_owned();
                    if why != said {
                        tracing::warn!(%why, "the server tells nothing about policy");
                        said = why;
                    }
                }
            }
            sleep(jittered(AGAIN)).await;
        }
    }
}

/// Ends well when another stream is to be opened in its place.
async fn follow(
    shared: &Shared,
    has: Vec<u8>,
    refused: &Notify,
    news: &Sender<v1::PolicyNews>,
) -> Result<(), Status> {
    let channel = shared.channel.load_full();
    let channel = channel.ok_or_else(|| Status::unavailable("the server is not reached"))?;
    let mut api = PoliciesClient::new(Channel::clone(&channel))
        .max_decoding_message_size(signed::MAX_MESSAGE);
    let silent = |_| Status::unavailable("nothing was heard for too long");
    let opened = api.watch(v1::WatchPolicyRequest { statement_sha256: has });
    let mut stream = timeout(SILENCE, opened).await.map_err(silent)??.into_inner();
    // What is heard meanwhile counts: the next version may be one to take.
    let anew = async {
        refused.notified().await;
        sleep(jittered(shared.options.policy_again)).await;
    };
    tokio::pin!(anew);
    loop {
        let item = tokio::select! {
            item = timeout(SILENCE, stream.message()) => item.map_err(silent)??,
            () = &mut anew => return Ok(()),
        };
        let Some(item) = item else {
            return Err(Status::unavailable("the server ended the stream"));
        };
        if news.send(item).await.is_err() {
            return Ok(());
        }
        // With a renewed certificate came perhaps the key that was missing.
        let now = shared.channel.load();
        if !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &channel)) {
            return Ok(());
        }
    }
}
