//! `enforcer server session`: who is signed in at the console, and ending it.

use super::{Way, way};
use crate::cli::approvals::text;
use crate::server::config::Config;
use crate::server::service::people;
use clap::Subcommand;
use enforcer_proto::v1;
use enforcer_proto::v1::people_client::PeopleClient;
use std::io::{self, Write as _};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sessions that are good now
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End one
    End {
        /// Its id, as `list` prints it
        id: String,
    },
}

pub(super) async fn run(config: Config, command: Command) -> anyhow::Result<()> {
    let way = way(config).await?;
    match command {
        Command::List { json } => {
            let answer = match way {
                Way::Server(channel) => PeopleClient::new(channel)
                    .list_sessions(v1::ListSessionsRequest {})
                    .await
                    .map(tonic::Response::into_inner),
                Way::Store(core) => people::list(&core).await,
            };
            let all = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.sessions;
            print(&all, json)
        }
        Command::End { id } => {
            let done = match way {
                Way::Server(channel) => {
                    let mut client = PeopleClient::new(channel);
                    client.end_session(v1::EndSessionRequest { id }).await.map(drop)
                }
                Way::Store(core) => {
                    let actor = format!("local/{}", nix::unistd::getuid());
                    people::end(&core, &actor, &id).await
                }
            };
            done.map_err(|status| anyhow::anyhow!("{}", status.message()))
        }
    }
}

fn print(all: &[v1::Session], json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let session = |s: &v1::Session| {
            serde_json::json!({
                "id": s.id,
                "subject": s.subject,
                "shown": s.shown,
                "created_unix_ms": s.created_unix_ms,
                "seen_unix_ms": s.seen_unix_ms,
            })
        };
        let all: Vec<_> = all.iter().map(session).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    for session in all {
        let [subject, shown] = [&session.subject, &session.shown].map(|t| text::line(t));
        let since = text::time(session.created_unix_ms);
        writeln!(out, "{}  {since}  {subject}  {shown}", session.id)?;
    }
    Ok(())
}
