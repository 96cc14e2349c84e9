//! `enforcer join`: trade a one-time token for a certificate.

use crate::approval::join;
use crate::approval::token::Token;
use anyhow::Context as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `enforcer join`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The approval server: https://host:port
    #[arg(long)]
    server: String,
    /// The token; `-` reads it from standard input, which keeps it out of the process list
    #[arg(long, env = "ENFORCER_TOKEN", hide_env_values = true)]
    token: String,
    /// Where the certificate is kept; a host's is what `[server] identity_dir` names
    /// (`/var/lib/enforcer/server`), a person's `~/.config/enforcer`
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Where a person's certificate is kept.
pub fn default_dir() -> anyhow::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = config.filter(|dir| dir.is_absolute()).or_else(home);
    Ok(base.context("HOME is not set: say --dir")?.join("enforcer"))
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir()?,
    };
    let mut text = args.token;
    if text == "-" {
        text.clear();
        std::io::stdin().take(1024).read_to_string(&mut text)?;
    }
    let token = Token::parse(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let identity = runtime.block_on(join::join(&args.server, &token, &dir))?;
    let until = super::approvals::text::time(identity.holder.not_after.saturating_mul(1000));
    println!("joined as {} until {until}; kept in {}", identity.holder.subject, dir.display());
    Ok(ExitCode::SUCCESS)
}
