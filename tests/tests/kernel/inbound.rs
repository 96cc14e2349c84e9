//! Nobody fetches from an agent: not over the wire, not from the same host.

use enforcer_tests::probe::{Bench, DEADLINE, said};
use enforcer_tests::wait::eventually;
use std::process::{Command, Stdio};

/// Listens, says so in a file, and tells what it accepted until the file is gone.
fn listen(file: &str, family: &str, address: &str) -> String {
    format!(
        "
s = socket({family}); s.setsockopt(1, 2, 1); s.bind(({address:?}, 7777)); s.listen(); s.settimeout(0.2)
open({file:?}, 'w').close()
came = 'timeout'
while came == 'timeout' and os.path.exists({file:?}): came = attempt(lambda: s.accept())
if came == 'timeout': came = attempt(lambda: s.accept())
print(came)
"
    )
}

fn while_listening(mut server: Command, file: &str, act: impl FnOnce() -> String) -> [String; 2] {
    let _old = std::fs::remove_file(file);
    let child = server.stdout(Stdio::piped()).spawn().expect("the listener starts");
    eventually("the listener listens", DEADLINE, || std::fs::metadata(file).ok());
    let acted = act();
    std::fs::remove_file(file).expect("its mark");
    let out = child.wait_with_output().expect("its words");
    [acted, String::from_utf8_lossy(&out.stdout).trim().to_owned()]
}

#[test]
fn a_listener_is_out_of_reach() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    let file = format!("/tmp/{}", bench.root().file_name().unwrap().display());
    let connect = |host: &str| {
        format!("setdefaulttimeout(1); print(attempt(lambda: create_connection(({host:?}, 7777))))")
    };
    for (family, bound, host, far) in [
        ("AF_INET", "0.0.0.0", "10.77.0.1", true),
        ("AF_INET6", "::", "fd77::1", true),
        ("AF_INET", "127.0.0.1", "127.0.0.1", false),
        ("AF_INET6", "::", "::1", false),
    ] {
        let reach =
            || said(&mut if far { bench.far(&connect(host)) } else { bench.free(&connect(host)) });
        let code = listen(&file, family, bound);
        let [reached, accepted] = while_listening(bench.governed("a", &code), &file, reach);
        assert_ne!(reached, "ok", "{host}");
        assert_eq!(accepted, "timeout", "{host}");
        let [reached, accepted] = while_listening(bench.free(&code), &file, reach);
        assert_eq!([reached, accepted], ["ok", "ok"], "{host}: the free listener is reached");
    }
}
