//! `enforcer ca`: show, install or rotate the interception CA.
//!
//! The key is never printed and never leaves its directory.

mod store;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::tls::ca::{self, Ca};
use anyhow::{Context as _, ensure};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The certificate before the last rotation, for clients that were not given the new one yet.
const OLD: &str = "ca.old.pem";

/// Arguments of `enforcer ca`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The daemon's configuration
    #[arg(long, global = true, default_value = "/etc/enforcer/enforcer.toml")]
    config: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Command {
    /// Print where the certificate is, its fingerprint and how long it is good
    Show,
    /// Put the certificate into the system's store of trusted roots
    Install,
    /// Make a new CA and keep the old certificate as ca.old.pem
    Rotate,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    command(args)
        .map_err(|error| anyhow::anyhow!("{}{}", super::in_full(&error), super::as_root(&error)))
}

fn command(args: Args) -> anyhow::Result<ExitCode> {
    let dir = Config::load(&args.config)?.ca_dir();
    let (done, shown) = match args.command {
        Command::Show => (None, show(&dir)?),
        Command::Install => {
            let shown = show(&dir)?;
            let at = store::System::find()?.install(&dir.join(ca::CERTIFICATE))?;
            (Some(format!("installed as {}", at.display())), shown)
        }
        Command::Rotate => {
            rotate(&dir)?;
            let text = format!(
                "made a new CA, the old certificate is {}\nrestart the daemon to use it, then run \
                 `enforcer ca install`; agents that run now trust only the old one until they are \
                 started again",
                dir.join(OLD).display()
            );
            (Some(text), show(&dir)?)
        }
    };
    if args.json {
        let mut report = serde_json::to_value(&shown)?;
        if let (Some(report), Some(done)) = (report.as_object_mut(), done) {
            report.insert("done".to_owned(), done.into());
        }
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(done) = done {
        println!("{done}\n");
    }
    println!("certificate  {}", shown.certificate.display());
    println!("subject      {}", shown.subject);
    println!("sha256       {}", shown.sha256);
    println!("not before   {}", shown.not_before);
    println!("not after    {}", shown.not_after);
    Ok(ExitCode::SUCCESS)
}

/// What people compare and watch.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    certificate: PathBuf,
    subject: String,
    /// Of the DER form, as `openssl x509 -fingerprint -sha256` prints it.
    sha256: String,
    /// RFC 3339.
    not_before: String,
    /// RFC 3339.
    not_after: String,
}

fn show(dir: &Path) -> anyhow::Result<Shown> {
    let path = dir.join(ca::CERTIFICATE);
    let pem = fs::read(&path).with_context(|| match path.try_exists() {
        Ok(false) => format!("{} is not there (`enforcer init` makes one)", path.display()),
        _ => format!("{} cannot be read", path.display()),
    })?;
    let der = CertificateDer::from_pem_slice(&pem)
        .with_context(|| format!("{} does not hold a certificate", path.display()))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der)
        .with_context(|| format!("{} does not hold a certificate", path.display()))?;
    let time = |at: x509_parser::time::ASN1Time| {
        at.to_datetime()
            .format(&time::format_description::well_known::Rfc3339)
            .context("a date of the certificate cannot be written")
    };
    let digest: Vec<String> =
        Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(Shown {
        subject: certificate.subject().to_string(),
        sha256: digest.join(":"),
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
        certificate: path,
    })
}

/// Makes a new pair beside the old one and then puts it in its place.
///
/// A crash between the two renames leaves a key and a certificate that do not fit, which the
/// daemon refuses to start with; the old certificate is kept before either.
fn rotate(dir: &Path) -> anyhow::Result<()> {
    let current = dir.join(ca::CERTIFICATE);
    ensure!(
        current.exists(),
        "there is no CA in {}; `enforcer init` makes the first one",
        dir.display()
    );
    let new = tempfile::Builder::new()
        .prefix(".rotate-")
        .tempdir_in(dir)
        .with_context(|| format!("cannot write to {}", dir.display()))?;
    Ca::load_or_create(new.path())?;
    let place = |from: &Path, to: &Path| {
        fs::rename(from, to).with_context(|| format!("cannot replace {}", to.display()))
    };
    let old = new.path().join(OLD);
    fs::copy(&current, &old).with_context(|| format!("cannot copy {}", current.display()))?;
    place(&old, &dir.join(OLD))?;
    place(&new.path().join(ca::KEY), &dir.join(ca::KEY))?;
    place(&new.path().join(ca::CERTIFICATE), &current)?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot flush {}", dir.display()))
}
