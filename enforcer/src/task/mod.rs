//! Tasks that agents declare: an objective and its steps, each approved on its own, ahead of time.
//!
//! Whose a task is says the kernel: host, agent and task of the caller's cgroup, never the
//! declaration. Each step's operation is made here as the proxy would read it, so that it has the
//! digest that the operation will have when it comes; what is approved is that digest, or a
//! pattern where the scope takes patterns. Nothing here decides.

mod ask;
pub mod mcp;
mod rate;
mod show;

pub use ask::{
    Bytes64, Declaration, HttpStep, Pattern, SqlParameter, SqlPattern, SqlStep, Step, Values,
};
pub use rate::Rate;
pub(crate) use show::{impact, request, state, words};
pub use show::{list, shown};

use crate::approval::step::{STEPS, TEXT};
use crate::approval::{ApprovalError, StepRequest};
use crate::decide::{Denial, judge};
use crate::flow::{Asked, Flow, Place};
use crate::operation::Protocol;
use crate::policy::{Bundle, Scope, Target, TlsMode, Verdict};
use crate::protocol::{http, postgres};
use enforcer_proto::v1;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a declaration is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something in it is wrong; nothing was changed.
    #[error("{at}: {why}")]
    Bad {
        /// Where: `objective`, `step 2`.
        at: String,
        /// What, and what to do.
        why: String,
    },
    /// Too many at once.
    #[error("this agent declares or asks too often; try again in a few seconds")]
    Often,
    /// The approval server did not take it.
    #[error(transparent)]
    Server(#[from] ApprovalError),
}

fn bad(at: impl Into<String>, why: impl Into<String>) -> Refused {
    Refused::Bad { at: at.into(), why: why.into() }
}

/// Puts a declared task of the flow's agent before people.
///
/// # Errors
/// When it is not taken; nothing was changed then.
pub async fn declare(flow: &Flow, declared: Declaration) -> Result<v1::Task, Refused> {
    let done = put(flow, declared).await;
    let principal = &flow.principal;
    match &done {
        Ok(task) => tracing::info!(
            target: "audit", agent = %principal.agent, task = %task.id, "a task was declared"
        ),
        Err(why) => tracing::info!(
            target: "audit", agent = %principal.agent, %why, "a declared task was refused"
        ),
    }
    done
}

async fn put(flow: &Flow, declared: Declaration) -> Result<v1::Task, Refused> {
    let Declaration { objective, steps } = declared;
    fits("objective", &objective)?;
    let of = steps.len();
    if !(1..=STEPS).contains(&of) {
        return Err(bad("steps", format!("a task has 1 to {STEPS} steps, this one has {of}")));
    }
    let bundle = flow.inputs.decider.bundle();
    let mut requests = Vec::with_capacity(of);
    for (number, step) in (1..).zip(steps) {
        let at = format!("step {number}");
        fits(&format!("{at}: justification"), &step.justification)?;
        let (uses, justification) = (step.uses, step.justification.clone());
        let (what, operation, scopes, target) = match step.what(&at)? {
            ask::What::Pattern(pattern) => {
                let scopes = named_scopes(&bundle, &pattern.scopes, &at)?;
                let pattern = pattern_of(&bundle, pattern).map_err(|why| bad(&at, why))?;
                let target = pattern.target.clone();
                (v1::step::What::Pattern(pattern.into()), None, scopes, target)
            }
            exact => {
                let asked = match exact {
                    ask::What::Http(step) => http::ahead::operation(flow, &step),
                    ask::What::Sql(step) => postgres::ahead::operation(flow, &step).await,
                    ask::What::Pattern(_) => continue,
                };
                let asked = asked.map_err(|why| bad(&at, why))?;
                let scopes = judged(flow, &bundle, &asked).map_err(|why| bad(&at, why))?;
                let digest = asked.digest.to_string();
                let target = asked.operation.target.clone();
                (v1::step::What::Exact(digest), Some(asked.operation), scopes, target)
            }
        };
        let tags = bundle.target(&target).map(|target| target.tags.clone()).unwrap_or_default();
        if let Some(scope) = scopes.iter().find(|scope| scope.uses < uses) {
            let why =
                format!("{uses} uses, but scope `{}` gives {} at most", scope.name, scope.uses);
            return Err(bad(at, why));
        }
        if uses == 0 {
            return Err(bad(at, "`uses` is at least 1"));
        }
        requests.push(StepRequest {
            principal: (*flow.principal).clone(),
            operation,
            step: v1::Step {
                objective: objective.clone(),
                number,
                of: u32::try_from(of).unwrap_or(u32::MAX),
                justification,
                uses,
                what: Some(what),
                tags,
            },
            scopes,
            policy: bundle.version().to_owned(),
        });
    }
    if requests.iter().all(|step| step.scopes.is_empty()) {
        return Err(bad("steps", "policy allows every step as it is: nobody needs to be asked"));
    }
    Ok(flow.inputs.decider.declare(&flow.principal, objective, requests).await?)
}

/// The scopes that must approve an operation; none when policy allows it as it is.
fn judged(flow: &Flow, bundle: &Bundle, asked: &Asked) -> Result<Vec<Scope>, String> {
    let target = bundle
        .target(&asked.operation.target)
        .ok_or_else(|| "policy knows no such target".to_owned())?;
    let judgement = judge(bundle, &flow.principal, target, asked);
    match &judgement.verdict {
        Verdict::Allow => Ok(Vec::new()),
        Verdict::NeedsApproval(scopes) => Ok(scopes.clone()),
        Verdict::Deny => {
            let why = Denial::policy(&judgement, bundle).detail;
            Err(format!("policy denies this operation, so nobody can approve it: {why}"))
        }
    }
}

fn named_scopes(bundle: &Bundle, names: &[String], at: &str) -> Result<Vec<Scope>, Refused> {
    let known = |why: &str| {
        let taking: Vec<&str> = bundle.scopes().filter(|s| s.patterns).map(|s| &*s.name).collect();
        let taking = match taking.is_empty() {
            true => "policy has none that takes patterns".to_owned(),
            false => format!("those that take patterns: {}", taking.join(", ")),
        };
        bad(at, format!("{why}; {taking}"))
    };
    if names.is_empty() {
        return Err(known("a pattern names the `scopes` that it is asked under"));
    }
    let mut scopes: Vec<Scope> = Vec::new();
    for name in names {
        match bundle.scope(name) {
            Some(scope) if scope.patterns => {
                if !scopes.contains(scope) {
                    scopes.push(scope.clone());
                }
            }
            _ => return Err(known(&format!("scope {name:?} takes no patterns"))),
        }
    }
    Ok(scopes)
}

fn pattern_of(bundle: &Bundle, pattern: Pattern) -> Result<crate::approval::step::Pattern, String> {
    let Pattern { method, url, sql, .. } = pattern;
    match (method, url, sql) {
        (Some(method), Some(url), None) => http::ahead::pattern(bundle, &method, &url),
        (None, None, Some(sql)) => postgres::ahead::pattern(bundle, sql),
        _ => Err("a pattern has `method` and `url`, or `sql`".to_owned()),
    }
}

fn fits(at: &str, text: &str) -> Result<(), Refused> {
    match text.len() {
        _ if text.trim().is_empty() => {
            Err(bad(at, "it is empty: say it for the people who decide"))
        }
        length if length > TEXT => Err(bad(at, format!("{length} bytes; {TEXT} are the most"))),
        _ => Ok(()),
    }
}

/// The place that a URL's host and port mean, and its target, which must be inspected.
pub(crate) fn place(
    bundle: &Bundle,
    host: &str,
    port: u16,
    protocol: Protocol,
) -> Result<(Place, Arc<Target>), String> {
    let addr: Option<IpAddr> = host.parse().ok();
    let name = addr.map_or_else(|| host.to_owned(), |ip| ip.to_string());
    let place = Place { name, port, addr };
    let target = place.target(bundle).cloned();
    let target = target.ok_or_else(|| format!("policy names no target for {host} port {port}"))?;
    if target.protocol != protocol || target.tls == TlsMode::Passthrough {
        let speaks = target.protocol.as_str();
        return Err(format!("target `{}` speaks {speaks}, and is asked otherwise", target.name));
    }
    Ok((place, target))
}
