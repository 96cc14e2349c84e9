//! The compiled rules of one target. Owns which rule reads what; a plan is
//! immutable and shared by every exchange with its target.

use super::body::BodyMasker;
use super::column::{ColumnPattern, ColumnRules};
use super::content::kind_of;
use super::decode::Decoder;
use super::detect::Detectors;
use super::escape::Escaping;
use super::form::FormRules;
use super::json::JsonRules;
use super::path::Paths;
use super::replace::Replacement;
use super::rule::{MaskRule, OtherContent, Replace};
use super::text::{TextMasker, TextRules};
use super::{MaskError, Report, Unmaskable};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::sync::Arc;

/// Most characters that `keep_last` may leave.
const MAX_KEEP: usize = 16;

/// Headers that frame or describe the message; detectors leave them alone.
const FRAMING: [HeaderName; 12] = [
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
];

/// What reads bodies.
pub(super) struct Rules {
    pub(super) json: Option<Arc<JsonRules>>,
    pub(super) text: Option<Arc<TextRules>>,
    pub(super) form: Option<Arc<FormRules>>,
    /// Content that cannot be read is delivered.
    pub(super) pass_other: bool,
}

/// The mask rules of one target, compiled.
#[derive(Clone)]
pub struct MaskPlan {
    /// As written, to compile again under another key.
    source: Arc<[MaskRule]>,
    /// Name and replacement of each rule.
    rules: Arc<Vec<(String, Replacement)>>,
    headers: Arc<Vec<(HeaderName, usize)>>,
    /// `None` when no rule reads bodies.
    body: Option<Arc<Rules>>,
    columns: Arc<ColumnRules>,
}

impl std::fmt::Debug for MaskPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.rules.iter().map(|rule| &rule.0).collect();
        f.debug_struct("MaskPlan").field("rules", &names).finish_non_exhaustive()
    }
}

impl MaskPlan {
    /// A plan that masks nothing.
    pub fn none() -> Self {
        Self {
            source: Arc::default(),
            rules: Arc::default(),
            headers: Arc::default(),
            body: None,
            columns: Arc::default(),
        }
    }

    /// Compiles rules that need no key.
    ///
    /// # Errors
    /// The first rule that cannot work as written. A rule with `replace = "hash"`
    /// compiles, and then every body and header is refused until the plan is made
    /// by [`Self::compile_with_key`].
    pub fn compile(rules: &[MaskRule]) -> Result<Self, MaskError> {
        Self::build(rules, None)
    }

    /// Compiles rules; `key` is the host's secret for `replace = "hash"`.
    ///
    /// # Errors
    /// The first rule that cannot work as written.
    pub fn compile_with_key(rules: &[MaskRule], key: &[u8]) -> Result<Self, MaskError> {
        Self::build(rules, Some(key))
    }

    /// The same plan under the host's secret for `replace = "hash"`.
    ///
    /// # Errors
    /// None for a plan that compiled before.
    pub fn with_key(&self, key: &[u8]) -> Result<Self, MaskError> {
        Self::build(&self.source, Some(key))
    }

    fn build(rules: &[MaskRule], key: Option<&[u8]>) -> Result<Self, MaskError> {
        let mut paths = Paths::default();
        let mut fields = HashMap::new();
        let mut headers = Vec::new();
        let mut columns = Vec::new();
        let mut read_bodies = rules.iter().filter(|rule| reads_bodies(rule)).peekable();
        let any_body = read_bodies.peek().is_some();
        let pass_other = read_bodies.all(|rule| rule.other == OtherContent::Pass);
        for (number, rule) in rules.iter().enumerate() {
            check(rule, &rules[..number])?;
            add(&mut paths, &rule.json, rule, number)?;
            for field in &rule.form {
                fields.entry(field.as_bytes().to_vec()).or_insert(number);
            }
            for name in &rule.headers {
                let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                    MaskError::Header { rule: rule.name.clone(), header: name.clone() }
                })?;
                headers.push((header, number));
            }
            for column in &rule.columns {
                let pattern = ColumnPattern::parse(column).map_err(|why| MaskError::Column {
                    rule: rule.name.clone(),
                    column: column.clone(),
                    why,
                })?;
                columns.push((pattern, number));
            }
        }
        let compiled: Vec<_> = rules
            .iter()
            .map(|rule| (rule.name.clone(), Replacement::new(&rule.replace, key)))
            .collect();
        let compiled = Arc::new(compiled);
        let inside = rules.iter().enumerate().map(|(number, rule)| inside(rule, number, &compiled));
        let inside = inside.collect::<Result<Vec<_>, _>>()?;
        let choices = rules.iter().enumerate().filter_map(|(number, rule)| {
            Some((rule.name.as_str(), number, rule.detectors.as_ref()?.names()))
        });
        let detectors = Detectors::compile(choices, true)?;
        let body = any_body.then(|| {
            Arc::new(Rules {
                // Without paths it still tells JSON from what only begins like it.
                json: Some(Arc::new(JsonRules { paths, rules: Arc::clone(&compiled) })),
                text: detectors.map(|detectors| {
                    Arc::new(TextRules { detectors, rules: Arc::clone(&compiled) })
                }),
                form: (!fields.is_empty())
                    .then(|| Arc::new(FormRules { fields, rules: Arc::clone(&compiled) })),
                pass_other,
            })
        });
        let columns = Arc::new(ColumnRules::new(
            columns,
            &compiled,
            inside,
            body.as_ref().and_then(|body| body.text.clone()),
            pass_other,
        ));
        Ok(Self {
            source: rules.into(),
            rules: compiled,
            headers: Arc::new(headers),
            body,
            columns,
        })
    }

    /// Whether the plan masks nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is masked in rows of a database.
    pub fn columns(&self) -> &Arc<ColumnRules> {
        &self.columns
    }

    /// Whether bodies are read and may change.
    pub fn masks_body(&self) -> bool {
        self.body.is_some()
    }

    /// Masks response headers (or trailers) in place: those that a rule names, and
    /// what detectors find in the others. A rule that cannot be applied (a hash
    /// without a key) redacts.
    pub fn headers(&self, headers: &mut HeaderMap, report: &mut Report) {
        let detectors = self.body.as_ref().and_then(|body| body.text.as_ref());
        let mut detector =
            detectors.map(|rules| TextMasker::new(Arc::clone(rules), Escaping::None));
        for (name, value) in headers.iter_mut() {
            if let Some((_, rule)) = self.headers.iter().find(|(known, _)| known == name) {
                let (rule, replacement) = &self.rules[*rule];
                report.add(rule, 1);
                set(value, &replacement.apply(value.as_bytes()));
            } else if let Some(detector) = detector.as_mut().filter(|_| !FRAMING.contains(name)) {
                let mut out = Vec::with_capacity(value.len());
                let read = detector
                    .push(value.as_bytes(), &mut out, report)
                    .and_then(|()| detector.finish(&mut out, report));
                match read {
                    Ok(()) if out == value.as_bytes() => {}
                    Ok(()) => set(value, &out),
                    Err(_) => set(value, b""),
                }
            }
        }
    }

    /// Takes out what an identity-coded body that may have changed no longer agrees
    /// with. Does nothing when the plan is empty.
    pub fn fix_headers(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        for name in [
            header::ACCEPT_RANGES,
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
            header::ETAG,
            HeaderName::from_static("content-digest"),
            HeaderName::from_static("content-md5"),
            HeaderName::from_static("digest"),
            HeaderName::from_static("repr-digest"),
        ] {
            headers.remove(name);
        }
    }

    /// Begins a body; what comes out of it is identity-coded, unless the plan is
    /// empty: then nothing is touched. Takes the response's `Content-Type`, its `Content-Encoding` and the status.
    /// Several values of `Content-Encoding` are joined by commas. A response with
    /// `Content-Range` must be given as status 206.
    ///
    /// # Errors
    /// When it is clear from these alone that the body cannot be masked.
    pub fn body(
        &self,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        status: u16,
    ) -> Result<BodyMasker, Unmaskable> {
        if self.is_empty() {
            return Ok(BodyMasker::pass(Decoder::identity()));
        }
        let decoder = Decoder::new(content_encoding)?;
        let Some(rules) = &self.body else {
            return Ok(BodyMasker::pass(decoder));
        };
        if self.rules.iter().any(|rule| !rule.1.is_ready()) {
            return Err(Unmaskable::NoKey);
        }
        if status == 206 {
            return Err(Unmaskable::Partial);
        }
        let kind = kind_of(content_type)?;
        Ok(BodyMasker::new(decoder, Arc::clone(rules), kind, content_type.unwrap_or_default()))
    }
}

fn add(
    paths: &mut Paths,
    written: &[String],
    rule: &MaskRule,
    number: usize,
) -> Result<(), MaskError> {
    for path in written {
        paths.add(path, number).map_err(|why| MaskError::Path {
            rule: rule.name.clone(),
            path: path.clone(),
            why,
        })?;
    }
    Ok(())
}

/// What is masked inside the columns of a rule, where it names paths.
fn inside(
    rule: &MaskRule,
    number: usize,
    rules: &Arc<Vec<(String, Replacement)>>,
) -> Result<Option<Arc<JsonRules>>, MaskError> {
    let mut paths = Paths::default();
    add(&mut paths, &rule.paths, rule, number)?;
    let rules = Arc::clone(rules);
    Ok((!paths.is_empty()).then(|| Arc::new(JsonRules { paths, rules })))
}

fn reads_bodies(rule: &MaskRule) -> bool {
    !rule.json.is_empty() || !rule.form.is_empty() || rule.detectors.is_some()
}

fn check(rule: &MaskRule, before: &[MaskRule]) -> Result<(), MaskError> {
    let name = || rule.name.clone();
    if before.iter().any(|other| other.name == rule.name) {
        return Err(MaskError::Duplicate { rule: name() });
    }
    let no_detectors = rule.detectors.as_ref().is_none_or(|choice| choice.names().is_empty());
    if rule.json.is_empty()
        && rule.headers.is_empty()
        && rule.form.is_empty()
        && rule.columns.is_empty()
        && no_detectors
    {
        return Err(MaskError::Empty { rule: name() });
    }
    if rule.columns.is_empty() && !rule.paths.is_empty() {
        return Err(MaskError::Paths { rule: name() });
    }
    if rule.name.is_empty() {
        return Err(MaskError::Replace { rule: name(), why: "the name is empty".to_owned() });
    }
    if let Replace::KeepLast(n) = rule.replace
        && !(1..=MAX_KEEP).contains(&n)
    {
        let why = format!("`keep_last` takes 1 to {MAX_KEEP}, not {n}");
        return Err(MaskError::Replace { rule: name(), why });
    }
    Ok(())
}

fn set(value: &mut HeaderValue, text: &[u8]) {
    let new = HeaderValue::from_bytes(text);
    *value = new.unwrap_or_else(|_| HeaderValue::from_static(super::replace::TOKEN));
}
