//! `enforcer server member`: who has joined, and taking a right away.

use super::{RoleArg, Way, way};
use crate::approval::identity::Role;
use crate::cli::approvals::text;
use crate::server::config::Config;
use crate::server::members;
use crate::server::service::people;
use clap::Subcommand;
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use enforcer_proto::v1::people_client::PeopleClient;
use std::io::{self, Write as _};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Who has joined and was not removed
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a right back that was taken away; certificates from before stay worthless, and the name
    /// is free for the account that signs in next
    Restore {
        /// What it is
        #[arg(long)]
        role: RoleArg,
        /// The host's or person's name
        #[arg(long)]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a right away, at once: certificates and unused tokens are worth nothing, streams end,
    /// a host's open requests and grants end, a person's votes on what still waits are withdrawn
    Remove {
        /// What it is
        #[arg(long)]
        role: RoleArg,
        /// The host's or person's name
        #[arg(long)]
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = "")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { json } => list(config, json).await,
        Command::Restore { role, name, json } => {
            let role = role.role().as_str().to_owned();
            restore(config, v1::RestoreMemberRequest { role, name }, json).await
        }
        Command::Remove { role, name, reason, json } => {
            let role = role.role();
            let ask = v1::RemoveMemberRequest { role: role.wire().into(), name, reason };
            remove(config, role, ask, json).await
        }
    }
}

async fn list(config: Config, json: bool) -> anyhow::Result<()> {
    let answer = match way(config).await? {
        Way::Server(channel) => {
            let mut client = AdminClient::new(channel);
            client.list_members(v1::ListMembersRequest {}).await.map(tonic::Response::into_inner)
        }
        Way::Store(core) => members::list(&core).await,
    };
    let all = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.members;
    let mut out = io::stdout().lock();
    let role = |member: &v1::Member| Role::from_wire(member.role).map_or("unknown", Role::as_str);
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|member| {
                serde_json::json!({
                    "role": role(member),
                    "name": member.name,
                    "groups": member.groups,
                    "joined_unix_ms": member.joined_unix_ms,
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    for member in &all {
        let joined = text::time(member.joined_unix_ms);
        let groups = match member.groups.as_slice() {
            [] => String::new(),
            groups => format!("  {}", groups.join(",")),
        };
        writeln!(out, "{:<8}  {joined}  {}{groups}", role(member), member.name)?;
    }
    Ok(())
}

async fn restore(config: Config, ask: v1::RestoreMemberRequest, json: bool) -> anyhow::Result<()> {
    let said = match json {
        true => serde_json::json!({ "role": ask.role, "name": ask.name }).to_string(),
        false => format!("restored {}/{}", ask.role, ask.name),
    };
    let answer = match way(config).await? {
        Way::Server(channel) => PeopleClient::new(channel).restore_member(ask).await.map(drop),
        Way::Store(core) => {
            let actor = format!("local/{}", nix::unistd::getuid());
            people::restore(&core, &actor, &ask).await
        }
    };
    answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    writeln!(io::stdout(), "{said}")?;
    Ok(())
}

async fn remove(
    config: Config,
    role: Role,
    ask: v1::RemoveMemberRequest,
    json: bool,
) -> anyhow::Result<()> {
    let name = ask.name.clone();
    let answer = match way(config).await? {
        Way::Server(channel) => {
            let mut client = AdminClient::new(channel);
            client.remove_member(ask).await.map(tonic::Response::into_inner)
        }
        Way::Store(core) => {
            let actor = format!("local/{}", nix::unistd::getuid());
            members::remove(&core, &actor, ask).await
        }
    };
    let done = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    let v1::RemoveMemberResponse { cancelled, revoked, withdrawn, tokens } = done;
    let mut out = io::stdout().lock();
    if json {
        let value = serde_json::json!({
            "role": role.as_str(),
            "name": name,
            "requests_cancelled": cancelled,
            "grants_revoked": revoked,
            "votes_withdrawn": withdrawn,
            "tokens_forgotten": tokens,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    writeln!(out, "removed {}/{name}", role.as_str())?;
    for (count, what) in [
        (cancelled, "waiting requests cancelled"),
        (revoked, "open grants taken back"),
        (withdrawn, "votes on waiting requests withdrawn"),
        (tokens, "unused tokens forgotten"),
    ] {
        if count > 0 {
            writeln!(out, "  {count} {what}")?;
        }
    }
    Ok(())
}
