//! A bounded reader of the TLS ClientHello: server name, ALPN and encrypted hello.
//!
//! It reads only what decides where a flow may go; the handshake itself is
//! rustls's. RFC 8446 section 4.1.2 and 5.1; server name RFC 6066 section 3;
//! ALPN RFC 7301; encrypted ClientHello 0xfe0d (RFC 9849).

/// Content type of a handshake record (RFC 8446 section 5.1).
pub(super) const HANDSHAKE: u8 = 22;
/// Handshake type of a ClientHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Largest plaintext record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Largest ClientHello that is read; browsers with post-quantum shares send about 2 KiB.
const MAX_HELLO: usize = 16 << 10;
/// Most records that one ClientHello may be cut into.
const MAX_RECORDS: usize = 32;

const EXT_SERVER_NAME: u16 = 0;
const EXT_ALPN: u16 = 16;
const EXT_ENCRYPTED_HELLO: u16 = 0xfe0d;
/// The only name type there is (RFC 6066 section 3).
const NAME_TYPE_HOST: u8 = 0;

/// What a client said about where it wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name, in lower case, as sent.
    pub server_name: Option<String>,
    /// The protocols that it offers, in its order.
    pub alpn: Vec<Vec<u8>>,
    /// An encrypted ClientHello (or a dummy of one) came along; the outer name may be a lie.
    pub encrypted: bool,
}

/// Why the bytes are not a ClientHello that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Lengths or types do not fit.
    #[error("the bytes begin like TLS but are no well-formed ClientHello")]
    Malformed,
    /// Larger, or in more pieces, than is read.
    #[error("the ClientHello is larger than is read")]
    TooLarge,
    /// More than one server name, or the extension twice.
    #[error("the ClientHello carries more than one server name")]
    TwoNames,
}

impl HelloError {
    /// The stable code for records and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "client-hello-malformed",
            Self::TooLarge => "client-hello-too-large",
            Self::TwoNames => "client-hello-two-names",
        }
    }
}

/// Reads a ClientHello from the start of `buf`; `Ok(None)` when more bytes are needed.
pub fn parse(buf: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut message = Vec::new();
    let mut rest = buf;
    for _ in 0..MAX_RECORDS {
        let Some((header, after)) = rest.split_at_checked(5) else {
            return match check_start(rest) {
                true => Ok(None),
                false => Err(HelloError::Malformed),
            };
        };
        if !check_start(header) {
            return Err(HelloError::Malformed);
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        let (fragment, whole) = match after.split_at_checked(length) {
            Some((fragment, next)) => {
                rest = next;
                (fragment, true)
            }
            None => (after, false),
        };
        message.extend_from_slice(fragment);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError::Malformed);
        }
        if let [_, a, b, c, body @ ..] = message.as_slice() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_HELLO {
                return Err(HelloError::TooLarge);
            }
            if body.len() > length || (body.len() == length && !whole) {
                // Something follows the hello in its record, before the server has spoken.
                return Err(HelloError::Malformed);
            }
            if body.len() == length {
                return read(body).map(Some);
            }
        }
        if !whole {
            return Ok(None);
        }
    }
    Err(HelloError::TooLarge)
}

/// The first bytes of a record header: handshake, version 3.x.
fn check_start(header: &[u8]) -> bool {
    match header {
        [] => true,
        [kind] => *kind == HANDSHAKE,
        [kind, major, ..] => *kind == HANDSHAKE && *major == 3,
    }
}

fn read(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy version, random
    let session = body.vec8()?;
    if session.len() > 32 {
        return Err(HelloError::Malformed);
    }
    body.vec16()?; // cipher suites
    body.vec8()?; // compression methods
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Ok(hello); // no extensions: TLS 1.2 without a server name
    }
    let mut extensions = Reader(body.vec16()?);
    body.end()?;
    let mut seen_alpn = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = Reader(extensions.vec16()?);
        match kind {
            EXT_SERVER_NAME if hello.server_name.is_some() => return Err(HelloError::TwoNames),
            EXT_SERVER_NAME => hello.server_name = Some(server_name(data)?),
            EXT_ALPN if seen_alpn => return Err(HelloError::Malformed),
            EXT_ALPN => {
                seen_alpn = true;
                hello.alpn = alpn(data)?;
            }
            EXT_ENCRYPTED_HELLO => hello.encrypted = true,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(mut data: Reader<'_>) -> Result<String, HelloError> {
    let mut list = Reader(data.vec16()?);
    data.end()?;
    if list.take(1)? != [NAME_TYPE_HOST] {
        return Err(HelloError::Malformed);
    }
    let name = list.vec16()?;
    if !list.0.is_empty() {
        return Err(HelloError::TwoNames);
    }
    // Whether it is a valid name is asked where it is compared; here it must be text.
    if name.is_empty() || name.len() > 255 || !name.iter().all(u8::is_ascii_graphic) {
        return Err(HelloError::Malformed);
    }
    Ok(String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn alpn(mut data: Reader<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = Reader(data.vec16()?);
    data.end()?;
    let mut offered = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vec8()?;
        if protocol.is_empty() {
            return Err(HelloError::Malformed);
        }
        offered.push(protocol.to_vec());
    }
    Ok(offered)
}

/// Takes from the front of a slice; running out is an error.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vec8(&mut self) -> Result<&'a [u8], HelloError> {
        let n = usize::from(self.take(1)?[0]);
        self.take(n)
    }

    fn vec16(&mut self) -> Result<&'a [u8], HelloError> {
        let n = usize::from(self.u16()?);
        self.take(n)
    }

    fn end(&self) -> Result<(), HelloError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(HelloError::Malformed),
        }
    }
}
