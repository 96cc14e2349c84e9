//! What is read, what is refused, and what the refusals say.

use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::path::Path;

const LEAST: &str = "[host]\nname = \"h1\"\n[[governed]]\ncgroup = \"/agents.slice\"\n\
                     [policy]\ndir = \"/etc/enforcer/policy\"\n";
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

fn problems(text: &str) -> Vec<(Option<usize>, String, String)> {
    match Config::parse(text, &EPHEMERAL) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|p| (p.line, p.key, p.what)).collect(),
    }
}

#[test]
fn the_least_configuration_is_complete() {
    let config = Config::parse(LEAST, &EPHEMERAL).unwrap();
    assert_eq!(config.host_name(), "h1");
    assert_eq!(config.ca_dir(), Path::new("/var/lib/enforcer"));
    assert_eq!(config.transcript_dir(), Path::new("/var/lib/enforcer/transcripts"));
    assert_eq!(config.identity_dir(), Path::new("/var/lib/enforcer/server"));
    assert_eq!(config.control_socket(), Path::new("/run/enforcer/control.sock"));
    assert_eq!(config.names_file(), Path::new("/var/lib/enforcer/names"));
    assert_eq!(config.run_cgroup(), Some("/agents.slice"));
}

/// `added` goes after the six lines of [`LEAST`]; `line` counts from 1.
#[rstest]
#[case("[proxy]\nprot = 1", 8, "proxy.prot", "unknown field `prot`, expected `port` or `dns_port`")]
#[case("[transcript]\nagent_share = 0", 8, "transcript.agent_share", "1 to 100")]
#[case("[transcript]\nagent_share = 101", 8, "transcript.agent_share", "1 to 100")]
#[case("[server]\nurl = \"https://a.example:1\"\n[policy]", 9, "", "duplicate key")]
#[case("[proxies]", 7, "proxies", "unknown field `proxies`")]
#[case("[proxy]\nport = \"x\"", 8, "proxy.port", "invalid type: string")]
#[case("[proxy]\nport = 70000", 8, "proxy.port", "expected u16")]
#[case("[proxy]\nport = 40000", 8, "proxy.port", "choose a port outside")]
#[case("[proxy]\nport = 0", 8, "proxy.port", "choose a fixed port")]
#[case("[proxy]\nport = 15053", 7, "proxy.dns_port", "must differ")]
#[case("[proxy]\nport = 15054\ndns_port = 15054", 9, "proxy.dns_port", "must differ")]
#[case("[host]", 7, "", "duplicate key")]
#[case("[proxy", 7, "proxy", "")]
#[case("[kernel]\nrequire = [\"unix\", \"moon\"]", 8, "kernel.require[1]", "\"unix\" and \"lsm\"")]
#[case(
    "[kernel]\nunix_sockets = [\"/run/a.sock\", \"run/b\"]",
    8,
    "kernel.unix_sockets[1]",
    "absolute path"
)]
#[case(
    "[kernel]\nmax_flows = 8\nmax_flows_per_agent = 9",
    9,
    "kernel.max_flows_per_agent",
    "must be 1 to"
)]
#[case("[kernel]\nmax_flows = 0", 8, "kernel.max_flows", "must be 1 to")]
#[case("[kernel]\nheartbeat_limit_ms = 5", 8, "kernel.heartbeat_limit_ms", "100 to 60000")]
#[case("[kernel]\npin_dir = \"bpf\"", 8, "kernel.pin_dir", "absolute path")]
#[case("[[governed]]\ncgroup = \"/\"", 8, "governed[1].cgroup", "not the root")]
#[case("[[governed]]\ncgroup = \"agents\"", 8, "governed[1].cgroup", "starts with `/`")]
#[case("[[governed]]\ncgroup = \"/a/../b\"", 8, "governed[1].cgroup", "below the cgroup2 mount")]
#[case("[[governed]]\ncgroup = \"/agents.slice/x\"", 8, "governed[1].cgroup", "overlap")]
#[case("[[governed]]\ncgroup = \"/agents.slice\"", 8, "governed[1].cgroup", "overlap")]
#[case("[resolver]\nupstream = [\"192.0.2.1\"]", 8, "resolver.upstream", "invalid socket address")]
#[case(
    "[resolver]\nupstream = [\"192.0.2.1:53\", \"127.0.0.1:15053\"]",
    8,
    "resolver.upstream[1]",
    "no name server"
)]
#[case(
    "[resolver]\nsynthetic_v4 = \"198.18.0.1/15\"",
    8,
    "resolver.synthetic_v4",
    "without host bits"
)]
#[case("[resolver]\nsynthetic_v4 = \"127.0.0.0/8\"", 8, "resolver.synthetic_v4", "198.18.0.0/15")]
#[case("[resolver]\nsynthetic_v6 = \"fd00::/112\"", 8, "resolver.synthetic_v6", "/16 to /96")]
#[case(
    "[resolver.hosts]\n\"127.1\" = [\"10.0.0.1\"]",
    8,
    "resolver.hosts.127.1",
    "read as an address"
)]
#[case("[resolver.hosts]\n\"a.b\" = []", 8, "resolver.hosts.a.b", "no address")]
#[case("[tls]\nsystem_roots = false", 8, "tls.system_roots", "name a root")]
#[case("[tls]\nextra_roots = [\"ca.pem\"]", 8, "tls.extra_roots[0]", "absolute")]
#[case("[server]\nurl = \"http://approve.example:9443\"", 8, "server.url", "https://host:port")]
#[case("[server]\nurl = \"https://approve.example:9443/x\"", 8, "server.url", "nothing more")]
#[case("[server]\nurl = \"approve\"", 8, "server.url", "https://host:port")]
#[case("[server]\nidentity_dir = \"/x\"", 7, "server", "missing field `url`")]
#[case("[transcript]\nsync = \"never\"", 8, "transcript.sync", "`always`, `approved`, `interval`")]
#[case("[limits]\nheld = 0", 8, "limits.held", "at least 1")]
#[case(
    "[limits]\nheld = 10\nheld_per_agent = 11",
    9,
    "limits.held_per_agent",
    "more than limits.held (10)"
)]
#[case("[limits]\nidle_ms = 0", 8, "limits.idle_ms", "milliseconds")]
#[case("[limits]\nnames_per_agent = 1000000", 8, "limits.names_per_agent", "131072 addresses")]
#[case("[limits]\nconnections = -1", 8, "limits.connections", "invalid value")]
#[case("[run]\nuser = \"root\"", 8, "run.user", "other than root")]
#[case("[run]\ncgroup = \"/other\"", 8, "run.cgroup", "is not governed")]
#[case("[metrics]\nlisten = \"127.0.0.1:15001\"", 8, "metrics.listen", "the proxy's own")]
fn a_wrong_value_is_named_with_its_line(
    #[case] added: &str,
    #[case] line: usize,
    #[case] key: &str,
    #[case] what: &str,
) {
    let text = format!("{LEAST}{added}\n");
    let found = problems(&text);
    let hit = found
        .iter()
        .any(|(at, k, w)| *at == Some(line) && (key.is_empty() || k == key) && w.contains(what));
    assert!(hit, "{found:#?}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_order() {
    let text = format!(
        "{LEAST}[proxy]\nport = 40000\ndns_port = 40001\n[limits]\nheld = 0\nheld_per_agent = 0\n"
    );
    let found = problems(&text);
    let lines: Vec<_> = found.iter().map(|(line, ..)| line.unwrap()).collect();
    assert_eq!(lines, [8, 9, 11, 12], "{found:#?}");
}

#[test]
fn an_error_reads_as_file_line_key_and_what() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("enforcer.toml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(path.to_str().unwrap()) && error.contains("cannot be read"),
        "{error}"
    );
    std::fs::write(&path, format!("{LEAST}[run]\nuser = \"root\"\n")).unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    let expected = format!(
        "{}:8: run.user: \"root\" must be the name of a user other than root",
        path.display()
    );
    assert_eq!(error, expected);
    std::fs::write(&path, LEAST.replace("name = \"h1\"\n", "")).unwrap();
    assert_ne!(Config::load(&path).unwrap().host_name(), "");
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert!(Config::load(&path).is_err());
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("larger"));
}

#[test]
fn policy_comes_from_one_place() {
    let least = LEAST.split("[policy]").next().unwrap();
    let server = "[server]\nurl = \"https://approve.example:9443\"\n";
    let cases = [
        ("[policy]\ndir = \"/p\"\n", None),
        ("[policy]\nsource = \"local\"\ndir = \"/p\"\n", None),
        ("[policy]\nsource = \"server\"\n", None),
        ("[policy]\nsource = \"server\"\nmax_age_seconds = 60\n", None),
        ("[policy]\nsource = \"server\"\nmax_age_seconds = 59\n", Some("60 to 2592000")),
        ("[policy]\nsource = \"server\"\nmax_age_seconds = 2592001\n", Some("60 to 2592000")),
        ("[policy]\nsource = \"server\"\nsecrets_dirs = []\nsecrets_env = [\"A\"]\n", None),
        (
            "[policy]\nsource = \"server\"\nsecrets_dirs = [\"/a/../b\"]\n",
            Some("absolute path without"),
        ),
        ("[policy]\nsource = \"server\"\nsecrets_env = [\"A=b\"]\n", Some("name of a variable")),
        ("[policy]\nsource = \"server\"\ndir = \"/p\"\n", Some("remove one of them")),
        ("[policy]\n", Some("name the bundle's directory")),
        ("[policy]\nsource = \"local\"\n", Some("name the bundle's directory")),
        ("[policy]\nsource = \"git\"\n", Some("`local`")),
    ];
    for (policy, wrong) in cases {
        let found = problems(&format!("{least}{server}{policy}"));
        match wrong {
            None => assert!(found.is_empty(), "{policy}: {found:#?}"),
            Some(what) => {
                assert!(found.iter().any(|(.., w)| w.contains(what)), "{policy}: {found:#?}")
            }
        }
    }
    let found = problems(&format!("{least}[policy]\nsource = \"server\"\n"));
    assert!(found[0].2.contains("there is no [server]"), "{found:#?}");
}

#[test]
fn nothing_governed_is_an_error() {
    let text = "governed = []\n[host]\n[policy]\ndir = \"/p\"\n";
    assert_eq!(problems(text)[0].1, "governed");
    let text = "[host]\n[policy]\ndir = \"/p\"\n";
    assert!(problems(text)[0].2.contains("missing field `governed`"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        for problem in Config::parse(&text, &EPHEMERAL).err().into_iter().flatten() {
            prop_assert!(!problem.what.is_empty());
        }
    }

    #[test]
    fn a_changed_configuration_never_panics(at in 0_usize..300, with in "\\PC{0,4}") {
        let mut text = format!("{LEAST}[proxy]\nport = 15001\n[resolver]\nhosts = {{ \"a.example\" = [\"::1\"] }}\n");
        let mut at = at % text.len();
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &with);
        let _ = Config::parse(&text, &EPHEMERAL);
    }
}
