//! Which host a request is for, and whether everything that names one agrees.
//!
//! A request names its host up to four times: the address it was sent to, the
//! TLS server name, `:authority` or the absolute form, and `Host`. A difference
//! is how requests are smuggled past a name-based rule, so all must be equal.

use crate::protocol::dns::names::Name;
use http::header::HOST;
use http::{HeaderMap, Uri};
use std::net::{IpAddr, Ipv6Addr};

/// A host and the port that was written with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A host name in lower case, or an address literal without brackets, in its shortest form.
    pub host: String,
    /// The port, when one was written.
    pub port: Option<u16>,
}

/// Why a request's host cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Neither `Host` nor an authority.
    #[error("the request names no host")]
    Missing,
    /// More than one `Host` header.
    #[error("the request has more than one Host header")]
    TwoHosts,
    /// Not a host and an optional port.
    #[error("the request's host is not a plain host name or address with an optional port")]
    Malformed,
    /// `Host` and `:authority` (or the absolute form) name different hosts.
    #[error("Host and the request's authority differ")]
    Differ,
}

impl AuthorityError {
    /// The stable code for records and refusals.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "no-host",
            Self::TwoHosts => "two-hosts",
            Self::Malformed => "bad-host",
            Self::Differ => "host-differs",
        }
    }
}

/// Reads `host[:port]` strictly: no user, no percent-encoding, no odd spellings of an address.
pub fn parse(text: &str) -> Result<Authority, AuthorityError> {
    const BAD: AuthorityError = AuthorityError::Malformed;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(BAD)?;
            let ip: Ipv6Addr = host.parse().map_err(|_| BAD)?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(BAD)?),
            };
            (literal(IpAddr::V6(ip)), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (read_host(host)?, port)
        }
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or(BAD)?)
        }
        Some(_) => return Err(BAD),
    };
    Ok(Authority { host, port })
}

fn read_host(host: &str) -> Result<String, AuthorityError> {
    match host.parse() {
        Ok(ip) => Ok(literal(ip)),
        Err(_) => match Name::parse(host) {
            Ok(name) => Ok(name.as_str().to_owned()),
            Err(_) => Err(AuthorityError::Malformed),
        },
    }
}

/// An address's one spelling; an IPv4-mapped one is the IPv4 address that it stands for.
pub fn literal(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// The one host that a request names, in its target or `:authority` and in `Host`.
pub fn of_request(uri: &Uri, headers: &HeaderMap) -> Result<Authority, AuthorityError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(AuthorityError::TwoHosts),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| AuthorityError::Malformed)?;
            Some(parse(text)?)
        }
        (None, None) => None,
    };
    let authority = match uri.authority() {
        Some(authority) => Some(parse(authority.as_str())?),
        None => None,
    };
    match (host, authority) {
        (None, None) => Err(AuthorityError::Missing),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(host), Some(authority)) => {
            let port = default_port(uri.scheme_str());
            let same = host.host == authority.host && host.port.or(port) == authority.port.or(port);
            if same { Ok(authority) } else { Err(AuthorityError::Differ) }
        }
    }
}

/// The port that a scheme means when none is written.
pub fn default_port(scheme: Option<&str>) -> Option<u16> {
    match scheme {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("API.Example.com", "api.example.com", None)]
    #[case("api.example.com.", "api.example.com", None)]
    #[case("api.example.com:8443", "api.example.com", Some(8443))]
    #[case("10.0.0.1:80", "10.0.0.1", Some(80))]
    #[case("[::1]:80", "::1", Some(80))]
    #[case("[FD00:0::1]", "fd00::1", None)]
    #[case("[::ffff:10.0.0.1]", "10.0.0.1", None)]
    fn reads(#[case] text: &str, #[case] host: &str, #[case] port: Option<u16>) {
        assert_eq!(parse(text).unwrap(), Authority { host: host.into(), port });
    }

    #[rstest]
    #[case("")]
    #[case("user@example.com")]
    #[case("example.com@evil.example")]
    #[case("example.com:")]
    #[case("example.com:0")]
    #[case("example.com:+80")]
    #[case("example.com:65536")]
    #[case("example.com:80:80")]
    #[case("example.com%00.evil.example")]
    #[case("exa mple.com")]
    #[case("example.com/")]
    #[case("0x7f000001")]
    #[case("2130706433")]
    #[case("127.1")]
    #[case("::1")]
    #[case("[::1")]
    #[case("[::1]80")]
    #[case("[fe80::1%eth0]")]
    #[case("example..com")]
    fn refuses(#[case] text: &str) {
        assert_eq!(parse(text), Err(AuthorityError::Malformed));
    }

    #[rstest]
    #[case("/", &["a.example"], Ok("a.example"))]
    #[case("http://a.example/", &["a.example"], Ok("a.example"))]
    #[case("http://a.example/", &["A.example:80"], Ok("a.example"))]
    #[case("http://a.example/", &[], Ok("a.example"))]
    #[case("http://a.example/", &["b.example"], Err(AuthorityError::Differ))]
    #[case("http://a.example:81/", &["a.example"], Err(AuthorityError::Differ))]
    #[case("/", &[], Err(AuthorityError::Missing))]
    #[case("/", &["a.example", "a.example"], Err(AuthorityError::TwoHosts))]
    #[case("/", &["a.example", "b.example"], Err(AuthorityError::TwoHosts))]
    #[case("http://u@a.example/", &["a.example"], Err(AuthorityError::Malformed))]
    fn every_name_must_agree(
        #[case] uri: &str,
        #[case] hosts: &[&str],
        #[case] want: Result<&str, AuthorityError>,
    ) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let got = of_request(&uri.parse().unwrap(), &headers);
        assert_eq!(got.as_ref().map(|a| a.host.as_str()).map_err(|e| *e), want);
    }
}
