//! Every reason that a refusal over HTTP can have, for the agent that reads one: the one list that
//! the manifest is made of. A test holds it against the code.

/// The stable codes, in ascending order, and what they mean to an agent.
pub(super) const REASONS: &[(&str, &str)] = &[
    ("address-forbidden", "the name leads to an address that policy does not name for it"),
    ("approval-cancelled", "the request for approval was withdrawn; the same request asks anew"),
    ("approval-denied", "people said no; the detail says why"),
    ("approval-expired", "nobody decided in time; the same request asks anew"),
    ("approval-mismatch", "the approval is for another request; the same request asks anew"),
    (
        "approval-pending",
        "people were asked; send the same request again later, or follow status_url",
    ),
    ("approval-protocol", "the approval server's answer made no sense; send it again later"),
    ("approval-refused", "the approval server takes no such request; the detail says why"),
    ("approval-revoked", "the approval was taken back"),
    ("approval-spent", "others used the approval first; the same request asks anew"),
    ("approval-unknown", "the approval server no longer knows the request; send it again"),
    ("bad-grpc-path", "a gRPC path is /package.Service/Method"),
    ("bad-host", "Host or :authority is no host name or address with a port"),
    ("bad-hosts", "allowed, but this host's resolver is not set up for the name"),
    ("bad-name", "allowed, but the name cannot be resolved"),
    ("body-broken", "the request body broke off or was malformed"),
    ("body-not-read", "policy changed while the body was sent; send the request again"),
    ("body-timeout", "the request body did not arrive in time"),
    ("body-too-large", "people cannot be shown so large a body; send less"),
    ("body-trailers", "a request body must not end with trailers; send them as headers"),
    ("cancelled", "the client closed its connection"),
    ("connect-refused", "CONNECT is refused; connect to the target directly"),
    ("connection-names-header", "Connection must not name end-to-end headers"),
    ("connection-refused", "allowed, but the upstream takes no connection"),
    ("dial-failed", "allowed, but the upstream cannot be reached"),
    ("dial-timeout", "allowed, but the upstream did not answer in time"),
    ("header-character", "a header has bytes that are no text"),
    (
        "header-underscore",
        "a header's name has `_` where some servers read `-`; write the name that is meant",
    ),
    ("held-limit", "too many requests wait for people; send it again later"),
    ("host-differs", "Host and the request's target must be the same"),
    ("internal", "allowed, but something is wrong on this host; tell its operator"),
    ("method-override", "send the method that is meant, not a header that overrides it"),
    ("name-mismatch", "Host, TLS name and address must be the same"),
    ("no-address", "allowed, but the name has no address"),
    ("no-approval-server", "this needs approval, and this host has no approval server"),
    ("no-host", "the request names no host"),
    ("no-name-servers", "allowed, but this host has no name servers"),
    ("no-policy", "the daemon is stopping; send it again later"),
    ("no-such-name", "allowed, but the name does not exist"),
    (
        "not-sendable",
        "the request could not be made (a credential may be missing, or policy just changed)",
    ),
    ("own-port", "the name leads to this host's own proxy"),
    ("path-character", "the path has a character that must be percent-encoded"),
    ("path-dot-segments", "the path has `.` or `..` segments; send it without"),
    ("path-encoding", "the path encodes what needs no encoding, or encodes it wrongly"),
    ("path-form", "the path must begin with `/`, and `*` is for OPTIONS"),
    ("policy", "no rule allows this, or a rule forbids it; do something else"),
    (
        "policy-expired",
        "this host's policy was not confirmed by its server for too long; tell its operator",
    ),
    ("policy-missing", "this host has no policy from its server yet; send it again later"),
    ("port-mismatch", "Host names another port than the connection was made to"),
    ("record-failed", "the operation could not be recorded on this host; send it again later"),
    ("resolve-failed", "allowed, but the name could not be resolved"),
    ("resolve-timeout", "allowed, but the name was not resolved in time"),
    ("scheme-mismatch", "the request's scheme is not that of its connection"),
    ("server-unreachable", "the approval server cannot be reached; send it again later"),
    ("trace-refused", "TRACE is refused: it echoes credentials"),
    ("transcript-closed", "the operation could not be recorded; connect again"),
    ("transcript-full", "this host has no room for transcripts; tell its operator"),
    ("transcript-share", "this agent has used up its room for transcripts; tell its operator"),
    ("two-hosts", "the request has more than one Host"),
    ("unknown-target", "policy does not know this name and port"),
    ("unmaskable", "the answer could not be read to mask it, so it is withheld"),
    ("unreachable", "allowed, but there is no way to the upstream"),
    ("upgrade-refused", "WebSocket and other upgrades are not carried"),
    ("upstream-broke", "allowed, but the upstream closed the connection"),
    ("upstream-timeout", "allowed, but the upstream did not answer in time"),
    ("upstream-tls", "allowed, but the upstream's certificate could not be verified"),
];

/// Whether the manifest explains a reason.
pub(super) fn is_known(code: &str) -> bool {
    REASONS.binary_search_by(|(known, _)| known.cmp(&code)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Where codes of refusals over HTTP are made.
    const SOURCES: [&str; 12] = [
        "approval/mod.rs",
        "decide/denial.rs",
        "forward/dial/mod.rs",
        "forward/resolve/mod.rs",
        "policy/bundle.rs",
        "protocol/http/authority.rs",
        "protocol/http/body.rs",
        "protocol/http/deliver.rs",
        "protocol/http/exchange.rs",
        "protocol/http/operation.rs",
        "protocol/http/path.rs",
        "protocol/http/upstream.rs",
    ];

    #[test]
    fn the_list_is_sorted() {
        assert!(REASONS.is_sorted_by(|(one, _), (other, _)| one < other));
    }

    /// Every literal that the code gives a refusal as its reason.
    #[test]
    fn every_reason_that_the_code_has_is_in_the_list() {
        let patterns = [
            r#"(?:Denial|Flaw|Self)::(?:new|by)\(\s*(?:permit,\s*)?"([a-z-]+)""#,
            r#"self\.failed\("([a-z-]+)""#,
            r#"Sent::Failed\("([a-z-]+)""#,
            r#"code: "([a-z-]+)""#,
            r#"\(\s*"([a-z]+-[a-z-]+)",\s*"[a-z]"#,
        ];
        let patterns = patterns.map(|pattern| regex::Regex::new(pattern).unwrap());
        // The functions that give an error its code.
        let functions = regex::Regex::new(r"(?s)pub fn (?:code|kind)\(.*?\n    \}\n").unwrap();
        let arms = regex::Regex::new(r#"=> "([a-z-]+)""#).unwrap();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for source in SOURCES.iter().chain(&["record/error.rs"]) {
            let text = fs::read_to_string(src.join(source)).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let mut codes = BTreeSet::new();
            for pattern in &patterns {
                codes.extend(pattern.captures_iter(text).map(|found| found[1].to_owned()));
            }
            for function in functions.find_iter(text) {
                codes.extend(arms.captures_iter(function.as_str()).map(|arm| arm[1].to_owned()));
            }
            assert!(!codes.is_empty(), "no reason was found in {source}");
            for code in codes {
                assert!(is_known(&code), "{source}: {code} is not in the manifest's list");
                found.insert(code);
            }
        }
        for (code, _) in REASONS {
            assert!(found.contains(*code), "{code} is in the manifest, and no code has it");
        }
    }
}
