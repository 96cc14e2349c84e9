//! What other servers over the same store changed reaches those who wait here.

use super::core::Core;
use super::members;
use super::store::{News, StoreError};
use crate::approval::identity::{Role, Subject};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// The pause before the store is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// The time that the server which removes a member has to settle what that had begun.
const GRACE: Duration = Duration::from_secs(3);

/// Runs until the server stops.
pub async fn run(core: Arc<Core>, mut news: Receiver<News>) {
    loop {
        let heard = tokio::select! {
            () = core.stop.cancelled() => return,
            heard = news.recv() => heard,
        };
        let Some(mut heard) = heard else { return };
        // What could not be read was missed.
        while let Err(error) = pass_on(&core, heard).await {
            tracing::warn!(%error, "what another replica changed could not be read; trying again");
            heard = News::Missed;
            tokio::select! {
                () = core.stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

async fn pass_on(core: &Arc<Core>, heard: News) -> Result<(), StoreError> {
    match heard {
        News::Record(id) => {
            if let Some(record) = core.store.get(id).await? {
                core.tell(record);
            }
        }
        News::Member(subject) => {
            tokio::spawn(member(Arc::clone(core), subject));
        }
        News::Policy => core.policies.look(),
        News::Missed => {
            core.policies.look();
            tokio::spawn(settle(Arc::clone(core)));
            for record in core.store.live(None).await? {
                core.expiry.schedule(&record);
            }
            core.hub.missed();
        }
    }
    Ok(())
}

/// Ends the streams of a member that another server removed. A host hears first what is taken
/// from it, as it does where it was removed, so that it cuts it.
async fn member(core: Arc<Core>, subject: Subject) {
    let removed = match core.store.member(&subject).await {
        Ok(member) => member.is_some_and(|member| member.removed),
        // It is looked at as if it were.
        Err(_) => true,
    };
    let host = removed && subject.role() == Role::Daemon;
    if !host {
        core.hub.member(&subject);
    }
    if removed {
        let over = async {
            while host && core.store.live(Some(subject.name())).await.is_ok_and(|l| !l.is_empty()) {
                tokio::time::sleep(AGAIN / 10).await;
            }
        };
        let _ = tokio::time::timeout(GRACE, over).await;
        if host {
            core.hub.member(&subject);
        }
        settle(core).await;
    }
}

/// Settles what members that were removed had begun, should the server that removed them have
/// died before it did.
async fn settle(core: Arc<Core>) {
    tokio::select! {
        () = core.stop.cancelled() => return,
        () = tokio::time::sleep(GRACE) => {}
    }
    while let Err(status) = members::settle(&core, "server").await {
        tracing::warn!(
            error = status.message(),
            "what a removed member had begun could not be settled; trying again"
        );
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(GRACE) => {}
        }
    }
}
