//! Policy from the server: what came is checked and put in force, and what gets too old is not.

use crate::approval::client::Client;
use crate::metrics::Metrics;
use crate::policy::Bundle;
use crate::policy::pushed::{self, Inbox, Now, Refused};
use crate::run::status::PolicyStatus;
use anyhow::Context as _;
use enforcer_proto::v1;
use enforcer_proto::v1::policy_news::News;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

/// How often the age is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// News that wait to be checked.
const QUEUE: usize = 2;

/// Where policy stands, for `enforcer status`.
pub(super) type Standing = Arc<Mutex<PolicyStatus>>;

/// What came, and what it takes to check more.
pub(super) struct Distributed {
    inbox: Inbox,
    identity_dir: PathBuf,
    mask_key: Vec<u8>,
    max_age: Duration,
    refused: String,
    /// The number that is in force; `None` when nothing is.
    in_force: Option<u64>,
}

impl Distributed {
    /// Reads what was kept, and gives it with the bundle to begin with.
    pub(super) async fn open(
        config: &crate::config::Config,
        mask_key: &[u8],
    ) -> anyhow::Result<(Self, Bundle)> {
        let (dir, identity_dir) = (config.policy_cache(), config.identity_dir());
        let max_age = Duration::from_secs(config.policy.max_age_seconds);
        let key = mask_key.to_vec();
        let opened = tokio::task::spawn_blocking(move || {
            let inbox = Inbox::open(dir, &identity_dir, &key, max_age, Now::system());
            (inbox, identity_dir, key)
        });
        let (inbox, identity_dir, mask_key) = opened.await?;
        // The first look puts in force what is good; everything before it is denied.
        let none = Bundle::absent(crate::policy::Absence::Missing);
        let none = none.context("the empty policy cannot be made")?;
        let refused = String::new();
        Ok((Self { inbox, identity_dir, mask_key, max_age, refused, in_force: None }, none))
    }

    /// Puts in force what is to be in force now.
    pub(super) fn look(
        &mut self,
        policy: &watch::Sender<Arc<Bundle>>,
        standing: &Standing,
        metrics: &Metrics,
    ) {
        let now = Now::system();
        match self.inbox.in_force(now) {
            Ok(bundle) => {
                let number = self.inbox.number();
                if self.in_force != Some(number) {
                    let version = bundle.version().to_owned();
                    // Every operation that runs or waits is judged again.
                    let before = policy.send_replace(bundle);
                    self.in_force = Some(number);
                    metrics.reloaded(true);
                    info!(
                        target: "audit", before = before.version(), policy = %version, number,
                        "policy of the server is in force"
                    );
                }
            }
            Err(why) if policy.borrow().absence() != Some(why) => match Bundle::absent(why) {
                Ok(none) => {
                    policy.send_replace(Arc::new(none));
                    self.in_force = None;
                    error!(target: "audit", reason = why.code(), "{}", why.detail());
                }
                // It was made before, at the start.
                Err(problems) => error!(target: "audit", "no empty policy: {problems}"),
            },
            Err(_) => {}
        }
        let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = PolicyStatus {
            from_server: true,
            number: self.inbox.number(),
            age_s: self.inbox.age(now).map(|age| age.as_secs()),
            max_age_s: self.max_age.as_secs(),
            refused: self.refused.clone(),
        };
    }

    async fn hear(&mut self, news: v1::PolicyNews, metrics: &Metrics) {
        let heard = match news.news {
            Some(News::Bundle(bundle)) => self.take(bundle).await,
            Some(News::Confirmed(said)) => self.inbox.confirm(&said, Now::system()).map(|()| {
                // What is at hand is the newest: nothing is refused any more.
                self.refused.clear();
            }),
            // What is at hand is not confirmed by that, and gets older.
            Some(News::None(v1::NoPolicy {})) | None => Ok(()),
        };
        match heard {
            Ok(()) => {}
            // Of a version that was refused: that was said when it came.
            Err(Refused::Untrusted(crate::policy::signed::Untrusted::Other)) => {}
            Err(refused) => {
                metrics.reloaded(false);
                let why = refused.to_string();
                if why != self.refused {
                    error!(target: "audit", %why, "policy of the server was NOT taken");
                }
                self.refused = why;
            }
        }
    }

    async fn take(&mut self, bundle: v1::PolicyBundle) -> Result<(), Refused> {
        let (dir, key) = (self.identity_dir.clone(), self.mask_key.clone());
        let verified = tokio::task::spawn_blocking(move || pushed::verify(&dir, &key, bundle));
        let verified = verified.await;
        let verified =
            verified.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        self.inbox.take(verified).map(|_| ())
    }

    /// Until the daemon ends.
    pub(super) async fn run(
        mut self,
        client: Client,
        policy: Arc<watch::Sender<Arc<Bundle>>>,
        standing: Standing,
        metrics: Metrics,
    ) {
        let (sender, mut news) = mpsc::channel(QUEUE);
        let has = Arc::new(Mutex::new(self.inbox.statement()));
        let said = Arc::clone(&has);
        let has_now = move || said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let follow = client.follow_policy(has_now, sender);
        let listen = async {
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    heard = news.recv() => match heard {
                        Some(heard) => self.hear(heard, &metrics).await,
                        None => return,
                    },
                    _ = look.tick() => {}
                }
                *has.lock().unwrap_or_else(PoisonError::into_inner) = self.inbox.statement();
                self.look(&policy, &standing, &metrics);
            }
        };
        tokio::join!(follow, listen);
    }
}
