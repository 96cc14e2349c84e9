//! What the transcript says is what the wire saw, and what the origin got.

use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::wait::eventually;
use enforcer_tests::world::FAR_V4;
use std::collections::BTreeMap;
use std::time::Duration;

/// Method and path with query of every request line in the capture.
fn requests_on_the_wire(packets: &[enforcer_tests::world::Packet]) -> Vec<String> {
    let mut found = Vec::new();
    for packet in packets {
        for method in ["GET ", "POST ", "PUT ", "DELETE ", "HEAD "] {
            let text = String::from_utf8_lossy(&packet.bytes);
            for (at, _) in text.match_indices(method) {
                let line = text[at..].lines().next().unwrap_or_default();
                if let Some(request) = line.strip_suffix(" HTTP/1.1") {
                    found.push(request.to_owned());
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn transcript_equals_wire_and_origin() {
    let all = Fixture::start();
    let sniffer = all.world.sniff();
    let url = "http://api.test:8080";
    assert!(all.curl(&[&format!("{url}/echo?a=1&b=%2F")]).ends_with(" 200"));
    assert!(all.curl(&["-d", "x=1&y=2", &format!("{url}/echo")]).ends_with(" 200"));
    assert!(
        all.curl(&[
            "-X",
            "PUT",
            "-H",
            "Transfer-Encoding: chunked",
            "-d",
            "chunks",
            &format!("{url}/echo/put")
        ])
        .ends_with(" 200")
    );
    assert!(all.curl(&["-X", "DELETE", &format!("{url}/echo/1")]).ends_with(" 403"));
    assert!(all.curl(&["-d", "z", &format!("{url}/elsewhere")]).ends_with(" 403"));
    assert!(all.curl(&["-I", &format!("{url}/echo/head")]).ends_with(" 200"));
    let wire = requests_on_the_wire(&sniffer.stop());
    let mut origin: Vec<String> =
        all.origin.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    origin.sort();
    assert_eq!(wire, origin, "the far side's two witnesses agree");
    let mut forwarded = Vec::new();
    let mut refused = Vec::new();
    for entry in all.har() {
        let request = &entry["request"];
        let path = request["url"]
            .as_str()
            .and_then(|url| url.split("api.test:8080").nth(1))
            .unwrap_or_default();
        let line = format!("{} {path}", request["method"].as_str().unwrap_or_default());
        if entry["response"]["status"] == 403 { refused.push(line) } else { forwarded.push(line) }
    }
    forwarded.sort();
    refused.sort();
    assert_eq!(forwarded, origin, "the transcript holds exactly what left");
    assert_eq!(refused, ["DELETE /echo/1", "POST /elsewhere"]);
    all.verify();
}

#[test]
fn bodies_are_forwarded_unchanged() {
    let all = Fixture::start();
    let big = all.world.path("big.bin");
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&big, &bytes).expect("written");
    let out =
        all.curl(&["--data-binary", &format!("@{}", big.display()), "https://api.test:8443/echo"]);
    assert!(out.ends_with(" 200"), "{out}");
    let sum = std::process::Command::new("sha256sum").arg(&big).output().expect("starts");
    let sum = text(&sum).split(' ').next().unwrap_or_default().to_owned();
    let seen = all.origin.seen();
    let echo = seen.iter().find(|s| s.path == "/echo").expect("it arrived");
    assert_eq!((echo.length, &echo.sha256), (bytes.len() as u64, &sum));
    let down = "import hashlib, urllib.request as u; r = u.urlopen('https://plain.test:8443/big?n=50000000', timeout=30)\nh = hashlib.sha256(); n = 0\nwhile b := r.read(65536): h.update(b); n += len(b)\nprint(n, h.hexdigest())";
    let out = text(&all.agent("/usr/bin/python3", &["-c", down]));
    let control = "import hashlib; print(50000000, hashlib.sha256(b'x' * 50000000).hexdigest())";
    let control = std::process::Command::new("/usr/bin/python3")
        .args(["-c", control])
        .output()
        .expect("starts");
    assert_eq!(out.trim(), text(&control).trim(), "every byte of a large answer arrives");
    // The same bytes under a mask rule that cannot read them do not.
    let out = all.curl(&["-o", "/dev/null", "https://api.test:8443/big?n=1000000"]);
    assert!(!out.ends_with(" 200"), "{out}");
    all.verify();
}

#[test]
fn nothing_but_the_proxy_speaks_for_an_agent() {
    let all = Fixture::start();
    // Addresses that no target names; the origin answers on each.
    for address in ["192.0.2.7/32", "2001:db8::7/128"] {
        all.world.far_address(address);
    }
    let urls = [
        "http://192.0.2.7:8080/echo",
        "http://[2001:db8::7]:8080/echo",
        "http://[::ffff:192.0.2.7]:8080/echo",
    ];
    for url in urls {
        let control =
            all.world.host.command("curl").args(["-sSg", "-m", "5", url]).output().expect("starts");
        assert!(
            control.status.success(),
            "the control does not get out to {url}: {}",
            text(&control)
        );
    }
    let reached = all.origin.seen().len();
    let sniffer = all.world.sniff();
    for url in urls {
        let out = all.curl(&["-g", "--noproxy", "*", url]);
        assert!(!out.ends_with(" 200"), "{url}: {out}");
    }
    let packets = sniffer.stop();
    assert!(packets.iter().all(|p| !p.has(b"GET /echo")), "a bare address got out");
    assert_eq!(all.origin.seen().len(), reached);
}

#[test]
fn real_clients_are_not_configured() {
    let all = Fixture::start();
    let url = "https://api.test:8443/echo";
    let python = enforcer_tests::agents::python();
    let urllib =
        format!("import urllib.request as u; print(u.urlopen('{url}', timeout=20).status)");
    let httpx = format!("import httpx; print(httpx.get('{url}', timeout=20).status_code)");
    let node = format!("fetch('{url}').then(r => console.log(r.status))");
    let runs: BTreeMap<&str, std::process::Output> = BTreeMap::from([
        ("urllib", all.agent("/usr/bin/python3", &["-c", &urllib])),
        ("httpx", all.agent(&python.to_string_lossy(), &["-c", &httpx])),
        ("node", all.agent("node", &["-e", &node])),
        ("curl", all.agent("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", url])),
        ("openssl", all.agent("sh", &["-c", "printf 'GET /echo HTTP/1.1\\r\\nHost: api.test:8443\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -connect api.test:8443 -servername api.test 2>&1 | grep -m1 HTTP/"])),
    ]);
    for (client, out) in runs {
        assert!(text(&out).contains("200"), "{client}: {}", text(&out));
    }
}

/// Two targets lie in one private block on the same port: each is reached by its own name, and the
/// bare address is the one's that names it in `addresses`.
#[test]
fn targets_can_share_a_private_block() {
    let all = Fixture::start();
    let one = all.curl(&["http://api.test:8080/echo"]);
    assert!(one.ends_with(" 200"), "{one}");
    let other = all.curl(&["http://twin.test:8080/echo"]);
    assert!(other.ends_with(" 200"), "{other}");
    let bare = all.curl(&[&format!("http://{}:8080/echo", FAR_V4)]);
    assert!(bare.ends_with(" 200"), "{bare}");
    let targets: Vec<_> =
        all.har().iter().map(|entry| entry["_target"].as_str().unwrap().to_owned()).collect();
    assert_eq!(targets, ["api", "twin", "api"]);
}

/// Every kind of exchange makes an entry that a strict reader of the format takes.
#[test]
fn a_har_of_every_kind_is_valid() {
    let all = Fixture::start_with("[transcript]\nbody_limit = 1000\n");
    // Nothing is masked here, so that binary bodies are delivered.
    let url = "http://plain.test:8080";
    assert!(all.curl(&["-o", "/dev/null", &format!("{url}/binary")]).ends_with(" 200"));
    assert!(all.curl(&["-d", "x=1&y=2", &format!("{url}/echo?a=1&b=%2F")]).ends_with(" 200"));
    let grpc = [
        "-H",
        "content-type: application/grpc",
        "--data-binary",
        "@/bin/true",
        "-o",
        "/dev/null",
        &format!("{url}/echo.Service/Call"),
    ];
    assert!(all.curl(&grpc).contains(' '));
    assert!(all.curl(&["-X", "DELETE", &format!("{url}/echo/1")]).ends_with(" 403"));
    assert!(all.curl(&["-o", "/dev/null", &format!("{url}/big?n=5000")]).ends_with(" 200"));
    assert!(all.curl(&[&format!("{url}/gone")]).ends_with(" 502"));
    // Read strictly by `Fixture::har`.
    let entries = all.har();
    let of = |path: &str| {
        let found = entries
            .iter()
            .find(|entry| entry["request"]["url"].as_str().is_some_and(|url| url.contains(path)));
        found.unwrap_or_else(|| panic!("no entry for {path}")).clone()
    };
    assert_eq!(of("/binary")["response"]["content"]["encoding"], "base64");
    assert_eq!(of("/echo?a=1")["request"]["postData"]["text"], "x=1&y=2");
    assert_eq!(of("/echo/1")["_verdict"], "deny");
    let big = &of("/big")["response"]["content"];
    assert_eq!((&big["size"], &big["_truncated"]), (&5000.into(), &true.into()));
    assert_eq!(big["text"].as_str().unwrap().len(), 1000);
    of("/echo.Service/Call");
    of("/gone");
}

/// Every command that the README and the guide to transcripts show, on a store of a daemon that
/// runs.
#[test]
fn the_commands_of_the_guide_work() {
    let all = Fixture::start();
    let url = "https://api.test:8443";
    let paid = {
        let held = all
            .deployment
            .agent("probe", "curl")
            .args(["-sS", "-m", "30", "-d", "{\"private\":true}", &format!("{url}/payments")])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let id = all.deployment.pending("/payments")["id"].as_str().expect("an id").to_owned();
        let out = all.deployment.review("alice", &["approve", &id, "--reason", "CHG-1", "--yes"]);
        assert!(out.status.success(), "{}", text(&out));
        held.wait_with_output().expect("ends").status
    };
    assert!(paid.success());
    assert!(all.curl(&["-X", "DELETE", &format!("{url}/echo")]).ends_with(" 403"));
    let har = all.har();
    let paid = har.iter().find(|entry| entry["_approval"] != "").expect("it was approved");
    let id = |name: &str| paid[name].as_str().expect("a text").to_owned();
    let run = |line: &[&str]| {
        let out = all.deployment.transcripts(line);
        assert!(out.status.success(), "{line:?}: {}", text(&out));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let listed = run(&["list"]);
    assert!(listed.contains("api.test:8443") && listed.contains("http"), "{listed}");
    let every = [
        "list",
        "--agent",
        "probe",
        "--target",
        "api",
        "--since",
        "2h",
        "--until",
        "2999-01-01",
        "--outcome",
        "complete",
        "--limit",
        "1",
        "--json",
    ];
    assert!(run(&every).contains("\"agent\":\"probe\""));
    assert!(run(&["list", "--denied"]).lines().count() > 1);
    for name in ["_flow", "_operation", "_approval", "_digest"] {
        for more in [&[][..], &["--full"], &["--json"]] {
            let shown = run(&[&["show", &id(name)], more].concat());
            assert!(shown.contains("/payments"), "{name}: {shown}");
        }
    }
    assert!(run(&["grep", "\"private\":true"]).contains("request body: {\"private\":true}"));
    assert!(run(&["grep", "PRIVATE", "-i", "--json", "--agent", "probe"]).contains("\"place\""));
    assert!(!all.deployment.transcripts(&["grep", "never said"]).status.success());
    assert!(run(&["export", "--format", "jsonl", "--flow", &id("_flow")]).contains("flow_start"));
    let file = all.world.dir().join("day.har");
    assert_eq!(run(&["export", "--format", "har", "-o", file.to_str().expect("UTF-8")]), "");
    let day = std::fs::read(&file).expect("it was written");
    let day = serde_json::from_slice(&day).expect("JSON");
    assert_eq!(enforcer_tests::har::check(&day), Ok(har.len()));
    let report: serde_json::Value =
        serde_json::from_str(&run(&["verify", "--json"])).expect("JSON");
    run(&["verify", "--key", report["host_key"].as_str().expect("a key")]);
    assert!(!all.deployment.transcripts(&["verify", "--key", &"00".repeat(32)]).status.success());
    assert!(run(&["stats"]).contains("allowed") && run(&["stats", "--json"]).contains("\"flows\""));
}

/// A flood of what the kernel refuses: every refusal is counted once in the kernel and once in the
/// transcripts, in few records, and nothing of it is on the wire. Another agent works meanwhile.
#[test]
fn refused_connects_are_folded_and_none_goes_uncounted() {
    let all = Fixture::start();
    let sniffer = all.world.sniff();
    let flood = format!(
        "import socket\n\
         for n in range(3000):\n\
         \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         \x20   try: s.connect(('{FAR_V4}', 1024 + n)); s.send(b'smuggled'); print('OUT')\n\
         \x20   except OSError: pass\n\
         \x20   s.close()\n"
    );
    let out =
        all.deployment.governed("loud", "python3").args(["-c", &flood]).output().expect("runs");
    assert!(out.status.success() && !text(&out).contains("OUT"), "{}", text(&out));
    assert!(all.curl(&["http://api.test:8080/echo"]).ends_with(" 200"), "another agent works");
    let packets = sniffer.stop();
    let smuggled = |packet: &enforcer_tests::world::Packet| {
        packet.bytes.windows(8).any(|part| part == b"smuggled")
    };
    assert!(!packets.iter().any(smuggled), "a datagram got out");
    let control = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.connect(('{FAR_V4}', 1024)); s.send(b'smuggled')\n"
    );
    // The first datagram waits for the neighbour's address.
    eventually("control: an ungoverned one gets out", Duration::from_secs(20), || {
        let sniffer = all.world.sniff();
        let out = all.world.host.command("python3").args(["-c", &control]).output().expect("runs");
        assert!(out.status.success(), "{}", text(&out));
        sniffer.stop().iter().any(smuggled).then_some(())
    });
    // What waits is counted as recorded; and is recorded within the minute. Refused unix sockets
    // are not of the flood: a shell may ask a name service about itself.
    let recorded = || {
        let out = all
            .deployment
            .transcripts(&["list", "--json", "--limit", "0", "--denied", "--agent", "loud"]);
        let flows: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let flows = flows.as_array().expect("flows").iter();
        let flows: Vec<_> = flows.filter(|flow| flow["transport"] != "unix").cloned().collect();
        let sum: u64 = flows.iter().filter_map(|flow| flow["kernel_refused"].as_u64()).sum();
        (flows.len(), sum)
    };
    let mut last = (0, 0);
    let records = eventually("all are recorded", Duration::from_secs(200), || {
        let (records, sum) = recorded();
        if last != (records, sum) {
            println!("{records} records of {sum} refusals");
            last = (records, sum);
        }
        (sum == 3000).then_some(records)
    });
    assert!(records < 20, "{records} records of 3000 refusals");
    let out = all.deployment.status();
    let status = text(&out);
    assert!(status.contains("loud protocol 3000 since the start, 3000 recorded"), "{status}");
    assert!(!status.contains("WITHOUT A RECORD"), "{status}");
    all.verify();
}

/// A program whose cgroup is gone before the daemon looks is still told of by its agent's name.
#[test]
fn what_a_program_did_is_its_agents_when_it_is_gone() {
    use nix::sys::signal::Signal;
    use std::io::{BufRead as _, BufReader, Write as _};
    let all = Fixture::start();
    let brief = format!(
        "import socket\n\
         print('ready', flush=True); input()\n\
         for n in range(20):\n\
         \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         \x20   try: s.connect(('{FAR_V4}', 1024 + n)); print('OUT')\n\
         \x20   except OSError: pass\n"
    );
    let mut child = all
        .deployment
        .agent("brief", "python3")
        .args(["-c", &brief])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("reads");
    assert_eq!(line, "ready\n");
    all.deployment.signal_daemon(Signal::SIGSTOP);
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("writes");
    assert!(child.wait().expect("ends").success());
    let cgroup = all.deployment.agent_cgroup("brief");
    eventually("its cgroup is gone", Duration::from_secs(10), || (!cgroup.exists()).then_some(()));
    all.deployment.signal_daemon(Signal::SIGCONT);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).expect("reads");
    assert_eq!(rest, "");
    eventually("all are recorded as its", Duration::from_secs(100), || {
        let out = all
            .deployment
            .transcripts(&["list", "--json", "--limit", "0", "--denied", "--agent", "brief"]);
        let flows: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let flows = flows.as_array().expect("flows").iter();
        let udp = flows.filter(|flow| flow["transport"] == "udp");
        let sum: u64 = udp.filter_map(|flow| flow["kernel_refused"].as_u64()).sum();
        (sum == 20).then_some(())
    });
}
