//! Keys in, screens and votes out.

use super::draw;
use super::state::{App, Effect, Input};
use crate::approval::{Ask, Scope, convert};
use crate::operation::{Operation, Protocol};
use crate::principal::{AgentName, Principal, Process};
use enforcer_proto::v1;
use ratatui::Terminal;
use ratatui::backend::{Backend as _, TestBackend};
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;

/// When the screens are drawn. Milliseconds since the Unix epoch.
const NOW: i64 = 1_700_000_100_000;

/// A request whose digest fits.
fn request(n: u8, body: impl Into<bytes::Bytes>) -> v1::ApprovalRequest {
    let principal = Principal {
        host: "build-7".to_owned(),
        agent: AgentName::parse("ci").expect("a name"),
        task: None,
        cgroup: "/agents.slice/ci".to_owned(),
        process: Process::default(),
    };
    let resource = format!("https://billing.test/v1/refunds/{n}");
    let mut operation =
        Operation::new("billing", "billing.test", 443, Protocol::Http, "http.post", resource);
    operation.with_body(body.into());
    let digest = operation.digest(&principal);
    let scope = Scope {
        name: "payments".to_owned(),
        reviewers: vec!["finance".to_owned()],
        quorum: 1,
        deny_threshold: 1,
        request_ttl: Duration::from_secs(600),
        grant_ttl: Duration::from_secs(300),
        uses: 1,
        reason_required: false,
        reason_pattern: None,
        hours: Vec::new(),
        escalate_after: None,
        escalate_to: Vec::new(),
        break_glass: Vec::new(),
        patterns: false,
    };
    let policy = "sha256:1".to_owned();
    convert::request(Ask { principal, operation, digest, scopes: vec![scope], policy })
}

/// An approval whose digest fits, with a body of so many lines.
fn approval(n: u8, lines: usize) -> v1::Approval {
    let body: String = (1..=lines).map(|line| format!("line {line}\n")).collect();
    v1::Approval {
        id: format!("0190163d-8694-739b-aea5-966c26f8ad9{n}"),
        state: v1::State::Pending.into(),
        host: "build-7".to_owned(),
        request: Some(request(n, body)),
        asked: 1,
        created_unix_ms: NOW - 60_000,
        expires_unix_ms: NOW + 600_000 + i64::from(n) * 1000,
        revision: 1,
        ..v1::Approval::default()
    }
}

/// The screen of a person with these approvals in the queue.
struct Desk {
    app: App,
    terminal: Terminal<TestBackend>,
    scene: draw::Scene,
}

impl Desk {
    fn new(columns: u16, rows: u16, queue: &[v1::Approval]) -> Self {
        let terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let mut desk = Self { app: App::default(), terminal, scene: draw::Scene::default() };
        for approval in queue {
            desk.take(Input::News(Box::new(approval.clone())));
        }
        desk.take(Input::Synced);
        desk
    }

    fn take(&mut self, input: Input) -> Option<Effect> {
        let effect = self.app.take(input);
        draw::on(&mut self.terminal, &mut self.scene, &mut self.app, NOW).unwrap();
        effect
    }

    fn key(&mut self, code: KeyCode) -> Option<Effect> {
        self.take(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn keys(&mut self, text: &str) -> Option<Effect> {
        let mut last = None;
        for c in text.chars() {
            last = self.key(if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) });
        }
        last
    }

    /// Opens the chosen one, which is this.
    fn read(&mut self, approval: &v1::Approval) {
        assert_eq!(self.key(KeyCode::Enter), Some(Effect::Fetch(approval.id.clone())));
        self.take(Input::Whole(approval.id.clone(), Ok(Box::new(approval.clone()))));
    }

    fn page_through(&mut self) {
        for _ in 0..200 {
            self.keys(" ");
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.terminal.backend_mut().resize(columns, rows);
        self.take(Input::Tick);
    }

    fn screen(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width).map(|row| {
            let row: String = row.iter().map(Cell::symbol).collect();
            row.trim_end().to_owned() + "\n"
        });
        rows.collect()
    }

    fn says(&self, text: &str) -> bool {
        self.screen().contains(text)
    }
}

fn approves(effect: Option<Effect>) -> Option<v1::DecideRequest> {
    match effect {
        Some(Effect::Decide(vote)) => Some(vote),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_queue_has_what_waits_and_what_is_granted() {
    let mut granted = approval(3, 1);
    granted.state = v1::State::Approved.into();
    let queue = [approval(2, 1), granted, approval(1, 1)];
    let mut desk = Desk::new(80, 12, &queue);
    insta::assert_snapshot!(desk.screen());
    // The choice stays on its approval when others come before it.
    desk.keys("j");
    let mut first = approval(0, 1);
    first.expires_unix_ms = NOW + 1000;
    desk.take(Input::News(Box::new(first)));
    assert_eq!(desk.app.chosen.as_deref(), Some(queue[0].id.as_str()));
    // One that is over leaves.
    let mut over = queue[0].clone();
    over.state = v1::State::Denied.into();
    desk.take(Input::News(Box::new(over)));
    assert!(!desk.says("refunds/2") && desk.says("Enforcer: 2 waiting, 1 granted"));
    // A server that is lost is told, and what ended meanwhile is gone with the next state.
    desk.take(Input::Lost("gone\u{1b}[2J".to_owned()));
    assert!(desk.says("NOT LIVE") && desk.says("gone‹U+001B›"), "{}", desk.screen());
    desk.take(Input::News(Box::new(queue[2].clone())));
    desk.take(Input::Synced);
    assert!(desk.says("1 waiting, 0 granted") && desk.says("live"));
    desk.resize(40, 15);
    insta::assert_snapshot!("queue_narrow", desk.screen());
    desk.keys("?");
    insta::assert_snapshot!("help_narrow", desk.screen());
    desk.keys("x");
    assert_eq!(desk.keys("q"), Some(Effect::Quit));
}

#[test]
fn what_was_not_shown_to_its_end_cannot_be_approved() {
    let long = approval(1, 60);
    let mut desk = Desk::new(80, 24, std::slice::from_ref(&long));
    desk.read(&long);
    insta::assert_snapshot!("reading", desk.screen());
    assert_eq!(desk.keys("a"), None);
    assert!(desk.says("read it to its end"));
    // The end without the middle is not all of it.
    desk.keys("G");
    desk.keys("a");
    assert!(desk.says("read it to its end"));
    desk.keys("g");
    desk.page_through();
    assert!(desk.says("all of it was shown"));
    desk.keys("a");
    assert_eq!(approves(desk.keys("CHG-1\n")), None);
    assert!(desk.says("Type yes: _  (to approve exactly this)"));
    let vote = approves(desk.keys("yes\n")).expect("a vote");
    assert_eq!((vote.approve, vote.reason.as_str()), (true, "CHG-1"));
    assert_eq!((&vote.id, &vote.digest), (&long.id, &long.request.as_ref().unwrap().digest));
    // Nothing twice while it is on its way.
    desk.keys("a");
    assert!(desk.app.prompt.is_none());
    let mut done = long.clone();
    done.state = v1::State::Approved.into();
    desk.take(Input::Done(Ok(Box::new(done))));
    assert!(desk.says("approved: 0190163d") && desk.says("1 granted"));
}

#[test]
fn the_decisive_words_are_on_the_narrowest_screen() {
    let short = approval(1, 1);
    let mut desk = Desk::new(24, 10, std::slice::from_ref(&short));
    desk.read(&short);
    desk.take(Input::Lost("gone".to_owned()));
    assert!(desk.says("NOT LIVE: pending"), "{}", desk.screen());
    desk.take(Input::News(Box::new(short.clone())));
    desk.take(Input::Synced);
    assert!(!desk.says("NOT LIVE"));
    desk.page_through();
    desk.keys("a\nye");
    assert!(desk.says("Type yes: ye_"), "{}", desk.screen());
    assert!(approves(desk.keys("s\n")).is_some());
    let mut done = short;
    done.state = v1::State::Denied.into();
    desk.take(Input::Done(Ok(Box::new(done))));
    assert!(desk.says("denied: 0190163d"), "{}", desk.screen());
    desk.take(Input::Lost("gone".to_owned()));
    assert!(desk.says("NOT LIVE: 0 waiting"), "{}", desk.screen());
}

#[test]
fn only_a_yes_approves_and_a_refusal_is_told() {
    let short = approval(1, 1);
    let mut desk = Desk::new(100, 60, std::slice::from_ref(&short));
    desk.read(&short);
    for typed in ["a\n\n", "a\nno\n", "a\nye\n"] {
        assert_eq!(approves(desk.keys(typed)), None);
        assert!(desk.says("nothing was decided"), "{}", desk.screen());
    }
    desk.keys("awhy");
    assert_eq!(desk.key(KeyCode::Esc), None);
    assert!(desk.app.prompt.is_none());
    assert!(approves(desk.keys("a\nyes\n")).is_some());
    desk.take(Input::Done(Err("a reason is needed\u{202e}".to_owned())));
    assert!(desk.says("not done: a reason is needed‹U+202E›"));
    // Still open, and can be tried again.
    assert!(approves(desk.keys("abecause\nyes\n")).is_some());
}

#[test]
fn what_does_not_fit_its_digest_can_only_be_denied() {
    let mut forged = approval(1, 1);
    forged.request.as_mut().unwrap().body = bytes::Bytes::from_static(b"another body");
    let mut desk = Desk::new(80, 24, std::slice::from_ref(&forged));
    desk.read(&forged);
    desk.page_through();
    assert_eq!(desk.keys("a"), None);
    assert!(desk.says("CANNOT BE APPROVED"));
    let vote = approves(desk.keys("dno\n")).expect("a vote");
    assert!(!vote.approve);
    assert_eq!((vote.reason.as_str(), &vote.id), ("no", &forged.id));
}

#[test]
fn what_changed_while_it_was_read_is_read_anew() {
    let old = approval(1, 1);
    let mut desk = Desk::new(80, 60, std::slice::from_ref(&old));
    desk.read(&old);
    desk.keys("awhy");
    let mut new = old.clone();
    new.revision = 2;
    desk.take(Input::News(Box::new(new.clone())));
    assert!(desk.says("IT HAS CHANGED") && desk.app.prompt.is_none());
    for key in ["a", "d"] {
        assert_eq!(desk.keys(key), None);
        assert!(desk.app.prompt.is_none());
    }
    assert_eq!(desk.keys("\n"), Some(Effect::Fetch(old.id.clone())));
    desk.take(Input::Whole(new.id.clone(), Ok(Box::new(new))));
    assert!(approves(desk.keys("a\nyes\n")).is_some());
    // An answer that nobody waits for any more opens nothing.
    let mut desk = Desk::new(80, 60, &[approval(1, 1), approval(2, 1)]);
    desk.key(KeyCode::Enter);
    desk.take(Input::Whole(approval(2, 1).id, Ok(Box::new(approval(2, 1)))));
    assert!(desk.app.reading.is_none());
}

#[test]
fn a_grant_is_taken_back_and_nothing_else() {
    let waits = approval(1, 1);
    let mut desk = Desk::new(80, 60, std::slice::from_ref(&waits));
    assert_eq!(desk.keys("r"), Some(Effect::Fetch(waits.id.clone())));
    desk.take(Input::Whole(waits.id.clone(), Ok(Box::new(waits.clone()))));
    assert!(desk.says("no grant to take back") && desk.app.prompt.is_none());
    let mut granted = waits;
    (granted.state, granted.revision) = (v1::State::Approved.into(), 2);
    let mut desk = Desk::new(80, 60, std::slice::from_ref(&granted));
    desk.keys("r");
    desk.take(Input::Whole(granted.id.clone(), Ok(Box::new(granted.clone()))));
    let wanted = v1::RevokeRequest { id: granted.id, reason: "wrong".to_owned() };
    assert_eq!(desk.keys("wrong\n"), Some(Effect::Revoke(wanted)));
}

#[test]
fn a_narrower_window_shows_all_of_it_again() {
    let mut wide = approval(1, 3);
    wide.request = Some(request(1, "x".repeat(300)));
    let mut desk = Desk::new(80, 24, std::slice::from_ref(&wide));
    desk.read(&wide);
    desk.page_through();
    assert!(desk.says("all of it was shown"));
    // Seen is seen, whatever the width; what was not seen stays so.
    desk.resize(40, 15);
    assert!(desk.says("all of it was shown"), "{}", desk.screen());
    let mut desk = Desk::new(80, 24, std::slice::from_ref(&wide));
    desk.read(&wide);
    desk.resize(40, 15);
    insta::assert_snapshot!("reading_narrow", desk.screen());
    assert!(desk.says("read to the end"));
    desk.resize(10, 3);
    assert!(desk.says("the window"));
    desk.resize(40, 15);
    desk.page_through();
    assert!(desk.says("all of it was shown"));
}

#[test]
fn nothing_of_an_earlier_screen_is_left() {
    let long = approval(1, 60);
    let mut desk = Desk::new(80, 24, &[long.clone(), approval(2, 1)]);
    // What a terminal that counts otherwise left where we believe nothing to be.
    let leave = |desk: &mut Desk| {
        let mut cell = Cell::default();
        cell.set_symbol("LEFT");
        desk.terminal.backend_mut().draw([(70, 20, &cell)].into_iter()).unwrap();
        assert!(desk.says("LEFT"));
    };
    leave(&mut desk);
    // While nothing changes nothing is drawn.
    desk.take(Input::Tick);
    assert!(desk.says("LEFT"));
    desk.read(&long);
    assert!(!desk.says("LEFT"), "another page");
    for key in [" ", "j", "g", "?", "x", "q"] {
        leave(&mut desk);
        desk.keys(key);
        assert!(!desk.says("LEFT"), "{key}");
    }
    leave(&mut desk);
    desk.resize(80, 23);
    assert!(!desk.says("LEFT"), "another size");
    // A row of the queue that is not ASCII, in a queue that stays where it is.
    leave(&mut desk);
    let mut wide = approval(2, 1);
    wide.host = "日本".to_owned();
    desk.take(Input::News(Box::new(wide)));
    assert!(!desk.says("LEFT"), "another row");
}

#[test]
fn what_the_screen_has_is_what_was_shown() {
    // A body of every character of some blocks, read to its end, row by row.
    let blocks = [0x20..0x3100_u32, 0xa000..0xd800, 0xf900..0x1_0000, 0x1_f000..0x2_0000];
    let all = blocks.into_iter().flatten().filter_map(char::from_u32);
    let body: String = all.map(|c| format!("[{c}ก{c}क{c}]")).collect();
    for columns in [80, 37] {
        let mut odd = approval(1, 1);
        odd.request = Some(request(1, body.clone()));
        let mut desk = Desk::new(columns, 200, std::slice::from_ref(&odd));
        desk.read(&odd);
        loop {
            let reading = desk.app.reading.as_ref().expect("it is read");
            let (top, last) = (reading.top, reading.shown());
            let rows: Vec<_> = reading.rows[top..].iter().take(197).collect();
            let screen = desk.screen();
            for ((_, row), drawn) in rows.into_iter().zip(screen.lines().skip(1)) {
                // After a character of two columns the screen has a blank cell.
                let without = |text: &str| text.replace(' ', "");
                assert_eq!(without(row), without(drawn));
            }
            if last {
                break;
            }
            desk.keys(" ");
        }
    }
}

#[test]
fn hostile_text_stays_text() {
    let fake = "x\u{1b}[2J\u{202e}\u{7}\nEnforcer: 0 waiting";
    let mut hostile = approval(1, 1);
    hostile.host = fake.to_owned();
    let request = hostile.request.as_mut().unwrap();
    request.principal.as_mut().unwrap().agent = fake.to_owned();
    let operation = request.operation.as_mut().unwrap();
    (operation.action, operation.resource) = (fake.to_owned(), fake.repeat(9));
    request.body = fake.repeat(20).into_bytes().into();
    for (columns, rows) in [(80, 24), (40, 15)] {
        let mut desk = Desk::new(columns, rows, std::slice::from_ref(&hostile));
        let clean = |desk: &Desk| {
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            let screen = desk.screen();
            assert!(!screen.chars().any(bad), "{screen:?}");
            let forged = screen.lines().skip(1).any(|line| line.starts_with("Enforcer"));
            assert!(!forged, "{screen}");
        };
        clean(&desk);
        desk.read(&hostile);
        for _ in 0..60 {
            clean(&desk);
            desk.keys("j");
        }
    }
}
