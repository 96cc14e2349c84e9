//! The daemon's own look-ups of verified names.
//!
//! The configured hosts table first, then the name servers. Only positive
//! answers are kept, for their TTL and at most [`MAX_TTL`]; look-ups of one name
//! at the same time are one. What an address may be used for is `address`'s
//! to say.

mod query;
mod servers;
#[cfg(test)]
mod tests;

use crate::config;
use crate::protocol::dns::names::{BadName, Name};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use query::{Ask, AskError, Reply};
use servers::Servers;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest that an answer is kept, whatever its TTL says.
pub const MAX_TTL: Duration = Duration::from_secs(60);
/// How many answers are kept at once.
const MAX_CACHED: usize = 1_024;
/// How often the list of servers is gone through.
const ROUNDS: u32 = 2;

/// The addresses of one name, in the order that the servers gave them.
pub type Addresses = Arc<[IpAddr]>;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name servers say that there is no such name.
    #[error("the name servers know no `{0}`")]
    NoSuchName(Name),
    /// The name exists, but has no address.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// No server answered in time.
    #[error("no name server answered for `{0}` in time (resolver.timeout_ms)")]
    TimedOut(Name),
    /// The servers answered with a failure, or nonsense; the last one asked.
    #[error("name server {server} failed for `{name}`: {why}")]
    Failed {
        /// The name asked for.
        name: Name,
        /// The last server asked.
        server: SocketAddr,
        /// What it said, or the system's error.
        why: String,
    },
    /// There is no server to ask.
    #[error("no name server: resolver.upstream is empty and {} names none ({why})", file.display())]
    NoServers {
        /// The file that was read instead.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A name in `resolver.hosts` is none.
    #[error("resolver.hosts: `{name}`: {why}")]
    Hosts {
        /// The key.
        name: String,
        /// What is wrong with it.
        why: BadName,
    },
}

impl ResolveError {
    /// A short, stable word for metrics and transcripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchName(_) => "no-such-name",
            Self::NoAddress(_) => "no-address",
            Self::TimedOut(_) => "resolve-timeout",
            Self::Failed { .. } => "resolve-failed",
            Self::NoServers { .. } => "no-name-servers",
            Self::Hosts { .. } => "bad-hosts",
        }
    }

    pub(super) fn no_address(name: &str) -> Self {
        Self::NoAddress(name.to_owned())
    }
}

/// Looks names up; cheap to clone, clones share what they know.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: Arc<Inner>,
}

type Flight = Shared<BoxFuture<'static, Result<Addresses, ResolveError>>>;
type WeakFlight = WeakShared<BoxFuture<'static, Result<Addresses, ResolveError>>>;

#[derive(Debug)]
struct Inner {
    hosts: HashMap<Name, Addresses>,
    servers: Servers,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cached: HashMap<Name, (Addresses, Instant)>,
    /// Weak: a look-up that nobody waits for any more must not be found half done later.
    flights: HashMap<Name, WeakFlight>,
}

impl Resolver {
    /// A resolver as configured.
    ///
    /// # Errors
    ///
    /// When a key of the hosts table is no host name.
    pub fn new(config: &config::Resolver) -> Result<Self, ResolveError> {
        let mut hosts = HashMap::new();
        for (text, addresses) in &config.hosts {
            let name =
                Name::parse(text).map_err(|why| ResolveError::Hosts { name: text.clone(), why })?;
            hosts.insert(name, addresses.as_slice().into());
        }
        Ok(Self {
            inner: Arc::new(Inner {
                hosts,
                servers: Servers::new(&config.upstream),
                timeout: Duration::from_millis(config.timeout_ms),
                state: Mutex::default(),
            }),
        })
    }

    /// The addresses of a name; never empty.
    ///
    /// Cancel safe: the look-up goes on for others who wait for it, and ends when none does.
    pub async fn lookup(&self, name: &Name) -> Result<Addresses, ResolveError> {
        if let Some(addresses) = self.inner.hosts.get(name) {
            return if addresses.is_empty() {
                Err(ResolveError::no_address(name.as_str()))
            } else {
                Ok(Arc::clone(addresses))
            };
        }
        let flight = {
            let mut state = self.inner.state();
            let now = Instant::now();
            if let Some((addresses, until)) = state.cached.get(name)
                && now < *until
            {
                return Ok(Arc::clone(addresses));
            }
            match state.flights.get(name).and_then(WeakShared::upgrade) {
                Some(flight) => flight,
                None => self.take_off(&mut state, name),
            }
        };
        flight.await
    }

    fn take_off(&self, state: &mut State, name: &Name) -> Flight {
        let inner = Arc::clone(&self.inner);
        let wanted = name.clone();
        let flight = async move { inner.look_up(&wanted).await }.boxed().shared();
        if state.flights.len() >= MAX_CACHED {
            state.flights.retain(|_, flight| flight.upgrade().is_some());
        }
        if let Some(weak) = flight.downgrade() {
            state.flights.insert(name.clone(), weak);
        }
        flight
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A cache and a list of look-ups: each insert is whole, so a poisoned lock hides nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(&self, name: &Name) -> Result<Addresses, ResolveError> {
        let asked = tokio::time::timeout(self.timeout, self.ask_servers(name)).await;
        let found = asked.unwrap_or_else(|_| Err(ResolveError::TimedOut(name.clone())));
        let mut state = self.state();
        state.flights.remove(name);
        let (addresses, ttl) = found?;
        let now = Instant::now();
        if !ttl.is_zero() {
            if state.cached.len() >= MAX_CACHED {
                state.cached.retain(|_, (_, until)| now < *until);
            }
            if state.cached.len() < MAX_CACHED {
                let until = now + ttl.min(MAX_TTL);
                state.cached.insert(name.clone(), (Arc::clone(&addresses), until));
            }
        }
        Ok(addresses)
    }

    async fn ask_servers(&self, name: &Name) -> Result<(Addresses, Duration), ResolveError> {
        let servers = self.servers.list().await?;
        let tries = ROUNDS * u32::try_from(servers.len()).unwrap_or(u32::MAX);
        let patience = (self.timeout / tries.max(1)).max(Duration::from_millis(200));
        let mut last = ResolveError::TimedOut(name.clone());
        for _ in 0..ROUNDS {
            for server in &servers {
                match ask_both(*server, name, patience).await {
                    Ok(found) => return Ok(found),
                    // These are answers: another server, or another try, would say the same.
                    Err(error @ (ResolveError::NoSuchName(_) | ResolveError::NoAddress(_))) => {
                        return Err(error);
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
}

/// Asks one server for both kinds of address. One kind is enough when the other fails.
async fn ask_both(
    server: SocketAddr,
    name: &Name,
    patience: Duration,
) -> Result<(Addresses, Duration), ResolveError> {
    let one = |ask| tokio::time::timeout(patience, query::ask(server, name, ask));
    let (v6, v4) = tokio::join!(one(Ask::Aaaa), one(Ask::A));
    let mut addresses = Vec::new();
    let mut ttl = MAX_TTL;
    let mut exists = false;
    let mut failure = None;
    for answer in [v6, v4] {
        match answer {
            Ok(Ok(Reply::Addresses(found, found_ttl))) => {
                addresses.extend(found);
                ttl = ttl.min(found_ttl);
            }
            Ok(Ok(Reply::NoAddress)) => exists = true,
            Ok(Ok(Reply::NoSuchName)) => {}
            Ok(Err(error)) => failure = Some(failed(name, server, &error)),
            Err(_) => failure = Some(ResolveError::TimedOut(name.clone())),
        }
    }
    match failure {
        _ if !addresses.is_empty() => Ok((addresses.into(), ttl)),
        Some(error) => Err(error),
        None if exists => Err(ResolveError::no_address(name.as_str())),
        None => Err(ResolveError::NoSuchName(name.clone())),
    }
}

fn failed(name: &Name, server: SocketAddr, error: &AskError) -> ResolveError {
    ResolveError::Failed { name: name.clone(), server, why: error.to_string() }
}
