//! `[console]` of `server.toml`.

use crate::approval::identity::{Role, Subject};
use crate::server::model::Millis;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// The console, and who may come in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// The address that browsers reach; there is no console when left out.
    pub listen: Option<SocketAddr>,
    /// The address as people's browsers have it, without a path.
    pub url: Option<String>,
    /// The certificate chain, PEM; the server's own CA makes one for `names` when left out.
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// How long a session lasts. Hours.
    pub session_hours: u32,
    /// How long a session lasts that nobody uses. Minutes.
    pub idle_minutes: u32,
    /// Where the hash of the setup secret is; `console.setup` beside `server.toml` when left out.
    pub setup_file: PathBuf,
    /// The identity provider.
    pub oidc: Option<Oidc>,
}

/// An identity provider that speaks OpenID Connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What the sign-in page calls it.
    pub name: String,
    /// Its issuer URL, exactly as its tokens have it.
    pub issuer: String,
    /// What it calls this console.
    pub client_id: String,
    /// A file with the client's secret.
    pub client_secret_file: PathBuf,
    /// More CAs that the provider's certificate may come from.
    pub ca_file: Option<PathBuf>,
    /// What is asked for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim that is the person's name.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// The claim with the person's groups.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// What a group of the provider may do.
    #[serde(default, rename = "grant")]
    pub grants: Vec<Grant>,
}

/// What a group of the provider may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The provider's group.
    pub group: String,
    /// The role of whoever is in it.
    pub role: Role,
    /// The groups that such a reviewer is in here.
    #[serde(default)]
    pub groups: Vec<String>,
}

fn scopes() -> Vec<String> {
    ["email", "profile"].map(str::to_owned).to_vec()
}

fn name_claim() -> String {
    "email".to_owned()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

impl Default for Console {
    fn default() -> Self {
        Self {
            listen: None,
            url: None,
            certificate_file: None,
            key_file: None,
            session_hours: 8,
            idle_minutes: 30,
            setup_file: "console.setup".into(),
            oidc: None,
        }
    }
}

impl Console {
    /// How long a session lasts, and one that nobody uses.
    pub fn limits(&self) -> (Millis, Millis) {
        (Millis::from(self.session_hours) * 3_600_000, Millis::from(self.idle_minutes) * 60_000)
    }

    /// `https://host[:port]` as browsers send it in `Origin`, when `url` says it.
    pub fn origin(&self) -> Option<String> {
        let url = Url::parse(self.url.as_deref()?).ok()?;
        Some(url.origin().ascii_serialization())
    }

    /// Where an approval is looked at.
    pub fn link(&self, id: impl std::fmt::Display) -> Option<String> {
        self.listen?;
        Some(format!("{}/approvals/{id}", self.origin()?))
    }

    /// What is wrong with it: the key, its value, and what would be right.
    pub(in crate::server) fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(url) = &self.url {
            let good = |url: &Url| {
                url.scheme() == "https"
                    && url.has_host()
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            };
            if !Url::parse(url).as_ref().is_ok_and(good) {
                return Some(("console.url", url.clone(), "https://host or https://host:port"));
            }
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            let right = "both `certificate_file` and `key_file`, or neither";
            return Some(("console.certificate_file", "alone".to_owned(), right));
        }
        if !(1..=24 * 7).contains(&self.session_hours) {
            return Some(("console.session_hours", self.session_hours.to_string(), "1 to 168"));
        }
        if !(1..=24 * 60).contains(&self.idle_minutes) {
            return Some(("console.idle_minutes", self.idle_minutes.to_string(), "1 to 1440"));
        }
        let oidc = self.oidc.as_ref()?;
        if self.url.is_none() {
            let right = "the console's address, which the provider sends people back to";
            return Some(("console.url", "missing".to_owned(), right));
        }
        if !Url::parse(&oidc.issuer).is_ok_and(|url| url.scheme() == "https") {
            return Some(("console.oidc.issuer", oidc.issuer.clone(), "an https URL"));
        }
        for grant in &oidc.grants {
            if grant.role == Role::Daemon {
                let right = "`viewer`, `reviewer`, `policy-admin` or `admin`: no person is a host";
                return Some(("console.oidc.grant.role", "daemon".to_owned(), right));
            }
            let names = grant.groups.iter().all(|name| Subject::new(Role::Daemon, name).is_some());
            if !names || (grant.role != Role::Reviewer && !grant.groups.is_empty()) {
                let right = "groups are for reviewers, with names of `A-Z a-z 0-9 . _ @ -`";
                return Some(("console.oidc.grant.groups", format!("{:?}", grant.groups), right));
            }
        }
        None
    }

    /// Paths that are relative start at the configuration.
    pub(in crate::server) fn based(&mut self, base: &Path) {
        self.setup_file = base.join(&self.setup_file);
        for path in [&mut self.certificate_file, &mut self.key_file] {
            *path = path.as_ref().map(|path| base.join(path));
        }
        if let Some(oidc) = &mut self.oidc {
            oidc.client_secret_file = base.join(&oidc.client_secret_file);
            oidc.ca_file = oidc.ca_file.as_ref().map(|path| base.join(path));
        }
    }
}

impl Oidc {
    /// The role of who is in these groups of the provider, and the groups here; `None` for
    /// nobody. Who runs the server or looks after policy does not decide too, so the first of
    /// admin, policy-admin, reviewer and viewer is it.
    pub fn right(&self, theirs: &[String]) -> Option<(Role, Vec<String>)> {
        let granted = |role: Role| {
            self.grants.iter().filter(move |g| g.role == role && theirs.contains(&g.group))
        };
        let order = [Role::Admin, Role::PolicyAdmin, Role::Reviewer, Role::Viewer];
        let role = order.into_iter().find(|role| granted(*role).next().is_some())?;
        let mut groups: Vec<String> = granted(role).flat_map(|g| g.groups.clone()).collect();
        groups.sort();
        groups.dedup();
        Some((role, groups))
    }
}
