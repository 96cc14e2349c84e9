//! What really went over the wire: tcpdump on the far end.

use super::NetNs;
use crate::wait::eventually;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One frame as it was on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The whole frame from the link layer.
    pub bytes: Vec<u8>,
    /// When it was seen: nanoseconds since the Unix epoch, whole microseconds.
    pub unix_ns: i64,
}

impl Packet {
    /// Whether it carries these bytes anywhere.
    pub fn has(&self, needle: &[u8]) -> bool {
        self.bytes.windows(needle.len()).any(|window| window == needle)
    }

    /// The 16-bit EtherType.
    pub fn ethertype(&self) -> u16 {
        match self.bytes.get(12..14) {
            Some(&[a, b]) => u16::from_be_bytes([a, b]),
            _ => 0,
        }
    }
}

/// A running tcpdump.
#[derive(Debug)]
pub struct Sniffer {
    child: Child,
    file: PathBuf,
    /// Sends what marks the end.
    ns: String,
}

impl Sniffer {
    /// Starts it and waits until it listens.
    pub fn start(ns: &NetNs, file: &Path) -> Self {
        Self::start_with(ns, file, &[])
    }

    /// The same, with more arguments for tcpdump.
    pub fn start_with(ns: &NetNs, file: &Path, more: &[&str]) -> Self {
        let mut child = ns
            .command("tcpdump")
            .args(["-i", "wire", "-U", "--immediate-mode", "-Z", "root", "-s", "0"])
            .args(more)
            .arg("-w")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let mut words = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            let read = words.read_line(&mut line).expect("tcpdump speaks");
            assert!(read > 0, "tcpdump ended before it listened");
        }
        // Its last words would block it once the pipe is full.
        std::thread::spawn(move || for _ in words.lines() {});
        Self { child, file: file.to_owned(), ns: ns.file() }
    }

    /// Stops it and gives every frame that was on the wire: it is stopped when it has seen a
    /// datagram that was sent after all others, so that none is still on its way to the file.
    pub fn stop(mut self) -> Vec<Packet> {
        let mark = format!("end of {}", self.file.display());
        let send = format!("echo '{mark}' > /dev/udp/{}/9", super::HOST_V4);
        eventually("tcpdump sees the mark", Duration::from_secs(20), || {
            let sent = Command::new("nsenter")
                .arg(format!("--net={}", self.ns))
                .args(["--", "bash", "-c", &send])
                .stderr(Stdio::null())
                .status();
            assert!(sent.is_ok(), "nsenter(1) and bash(1) start");
            let seen = packets(&std::fs::read(&self.file).unwrap_or_default());
            seen.iter().any(|packet| packet.has(mark.as_bytes())).then_some(())
        });
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")),
            nix::sys::signal::Signal::SIGINT,
        )
        .expect("tcpdump is there");
        eventually("tcpdump ends", Duration::from_secs(10), || {
            self.child.try_wait().expect("wait")
        });
        let mut seen = packets(&std::fs::read(&self.file).expect("the capture"));
        // Nor is the mark's refusal anybody's: it quotes the mark.
        seen.retain(|packet| !packet.has(mark.as_bytes()));
        seen
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the classic pcap format (draft-ietf-opsawg-pcap), host byte order.
fn packets(file: &[u8]) -> Vec<Packet> {
    let mut out = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let length = word(8) as usize;
        let Some((bytes, next)) = tail.split_at_checked(length) else { break };
        let unix_ns = i64::from(word(0)) * 1_000_000_000 + i64::from(word(4)) * 1_000;
        out.push(Packet { bytes: bytes.to_vec(), unix_ns });
        rest = next;
    }
    out
}
