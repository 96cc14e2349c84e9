//! What the services share: who calls, and the one way a record changes.

use super::audit::{Code, Entry};
use super::ca::Ca;
use super::clock::{BOUND, Clock};
use super::config::Config;
use super::expiry::Expiry;
use super::hub::Hub;
use super::limits::Rate;
use super::metrics::Metrics;
use super::model::{Millis, Record};
use super::notify::Notifier;
use super::policies::Policies;
use super::store::{Store, StoreError};
use crate::approval::identity::{Holder, Role, Subject};
use crate::policy::signed::PolicyKey;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use uuid::Uuid;

/// How often a change is tried again when another came first. Each time one of the racers
/// gets through, so this is the number of racers, not of failures.
const RACERS: usize = 1024;

/// Joins a second from one address, and at once.
const JOINS: (u32, u32) = (1, 30);

/// Everything that the services stand on.
pub struct Core {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Who hears of changes.
    pub hub: Hub,
    /// What ends when.
    pub expiry: Expiry,
    /// Who is told by webhook.
    pub notifier: Notifier,
    /// The time.
    pub clock: Clock,
    /// The configuration.
    pub config: Config,
    /// The CA.
    pub ca: Ca,
    /// The policy that hosts get from here.
    pub policies: Policies,
    /// The counters.
    pub metrics: Metrics,
    /// The end.
    pub stop: CancellationToken,
    /// The server's own certificate is to be made anew: the time was moved.
    pub reissue: Notify,
    calls: Rate<Subject>,
    joins: Rate<IpAddr>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// Who calls, verified.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The certificate's holder.
    pub subject: Subject,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// When its certificate ends.
    pub until: Millis,
    /// When its certificate was issued.
    pub issued: Millis,
}

/// What a step does to a record: the next one with what goes on record, or nothing.
pub type Change = Option<(Record, Vec<Entry>)>;

/// The answer for everything that is not there or is not the caller's to see.
pub fn unknown() -> Status {
    Status::not_found("no such approval")
}

/// The answer for a role that may not.
pub fn forbidden() -> Status {
    Status::permission_denied("this certificate may not do that")
}

/// The answer for who has no certificate.
pub fn uncertified() -> Status {
    Status::unauthenticated("a client certificate of this server is needed")
}

/// The answer for a member that was removed.
pub fn removed() -> Status {
    Status::permission_denied("this host or person was removed from the approval server")
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store did not answer");
        Self::unavailable("the server's store failed")
    }
}

impl Core {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        config: Config,
        ca: Ca,
        policy_key: PolicyKey,
    ) -> Self {
        let limits = config.limits;
        Self {
            store,
            hub: Hub::default(),
            expiry: Expiry::default(),
            notifier: Notifier::new(&config.notify),
            clock,
            ca,
            policies: Policies::new(policy_key),
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            reissue: Notify::new(),
            calls: Rate::new(limits.calls_per_second, limits.calls_burst),
            joins: Rate::new(JOINS.0, JOINS.1),
            config,
        }
    }

    /// The verified caller, if it has one of these roles, has joined, and is not too fast.
    ///
    /// # Errors
    /// With what the caller is told.
    pub async fn caller<T>(&self, request: &Request<T>, roles: &[Role]) -> Result<Caller, Status> {
        // The handshake verified the chain; what it says is read here.
        let chain = request.peer_certs().ok_or_else(uncertified)?;
        let holder = chain.first().and_then(|leaf| Holder::read(leaf)).ok_or_else(uncertified)?;
        let now = self.clock.now();
        let until = holder.not_after.saturating_mul(1000);
        if now >= until || now < holder.not_before.saturating_mul(1000) {
            return Err(Status::unauthenticated("the client certificate is not good at this time"));
        }
        self.paced(&holder.subject)?;
        let issued = super::ca::issued(&holder);
        let subject = holder.subject;
        let member = self.store.member(&subject).await?;
        let allowed = roles.contains(&subject.role());
        match member {
            Some(member) if allowed && member.takes(issued) => {
                Ok(Caller { subject, groups: member.groups, until, issued })
            }
            _ => {
                let entry = Entry::new(Code::AccessRefused, subject.to_string(), "", "role");
                self.note(entry).await?;
                Err(forbidden())
            }
        }
    }

    /// Whether that caller is not too fast.
    ///
    /// # Errors
    /// With what the caller is told when it is.
    pub fn paced(&self, subject: &Subject) -> Result<(), Status> {
        if self.calls.allows(subject.clone(), self.clock.steady()) {
            return Ok(());
        }
        self.metrics.limited.inc();
        Err(Status::resource_exhausted("too many calls; try again later"))
    }

    /// Whether a caller that is known has one of these roles; that it has none goes on record.
    ///
    /// # Errors
    /// With what the caller is told.
    pub async fn permit(&self, caller: &Caller, roles: &[Role]) -> Result<(), Status> {
        if roles.contains(&caller.subject.role()) {
            return Ok(());
        }
        self.note(Entry::new(Code::AccessRefused, caller.subject.to_string(), "", "role")).await?;
        Err(forbidden())
    }

    /// Whether a caller of a while ago still is what it was then.
    ///
    /// # Errors
    /// With what the caller is told when it is not, or the store fails.
    pub async fn still(&self, caller: &Caller) -> Result<(), Status> {
        match self.store.member(&caller.subject).await? {
            Some(member) if !member.takes(caller.issued) => Err(removed()),
            Some(member) if member.groups == caller.groups => Ok(()),
            Some(_) => Err(Status::aborted("the groups have changed: connect again")),
            None => Err(removed()),
        }
    }

    /// Whether this server's time, or its machine's clock, is far from its store's own.
    pub fn apart(&self) -> bool {
        let far = |by: Millis| by.saturating_abs() > BOUND;
        let of = |ahead: Millis| far(ahead) || far(ahead.saturating_add(self.clock.off()));
        self.store.ahead().is_some_and(of)
    }

    /// Whether something may be granted now.
    ///
    /// # Errors
    /// While the server's clock is in doubt.
    pub fn may_grant(&self) -> Result<(), Status> {
        if self.apart() {
            return Err(Status::failed_precondition(
                "this approval server's clock and its database's are more than two minutes apart, \
                 so it grants nothing until they agree",
            ));
        }
        match self.clock.doubt() {
            None => Ok(()),
            Some(_) => Err(Status::failed_precondition(
                "the approval server's clock was stepped, so nothing is granted until it is put \
                 right or has kept its new time for ten minutes",
            )),
        }
    }

    /// Whether that address may try a token now.
    pub fn may_join(&self, from: Option<IpAddr>) -> bool {
        let allowed = from.is_some_and(|from| self.joins.allows(block(from), self.clock.steady()));
        if !allowed {
            self.metrics.limited.inc();
        }
        allowed
    }

    /// Puts something on record that changes nothing else.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note(&self, entry: Entry) -> Result<(), StoreError> {
        self.metrics.event(entry.code);
        self.store.note(entry, self.clock.now()).await
    }

    /// Changes a record by a pure step, as often as it takes to be first; then tells everybody.
    /// The step sees the record as stored, and the time. When a member does it (`by`), it is one
    /// at the very moment of the change.
    ///
    /// # Errors
    /// What the step says, [`unknown`], or that the store failed.
    pub async fn transition<T>(
        &self,
        id: Uuid,
        by: Option<&Caller>,
        step: impl Fn(&Record, Millis) -> Result<(Change, T), Status>,
    ) -> Result<(Record, T), Status> {
        for _ in 0..RACERS {
            let record = self.store.get(id).await?.ok_or_else(unknown)?;
            let now = self.clock.now();
            let (change, done) = step(&record, now)?;
            let Some((next, audit)) = change else {
                return Ok((record, done));
            };
            let codes: Vec<Code> = audit.iter().map(|entry| entry.code).collect();
            let revision = record.revision;
            let subject = by.map(|by| by.subject.clone());
            if self.store.update(next.clone(), revision, subject, audit, now).await? {
                for code in codes {
                    self.metrics.event(code);
                    self.notifier.tell(code, &next);
                }
                self.tell(next.clone());
                return Ok((next, done));
            }
            if let Some(by) = by {
                self.still(by).await?;
            }
        }
        Err(Status::unavailable("too many changes at once"))
    }

    /// Tells everybody about a change that is on disk.
    pub fn tell(&self, record: Record) {
        self.expiry.schedule(&record);
        self.hub.publish(&Arc::new(record));
    }
}

/// What one caller can call from: its address, or the /64 that an IPv6 host has to itself.
pub(in crate::server) fn block(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(from) => from.into(),
        IpAddr::V6(from) => Ipv6Addr::from_bits(from.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Reads an approval's id; a bad one is answered like an unknown one.
///
/// # Errors
/// [`unknown`].
pub fn id(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_one_caller_whatever_address_it_takes() {
        let block = |from: &str| block(from.parse().unwrap()).to_string();
        assert_eq!(block("2001:db8:0:1:aaaa::1"), "2001:db8:0:1::");
        assert_eq!(block("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
