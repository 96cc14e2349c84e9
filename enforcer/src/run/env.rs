//! The environment that a governed program starts with: the caller's, with the
//! trust variables set, proxy variables taken out, and the home of the user it
//! runs as. Pure; what it returns is what the program sees.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Clients that replace the system's roots by this file: they get system roots and our CA.
///
/// OpenSSL (and Python's ssl), curl, Python requests, git, pip, AWS SDKs, cargo,
/// Bundler, npm, gRPC's C core, httplib2, the Google Cloud SDK, nixpkgs' OpenSSL, and what reads
/// PostgreSQL's variables (libpq, asyncpg).
pub const COMBINED: [&str; 14] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "BUNDLE_SSL_CA_CERT",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "PGSSLROOTCERT",
];

/// Clients that add this file to their own roots: they get our CA alone.
pub const ADDED: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Variables that would send a client to a proxy of its own. The kernel brings
/// every connection to ours, and a second proxy would only be asked for as a
/// destination.
const PROXIES: [&str; 12] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "rsync_proxy",
    "npm_config_proxy",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
    "npm_config_noproxy",
    "cargo_http_proxy",
    "pip_proxy",
];

/// Variables by which one user's session is known; they change with the user.
const IDENTITY: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];

/// Whose environment it becomes.
#[derive(Clone, Debug)]
pub struct Who<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The task; empty for none.
    pub task: &'a str,
    /// Login name, home directory and shell when the program runs as another user than the caller.
    pub other_user: Option<(&'a str, &'a Path, &'a Path)>,
}

/// The trust files as the program sees them.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// System roots and our CA.
    pub bundle: &'a Path,
    /// Our CA alone.
    pub ca: &'a Path,
}

/// The program's environment, sorted. Entries without a name or with a NUL are
/// left out; of a name that comes twice the first counts, as in `getenv`.
pub fn compute(caller: &[Vec<u8>], who: &Who<'_>, trust: Trust<'_>) -> Vec<Vec<u8>> {
    let mut env: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for entry in caller {
        let Some(at) = entry.iter().position(|b| *b == b'=') else {
            continue;
        };
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        if name.is_empty() || entry.contains(&0) || is_proxy(name) {
            continue;
        }
        env.entry(name.to_vec()).or_insert_with(|| value.to_vec());
    }
    let mut set = |name: &str, value: &[u8]| {
        env.insert(name.as_bytes().to_vec(), value.to_vec());
    };
    for name in COMBINED {
        set(name, trust.bundle.as_os_str().as_bytes());
    }
    for name in ADDED {
        set(name, trust.ca.as_os_str().as_bytes());
    }
    set("ENFORCER_AGENT", who.agent.as_bytes());
    if let Some((login, home, shell)) = who.other_user {
        let values = [
            home.as_os_str().as_bytes(),
            login.as_bytes(),
            login.as_bytes(),
            shell.as_os_str().as_bytes(),
        ];
        for (name, value) in IDENTITY.into_iter().zip(values) {
            set(name, value);
        }
    }
    if who.task.is_empty() {
        env.remove(b"ENFORCER_TASK".as_slice());
    } else {
        env.insert(b"ENFORCER_TASK".to_vec(), who.task.as_bytes().to_vec());
    }
    env.into_iter()
        .map(|(mut name, value)| {
            name.push(b'=');
            name.extend_from_slice(&value);
            name
        })
        .collect()
}

fn is_proxy(name: &[u8]) -> bool {
    PROXIES.iter().any(|proxy| proxy.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(caller: &[&str], task: &str, other: bool) -> Vec<String> {
        let caller: Vec<Vec<u8>> = caller.iter().map(|e| e.as_bytes().to_vec()).collect();
        let who = Who {
            agent: "bot",
            task,
            other_user: other.then_some(("agent", Path::new("/srv/agent"), Path::new("/bin/sh"))),
        };
        let trust = Trust {
            bundle: Path::new("/run/e/trust/bundle.pem"),
            ca: Path::new("/run/e/trust/ca.pem"),
        };
        compute(&caller, &who, trust).into_iter().map(|e| String::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn trust_is_set_over_what_the_caller_had() {
        let env = computed(&["SSL_CERT_FILE=/etc/other.pem", "PATH=/bin"], "", false);
        for name in COMBINED {
            assert!(env.contains(&format!("{name}=/run/e/trust/bundle.pem")), "{name}");
        }
        for name in ADDED {
            assert!(env.contains(&format!("{name}=/run/e/trust/ca.pem")), "{name}");
        }
        assert!(env.contains(&"PATH=/bin".to_owned()));
        assert_eq!(env.iter().filter(|e| e.starts_with("SSL_CERT_FILE=")).count(), 1);
    }

    #[test]
    fn proxies_go_in_every_spelling() {
        let env = computed(
            &["http_proxy=a", "HTTPS_PROXY=b", "No_Proxy=c", "ALL_PROXY=d", "MY_PROXY_NOTE=e"],
            "",
            false,
        );
        assert!(!env.iter().any(|e| e.to_lowercase().contains("http_proxy=")));
        assert!(!env.iter().any(|e| e.to_lowercase().starts_with("https_proxy")));
        assert!(!env.iter().any(|e| e.to_lowercase().starts_with("no_proxy")));
        assert!(!env.iter().any(|e| e.to_lowercase().starts_with("all_proxy")));
        assert!(env.contains(&"MY_PROXY_NOTE=e".to_owned()));
    }

    #[test]
    fn what_the_caller_says_of_agent_and_task_does_not_count() {
        let env = computed(&["ENFORCER_AGENT=root", "ENFORCER_TASK=t"], "", false);
        assert!(env.contains(&"ENFORCER_AGENT=bot".to_owned()));
        assert!(!env.iter().any(|e| e.starts_with("ENFORCER_TASK=")));
        let env = computed(&[], "deploy", false);
        assert!(env.contains(&"ENFORCER_TASK=deploy".to_owned()));
    }

    #[test]
    fn home_follows_the_user_only_when_it_changes() {
        let caller = ["HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/zsh"];
        assert!(computed(&caller, "", false).contains(&"HOME=/root".to_owned()));
        let env = computed(&caller, "", true);
        for entry in ["HOME=/srv/agent", "USER=agent", "LOGNAME=agent", "SHELL=/bin/sh"] {
            assert!(env.contains(&entry.to_owned()), "{entry}");
        }
    }

    #[test]
    fn entries_that_are_no_variables_are_left_out() {
        let env = computed(&["=x", "NOTHING", "A=1", "A=2", "B=a\0b", "C="], "", false);
        assert!(env.contains(&"A=1".to_owned()) && env.contains(&"C=".to_owned()));
        assert!(!env.iter().any(|e| e.starts_with('=') || e.starts_with("B=") || e == "A=2"));
    }
}
