//! Mask selectors (`masks.toml`): which rule applies to which targets.
//!
//! What a rule does is [`crate::mask`]'s; here only `name`, `targets` and `tags`
//! are read and everything else is handed on.

use super::problem::{Problems, Source};
use super::read::{self, At, Fields};
use super::target::{Target, identifier};
use crate::mask::{MaskPlan, MaskRule};
use crate::operation::Protocol;
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The file that names them.
pub(super) const FILE: &str = "masks.toml";

/// A rule of `masks.toml` and what it applies to.
pub(super) struct MaskSelector {
    pub(super) name: String,
    targets: Vec<At<String>>,
    tags: Vec<At<String>>,
    /// Everything that is the mask engine's, with the name.
    rule: toml::Table,
    span: Range<usize>,
}

impl MaskSelector {
    /// Whether it applies to a target; without selectors it applies to all that are inspected.
    pub(super) fn selects(&self, target: &Target) -> bool {
        if target.protocol == Protocol::Opaque || !self.concerns(target.protocol) {
            return false;
        }
        (self.targets.is_empty() && self.tags.is_empty()) || self.names(target)
    }

    /// What it says, apart from what it applies to.
    pub(super) fn text(&self) -> String {
        self.rule.to_string()
    }

    /// Whether something of it can be found in what targets of a protocol answer.
    fn concerns(&self, protocol: Protocol) -> bool {
        let keys: &[&str] = match protocol {
            Protocol::Http => &["json", "headers", "form", "detectors"],
            Protocol::Postgres => &["columns", "detectors"],
            Protocol::Dns | Protocol::Opaque => &[],
        };
        keys.iter().any(|key| self.rule.contains_key(*key))
    }

    fn names(&self, target: &Target) -> bool {
        self.targets.iter().any(|at| at.value == target.name)
            || self.tags.iter().any(|at| target.tags.contains(&at.value))
    }
}

/// Reads `masks.toml`.
pub(super) fn read(source: &Source<'_>, problems: &mut Problems) -> Vec<MaskSelector> {
    let root = read::parse(source, problems);
    let mut fields = Fields::new(source, root.get_ref(), 0..0);
    let entries = fields.tables("mask", problems);
    fields.finish(problems);
    // The rest of each rule is read by another type, from plain values. Where the
    // syntax is broken that was reported above.
    let plain = toml::from_str::<toml::Table>(source.text).unwrap_or_default();
    let plain = plain.get("mask").and_then(toml::Value::as_array);
    let mut all: Vec<MaskSelector> = Vec::new();
    for (at, mut entry) in entries.into_iter().enumerate() {
        let span = entry.place().1.clone();
        let name = entry.required("name", problems);
        let targets = owned(entry.texts("targets", problems));
        let tags = owned(entry.texts("tags", problems));
        let Some(name) = name.and_then(|at| identifier("mask", source, &at, problems)) else {
            continue;
        };
        if all.iter().any(|other| other.name == name) {
            problems.error(
                (source, &span),
                format!("mask `{name}` is there twice"),
                "give each mask its own name",
            );
        }
        let Some(mut rule) =
            plain.and_then(|all| all.get(at)).and_then(toml::Value::as_table).cloned()
        else {
            continue;
        };
        rule.remove("targets");
        rule.remove("tags");
        check(&entry, &name, &rule, problems);
        all.push(MaskSelector { name, targets, tags, rule, span });
    }
    all
}

fn owned(texts: Vec<At<&str>>) -> Vec<At<String>> {
    texts.into_iter().map(|at| At { value: at.value.to_owned(), span: at.span }).collect()
}

/// Compiles one rule by itself, so that a fault is reported at its own line.
fn check(entry: &Fields<'_>, name: &str, rule: &toml::Table, problems: &mut Problems) {
    if let Err(what) = compile(std::iter::once(rule)) {
        let span = entry.key_in(&what);
        let what = match what.contains(&format!("`{name}`")) {
            true => what,
            false => format!("mask `{name}`: {what}"),
        };
        problems.error((entry.source(), &span), what, "see the policy guide, \"Masks\"");
    }
}

/// The one place where rules become a plan.
fn compile<'r>(rules: impl Iterator<Item = &'r toml::Table>) -> Result<MaskPlan, String> {
    let mut parsed = Vec::new();
    for rule in rules {
        let rule = MaskRule::deserialize(rule.clone())
            .map_err(|e| e.message().trim().replace('\n', ", "))?;
        parsed.push(rule);
    }
    MaskPlan::compile(&parsed).map_err(|e| e.to_string())
}

/// Reports selectors that select nothing that can be masked.
pub(super) fn check_selection(
    source: &Source<'_>,
    masks: &[MaskSelector],
    targets: &[Target],
    problems: &mut Problems,
) {
    for mask in masks {
        let before = problems.len();
        for at in &mask.targets {
            match targets.iter().find(|target| target.name == at.value) {
                None => problems.error(
                    (source, &at.span),
                    format!("mask `{}`: there is no target `{}`", mask.name, at.value),
                    "name a target of targets.toml",
                ),
                Some(target) if target.protocol == Protocol::Opaque => problems.error(
                    (source, &at.span),
                    format!(
                        "mask `{}`: target `{}` is opaque, so nothing in it can be masked",
                        mask.name, at.value
                    ),
                    "remove it, or let the target be inspected",
                ),
                Some(target) if !mask.concerns(target.protocol) => problems.error(
                    (source, &at.span),
                    format!(
                        "mask `{}`: nothing of it is in what target `{}` answers, which speaks {}",
                        mask.name,
                        at.value,
                        target.protocol.as_str()
                    ),
                    "`json`, `headers` and `form` are of http, `columns` of postgres, `detectors` of both",
                ),
                Some(_) => {}
            }
        }
        for at in &mask.tags {
            let tagged: Vec<&Target> =
                targets.iter().filter(|target| target.tags.contains(&at.value)).collect();
            if tagged.is_empty() {
                problems.error(
                    (source, &at.span),
                    format!("mask `{}`: no target has the tag `{}`", mask.name, at.value),
                    "name a tag of targets.toml",
                );
            }
            for target in tagged.iter().filter(|t| t.protocol == Protocol::Opaque) {
                problems.error(
                    (source, &at.span),
                    format!(
                        "mask `{}`: target `{}` has the tag `{}` and is opaque, so nothing in it can be masked",
                        mask.name, target.name, at.value
                    ),
                    "name other tags, or let the target be inspected",
                );
            }
        }
        let selects = targets.iter().any(|target| mask.selects(target));
        if !selects && problems.len() == before {
            problems.error(
                (source, &mask.span),
                format!("mask `{}` selects no target", mask.name),
                "give `targets` or `tags`, or remove the mask",
            );
        }
    }
}

/// The plan of each target, compiled once for each set of rules.
pub(super) fn plans(
    source: &Source<'_>,
    masks: &[MaskSelector],
    targets: &[Target],
    problems: &mut Problems,
) -> Vec<Arc<MaskPlan>> {
    let mut compiled: HashMap<Vec<usize>, Arc<MaskPlan>> = HashMap::new();
    let mut plans = Vec::with_capacity(targets.len());
    for target in targets {
        let chosen: Vec<usize> = masks
            .iter()
            .enumerate()
            .filter(|(_, mask)| mask.selects(target))
            .map(|(at, _)| at)
            .collect();
        if let Some(plan) = compiled.get(&chosen) {
            plans.push(Arc::clone(plan));
            continue;
        }
        let rules = chosen.iter().filter_map(|at| masks.get(*at));
        let plan = match compile(rules.map(|mask| &mask.rule)) {
            Ok(plan) => Arc::new(plan),
            Err(what) => {
                problems.error(
                    (source, &(0..0)),
                    format!("the masks of target `{}` do not go together: {what}", target.name),
                    "change the masks that apply to it",
                );
                Arc::new(MaskPlan::none())
            }
        };
        plans.push(Arc::clone(&plan));
        compiled.insert(chosen, plan);
    }
    plans
}
