//! The probing process: tries each way out with one word. It answers nothing;
//! the canary has heard the word, or not.

use super::canary::UDPLITE;
use super::{RAW_PROTOCOL, Targets, WAYS};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take; a refusal comes at once.
const CONNECT: Duration = Duration::from_secs(2);

/// Multipath TCP (`IPPROTO_MPTCP`).
const MPTCP: i32 = 262;

/// What the probing process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Where to.
    pub targets: Targets,
    /// Tells this round's words from others'.
    pub round: String,
    /// A cgroup to join first, as root.
    pub join: Option<PathBuf>,
}

/// The word that a way sends in a round.
pub fn word(round: &str, way: &str) -> String {
    format!("{round}.{way}")
}

/// Tries every way. An error means that the cgroup could not be joined; ways
/// that fail are what is hoped for.
pub fn run(order: &Order) -> io::Result<()> {
    if let Some(dir) = &order.join {
        std::fs::write(dir.join("cgroup.procs"), "0")?;
    }
    for way in WAYS {
        let bytes = format!("word:{}", word(&order.round, way.name));
        if let Err(error) = attempt(way.name, &order.targets, bytes.as_bytes()) {
            tracing::debug!(way = way.name, %error, "closed");
        }
    }
    Ok(())
}

fn attempt(way: &str, targets: &Targets, word: &[u8]) -> io::Result<()> {
    let mapped = IpAddr::V6(targets.v4.to_ipv6_mapped());
    let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
    let own4 = IpAddr::V4(targets.v4);
    match way {
        "tcp4_connect" => connect(at(own4, targets.tcp4), 6, word),
        "tcp4_loopback" => connect(at(Ipv4Addr::LOCALHOST.into(), targets.tcp4), 6, word),
        "tcp6_connect" => connect(at(targets.v6.into(), targets.tcp6), 6, word),
        "tcp6_v4mapped" => connect(at(mapped, targets.tcp4), 6, word),
        "mptcp_connect" => connect(at(own4, targets.tcp4), MPTCP, word),
        "tfo_sendto" => fast_open(at(own4, targets.tcp4), word),
        "udp4_sendto" => sendto(at(own4, targets.udp4), word),
        "udp4_connect_send" => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(at(own4, targets.udp4))?;
            socket.send(word).map(drop)
        }
        "udp4_port53" => match targets.dns {
            Some(ip) => sendto(at(ip.into(), 53), word),
            None => Ok(()),
        },
        "udp6_sendto" => sendto(at(targets.v6.into(), targets.udp6), word),
        "udp6_v4mapped" => sendto(at(mapped, targets.udp4), word),
        "udplite_connect" => {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::from(UDPLITE)))?;
            socket.connect(&at(own4, targets.udplite).into())?;
            socket.send(word).map(drop)
        }
        "raw_ipproto" => {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW_PROTOCOL)))?;
            socket.send_to(word, &at(own4, 0).into()).map(drop)
        }
        "unix_path_stream" => UnixStream::connect(&targets.unix_stream)?.write_all(word),
        "unix_path_dgram" => {
            UnixDatagram::unbound()?.send_to(word, &targets.unix_datagram).map(drop)
        }
        "unix_abstract" => {
            let name = &targets.unix_abstract;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address)?.write_all(word)
        }
        "cg_procs_escape" => {
            // To where no program hangs; what connects then is free.
            let mount = crate::capture::cgroup2_mount().map_err(io::Error::other)?;
            std::fs::write(mount.join("cgroup.procs"), "0")?;
            connect(at(own4, targets.tcp4), 6, word)
        }
        _ => Ok(()),
    }
}

fn connect(to: SocketAddr, protocol: i32, word: &[u8]) -> io::Result<()> {
    let domain = Domain::for_address(to);
    let mut socket = Socket::new(domain, Type::STREAM, Some(Protocol::from(protocol)))?;
    socket.connect_timeout(&SockAddr::from(to), CONNECT)?;
    socket.write_all(word)
}

/// Data in the first packet, without a `connect` that other guards look for.
fn fast_open(to: SocketAddr, word: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_write_timeout(Some(CONNECT))?;
    let address = SockAddr::from(to);
    // SAFETY: word and address live through the call, with the lengths that are passed.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            word.as_ptr().cast(),
            word.len(),
            libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL,
            address.as_ptr().cast(),
            address.len(),
        )
    };
    nix::errno::Errno::result(sent).map(drop).map_err(io::Error::from)
}

fn sendto(to: SocketAddr, word: &[u8]) -> io::Result<()> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0))?.send_to(word, to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::canary::Canary;
    use super::*;

    #[test]
    fn what_is_not_governed_gets_out_and_is_heard() {
        let canary = Canary::start().unwrap();
        let order = Order { targets: canary.targets.clone(), round: "unit".into(), join: None };
        run(&order).unwrap();
        for way in ["tcp4_connect", "tcp4_loopback", "udp4_sendto", "unix_path_stream"] {
            assert!(canary.hears(&word("unit", way), CONNECT), "{way}");
        }
        assert!(!canary.hears(&word("other", "tcp4_connect"), Duration::from_millis(1)));
    }
}
