//! `enforcer run` at a terminal: the tests are the terminal.

use crate::host::{Host, SOON};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

const SIZE: Winsize = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };

/// A client at a terminal of 33 lines and 101 columns.
struct Session {
    keys: File,
    screen: Arc<Mutex<String>>,
    client: Child,
}

impl Session {
    fn start(mut command: Command) -> Self {
        let pty = openpty(Some(&SIZE), None).unwrap();
        let slave = File::from(pty.slave);
        let mut leader = Command::new("setsid");
        leader
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir("/")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        command.stdin(Stdio::null());
        let client = leader.spawn().unwrap();
        drop(leader);
        let mut master = File::from(pty.master);
        let keys = master.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = master.read(&mut buffer) {
                copy.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Self { keys, screen, client }
    }

    fn wait_for(&self, text: &str) {
        let mut seen = String::new();
        let end = std::time::Instant::now() + SOON;
        while !seen.contains(text) {
            assert!(std::time::Instant::now() < end, "{text:?} in {seen:?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
            seen = self.screen.lock().unwrap().clone();
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.client.wait().unwrap()
    }
}

#[test]
fn the_program_has_a_terminal_of_its_own_with_the_callers_size() {
    let host = Host::start();
    let script = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo who; read x; echo got-$x";
    let mut session = Session::start(host.run(&["--agent", "bot"], &["sh", "-c", script]));
    session.wait_for("/dev/pts/0\r\n33 101\r\nall\r\nwho\r\n");
    session.press("keys\n");
    session.wait_for("got-keys");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn control_c_reaches_the_program_and_ends_the_client_alike() {
    let host = Host::start();
    // exec: a shell that has just forked may keep the key from its child.
    let script = "echo ready; exec sleep 300";
    let mut session = Session::start(host.run(&["--agent", "bot"], &["sh", "-c", script]));
    session.wait_for("ready");
    session.press("\x03");
    // setsid(1) tells a signal as a shell does.
    let end = session.end();
    assert!(end.code() == Some(130) || end.signal() == Some(2), "{end:?}");
    host.wait_empty();
}

#[test]
fn a_new_size_is_passed_on() {
    let host = Host::start();
    // stty(1) sets lines and columns one after the other, so there can be a size in between.
    let script = "trap 's=$(stty size); echo $s; test \"$s\" = \"44 55\" && exit 0' WINCH; \
                  echo ready; while :; do sleep 0.02; done";
    let mut session = Session::start(host.run(&["--agent", "bot"], &["sh", "-c", script]));
    session.wait_for("ready");
    // stty(1) on the other side of the terminal: the kernel signals its foreground.
    let resized = Command::new("stty")
        .args(["rows", "44", "cols", "55"])
        .stdin(session.keys.try_clone().unwrap())
        .status()
        .unwrap();
    assert!(resized.success());
    session.wait_for("44 55");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn a_terminal_for_input_only_is_one_for_the_program_too() {
    let host = Host::start();
    let mut command = Command::new("sh");
    let run = host.run(&["--agent", "bot"], &["sh", "-c", "test -t 0 && ! test -t 1 && cat"]);
    command.args(["-c", "\"$@\" | sed s/a/b/", "sh"]).arg(run.get_program()).args(run.get_args());
    let mut session = Session::start(command);
    session.press("away\n\x04");
    session.wait_for("bway");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn a_terminal_that_is_closed_ends_the_program() {
    let host = Host::start();
    let session =
        Session::start(host.run(&["--agent", "bot"], &["sh", "-c", "echo ready; sleep 300"]));
    session.wait_for("ready");
    let Session { keys, mut client, .. } = session;
    drop(keys);
    // The reading thread still holds it; hang up by ending the session's leader.
    client.kill().unwrap();
    client.wait().unwrap();
    host.wait_empty();
}
