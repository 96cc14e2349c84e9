//! DNS packets: a bounded, strict reader of questions and a writer of answers.
//!
//! Sans-io; the record formats are hickory-proto's. One question, class and type
//! are the caller's to judge; what follows the question may only be EDNS.

use hickory_proto::ProtoError;
pub use hickory_proto::op::ResponseCode;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name as WireName, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// The longest question that is read; real ones are below 512 bytes, padded ones (RFC 8467) too.
pub const MAX_QUESTION: usize = 4_096;
/// The largest answer over UDP, whatever the client offers (DNS flag day 2020).
pub const MAX_UDP: usize = 1_232;
/// What every client takes over UDP (RFC 1035, 4.2.1).
const MIN_UDP: usize = 512;
/// A header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// The option code of an extended error (RFC 8914, 2).
const EXTENDED_ERROR: u16 = 15;
/// Longer texts are cut: an answer has to fit a datagram.
const MAX_TEXT: usize = 160;

/// One question, as asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The query's id.
    pub id: u16,
    /// The name, in the case it was asked in.
    pub name: WireName,
    /// The type.
    pub record_type: RecordType,
    /// The class.
    pub class: DNSClass,
    /// EDNS version and payload size, when the query has EDNS (RFC 6891).
    pub edns: Option<(u8, u16)>,
    recursion_desired: bool,
    checking_disabled: bool,
}

/// Why a packet is no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing that could be answered, or that must not be: no header, or an answer.
    #[error("it has no header")]
    NoHeader,
    /// An answer; answering it could go round for ever.
    #[error("it is an answer")]
    IsAnswer,
    /// More than [`MAX_QUESTION`] bytes.
    #[error("it is longer than {MAX_QUESTION} bytes")]
    TooLong,
    /// Another operation than a query (update, notify, ...).
    #[error("its operation is not a query")]
    Opcode,
    /// Not exactly one question, or records that a question does not have.
    #[error("it has not exactly one question, or records that a question does not have")]
    Counts,
    /// Names, lengths or options do not read (compression loops too).
    #[error("it does not read as a question")]
    Format,
    /// Bytes after the end of the message.
    #[error("it has bytes after its end")]
    Trailing,
}

impl Malformed {
    /// The whole answer to the packet, when it gets one.
    pub fn reply(self, packet: &[u8]) -> Option<Vec<u8>> {
        let code = match self {
            Self::NoHeader | Self::IsAnswer => return None,
            Self::Opcode => ResponseCode::NotImp,
            _ => ResponseCode::FormErr,
        };
        let head: [u8; 4] = packet.get(..4)?.try_into().ok()?;
        // Id, then QR with opcode and RD as asked (RFC 1035, 4.1.1); all counts are 0.
        let mut reply = vec![0; HEADER];
        reply[..2].copy_from_slice(&head[..2]);
        reply[2] = 0x80 | (head[2] & 0x79);
        reply[3] = code.low();
        Some(reply)
    }
}

/// Reads one question.
pub fn read(packet: &[u8]) -> Result<Question, Malformed> {
    let header: &[u8; HEADER] = packet.first_chunk().ok_or(Malformed::NoHeader)?;
    if header[2] & 0x80 != 0 {
        return Err(Malformed::IsAnswer);
    }
    if packet.len() > MAX_QUESTION {
        return Err(Malformed::TooLong);
    }
    if header[2] & 0x78 != 0 {
        return Err(Malformed::Opcode);
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > 1 {
        return Err(Malformed::Counts);
    }
    let mut decoder = BinDecoder::new(packet);
    let message = Message::read(&mut decoder).map_err(|_| Malformed::Format)?;
    if !decoder.is_empty() {
        return Err(Malformed::Trailing);
    }
    let [query] = message.queries() else {
        return Err(Malformed::Counts);
    };
    if !message.additionals().is_empty() || !message.signature().is_empty() {
        return Err(Malformed::Counts);
    }
    Ok(Question {
        id: message.id(),
        name: query.name().clone(),
        record_type: query.query_type(),
        class: query.query_class(),
        edns: message.extensions().as_ref().map(|edns| (edns.version(), edns.max_payload())),
        recursion_desired: message.recursion_desired(),
        checking_disabled: message.checking_disabled(),
    })
}

/// Why an answer is as it is (RFC 8914).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT, for people.
    pub text: String,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The response code.
    pub code: ResponseCode,
    /// The answer section.
    pub records: Vec<Record>,
    /// Sent when the client speaks EDNS.
    pub error: Option<ExtendedError>,
}

impl Answer {
    /// An answer without records.
    pub fn empty(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), error: None }
    }
}

impl Question {
    /// How large an answer over UDP may be.
    pub fn udp_limit(&self) -> usize {
        let offered = self.edns.map_or(MIN_UDP, |(_, size)| usize::from(size));
        offered.clamp(MIN_UDP, MAX_UDP)
    }

    /// Writes the answer to this question, at most `limit` bytes long.
    ///
    /// What does not fit is left out: first the explanation, then the records, with TC set so that
    /// the client asks again over TCP.
    pub fn write(&self, answer: &Answer, limit: usize) -> Result<Vec<u8>, ProtoError> {
        let mut message = self.message(answer, answer.error.as_ref());
        let bytes = message.to_vec()?;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
        message = self.message(answer, None);
        let bytes = message.to_vec()?;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
        message.take_answers();
        message.set_truncated(true);
        message.to_vec()
    }

    fn message(&self, answer: &Answer, error: Option<&ExtendedError>) -> Message {
        let mut query = Query::query(self.name.clone(), self.record_type);
        query.set_query_class(self.class);
        let mut message = Message::new();
        message
            .set_id(self.id)
            .set_message_type(MessageType::Response)
            .set_op_code(OpCode::Query)
            .set_recursion_desired(self.recursion_desired)
            .set_recursion_available(true)
            .set_checking_disabled(self.checking_disabled)
            .set_response_code(answer.code)
            .add_query(query)
            .add_answers(answer.records.iter().cloned());
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_version(0)
                .set_max_payload(u16::try_from(MAX_UDP).unwrap_or(u16::MAX))
                .set_rcode_high(answer.code.high());
            if let Some(error) = error {
                let mut data = error.code.to_be_bytes().to_vec();
                data.extend_from_slice(cut(&error.text, MAX_TEXT).as_bytes());
                edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
            }
            message.set_edns(edns);
        }
        message
    }
}

/// At most `length` bytes of a text, whole characters only.
fn cut(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

/// The message in a TCP frame's form: its length in two bytes first (RFC 1035, 4.2.2).
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed)
}

#[cfg(test)]
mod tests;
