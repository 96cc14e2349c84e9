//! Where a flow goes: a name that the resolver gave out, or a bare address.
//!
//! The address that the process connected to never decides by itself: behind a
//! synthetic one stands the name, and a real one must be a target's.

use crate::capture::Captured;
use crate::forward::dial::Route;
use crate::policy::{Bundle, Target};
use crate::protocol::dns::names::{INTERNAL_NAME, Lookup, Names};
use std::net::IpAddr;
use std::sync::Arc;

/// Where a captured connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The daemon's own address for agents.
    Internal,
    /// A place that policy may know.
    Place(Place),
    /// A synthetic address that is not this agent's, or stands for nothing: refused.
    Foreign,
}

impl Destination {
    /// Where a captured connection goes.
    pub fn find(names: &Names, captured: &Captured) -> Self {
        let ip = captured.orig.ip().to_canonical();
        let port = captured.orig.port();
        match names.lookup(&captured.principal.agent, ip) {
            Lookup::Name(name) if name.as_str() == INTERNAL_NAME => Self::Internal,
            Lookup::Name(name) => {
                Self::Place(Place { name: name.as_str().to_owned(), port, addr: None })
            }
            Lookup::Foreign => Self::Foreign,
            Lookup::NotSynthetic => {
                Self::Place(Place { name: ip.to_string(), port, addr: Some(ip) })
            }
        }
    }
}

/// A verified name, or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The host name, or the address as text.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The address that the process connected to, when it was a real one.
    pub addr: Option<IpAddr>,
}

impl Place {
    /// The target that policy knows it by.
    pub fn target<'a>(&self, bundle: &'a Bundle) -> Option<&'a Arc<Target>> {
        match self.addr {
            None => bundle.target_for_name(&self.name, Some(self.port)),
            Some(ip) => {
                let target = bundle.target_for_addr(ip, self.port)?;
                let named = self.name.parse() == Ok(ip)
                    || bundle
                        .target_for_name(&self.name, Some(self.port))
                        .is_some_and(|other| other.name == target.name);
                named.then_some(target)
            }
        }
    }

    /// The same place under the name that the client gave it (in TLS or HTTP): its own name; or,
    /// on a connection to an address, a name of the target that the address means too.
    pub fn named(&self, name: &str, bundle: &Bundle) -> Option<Self> {
        if name == self.name {
            return Some(self.clone());
        }
        self.addr?;
        let named = Self { name: name.to_owned(), ..self.clone() };
        let by_name = named.target(bundle)?;
        // A name that was agreed on once (in TLS) is not changed by a later one (in HTTP).
        let at_address = self.name.parse::<IpAddr>().is_ok();
        (at_address && self.target(bundle)?.name == by_name.name).then_some(named)
    }

    /// Where to dial: the name, which is resolved anew, or the very address. What only names may
    /// lead to is no word on an address that was dialled without one.
    pub fn route(&self, target: &Target) -> Route {
        let by_name: &[_] = if self.addr.is_none() { &target.resolves_to } else { &[] };
        Route {
            name: self.addr.map_or_else(|| self.name.clone(), |ip| ip.to_string()),
            port: self.port,
            target_addresses: [&target.addresses, by_name].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What names may lead to is dialled for a name alone, never for an address.
    #[test]
    fn a_route_opens_what_its_way_of_naming_opens() {
        let targets = "[[target]]\nname = \"t\"\nnames = [\"t.test\"]\n\
                       addresses = [\"10.1.0.0/16\"]\nresolves_to = [\"10.0.0.0/8\"]\n";
        let rules = "@id(\"all\") permit (principal, action, resource);";
        let files = [
            ("targets.toml", targets),
            ("rules.cedar", rules),
            ("scopes.toml", ""),
            ("masks.toml", ""),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let bundle = Bundle::from_files(&files.into()).unwrap();
        let target = bundle.target_for_name("t.test", Some(443)).unwrap();
        let nets = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let place = Place { name: "t.test".into(), port: 443, addr: None };
        assert_eq!(nets(&place.route(target).target_addresses), ["10.1.0.0/16", "10.0.0.0/8"]);
        let place = Place { addr: Some("10.1.0.1".parse().unwrap()), ..place };
        assert_eq!(nets(&place.route(target).target_addresses), ["10.1.0.0/16"]);
    }
}
