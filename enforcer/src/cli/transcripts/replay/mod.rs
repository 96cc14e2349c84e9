//! `transcripts replay`: plays a flow in the terminal, in the time that it took.

mod pace;
mod scene;

use super::text;
use super::{Out, json};
use crate::record::read::Transcripts;
use pace::Pace;
pub(super) use scene::Scene;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A flow, an operation or an approval (its id), or a digest (v1:...)
    #[arg(value_name = "FLOW|OPERATION")]
    id: String,
    /// How many times as fast as it was (0.5 is half as fast)
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = pace::speed)]
    speed: f64,
    /// Longest pause between two events, in seconds as they are played
    #[arg(long, value_name = "SECONDS", value_parser = pace::seconds)]
    max_pause: Option<Duration>,
    /// All at once
    #[arg(long, conflicts_with_all = ["speed", "max_pause"])]
    no_wait: bool,
    /// Bodies and results as a whole
    #[arg(long)]
    full: bool,
    /// Each event as a line of JSON, in the same time
    #[arg(long, conflicts_with = "full")]
    json: bool,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    play(all, args, out, &mut std::thread::sleep)
}

/// Plays what `args` name; `wait` lets a pause pass.
pub(super) fn play(
    all: &Transcripts,
    args: &Args,
    out: Out<'_>,
    wait: &mut dyn FnMut(Duration),
) -> anyhow::Result<ExitCode> {
    let found = super::named(all, &args.id)?;
    for one in found {
        let mut pace = Pace::new(args.speed, args.max_pause);
        let mut scene = Scene::new(args.full);
        let mut failed: Option<io::Error> = None;
        all.events(one.flow, |event| {
            if !one.wants(&event) {
                return Ok(true);
            }
            let pause = pace.pause(event.unix_ns);
            let shown = match args.json {
                true => text::json(&json::event(one.flow, &event)) + "\n",
                false => scene.event(event),
            };
            let written = show(out, &shown, pause, args.no_wait, wait);
            failed = written.err();
            Ok(failed.is_none())
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if !args.json {
            out.write_all(scene.rest().as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets the time pass that lay before an event, with all that came before it on the screen.
fn show(
    out: Out<'_>,
    shown: &str,
    pause: Duration,
    no_wait: bool,
    wait: &mut dyn FnMut(Duration),
) -> io::Result<()> {
    if !no_wait && !pause.is_zero() {
        out.flush()?;
        wait(pause);
    }
    out.write_all(shown.as_bytes())
}
