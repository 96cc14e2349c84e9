//! One question to one name server.
//!
//! A random id, a random source port of a connected socket, and an answer that
//! repeats the question exactly: whatever else arrives is not looked at.

use crate::protocol::dns::names::Name;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What a datagram may carry without being fragmented (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1_232;
/// How many aliases are followed within one answer.
const MAX_ALIASES: usize = 16;
/// How many addresses of one answer are kept.
const MAX_ADDRESSES: usize = 64;

/// The kind of address to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    A,
    Aaaa,
}

impl Ask {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
        }
    }
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Addresses(Vec<IpAddr>, Duration),
    NoAddress,
    NoSuchName,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it answered {0}")]
    Code(ResponseCode),
    #[error("its answer over TCP does not fit the question")]
    Mismatch,
    #[error("its aliases do not end")]
    AliasLoop,
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("the question cannot be written: {0}")]
    Write(hickory_proto::ProtoError),
}

/// Asks; the caller sets the time limit.
pub(super) async fn ask(server: SocketAddr, name: &Name, ask: Ask) -> Result<Reply, AskError> {
    let question = Question::new(name, ask)?;
    let bytes = question.to_bytes()?;
    match over_udp(server, &question, &bytes).await? {
        Some(reply) => Ok(reply),
        None => over_tcp(server, &question, &bytes).await,
    }
}

/// `None`: the answer was cut, so it has to be had over TCP.
async fn over_udp(
    server: SocketAddr,
    question: &Question,
    bytes: &[u8],
) -> Result<Option<Reply>, AskError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what comes from elsewhere.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(message) = question.matching(&buffer[..length]) else {
            continue;
        };
        if message.truncated() {
            return Ok(None);
        }
        return question.read(&message).map(Some);
    }
}

async fn over_tcp(
    server: SocketAddr,
    question: &Question,
    bytes: &[u8],
) -> Result<Reply, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| AskError::Mismatch)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let message = question.matching(&answer).ok_or(AskError::Mismatch)?;
    question.read(&message)
}

struct Question {
    id: u16,
    name: WireName,
    record_type: RecordType,
}

impl Question {
    fn new(name: &Name, ask: Ask) -> Result<Self, AskError> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(AskError::Random)?;
        let mut wire = WireName::from_ascii(name.as_str()).map_err(AskError::Write)?;
        wire.set_fqdn(true);
        Ok(Self { id: u16::from_ne_bytes(id), name: wire, record_type: ask.record_type() })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, AskError> {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_version(0);
        let mut message = Message::new();
        message
            .set_id(self.id)
            .set_message_type(MessageType::Query)
            .set_op_code(OpCode::Query)
            .set_recursion_desired(true)
            .add_query(Query::query(self.name.clone(), self.record_type))
            .set_edns(edns);
        message.to_vec().map_err(AskError::Write)
    }

    /// The message, when it is an answer to exactly this question.
    fn matching(&self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let [asked] = message.queries() else {
            return None;
        };
        let same = message.id() == self.id
            && message.message_type() == MessageType::Response
            && message.op_code() == OpCode::Query
            && asked.query_type() == self.record_type
            && asked.query_class() == DNSClass::IN
            && *asked.name() == self.name;
        same.then_some(message)
    }

    fn read(&self, message: &Message) -> Result<Reply, AskError> {
        match message.response_code() {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Reply::NoSuchName),
            code => return Err(AskError::Code(code)),
        }
        let mut owner = self.name.clone();
        let mut ttl = u32::MAX;
        for _ in 0..MAX_ALIASES {
            let of_owner = || {
                message
                    .answers()
                    .iter()
                    .filter(|record| *record.name() == owner && record.dns_class() == DNSClass::IN)
            };
            let mut addresses = Vec::new();
            for record in of_owner() {
                if let Some(ip) = self.address(record)
                    && addresses.len() < MAX_ADDRESSES
                    && !addresses.contains(&ip)
                {
                    ttl = ttl.min(record.ttl());
                    addresses.push(ip);
                }
            }
            if !addresses.is_empty() {
                return Ok(Reply::Addresses(addresses, Duration::from_secs(u64::from(ttl))));
            }
            let alias = of_owner().find_map(|record| match record.data() {
                RData::CNAME(target) => Some((target.0.clone(), record.ttl())),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else {
                return Ok(Reply::NoAddress);
            };
            ttl = ttl.min(alias_ttl);
            owner = target;
        }
        Err(AskError::AliasLoop)
    }

    fn address(&self, record: &Record) -> Option<IpAddr> {
        match (self.record_type, record.data()) {
            (RecordType::A, RData::A(a)) => Some(a.0.into()),
            (RecordType::AAAA, RData::AAAA(aaaa)) => Some(aaaa.0.into()),
            _ => None,
        }
    }
}
