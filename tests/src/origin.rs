//! An origin that keeps its own record of what reached it: the far side's word,
//! against which the transcript is held.

use crate::servers::{Pki, Server};
use crate::world::{FAR_V4, World};
use std::path::PathBuf;

/// Plain HTTP port of the origin.
pub const HTTP: u16 = 8080;
/// HTTPS port of the origin.
pub const HTTPS: u16 = 8443;

/// One request as the origin got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Header names and values, in order.
    pub headers: Vec<(String, String)>,
    /// Body length.
    pub length: u64,
    /// Body SHA-256, hex.
    pub sha256: String,
    /// When it had been read: nanoseconds since the Unix epoch.
    pub unix_ns: i64,
}

/// The running origin.
#[derive(Debug)]
pub struct Origin {
    _server: Server,
    log: PathBuf,
}

impl Origin {
    /// Starts it on every far address, HTTP and HTTPS.
    pub fn start(world: &World, pki: &Pki, names: &[&str]) -> Self {
        let (chain, key) = pki.leaf(world.dir(), names);
        let script = world.path("origin.py");
        std::fs::write(&script, include_str!("origin.py")).expect("written");
        let log = world.path("origin.jsonl");
        std::fs::write(&log, "").expect("written");
        let mut python = world.far.command("/usr/bin/python3");
        python
            .arg(&script)
            .arg(&log)
            .arg(chain)
            .arg(key)
            .arg(HTTP.to_string())
            .arg(HTTPS.to_string());
        let server =
            Server::start(world, python, world.path("origin.log"), &format!("{FAR_V4}:{HTTPS}"));
        Self { _server: server, log }
    }

    /// Every request that reached it so far.
    pub fn seen(&self) -> Vec<Seen> {
        let text = std::fs::read_to_string(&self.log).expect("the log");
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
                let headers = line["headers"].as_array().into_iter().flatten();
                Seen {
                    method: line["method"].as_str().unwrap_or_default().to_owned(),
                    path: line["path"].as_str().unwrap_or_default().to_owned(),
                    headers: headers
                        .map(|h| {
                            (
                                h[0].as_str().unwrap_or_default().to_owned(),
                                h[1].as_str().unwrap_or_default().to_owned(),
                            )
                        })
                        .collect(),
                    length: line["length"].as_u64().unwrap_or_default(),
                    unix_ns: line["unix_ns"].as_i64().unwrap_or_default(),
                    sha256: line["sha256"].as_str().unwrap_or_default().to_owned(),
                }
            })
            .collect()
    }
}
