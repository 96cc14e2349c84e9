//! Rules (`rules.cedar`): parsed, named, validated against the schema, and refused
//! when they cannot do what they seem to say.

use crate::operation::Protocol;
use crate::policy::problem::{Problems, Source, nearest};
use crate::policy::schema::{
    self, ACTIONS, Action, DNS, GRPC, OPAQUE, SQL_CONNECT, SQL_FUNCTION, SQL_REPLICATION,
    SchemaFault, Types,
};
use crate::policy::scope;
use crate::policy::target::{self, Target, is_identifier};
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, ResourceConstraint, Schema,
    ValidationMode, ValidationWarning, Validator,
};
use miette::Diagnostic;
use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

mod bounds;
mod lint;

/// The file that holds them.
pub(in crate::policy) const FILE: &str = "rules.cedar";

/// The annotations that mean something.
const ANNOTATIONS: [&str; 3] = ["id", "approval", "description"];

/// One rule.
pub(in crate::policy) struct Rule {
    /// Its `@id`.
    pub(in crate::policy) id: String,
    pub(in crate::policy) effect: Effect,
    /// The scope of its `@approval`.
    pub(in crate::policy) approval: Option<String>,
    pub(in crate::policy) policy: Policy,
    action: ActionConstraint,
    resource: ResourceConstraint,
    /// Whether it asks for the body's length.
    pub(in crate::policy) reads_length: bool,
    /// Whether it asks for the body's hash.
    pub(in crate::policy) reads_hash: bool,
    /// Whether it asks for headers.
    pub(in crate::policy) reads_headers: bool,
    /// It asks for the executable's path.
    pub(in crate::policy) reads_exe: bool,
    /// It asks for the executable's hash.
    pub(in crate::policy) reads_exe_hash: bool,
    /// It asks for the columns that a statement shows or looks at.
    pub(in crate::policy) reads_columns: bool,
    /// It asks for bound parameters.
    pub(in crate::policy) reads_parameters: bool,
    /// It asks for a statement's text.
    pub(in crate::policy) reads_statement: bool,
    pub(in crate::policy) span: Range<usize>,
}

impl Rule {
    /// `permit` or `forbid`.
    pub(in crate::policy) fn effect_name(&self) -> &'static str {
        match self.effect {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        }
    }

    /// Whether its head admits this action on this target; its principal and conditions may
    /// still say no. A permit for opaque connections has to name their action.
    pub(in crate::policy) fn concerns(
        &self,
        action: &Action,
        target: &Target,
        types: &Types,
    ) -> bool {
        let of_action = |uid: &EntityUid| {
            let id = uid.id().unescaped();
            *uid.type_name() == types.action && (id == action.name || action.groups.contains(&id))
        };
        let action_fits = match &self.action {
            ActionConstraint::Any => action.name != OPAQUE || self.effect == Effect::Forbid,
            ActionConstraint::In(uids) => uids.iter().any(of_action),
            ActionConstraint::Eq(uid) => of_action(uid),
        };
        action_fits && self.admits(target, types)
    }

    /// Whether its head admits this target.
    fn admits(&self, target: &Target, types: &Types) -> bool {
        let of_target = |uid: &EntityUid| {
            let id = uid.id().unescaped();
            (*uid.type_name() == types.target && id == target.name)
                || (*uid.type_name() == types.tag && target.tags.iter().any(|tag| tag == id))
        };
        match &self.resource {
            ResourceConstraint::Any => true,
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) => of_target(uid),
            ResourceConstraint::Is(of) => *of == types.target,
            ResourceConstraint::IsIn(of, uid) => *of == types.target && of_target(uid),
        }
    }
}

/// Whether an action can be asked of a target at all.
pub(in crate::policy) fn possible(action: &Action, target: &Target) -> bool {
    match action.protocol {
        Some(protocol) => protocol == target.protocol && allowed(action, target),
        None => !target.names.is_empty(),
    }
}

/// Whether the target takes an action that it has to name.
fn allowed(action: &Action, target: &Target) -> bool {
    let postgres = target.postgres.as_ref();
    match action.name {
        GRPC => target.grpc,
        SQL_FUNCTION => postgres.is_some_and(|postgres| postgres.function_calls),
        SQL_REPLICATION => postgres.is_some_and(|postgres| postgres.replication),
        _ => true,
    }
}

/// Reads `rules.cedar`.
pub(in crate::policy) fn read(
    source: &Source<'_>,
    held_against: (&Schemas, &[Target], &Types),
    problems: &mut Problems,
) -> Vec<Rule> {
    if !bounds::hold(source, problems) {
        return Vec::new();
    }
    let set = match PolicySet::from_str(source.text) {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                report(source, error, None, &place(source, error, None), problems);
            }
            return Vec::new();
        }
    };
    for template in set.templates() {
        let text = template.to_string();
        let at = source.text.find(&text).unwrap_or(0);
        problems.error(
            (source, &(at..at + text.len())),
            "a rule with a `?principal` or `?resource` slot is never used",
            "name the principal or resource, or leave it open",
        );
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    // Cedar numbers them in the order of the file.
    policies.sort_by_key(|policy| number(policy.id()));
    let mut rules: Vec<Rule> = Vec::new();
    let mut cursor = 0;
    for policy in policies {
        let text = policy.to_string();
        let at = source
            .text
            .get(cursor..)
            .and_then(|rest| rest.find(&text))
            .map_or(cursor, |found| cursor + found);
        let span = at..at + text.len();
        cursor = span.end.min(source.text.len());
        let rule = rule(source, policy, span, problems);
        if rules.iter().any(|other| other.id == rule.id) {
            problems.error(
                (source, &rule.span),
                format!("rule `{}` is there twice", rule.id),
                "give each rule its own @id",
            );
            continue;
        }
        rules.push(rule);
    }
    validate(source, &rules, held_against, problems);
    for rule in &rules {
        lint::check(source, rule, problems);
    }
    rules
}

fn number(id: &PolicyId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(usize::MAX)
}

fn rule(source: &Source<'_>, policy: &Policy, span: Range<usize>, problems: &mut Problems) -> Rule {
    let place = (source, &span);
    for (key, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&key) {
            let help = match nearest(key, ANNOTATIONS) {
                Some(near) => format!("did you mean `@{near}`?"),
                None => "annotations are @id, @approval and @description".to_owned(),
            };
            problems.error(place, format!("unknown annotation `@{key}`"), help);
        }
    }
    let id = match policy.annotation("id") {
        Some(id) if is_identifier(id) => id.to_owned(),
        Some(id) => {
            problems.error(
                place,
                format!("{id:?} cannot be the name of a rule"),
                "use 1 to 128 of the characters A-Z a-z 0-9 . _ : / -",
            );
            policy.id().to_string()
        }
        None => {
            problems.error(
                place,
                "a rule has no name",
                "put @id(\"...\") before it; traces and transcripts name rules by it",
            );
            policy.id().to_string()
        }
    };
    let approval = policy.annotation("approval").map(str::to_owned);
    if approval.is_some() && policy.effect() == Effect::Forbid {
        problems.error(
            place,
            format!("rule `{id}` is a forbid with an @approval, but a forbid cannot be approved"),
            "remove the @approval, or make it a permit",
        );
    }
    let seen = lint::attributes(policy);
    Rule {
        effect: policy.effect(),
        approval,
        action: policy.action_constraint(),
        resource: policy.resource_constraint(),
        policy: policy.new_id(PolicyId::new(&id)),
        reads_length: seen.iter().any(|a| a == "body_length"),
        reads_hash: seen.iter().any(|a| a == "body_sha256"),
        reads_headers: seen.iter().any(|a| a == "headers"),
        reads_exe: seen.iter().any(|a| a == "exe"),
        reads_exe_hash: seen.iter().any(|a| a == "exe_sha256"),
        reads_columns: seen.iter().any(|a| a == "columns" || a == "looked_at"),
        reads_parameters: seen.iter().any(|a| a == "parameters"),
        reads_statement: seen.iter().any(|a| a == "statement"),
        id,
        span,
    }
}

/// The schemas that rules are held against: all of it, and what is left of it for rules that
/// concern targets of one protocol only.
pub(in crate::policy) struct Schemas {
    all: Schema,
    http: Schema,
    sql: Schema,
}

impl Schemas {
    /// Read once: nothing in them changes.
    pub(in crate::policy) fn get() -> Result<&'static Self, SchemaFault> {
        static READ: LazyLock<Result<Schemas, SchemaFault>> = LazyLock::new(|| {
            Ok(Schemas {
                all: schema::schema()?,
                http: schema::schema_without(Protocol::Postgres)?,
                sql: schema::schema_without(Protocol::Http)?,
            })
        });
        READ.as_ref().map_err(Clone::clone)
    }

    /// All of it.
    pub(in crate::policy) fn all(&self) -> &Schema {
        &self.all
    }

    /// The one for a rule: by the actions that its head names and the targets that it admits.
    fn of(&self, rule: &Rule, targets: &[Target], types: &Types) -> &Schema {
        let named = |uids: &[&EntityUid], prefixes: &[&str]| {
            uids.iter().any(|uid| {
                let id = uid.id().unescaped();
                prefixes.iter().any(|prefix| id.starts_with(prefix))
            })
        };
        let uids: Vec<&EntityUid> = match &rule.action {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::In(uids) => uids.iter().collect(),
            ActionConstraint::Eq(uid) => vec![uid],
        };
        let reaches =
            |protocol| targets.iter().any(|t| t.protocol == protocol && rule.admits(t, types));
        let http = reaches(Protocol::Http) || named(&uids, &["http.", "grpc."]);
        let sql = reaches(Protocol::Postgres) || named(&uids, &["sql."]);
        match (http, sql) {
            (_, false) => &self.http,
            (false, true) => &self.sql,
            (true, true) => &self.all,
        }
    }
}

fn validate(
    source: &Source<'_>,
    rules: &[Rule],
    (schemas, targets, types): (&Schemas, &[Target], &Types),
    problems: &mut Problems,
) {
    let mut results = Vec::new();
    for schema in [&schemas.all, &schemas.http, &schemas.sql] {
        let mut set = PolicySet::new();
        let held = rules.iter().filter(|r| std::ptr::eq(schemas.of(r, targets, types), schema));
        for rule in held {
            if let Err(error) = set.add(rule.policy.clone()) {
                problems.error((source, &rule.span), error.to_string(), "");
                return;
            }
        }
        if !set.is_empty() {
            let validator = Validator::new(schema.clone());
            results.push(validator.validate(&set, ValidationMode::Strict));
        }
    }
    // One mistake is found once for each action that the rule is for: report each place once.
    let mut places = HashSet::new();
    let mut faulty = HashSet::new();
    let mut errors: Vec<_> = results.iter().flat_map(|r| r.validation_errors()).collect();
    errors.sort_by_cached_key(ToString::to_string);
    for error in errors {
        let span = place(source, error, span_of(rules, error.policy_id()));
        faulty.insert(error.policy_id().clone());
        if places.insert(span.start) {
            report(source, error, Some(error.policy_id()), &span, problems);
        }
    }
    let mut warnings: Vec<_> = results.iter().flat_map(|r| r.validation_warnings()).collect();
    warnings.sort_by_cached_key(|warning| std::cmp::Reverse(warning.to_string()));
    for warning in warnings {
        let id = warning.policy_id();
        let why = match warning {
            ValidationWarning::InvalidActionApplication(_) => {
                "its actions do not go with its principal and resource"
            }
            ValidationWarning::ImpossiblePolicy(_) => "its conditions are never true",
            _ => {
                let span = place(source, warning, span_of(rules, id));
                problems.warning(
                    (source, &span),
                    in_words(warning, Some(id)),
                    "look closely: these letters can be taken for others",
                );
                continue;
            }
        };
        if faulty.insert(id.clone()) {
            let span = span_of(rules, id).cloned().unwrap_or(0..0);
            problems.error(
                (source, &span),
                format!("rule `{id}` cannot fire: {why}"),
                "change it, or remove it",
            );
        }
    }
}

fn span_of<'r>(rules: &'r [Rule], id: &PolicyId) -> Option<&'r Range<usize>> {
    let id: &str = id.as_ref();
    rules.iter().find(|rule| rule.id == id).map(|r| &r.span)
}

/// Where a Cedar diagnostic points to; the rule when it does not say.
fn place(source: &Source<'_>, error: &dyn Diagnostic, rule: Option<&Range<usize>>) -> Range<usize> {
    error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset()..label.offset() + label.len())
        .filter(|span| span.end <= source.text.len())
        .or_else(|| rule.cloned())
        .unwrap_or(0..0)
}

fn report(
    source: &Source<'_>,
    error: &dyn Diagnostic,
    rule: Option<&PolicyId>,
    span: &Range<usize>,
    problems: &mut Problems,
) {
    let text = in_words(error, rule);
    let help = error
        .help()
        .map(|help| help.to_string())
        .filter(|help| !far(help, &text))
        .unwrap_or_else(|| "see `enforcer policy schema` for what a rule can say".to_owned());
    problems.error((source, span), text, help);
}

/// Whether the help names a word that is like none that the error speaks of: Cedar suggests the
/// nearest one there is, however far.
fn far(help: &str, error: &str) -> bool {
    let suggested = help.strip_prefix("did you mean `").and_then(|rest| rest.split('`').next());
    let mut spoken_of = error.split('`').skip(1).step_by(2);
    suggested.is_some_and(|suggested| !spoken_of.any(|word| nearest(word, [suggested]).is_some()))
}

/// What Cedar says, with "rule" where Cedar says "policy": here a policy is the whole bundle.
fn in_words(error: &dyn Diagnostic, rule: Option<&PolicyId>) -> String {
    let text = error.to_string();
    match rule.and_then(|id| text.strip_prefix(&format!("for policy `{id}`, ")).map(|t| (id, t))) {
        Some((id, text)) => format!("rule `{id}`: {text}"),
        None => text,
    }
}

/// Reports rules that no operation can ever meet, and targets that no permit reaches.
pub(in crate::policy) fn check_reach(
    (source, rules): (&Source<'_>, &[Rule]),
    (target_source, targets): (&Source<'_>, &[target::Written]),
    types: &Types,
    problems: &mut Problems,
) {
    let concerns = |rule: &Rule, target: &Target| {
        ACTIONS
            .iter()
            .any(|action| possible(action, target) && rule.concerns(action, target, types))
    };
    for rule in rules {
        if !targets.iter().any(|t| concerns(rule, &t.target)) {
            problems.error(
                (source, &rule.span),
                format!(
                    "rule `{}` cannot fire: none of its actions is asked of any of its targets",
                    rule.id
                ),
                "http actions are for http targets, sql actions for postgres ones, opaque.connect for \
                 opaque ones (and a permit has to name it), dns.query for targets with names",
            );
        }
    }
    let beyond_dns = |rule: &&Rule, target: &Target| {
        rule.effect == Effect::Permit
            && ACTIONS.iter().any(|action| {
                action.name != DNS
                    && possible(action, target)
                    && rule.concerns(action, target, types)
            })
    };
    let permits_sign_in = |rule: &Rule, target: &Target| {
        let connect = ACTIONS.iter().find(|action| action.name == SQL_CONNECT);
        rule.effect == Effect::Permit
            && connect.is_some_and(|connect| rule.concerns(connect, target, types))
    };
    for written in targets {
        if !rules.iter().any(|rule| beyond_dns(&rule, &written.target)) {
            problems.warning(
                (target_source, &written.span),
                format!("no rule permits anything on target `{}`", written.target.name),
                "add a permit, or remove the target; as it is, all of it is denied",
            );
        } else if written.target.protocol == Protocol::Postgres
            && !rules.iter().any(|rule| permits_sign_in(rule, &written.target))
        {
            problems.warning(
                (target_source, &written.span),
                format!("no rule permits `{SQL_CONNECT}` on target `{}`", written.target.name),
                "permit it, or `action in Action::\"sql.session\"`; as it is, nobody can sign in",
            );
        }
    }
}

/// Reports entities that rules name and nothing defines.
pub(in crate::policy) fn check_names(
    source: &Source<'_>,
    rules: &[Rule],
    targets: &[Target],
    types: &Types,
    problems: &mut Problems,
) {
    for rule in rules {
        for uid in rule.policy.entity_literals() {
            let id = uid.id().unescaped();
            let of = uid.type_name();
            let (what, known): (_, Vec<&str>) = if *of == types.target {
                ("target", targets.iter().map(|t| t.name.as_str()).collect())
            } else if *of == types.tag {
                let tags = targets.iter().flat_map(|t| &t.tags);
                ("tag", tags.map(String::as_str).collect())
            } else {
                continue;
            };
            if known.contains(&id) {
                continue;
            }
            let help = match nearest(id, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("give a {what} of targets.toml"),
            };
            problems.error(
                (source, &literal(source, rule, &uid)),
                format!("rule `{}`: there is no {what} `{id}`", rule.id),
                help,
            );
        }
    }
}

/// Where a rule writes an entity; the rule itself when it is spelled otherwise.
fn literal(source: &Source<'_>, rule: &Rule, uid: &EntityUid) -> Range<usize> {
    let text = uid.to_string();
    source.text.get(rule.span.clone()).and_then(|rule_text| rule_text.find(&text)).map_or_else(
        || rule.span.clone(),
        |at| rule.span.start + at..rule.span.start + at + text.len(),
    )
}

/// Reports approvals of scopes that do not exist, and scopes that no rule uses.
pub(in crate::policy) fn check_scopes(
    (source, rules): (&Source<'_>, &[Rule]),
    (scope_source, scopes): (&Source<'_>, &[scope::Written]),
    problems: &mut Problems,
) {
    let known = || scopes.iter().map(|written| written.scope.name.as_str());
    for rule in rules {
        let Some(name) = &rule.approval else { continue };
        if known().any(|scope| scope == name) {
            continue;
        }
        let help = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add it to scopes.toml".to_owned(),
        };
        problems.error(
            (source, &rule.span),
            format!("rule `{}`: there is no scope `{name}`", rule.id),
            help,
        );
    }
    for written in scopes {
        let name = &written.scope.name;
        if !rules.iter().any(|rule| rule.approval.as_ref() == Some(name)) {
            problems.warning(
                (scope_source, &written.span),
                format!("no rule uses scope `{name}`"),
                format!("add @approval(\"{name}\") to a permit, or remove the scope"),
            );
        }
    }
}
