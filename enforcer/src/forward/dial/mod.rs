//! The daemon's connections to upstreams.
//!
//! A name is resolved here, at dial time, each address is judged, and exactly
//! the judged address is connected to; nothing is looked up a second time.

use super::address::{self, Forbidden};
use super::resolve::{ResolveError, Resolver};
use crate::config::Config;
use crate::protocol::dns::names::Name;
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Where a permit leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// A host name, or an address literal without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
    /// The target's own address blocks: what makes a private, link-local, metadata or loopback
    /// address one that may be dialled.
    pub target_addresses: Vec<IpNet>,
}

/// An open connection to an upstream.
#[derive(Debug)]
pub struct Dialed {
    /// Connected, with TCP_NODELAY and keep-alive on.
    pub stream: TcpStream,
    /// The address that was dialled.
    pub addr: SocketAddr,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Neither a host name nor an address literal.
    #[error("`{name}` is not a host name or address that can be dialled: {why}")]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: crate::protocol::dns::names::BadName,
    },
    /// The name could not be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No address of the name may be dialled; the last one that was judged.
    #[error("`{name}` may not be dialled: {forbidden}")]
    Forbidden {
        /// What was asked for.
        name: String,
        /// The address and why.
        forbidden: Forbidden,
    },
    /// The route leads back to this daemon.
    #[error("{0} is this daemon's own port, so dialling it would be a loop")]
    OwnPort(SocketAddr),
    /// No address accepted in time; the last one tried.
    #[error("{addr} did not accept a connection in time")]
    TimedOut {
        /// The last address tried.
        addr: SocketAddr,
    },
    /// The system refused; the last address tried.
    #[error("no connection to {addr}: {source}")]
    Connect {
        /// The last address tried.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The addresses of this host's interfaces could not be read, so none can be judged.
    #[error("cannot list this host's own addresses: {0}")]
    Interfaces(io::Error),
}

impl DialError {
    /// A short, stable word for metrics and transcripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name { .. } => "bad-name",
            Self::Resolve(error) => error.kind(),
            Self::Forbidden { .. } => "address-forbidden",
            Self::OwnPort(_) => "own-port",
            Self::TimedOut { .. } => "dial-timeout",
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => "connection-refused",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "dial-failed",
            },
            Self::Interfaces(_) => "internal",
        }
    }
}

/// A first address may take this long when others are left to try.
const PER_ADDRESS: Duration = Duration::from_secs(2);
/// How many addresses of one name are tried.
const MAX_TRIED: usize = 8;

/// Resolves, judges and connects.
#[derive(Clone, Debug)]
pub struct Dialer {
    resolver: Resolver,
    timeout: Duration,
    synthetic: [IpNet; 2],
    own_ports: [u16; 2],
}

impl Dialer {
    /// A dialer with the configured name servers, hosts and limits.
    pub fn new(config: &Config) -> Result<Self, ResolveError> {
        Ok(Self {
            resolver: Resolver::new(&config.resolver)?,
            timeout: Duration::from_millis(config.limits.dial_ms),
            synthetic: [config.resolver.synthetic_v4.into(), config.resolver.synthetic_v6.into()],
            own_ports: [config.proxy.port, config.proxy.dns_port],
        })
    }

    /// Connects to the route's name or address. Resolving and connecting share `limits.dial_ms`.
    ///
    /// Cancel safe: dropping the future closes what was opened.
    pub async fn dial(&self, route: &Route) -> Result<Dialed, DialError> {
        let deadline = Instant::now() + self.timeout;
        let candidates = self.candidates(route, deadline).await?;
        let own = own_addresses().map_err(DialError::Interfaces)?;
        let mut allowed = Vec::new();
        let mut refused = None;
        for ip in candidates {
            match address::check(ip, &route.target_addresses, &own, &self.synthetic) {
                Ok(()) => allowed.push(SocketAddr::new(ip, route.port)),
                Err(forbidden) => {
                    refused = Some(DialError::Forbidden { name: route.name.clone(), forbidden });
                }
            }
        }
        if let Some(own_port) = allowed.iter().find(|addr| self.is_own_port(**addr, &own)) {
            return Err(DialError::OwnPort(*own_port));
        }
        match refused {
            Some(error) if allowed.is_empty() => Err(error),
            _ => connect_any(&order(allowed), deadline, &route.name).await,
        }
    }

    async fn candidates(&self, route: &Route, deadline: Instant) -> Result<Vec<IpAddr>, DialError> {
        if let Ok(ip) = route.name.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        let name = Name::parse(&route.name)
            .map_err(|why| DialError::Name { name: route.name.clone(), why })?;
        match timeout_at(deadline, self.resolver.lookup(&name)).await {
            Ok(found) => Ok(found?.to_vec()),
            Err(_) => Err(ResolveError::TimedOut(name).into()),
        }
    }

    fn is_own_port(&self, addr: SocketAddr, own: &[IpAddr]) -> bool {
        self.own_ports.contains(&addr.port())
            && (addr.ip().is_loopback() || own.contains(&addr.ip()))
    }
}

/// Addresses that have a route first, the families in turn, IPv6 before IPv4.
fn order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (reachable, rest): (Vec<_>, Vec<_>) = addresses.into_iter().partition(has_route);
    let mut ordered = alternate(reachable);
    ordered.extend(alternate(rest));
    ordered.truncate(MAX_TRIED);
    ordered
}

fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let total = addresses.len();
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut mixed = Vec::with_capacity(total);
    while mixed.len() < total {
        mixed.extend(v6.next());
        mixed.extend(v4.next());
    }
    mixed
}

/// Whether the system has a route: connecting a datagram socket asks it without sending anything.
fn has_route(addr: &SocketAddr) -> bool {
    let any: IpAddr = match addr {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(addr).is_ok())
}

async fn connect_any(
    addresses: &[SocketAddr],
    deadline: Instant,
    name: &str,
) -> Result<Dialed, DialError> {
    let mut last = None;
    for (at, addr) in addresses.iter().enumerate() {
        let is_last = at + 1 == addresses.len();
        let until = if is_last { deadline } else { deadline.min(Instant::now() + PER_ADDRESS) };
        match timeout_at(until, connect(*addr)).await {
            Ok(Ok(stream)) => {
                return Ok(Dialed { stream, addr: *addr });
            }
            Ok(Err(source)) => last = Some(DialError::Connect { addr: *addr, source }),
            Err(_) => last = Some(DialError::TimedOut { addr: *addr }),
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(last.unwrap_or_else(|| DialError::Resolve(ResolveError::no_address(name))))
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    socket.connect(addr).await
}

fn own_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(nix::ifaddrs::getifaddrs()?
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
        })
        .collect())
}

#[cfg(test)]
mod tests;
