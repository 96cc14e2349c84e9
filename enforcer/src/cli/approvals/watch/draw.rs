//! How the screen looks. Without colours: what matters stands in words.

use super::super::{show, text};
use super::state::{Act, App, Prompt, Reading};
use crate::approval::convert;
use enforcer_proto::v1;
use ratatui::Terminal;
use ratatui::backend::Backend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

/// The smallest screen that anything is shown on. Columns and rows.
const LEAST: (usize, usize) = (24, 6);

/// Rows of one approval in the queue.
const ROWS: usize = 2;

/// Said first where the server is lost, so that no screen is too narrow for it.
const NOT_LIVE: &str = "NOT LIVE";

const HELP: &[&str] = &[
    "j k arrows   move, scroll",
    "space b      a page down, a page up",
    "g G          to the start, to the end",
    "Enter        read the whole approval",
    "a            approve what was read",
    "d            deny",
    "r            take a grant back",
    "q Esc        back; from the queue, leave",
    "",
    "All of it has to be shown before it can",
    "be approved. In an emergency: enforcer",
    "approvals approve ID --break-glass",
    "",
    "Any key goes back.",
];

/// A screen that is drawn on, row by row.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    width: usize,
    height: usize,
}

impl Canvas<'_> {
    /// One row of text that is safe to show; what is too long is cut.
    fn row(&mut self, y: usize, shown: &str, style: Style) {
        let Ok(y) = u16::try_from(y) else { return };
        let area = *self.buffer.area();
        if y < area.height {
            self.buffer.set_stringn(area.x, area.y + y, shown, self.width, style);
        }
    }

    /// A row that is filled to its end.
    fn bar(&mut self, y: usize, left: &str, right: &str) {
        let left = cut(left, self.width);
        let used = text::columns(&left);
        let room = self.width.saturating_sub(used);
        let right = if text::columns(right) < room { right } else { "" };
        let gap = room.saturating_sub(text::columns(right));
        let style = Style::new().add_modifier(Modifier::REVERSED);
        self.row(y, &format!("{left}{:gap$}{right}", ""), style);
    }

    /// The last row but one, and the keys below it.
    fn foot(&mut self, said: &str, keys: &str) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.row(self.height - 2, &cut(said, self.width), bold);
        self.bar(self.height - 1, &format!(" {keys}"), "");
    }
}

/// Text that is safe to show, in so many columns on any terminal; a cut one ends in `…`.
fn cut(shown: &str, width: usize) -> String {
    if text::room(shown) <= width {
        return shown.to_owned();
    }
    let mut out = String::new();
    let mut columns = text::room("…");
    for piece in text::pieces(shown) {
        columns += text::room(piece);
        if columns > width {
            break;
        }
        out.push_str(piece);
    }
    out.push('…');
    out
}

/// What a screen is of. Of a screen of something else nothing may stay.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scene {
    area: Rect,
    help: bool,
    /// What is read, and its first row on the screen.
    reading: Option<(String, u64, usize)>,
    /// The first one of the queue on the screen.
    first: usize,
    /// The rows that are not plain ASCII, by their number.
    uneven: Vec<(usize, String)>,
}

impl Scene {
    fn of(app: &App, buffer: &Buffer) -> Self {
        let reading = app
            .reading
            .as_ref()
            .map(|reading| (reading.approval.id.clone(), reading.approval.revision, reading.top));
        let cells = buffer.content.chunks(usize::from(buffer.area.width).max(1));
        let rows = cells.map(|row| row.iter().map(Cell::symbol).collect::<String>());
        Self {
            area: buffer.area,
            help: app.help,
            reading,
            first: first(app, usize::from(buffer.area.height)),
            uneven: rows.enumerate().filter(|(_, row)| !row.is_ascii()).collect(),
        }
    }
}

/// Draws it on the terminal. Only what differs is sent, by columns as we count them; terminals
/// count some characters otherwise, and what is left of those would stand among what is new. So
/// another scene is drawn on an empty screen. Milliseconds since the Unix epoch.
pub(super) fn on<B: Backend>(
    terminal: &mut Terminal<B>,
    before: &mut Scene,
    app: &mut App,
    now: i64,
) -> Result<(), B::Error> {
    terminal.autoresize()?;
    let mut next = Buffer::empty(terminal.get_frame().area());
    screen(&mut next, app, now);
    let scene = Scene::of(app, &next);
    if scene != *before {
        terminal.clear()?;
        *before = scene;
    }
    terminal.draw(|frame| screen(frame.buffer_mut(), app, now))?;
    Ok(())
}

/// Draws it. Milliseconds since the Unix epoch.
fn screen(buffer: &mut Buffer, app: &mut App, now: i64) {
    let area = *buffer.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut canvas = Canvas { buffer, width, height };
    if width < LEAST.0 || height < LEAST.1 {
        canvas.row(0, "the window is too small", Style::new());
        return;
    }
    if app.help {
        canvas.bar(0, " Keys", "");
        for (at, line) in HELP.iter().enumerate().take(height - 1) {
            canvas.row(at + 1, &cut(line, width), Style::new());
        }
        return;
    }
    let lost = !app.lost.is_empty();
    match &mut app.reading {
        Some(reading) => {
            self::reading(&mut canvas, reading, app.prompt.as_ref(), &app.notice, lost, now);
        }
        None => queue(&mut canvas, app, now),
    }
}

fn queue(canvas: &mut Canvas<'_>, app: &App, now: i64) {
    let waits = app.queue.iter().filter(|one| one.state() == v1::State::Pending).count();
    let granted = app.queue.len() - waits;
    let (what, live) = match (app.lost.is_empty(), app.synced) {
        (true, true) => ("Enforcer", "live "),
        (true, false) => ("Enforcer", "... "),
        (false, _) => (NOT_LIVE, ""),
    };
    canvas.bar(0, &format!(" {what}: {waits} waiting, {granted} granted"), live);
    let room = (canvas.height - 3) / ROWS;
    let at = app.at();
    let first = first(app, canvas.height);
    for (place, approval) in app.queue.iter().enumerate().skip(first).take(room) {
        let y = 1 + (place - first) * ROWS;
        let here = place == at;
        let style = match here {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            false => Style::new(),
        };
        let mark = if here { '>' } else { ' ' };
        let [above, below] = two_rows(approval, now);
        canvas.row(y, &cut(&format!("{mark} {above}"), canvas.width), style);
        canvas.row(y + 1, &cut(&format!("    {below}"), canvas.width), Style::new());
    }
    if app.queue.is_empty() && app.synced {
        canvas.row(2, "  Nothing waits for you.", Style::new());
    }
    let said = match app.lost.as_str() {
        "" => app.notice.clone(),
        why => format!("{}; trying again", text::line(why)),
    };
    canvas.foot(&said, "j k  Enter read  a d r  ? help  q quit");
}

/// The first one of the queue on a screen of so many rows.
fn first(app: &App, height: usize) -> usize {
    let room = height.saturating_sub(3) / ROWS;
    (app.at() + 1).saturating_sub(room.max(1))
}

/// Who and how long, and what.
fn two_rows(approval: &v1::Approval, now: i64) -> [String; 2] {
    let request = approval.request.clone().unwrap_or_default();
    let agent = request.principal.as_ref().map_or("", |principal| &principal.agent);
    let quorum = request.scopes.iter().map(|scope| scope.quorum).max().unwrap_or(1);
    let (yes, no) = (convert::voters(approval, true).len(), convert::voters(approval, false).len());
    let left = text::span(approval.expires_unix_ms.saturating_sub(now));
    let mut above = match approval.state() {
        v1::State::Pending => format!("{left} left"),
        _ => format!("{} {left} left", show::state(approval)),
    };
    above += &format!(", {} old", text::span(now.saturating_sub(approval.created_unix_ms)));
    above += &format!(", {yes}/{quorum} yes");
    if no > 0 {
        above += &format!(", {no} no");
    }
    if approval.unreviewed {
        above += ", GLASS BROKEN";
    }
    if !approval.escalated.is_empty() {
        above += ", escalated";
    }
    above += &format!("  {}/{}", text::short(&approval.host, 40), text::short(agent, 40));
    let operation = request.operation.clone().unwrap_or_default();
    let below = match &request.step {
        Some(step) => {
            let words = text::short(&crate::task::words(&request), 300);
            format!("step {} of {}: {words}", step.number, step.of)
        }
        None => {
            let action = text::short(&operation.action, 40);
            format!("{action} {}", text::short(&operation.resource, 300))
        }
    };
    [above, below]
}

fn reading(
    canvas: &mut Canvas<'_>,
    reading: &mut Reading,
    prompt: Option<&Prompt>,
    notice: &str,
    lost: bool,
    now: i64,
) {
    let height = canvas.height - 3;
    reading.lay_out(canvas.width, height);
    let approval = &reading.approval;
    let left = match approval.state() {
        v1::State::Pending | v1::State::Approved => {
            format!("{} left ", text::span(approval.expires_unix_ms.saturating_sub(now)))
        }
        _ => String::new(),
    };
    let title = format!("{} {}", show::state(approval), text::line(&approval.id));
    let title = if lost { format!(" {NOT_LIVE}: {title}") } else { format!(" {title}") };
    canvas.bar(0, &title, &left);
    for (y, (_, row)) in reading.rows.iter().skip(reading.top).take(height).enumerate() {
        canvas.row(y + 1, row, Style::new());
    }
    if let Some(prompt) = prompt {
        return asked(canvas, prompt);
    }
    let end = (reading.top + height).min(reading.rows.len());
    let mut said = format!("{}-{end} of {}", reading.top + 1, reading.rows.len());
    if reading.changed {
        said = "IT HAS CHANGED meanwhile: Enter shows it anew".to_owned();
    } else if !notice.is_empty() {
        notice.clone_into(&mut said);
    } else if approval.state() == v1::State::Pending {
        said += match (&reading.digest, reading.shown()) {
            (Err(_), _) => "; CANNOT BE APPROVED",
            (Ok(_), false) => "; read to the end to approve",
            (Ok(_), true) => "; all of it was shown",
        };
    }
    canvas.foot(&said, "space page  a d r  ? help  q back");
}

fn asked(canvas: &mut Canvas<'_>, prompt: &Prompt) {
    let what = match prompt.act {
        Act::Approve => "Approve",
        Act::Deny => "Deny",
        Act::Revoke => "Take back",
    };
    // What is to be typed comes first, so that it is on narrow screens too.
    let (question, typed, about) = match &prompt.sure {
        Some(sure) => ("Type yes: ".to_owned(), sure.clone(), "  (to approve exactly this)"),
        None => (format!("{what}. Reason: "), text::line(&prompt.reason), ""),
    };
    // Of a long reason the end is seen, where the next letter goes.
    let room = canvas.width.saturating_sub(text::room(&question) + 1);
    let mut shown = typed.as_str();
    while text::room(shown) > room {
        let first = text::pieces(shown).next().map_or(0, str::len);
        shown = shown.get(first..).unwrap_or("");
    }
    canvas.foot(&format!("{question}{shown}_{about}"), "Enter goes on  Esc nothing is decided");
}
