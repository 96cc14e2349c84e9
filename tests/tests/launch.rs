//! `enforcer run` as its users meet it: the real client and launcher, real
//! programs, the control socket served in this process. As root.

#![allow(clippy::unwrap_used, reason = "a harness that cannot go on stops where it is")]
#[path = "launch/host.rs"]
mod host;
#[path = "launch/sandbox.rs"]
mod sandbox;
#[path = "launch/terminal.rs"]
mod terminal;

use enforcer_tests::wait::eventually;
use host::{Host, SOON, children, said};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn exit_codes_and_signals_are_the_programs_own() {
    let host = Host::start();
    for code in [0, 1, 7, 255] {
        assert_eq!(host.sh(&format!("exit {code}")).status.code(), Some(code));
    }
    for signal in [2, 6, 9, 11, 15] {
        let out = host.sh(&format!("kill -{signal} $$"));
        assert_eq!(out.status.signal(), Some(signal), "{out:?}");
    }
    let missing = host.run(&[], &["/no/such"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such"));
    let missing = host.run(&[], &["no-such-program-at-all"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    let directory = host.run(&[], &["/etc"]).output().unwrap();
    assert_eq!(directory.status.code(), Some(126));
    host.wait_empty();
    assert!(host.root.exists(), "the governed root is never removed");
}

#[test]
fn signals_to_the_client_reach_the_program() {
    let host = Host::start();
    for (signal, code) in [("TERM", 41), ("INT", 42), ("HUP", 43), ("USR1", 44)] {
        let script =
            format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 0.02; done");
        let mut client = host
            .run(&["--agent", "bot"], &["sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(client.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        let pid = client.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(client.wait().unwrap().code(), Some(code), "{signal}");
    }
}

#[test]
fn bytes_go_through_pipes_whole_and_ends_are_seen() {
    let host = Host::start();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = host
        .run(&["--agent", "bot"], &["sh", "-c", "cat; echo end >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let out = client.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(out.status.success() && out.stdout == sent && out.stderr == b"end\n");

    // A reader that goes away ends the program as it would a direct one.
    let mut client =
        host.run(&["--agent", "bot"], &["yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 10];
    client.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(client.wait().unwrap().signal(), Some(13));
    // A program can open its own output again.
    assert_eq!(host.say("echo again > /dev/stdout"), "again\n");
}

#[test]
fn the_environment_has_trust_and_no_proxies() {
    let host = Host::start();
    let out = host
        .run(&["--agent", "bot", "--task", "t1"], &["env"])
        .env("http_proxy", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("MINE", "kept")
        .env("SSL_CERT_FILE", "/else")
        .output()
        .unwrap();
    let env = said(&out);
    let trust = host.dir.path().join("runtime/trust");
    for line in [
        "MINE=kept".to_owned(),
        "ENFORCER_AGENT=bot".to_owned(),
        "ENFORCER_TASK=t1".to_owned(),
        "HOME=/nonexistent".to_owned(),
        "USER=nobody".to_owned(),
        format!("SSL_CERT_FILE={}/bundle.pem", trust.display()),
        format!("NODE_EXTRA_CA_CERTS={}/ca.pem", trust.display()),
    ] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    assert!(!env.to_lowercase().contains("_proxy="), "{env}");
    let bundle = host.say("cat \"$SSL_CERT_FILE\"");
    let ca = host.say("cat \"$DENO_CERT\"");
    assert!(bundle.ends_with(&ca) && bundle.len() > ca.len() && ca.contains("BEGIN CERTIFICATE"));
}

#[test]
fn directory_mask_and_limits_are_the_callers() {
    let host = Host::start();
    let script = "cd /usr/share && umask 027 && ulimit -n 123 && exec \"$@\"";
    let mut client = Command::new("sh");
    client
        .args(["-c", script, "sh"])
        .arg(enforcer_tests::daemon::enforcer())
        .args(["run", "--config"])
        .arg(&host.config)
        .args(["--", "sh", "-c", "pwd; umask; ulimit -n; ulimit -c"]);
    assert_eq!(said(&client.output().unwrap()), "/usr/share\n0027\n123\n0\n");
    // A directory that the program's user may not enter is said to be so.
    let closed = host.dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let out = host.run(&[], &["true"]).current_dir(&closed).output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("entering the directory"), "{out:?}");
}

#[test]
fn ids_are_the_callers_or_the_configured_users() {
    let host = Host::start();
    let ids = "id -u; id -g; id -G";
    assert_eq!(host.say(ids), "65534\n65534\n65534\n");
    let other = host.run_as_other(&["--agent", "b"], &["sh", "-c", ids]).output().unwrap();
    assert_eq!(said(&other), "4321\n4322\n4322 4323\n");
    let refused = host.run_as_other(&["--user", "root"], &["true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let chosen = host.run(&["--user", "daemon"], &["id", "-un"]).output().unwrap();
    assert_eq!(said(&chosen), "daemon\n");
}

#[test]
fn root_must_be_accepted_by_name_and_is_without_powers() {
    let host = Host::start();
    let out = host.run(&["--user", "root"], &["true"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--accept-root"));
    let script = "id -u; grep -h ^Cap /proc/self/status | tr -d '\\t'; \
                  echo x > /proc/sys/kernel/core_pattern; echo core=$?; \
                  mkdir \"$CG/x\"; echo mkdir=$?; echo 1 > \"$CG/cgroup.procs\"; echo procs=$?; \
                  mount -t tmpfs none /mnt; echo mount=$?; \
                  chown 1 /etc/hostname; echo chown=$?";
    let out = host
        .run(&["--user", "root", "--accept-root"], &["sh", "-c", script])
        .env("CG", enforcer_tests::daemon::cgroup2())
        .output()
        .unwrap();
    let text = said(&out);
    let zero = "0000000000000000";
    let expected =
        format!("0\nCapInh:{zero}\nCapPrm:{zero}\nCapEff:{zero}\nCapBnd:{zero}\nCapAmb:{zero}\n");
    assert!(text.starts_with(&expected), "{text}");
    for what in ["core", "mkdir", "procs", "mount", "chown"] {
        assert!(
            text.contains(&format!("{what}=")) && !text.contains(&format!("{what}=0\n")),
            "{text}"
        );
    }
}

#[test]
fn privileges_are_gone_and_cannot_come_back() {
    let host = Host::start();
    let status = host.say("grep -hE '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'");
    let zero = "0000000000000000";
    assert_eq!(
        status,
        format!(
            "CapInh:{zero}\nCapPrm:{zero}\nCapEff:{zero}\nCapBnd:{zero}\nCapAmb:{zero}\nNoNewPrivs:1\nSeccomp:2\n"
        )
    );
    // A set-user-id helper: gives root to the same user outside, and nothing inside.
    let helper = host.dir.path().join("whoami");
    fs::copy("/usr/bin/whoami", &helper).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
    let helper = helper.display().to_string();
    let outside = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", &helper])
        .output()
        .unwrap();
    assert_eq!(said(&outside), "root\n", "the control: outside it works");
    assert_eq!(host.say(&helper), "nobody\n");
}

#[test]
fn no_descriptor_of_the_callers_reaches_the_program() {
    let host = Host::start();
    // Descriptors 0 and 1 are sockets, 9 a file that the client inherits too.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Command::new("sh");
    client
        .args(["-c", "exec 9</etc/passwd; exec \"$@\"", "sh"])
        .arg(enforcer_tests::daemon::enforcer())
        .args(["run", "--config"])
        .arg(&host.config)
        .args(["--", "sh", "-c", "read line; echo got $line; ls -l /proc/$$/fd; exit"])
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap())))
        .stdout(Stdio::from(OwnedFd::from(theirs)));
    let mut child = client.spawn().unwrap();
    drop(client);
    (&ours).write_all(b"hello\n").unwrap();
    let mut text = String::new();
    (&ours).read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("got hello"), "{text}");
    let fds: Vec<&str> = lines.filter(|line| !line.starts_with("total")).collect();
    assert_eq!(fds.len(), 3, "{text}");
    assert!(fds.iter().all(|l| l.contains("pipe:")), "{text}");
}

#[test]
fn the_program_is_in_its_own_cgroup_and_sees_only_that() {
    let host = Host::start();
    let mut client = host
        .run(
            &["--agent", "bot", "--task", "deploy"],
            &["sh", "-c", "cat /proc/self/cgroup; echo $$; sleep 300 & sleep 300"],
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(client.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the program ended");
        line
    };
    let mut unified = line();
    while !unified.starts_with("0::") {
        unified = line();
    }
    assert_eq!(unified, "0::/\n", "the cgroup namespace begins at its own");
    let pid: u32 = line().trim().parse().unwrap();
    assert!(pid < 10, "an own pid namespace, but {pid}");
    let runs = children(&host.root.join("bot/task-deploy"));
    assert_eq!(runs.len(), 1);
    let members = fs::read_to_string(runs[0].join("cgroup.procs")).unwrap();
    assert!(members.lines().count() >= 2, "{members}");
    // Everything goes with a client that is killed.
    client.kill().unwrap();
    client.wait().unwrap();
    host.wait_empty();
    for pid in members.lines() {
        let state = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        assert!(!state.contains("task-deploy"), "{pid} lives");
    }
}

#[test]
fn kernel_interfaces_are_hidden_or_read_only() {
    let host = Host::start();
    let cgroup = enforcer_tests::daemon::cgroup2();
    let show = format!(
        "ls -A /sys/fs/bpf; grep -hE ' ({}|/sys|/proc|/proc/sys|/dev/pts) ' /proc/self/mountinfo | tail -20",
        cgroup.display()
    );
    let table = host.say(&show);
    let options = |path: &str| {
        table
            .lines()
            .rev()
            .find(|l| l.split(' ').nth(4) == Some(path))
            .and_then(|l| l.split(' ').nth(5))
            .unwrap_or_else(|| panic!("{path} in {table}"))
            .to_owned()
    };
    for path in ["/sys", "/proc/sys", &cgroup.display().to_string()] {
        assert!(options(path).starts_with("ro,"), "{path}: {table}");
    }
    assert_eq!(
        host.say(&format!("ls -d {}/enforcer* 2>/dev/null | wc -l", cgroup.display())),
        "0\n"
    );
    let processes = host.say("ls -d /proc/[0-9]* | wc -l");
    assert!(processes.trim().parse::<u32>().unwrap() < 10, "{processes}");
    let resolv = host.say("cat /etc/resolv.conf; grep ^hosts: /etc/nsswitch.conf");
    assert!(resolv.starts_with("nameserver 198.18.0.1\n"), "{resolv}");
    assert!(resolv.ends_with("hosts: files dns\n"), "{resolv}");
    assert_eq!(
        host.say(&format!("ls {}", host.dir.path().join("runtime").display())),
        "nsswitch.conf\nresolv.conf\ntrust\n",
        "the control socket is out of sight"
    );
}

#[test]
fn messages_of_others_and_core_dumps_are_out() {
    let host = Host::start();
    let made = Command::new("ipcmk").args(["-Q", "-p", "0666"]).output().unwrap();
    let id = said(&made).trim().rsplit(' ').next().unwrap().to_owned();
    let seen = format!("ipcs -q | grep -wc {id}");
    let outside = Command::new("sh").args(["-c", &seen]).output().unwrap();
    let inside = host.say(&format!("{seen}; ulimit -c"));
    assert!(Command::new("ipcrm").args(["-q", &id]).status().unwrap().success());
    assert_eq!(said(&outside), "1\n", "the control: outside it is there");
    assert_eq!(inside, "0\n0\n", "sysv_msgq, core_pattern");
}

#[test]
fn a_governed_process_is_not_served() {
    let host = Host::start();
    let status = |procs: &str| {
        Command::new("sh")
            .args(["-c", &format!("{procs}; exec \"$@\""), "sh"])
            .arg(enforcer_tests::daemon::enforcer())
            .args(["status", "--json", "--config"])
            .arg(&host.config)
            .output()
            .unwrap()
    };
    assert!(said(&status("true")).contains("1.2.3"), "the control: outside it answers");
    let agent = host.root.join("other");
    fs::create_dir(&agent).unwrap();
    let refused = status(&format!("echo $$ > {}/cgroup.procs", agent.display()));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned()
        + &String::from_utf8_lossy(&refused.stdout);
    assert!(text.contains("governed process"), "{text}");
    eventually("the cgroup is empty", SOON, || fs::remove_dir(&agent).ok());
}

#[test]
fn abstract_sockets_and_processes_outside_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    let host = Host::start();
    if !enforcer::run::floor::landlock::supported() {
        // Older than 6.12: the floor has no such layer, and `doctor` says so.
        return;
    }
    let name = format!("enforcer-launch-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let script = format!(
        "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); \
         print connect($s, pack('S a*', AF_UNIX, \"\\0{name}\")) ? 'in' : 0+$!"
    );
    let outside = Command::new("perl").args(["-e", &script]).output().unwrap();
    assert_eq!(said(&outside), "in", "the control: outside it connects");
    let inside = host.run(&[], &["perl", "-e", &script]).output().unwrap();
    assert_eq!(said(&inside), "1", "EPERM");
}

#[test]
fn without_a_guard_nothing_is_started() {
    let host = Host::guarded(|| Err("connect4 is not attached".into()));
    let out = host.run(&[], &["true"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("connect4 is not attached"));
    host.wait_empty();
}

#[test]
fn a_program_outlives_the_daemon_and_its_end_is_told() {
    let mut host = Host::start();
    let mut client = host
        .run(&["--agent", "bot"], &["sh", "-c", "echo ready; read line; exit 33"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(client.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    host.stop_daemon();
    client.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(33));
    host.wait_empty();
    let out = host.run(&[], &["true"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "no daemon, no start");
}

#[test]
fn a_program_that_nobody_would_wait_for_is_not_left_behind() {
    let host = Host::start();
    // In sessions of their own, deaf to hangups, with parents that are gone.
    host.say("setsid sh -c 'trap \"\" HUP TERM; sleep 300' >/dev/null 2>&1 & sleep 0.1; exit 0");
    host.wait_empty();
}
