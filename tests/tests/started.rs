//! Agents that `enforcer run` does not start: containers and services, whose cgroup alone
//! governs them. Real container runtimes and service managers start them here.

#[path = "started/docker.rs"]
mod docker;
#[path = "started/systemd.rs"]
mod systemd;

use enforcer_tests::fixture::text;
use enforcer_tests::world::Packet;
use std::process::Command;

/// Where nothing else of the world goes; beyond the wire.
const NOWHERE: [u8; 4] = [10, 78, 7, 7];

/// What a program does first of all: a SYN and a datagram to [`NOWHERE`].
const FIRST: &str = "
from socket import *
def attempt(f):
    try: f(); return 'ok'
    except OSError as e: return type(e).__name__
setdefaulttimeout(1)
print(attempt(lambda: create_connection(('10.78.7.7', 4242))),
      attempt(lambda: socket(AF_INET, SOCK_DGRAM).sendto(b'smuggled', ('10.78.7.7', 9))))
";

fn to_nowhere(packet: &Packet) -> bool {
    packet.has(&NOWHERE)
}

fn done(command: &mut Command) -> String {
    let out = command.output().expect("starts");
    assert!(out.status.success(), "{command:?}: {}", text(&out));
    text(&out)
}
