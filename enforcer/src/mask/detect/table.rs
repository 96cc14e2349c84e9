//! The detectors: name, group, pattern, what finds a candidate, which part is
//! masked, which check it must pass, and where the format is documented.
//!
//! Patterns are ASCII, never cross a line end (a key block is followed by
//! [`Tail::KeyBlock`]) and are tried only at the candidates of their [`Anchor`],
//! so an anchor must name every place where its pattern can start.

use super::check;

/// What a plan can ask for besides single detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Keys, tokens, passwords.
    Secrets,
    /// What identifies or pays for a person.
    Personal,
    /// Addresses of machines.
    Network,
}

impl Group {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Personal => "personal",
            Self::Network => "network",
        }
    }
}

/// What finds the places where a pattern is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// One of these lower-case literals, this many bytes after the start.
    /// Each has at least four bytes, which the literal search needs to be quick.
    Literal(&'static [&'static str], usize),
    /// `@`: the start is sought backwards over a local part.
    At,
    /// The first `.`: the start is sought backwards over base64url.
    Jwt,
    /// A `.`, this many bytes after the start, after this byte.
    Dot(u8, usize),
    /// The first `.` of four numbers.
    Ipv4,
    /// A `-` after three digits and before `nn-`.
    Ssn,
    /// The first `:` of six hexadecimal pairs.
    Mac,
    /// `:AA` after eight to ten digits.
    Telegram,
    /// A `+` at the start.
    Plus,
    /// A `_` after `hf`.
    Hf,
    /// A `~` five bytes after the start.
    Tilde,
    /// `SK` at the start.
    Sk,
    /// The start of a run of upper-case letters and digits: whether it begins with
    /// a digit, its shortest and its longest length (at least nine, at most 34).
    Run(bool, usize, usize),
    /// The start of such runs of four to six, parted by single blanks or hyphens:
    /// whether the first is all digits.
    Groups(bool),
}

/// Which part of a match is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The last n bytes.
    Last(usize),
    /// What follows the last blank.
    Word,
    /// What stands between the last two quotes.
    Quoted,
    /// What stands between the last `:` and the closing `@`.
    Password,
}

/// What belongs to a match beyond its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    None,
    /// Everything up to the end line of a PEM or PGP block.
    KeyBlock,
    /// A token without a longest form.
    Token,
}

/// See [`check`].
pub(super) type Check = fn(&[u8], usize, usize) -> Option<usize>;

/// One row: several may share a name and are then one detector.
pub(super) struct Detector {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) pattern: &'static str,
    pub(super) anchor: Anchor,
    pub(super) part: Part,
    pub(super) tail: Tail,
    /// Looks at the text and the match's start and end; says where the value ends.
    pub(super) check: Option<Check>,
    pub(super) source: &'static str,
}

const fn secret(
    name: &'static str,
    pattern: &'static str,
    anchor: Anchor,
    source: &'static str,
) -> Detector {
    Detector {
        name,
        group: Group::Secrets,
        pattern,
        anchor,
        part: Part::Whole,
        tail: Tail::None,
        check: None,
        source,
    }
}

const fn personal(
    name: &'static str,
    pattern: &'static str,
    anchor: Anchor,
    check: Option<Check>,
    source: &'static str,
) -> Detector {
    Detector {
        name,
        group: Group::Personal,
        pattern,
        anchor,
        part: Part::Whole,
        tail: Tail::None,
        check,
        source,
    }
}

impl Detector {
    const fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    const fn tail(mut self, tail: Tail) -> Self {
        self.tail = tail;
        self
    }

    const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }
}

use Anchor::{At, Dot, Groups, Hf, Ipv4, Jwt, Literal, Mac, Plus, Run, Sk, Ssn, Telegram, Tilde};

const GITHUB: &str = "GitHub docs, About authentication to GitHub: token formats";
const GITLAB: &str = "GitLab docs, Token overview: token prefixes";
const SLACK: &str = "Slack API docs, Token types";
const OPENAI: &str = "OpenAI API reference, API keys; the infix is base64 of `OpenAI`";
const CARD: &str = "ISO/IEC 7812-1 (number ranges and Luhn check digit)";
const IBAN: &str = "ISO 13616-1 and the SWIFT IBAN registry; check digits by ISO 7064 MOD 97-10";

/// Every detector, in the order in which overlapping equals are named.
#[rustfmt::skip] // one detector, one line
pub(super) static TABLE: &[Detector] = &[
    secret("aws_key", r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b", Run(false, 20, 20), "AWS IAM User Guide, IAM identifiers: unique id prefixes"),
    secret("aws_secret", r#"(?i)aws_?secret_?(?:access_?)?key["']?[ \t]{0,4}[:=][ \t]{0,4}["']?[A-Za-z0-9/+=]{40}"#, Literal(&["aws_secret", "awssecret"], 0), "AWS CLI docs, configuration and credential file settings").part(Part::Last(40)),
    secret("github_pat", r"\bghp_[0-9A-Za-z]{36}\b", Literal(&["ghp_"], 0), GITHUB),
    secret("github_oauth", r"\bgho_[0-9A-Za-z]{36}\b", Literal(&["gho_"], 0), GITHUB),
    secret("github_app", r"\b(?:ghu|ghs)_[0-9A-Za-z]{36}\b", Literal(&["ghu_", "ghs_"], 0), GITHUB),
    secret("github_refresh", r"\bghr_[0-9A-Za-z]{36,76}\b", Literal(&["ghr_"], 0), GITHUB),
    secret("github_fine", r"\bgithub_pat_[0-9A-Za-z_]{82}\b", Literal(&["github_pat_"], 0), GITHUB),
    secret("gitlab_pat", r"\bglpat-[0-9A-Za-z_-]{20}\b", Literal(&["glpat-"], 0), GITLAB),
    secret("gitlab_ptt", r"\bglptt-[0-9a-f]{40}\b", Literal(&["glptt-"], 0), GITLAB),
    secret("anthropic", r"\bsk-ant-(?:api|admin)[0-9][0-9]-[0-9A-Za-z_-]{93}AA\b", Literal(&["sk-ant-"], 0), "Anthropic API docs, API keys"),
    secret("openai_proj", r"\bsk-(?:proj|svcacct)-[A-Za-z0-9_-]{40,150}", Literal(&["sk-proj-", "sk-svcacct-"], 0), OPENAI),
    secret("openai_old", r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b", Literal(&["t3blbkfj"], 23), OPENAI),
    secret("stripe", r"\b(?:sk|rk)_(?:test|live|prod)_[a-zA-Z0-9]{10,99}\b", Literal(&["_test_", "_live_", "_prod_"], 2), "Stripe docs, API keys"),
    secret("stripe_webhook", r"\bwhsec_[A-Za-z0-9+/=]{32,64}", Literal(&["whsec_"], 0), "Stripe docs, Webhooks: signing secret"),
    secret("slack_bot", r"\bxoxb-[0-9]{10,13}-[0-9]{10,13}-?[a-zA-Z0-9-]{0,32}", Literal(&["xoxb-"], 0), SLACK),
    secret("slack_user", r"\bxox[pe](?:-[0-9]{10,13}){3}-[a-zA-Z0-9-]{28,34}", Literal(&["xoxp-", "xoxe-"], 0), SLACK),
    secret("slack_app", r"\bxapp-[0-9]-[A-Z0-9]{8,16}-[0-9]{10,14}-[a-z0-9]{40,80}\b", Literal(&["xapp-"], 0), SLACK),
    secret("slack_hook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{43,56}", Literal(&["hooks.slack.com"], 0), "Slack API docs, Sending messages using incoming webhooks"),
    secret("gcp_api", r"\bAIza[0-9A-Za-z_-]{35}\b", Literal(&["aiza"], 0), "Google Cloud docs, Manage API keys"),
    secret("gcp_oauth", r"\bGOCSPX-[0-9A-Za-z_-]{28}\b", Literal(&["gocspx-"], 0), "Google Cloud docs, OAuth client secrets"),
    secret("gcp_sa", r#""type"[ \t]{0,3}:[ \t]{0,3}"service_account""#, Literal(&["\"type\""], 0), "Google Cloud docs, Service account key file").part(Part::Quoted),
    secret("azure_ad", r"\b[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", Tilde, "Microsoft Entra docs, Client secrets; Microsoft Purview: Azure AD client secret"),
    secret("npm", r"\bnpm_[A-Za-z0-9]{36}\b", Literal(&["npm_"], 0), "npm docs, About access tokens; GitHub blog on the npm token format"),
    secret("pypi", r"\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,200}", Literal(&["pypi-ageichlwas5vcmc"], 0), "PyPI help, API tokens; the prefix is the macaroon's location in base64"),
    secret("docker", r"\bdckr_pat_[0-9A-Za-z_-]{27,64}\b", Literal(&["dckr_pat_"], 0), "Docker docs, Personal access tokens"),
    secret("sendgrid", r"\bSG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}\b", Dot(b'G', 2), "Twilio SendGrid docs, API keys"),
    secret("mailgun", r"\bkey-[a-f0-9]{32}\b", Literal(&["key-"], 0), "Mailgun docs, API keys"),
    secret("twilio", r"\bSK[0-9a-f]{32}\b", Sk, "Twilio docs, API keys: SID format"),
    secret("telegram", r"\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}\b", Telegram, "Telegram Bot API, Authorizing your bot"),
    secret("hf", r"\bhf_[A-Za-z]{34}\b", Hf, "Hugging Face docs, User access tokens"),
    secret("digitalocean", r"\bdo[opr]_v1_[a-f0-9]{64}\b", Literal(&["_v1_"], 3), "DigitalOcean docs, API token prefixes"),
    secret("doppler", r"\bdp\.pt\.[A-Za-z0-9]{43}\b", Literal(&["dp.pt."], 0), "Doppler docs, Token formats"),
    secret("dropbox", r"\bsl\.[A-Za-z0-9_=-]{135}\b", Dot(b'l', 2), "Dropbox developer docs, Short-lived access tokens"),
    secret("heroku", r"(?i)heroku[^\n]{0,20}[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}", Literal(&["heroku"], 0), "Heroku platform API reference, Authentication").part(Part::Last(36)),
    secret("linear", r"\blin_api_[A-Za-z0-9]{40}\b", Literal(&["lin_api_"], 0), "Linear developer docs, Personal API keys"),
    secret("notion", r"\bntn_[0-9]{11}[A-Za-z0-9]{35}\b", Literal(&["ntn_"], 0), "Notion developer docs, Changelog: token prefix"),
    secret("postman", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b", Literal(&["pmak-"], 0), "Postman docs, API keys"),
    secret("shopify", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b", Literal(&["shpat_", "shpca_", "shppa_", "shpss_"], 0), "Shopify changelog, Length and prefix of access tokens"),
    secret("square", r"\b(?:EAAA|sq0atp-)[0-9A-Za-z_-]{22,60}\b", Literal(&["eaaa", "sq0atp-"], 0), "Square developer docs, Access tokens"),
    secret("databricks", r"\bdapi[a-f0-9]{32}\b", Literal(&["dapi"], 0), "Databricks docs, Personal access tokens"),
    secret("vault", r"\bhvs\.[0-9A-Za-z_-]{90,120}\b", Literal(&["hvs."], 0), "HashiCorp Vault docs, Tokens: token prefixes"),
    secret("terraform", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}\b", Literal(&[".atlasv1."], 14), "HCP Terraform docs, API tokens"),
    secret("age", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", Literal(&["age-secret-key-1"], 0), "age-encryption.org/v1, X25519 identities; BIP 173 alphabet"),
    secret("pem", r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----", Literal(&["-----begin"], 0), "RFC 7468 section 10, RFC 4716, RFC 9580 section 6.2").tail(Tail::KeyBlock),
    secret("jwt", r"\bey[A-Za-z0-9_-]{17,}\.[A-Za-z0-9/_-]{17,}\.[A-Za-z0-9/_-]{10,}={0,2}", Jwt, "RFC 7519 section 3; `ey` is base64url of `{\"`").tail(Tail::Token),
    secret("dsn", r#"\b(?:postgres(?:ql)?|mysql|mongodb(?:\+srv)?|redis|amqp)://[^\s:@/"]{1,64}:[^\s@/"]{1,128}@"#, Literal(&["postgres://", "postgresql://", "mysql://", "mongodb://", "mongodb+srv://", "redis://", "amqp://"], 0), "RFC 3986 section 3.2.1; PostgreSQL manual section 34.1.1.2").part(Part::Password),
    secret("basic_auth", r#"(?i)authorization["']?[ \t]{0,3}:[ \t]{0,3}["']?basic [A-Za-z0-9+/=]{8,200}"#, Literal(&["authorization"], 0), "RFC 7617 section 2").part(Part::Word),
    secret("bearer", r"(?i)\bbearer [A-Za-z0-9._~+/-]{20,400}", Literal(&["bearer "], 0), "RFC 6750 section 2.1").part(Part::Word),
    secret("generic_kv", r#"(?i)\b(?:api_?key|secret|token|passw(?:or)?d)["']?[ \t]{0,3}[:=][ \t]{0,3}["'][A-Za-z0-9_.=~@/+-]{12,120}["']"#, Literal(&["api_key", "apikey", "secret", "token", "passw"], 0), "common configuration keys; CWE-312").part(Part::Quoted),
    personal("email", r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,3}\.[A-Za-z]{2,12}\b", At, None, "RFC 5321 section 4.5.3.1, RFC 5322 section 3.4.1 (dot-atom)"),
    personal("card", r"\b(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12})\b", Run(true, 13, 16), Some(check::card), CARD),
    personal("card", r"\b2[2-7][0-9]{14}\b", Run(true, 16, 16), Some(check::card), CARD),
    personal("card", r"\b(?:[45][0-9]{3}|2[2-7][0-9]{2}|6(?:011|5[0-9]{2}))(?: [0-9]{4} [0-9]{4} [0-9]{4}|-[0-9]{4}-[0-9]{4}-[0-9]{4})\b", Groups(true), Some(check::card), CARD),
    personal("card", r"\b3[47][0-9]{2}(?: [0-9]{6} [0-9]{5}|-[0-9]{6}-[0-9]{5})\b", Groups(true), Some(check::card), CARD),
    personal("iban", r"\b[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\b", Run(false, 15, 34), Some(check::iban), IBAN),
    personal("iban", r"\b[A-Z]{2}[0-9]{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?\b", Groups(false), Some(check::iban), IBAN),
    personal("us_ssn", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", Ssn, Some(check::ssn), "US Social Security Administration, POMS RM 10201.030 and SSN randomization"),
    personal("uk_nino", r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]\b", Run(false, 9, 9), Some(check::nino), "HMRC National Insurance Manual NIM39110"),
    personal("es_dni", r"\b[0-9]{8}[A-HJ-NP-TV-Z]\b", Run(true, 9, 9), Some(check::dni), "Spain, Real Decreto 1553/2005; Ministry of the Interior: DNI check letter"),
    personal("es_dni", r"\b[XYZ][0-9]{7}[A-HJ-NP-TV-Z]\b", Run(false, 9, 9), Some(check::dni), "Spain, Orden INT/2058/2008: NIE"),
    personal("phone_us", r"\+1[ .-]?\(?[2-9][0-9]{2}\)?[ .-]?[0-9]{3}[ .-]?[0-9]{4}\b", Plus, None, "ITU-T E.123; North American Numbering Plan"),
    personal("phone", r"\+[1-9][0-9]{7,14}\b", Plus, Some(check::phone), "ITU-T E.164 section 6"),
    personal("ipv4", r"\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\b", Ipv4, None, "RFC 791; RFC 6943 section 3.1.1").group(Group::Network),
    personal("mac", r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b", Mac, None, "IEEE 802-2014 section 8.1").group(Group::Network),
];
