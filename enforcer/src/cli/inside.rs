//! The daemon as a governed process reaches it: `http://enforcer.internal/`.

use crate::protocol::dns::names::INTERNAL_NAME;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long it may take to be reached, and to answer beside what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const MOST: u64 = 64 << 20;

/// Asks, and gives the answer's JSON; an answer that is no success is an error in its own words.
///
/// # Errors
/// When the daemon cannot be reached or does not do it.
pub(super) fn ask(
    method: &str,
    path: &str,
    body: Option<&str>,
    wait: u64,
) -> anyhow::Result<Value> {
    let outside = || format!("{INTERNAL_NAME} cannot be reached: only a governed agent reaches it");
    let mut found = (INTERNAL_NAME, 80).to_socket_addrs().with_context(outside)?;
    let address = found.next().with_context(outside)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(outside)?;
    stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(wait)))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {INTERNAL_NAME}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the daemon's answer is no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the daemon's answer broke off")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let value: Value = serde_json::from_str(body).context("the daemon's answer is no JSON")?;
    if !status.starts_with('2') {
        bail!("{}", super::approvals::text::line(value["detail"].as_str().unwrap_or(status)));
    }
    Ok(value)
}
