//! `enforcer init`: a first configuration, policy, CA and the agents' user.
//!
//! Nothing that exists is ever changed; the report says what was there already.

mod step;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::tls::ca::{self, Ca};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use step::{Outcome, Step};

/// The configuration with every key explained.
const TEMPLATE: &str = include_str!("enforcer.toml");
const DEFAULT_DIR: &str = "/etc/enforcer";

/// Arguments of `enforcer init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the configuration and the policy
    #[arg(default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Directory of keys, certificates and transcripts [default: /var/lib/enforcer, or `data`
    /// below DIR when DIR is given]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(&args.dir).context("the directory's path cannot be used")?;
    let data_dir = match args.data_dir {
        Some(data_dir) => {
            std::path::absolute(&data_dir).context("the data directory's path cannot be used")?
        }
        None if dir == Path::new(DEFAULT_DIR) => crate::config::DATA_DIR.into(),
        None => dir.join("data"),
    };
    let steps = init(&dir, &data_dir).map_err(|error| {
        let hint = match super::as_root(&error) {
            "" => String::new(),
            root => format!("{root}, or give a directory of your own: `enforcer init ./enforcer`"),
        };
        anyhow::anyhow!("{}{hint}", super::in_full(&error))
    })?;
    let failed = steps.iter().any(|step| step.outcome == Outcome::Failed);
    let config = dir.join("enforcer.toml");
    if args.json {
        let report = serde_json::json!({
            "config": config,
            "steps": steps,
            "next": next(&config),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for step in &steps {
            println!("{step}");
        }
        if !failed {
            println!("\nNext:");
            for line in next(&config) {
                println!("  {line}");
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Makes what is missing, in an order in which each step can rely on those before.
fn init(dir: &Path, data_dir: &Path) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let path = dir.join("enforcer.toml");
    steps.push(step::directory("configuration directory", dir, 0o755)?);
    steps.push(step::file("configuration", &path, &template(dir, data_dir), 0o644)?);
    for (name, content) in crate::policy::starter() {
        let file = dir.join("policy").join(name);
        if let Some(parent) = file.parent() {
            step::directory("policy directory", parent, 0o755)?;
        }
        steps.push(step::file("policy", &file, content, 0o644)?);
    }
    // From here on the file says where things are, which may be an older one.
    let config = Config::load(&path)?;
    steps.push(step::directory("data directory", &config.host.data_dir, 0o700)?);
    let ca_dir = config.ca_dir();
    let certificate = ca_dir.join(ca::CERTIFICATE);
    let there = certificate.exists();
    Ca::load_or_create(&ca_dir)?;
    steps.push(Step::new(
        "interception CA",
        certificate.display().to_string(),
        if there { Outcome::Exists } else { Outcome::Made },
    ));
    steps.push(step::user(&config.run.user)?);
    Ok(steps)
}

fn template(dir: &Path, data_dir: &Path) -> String {
    let runtime_dir = if dir == Path::new(DEFAULT_DIR) {
        PathBuf::from("/run/enforcer")
    } else {
        dir.join("run")
    };
    TEMPLATE
        .replace("@DATA_DIR@", &quoted(data_dir))
        .replace("@RUNTIME_DIR@", &quoted(&runtime_dir))
        .replace("@POLICY_DIR@", &quoted(&dir.join("policy")))
}

fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn next(config: &Path) -> [String; 4] {
    let shown = config.display();
    let policy = config.with_file_name("policy");
    [
        format!("edit {shown} and the policy, then: enforcer policy check {}", policy.display()),
        format!("enforcer ca install --config {shown}"),
        format!("enforcer daemon --config {shown}   (or: systemctl enable --now enforcer)"),
        format!("enforcer doctor --config {shown}   (proves that nothing gets out past it)"),
    ]
}
