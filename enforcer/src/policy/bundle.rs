//! A bundle: the files of one policy, read together, whole or not at all.

use super::case::{self, Case};
use super::evaluate::Engine;
use super::index::Index;
use super::problem::{Problems, Source};
use super::rules;
use super::schema::Types;
use super::scope::{self, Scope};
use super::secret::{AllowedSecrets, NotAllowed};
use super::target::{self, Target};
use super::{Judgement, Verdict, mask};
use crate::mask::{MaskError, MaskPlan};
use crate::operation::Operation;
use crate::principal::Principal;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// A bundle's files: contents by path relative to the bundle (`rules.cedar`, `tests/a.toml`).
pub type Files = BTreeMap<String, String>;

/// The files that a bundle must have. An empty one says that there is none of it; a missing
/// one could be a mask that got lost.
const REQUIRED: [&str; 4] = [target::FILE, rules::FILE, scope::FILE, mask::FILE];

/// The folder of the cases.
const TESTS: &str = "tests";

/// Domain and version of the hash over a bundle's files.
const DOMAIN: &[u8] = b"enforcer policy v1\0";

/// Largest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// One policy, ready to judge. Immutable; a change is another bundle.
pub struct Bundle {
    digest: [u8; 32],
    version: String,
    absence: Option<Absence>,
    targets: Vec<Arc<Target>>,
    index: Index,
    positions: HashMap<String, usize>,
    scopes: HashMap<String, Scope>,
    engine: Engine,
    plans: Vec<Arc<MaskPlan>>,
    masks: Vec<Vec<String>>,
    /// What each target's masks say, whole.
    mask_texts: Vec<Vec<String>>,
    cases: Vec<Case>,
    warnings: Problems,
}

/// Why there is no policy, and everything is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The server has not sent one yet.
    Missing,
    /// The server has not confirmed it for longer than it may be used.
    Expired,
}

impl Absence {
    /// The stable code of what is denied for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "policy-missing",
            Self::Expired => "policy-expired",
        }
    }

    /// The reason, in a sentence.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Missing => "this host has no policy from its server yet, so nothing is allowed",
            Self::Expired => {
                "the server has not confirmed this host's policy for too long, so nothing is allowed"
            }
        }
    }
}

impl Bundle {
    /// Loads the bundle in a directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, with file, line and what to do.
    pub fn load(dir: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let files = read_files(dir, &mut problems);
        if files.is_empty() && problems.has_errors() {
            return Err(problems);
        }
        Self::build(&files, problems)
    }

    /// The files of the bundle in a directory, to be sent to who checks them.
    ///
    /// # Errors
    /// Files that cannot be read or do not belong there.
    pub fn read(dir: &Path) -> Result<Files, Problems> {
        let mut problems = Problems::default();
        let files = read_files(dir, &mut problems);
        if problems.has_errors() { Err(problems) } else { Ok(files) }
    }

    /// A bundle that allows nothing, in place of one that is not there.
    ///
    /// # Errors
    /// When the program itself is at fault.
    pub fn absent(why: Absence) -> Result<Self, Problems> {
        let files = REQUIRED.map(|file| (file.to_owned(), String::new())).into();
        let bundle = Self::build(&files, Problems::default())?;
        Ok(Self { absence: Some(why), version: String::new(), ..bundle })
    }

    /// Why this stands for no policy at all.
    pub fn absence(&self) -> Option<Absence> {
        self.absence
    }

    /// Makes a bundle of files that are in memory.
    ///
    /// # Errors
    /// Everything that is wrong with it, with file, line and what to do.
    pub fn from_files(files: &Files) -> Result<Self, Problems> {
        Self::build(files, Problems::default())
    }

    fn build(files: &Files, mut problems: Problems) -> Result<Self, Problems> {
        for required in REQUIRED {
            let reported = problems.iter().any(|problem| problem.file == required);
            if !files.contains_key(required) && !reported {
                problems.file(
                    required,
                    "is missing",
                    "add it; an empty file says that there is nothing of it",
                );
            }
        }
        for (file, text) in files {
            hidden(&Source { file, text }, &mut problems);
        }
        let source = |file| Source { file, text: files.get(file).map_or("", String::as_str) };
        let target_source = source(target::FILE);
        let rule_source = source(rules::FILE);
        let scope_source = source(scope::FILE);
        let mask_source = source(mask::FILE);

        let fault = |what: String| {
            let mut problems = Problems::default();
            problems.file(rules::FILE, what, "report this: the program is at fault");
            problems
        };
        let schemas = rules::Schemas::get().map_err(|e| fault(e.to_string()))?;
        let types = Types::new().map_err(|e| fault(e.to_string()))?;

        let written = target::read(&target_source, &mut problems);
        let scopes = scope::read(&scope_source, &mut problems);
        let masks = mask::read(&mask_source, &mut problems);
        let targets: Vec<Target> = written.iter().map(|w| w.target.clone()).collect();
        let rules = rules::read(&rule_source, (schemas, &targets, &types), &mut problems);
        // What refers to a file that could not be read would only repeat its problems.
        let broken = |file: &str, problems: &Problems| {
            problems.iter().any(|p| p.file == file && p.severity == super::Severity::Error)
        };
        let targets_stand = !broken(target::FILE, &problems);
        let rules_stand = !broken(rules::FILE, &problems);
        if targets_stand {
            rules::check_names(&rule_source, &rules, &targets, &types, &mut problems);
            mask::check_selection(&mask_source, &masks, &targets, &mut problems);
            if rules_stand {
                rules::check_reach(
                    (&rule_source, &rules),
                    (&target_source, &written),
                    &types,
                    &mut problems,
                );
            }
        }
        if rules_stand && !broken(scope::FILE, &problems) {
            rules::check_scopes((&rule_source, &rules), (&scope_source, &scopes), &mut problems);
        }
        let plans = if broken(mask::FILE, &problems) {
            Vec::new()
        } else {
            mask::plans(&mask_source, &masks, &targets, &mut problems)
        };
        let scopes: HashMap<String, Scope> =
            scopes.into_iter().map(|written| (written.scope.name.clone(), written.scope)).collect();
        let mut cases = Vec::new();
        for (file, text) in files {
            if is_case_file(file) {
                cases.extend(case::read(&Source { file, text }, &mut problems));
            }
        }
        if rules_stand && !broken(scope::FILE, &problems) {
            case::check(&cases, &rules, &scopes, files, &mut problems);
        }
        problems.sort();
        if problems.has_errors() {
            return Err(problems);
        }
        let engine =
            Engine::new(rules, &targets, types, schemas.all()).map_err(|e| fault(e.to_string()))?;
        let digest = digest(files);
        Ok(Self {
            version: version(&digest),
            digest,
            absence: None,
            index: Index::new(&targets),
            positions: targets
                .iter()
                .enumerate()
                .map(|(at, target)| (target.name.clone(), at))
                .collect(),
            masks: targets
                .iter()
                .map(|target| {
                    let chosen = masks.iter().filter(|mask| mask.selects(target));
                    chosen.map(|mask| mask.name.clone()).collect()
                })
                .collect(),
            mask_texts: targets
                .iter()
                .map(|target| {
                    let chosen = masks.iter().filter(|mask| mask.selects(target));
                    chosen.map(mask::MaskSelector::text).collect()
                })
                .collect(),
            targets: targets.into_iter().map(Arc::new).collect(),
            scopes,
            engine,
            plans,
            cases,
            warnings: problems,
        })
    }

    /// SHA-256 over all files, their names and lengths.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// `sha256:` and the first 12 hex digits of [`Bundle::digest`]; empty when there is none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What is odd about the bundle and does not keep it from being used.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// All targets, in the order of the file.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// All rules' ids, in the order of the file.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.engine.rule_ids()
    }

    /// All cases of `tests/`.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// How many scopes there are.
    pub fn scope_count(&self) -> usize {
        self.scopes.len()
    }

    /// The target of that name in `targets.toml`.
    pub fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.get(*self.positions.get(name)?)
    }

    /// The target that a host name means, at a port when one is known. An exact name beats a
    /// wildcard and a longer suffix a shorter; when the port is not one of that pattern's
    /// targets there is none.
    pub fn target_for_name(&self, name: &str, port: Option<u16>) -> Option<&Arc<Target>> {
        let found = self.index.by_name(name);
        self.at_port(found, port)
    }

    /// The target that an address means; the longest block decides. IPv4 in IPv6 form is IPv4.
    pub fn target_for_addr(&self, ip: IpAddr, port: u16) -> Option<&Arc<Target>> {
        self.at_port(self.index.by_address(ip), Some(port))
    }

    fn at_port(&self, found: &[usize], port: Option<u16>) -> Option<&Arc<Target>> {
        found
            .iter()
            .filter_map(|at| self.targets.get(*at))
            .find(|target| port.is_none_or(|port| target.has_port(port)))
    }

    /// The target that an operation's name, or address, and port mean.
    pub fn target_of(&self, op: &Operation) -> Option<&Arc<Target>> {
        match op.name.parse::<IpAddr>() {
            Ok(ip) => self.target_for_addr(ip, op.port),
            // A look-up has no port.
            Err(_) => self.target_for_name(&op.name, (op.port != 0).then_some(op.port)),
        }
    }

    /// Judges an operation on a target. No clock and no I/O: the same always comes to the same.
    pub fn evaluate(&self, principal: &Principal, target: &Target, op: &Operation) -> Judgement {
        Arc::unwrap_or_clone(self.evaluate_shared(principal, target, op))
    }

    /// The same, as it is remembered.
    pub fn evaluate_shared(
        &self,
        principal: &Principal,
        target: &Target,
        op: &Operation,
    ) -> Arc<Judgement> {
        // By name: the caller's target may be of an earlier bundle.
        let Some((at, target)) = self.located(target) else {
            return Arc::new(Judgement {
                verdict: Verdict::Deny,
                rules: Vec::new(),
                trace: vec![format!(
                    "denied: policy {} knows no target `{}`",
                    self.version, target.name
                )],
            });
        };
        self.engine.judge((at, target), principal, op, &self.scopes)
    }

    /// The same without what is remembered.
    #[cfg(test)]
    pub(super) fn evaluate_anew(
        &self,
        principal: &Principal,
        target: &Target,
        op: &Operation,
    ) -> Judgement {
        let (at, target) = self.located(target).expect("a target of this bundle");
        self.engine.judge_anew((at, target), principal, op, &self.scopes)
    }

    fn located(&self, target: &Target) -> Option<(usize, &Target)> {
        let at = *self.positions.get(&target.name)?;
        Some((at, self.targets.get(at)?))
    }

    /// Whether a rule that can concern this action on this target asks for the body's length or
    /// hash. Then the body has to be read before [`Bundle::evaluate`] (of a request without one
    /// the length is 0); an operation without the fact that is asked for is denied.
    pub fn reads_body(&self, target: &Target, action: &str) -> bool {
        self.located(target).is_none_or(|(at, _)| self.engine.reads_body(at, action))
    }

    /// Whether a rule that can concern this action on this target asks for the columns that a
    /// statement shows or looks at. A statement of which they are not known is then denied.
    pub fn reads_columns(&self, target: &Target, action: &str) -> bool {
        self.located(target).is_none_or(|(at, _)| self.engine.reads_columns(at, action))
    }

    /// The masks of a target, compiled. Ask the bundle that judged the operation: a target that
    /// this bundle does not know has none, and every operation on it is denied.
    pub fn masks_for(&self, target: &Target) -> Arc<MaskPlan> {
        self.located(target)
            .and_then(|(at, _)| self.plans.get(at))
            .map_or_else(|| Arc::new(MaskPlan::none()), Arc::clone)
    }

    /// Whether the masks of a target are those that another bundle has for a target of its own.
    pub fn masks_alike(&self, target: &Target, other: &Self, theirs: &Target) -> bool {
        let texts = |bundle: &Self, target| {
            bundle.located(target).and_then(|(at, _)| bundle.mask_texts.get(at).cloned())
        };
        texts(self, target) == texts(other, theirs)
    }

    /// The same bundle with the key under which its masks hash values (`replace = "hash"`).
    ///
    /// # Errors
    /// A key that HMAC does not take.
    pub fn with_mask_key(mut self, key: &[u8]) -> Result<Self, MaskError> {
        for plan in &mut self.plans {
            *plan = Arc::new(plan.with_key(key)?);
        }
        Ok(self)
    }

    /// The same bundle, whose credentials come only from where the host allows.
    ///
    /// # Errors
    /// The target that names another, and which.
    pub fn with_secrets(mut self, allowed: &AllowedSecrets) -> Result<Self, (String, NotAllowed)> {
        for target in &mut self.targets {
            let target = Arc::make_mut(target);
            let headers = target.inject.iter_mut();
            let bound = headers
                .map(|header| allowed.bind(&mut header.source))
                .chain(
                    target
                        .postgres
                        .iter_mut()
                        .flat_map(|postgres| &mut postgres.roles)
                        .map(|role| role.bind(allowed)),
                )
                .collect::<Result<(), _>>();
            bound.map_err(|why| (target.name.clone(), why))?;
        }
        Ok(self)
    }

    /// The names of the masks of a target.
    pub fn mask_names(&self, target: &Target) -> &[String] {
        self.located(target).and_then(|(at, _)| self.masks.get(at)).map_or(&[], Vec::as_slice)
    }

    /// Every scope.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.values()
    }

    /// The scope of that name.
    pub fn scope(&self, name: &str) -> Option<&Scope> {
        self.scopes.get(name)
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("version", &self.version).finish_non_exhaustive()
    }
}

fn digest(files: &Files) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(DOMAIN);
    for (file, text) in files {
        for part in [file, text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

fn version(digest: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(&digest[..6]))
}

/// Whether a file of that name is part of a bundle.
pub fn belongs(path: &str) -> bool {
    let case = |name: &str| !name.starts_with('.') && !name.contains('/') && name.len() <= 255;
    REQUIRED.contains(&path)
        || (is_case_file(path) && path.strip_prefix("tests/").is_some_and(case))
}

/// Reports characters that change the direction of text, and so let a file read otherwise than
/// it is (Unicode TR 36, "Trojan Source", CVE-2021-42574).
fn hidden(source: &Source<'_>, problems: &mut Problems) {
    for (at, c) in source.text.char_indices() {
        if matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            problems.error(
                (source, &(at..at + c.len_utf8())),
                format!("U+{:04X} changes the direction of the text behind it", u32::from(c)),
                "remove it: what people read here has to be what is in force",
            );
        }
    }
}

fn is_case_file(file: &str) -> bool {
    file.strip_prefix("tests/").is_some_and(|name| name.ends_with(".toml"))
}

/// Reads the files of a bundle. A file that looks like policy and has no place in a bundle is
/// an error: whoever put it there thinks that it counts.
fn read_files(dir: &Path, problems: &mut Problems) -> Files {
    let mut files = Files::new();
    let named = dir.display().to_string();
    let top = match std::fs::read_dir(dir) {
        Ok(entries) => names(entries),
        Err(error) => {
            problems.file(
                &named,
                format!("cannot be read: {error}"),
                "name the directory that has targets.toml and rules.cedar",
            );
            return files;
        }
    };
    for name in top {
        if REQUIRED.contains(&name.as_str()) {
            read_file(dir, &name, &mut files, problems);
        } else if policy_like(&name) {
            problems.file(
                &name,
                "is not part of a bundle, so nothing in it counts",
                format!("move its content into {}, or cases into tests/", REQUIRED.join(", ")),
            );
        }
    }
    let entries = match std::fs::read_dir(dir.join(TESTS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return files,
        Err(error) => {
            problems.file(TESTS, format!("cannot be read: {error}"), "mend its mode");
            return files;
        }
    };
    for name in names(entries) {
        let path = format!("{TESTS}/{name}");
        if is_case_file(&path) {
            read_file(dir, &path, &mut files, problems);
        } else if policy_like(&name) {
            problems.file(&path, "is not a case file", "cases are in tests/*.toml");
        }
    }
    files
}

fn policy_like(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(".toml") || name.ends_with(".cedar"))
}

fn names(entries: std::fs::ReadDir) -> Vec<String> {
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    names
}

fn read_file(dir: &Path, name: &str, files: &mut Files, problems: &mut Problems) {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(dir.join(name))
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        problems.file(name, format!("cannot be read: {error}"), "mend its mode");
        return;
    }
    if bytes.len() as u64 > MAX_FILE {
        problems.file(name, "is larger than 4 MiB", "split or shorten it");
        return;
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            files.insert(name.to_owned(), text);
        }
        Err(error) => problems.file(
            name,
            format!("is not UTF-8 from byte {}", error.utf8_error().valid_up_to()),
            "save it as UTF-8",
        ),
    }
}
