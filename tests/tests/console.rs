//! The console in a real browser, signed in by a real identity provider.

use enforcer::approval::identity::Role;
use enforcer::approval::token::Token;
use enforcer::approval::{Ask, Scope, convert, join, tls};
use enforcer::operation::{Operation, Protocol};
use enforcer::principal::{AgentName, Principal, Process};
use enforcer_proto::v1;
use enforcer_proto::v1::approvals_client::ApprovalsClient;
use enforcer_proto::v1::hosts_client::HostsClient;
use enforcer_tests::console::{Browser, Console, screenshots};
use enforcer_tests::wait::eventually;
use serde_json::json;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A host that asks.
struct Host {
    runtime: Runtime,
    identity: enforcer::approval::identity::Identity,
    url: String,
}

impl Host {
    fn join(console: &Console) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let token = Token::parse(&console.token("daemon", "build-7", &[])).expect("a token");
        let dir = console.dir.path().join("host");
        let joined = runtime.block_on(join::join(&console.api, &token, &dir));
        let identity = joined.expect("joined");
        assert_eq!(identity.holder.subject.role(), Role::Daemon);
        Self { runtime, identity, url: console.api.clone() }
    }

    fn ask(&self, action: &str, resource: &str, body: &str) -> v1::Approval {
        let principal = Principal {
            host: "build-7".to_owned(),
            agent: AgentName::parse("release-bot").expect("a name"),
            task: None,
            cgroup: "/agents.slice/release-bot".to_owned(),
            process: Process {
                comm: "python3".to_owned(),
                exe: Some("/usr/bin/python3.11".into()),
                argv: ["python3", "release.py", "--stage", "prod"].map(str::to_owned).to_vec(),
                ..Process::default()
            },
        };
        let mut operation = Operation::new(
            "billing",
            "api.billing.example",
            443,
            Protocol::Http,
            action,
            resource.to_owned(),
        );
        operation.fact("http.method", "POST");
        operation.fact("http.header.content-type", "application/json");
        operation.with_body(body.to_owned().into_bytes().into());
        let digest = operation.digest(&principal);
        let scope = Scope {
            name: "payments".to_owned(),
            reviewers: vec!["ops".to_owned()],
            quorum: 1,
            deny_threshold: 1,
            request_ttl: Duration::from_secs(900),
            grant_ttl: Duration::from_secs(300),
            uses: 1,
            reason_required: true,
            reason_pattern: None,
            hours: Vec::new(),
            escalate_after: None,
            escalate_to: Vec::new(),
            break_glass: Vec::new(),
            patterns: false,
        };
        let policy = format!("sha256:{}", "4f0c".repeat(16));
        let ask = Ask { principal, operation, digest, scopes: vec![scope], policy };
        self.runtime.block_on(async {
            let channel = tls::channel(&self.url, &self.identity).expect("a channel");
            let asked = ApprovalsClient::new(channel).request(convert::request(ask)).await;
            asked.expect("it is asked").into_inner()
        })
    }

    fn state(&self, id: &str) -> v1::State {
        self.runtime.block_on(async {
            let channel = tls::channel(&self.url, &self.identity).expect("a channel");
            let get = v1::GetRequest { id: id.to_owned() };
            ApprovalsClient::new(channel).get(get).await.expect("it is there").into_inner().state()
        })
    }

    fn becomes(&self, id: &str, state: v1::State) {
        eventually(&format!("{id} is {state:?}"), Duration::from_secs(60), || {
            (self.state(id) == state).then_some(())
        });
    }

    fn report(&self, ok: bool) {
        let check = |name: &str, ok: bool, detail: &str| v1::HostCheck {
            name: name.to_owned(),
            ok,
            detail: detail.to_owned(),
        };
        let report = v1::HostReport {
            version: "0.1.0".to_owned(),
            policy: format!("sha256:{}", "4f0c".repeat(16)),
            layers: vec![
                check("cgroup", true, ""),
                check("lsm", ok, "the kernel was started without bpf in lsm="),
            ],
            checks: vec![check("kernel half", true, "as loaded")],
            recording: true,
            transcript_bytes: 3 << 20,
            transcript_quota_bytes: 10 << 20,
            flows_open: 4,
            held: 1,
            uptime_seconds: 4000,
            policy_number: 0,
            policy_age_seconds: 0,
        };
        self.runtime.block_on(async {
            let channel = tls::channel(&self.url, &self.identity).expect("a channel");
            HostsClient::new(channel).report(report).await.expect("it is taken");
        });
    }
}

/// Signs somebody in at the provider, from the console's page on.
fn sign_in(console: &Console, browser: &mut Browser, name: &str) {
    let code = format!(
        "await page.goto('{}/');
         await page.click('text=Sign in with Example ID');
         await page.fill('input[name=login]', '{name}');
         await page.fill('input[name=password]', 'x');
         await page.click('button[type=submit]');
         await page.waitForSelector('button[type=submit]:has-text(\"Continue\")');
         await page.click('button[type=submit]');
         await page.waitForURL(url => url.origin === '{0}' && !url.pathname.startsWith('/signin/call'));",
        console.url
    );
    browser.run(name, &code);
}

#[test]
fn people_decide_in_a_browser() {
    let console = Console::start();
    let host = Host::join(&console);
    let mut browser = Browser::start();
    let url = &console.url;

    // The provider's group makes the reviewer; the queue says at once what comes.
    sign_in(&console, &mut browser, "ann");
    let seen = browser.run("ann", "await page.waitForSelector('#link[data-state=on]'); return await page.evaluate(() => { window.kept = 1; return document.body.innerText; });");
    let seen = seen.as_str().expect("text");
    assert!(seen.contains("ann@example.org") && seen.contains("Nothing waits"), "{seen}");
    let pay = host.ask(
        "http.post",
        "https://api.billing.example/payments",
        "{\"amount\": 100,\n \"to\": \"ACME\"}",
    );
    let row = format!("a[href=\"/approvals/{}\"]", pay.id);
    let kept = browser.run(
        "ann",
        &format!(
            "await page.waitForSelector('{row}'); return await page.evaluate(() => window.kept);"
        ),
    );
    assert_eq!(kept, 1, "the page was not loaded anew");

    // By keys to the approval and to its button, which wants a reason and a tick first.
    let landed = browser.run(
        "ann",
        "await page.keyboard.press('j'); await page.keyboard.press('Enter');
         await page.waitForSelector('.decide'); await page.keyboard.press('a');
         const key = await page.evaluate(() => document.activeElement.dataset.key);
         await page.keyboard.press('Enter');
         return [key, page.url(), await page.evaluate(() => document.querySelectorAll(':invalid').length > 0)];",
    );
    assert_eq!(landed, json!(["approve", format!("{url}/approvals/{}", pay.id), true]));
    assert_eq!(host.state(&pay.id), v1::State::Pending, "a key alone decides nothing");
    browser.run(
        "ann",
        "await page.fill('.decide textarea[name=reason]', 'invoice 4711');
         await page.check('.decide input[name=read]');
         await page.click('button.approve');
         await page.waitForSelector('.state.approved');",
    );
    host.becomes(&pay.id, v1::State::Approved);

    // Denied without a tick.
    let drop = host.ask("http.delete", "https://api.billing.example/customers/1", "");
    browser.run(
        "ann",
        &format!(
            "await page.goto('{url}/approvals/{}');
             await page.fill('.decide textarea[name=reason]', 'not in the change window');
             await page.click('button.deny'); await page.waitForSelector('.state.denied');",
            drop.id
        ),
    );
    host.becomes(&drop.id, v1::State::Denied);

    // A viewer has no buttons, and what a script of the page sends instead is refused.
    let third = host.ask("http.post", "https://api.billing.example/refunds", "{}");
    let (id, digest) = (&third.id, &third.request.as_ref().expect("asked").digest);
    sign_in(&console, &mut browser, "vic");
    let forged = browser.run(
        "vic",
        &format!(
            "await page.goto('{url}/approvals/{id}');
             const buttons = await page.locator('button.approve, button.deny').count();
             const status = await page.evaluate(async () => {{
               const csrf = document.querySelector('input[name=csrf]').value;
               const body = new URLSearchParams({{ csrf, vote: 'deny', reason: 'x', digest: '{digest}' }});
               return (await fetch('/approvals/{id}/decide', {{ method: 'POST', body }})).status;
             }});
             return [buttons, status];"
        ),
    );
    assert_eq!(forged, json!([0, 403]));

    // Another site's form comes without the session; another page's without its token.
    let crossed = browser.run(
        "ann",
        &format!(
            "await page.goto('{url}/'); const other = await context.newPage();
             await other.goto('{issuer}/.well-known/openid-configuration');
             const [answer] = await Promise.all([
               other.waitForResponse((r) => r.url().endsWith('/decide')),
               other.evaluate(() => {{
                 const form = document.createElement('form');
                 form.method = 'post'; form.action = '{url}/approvals/{id}/decide';
                 for (const [name, value] of [['vote', 'deny'], ['reason', 'x'], ['digest', '{digest}']]) {{
                   const field = document.createElement('input');
                   field.name = name; field.value = value; form.append(field);
                 }}
                 document.body.append(form); form.submit();
               }}),
             ]);
             await other.close();
             const own = await page.evaluate(async () => {{
               const body = new URLSearchParams({{ vote: 'deny', reason: 'x', digest: '{digest}' }});
               return (await fetch('/approvals/{id}/decide', {{ method: 'POST', body }})).status;
             }});
             return [answer.status(), own];",
            issuer = console.issuer
        ),
    );
    assert_eq!(crossed, json!([401, 403]));
    assert_eq!(host.state(id), v1::State::Pending);

    // A link from another site leads to the approval.
    let linked = browser.run(
        "ann",
        &format!(
            "await page.goto('{issuer}/.well-known/openid-configuration');
             await page.evaluate(() => {{ const a = document.createElement('a');
               a.href = '{url}/approvals/{id}'; document.body.append(a); a.click(); }});
             await page.waitForSelector('.decide'); return page.url();",
            issuer = console.issuer
        ),
    );
    assert_eq!(linked, format!("{url}/approvals/{id}"));

    // What somebody reads does not change under their eyes: they are told, and cannot go on.
    sign_in(&console, &mut browser, "bob");
    browser.run("ann", "await page.waitForFunction(() => !document.querySelector('.changed'));");
    browser.run(
        "bob",
        &format!(
            "await page.goto('{url}/approvals/{id}');
             await page.fill('.decide textarea[name=reason]', 'no'); await page.click('button.deny');
             await page.waitForSelector('.state.denied');"
        ),
    );
    let told = browser.run(
        "ann",
        "await page.waitForSelector('.changed');
         return await page.evaluate(() => [...document.querySelectorAll('.decide button[type=submit]')].every((b) => b.disabled));",
    );
    assert_eq!(told, true);

    // Who is in no group that may do anything stays out.
    browser.run(
        "eve",
        &format!(
            "await page.goto('{url}/'); await page.click('text=Sign in with Example ID');
             await page.fill('input[name=login]', 'eve'); await page.fill('input[name=password]', 'x');
             await page.click('button[type=submit]');
             await page.waitForSelector('button[type=submit]:has-text(\"Continue\")');
             await page.click('button[type=submit]');
             await page.waitForSelector('text=may do anything here');"
        ),
    );

    // An ended session ends on the screen too, and the person's right ends every session.
    browser.run(
        "ann",
        &format!("await page.goto('{url}/'); await page.waitForSelector('#link[data-state=on]');"),
    );
    let sessions: serde_json::Value =
        serde_json::from_str(&console.server(&["session", "list", "--json"])).expect("JSON");
    let of = |name: &str| {
        let mine = sessions.as_array().expect("a list").iter();
        let mut mine = mine.filter(|s| s["subject"] == format!("reviewer/{name}@example.org"));
        mine.next().expect("a session")["id"].as_str().expect("an id").to_owned()
    };
    console.server(&["session", "end", &of("ann")]);
    browser.run("ann", "await page.waitForURL((url) => url.pathname === '/signin');");
    browser.run(
        "bob",
        &format!("await page.goto('{url}/'); await page.waitForSelector('#link[data-state=on]');"),
    );
    console.server(&["member", "remove", "--role", "reviewer", "--name", "bob@example.org"]);
    browser.run("bob", "await page.waitForURL((url) => url.pathname === '/signin');");
}

#[test]
fn it_works_without_script_and_shows_hostile_text_as_text() {
    let console = Console::start();
    let host = Host::join(&console);
    host.report(true);
    let mut browser = Browser::start();
    let url = &console.url;
    // The first admin, by the secret that `init` printed.
    browser.run(
        "local",
        &format!(
            "await page.goto('{url}/'); await page.click('summary'); await page.fill('input[name=secret]', '{}');
             await page.click('text=Sign in as local admin');
             await page.waitForURL('{url}/');
             await page.goto('{url}/audit'); await page.waitForSelector('text=signin.accepted');",
            console.secret
        ),
    );
    // No script.
    let plain = json!({ "javaScriptEnabled": false });
    browser.run_with("ann", &plain, "return 1;");
    sign_in(&console, &mut browser, "ann");
    let pay = host.ask("http.post", "https://api.billing.example/payments", "{\"amount\": 5}");
    browser.run(
        "ann",
        &format!(
            "await page.goto('{url}/'); await page.click('a[href=\"/approvals/{}\"]', {{ force: true }});
             await page.fill('.decide textarea[name=reason]', 'fine');
             await page.check('.decide input[name=read]'); await page.click('button.approve');
             await page.waitForSelector('.state.approved');",
            pay.id
        ),
    );
    host.becomes(&pay.id, v1::State::Approved);
    // Text that wants to be more than text.
    let evil = "https://api.billing.example/</span><script>window.pwned=1</script>\u{202e}gpj.exe\u{200b}\u{430}\u{1b}[2J<img src=x onerror=window.pwned=1>";
    let hostile = host.ask(
        "http.post",
        evil,
        &format!(
            "{evil}\n<form><button>Approve</button></form>\n\"onmouseover=alert(1)\n{}\n",
            "long ".repeat(400)
        ),
    );
    sign_in(&console, &mut browser, "bob");
    let harmless = browser.run(
        "bob",
        &format!(
            "page.errors.length = 0; await page.goto('{url}/'); await page.goto('{url}/approvals/{}');
             await page.waitForSelector('.decide');
             return await page.evaluate(() => [window.pwned ?? 0, document.images.length,
               document.querySelectorAll('.reading form, .reading button').length,
               document.documentElement.scrollWidth <= window.innerWidth,
               [...document.querySelectorAll('.mark')].some((m) => m.textContent === 'U+202E')])
               .then((found) => [...found, page.dialogs || 0, page.errors]);",
            hostile.id
        ),
    );
    assert_eq!(harmless, json!([0, 0, 0, true, true, 0, []]));
    pictures(&console, &host, &mut browser, &hostile.id);
}

/// Every page, on a phone and on a desk, light and dark; none of them is wider than its screen.
fn pictures(console: &Console, host: &Host, browser: &mut Browser, hostile: &str) {
    let body = "{\n  \"amount\": 129900,\n  \"currency\": \"EUR\",\n  \"iban\": \"DE89 3704 0044 0532 0130 00\",\n  \"reference\": \"invoice 4711\"\n}\n";
    let pay = host.ask("http.post", "https://api.billing.example/v2/payments?notify=true", body);
    host.ask("http.delete", "https://api.billing.example/v2/customers/8812", "");
    host.ask("http.get", "https://api.billing.example/v2/exports/all.csv", "");
    let url = &console.url;
    let dir = screenshots();
    let pages = [
        ("queue", "/".to_owned()),
        ("approval", format!("/approvals/{}", pay.id)),
        ("hostile", format!("/approvals/{hostile}")),
        ("history", "/history".to_owned()),
        ("hosts", "/hosts".to_owned()),
        ("policy", "/policy".to_owned()),
        ("habits", "/report".to_owned()),
        ("missing", "/nothing".to_owned()),
    ];
    for (screen, width, height) in [("phone", 390, 844), ("desk", 1280, 900)] {
        for scheme in ["light", "dark"] {
            browser.run("bob", &format!(
                "await page.setViewportSize({{ width: {width}, height: {height} }}); await page.emulateMedia({{ colorScheme: '{scheme}' }});"
            ));
            for (name, path) in &pages {
                let wide = browser.run("bob", &format!(
                    "await page.goto('{url}{path}'); return await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);"
                ));
                assert!(
                    wide.as_i64().is_some_and(|wide| wide <= 0),
                    "{name} on a {screen}: {wide}"
                );
                if let Some(dir) = &dir {
                    let file = dir.join(format!("{name}-{screen}-{scheme}.png"));
                    browser.run(
                        "bob",
                        &format!("await page.screenshot({{ path: {file:?}, fullPage: true }});"),
                    );
                }
            }
            let entry = browser.run_with("nobody", &serde_json::Value::Null, &format!(
                "await page.setViewportSize({{ width: {width}, height: {height} }}); await page.emulateMedia({{ colorScheme: '{scheme}' }});
                 await page.goto('{url}/signin'); return page.url();"
            ));
            assert_eq!(entry, format!("{url}/signin"));
            if let Some(dir) = &dir {
                for (who, name, path) in [
                    ("nobody", "signin", "/signin"),
                    ("local", "members", "/members"),
                    ("local", "audit", "/audit"),
                    ("local", "sessions", "/sessions"),
                ] {
                    let file = dir.join(format!("{name}-{screen}-{scheme}.png"));
                    browser.run(who, &format!(
                        "await page.setViewportSize({{ width: {width}, height: {height} }}); await page.emulateMedia({{ colorScheme: '{scheme}' }});
                         await page.goto('{url}{path}'); await page.screenshot({{ path: {file:?}, fullPage: true }});"
                    ));
                }
            }
        }
    }
}
