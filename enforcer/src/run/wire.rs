//! The words of the control socket and of a run's session socket: bounded,
//! length-prefixed prost messages, and descriptors beside them.
//!
//! A frame is a big-endian `u32` length and that many bytes. Everything read
//! here comes from an untrusted local user: a length over the bound, bytes that
//! are no message or a message without a kind is an error, never a guess.

use prost::Message;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The largest frame: an argument vector and environment as large as the kernel
/// itself takes (2 MiB with an 8 MiB stack), doubled for the framing.
pub const MAX_FRAME: usize = 4 << 20;

/// The largest message on a session socket.
const MAX_PACKET: usize = 8 << 10;

/// The most descriptors that one message carries: a terminal and three pipes.
pub const MAX_FDS: usize = 4;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The length is over the bound.
    #[error("a message of {0} bytes is larger than the bound of {MAX_FRAME}")]
    TooLarge(usize),
    /// The bytes are no message of this protocol.
    #[error("not a message of the control protocol: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The message has no kind that this version knows.
    #[error(
        "a message of a kind that this version does not know; use the same version of enforcer on both sides"
    )]
    Unknown,
    /// More descriptors than a message carries.
    #[error("more descriptors than a message carries")]
    Descriptors,
    /// The other side is gone, or the socket failed.
    #[error("the socket: {0}")]
    Io(#[from] io::Error),
}

/// What a caller asks the daemon.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The request itself.
    #[prost(oneof = "Ask", tags = "1, 2")]
    pub ask: Option<Ask>,
}

/// The kinds of request.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
    /// Start a program.
    #[prost(message, tag = "1")]
    Run(Run),
    /// Say what runs.
    #[prost(message, tag = "2")]
    Status(Empty),
}

/// Nothing more to say.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}

/// A program to start. Who asks is never in here: it comes from the kernel.
#[derive(Clone, PartialEq, Message)]
pub struct Run {
    /// The agent's name; empty for the default.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// The task's name; empty for none.
    #[prost(string, tag = "2")]
    pub task: String,
    /// The user to run as; empty for the default.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Whether running as root was accepted by name.
    #[prost(bool, tag = "4")]
    pub accept_root: bool,
    /// Program and arguments.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub argv: Vec<Vec<u8>>,
    /// The environment, `NAME=value`.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub env: Vec<Vec<u8>>,
    /// The working directory.
    #[prost(bytes = "vec", tag = "7")]
    pub cwd: Vec<u8>,
    /// The file mode creation mask.
    #[prost(uint32, tag = "8")]
    pub umask: u32,
    /// Which of descriptors 0, 1 and 2 are a terminal (bits 0, 1, 2).
    #[prost(uint32, tag = "9")]
    pub terminal: u32,
    /// Whether the program gets a file system view of its own.
    #[prost(bool, tag = "10")]
    pub sandbox: bool,
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// The answer itself.
    #[prost(oneof = "Answer", tags = "1, 2, 3")]
    pub answer: Option<Answer>,
}

/// The kinds of answer.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// No, and why: a sentence for a person.
    #[prost(string, tag = "1")]
    Refused(String),
    /// The launcher was started; its session socket is beside this message.
    #[prost(message, tag = "2")]
    Started(Started),
    /// A `StatusReport` as JSON.
    #[prost(string, tag = "3")]
    Status(String),
}

/// What a started program is called.
#[derive(Clone, PartialEq, Message)]
pub struct Started {
    /// Its agent.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// Its cgroup below the cgroup2 mount.
    #[prost(string, tag = "2")]
    pub cgroup: String,
}

/// What the daemon tells the launcher, in a memory file.
#[derive(Clone, PartialEq, Message)]
pub struct Spec {
    /// What was asked; agent, task and environment already as decided.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// The governed root as a directory.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
    /// The name of this run's own cgroup.
    #[prost(string, tag = "3")]
    pub run_id: String,
    /// User id.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Group id.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// Supplementary groups.
    #[prost(uint32, repeated, tag = "6")]
    pub groups: Vec<u32>,
    /// The caller's process, whose resource limits and priority are taken over.
    #[prost(int32, tag = "7")]
    pub caller: i32,
    /// The runtime directory; the program sees only what it may there.
    #[prost(bytes = "vec", tag = "8")]
    pub runtime_dir: Vec<u8>,
    /// The address of the name server that the program is told of.
    #[prost(string, tag = "9")]
    pub name_server: String,
}

/// What the launcher tells the client on the session socket.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// The event itself.
    #[prost(oneof = "Happened", tags = "1, 2, 3, 4, 5")]
    pub happened: Option<Happened>,
}

/// The kinds of event.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Happened {
    /// All is set up; the client's ends of terminal and pipes are beside this
    /// message, in the order terminal, 0, 1, 2 as far as there are such.
    #[prost(message, tag = "1")]
    Ready(Empty),
    /// The program could not be started.
    #[prost(message, tag = "2")]
    Failed(Failed),
    /// The program ended with this exit code.
    #[prost(uint32, tag = "3")]
    Exited(u32),
    /// The program was ended by this signal.
    #[prost(uint32, tag = "4")]
    Killed(u32),
    /// The program was stopped by this signal.
    #[prost(uint32, tag = "5")]
    Stopped(u32),
}

/// A start that failed.
#[derive(Clone, PartialEq, Message)]
pub struct Failed {
    /// Why: a sentence for a person.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The exit code that a shell would give (126, 127) or 1.
    #[prost(uint32, tag = "2")]
    pub code: u32,
}

/// What the client tells the launcher on the session socket.
#[derive(Clone, PartialEq, Message)]
pub struct Order {
    /// The order itself.
    #[prost(oneof = "Do", tags = "1, 2, 3")]
    pub order: Option<Do>,
}

/// The kinds of order.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Do {
    /// Start the program now: the terminal is set.
    #[prost(message, tag = "1")]
    Go(Empty),
    /// Send this signal to the program.
    #[prost(uint32, tag = "2")]
    Signal(u32),
    /// Send this signal to the program's foreground process group, as a terminal does.
    #[prost(uint32, tag = "3")]
    SignalGroup(u32),
}

/// A request out of a frame's bytes; the entry point of the fuzz target.
pub fn decode_request(bytes: &[u8]) -> Result<Ask, WireError> {
    Request::decode(bytes)?.ask.ok_or(WireError::Unknown)
}

/// The length of a frame, checked.
pub fn frame_len(prefix: [u8; 4]) -> Result<usize, WireError> {
    let len = u32::from_be_bytes(prefix) as usize;
    if len > MAX_FRAME {
        return Err(WireError::TooLarge(len));
    }
    Ok(len)
}

/// A message as a frame.
pub fn frame(message: &impl Message) -> Result<Vec<u8>, WireError> {
    let len = message.encoded_len();
    if len > MAX_FRAME {
        return Err(WireError::TooLarge(len));
    }
    let mut out = Vec::with_capacity(len + 4);
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&message.encode_to_vec());
    Ok(out)
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, message: &impl Message) -> Result<(), WireError> {
    Ok(to.write_all(&frame(message)?)?)
}

/// Reads one frame's bytes.
pub fn read_frame(from: &mut impl Read) -> Result<Vec<u8>, WireError> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let mut bytes = vec![0; frame_len(prefix)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sends `bytes` with descriptors beside them in one message.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Reads up to `buffer.len()` bytes and the descriptors beside them, close-on-exec.
pub fn recv_with_fds(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), WireError> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<UnixAddr>(
            socket.as_fd().as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other.map_err(io::Error::from)?,
        }
    };
    let mut fds = Vec::new();
    let truncated = message.flags.intersects(MsgFlags::MSG_CTRUNC | MsgFlags::MSG_TRUNC);
    if let Ok(parts) = message.cmsgs() {
        for part in parts {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for this process and
                // nothing else knows them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
    }
    if truncated {
        return Err(WireError::Descriptors);
    }
    Ok((message.bytes, fds))
}

/// Sends one session message; a session socket keeps message boundaries.
pub fn send_packet(
    socket: impl AsFd,
    message: &impl Message,
    fds: &[RawFd],
) -> Result<(), WireError> {
    let bytes = message.encode_to_vec();
    if bytes.len() > MAX_PACKET {
        return Err(WireError::TooLarge(bytes.len()));
    }
    Ok(send_with_fds(socket, &bytes, fds)?)
}

/// Reads one session message; `None` when the other side is gone.
pub fn recv_packet<M: Message + Default>(
    socket: impl AsFd,
) -> Result<Option<(M, Vec<OwnedFd>)>, WireError> {
    let mut buffer = vec![0; MAX_PACKET];
    let (len, fds) = match recv_with_fds(socket, &mut buffer) {
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(None);
        }
        other => other?,
    };
    if len == 0 {
        return Ok(None);
    }
    Ok(Some((M::decode(&buffer[..len])?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn run() -> Run {
        Run {
            agent: "a".into(),
            argv: vec![b"true".to_vec(), vec![0xff, 0xfe]],
            env: vec![b"A=b".to_vec()],
            cwd: b"/".to_vec(),
            umask: 0o22,
            ..Run::default()
        }
    }

    #[test]
    fn a_request_survives_the_wire_with_bytes_that_are_no_text() {
        let request = Request { ask: Some(Ask::Run(run())) };
        let frame = frame(&request).unwrap();
        let bytes = read_frame(&mut frame.as_slice()).unwrap();
        assert_eq!(decode_request(&bytes).unwrap(), Ask::Run(run()));
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_anything_is_allocated() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read_frame(&mut bytes), Err(WireError::TooLarge(_))));
    }

    #[test]
    fn an_empty_or_unknown_request_is_refused() {
        assert!(matches!(decode_request(&[]), Err(WireError::Unknown)));
        // Field 15, a kind that this version does not know.
        assert!(matches!(decode_request(&[0x7a, 0]), Err(WireError::Unknown)));
        assert!(matches!(decode_request(&[0x0a, 0xff]), Err(WireError::Malformed(_))));
    }

    #[test]
    fn descriptors_arrive_and_more_than_the_bound_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send_with_fds(&a, b"x", &[file.as_raw_fd()]).unwrap();
        let mut buffer = [0; 8];
        let (len, fds) = recv_with_fds(&b, &mut buffer).unwrap();
        assert_eq!((len, fds.len()), (1, 1));

        send_with_fds(&a, b"x", &[file.as_raw_fd(); MAX_FDS + 4]).unwrap();
        assert!(matches!(recv_with_fds(&b, &mut buffer), Err(WireError::Descriptors)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = decode_request(&bytes);
        }
    }
}
