//! `enforcer approvals`: see what waits, decide, take back.
//!
//! What is shown is what is hashed: the digest is computed here from the parts
//! on the screen, and it is that digest that the vote names.

use super::REFUSED;
use super::join::default_dir;
use crate::approval::join;
use crate::approval::{convert, tls};
use crate::cli::audit;
use crate::cli::server::Way;
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use enforcer_proto::v1;
use enforcer_proto::v1::hosts_client::HostsClient;
use enforcer_proto::v1::review_client::ReviewClient;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};

mod hosts;
pub(super) mod json;
mod report;
mod show;
mod task;
pub mod text;
mod watch;

/// Arguments of `enforcer approvals`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The approval server, when it is not the one that was joined
    #[arg(long, global = true, env = "ENFORCER_SERVER")]
    server: Option<String>,
    /// The directory with the certificate; `~/.config/enforcer` when left out
    #[arg(long, global = true, env = "ENFORCER_IDENTITY")]
    identity: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What waits for a decision, and what was decided
    List {
        /// Only these states (repeat for more); all when left out
        #[arg(long = "state")]
        states: Vec<StateArg>,
        /// Only those approved by breaking the glass and not reviewed yet
        #[arg(long)]
        unreviewed: bool,
        /// Only those with this text in what was asked, in who asked, or in who voted
        #[arg(long, default_value = "")]
        search: String,
        /// Only those older than this one (its id)
        #[arg(long, default_value = "")]
        before: String,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One approval, with everything that is hashed
    Show {
        /// Its id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The tasks that agents declared, of which you may decide a step
    Tasks {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One task: its objective, its steps in order, and what each may change
    Task {
        /// Its id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Approve a request, or steps of a task, after looking at it
    Approve {
        /// Its id; with `--step` the task's
        id: String,
        /// This step of the task (repeat for more)
        #[arg(long = "step")]
        steps: Vec<usize>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// In an emergency: approve alone, for the scopes that let you; it is reviewed afterwards
        #[arg(long, requires = "reason")]
        break_glass: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long, requires = "yes")]
        json: bool,
    },
    /// Deny a request, or steps of a task
    Deny {
        /// Its id; with `--step` the task's
        id: String,
        /// This step of the task (repeat for more)
        #[arg(long = "step")]
        steps: Vec<usize>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say that what was approved by breaking the glass was looked at, and what was found
    Review {
        /// Its id
        id: String,
        /// What was found
        #[arg(long)]
        note: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a grant back; what runs on it is cut
    Revoke {
        /// Its id
        id: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bad habits in how people decide: too fast, without a reason, always yes, ...
    Report {
        /// What was asked since: 90m, 12h, 30d
        #[arg(long, default_value = "30d", value_parser = crate::cli::server::duration)]
        since: Duration,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The hosts that joined: their layers, their health, their policy
    Hosts {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the audit and check its chain; for admins
    Audit {
        #[command(subcommand)]
        command: Option<audit::Command>,
        /// Print JSON, one record a line
        #[arg(long)]
        json: bool,
    },
    /// What waits, to read and to decide on; without a terminal each change as a line
    Watch {
        /// What waits, then every change, a line each
        #[arg(long)]
        plain: bool,
        /// Print JSON, one approval a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArg {
    Pending,
    Approved,
    Denied,
    Expired,
    Cancelled,
    Spent,
    Revoked,
}

impl StateArg {
    fn wire(self) -> v1::State {
        match self {
            Self::Pending => v1::State::Pending,
            Self::Approved => v1::State::Approved,
            Self::Denied => v1::State::Denied,
            Self::Expired => v1::State::Expired,
            Self::Cancelled => v1::State::Cancelled,
            Self::Spent => v1::State::Spent,
            Self::Revoked => v1::State::Revoked,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(command(args)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Told>() {
            Some(Told(status)) if status.code() == Code::PermissionDenied => {
                eprintln!("enforcer: {}", status.message());
                Ok(ExitCode::from(REFUSED))
            }
            _ => Err(error),
        },
    }
}

/// What the server said.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.0))]
struct Told(Status);

fn told(status: &Status) -> String {
    match status.code() {
        Code::Unavailable | Code::Unknown => {
            format!("the approval server cannot be reached: {}", join::words(status))
        }
        _ => text::line(status.message()),
    }
}

type Client = ReviewClient<Channel>;

async fn command(args: Args) -> anyhow::Result<()> {
    // An export is checked on any machine, also where nobody joined.
    if let Command::Audit { command, .. } = &args.command
        && let Some(done) = audit::of_file(command.as_ref())
    {
        return done;
    }
    let dir = match args.identity {
        Some(dir) => dir,
        None => default_dir()?,
    };
    let (_, channel) = join::open(&dir, args.server.as_deref()).await?;
    let command = match args.command {
        Command::Hosts { json } => return hosts(channel, json).await,
        Command::Audit { command, json } => {
            return audit::run(Way::Server(channel), command, json).await;
        }
        command => command,
    };
    let tasks = channel.clone();
    let mut client = ReviewClient::new(channel).max_decoding_message_size(tls::MAX_ANSWER);
    match command {
        Command::List { states, unreviewed, search, before, limit, json } => {
            let states = states.iter().map(|state| state.wire().into()).collect();
            let wanted = v1::ListRequest { states, limit, unreviewed, search, before };
            list(&mut client, wanted, json).await
        }
        Command::Show { id, json } => {
            let approval = fetch(&mut client, id).await?;
            print_one(&approval, json)
        }
        Command::Tasks { limit, json } => task::list(&tasks, limit, json).await,
        Command::Task { id, json } => task::print(&tasks, id, json).await,
        Command::Approve { id, steps, reason, break_glass, yes, json } => {
            for id in meant(&tasks, id, &steps).await? {
                let reason = reason.clone();
                let vote =
                    v1::DecideRequest { id, approve: true, reason, break_glass, ..no_vote() };
                approve(&mut client, vote, yes, json).await?;
            }
            Ok(())
        }
        Command::Deny { id, steps, reason, json } => {
            for id in meant(&tasks, id, &steps).await? {
                let approval = fetch(&mut client, id).await?;
                undecided(&approval)?;
                let digest = approval.request.map(|request| request.digest).unwrap_or_default();
                let reason = reason.clone();
                let vote = v1::DecideRequest { id: approval.id, reason, digest, ..no_vote() };
                let answer = client.decide(vote).await.map_err(Told)?.into_inner();
                print_outcome(&answer, json)?;
            }
            Ok(())
        }
        Command::Revoke { id, reason, json } => {
            let answer = client.revoke(v1::RevokeRequest { id, reason }).await;
            print_outcome(&answer.map_err(Told)?.into_inner(), json)
        }
        Command::Review { id, note, json } => {
            let answer = client.review_glass(v1::ReviewGlassRequest { id, note }).await;
            print_outcome(&answer.map_err(Told)?.into_inner(), json)
        }
        Command::Report { since, json } => {
            let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            let since_unix_ms = crate::server::clock::wall().saturating_sub(since);
            let answer = client.report(v1::ReportRequest { since_unix_ms }).await;
            let answer = answer.map_err(Told)?.into_inner();
            let text = if json { report::json(&answer) } else { report::text(&answer) };
            io::stdout().write_all(text.as_bytes())?;
            Ok(())
        }
        Command::Watch { plain, json } => {
            if plain || json || !watch::on_terminal() {
                return watch::lines(&mut client, json).await;
            }
            watch::screen(watch::Place { dir, server: args.server }, tasks).await
        }
        Command::Hosts { .. } | Command::Audit { .. } => Ok(()),
    }
}

/// The approvals that are meant: one by its id, or steps of a task, in the order given.
async fn meant(channel: &Channel, id: String, steps: &[usize]) -> anyhow::Result<Vec<String>> {
    match steps {
        [] => Ok(vec![id]),
        steps => task::steps(channel, id, steps).await,
    }
}

fn no_vote() -> v1::DecideRequest {
    v1::DecideRequest::default()
}

async fn fetch(client: &mut Client, id: String) -> anyhow::Result<v1::Approval> {
    Ok(client.show(v1::GetRequest { id }).await.map_err(Told)?.into_inner())
}

/// Refuses to vote on what is over: the server would take a vote that was counted before for a
/// repeated one.
fn undecided(approval: &v1::Approval) -> anyhow::Result<()> {
    match approval.state() {
        v1::State::Pending | v1::State::Approved => Ok(()),
        _ => bail!(
            "{} is {}: nothing can be decided on it any more",
            text::line(&approval.id),
            show::state(approval)
        ),
    }
}

async fn list(client: &mut Client, wanted: v1::ListRequest, json: bool) -> anyhow::Result<()> {
    let answer = client.list(wanted).await;
    let approvals = answer.map_err(Told)?.into_inner().approvals;
    let mut out = io::stdout().lock();
    if json {
        let all: Vec<_> = approvals.iter().map(json::approval).collect();
        writeln!(out, "{}", json::pretty(&all))?;
        return Ok(());
    }
    let now = crate::server::clock::wall();
    out.write_all(show::summaries(&approvals, now).as_bytes())?;
    Ok(())
}

async fn approve(
    client: &mut Client,
    vote: v1::DecideRequest,
    yes: bool,
    json: bool,
) -> anyhow::Result<()> {
    let approval = fetch(client, vote.id).await?;
    undecided(&approval)?;
    let request = approval.request.as_ref().context("the server sent no request")?;
    // Nothing cut or changed can be approved: the digest must come out of what is here.
    let digest = convert::checked(request)
        .context("this cannot be approved, because it cannot be shown whole")?;
    if !yes {
        askable(io::stdin().is_terminal(), io::stdout().is_terminal())?;
        io::stdout().write_all(show::whole(&approval).as_bytes())?;
        if vote.break_glass {
            println!("\nTHE GLASS IS BROKEN: nobody else decides on this. It goes on record, and");
            println!("somebody else reviews it.");
        }
        print!("\nApprove exactly this? Type yes: ");
        io::stdout().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            bail!("nothing was decided");
        }
    }
    let vote = v1::DecideRequest { id: approval.id, digest: digest.to_string(), ..vote };
    let answer = client.decide(vote).await.map_err(Told)?.into_inner();
    print_outcome(&answer, json)
}

/// Refuses to ask where the answer is not a person's, or where what is asked about is not on a
/// screen. Takes whether there is a terminal to read from, and one to write to.
fn askable(answers: bool, shows: bool) -> anyhow::Result<()> {
    let missing = match (answers, shows) {
        (true, true) => return Ok(()),
        (false, _) => "ask at",
        (true, false) => "show it on",
    };
    bail!("there is no terminal to {missing}: look at it with `show`, then say --yes")
}

async fn hosts(channel: Channel, json: bool) -> anyhow::Result<()> {
    let mut client = HostsClient::new(channel).max_decoding_message_size(tls::MAX_ANSWER);
    let answer = client.list(v1::ListHostsRequest {}).await.map_err(Told)?.into_inner();
    let now = crate::server::clock::wall();
    let text = if json { hosts::json(&answer) } else { hosts::text(&answer, now) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn print_one(approval: &v1::Approval, json: bool) -> anyhow::Result<()> {
    let text = if json {
        format!("{}\n", json::pretty(&json::approval(approval)))
    } else {
        show::whole(approval)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn print_outcome(approval: &v1::Approval, json: bool) -> anyhow::Result<()> {
    if json {
        return print_one(approval, true);
    }
    let state = show::state(approval);
    writeln!(io::stdout(), "{} {state}", text::line(&approval.id))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::askable;

    #[test]
    fn what_is_not_on_a_screen_is_not_asked_about() {
        assert!(askable(true, true).is_ok());
        for (answers, shows) in [(true, false), (false, true), (false, false)] {
            let why = askable(answers, shows).unwrap_err().to_string();
            assert!(why.contains("no terminal") && why.contains("--yes"), "{why}");
        }
    }
}
