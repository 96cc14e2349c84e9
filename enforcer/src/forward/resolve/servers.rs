//! Which name servers to ask: those of the configuration, else those of `/etc/resolv.conf`.

use super::ResolveError;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// As many as the C library asks (`resolv.conf(5)`, MAXNS).
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;

#[derive(Debug)]
pub(super) enum Servers {
    Fixed(Vec<SocketAddr>),
    /// Read anew for each look-up, since it changes with the network.
    File(PathBuf),
}

impl Servers {
    pub(super) fn new(configured: &[SocketAddr]) -> Self {
        if configured.is_empty() {
            Self::File("/etc/resolv.conf".into())
        } else {
            Self::Fixed(configured.to_vec())
        }
    }

    /// At least one server.
    pub(super) async fn list(&self) -> Result<Vec<SocketAddr>, ResolveError> {
        match self {
            Self::Fixed(servers) => Ok(servers.clone()),
            Self::File(path) => {
                let none = |why: String| ResolveError::NoServers { file: path.clone(), why };
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| none(error.to_string()))?;
                let servers = parse(&text);
                if servers.is_empty() {
                    return Err(none("it has no `nameserver` line that reads".to_owned()));
                }
                Ok(servers)
            }
        }
    }
}

/// The servers of a `resolv.conf(5)`; lines that do not read are left out.
fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            server(words.next()?)
        })
        .take(MAX_SERVERS)
        .collect()
}

fn server(text: &str) -> Option<SocketAddr> {
    if let Some((address, scope)) = text.split_once('%') {
        let address = address.parse().ok()?;
        let scope = scope.parse().ok().or_else(|| interface(scope))?;
        return Some(SocketAddrV6::new(address, PORT, 0, scope).into());
    }
    let address: IpAddr = text.parse().ok()?;
    Some((address, PORT).into())
}

fn interface(name: &str) -> Option<u32> {
    // An interface name has no path parts (the kernel forbids `/`), so this stays in the directory.
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let index = Path::new("/sys/class/net").join(name).join("ifindex");
    std::fs::read_to_string(index).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_c_library_reads() {
        let text = "# a comment\nsearch example.com\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\n\
                    nameserver fe80::1%7\nnameserver 192.0.2.9\noptions edns0\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"];
        assert_eq!(parse(text), expected.map(|s| s.parse::<SocketAddr>().unwrap()));
    }

    #[test]
    fn leaves_out_what_does_not_read() {
        let text =
            "nameserver\nnameserver name.example\nnameserver 1.2.3\nnameserver fe80::1%no/such\n\0";
        assert_eq!(parse(text), []);
    }

    #[tokio::test]
    async fn no_servers_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let error = Servers::File(path.clone()).list().await.unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::write(&path, "search example.com\n").unwrap();
        let error = Servers::File(path).list().await.unwrap_err();
        assert!(error.to_string().contains("nameserver"), "{error}");
    }
}
