//! Policy from the server: what came is checked and put in force, and what gets too old is not.

use crate::approval::client::Client;
use crate::metrics::Metrics;
use crate::policy::pushed::{self, Inbox, Now, Refused};
use crate::policy::{Absence, AllowedSecrets, Bundle};
use crate::run::status::PolicyStatus;
use anyhow::Context as _;
use enforcer_proto::v1;
use enforcer_proto::v1::policy_news::News;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
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
    host: pushed::Host,
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
        let dir = config.policy_cache();
        let max_age = Duration::from_secs(config.policy.max_age_seconds);
        let host = pushed::Host {
            identity_dir: config.identity_dir(),
            mask_key: mask_key.to_vec(),
            secrets: AllowedSecrets::new(&config.policy.secrets_dirs, &config.policy.secrets_env),
        };
        let opened = tokio::task::spawn_blocking(move || {
            let inbox = Inbox::open(dir, &host, max_age, Now::system());
            (inbox, host)
        });
        let (inbox, host) = opened.await?;
        // The first look puts in force what is good; everything before it is denied.
        let none = Bundle::absent(Absence::Missing);
        let none = none.context("the empty policy cannot be made")?;
        let refused = String::new();
        Ok((Self { inbox, host, max_age, refused, in_force: None }, none))
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

    /// Whether it was taken, when it is a bundle.
    async fn hear(&mut self, news: v1::PolicyNews, metrics: &Metrics) -> bool {
        let is_bundle = matches!(news.news, Some(News::Bundle(_)));
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
            Ok(()) => true,
            // Of a version that was refused: that was said when it came.
            Err(Refused::Untrusted(crate::policy::signed::Untrusted::Other)) => true,
            Err(refused) => {
                metrics.reloaded(false);
                let why = refused.to_string();
                if why != self.refused {
                    error!(target: "audit", %why, "policy of the server was NOT taken");
                }
                self.refused = why;
                !is_bundle
            }
        }
    }

    async fn take(&mut self, bundle: v1::PolicyBundle) -> Result<(), Refused> {
        let host = self.host.clone();
        let check = tokio::task::spawn_blocking(move || pushed::verify(&host, bundle));
        self.inbox.take(checked(check).await?).map(|_| ())
    }

    /// Until the daemon ends. Were this to end before, nothing would get too old any more: then
    /// nothing is in force.
    pub(super) async fn run(
        self,
        stop: CancellationToken,
        client: Client,
        policy: Arc<watch::Sender<Arc<Bundle>>>,
        standing: Standing,
        metrics: Metrics,
    ) {
        let work = self.follow(client, Arc::clone(&policy), Arc::clone(&standing), metrics);
        if !ended_well(stop, work).await {
            const WHY: &str = "the server's policy is not followed any more: restart the daemon";
            error!(target: "audit", "{WHY}");
            standing.lock().unwrap_or_else(PoisonError::into_inner).refused = WHY.to_owned();
            close(&policy);
        }
    }

    async fn follow(
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
        let refused = Arc::new(Notify::new());
        let follow = client.follow_policy(has_now, &refused, sender);
        let listen = async {
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    heard = news.recv() => match heard {
                        Some(heard) => {
                            // The server thinks that it was taken, until it is asked anew.
                            if !self.hear(heard, &metrics).await {
                                refused.notify_one();
                            }
                        }
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

/// What came of a check; one that panics is one that refused.
async fn checked<T>(check: JoinHandle<Result<T, Refused>>) -> Result<T, Refused> {
    check.await.unwrap_or(Err(Refused::Fault))
}

/// Whether the work went on until it was told to stop.
async fn ended_well(
    stop: CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> bool {
    let done = tokio::spawn(super::until(stop.clone(), work)).await;
    done.is_ok() && stop.is_cancelled()
}

/// Puts nothing in force.
fn close(policy: &watch::Sender<Arc<Bundle>>) {
    match Bundle::absent(Absence::Expired) {
        Ok(none) => drop(policy.send_replace(Arc::new(none))),
        // It was made before, at the start.
        Err(problems) => error!(target: "audit", "no empty policy: {problems}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_panics_is_one_that_refused() {
        let check = tokio::task::spawn_blocking(|| -> Result<(), Refused> { panic!("a test") });
        assert!(matches!(checked(check).await, Err(Refused::Fault)));
        let check = tokio::task::spawn_blocking(|| Ok(()));
        assert!(checked(check).await.is_ok());
    }

    #[tokio::test]
    async fn only_work_that_is_told_to_stop_ends_well() {
        let stop = CancellationToken::new();
        assert!(!ended_well(stop.clone(), async {}).await);
        assert!(!ended_well(stop.clone(), async { panic!("a test") }).await);
        stop.cancel();
        assert!(ended_well(stop, std::future::pending()).await);
        let (policy, now) = watch::channel(Arc::new(Bundle::absent(Absence::Missing).unwrap()));
        close(&policy);
        assert_eq!(now.borrow().absence(), Some(Absence::Expired));
    }
}
