//! Every request on the wire beside the decision that let it through.

use crate::origin::Seen;
use crate::world::Packet;
use enforcer::record::read::{Filter, Transcripts};
use enforcer_proto::v1::event::Kind;
use enforcer_proto::v1::{self, Verdict};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How the path of a client's request begins.
const TOKEN: &[u8] = b"/tk-";
/// The capture tells microseconds, cut off; the transcript nanoseconds.
const GRAIN_NS: i64 = 1_000;

/// What was on the far side, and what the transcripts hold.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Each path with a token that was seen, and when first (ns since the Unix epoch).
    pub seen: BTreeMap<String, i64>,
    /// Each recorded path, and when it was first allowed.
    pub allowed: HashMap<String, i64>,
}

impl Evidence {
    /// Takes in what crossed the wire in clear.
    pub fn wire(&mut self, packets: &[Packet]) {
        for packet in packets {
            if let Some(path) = path(&packet.bytes) {
                self.saw(path, packet.unix_ns + GRAIN_NS - 1);
            }
        }
    }

    /// Takes in what the origin got, by TLS too.
    pub fn origin(&mut self, seen: &[Seen]) {
        for seen in seen.iter().filter(|seen| seen.path.contains("/tk-")) {
            self.saw(seen.path.clone(), seen.unix_ns);
        }
    }

    fn saw(&mut self, path: String, at: i64) {
        let first = self.seen.entry(path).or_insert(at);
        *first = at.min(*first);
    }

    /// Reads a store.
    ///
    /// # Panics
    /// When it cannot be read whole.
    pub fn transcripts(&mut self, store: &Path) {
        let store = Transcripts::open(store).expect("the store opens");
        let mut flows = Vec::new();
        let all = store.flows(&Filter::default(), |flow| {
            flows.push(flow.id);
            Ok(true)
        });
        all.expect("the flows are read");
        for flow in flows {
            let mut asked = HashMap::new();
            let events = store.events(flow, |event| {
                match &event.kind {
                    Some(Kind::OperationAsked(operation)) => {
                        if let Some(path) = recorded_path(operation) {
                            asked.insert(event.operation.clone(), path);
                        }
                    }
                    Some(Kind::Decision(decision)) if decision.verdict() == Verdict::Allow => {
                        if let Some(path) = asked.get(&event.operation) {
                            let at = self.allowed.entry(path.clone()).or_insert(event.unix_ns);
                            *at = event.unix_ns.min(*at);
                        }
                    }
                    _ => {}
                }
                Ok(true)
            });
            events.expect("the events are read");
        }
        assert_eq!(store.damage(), Vec::<String>::new());
    }

    /// What was seen and no decision of before explains.
    pub fn unexplained(&self) -> Vec<String> {
        let explained = |(path, at): &(&String, &i64)| {
            self.allowed.get(*path).is_some_and(|decided| decided <= at)
        };
        let rest = self.seen.iter().filter(|seen| !explained(seen));
        rest.map(|(path, at)| format!("{path} at {at}, {:?}", self.allowed.get(path))).collect()
    }
}

/// The path of a request with a token in a packet.
fn path(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(TOKEN.len()).position(|window| window == TOKEN)?;
    let from = bytes[..at].iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
    let rest = &bytes[from..];
    let to = rest.iter().position(|byte| *byte == b' ')?;
    Some(String::from_utf8_lossy(&rest[..to]).into_owned())
}

fn recorded_path(operation: &v1::OperationAsked) -> Option<String> {
    let fact = operation.facts.iter().find(|fact| fact.name == "http.path")?;
    Some(enforcer::record::view::fact_text(fact))
}

/// Whether a frame from the host is anything but the daemon's TCP to these ports: the network's
/// own words (ARP, neighbours, group reports) are none.
pub fn stray(packet: &Packet, ports: &[u16]) -> bool {
    /// ICMPv6: router and neighbour discovery (RFC 4861), group reports (RFC 3810).
    const OWN: [u8; 6] = [133, 134, 135, 136, 137, 143];
    let ip = packet.bytes.get(14..).unwrap_or_default();
    let byte = |at: usize| ip.get(at).copied().unwrap_or_default();
    let (protocol, upper) = match packet.ethertype() {
        0x0806 => return false,
        0x0800 => (byte(9), usize::from(byte(0) & 0xf) * 4),
        // Hop-by-hop options come before a group report.
        0x86dd if byte(6) == 0 => (byte(40), 40 + 8 + usize::from(byte(41)) * 8),
        0x86dd => (byte(6), 40),
        _ => return true,
    };
    let port = u16::from_be_bytes([byte(upper + 2), byte(upper + 3)]);
    match protocol {
        6 => !ports.contains(&port),
        58 => !OWN.contains(&byte(upper)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_decision_explains_is_found() {
        let evidence = Evidence {
            seen: BTreeMap::from([("/a/tk-1".into(), 5), ("/a/tk-2".into(), 5)]),
            allowed: HashMap::from([("/a/tk-1".into(), 4), ("/a/tk-2".into(), 6)]),
        };
        let found = evidence.unexplained();
        assert!(found.len() == 1 && found[0].starts_with("/a/tk-2 "), "{found:?}");
        assert_eq!(path(b"\0\0GET /a/tk-1-7 HTTP/1.1\r\n").as_deref(), Some("/a/tk-1-7"));
        assert_eq!(path(b"\0\0GET /a/other HTTP/1.1\r\n"), None);
    }

    #[test]
    fn only_tcp_to_the_origin_is_no_stray() {
        let frame = |ethertype: u16, ip: &[u8]| {
            let bytes = [&[0; 12], &ethertype.to_be_bytes()[..], ip].concat();
            Packet { bytes, unix_ns: 0 }
        };
        let mut tcp = [0; 40];
        (tcp[0], tcp[9], tcp[22], tcp[23]) = (0x45, 6, 0x1f, 0x90);
        assert!(!stray(&frame(0x0800, &tcp), &[8080]));
        assert!(stray(&frame(0x0800, &tcp), &[8443]));
        tcp[9] = 17;
        assert!(stray(&frame(0x0800, &tcp), &[8080]));
        assert!(!stray(&frame(0x0806, &[]), &[]));
        assert!(stray(&frame(0x88b5, &[]), &[]));
    }
}
