//! Listeners on this host that write down each word they hear.

use super::{RAW_PROTOCOL, Targets};
use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// UDP-Lite (RFC 3828).
pub(super) const UDPLITE: i32 = 136;

/// A loopback address that hardly anything else listens on.
const DNS: Ipv4Addr = Ipv4Addr::new(127, 77, 77, 77);

/// The longest word of a probe, and what is read of one connection.
const WORD: usize = 256;

/// What was heard so far.
#[derive(Debug, Default)]
struct Heard {
    words: Mutex<HashSet<String>>,
    more: Condvar,
}

/// The canary; its threads end with the process.
#[derive(Debug)]
pub struct Canary {
    /// Where it listens.
    pub targets: Targets,
    heard: Arc<Heard>,
    _dir: tempfile::TempDir,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        // A raw packet has its header before the word.
        if let Some(word) = text.split("word:").nth(1) {
            self.lock().insert(word.trim_end_matches('\0').to_owned());
            self.more.notify_all();
        }
    }
}

impl Canary {
    /// Starts every listener that this system lets it have.
    pub fn start() -> io::Result<Self> {
        let heard = Arc::new(Heard::default());
        let (v4, v6) = own_addresses();
        let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let tcp4 = TcpListener::bind(any4)?;
        let udp4 = UdpSocket::bind(any4)?;
        let (tcp6, udp6) = (TcpListener::bind(any6), UdpSocket::bind(any6));
        let port = |a: io::Result<SocketAddr>| a.map_or(0, |a| a.port());
        let udplite = datagrams(Domain::IPV4, Type::DGRAM, UDPLITE, any4);
        let raw = datagrams(Domain::IPV4, Type::RAW, RAW_PROTOCOL, any4);
        let dns = UdpSocket::bind((DNS, 53));
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let name = format!("enforcer-doctor-{}", uuid::Uuid::now_v7().simple());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
        let (stream, datagram) = (dir.path().join("stream"), dir.path().join("datagram"));
        let unix = UnixListener::bind(&stream)?;
        let unix_datagram = UnixDatagram::bind(&datagram)?;
        for path in [&stream, &datagram] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        }
        let targets = Targets {
            v4,
            v6,
            tcp4: port(tcp4.local_addr()),
            tcp6: tcp6.as_ref().map_or(0, |s| port(s.local_addr())),
            udp4: port(udp4.local_addr()),
            udp6: udp6.as_ref().map_or(0, |s| port(s.local_addr())),
            udplite: udplite.as_ref().map_or(0, |s| {
                s.local_addr().ok().and_then(|a| a.as_socket()).map_or(0, |a| a.port())
            }),
            dns: dns.is_ok().then_some(DNS),
            raw: raw.is_ok(),
            unix_stream: stream,
            unix_datagram: datagram,
            unix_abstract: name,
        };
        hear_streams(&heard, move || tcp4.accept().map(|(s, _)| s));
        if let Ok(tcp6) = tcp6 {
            hear_streams(&heard, move || tcp6.accept().map(|(s, _)| s));
        }
        hear_streams(&heard, move || unix.accept().map(|(s, _)| s));
        let abstract_listener = UnixListener::bind_addr(&address)?;
        hear_streams(&heard, move || abstract_listener.accept().map(|(s, _)| s));
        hear_datagrams(&heard, move |buffer| unix_datagram.recv(buffer));
        for udp in [Ok(udp4), udp6, dns].into_iter().flatten() {
            hear_datagrams(&heard, move |buffer| udp.recv(buffer));
        }
        for mut socket in [udplite, raw].into_iter().flatten() {
            hear_datagrams(&heard, move |buffer| socket.read(buffer));
        }
        Ok(Self { targets, heard, _dir: dir })
    }

    /// Waits until a word was heard, at most for `limit`.
    pub fn hears(&self, word: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut words = self.heard.lock();
        while !words.contains(word) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            words =
                self.heard.more.wait_timeout(words, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn datagrams(domain: Domain, kind: Type, protocol: i32, at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind, Some(Protocol::from(protocol)))?;
    socket.bind(&SockAddr::from(at))?;
    Ok(socket)
}

fn hear_streams<S: Read + Send + 'static>(
    heard: &Arc<Heard>,
    accept: impl Fn() -> io::Result<S> + Send + 'static,
) {
    let heard = Arc::clone(heard);
    std::thread::spawn(move || {
        while let Ok(stream) = accept() {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // What came before an error counts too.
                let _ = stream.take(WORD as u64).read_to_end(&mut bytes);
                heard.add(&bytes);
            });
        }
    });
}

fn hear_datagrams(
    heard: &Arc<Heard>,
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static,
) {
    let heard = Arc::clone(heard);
    std::thread::spawn(move || {
        let mut buffer = [0; WORD];
        while let Ok(len) = receive(&mut buffer) {
            heard.add(&buffer[..len]);
        }
    });
}

/// An IPv4 and an IPv6 address of this host; loopback's where there is no other.
fn own_addresses() -> (Ipv4Addr, Ipv6Addr) {
    let (mut v4, mut v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    for address in getifaddrs().into_iter().flatten().filter_map(|i| i.address) {
        if let Some(ip) = address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip)
            && v4.is_loopback()
        {
            v4 = ip;
        }
        if let Some(ip) = address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::ip)
            && v6.is_loopback()
            // A link-local address means nothing without its interface.
            && !ip.is_unicast_link_local()
        {
            v6 = ip;
        }
    }
    (v4, v6)
}
