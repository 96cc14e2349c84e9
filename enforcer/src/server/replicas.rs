//! What other servers over the same store changed reaches those who wait here.

use super::core::Core;
use super::policies;
use super::store::{News, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// The pause before the store is asked again.
const AGAIN: Duration = Duration::from_millis(250);

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

async fn pass_on(core: &Core, heard: News) -> Result<(), StoreError> {
    match heard {
        News::Record(id) => {
            if let Some(record) = core.store.get(id).await? {
                core.tell(record);
            }
        }
        News::Member(subject) => core.hub.member(&subject),
        News::Policy => policies::catch_up(core).await,
        News::Missed => {
            policies::catch_up(core).await;
            for record in core.store.live(None).await? {
                core.expiry.schedule(&record);
            }
            core.hub.missed();
        }
    }
    Ok(())
}
