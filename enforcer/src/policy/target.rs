//! Targets: the named things that policy knows (`targets.toml`).
//!
//! Owns what a target may say. Which target a name or an address means is
//! decided in [`super::index`]; whether an address may be dialled is not decided here.

use super::inject::{self, InjectHeader};
use super::postgres::{self, Postgres};
use super::problem::{Problems, Source};
use super::read::{self, At, Fields};
use crate::operation::Protocol;
use ipnet::IpNet;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// The file that names them.
pub(super) const FILE: &str = "targets.toml";

/// How long a needs-approval operation is held when the target does not say.
const HOLD: Duration = Duration::from_secs(60);

/// The longest hold: past it every known client has given up.
const HOLD_MAX: Duration = Duration::from_secs(3_600);

/// Headers that can change what a request does and so always enter the digest.
const NEVER_IGNORED: [&str; 12] = [
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// A named thing that policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in rules, approvals and transcripts.
    pub name: String,
    /// Host names that mean it.
    pub names: Vec<NamePattern>,
    /// Address blocks that mean it, and that the dialer may reach for it even when private.
    pub addresses: Vec<IpNet>,
    /// Address blocks that its names may resolve to beside `addresses`, also private ones. They
    /// mean no target, so that several targets can share them.
    pub resolves_to: Vec<IpNet>,
    /// Its ports; empty: any.
    pub ports: Vec<u16>,
    /// What it speaks: [`Protocol::Http`], [`Protocol::Postgres`] or [`Protocol::Opaque`].
    pub protocol: Protocol,
    /// Whether it takes gRPC calls besides other HTTP (`protocol = "grpc"`).
    pub grpc: bool,
    /// Tags, for rules and masks that mean several targets.
    pub tags: Vec<String>,
    /// How long a needs-approval operation is held before it is refused with the approval's id.
    pub hold: Duration,
    /// Whether TLS is opened.
    pub tls: TlsMode,
    /// Request headers (lower case) left out of the digest; they are recorded all the same.
    pub ignore_headers: Vec<String>,
    /// Headers that the proxy sets upstream, with credentials that the agent never holds.
    pub inject: Vec<InjectHeader>,
    /// What a target of [`Protocol::Postgres`] says beside; there for these only.
    pub postgres: Option<Postgres>,
}

impl Target {
    /// Whether one of its ports is `port`.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// Whether TLS to a target is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// The proxy ends TLS on both sides and sees every operation.
    Inspect,
    /// Bytes are carried uninspected; only where the target says so, and recorded as such.
    Passthrough,
}

/// A host name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name alone.
    Exact(String),
    /// Every name below this one, at any depth, but not the name itself: `*.example.com`.
    Below(String),
}

impl NamePattern {
    /// Whether it means `name` (lower case, without a trailing dot).
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => name
                .strip_suffix(suffix.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A target with where its parts were written.
pub(super) struct Written {
    pub(super) target: Target,
    pub(super) span: Range<usize>,
}

/// Reads `targets.toml`.
pub(super) fn read(source: &Source<'_>, problems: &mut Problems) -> Vec<Written> {
    let root = read::parse(source, problems);
    let mut fields = Fields::new(source, root.get_ref(), 0..0);
    let mut all = Vec::new();
    let mut taken = Taken::default();
    for entry in fields.tables("target", problems) {
        if let Some(written) = target(entry, &mut taken, problems) {
            all.push(written);
        }
    }
    fields.finish(problems);
    all
}

/// What earlier targets in the file claimed, with the claiming target and its ports.
#[derive(Default)]
struct Taken {
    targets: HashMap<String, ()>,
    names: HashMap<NamePattern, Vec<(String, Vec<u16>)>>,
    addresses: HashMap<IpNet, Vec<(String, Vec<u16>)>>,
}

fn target(mut entry: Fields<'_>, taken: &mut Taken, problems: &mut Problems) -> Option<Written> {
    let source = entry.source();
    let name = entry.required("name", problems);
    let names = entry.texts("names", problems);
    let addresses = entry.texts("addresses", problems);
    let resolves_to = entry.texts("resolves_to", problems);
    let ports = ports(&mut entry, problems);
    let protocols = [
        ("http", (Protocol::Http, false)),
        ("grpc", (Protocol::Http, true)),
        ("postgres", (Protocol::Postgres, false)),
        ("opaque", (Protocol::Opaque, false)),
    ];
    let (protocol, grpc) =
        entry.word("protocol", &protocols, problems).map_or((Protocol::Http, false), |at| at.value);
    let tls = entry.word(
        "tls",
        &[("inspect", TlsMode::Inspect), ("passthrough", TlsMode::Passthrough)],
        problems,
    );
    let tags = tags(&mut entry, problems);
    let hold = entry.duration("hold", Duration::ZERO..=HOLD_MAX, problems).unwrap_or(HOLD);
    let ignored = entry.texts("ignore_headers", problems);
    let injected = entry.tables("inject", problems);
    let postgres = entry.table("postgres", problems);
    let place = entry.place();

    let name = name.and_then(|at| identifier("target", source, &at, problems))?;
    if taken.targets.insert(name.clone(), ()).is_some() {
        problems.error(
            place,
            format!("target `{name}` is there twice"),
            "give each target its own name, or put names and addresses into one",
        );
    }
    if names.is_empty() && addresses.is_empty() {
        problems.error(
            place,
            format!("target `{name}` has neither names nor addresses, so nothing can mean it"),
            "add `names = [\"api.example.com\"]` or `addresses = [\"10.0.0.0/24\"]`",
        );
    }
    if names.is_empty()
        && let Some(first) = resolves_to.first()
    {
        problems.error(
            (source, &first.span),
            format!("target `{name}` has no names, so nothing resolves to `resolves_to`"),
            "add `names`, or put the blocks into `addresses` when agents dial them directly",
        );
    }
    let tls = tls_mode(&name, protocol, tls, place, problems);
    if protocol != Protocol::Http {
        let of_http = [("ignore_headers", !ignored.is_empty()), ("inject", !injected.is_empty())];
        for (key, _) in of_http.iter().filter(|(_, present)| *present) {
            problems.error(
                place,
                match protocol {
                    Protocol::Opaque => {
                        format!("target `{name}` is opaque, so `{key}` does nothing")
                    }
                    _ => format!(
                        "target `{name}` speaks {}, so `{key}` does nothing",
                        protocol.as_str()
                    ),
                },
                format!("remove `{key}`, or make it `protocol = \"http\"`"),
            );
        }
    }
    let speaks = protocol == Protocol::Postgres;
    let table = postgres.as_ref().map(|table| table.place().1.clone());
    postgres::check(&name, speaks, table.as_ref(), place, problems);
    let names = patterns(source, &name, &names, &ports, taken, problems);
    let addresses = claimed_blocks(source, &name, &addresses, &ports, taken, problems);
    let resolves_to = resolves_to.iter().filter_map(|at| block(source, at, problems)).collect();
    let target = Target {
        names,
        addresses,
        resolves_to,
        protocol,
        grpc,
        tags,
        hold,
        tls,
        ignore_headers: ignored_headers(source, &ignored, problems),
        inject: inject::read(injected, problems),
        postgres: postgres.map(|table| postgres::read(table, &name, problems)).filter(|_| speaks),
        name,
        ports,
    };
    let span = place.1.clone();
    entry.finish(problems);
    Some(Written { target, span })
}

fn tls_mode(
    name: &str,
    protocol: Protocol,
    tls: Option<At<TlsMode>>,
    place: (&Source<'_>, &Range<usize>),
    problems: &mut Problems,
) -> TlsMode {
    let mode = tls.as_ref().map(|at| at.value);
    let place = (place.0, tls.as_ref().map_or(place.1, |at| &at.span));
    match (protocol, mode) {
        (Protocol::Opaque, Some(TlsMode::Passthrough)) => TlsMode::Passthrough,
        (Protocol::Opaque, _) => {
            problems.error(
                place,
                format!("target `{name}` is opaque, so nothing in it is inspected, masked or recorded in parts"),
                "say so with `tls = \"passthrough\"`",
            );
            TlsMode::Passthrough
        }
        (_, Some(TlsMode::Passthrough)) => {
            problems.error(
                place,
                format!(
                    "target `{name}` speaks {}, which cannot be read through TLS that is not opened",
                    protocol.as_str()
                ),
                "use `tls = \"inspect\"`, or `protocol = \"opaque\"` when it shall not be inspected",
            );
            TlsMode::Inspect
        }
        _ => TlsMode::Inspect,
    }
}

fn ports(entry: &mut Fields<'_>, problems: &mut Problems) -> Vec<u16> {
    let mut ports: Vec<u16> = entry
        .numbers("ports", 1..=65_535, problems)
        .into_iter()
        .filter_map(|at| u16::try_from(at.value).ok())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn tags(entry: &mut Fields<'_>, problems: &mut Problems) -> Vec<String> {
    let source = entry.source();
    let mut tags: Vec<String> = entry
        .texts("tags", problems)
        .iter()
        .filter_map(|at| identifier("tag", source, at, problems))
        .collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// A name of a target, tag, scope, rule or mask: short, printable, without quotes or spaces.
pub(super) fn identifier(
    what: &str,
    source: &Source<'_>,
    at: &At<&str>,
    problems: &mut Problems,
) -> Option<String> {
    if is_identifier(at.value) {
        return Some(at.value.to_owned());
    }
    problems.error(
        (source, &at.span),
        format!("{:?} cannot be the name of a {what}", at.value),
        "use 1 to 128 of the characters A-Z a-z 0-9 . _ : / -",
    );
    None
}

/// Whether a text can name a target, tag, scope, rule or mask.
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

fn patterns(
    source: &Source<'_>,
    target: &str,
    names: &[At<&str>],
    ports: &[u16],
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<NamePattern> {
    let mut patterns = Vec::new();
    for at in names {
        let pattern = match pattern(at.value) {
            Ok(pattern) => pattern,
            Err((what, help)) => {
                problems.error((source, &at.span), what, help);
                continue;
            }
        };
        if let NamePattern::Below(suffix) = &pattern
            && !suffix.contains('.')
        {
            problems.warning(
                (source, &at.span),
                format!("`*.{suffix}` means every name below a top-level domain"),
                "name the domains that are meant",
            );
        }
        claim(
            (source, &at.span),
            taken.names.entry(pattern.clone()).or_default(),
            (target, ports),
            (at.value, "let each name and port mean one target; add or change `ports`"),
            problems,
        );
        patterns.push(pattern);
    }
    patterns
}

fn pattern(text: &str) -> Result<NamePattern, (String, String)> {
    let name = text.to_ascii_lowercase();
    let (below, host) = match name.strip_prefix("*.") {
        Some(suffix) => (true, suffix),
        None => (false, name.as_str()),
    };
    let bad = |help: &str| Err((format!("{text:?} is not a host name"), help.to_owned()));
    if host.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return bad("put addresses in `addresses`");
    }
    if host.contains(':') || host.contains('/') {
        return bad("give the name alone; ports go in `ports`, paths in rules");
    }
    if host.contains('*') {
        return bad("a `*` can only be the first label: `*.example.com`");
    }
    if !host.is_ascii() {
        return bad("write the name in its ASCII form (xn--...)");
    }
    if host.ends_with('.') {
        return bad("leave the trailing dot out");
    }
    let labels_fit = host.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if host.len() > 253 || !labels_fit {
        return bad("labels have 1 to 63 letters, digits, `-` or `_`; 253 in all");
    }
    let host = host.to_owned();
    Ok(if below { NamePattern::Below(host) } else { NamePattern::Exact(host) })
}

fn claimed_blocks(
    source: &Source<'_>,
    target: &str,
    addresses: &[At<&str>],
    ports: &[u16],
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<IpNet> {
    let mut blocks = Vec::new();
    for at in addresses {
        let Some(net) = block(source, at, problems) else { continue };
        claim(
            (source, &at.span),
            taken.addresses.entry(net).or_default(),
            (target, ports),
            (
                at.value,
                "let each address and port mean one target; add or change `ports`, or put blocks \
                 that only names lead to into `resolves_to`, which targets can share",
            ),
            problems,
        );
        blocks.push(net);
    }
    blocks
}

/// An address or block as it is meant.
fn block(source: &Source<'_>, at: &At<&str>, problems: &mut Problems) -> Option<IpNet> {
    let place = (source, &at.span);
    let parsed = at.value.parse::<IpNet>().or_else(|_| at.value.parse::<IpAddr>().map(IpNet::from));
    let Ok(net) = parsed else {
        problems.error(
            place,
            format!("{:?} is not an address or block", at.value),
            "write `10.1.2.3`, `10.1.0.0/16` or `2001:db8::/32`",
        );
        return None;
    };
    if net != net.trunc() {
        problems.error(
            place,
            format!("{net} has bits set behind its length"),
            format!("write {}, or {}", net.trunc(), net.addr()),
        );
        return None;
    }
    if let IpNet::V6(v6) = net
        && v6.network().to_ipv4_mapped().is_some()
    {
        problems.error(
            place,
            format!("{net} is an IPv4 address in IPv6 clothes"),
            "write the IPv4 address; both forms are treated alike",
        );
        return None;
    }
    let wide = match net {
        IpNet::V4(v4) => v4.prefix_len() < 8,
        IpNet::V6(v6) => v6.prefix_len() < 16,
    };
    if wide {
        problems.warning(
            place,
            format!(
                "{net} holds private, link-local and metadata addresses and opens none of them"
            ),
            "name the blocks that are meant",
        );
    }
    Some(net)
}

/// Notes that a target claims a name or block, and reports another that does on the same port.
fn claim(
    place: (&Source<'_>, &Range<usize>),
    claims: &mut Vec<(String, Vec<u16>)>,
    (target, ports): (&str, &[u16]),
    (what, help): (&str, &str),
    problems: &mut Problems,
) {
    let overlap = |theirs: &[u16]| {
        theirs.is_empty() || ports.is_empty() || theirs.iter().any(|port| ports.contains(port))
    };
    if let Some((other, _)) = claims.iter().find(|(_, theirs)| overlap(theirs)) {
        let what = if other == target {
            format!("target `{target}` names {what} twice")
        } else {
            format!("{what} means target `{other}` and target `{target}` on the same port")
        };
        problems.error(place, what, help);
    }
    claims.push((target.to_owned(), ports.to_vec()));
}

fn ignored_headers(
    source: &Source<'_>,
    headers: &[At<&str>],
    problems: &mut Problems,
) -> Vec<String> {
    let mut ignored = Vec::new();
    for at in headers {
        let name = at.value.to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            problems.error(
                (source, &at.span),
                format!("{:?} is not a header name", at.value),
                "use letters, digits and `-`",
            );
        } else if NEVER_IGNORED.contains(&name.as_str()) {
            problems.error(
                (source, &at.span),
                format!(
                    "`{name}` changes what a request does, so it cannot be left out of the digest"
                ),
                "remove it from `ignore_headers`",
            );
        } else {
            ignored.push(name);
        }
    }
    ignored.sort_unstable();
    ignored.dedup();
    ignored
}
