//! Declared tasks: approved step by step, ahead of time, and used by nothing else.

use enforcer_tests::daemon::enforcer;
use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::{agents, wait};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

const PAY: &str = "https://api.test:8443/payments";
const TASKS: &str = "http://enforcer.internal/v1/tasks";

/// An MCP client that calls every tool, over HTTP or a pipe: what it got is its output.
const CLIENT: &str = r#"
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

task = json.loads(sys.argv[2])

async def talk(read, write):
    async with ClientSession(read, write) as session:
        await session.initialize()
        out = {"tools": sorted(tool.name for tool in (await session.list_tools()).tools)}
        async def call(name, args):
            result = await session.call_tool(name, args)
            return {"failed": bool(result.is_error), **json.loads(result.content[0].text)}
        out["declared"] = await call("declare_task", task)
        one = out["declared"]["task"]
        out["listed"] = await call("list_tasks", {})
        out["shown"] = await call("show_task", {"task": one})
        approval = out["shown"]["steps"][0]["approval"]
        out["approval"] = await call("approval_state", {"approval": approval})
        refusal = {"reason": "approval-pending", "approval": approval}
        out["explained"] = await call("explain_refusal", refusal)
        out["bad"] = await call("declare_task", {"objective": "o", "steps": []})
        print(json.dumps(out))

async def main():
    if sys.argv[1] == "http":
        async with streamable_http_client("http://enforcer.internal/mcp") as (read, write):
            await talk(read, write)
    else:
        params = StdioServerParameters(command=sys.argv[1], args=["mcp"])
        async with stdio_client(params) as (read, write):
            await talk(read, write)

asyncio.run(main())
"#;

fn curl(all: &Fixture, agent: &str, args: &[&str]) -> Child {
    all.deployment
        .agent(agent, "curl")
        .args(["-sS", "-m", "90", "-w", " %{http_code}", "-A", "payer/1"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn ended(child: Child) -> String {
    text(&child.wait_with_output().expect("ends"))
}

fn payments(all: &Fixture) -> usize {
    all.origin.seen().iter().filter(|seen| seen.path.starts_with("/payments")).count()
}

/// What curl sends for `-d BODY`.
fn pay(body: &str) -> Value {
    json!({
        "justification": format!("an invoice: {body}"),
        "http": {
            "method": "POST",
            "url": PAY,
            "headers": {
                "User-Agent": "payer/1",
                "Accept": "*/*",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            "body": body,
        },
    })
}

/// Declares a task by curl; the answer's status and JSON.
fn declare(all: &Fixture, task: &Value) -> (String, Value) {
    let out = ended(curl(
        all,
        "probe",
        &["-H", "content-type: application/json", "-d", &task.to_string(), TASKS],
    ));
    let (body, status) = out.rsplit_once(' ').expect("a status");
    (status.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON: {out}")))
}

fn review(all: &Fixture, args: &[&str]) -> String {
    let out = all.deployment.review("alice", args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

#[test]
fn the_approved_step_goes_through_and_no_other() {
    let all = Fixture::start();
    let look = json!({
        "justification": "see what is there",
        "http": { "method": "GET", "url": "https://api.test:8443/users" },
    });
    let task = json!({
        "objective": "pay two invoices",
        "steps": [pay("amount=100"), pay("amount=200"), look],
    });
    let (status, declared) = declare(&all, &task);
    assert_eq!(status, "201", "{declared}");
    let id = declared["task"].as_str().expect("an id");
    let states: Vec<&str> = declared["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|s| s["state"].as_str())
        .collect();
    assert_eq!(states, ["pending", "pending", "allowed"]);

    assert!(review(&all, &["tasks"]).contains("pay two invoices"));
    let page = review(&all, &["task", id]);
    let order = [
        "pay two invoices",
        "Step 1: pending",
        "amount=100",
        "Step 2: pending",
        "write once; people",
        "Step 3: allowed",
    ];
    let mut rest = page.as_str();
    for part in order {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part} in its place: {page}")).1;
    }
    let second = declared["steps"][1]["approval"].as_str().expect("an approval");
    let whole = review(&all, &["show", second]);
    assert!(whole.contains("amount=200") && whole.contains("an invoice: amount=200"), "{whole}");
    assert!(whole.contains("the digest is that of exactly this"), "{whole}");
    let missing = all.deployment.review("alice", &["approve", id, "--step", "4", "--yes"]);
    assert!(!missing.status.success(), "there is no step 4");
    review(&all, &["approve", id, "--step", "2", "--reason", "invoice 2", "--yes"]);
    assert_eq!(payments(&all), 0, "a decision alone sends nothing");

    // The same operation by another agent, and the first step's by this one: neither goes through.
    let other = curl(&all, "other", &["-d", "amount=200", PAY]);
    all.deployment.pending("\"agent\":\"other\"");
    let first = curl(&all, "probe", &["-d", "amount=100", PAY]);
    let out = ended(curl(&all, "probe", &["-d", "amount=200", PAY]));
    assert!(out.ends_with(" 200"), "{out}");
    assert_eq!(payments(&all), 1);
    let out = ended(first);
    let waited = declared["steps"][0]["approval"].as_str().expect("an approval");
    assert!(out.ends_with(" 403") && out.contains(waited), "it waits for its own step: {out}");
    assert!(ended(other).ends_with(" 403"));
    assert_eq!(payments(&all), 1);

    // What the agent sees of it, and what another agent does not.
    let tool = |agent: &str, args: &[&str]| {
        let out = all.deployment.agent(agent, enforcer()).args(args).output().expect("starts");
        (out.status.success(), text(&out))
    };
    let (_, listed) = tool("probe", &["tasks", "list"]);
    assert!(listed.contains("pending,spent,allowed"), "{listed}");
    let (_, shown) = tool("probe", &["tasks", "show", id]);
    assert!(
        shown.contains("2. spent") && shown.contains("POST https://api.test:8443/payments"),
        "{shown}"
    );
    let (found, other) = tool("other", &["tasks", "show", id]);
    assert!(!found && other.contains("no task of this agent"), "{other}");
    let record = text(&all.deployment.transcripts(&["show", second]));
    assert!(record.contains("vote yes by alice"), "{record}");
    all.verify();
}

#[test]
fn a_pattern_lets_through_what_it_shows() {
    let all = Fixture::start();
    let pattern = |scopes: Value, url: &str| {
        json!({ "objective": "pay", "steps": [{
            "justification": "one of them",
            "pattern": { "scopes": scopes, "method": "POST", "url": url },
        }] })
    };
    let (status, refused) = declare(&all, &pattern(json!([]), &format!("{PAY}/*")));
    assert_eq!(status, "422");
    let why = refused["detail"].as_str().unwrap_or_default();
    assert!(why.starts_with("step 1:") && why.contains("payments"), "{why}");
    let (status, declared) = declare(&all, &pattern(json!(["payments"]), &format!("{PAY}/*")));
    assert_eq!(status, "201", "{declared}");
    let id = declared["task"].as_str().expect("an id");
    let approval = declared["steps"][0]["approval"].as_str().expect("an approval");
    let page = review(&all, &["show", approval]);
    assert!(
        page.contains("path pattern") && page.contains("/payments/*") && page.contains("ANY"),
        "{page}"
    );
    review(&all, &["approve", id, "--step", "1", "--reason", "go", "--yes"]);
    let deeper = curl(&all, "probe", &["-d", "x", &format!("{PAY}/7/8")]);
    all.deployment.pending("/payments/7/8");
    let out = ended(curl(&all, "probe", &["-d", "anything", &format!("{PAY}/7")]));
    assert!(out.ends_with(" 200"), "{out}");
    assert!(ended(deeper).ends_with(" 403"));
    assert_eq!(payments(&all), 1);
}

#[test]
fn a_bad_task_is_refused_and_nothing_is_asked() {
    let all = Fixture::start();
    let one = |step: Value| json!({ "objective": "o", "steps": [step] });
    let http = |method: &str, url: &str| json!({ "justification": "j", "http": { "method": method, "url": url } });
    let cases = [
        (json!({ "objective": " ", "steps": [pay("a")] }), "422", "objective: "),
        (json!({ "objective": "o", "steps": [] }), "422", "steps: "),
        (one(json!({ "justification": "j" })), "422", "step 1: it has one of"),
        (one(http("DELETE", PAY)), "422", "step 1: policy denies"),
        (one(http("POST", "https://unknown.test/")), "422", "step 1: policy names no target"),
        (one(http("POST", "ftp://api.test/")), "422", "step 1: a URL begins"),
        (one(http("GET", "https://api.test:8443/users")), "422", "steps: policy allows"),
        (
            json!({ "objective": "o", "steps": [pay("a")], "agent": "root" }),
            "400",
            "this is no task: unknown field `agent`",
        ),
    ];
    for (task, status, why) in cases {
        let (got, answer) = declare(&all, &task);
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(got == status && detail.starts_with(why), "{task}: {got} {answer}");
    }
    let mut many = pay("a");
    many["uses"] = json!(2);
    let (_, answer) = declare(&all, &one(many));
    assert!(answer["detail"].as_str().unwrap_or_default().contains("gives 1 at most"), "{answer}");
    let plain = ended(curl(&all, "probe", &["-d", "x", TASKS]));
    assert!(plain.ends_with(" 415"), "{plain}");
    let listed: Value = serde_json::from_str(&review(&all, &["list", "--json"])).expect("JSON");
    assert_eq!(listed, json!([]), "nothing was put before anyone");
    // The positive control.
    assert_eq!(declare(&all, &one(pay("a"))).0, "201");
}

#[test]
fn an_mcp_client_calls_every_tool_over_http_and_stdio() {
    let all = Fixture::start();
    let python = agents::mcp_python();
    let script = all.world.path("client.py");
    std::fs::File::create(&script)
        .and_then(|mut file| file.write_all(CLIENT.as_bytes()))
        .expect("written");
    let stdio = enforcer().display().to_string();
    for (way, body) in [("http", "amount=1"), (stdio.as_str(), "amount=2")] {
        let task = json!({ "objective": "pay one", "steps": [pay(body)] });
        let out = all
            .deployment
            .agent("probe", &python)
            .arg(&script)
            .args([way, &task.to_string()])
            .output()
            .expect("starts");
        assert!(out.status.success(), "{way}: {}", text(&out));
        let line = String::from_utf8_lossy(&out.stdout);
        let got: Value =
            serde_json::from_str(line.trim()).unwrap_or_else(|_| panic!("JSON: {line}"));
        let tools =
            ["approval_state", "declare_task", "explain_refusal", "list_tasks", "show_task"];
        assert_eq!(got["tools"], json!(tools), "{way}");
        assert_eq!(got["declared"]["steps"][0]["state"], "pending", "{got}");
        assert_eq!(got["shown"]["task"], got["declared"]["task"], "{got}");
        assert_eq!(got["listed"]["tasks"][0]["task"], got["declared"]["task"], "{got}");
        assert_eq!(got["approval"]["state"], "pending", "{got}");
        assert!(
            got["explained"]["meaning"].as_str().is_some_and(|m| m.contains("people were asked")),
            "{got}"
        );
        assert_eq!(got["bad"]["failed"], true, "{got}");
        // What was declared by a tool is what curl then sends.
        let id = got["declared"]["task"].as_str().expect("an id");
        review(&all, &["approve", id, "--step", "1", "--reason", "go", "--yes"]);
        let out = ended(curl(&all, "probe", &["-d", body, PAY]));
        assert!(out.ends_with(" 200"), "{way}: {out}");
    }
    wait::eventually("both payments arrive", Duration::from_secs(60), || {
        (payments(&all) == 2).then_some(())
    });
}
