//! Judges one operation against the rules that can concern it.
//!
//! All matching rules count and the strictest wins: a forbid beats every permit;
//! a permit with `@approval` beats one without, and the scopes of all matching
//! permits must approve; nothing matching is a denial. A rule that fails to
//! evaluate denies, because nobody can say what it would have said.

use super::memo::{Memo, Reads};
use super::request;
use super::rules::{self, Rule};
use super::schema::{self, ACTIONS, Action, DNS, SchemaFault, Types, uid};
use super::scope::Scope;
use super::sql;
use super::target::Target;
use super::{Judgement, Verdict};
use crate::operation::{Operation, Protocol};
use crate::principal::Principal;
use cedar_policy::{
    Authorizer, Decision, Entities, Entity, PolicySet, Request, Response,
    RestrictedExpression as Value, Schema,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How many rules that did not match a trace names.
const NEAR_MISSES: usize = 16;

/// The rules of a bundle, laid out for judging.
pub(super) struct Engine {
    types: Types,
    authorizer: Authorizer,
    rules: Vec<Rule>,
    /// By target, then by action.
    slices: Vec<Vec<Option<Slice>>>,
    memo: Memo,
}

/// What is known ahead about one action on one target.
struct Slice {
    rules: Arc<Rules>,
    /// The action and the target, with all that they belong to.
    entities: Entities,
}

/// Rules whose heads admit an action on a target: the only ones that can match.
struct Rules {
    /// Positions in `Engine::rules`, in the order of the file.
    at: Vec<usize>,
    set: PolicySet,
    reads_length: bool,
    reads_hash: bool,
    reads_headers: bool,
    reads_exe: bool,
    reads_exe_hash: bool,
    reads_columns: bool,
    reads_parameters: bool,
}

/// The bundle cannot be laid out; a fault of this build or of Cedar.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineFault {
    #[error(transparent)]
    Schema(#[from] SchemaFault),
    #[error("the rules cannot be laid out: {0}")]
    Cedar(String),
}

fn cedar(error: impl std::fmt::Display) -> EngineFault {
    EngineFault::Cedar(error.to_string())
}

impl Engine {
    pub(super) fn new(
        rules: Vec<Rule>,
        targets: &[Target],
        types: Types,
        schema: &Schema,
    ) -> Result<Self, EngineFault> {
        let mut same: HashMap<Vec<usize>, Arc<Rules>> = HashMap::new();
        let mut slices = Vec::with_capacity(targets.len());
        for target in targets {
            let mut of_target = Vec::with_capacity(ACTIONS.len());
            for action in ACTIONS {
                if !rules::possible(action, target) {
                    of_target.push(None);
                    continue;
                }
                let at: Vec<usize> = rules
                    .iter()
                    .enumerate()
                    .filter(|(_, rule)| rule.concerns(action, target, &types))
                    .map(|(at, _)| at)
                    .collect();
                let rules = match same.get(&at) {
                    Some(rules) => Arc::clone(rules),
                    None => {
                        let made = Arc::new(Rules::new(at.clone(), &rules)?);
                        same.insert(at, Arc::clone(&made));
                        made
                    }
                };
                of_target.push(Some(Slice {
                    rules,
                    entities: entities(action, target, &types, schema)?,
                }));
            }
            slices.push(of_target);
        }
        let memo = Memo::new(Reads {
            headers: rules.iter().any(|rule| rule.reads_headers),
            parameters: rules.iter().any(|rule| rule.reads_parameters),
            statement: rules.iter().any(|rule| rule.reads_statement),
        });
        Ok(Self { types, authorizer: Authorizer::new(), rules, slices, memo })
    }

    /// The ids of all rules, in the order of the file.
    pub(super) fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// Whether a rule that can concern this action on the target at this position asks for the
    /// body; `true` for an action that is not known.
    pub(super) fn reads_body(&self, target: usize, action: &str) -> bool {
        self.slice(target, action)
            .is_none_or(|slice| slice.rules.reads_length || slice.rules.reads_hash)
    }

    /// Whether a rule that can concern this action on the target at this position asks for the
    /// columns that a statement shows or looks at; `true` for an action that is not known.
    pub(super) fn reads_columns(&self, target: usize, action: &str) -> bool {
        self.slice(target, action).is_none_or(|slice| slice.rules.reads_columns)
    }

    fn slice(&self, target: usize, action: &str) -> Option<&Slice> {
        let action = schema::action(action)?;
        self.slices.get(target)?.get(action)?.as_ref()
    }

    /// Judges an operation on the target at position `at`. The targets and scopes are those of the
    /// bundle that this is of, always.
    pub(super) fn judge(
        &self,
        (at, target): (usize, &Target),
        principal: &Principal,
        op: &Operation,
        scopes: &HashMap<String, Scope>,
    ) -> Arc<Judgement> {
        let judge = || self.judge_anew((at, target), principal, op, scopes);
        self.memo.judge(at, principal, op, judge)
    }

    pub(super) fn judge_anew(
        &self,
        (at, target): (usize, &Target),
        principal: &Principal,
        op: &Operation,
        scopes: &HashMap<String, Scope>,
    ) -> Judgement {
        let one = |action: &str| {
            let mut trace = vec![asked(principal, target, op, action)];
            match self.respond(at, target, principal, (op, action)) {
                Ok((rules, response)) => self.weigh(rules, &response, scopes, trace),
                Err(why) => {
                    trace.push(format!("denied: {why}"));
                    deny(Vec::new(), trace)
                }
            }
        };
        if op.protocol != Protocol::Postgres {
            return one(&op.action);
        }
        match sql::actions(op) {
            Ok(actions) => actions.into_iter().map(one).reduce(strictest).unwrap_or_else(|| {
                deny(Vec::new(), vec!["denied: the operation has no action".to_owned()])
            }),
            Err(why) => deny(Vec::new(), vec![format!("denied: {why}")]),
        }
    }

    fn respond(
        &self,
        at: usize,
        target: &Target,
        principal: &Principal,
        (op, action): (&Operation, &str),
    ) -> Result<(&Rules, Response), String> {
        let slice = self.slice(at, action).ok_or_else(|| {
            format!("`{action}` is no action of a target that speaks {}", target.protocol.as_str())
        })?;
        let rules = &*slice.rules;
        let protocol = if action == DNS { Protocol::Dns } else { target.protocol };
        if op.protocol != protocol {
            return Err(format!("a `{action}` over {} is not what it says", op.protocol.as_str()));
        }
        if op.target != target.name {
            return Err(format!("the operation is for target `{}`", op.target));
        }
        if protocol != Protocol::Dns && !target.has_port(op.port) {
            return Err(format!("port {} is not one of the target's", op.port));
        }
        for (asked, fact) in
            [(rules.reads_length, "body.length"), (rules.reads_hash, "body.sha256")]
        {
            if asked && op.get(fact).is_none() {
                return Err(format!("a rule asks for `{fact}`, and the body was not read"));
            }
        }
        // Unknown, it would slip past a forbid that asks whether it is there and then what it is.
        let exe = principal.process.exe.as_deref().is_some_and(|exe| exe.to_str().is_some());
        let exe_hash = principal.process.exe_sha256.is_some();
        for (asked, known, fact) in
            [(rules.reads_exe, exe, "exe"), (rules.reads_exe_hash, exe_hash, "exe_sha256")]
        {
            if asked && !known {
                return Err(format!(
                    "a rule asks for the principal's `{fact}`, which is not known of this process"
                ));
            }
        }
        // As with the executable: what lineage could not follow may be what a forbid is about.
        let columns_known = op.get(sql::COLUMNS).is_some() && op.get(sql::LOOKED_AT).is_some();
        if rules.reads_columns && !columns_known && op.action != schema::SQL_CONNECT {
            return Err("a rule asks for the columns that a statement shows or looks at, and \
                        they are not known of this one"
                .to_owned());
        }
        let mut added = vec![request::agent(principal, &self.types)?];
        if rules.reads_headers {
            added.push(request::headers(op, &self.types)?);
        }
        if rules.reads_parameters {
            added.push(sql::parameters(op, &self.types)?);
        }
        // Nothing belongs to an agent, so the closure that Cedar repairs here is theirs alone.
        let entities = slice
            .entities
            .clone()
            .add_entities(added, None)
            .map_err(|e| format!("the operation cannot be judged: {e}"))?;
        let request = Request::new(
            uid(&self.types.agent, principal.agent.as_str()),
            uid(&self.types.action, action),
            uid(&self.types.target, &target.name),
            request::context(op, &self.types)?,
            None,
        )
        .map_err(|e| format!("the operation cannot be judged: {e}"))?;
        let response = self.authorizer.is_authorized(&request, &rules.set, &entities);
        Ok((rules, response))
    }

    /// Turns Cedar's response into a verdict.
    fn weigh(
        &self,
        rules: &Rules,
        response: &Response,
        scopes: &HashMap<String, Scope>,
        mut trace: Vec<String>,
    ) -> Judgement {
        let diagnostics = response.diagnostics();
        let failed: Vec<String> = diagnostics.errors().map(ToString::to_string).collect();
        if !failed.is_empty() {
            trace.extend(failed);
            trace.push("denied: a rule could not be evaluated".to_owned());
            return deny(Vec::new(), trace);
        }
        let reasons: HashSet<&str> = diagnostics.reason().map(AsRef::as_ref).collect();
        let (matching, others): (Vec<&Rule>, Vec<&Rule>) = rules
            .at
            .iter()
            .filter_map(|at| self.rules.get(*at))
            .partition(|rule| reasons.contains(rule.id.as_str()));
        for rule in &matching {
            trace.push(format!("{} `{}` matches", rule.effect_name(), rule.id));
        }
        let ids: Vec<String> = matching.iter().map(|rule| rule.id.clone()).collect();
        if response.decision() == Decision::Deny || matching.is_empty() {
            if matching.is_empty() {
                near_misses(&others, &mut trace);
                trace.push("denied: no rule matches".to_owned());
            } else {
                trace.push("denied: a forbid beats every permit".to_owned());
            }
            return deny(ids, trace);
        }
        near_misses(&others, &mut trace);
        let mut needed: Vec<Scope> = Vec::new();
        for name in matching.iter().filter_map(|rule| rule.approval.as_ref()) {
            let Some(scope) = scopes.get(name) else {
                trace.push(format!("denied: there is no scope `{name}`"));
                return deny(ids, trace);
            };
            if !needed.iter().any(|other| other.name == *name) {
                needed.push(scope.clone());
            }
        }
        if needed.is_empty() {
            trace.push("allowed".to_owned());
            return Judgement { verdict: Verdict::Allow, rules: ids, trace };
        }
        for scope in &needed {
            trace.push(format!(
                "needs approval by scope `{}` ({} of {})",
                scope.name,
                scope.quorum,
                if scope.reviewers.is_empty() {
                    "any reviewer".to_owned()
                } else {
                    scope.reviewers.join(", ")
                }
            ));
        }
        Judgement { verdict: Verdict::NeedsApproval(needed), rules: ids, trace }
    }
}

impl Rules {
    fn new(at: Vec<usize>, all: &[Rule]) -> Result<Self, EngineFault> {
        let mut set = PolicySet::new();
        let mut reads_length = false;
        let mut reads_hash = false;
        let mut reads_headers = false;
        let mut reads_exe = false;
        let mut reads_exe_hash = false;
        let mut reads_columns = false;
        let mut reads_parameters = false;
        for rule in at.iter().filter_map(|at| all.get(*at)) {
            set.add(rule.policy.clone()).map_err(cedar)?;
            reads_length |= rule.reads_length;
            reads_hash |= rule.reads_hash;
            reads_headers |= rule.reads_headers;
            reads_exe |= rule.reads_exe;
            reads_exe_hash |= rule.reads_exe_hash;
            reads_columns |= rule.reads_columns;
            reads_parameters |= rule.reads_parameters;
        }
        Ok(Self {
            at,
            set,
            reads_length,
            reads_hash,
            reads_headers,
            reads_exe,
            reads_exe_hash,
            reads_columns,
            reads_parameters,
        })
    }
}

/// The entities of one action on one target.
fn entities(
    action: &Action,
    target: &Target,
    types: &Types,
    schema: &Schema,
) -> Result<Entities, EngineFault> {
    let groups = action.groups.iter().map(|group| uid(&types.action, group));
    let action = Entity::new_no_attrs(uid(&types.action, action.name), groups.collect());
    let text = |text: &str| Value::new_string(text.to_owned());
    let attrs = HashMap::from([
        ("name".to_owned(), text(&target.name)),
        ("protocol".to_owned(), text(target.protocol.as_str())),
        ("tags".to_owned(), Value::new_set(target.tags.iter().map(|tag| text(tag)))),
    ]);
    let tags = target.tags.iter().map(|tag| uid(&types.tag, tag)).collect();
    let target = Entity::new(uid(&types.target, &target.name), attrs, tags).map_err(cedar)?;
    // Held against the schema once, here, and not again for each operation.
    Entities::from_entities([target.clone()], Some(schema)).map_err(cedar)?;
    Entities::from_entities([action, target], None).map_err(cedar)
}

/// Both together: what either refuses is refused, and everyone that either needs must approve.
pub(super) fn strictest(mut one: Judgement, other: Judgement) -> Judgement {
    one.trace.extend(other.trace);
    // Of a denial only the rules that denied are told.
    match (&mut one.verdict, other.verdict) {
        (Verdict::Deny, _) => return one,
        (_, Verdict::Deny) => {
            return Judgement { verdict: Verdict::Deny, rules: other.rules, trace: one.trace };
        }
        (_, Verdict::Allow) => {}
        (Verdict::NeedsApproval(scopes), Verdict::NeedsApproval(others)) => {
            for scope in others {
                if !scopes.iter().any(|known| known.name == scope.name) {
                    scopes.push(scope);
                }
            }
        }
        (verdict @ Verdict::Allow, needed) => *verdict = needed,
    }
    for rule in other.rules {
        if !one.rules.contains(&rule) {
            one.rules.push(rule);
        }
    }
    one
}

fn asked(principal: &Principal, target: &Target, op: &Operation, action: &str) -> String {
    let task = match &principal.task {
        Some(task) => format!(", task `{task}`"),
        None => String::new(),
    };
    format!(
        "agent `{}`{task} on host `{}` asks `{action}` of target `{}` ({}:{}): {}",
        principal.agent, principal.host, target.name, op.name, op.port, op.resource
    )
}

fn near_misses(others: &[&Rule], trace: &mut Vec<String>) {
    for rule in others.iter().take(NEAR_MISSES) {
        trace.push(format!(
            "{} `{}` is for this action and target, but its principal or conditions do not hold",
            rule.effect_name(),
            rule.id
        ));
    }
    if let Some(more) = others.len().checked_sub(NEAR_MISSES + 1) {
        trace.push(format!("and {} more like it", more + 1));
    }
}

fn deny(rules: Vec<String>, trace: Vec<String>) -> Judgement {
    Judgement { verdict: Verdict::Deny, rules, trace }
}
