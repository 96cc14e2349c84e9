//! Services under `agents.slice`, with the real systemd and the packaged units.

use super::{FIRST, done, to_nowhere};
use enforcer_tests::fixture::{MASKS, RULES, SCOPES, TARGETS, text};
use enforcer_tests::origin::Origin;
use enforcer_tests::servers::Pki;
use enforcer_tests::systemd::Systemd;
use enforcer_tests::wait::eventually;
use enforcer_tests::world::{FAR_V4, World};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PYTHON: &str = "/usr/bin/python3";
const IN_SLICE: &[&str] = &["--slice=agents.slice"];

/// As `enforcer init` leaves it, with this world's names.
fn config() -> String {
    format!(
        "[host]\nname = \"host-a\"\n\
         [[governed]]\ncgroup = \"/agents.slice\"\n\
         [resolver]\nupstream = [\"{FAR_V4}:53\"]\n\
         [resolver.hosts]\n\"api.test\" = [\"{FAR_V4}\"]\n\
         [policy]\ndir = \"/etc/enforcer/test-policy\"\n"
    )
}

fn boot(world: &World) -> (Systemd, Origin) {
    let pki = Pki::new(world.dir());
    let origin = Origin::start(world, &pki, &["api.test"]);
    let config = config();
    let systemd = Systemd::boot(
        world,
        &[
            ("enforcer.toml", &config),
            ("test-policy/targets.toml", TARGETS),
            ("test-policy/rules.cedar", RULES),
            ("test-policy/scopes.toml", SCOPES),
            ("test-policy/masks.toml", MASKS),
        ],
    );
    (systemd, origin)
}

#[test]
fn a_unit_in_the_slice_is_governed_from_its_first_packet() {
    let world = World::new();
    let (systemd, origin) = boot(&world);
    // It says that it is ready, so whatever is ordered after it starts under it.
    systemd.must(&["start", "enforcer.service"]);
    assert_eq!(systemd.must(&["is-active", "agents.slice"]), "active");
    let slice = systemd.cgroup("agents.slice").metadata().expect("the slice's cgroup").ino();

    let sniffer = world.sniff();
    let run = |unit: &str, options: &[&str], program: &str, args: &[&str]| {
        done(systemd.run(unit, options, program).args(args));
        systemd.said(unit)
    };
    let said = run("free", &[], PYTHON, &["-c", FIRST]);
    assert!(said.contains(" ok"), "{said}");
    let out = sniffer.stop().iter().filter(|packet| to_nowhere(packet)).count();
    assert!(out >= 2, "control: a SYN and a datagram of an ungoverned service get out");

    let sniffer = world.sniff();
    let said = run("coder", IN_SLICE, PYTHON, &["-c", FIRST]);
    assert_eq!(said.trim(), "ok PermissionError", "taken by the proxy, and refused");
    let people =
        run("coder", IN_SLICE, "curl", &["-sS", "-m", "20", "http://api.test:8080/people"]);
    assert!(people.contains("Ada") && !people.contains("ada@example.com"), "{people}");
    assert_eq!(sniffer.stop().iter().filter(|packet| to_nowhere(packet)).count(), 0);
    assert_eq!(origin.seen().len(), 1);
    let list = systemd.inside("enforcer").args(["transcripts", "list", "--json"]).output();
    let list = text(&list.expect("starts"));
    assert!(list.contains("\"coder.service\""), "{list}");

    // Nothing that an operator does takes the cgroup away from under the programs.
    let refused = systemd.ctl(&["stop", "agents.slice"]).output().expect("starts");
    assert!(!refused.status.success(), "{}", text(&refused));
    for words in [&["daemon-reload"][..], &["daemon-reexec"], &["restart", "enforcer.service"]] {
        systemd.must(words);
    }
    assert_eq!(systemd.cgroup("agents.slice").metadata().expect("it is there").ino(), slice);
    systemd.must(&["stop", "enforcer.service"]);
    let sniffer = world.sniff();
    let said = run("coder", IN_SLICE, PYTHON, &["-c", FIRST]);
    // Later, when the beat is too old, the first is refused in the kernel as well.
    let closed = ["ConnectionRefusedError PermissionError", "PermissionError PermissionError"];
    assert!(closed.contains(&said.trim()), "closed without a daemon: {said}");
    assert_eq!(sniffer.stop().iter().filter(|packet| to_nowhere(packet)).count(), 0);
    assert_eq!(systemd.cgroup("agents.slice").metadata().expect("it is there").ino(), slice);
}

/// The packaged unit keeps the daemon's sockets over a restart and over its sudden end.
#[test]
fn restarts_of_the_service_lose_no_operation() {
    const REQUESTS: usize = 300;
    let world = World::new();
    let (systemd, origin) = boot(&world);
    systemd.must(&["start", "enforcer.service"]);
    let kept = systemd.must(&["show", "-P", "NFileDescriptorStore", "enforcer.service"]);
    assert_eq!(kept, "7", "two of the proxy, four of the resolver, the control socket");
    let url = format!("http://{FAR_V4}:8080/echo?[1-{REQUESTS}]");
    let mut busy = systemd
        .run("busy", IN_SLICE, "curl")
        .args(["-sS", "-m", "120", "-H", "connection: close", "-o", "/dev/null"])
        .args(["-w", "%{http_code} %{errormsg}\\n", &url])
        .spawn()
        .expect("starts");
    for _ in 0..2 {
        let before = origin.seen().len();
        eventually("it goes on", Duration::from_secs(30), || {
            (origin.seen().len() > before + 10).then_some(())
        });
        assert!(busy.try_wait().expect("wait").is_none(), "too few requests to restart under");
        systemd.must(&["restart", "enforcer.service"]);
    }
    let ended = busy.wait().expect("ends");
    let said = systemd.said("busy");
    assert!(ended.success(), "{said}");
    let bad: Vec<&str> = said.lines().filter(|line| line.trim() != "200").collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(origin.seen().len(), REQUESTS, "each once");

    systemd.must(&["kill", "--signal=KILL", "enforcer.service"]);
    let url = format!("http://{FAR_V4}:8080/echo");
    let mut late = systemd.run("coder", IN_SLICE, "curl");
    done(late.args(["-sS", "-m", "60", "-w", "%{http_code}", &url]));
    let out = systemd.said("coder");
    assert!(out.ends_with("200"), "it waits for the next daemon: {out}");
    assert_eq!(systemd.must(&["show", "-P", "NRestarts", "enforcer.service"]), "1");
}

#[test]
fn the_packaged_units_are_what_systemd_takes() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let dir = tempfile::tempdir().expect("a directory");
    // The programs are not installed here; everything else is looked at.
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in std::fs::read_dir(units).expect("the units").flatten() {
        let text = std::fs::read_to_string(unit.path()).expect("readable");
        let text = text.replace("/usr/local/bin/enforcer", "/bin/true");
        let copy = dir.path().join(unit.file_name());
        std::fs::write(&copy, text).expect("written");
        verify.arg(copy);
    }
    let said = done(&mut verify);
    assert_eq!(said, "", "no warning either");
    // It does look: a unit with a word that does not exist is told.
    let wrong = dir.path().join("wrong.service");
    std::fs::write(&wrong, "[Service]\nExecStart=/bin/true\nNoSuchWord=1\n").expect("written");
    let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(wrong).output();
    assert!(text(&out.expect("starts")).contains("NoSuchWord"));
}
