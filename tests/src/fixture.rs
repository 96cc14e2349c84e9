//! The deployment that most suites share: an API with people's data, a payment that
//! needs a person, and a server of files.

use crate::daemon::{Deployment, Plan};
use crate::origin::Origin;
use crate::servers::Pki;
use crate::world::{FAR_V4, FAR_V6, World};
use std::process::Output;

/// The targets of the fixture's policy.
pub const TARGETS: &str = r#"
[[target]]
name = "api"
names = ["api.test"]
addresses = ["10.77.0.0/24", "fd77::/64"]
ports = [8443, 8080]
protocol = "http"
tags = ["people"]
hold = "15s"

[[target]]
name = "plain"
names = ["plain.test"]
addresses = ["10.78.0.2/32"]
ports = [8443, 8080]
protocol = "http"

[[target]]
name = "twin"
names = ["twin.test"]
resolves_to = ["10.77.0.0/24", "fd77::/64"]
ports = [8443, 8080]
protocol = "http"

[[target]]
name = "raw"
names = ["raw.test"]
addresses = ["10.77.0.0/24"]
ports = [9000]
protocol = "opaque"
tls = "passthrough"
"#;

/// The rules of the fixture's policy.
pub const RULES: &str = r#"
@id("look-up")
permit (principal, action == Action::"dns.query", resource);

@id("read")
permit (principal, action in Action::"http.read", resource);

@id("echo")
permit (principal, action in Action::"http.write", resource)
when { context.path like "/echo*" };

@id("payments")
@approval("payments")
permit (principal, action == Action::"http.post", resource == Target::"api")
when { context.path like "/payments*" };

@id("raw")
permit (principal, action == Action::"opaque.connect", resource == Target::"raw");

@id("never-delete")
forbid (principal, action == Action::"http.delete", resource);
"#;

/// The scopes of the fixture's policy.
pub const SCOPES: &str = r#"
[[scope]]
name = "payments"
quorum = 1
request_ttl = "5m"
grant_ttl = "1m"
uses = 1
reason = "required"
patterns = true
"#;

/// The masks of the fixture's policy.
pub const MASKS: &str = r#"
[[mask]]
name = "people"
targets = ["api"]
json = ["$.users[*].email", "$.email"]
headers = ["x-api-key"]
detectors = ["card"]
"#;

/// A world with an origin and a deployment.
#[derive(Debug)]
pub struct Fixture {
    /// Approval server, daemon, reviewer.
    pub deployment: Deployment,
    /// The origin, with its own record.
    pub origin: Origin,
    /// The far side's CA.
    pub pki: Pki,
    /// The namespaces; last, so that they go after what lives in them.
    pub world: World,
}

impl Fixture {
    /// Starts everything.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more lines at the end of `enforcer.toml`.
    pub fn start_with(config: &str) -> Self {
        let world = World::new();
        let pki = Pki::new(world.dir());
        Self::start_in(world, pki, config, "")
    }

    /// The same in a world that is there, with more lines at the end of `server.toml` too.
    pub fn start_in(world: World, pki: Pki, config: &str, server: &str) -> Self {
        world.far_address("10.78.0.2/32");
        let origin = Origin::start(&world, &pki, &["api.test", "plain.test", "twin.test"]);
        let far: &[&str] = &[FAR_V4, FAR_V6];
        let deployment = Deployment::start(
            &world,
            &Plan {
                bundle: &[
                    ("targets.toml", TARGETS),
                    ("rules.cedar", RULES),
                    ("scopes.toml", SCOPES),
                    ("masks.toml", MASKS),
                ],
                hosts: &[
                    ("api.test", far),
                    ("twin.test", far),
                    ("plain.test", &["10.78.0.2"]),
                    ("raw.test", &[FAR_V4]),
                ],
                extra_roots: &[&pki.ca],
                config,
                server,
            },
        );
        Self { deployment, origin, pki, world }
    }

    /// Runs a program as the agent `probe` to its end.
    pub fn agent(&self, program: &str, args: &[&str]) -> Output {
        self.deployment.agent("probe", program).args(args).output().expect("enforcer run starts")
    }

    /// Governed curl: its output, then a space and the status code.
    pub fn curl(&self, args: &[&str]) -> String {
        let out = self
            .deployment
            .agent("probe", "curl")
            .args(["-sS", "-m", "30", "-w", " %{http_code}"])
            .args(args)
            .output()
            .expect("starts");
        text(&out)
    }

    /// All recorded HTTP exchanges, as the HAR export tells them.
    pub fn har(&self) -> Vec<serde_json::Value> {
        let out = self.deployment.transcripts(&["export", "--format", "har"]);
        assert!(out.status.success(), "{}", text(&out));
        let har: serde_json::Value = serde_json::from_slice(&out.stdout).expect("the HAR is JSON");
        crate::har::check(&har).expect("the HAR is as the format says");
        har["log"]["entries"].as_array().expect("entries").clone()
    }

    /// `transcripts verify` has to pass.
    pub fn verify(&self) {
        let out = self.deployment.transcripts(&["verify"]);
        assert!(out.status.success(), "verify: {}", text(&out));
    }
}

/// Standard output and error of a program, as text.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
