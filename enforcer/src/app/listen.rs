//! The daemon's sockets: taken back from the service manager, or bound and left with it.
//!
//! While no daemon runs the manager holds them open. Whoever connects meanwhile waits in the
//! backlog, with nothing sent on, until the next daemon accepts; and no other process can
//! listen where the kernel half sends agents.

use super::manager::{self, Kept};
use crate::accept;
use crate::config::Config;
use crate::metrics;
use crate::protocol::dns;
use crate::run::control;
use anyhow::Context;
use socket2::{SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use tokio::net::{TcpListener, UdpSocket, UnixListener};

/// Every socket of the daemon, bound.
pub(super) struct Listeners {
    pub(super) proxy: Vec<TcpListener>,
    pub(super) dns: dns::serve::Sockets,
    pub(super) control: UnixListener,
    pub(super) metrics: Option<TcpListener>,
    /// Whether the host has IPv6.
    pub(super) ipv6: bool,
}

impl Listeners {
    /// Takes or binds each. Must be called inside a runtime.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let mut kept = Kept::take();
        let at = |what: &'static str, addr: SocketAddr| {
            move || format!("{what} cannot listen on {addr}")
        };
        let mut proxy = Vec::new();
        let mut dns = dns::serve::Sockets::default();
        let mut ipv6 = false;
        let addresses = accept::loopback(config.proxy.port)
            .into_iter()
            .zip(accept::loopback(config.proxy.dns_port));
        for (proxy_addr, dns_addr) in addresses {
            if proxy_addr.is_ipv6() && no_ipv6() {
                // A host without IPv6 has nobody who could be sent there.
                continue;
            }
            ipv6 |= proxy_addr.is_ipv6();
            let family = if proxy_addr.is_ipv6() { 6 } else { 4 };
            let listener = tcp(&mut kept, &format!("proxy{family}"), proxy_addr);
            proxy.push(listener.with_context(at("the proxy", proxy_addr))?);
            let listener = tcp(&mut kept, &format!("dns-tcp{family}"), dns_addr);
            dns.tcp.push(listener.with_context(at("the resolver", dns_addr))?);
            let socket = udp(&mut kept, &format!("dns-udp{family}"), dns_addr).await;
            dns.udp.push(socket.with_context(at("the resolver", dns_addr))?);
        }
        let control = unix(&mut kept, config);
        let control = control.with_context(|| config.control_socket().display().to_string())?;
        let metrics = match config.metrics.listen {
            Some(addr) => Some(metrics::bind(addr).await.with_context(at("metrics", addr))?),
            None => None,
        };
        Ok(Self { proxy, dns, control, metrics, ipv6 })
    }
}

fn no_ipv6() -> bool {
    use nix::errno::Errno;
    let bound = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0));
    let errno = bound.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

fn tcp(kept: &mut Kept, name: &str, addr: SocketAddr) -> io::Result<TcpListener> {
    if let Some(socket) = taken(kept, name, Type::STREAM, &addr.into()) {
        return TcpListener::from_std(socket.into());
    }
    left(name, accept::bind(addr)?)
}

async fn udp(kept: &mut Kept, name: &str, addr: SocketAddr) -> io::Result<UdpSocket> {
    if let Some(socket) = taken(kept, name, Type::DGRAM, &addr.into()) {
        return UdpSocket::from_std(socket.into());
    }
    left(name, UdpSocket::bind(addr).await?)
}

fn unix(kept: &mut Kept, config: &Config) -> io::Result<UnixListener> {
    let path = config.control_socket();
    if path.exists()
        && let Some(socket) = taken(kept, CONTROL, Type::STREAM, &SockAddr::unix(path)?)
    {
        return UnixListener::from_std(socket.into());
    }
    left(CONTROL, control::bind(&config.host.runtime_dir)?)
}

/// The control socket's name in the manager's store.
const CONTROL: &str = "control";

/// What the manager kept, if it is still what the configuration asks for.
fn taken(kept: &mut Kept, name: &str, kind: Type, addr: &SockAddr) -> Option<Socket> {
    let socket = Socket::from(kept.remove(name)?);
    match usable(&socket, kind, addr) {
        Ok(true) => {
            tracing::debug!(name, "a socket was taken over");
            Some(socket)
        }
        // Another port than before, for example.
        Ok(false) | Err(_) => {
            manager::forget(name);
            None
        }
    }
}

fn usable(socket: &Socket, kind: Type, addr: &SockAddr) -> io::Result<bool> {
    let listens = kind != Type::STREAM || socket.is_listener()?;
    let same = socket.r#type()? == kind && socket.local_addr()? == *addr;
    // Descriptors come without these flags, and no child may have them.
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    Ok(listens && same)
}

fn left<T: AsFd>(name: &str, socket: T) -> io::Result<T> {
    manager::keep(name, &socket);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener as StdUnixListener;

    #[test]
    fn only_what_is_asked_for_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let other = SocketAddr::new(addr.ip(), addr.port() ^ 1);
        let listener = Socket::from(listener);
        assert!(usable(&listener, Type::STREAM, &addr.into()).unwrap());
        assert!(listener.nonblocking().unwrap());
        assert!(!usable(&listener, Type::STREAM, &other.into()).unwrap());
        assert!(!usable(&listener, Type::DGRAM, &addr.into()).unwrap());
        let bound = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::new(addr.ip(), 0).into()).unwrap();
        let its = bound.local_addr().unwrap();
        assert!(!usable(&bound, Type::STREAM, &its).unwrap(), "it does not listen");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let unix = Socket::from(StdUnixListener::bind(&path).unwrap());
        assert!(usable(&unix, Type::STREAM, &SockAddr::unix(&path).unwrap()).unwrap());
        let elsewhere = SockAddr::unix(dir.path().join("other.sock")).unwrap();
        assert!(!usable(&unix, Type::STREAM, &elsewhere).unwrap());
    }
}
