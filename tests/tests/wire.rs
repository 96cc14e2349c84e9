//! What the transcript says is what the wire saw, and what the origin got.

use enforcer_tests::fixture::{Fixture, text};
use std::collections::BTreeMap;

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
