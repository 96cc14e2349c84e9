//! The unix layer: sockets of other local programs are out of reach unless the
//! configuration names them. The accomplice's own log decides.

use enforcer_tests::probe::{Bench, DEADLINE, holds, said};
use enforcer_tests::wait::eventually;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A local program outside that does what it is told by anyone.
struct Accomplice {
    stream: PathBuf,
    datagram: PathBuf,
    name: String,
    heard: Receiver<String>,
    all: Vec<String>,
}

impl Accomplice {
    fn start(dir: &Path, name: &str) -> Self {
        let (send, heard) = channel();
        let (stream, datagram) = (dir.join("stream"), dir.join("datagram"));
        listen(UnixListener::bind(&stream).expect("a listener"), send.clone());
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        listen(UnixListener::bind_addr(&address).expect("a listener"), send.clone());
        let socket = UnixDatagram::bind(&datagram).expect("a socket");
        thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(len) = socket.recv(&mut buffer) {
                let word = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if send.send(word).is_err() {
                    return;
                }
            }
        });
        Self { stream, datagram, name: name.to_owned(), heard, all: Vec::new() }
    }

    /// Every way to it, by its row in the threat model.
    fn ways(&self) -> [(&'static str, String); 5] {
        let [stream, datagram] = [&self.stream, &self.datagram].map(|path| path.display());
        let name = &self.name;
        [
            (
                "unix_path_connect",
                format!("s = socket(AF_UNIX); s.connect('{stream}'); s.sendall(TOKEN)"),
            ),
            (
                "unix_abstract_connect",
                format!("s = socket(AF_UNIX); s.connect('\\0{name}'); s.sendall(TOKEN)"),
            ),
            (
                "unix_path_dgram_sendto",
                format!("socket(AF_UNIX, SOCK_DGRAM).sendto(TOKEN, '{datagram}')"),
            ),
            (
                "unix_path_dgram_connect",
                format!("s = socket(AF_UNIX, SOCK_DGRAM); s.connect('{datagram}'); s.send(TOKEN)"),
            ),
            (
                "unix_path_linked",
                format!(
                    "os.path.lexists('{stream}.link') or os.symlink('{stream}', '{stream}.link'); \
                     s = socket(AF_UNIX); s.connect('{stream}.link'); s.sendall(TOKEN)"
                ),
            ),
        ]
    }

    fn hears(&mut self, word: &str) -> bool {
        self.all.extend(self.heard.try_iter());
        self.all.iter().any(|heard| heard == word)
    }
}

fn listen(listener: UnixListener, send: Sender<String>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut word = String::new();
            let _read = stream.read_to_string(&mut word);
            if send.send(word).is_err() {
                return;
            }
        }
    });
}

fn program(way: &str, token: &str) -> String {
    let lines = way.replace("; ", "\n  ");
    format!("TOKEN = {token:?}.encode()\ndef go():\n  {lines}\nprint(attempt(go))")
}

/// A directory and an abstract name of this test's own.
fn place(bench: &Bench) -> (tempdir::Dir, String) {
    let name = bench.root().file_name().expect("a name").to_string_lossy().into_owned();
    (tempdir::Dir::make(&name), format!("{name}-accomplice"))
}

mod tempdir {
    use std::path::{Path, PathBuf};

    /// A short path: a unix socket's name holds 108 bytes.
    pub(super) struct Dir(PathBuf);

    impl Dir {
        pub(super) fn make(name: &str) -> Self {
            let dir = Path::new("/tmp").join(format!("{name}.unix"));
            std::fs::create_dir(&dir).expect("a directory");
            Self(dir)
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }
}

#[test]
fn other_local_programs_are_out_of_reach() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "unix") {
        return;
    }
    let (dir, name) = place(&bench);
    let mut accomplice = Accomplice::start(dir.path(), &name);
    for (number, (row, way)) in accomplice.ways().into_iter().enumerate() {
        let [kept, open] = ["governed", "free"].map(|who| format!("word-{who}-{number}"));
        assert_eq!(said(&mut bench.governed("a", &program(&way, &kept))), "EPERM", "{row}");
        assert_eq!(said(&mut bench.free(&program(&way, &open))), "ok", "{row}");
        // What comes in keeps its order on each socket: the second word proves the first's absence.
        eventually("the free word is heard", DEADLINE, || accomplice.hears(&open).then_some(()));
        assert!(!accomplice.hears(&kept), "{row}: heard");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let next = async { tokio::time::timeout(DEADLINE, capture.next_refusal()).await };
    let refusal = runtime.block_on(next).expect("a refusal");
    assert_eq!((refusal.hook, refusal.reason), ("unix_connect", "unix-peer"));
    assert_eq!(refusal.unix_name, Some(accomplice.stream.display().to_string()));
    assert_eq!(refusal.principal.expect("a name").agent.as_str(), "a");
}

#[test]
fn those_that_are_named_are_in_reach() {
    let mut bench = Bench::new();
    let (dir, name) = place(&bench);
    let mut accomplice = Accomplice::start(dir.path(), &name);
    let stream = accomplice.stream.display().to_string();
    bench.config.kernel.unix_sockets = vec![stream.clone(), format!("@{name}")];
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "unix") {
        return;
    }
    let ways = accomplice.ways();
    let told: Vec<String> = ways
        .iter()
        .enumerate()
        .map(|(number, (_, way))| {
            said(&mut bench.governed("a", &program(way, &format!("one-{number}"))))
        })
        .collect();
    // By owner it counts where a name leads; by name what was written.
    let linked = if by_owner(&capture) { "ok" } else { "EPERM" };
    assert_eq!(told, ["ok", "ok", "EPERM", "EPERM", linked]);
    for word in ["one-0", "one-1"] {
        eventually("the word is heard", DEADLINE, || accomplice.hears(word).then_some(()));
    }
    drop(capture);
    bench.config.kernel.unix_sockets = vec![format!("{}/", dir.path().display())];
    let capture = bench.install();
    capture.beat();
    let told: Vec<String> =
        ways.iter().map(|(_, way)| said(&mut bench.governed("a", &program(way, "two")))).collect();
    assert_eq!(
        told,
        ["ok", "EPERM", "ok", "ok", "ok"],
        "a directory, and no abstract name any more"
    );
}

/// Whether the layer sees whose socket it is.
fn by_owner(capture: &enforcer::capture::Capture) -> bool {
    let layers = capture.layers();
    layers.iter().any(|layer| layer.name == "unix" && layer.detail.starts_with("by owner"))
}

#[test]
fn an_agents_own_sockets_are_its_own() {
    let mut bench = Bench::new();
    let (dir, name) = place(&bench);
    let own = dir.path().join("own").display().to_string();
    let code = |connect: bool| {
        let connect = if connect {
            "c = socket(AF_UNIX); print(attempt(lambda: c.connect(PATH)))"
        } else {
            ""
        };
        format!(
            "
import time
PATH = '{own}'
if not os.path.exists(PATH):
    l = socket(AF_UNIX); l.bind(PATH); l.listen()
    open(PATH + '.ready', 'w').close()
a, b = socketpair(); a.send(b'x'); assert b.recv(1) == b'x'
{connect}
while not os.path.exists(PATH + '.stop') and 'l' in globals(): time.sleep(0.1)
"
        )
    };
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "unix") {
        return;
    }
    if !by_owner(&capture) {
        assert_eq!(
            said(&mut bench.governed("a", &code(true).replace("while", "if 0:\n  while"))),
            "EPERM"
        );
        std::fs::remove_file(&own).unwrap();
        // It says that the next one listens.
        std::fs::remove_file(format!("{own}.ready")).unwrap();
        bench.config.kernel.unix_sockets = vec![format!("{}/", dir.path().display())];
        drop(capture);
        bench.install().beat();
    }
    let mut server = bench.governed("a", &code(false)).spawn().expect("it starts");
    eventually("it listens", DEADLINE, || std::fs::metadata(format!("{own}.ready")).ok());
    assert_eq!(said(&mut bench.governed("a/task-x", &code(true))), "ok", "the same agent");
    let other = said(&mut bench.governed("b", &code(true)));
    let expected = if bench.config.kernel.unix_sockets.is_empty() { "EPERM" } else { "ok" };
    assert_eq!(other, expected, "another agent, unless it is named");
    std::fs::write(format!("{own}.stop"), "").unwrap();
    server.wait().expect("it ends");
    drop(name);
}
