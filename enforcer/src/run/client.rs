//! The caller's side of `enforcer run`: asks the daemon, relays bytes and
//! signals, and ends as the program ended.

use super::terminal::Terminal;
use super::wire::{
    self, Answer, Ask, Do, Empty, Event, Failed, Happened, Order, Reply, Request, Run, WireError,
};
use super::{control, status::StatusReport};
use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use prost::Message;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

/// Signals that are passed on to the program.
const PASSED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// `si_code` of a signal that the kernel itself sends, as a terminal's keys do.
const SI_KERNEL: i32 = 0x80;

/// How long the daemon may take to start a program.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to say how it is: it has that at hand.
const STATUS: Duration = Duration::from_secs(2);

/// Why there is no answer of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens.
    #[error(
        "the daemon does not answer at {0} ({1}); start it (`systemctl start enforcer`, or `enforcer daemon`)"
    )]
    Absent(String, io::ErrorKind),
    /// It took the question and says nothing.
    #[error(
        "the daemon does not answer within {} s: it is stopped or stuck; look at the process \
         (`systemctl status enforcer`), and restart it",
        .0.as_secs()
    )]
    Silent(Duration),
    /// It does not answer this process.
    #[error("{0}")]
    Refused(String),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Exited(u8),
    /// By a signal.
    Killed(i32),
}

/// Asks the daemon whose runtime directory this is.
fn ask(runtime_dir: &Path, ask: Ask, patience: Duration) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
    let path = control::socket_path(runtime_dir);
    let mut socket = UnixStream::connect(&path)
        .map_err(|error| Unanswered::Absent(path.display().to_string(), error.kind()))?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    exchange(&mut socket, ask).map_err(|error| {
        let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Unanswered::Silent(patience).into()
            }
            _ => error,
        }
    })
}

fn exchange(socket: &mut UnixStream, ask: Ask) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
    let sent = wire::write_frame(socket, &Request { ask: Some(ask) });
    // A daemon that refuses by who asks answers before it has read it all.
    if let Err(error @ WireError::TooLarge(_)) = sent {
        return Err(error).context("arguments and environment");
    }
    let mut prefix = [0; 4];
    let (len, fds) = wire::recv_with_fds(&*socket, &mut prefix).context("the daemon's answer")?;
    socket.read_exact(&mut prefix[len..]).context("the daemon's answer")?;
    let mut bytes = vec![0; wire::frame_len(prefix)?];
    socket.read_exact(&mut bytes).context("the daemon's answer")?;
    let reply = Reply::decode(bytes.as_slice()).context("the daemon's answer")?;
    match reply.answer {
        None => bail!("the daemon answers something that this version does not know"),
        Some(Answer::Refused(why)) => Err(Unanswered::Refused(why).into()),
        Some(answer) => Ok((answer, fds)),
    }
}

/// The daemon's account of itself.
pub fn status(runtime_dir: &Path) -> anyhow::Result<StatusReport> {
    match ask(runtime_dir, Ask::Status(Empty {}), STATUS)?.0 {
        Answer::Status(text) => serde_json::from_str(&text).context("the daemon's status"),
        _ => bail!("the daemon answers another question"),
    }
}

/// The fixed part of a request out of this process: directory, environment, mask, terminals.
pub fn request_here(argv: Vec<Vec<u8>>) -> anyhow::Result<Run> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let cwd = std::env::current_dir().context("the working directory")?;
    let env = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    let terminal =
        [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    let terminal = (0..3).filter(|n| terminal[*n]).map(|n| 1 << n).sum();
    Ok(Run {
        argv,
        env,
        cwd: cwd.into_os_string().into_vec(),
        umask: umask(),
        terminal,
        ..Run::default()
    })
}

/// Reading the mask means setting it; this is done before any thread is started.
fn umask() -> u32 {
    use nix::sys::stat::{Mode, umask};
    let mask = umask(Mode::from_bits_truncate(0o077));
    umask(mask);
    mask.bits()
}

/// Runs a program with this process's standard descriptors, to its end.
pub fn run(runtime_dir: &Path, request: Run) -> anyhow::Result<End> {
    // Before any thread is started, so that all have the mask.
    let mut mask = SigSet::empty();
    PASSED.iter().for_each(|signal| mask.add(*signal));
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let wants = request.terminal;
    let (answer, mut fds) = ask(runtime_dir, Ask::Run(request), PATIENCE)?;
    let (Answer::Started(_), Some(session)) = (answer, fds.pop()) else {
        bail!("the daemon answers without a session");
    };
    let (event, fds) = wire::recv_packet::<Event>(&session)
        .context("the launcher")?
        .context("the launcher ended before it began; the daemon's log says why")?;
    match event.happened {
        Some(Happened::Ready(_)) => {}
        Some(Happened::Failed(failed)) => return Ok(not_started(&failed)),
        _ => bail!("the launcher says something that this version does not know"),
    }
    let (terminal, outputs) = relay(wants, fds)?;
    if let Some(terminal) = &terminal {
        terminal.enter();
    }
    let order = |order| wire::send_packet(&session, &Order { order: Some(order) }, &[]);
    order(Do::Go(Empty {})).context("the launcher")?;
    let end = attend(&session, &signals, terminal.as_ref())?;
    for output in outputs {
        // A panic in a relay has been printed; the program's end still counts.
        let _ = output.join();
    }
    Ok(end)
}

/// Serves signals and the launcher until the program has ended.
fn attend(
    session: &OwnedFd,
    signals: &SignalFd,
    terminal: Option<&Terminal>,
) -> anyhow::Result<End> {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(session.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let [signalled, told] = fds.map(|fd| fd.any().unwrap_or(true));
        if signalled {
            while let Some(info) = signals.read_signal()? {
                pass_on(info.ssi_signo, info.ssi_code, session, terminal);
            }
        }
        if told {
            let event = wire::recv_packet::<Event>(session)
                .context("the launcher")?
                .context("the launcher is gone, and the program with it")?
                .0;
            match event.happened {
                Some(Happened::Exited(code)) => return Ok(End::Exited(code as u8)),
                Some(Happened::Killed(signal)) => return Ok(End::Killed(signal as i32)),
                Some(Happened::Failed(failed)) => return Ok(not_started(&failed)),
                Some(Happened::Stopped(_)) => stop_too(terminal),
                Some(Happened::Ready(_)) | None => {}
            }
        }
    }
}

fn not_started(failed: &Failed) -> End {
    eprintln!("enforcer run: {}", failed.reason);
    End::Exited(u8::try_from(failed.code).unwrap_or(1))
}

fn pass_on(number: u32, code: i32, session: &OwnedFd, terminal: Option<&Terminal>) {
    if number == Signal::SIGWINCH as u32 {
        // The kernel tells the program when the size of its terminal changes.
        if let Some(terminal) = terminal {
            terminal.copy_size();
        }
        return;
    }
    let resumed = number == Signal::SIGCONT as u32;
    if let (Some(terminal), true) = (terminal, resumed) {
        terminal.copy_size();
        terminal.enter();
    }
    let order =
        if code == SI_KERNEL || resumed { Do::SignalGroup(number) } else { Do::Signal(number) };
    // When the launcher is gone, the session's end says so next.
    let _ = wire::send_packet(session, &Order { order: Some(order) }, &[]);
}

/// The program was stopped: so is this process, that its shell may go on.
fn stop_too(terminal: Option<&Terminal>) {
    if let Some(terminal) = terminal {
        terminal.leave();
    }
    // Comes back with SIGCONT, which the loop then passes on.
    let _ = nix::sys::signal::raise(Signal::SIGSTOP);
}

/// Starts a thread for each descriptor; gives those whose end is awaited.
fn relay(wants: u32, fds: Vec<OwnedFd>) -> anyhow::Result<(Option<Terminal>, Vec<JoinHandle<()>>)> {
    let mut fds = fds.into_iter().map(File::from);
    let mut next = || fds.next().context("the launcher sent too few descriptors");
    let is_terminal = |n: u32| wants & (1 << n) != 0;
    let mut awaited = Vec::new();
    let mut terminal = None;
    if let Some(first) = (0..3).find(|n| is_terminal(*n)) {
        let inner = next()?;
        // Output of the terminal goes to where the caller has it; error output
        // alone when only that is one.
        let shown = if is_terminal(1) { 1 } else { 2 };
        let outer = if first == 0 { duplicate(0)? } else { duplicate(shown)? };
        let raw = is_terminal(0) && is_terminal(1);
        let taken = Terminal::take_over(outer, inner.try_clone()?, raw).context("the terminal")?;
        if is_terminal(0) {
            let end = taken.end_of_input();
            let (from, mut to) = (File::from(duplicate(0)?), inner.try_clone()?);
            std::thread::spawn(move || {
                pump(from, &mut to);
                if let Some(end) = end {
                    let _ = to.write_all(&[end]);
                }
            });
        }
        if is_terminal(1) || is_terminal(2) {
            let mut to = File::from(duplicate(shown)?);
            awaited.push(std::thread::spawn(move || pump(inner, &mut to)));
        }
        terminal = Some(taken);
    }
    for n in (0..3).filter(|n| !is_terminal(*n)) {
        let (pipe, own) = (next()?, File::from(duplicate(n)?));
        let (from, mut to) = if n == 0 { (own, pipe) } else { (pipe, own) };
        let thread = std::thread::spawn(move || pump(from, &mut to));
        if n != 0 {
            awaited.push(thread);
        }
    }
    Ok((terminal, awaited))
}

fn duplicate(n: u32) -> io::Result<OwnedFd> {
    match n {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// Copies until either side ends. A terminal whose other side is closed reads as
/// an error, which is its end.
fn pump(mut from: File, to: &mut File) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => {
                if write_all(to, &buffer[..len]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if wait(&from, PollFlags::POLLIN).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// As `write_all`, also where the caller's descriptor is in non-blocking mode.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(to, PollFlags::POLLOUT)?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(fd: &File, what: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd.as_fd(), what)], PollTimeout::NONE) {
        // The caller tries again, whatever woke it.
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends this process as the program ended, so that whoever waits for it sees the same.
pub fn end_like(end: End) -> std::process::ExitCode {
    if let End::Killed(number) = end
        && let Ok(signal) = Signal::try_from(number)
    {
        use nix::sys::resource::{Resource, setrlimit};
        // The program did or did not dump; this process has nothing to show.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        // SAFETY: the default action is no handler.
        let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
        let _ = SigSet::from(signal).thread_unblock();
        let _ = nix::sys::signal::raise(signal);
        // Stopped for a signal that does not end: as a shell counts.
        return u8::try_from(128 + number).unwrap_or(u8::MAX).into();
    }
    match end {
        End::Exited(code) => code.into(),
        End::Killed(_) => std::process::ExitCode::FAILURE,
    }
}
