//! What of an answer the agent may see: rows, `COPY` data, errors and notices under the masks.

use super::codec::error_response::Report as Words;
use super::codec::row_description::Field;
use super::codec::{backend, data_row, function_call};
use super::reading::{Catalog, ColumnRef, Lineage, Output};
use crate::mask::column::{ColumnRules, Rule, detect_value, mask_value};
use crate::mask::copy::{CopyOptions, CopyRows};
use crate::mask::{Report, Unmaskable};
use crate::policy::Untraceable;
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::sync::Arc;

/// Fields of an error or notice that never carry a value: severity, SQLSTATE, position, and the
/// names of what it is about.
const PLAIN: &[u8] = b"SVCPpstcdnFLR";

/// Why something is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Withheld {
    /// The output cannot be followed to columns.
    #[error("a mask names columns, and what this statement shows cannot be followed to them: {0}")]
    Untraceable(String),
    /// It would put values of a named column where no mask names them.
    #[error("it would keep values of a column that a mask names in {0}, which none names")]
    Kept(String),
    /// It is the replication stream.
    #[error(
        "a mask applies to this target, and what the replication protocol sends cannot be masked"
    )]
    Stream,
    /// What came is not what the statement said.
    #[error("the answer has other columns than the statement, so masks cannot be applied")]
    Shape,
    /// A value cannot be masked.
    #[error("a value cannot be masked: {0}")]
    Value(#[from] Unmaskable),
    /// A row cannot be read.
    #[error("a row cannot be read: {0}")]
    Row(#[from] super::codec::CodecError),
}

impl Withheld {
    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Untraceable(_) => "untraceable",
            Self::Kept(_) => "unmasked-copy",
            _ => "unmaskable",
        }
    }
}

/// The masks over one statement's answer.
#[derive(Debug)]
pub(super) struct Veil {
    rules: Arc<ColumnRules>,
    catalog: Option<Arc<Catalog>>,
    /// What each output column depends on; `None` when policy lets what cannot be followed pass.
    outputs: Option<Arc<[Output]>>,
    /// Words of the server may carry values of named columns.
    sensitive: bool,
    columns: Vec<Column>,
    copy: Option<CopyRows>,
    report: Report,
}

#[derive(Debug)]
struct Column {
    rule: Option<Rule>,
    kind: u32,
    format: i16,
}

impl Veil {
    /// The masks of `rules` over a statement of this lineage.
    ///
    /// # Errors
    /// When a rule names columns, the lineage is not known, and `untraceable` says to refuse.
    pub(super) fn new(
        rules: Arc<ColumnRules>,
        catalog: Option<Arc<Catalog>>,
        lineage: &Lineage,
        untraceable: Untraceable,
    ) -> Result<Self, Withheld> {
        if untraceable == Untraceable::Refuse && lineage.outputs.is_ok() {
            check_kept(&rules, &lineage.kept)?;
        }
        let (outputs, sensitive) = match &lineage.outputs {
            _ if !rules.any() => (None, false),
            Ok(outputs) => {
                let mut relations = lineage.relations.iter();
                let named = relations.any(|(s, t)| names(&rules, catalog.as_deref(), s, t));
                (Some(Arc::clone(outputs)), named || lineage.anything)
            }
            Err(_) if untraceable == Untraceable::Allow => (None, true),
            Err(why) => return Err(Withheld::Untraceable(why.clone())),
        };
        let report = Report::default();
        Ok(Self { rules, catalog, outputs, sensitive, columns: Vec::new(), copy: None, report })
    }

    /// Takes the masks' counts.
    pub(super) fn counts(&mut self) -> Report {
        std::mem::take(&mut self.report)
    }

    /// Learns the columns that rows will have.
    pub(super) fn describe(&mut self, fields: &[Field]) -> Result<(), Withheld> {
        if self.rules.is_empty() {
            return Ok(());
        }
        if self.outputs.as_ref().is_some_and(|outputs| outputs.len() != fields.len()) {
            return Err(Withheld::Shape);
        }
        let columns = fields.iter().enumerate().map(|(at, field)| Column {
            rule: self.rule(at).or_else(|| self.described(field)),
            kind: field.kind,
            format: field.format,
        });
        self.columns = columns.collect();
        Ok(())
    }

    /// The rule of an output by what it depends on.
    fn rule(&self, at: usize) -> Option<Rule> {
        let output = self.outputs.as_ref()?.get(at)?;
        self.rules.rule_of(output.columns.iter().map(parts), output.unchanged)
    }

    /// The rule of the column that the server itself says a field is.
    fn described(&self, field: &Field) -> Option<Rule> {
        let catalog = self.catalog.as_ref().filter(|_| field.table != 0)?;
        let table = catalog.relation_by_oid(field.table)?;
        let column = table.columns.iter().find(|column| column.number == field.column)?;
        self.rules.rule(&table.schema, &table.name, &column.name).cloned()
    }

    /// Whether rows can be delivered byte for byte. Not before it is known what they are.
    pub(super) fn is_clear(&self) -> bool {
        let known = !self.rules.detects() && !self.columns.is_empty();
        self.rules.is_empty() || (known && self.columns.iter().all(|column| column.rule.is_none()))
    }

    /// Writes a row as it may be seen.
    pub(super) fn row(&mut self, body: &Bytes, out: &mut BytesMut) -> Result<(), Withheld> {
        let values = data_row::read(body)?;
        if values.len() != self.columns.len() {
            return Err(Withheld::Shape);
        }
        let mut masked: Vec<Option<Cow<'_, [u8]>>> = Vec::with_capacity(values.len());
        for (column, value) in self.columns.iter().zip(&values) {
            masked.push(seen(&self.rules, column, value.as_deref(), &mut self.report)?);
        }
        data_row::write(out, &masked);
        Ok(())
    }

    /// Writes the result of a function that was called by its number as it may be seen.
    pub(super) fn result(&mut self, body: &Bytes, out: &mut BytesMut) -> Result<(), Withheld> {
        let value = function_call::result(body)?;
        let [column] = self.columns.as_slice() else { return Err(Withheld::Shape) };
        let masked = seen(&self.rules, column, value.as_deref(), &mut self.report)?;
        function_call::put_result(out, masked.as_deref());
        Ok(())
    }

    /// Begins `COPY` data in this form.
    pub(super) fn begin_copy(
        &mut self,
        options: Option<CopyOptions>,
        columns: usize,
    ) -> Result<(), Withheld> {
        if self.rules.is_empty() {
            return Ok(());
        }
        if self.outputs.as_ref().is_some_and(|outputs| outputs.len() != columns) {
            return Err(Withheld::Shape);
        }
        let Some(options) = options else {
            return Err(Withheld::Untraceable("the form of its data is not known".to_owned()));
        };
        let binary = options.format == crate::mask::copy::CopyFormat::Binary;
        // Types are not sent with COPY: a value is masked as text, and one in the binary format
        // as one of a type that is not known, which becomes NULL.
        self.columns = (0..columns)
            .map(|at| Column {
                rule: self.rule(at),
                kind: if binary { 0 } else { TEXT },
                format: i16::from(binary),
            })
            .collect();
        self.copy = Some(CopyRows::new(options));
        Ok(())
    }

    /// What of `COPY` data may be seen so far; `None` for all of it, byte for byte.
    pub(super) fn copy(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>, Withheld> {
        let Some(copy) = &mut self.copy else {
            return Ok(None);
        };
        let (rules, columns, report) = (&self.rules, &self.columns, &mut self.report);
        let mut out = Vec::with_capacity(data.len());
        copy.push(data, &mut out, &mut |at, value| match columns.get(at) {
            Some(column) => seen(rules, column, value, report),
            None => Err(Unmaskable::Copy("more columns than the statement has")),
        })?;
        Ok(Some(out))
    }

    /// The `COPY` data ends.
    pub(super) fn end_copy(&mut self) -> Result<(), Withheld> {
        match self.copy.take() {
            Some(copy) => Ok(copy.finish()?),
            None => Ok(()),
        }
    }

    /// An error or notice as it may be seen.
    pub(super) fn words(&mut self, mut words: Words) -> Words {
        if self.sensitive {
            let code = words.code().to_owned();
            words.fields.retain(|(letter, _)| PLAIN.contains(letter));
            let what = format!(
                "the server's words are withheld by enforcer: they may carry masked values \
                 (SQLSTATE {code})"
            );
            words.fields.push((b'M', what));
            return words;
        }
        if self.rules.detects() {
            for (letter, text) in &mut words.fields {
                if PLAIN.contains(letter) {
                    continue;
                }
                match self.rules.detect_text(text.as_bytes(), &mut self.report) {
                    Ok(None) => {}
                    Ok(Some(masked)) => *text = String::from_utf8_lossy(&masked).into_owned(),
                    Err(_) => "(withheld by enforcer)".clone_into(text),
                }
            }
        }
        words
    }

    /// A notification as it may be seen. Nobody can say where its payload comes from.
    pub(super) fn notification(
        &mut self,
        mut news: backend::Notification,
    ) -> backend::Notification {
        if self.rules.any() {
            news.payload.clear();
        } else if self.rules.detects() {
            match self.rules.detect_text(news.payload.as_bytes(), &mut self.report) {
                Ok(None) => {}
                Ok(Some(masked)) => news.payload = String::from_utf8_lossy(&masked).into_owned(),
                Err(_) => news.payload.clear(),
            }
        }
        news
    }
}

fn parts(column: &ColumnRef) -> (&str, &str, &str) {
    (&column.schema, &column.table, &column.column)
}

/// Whether rules name a column of a relation; of one that the catalog does not have any could be
/// meant.
fn names(rules: &ColumnRules, catalog: Option<&Catalog>, schema: &str, table: &str) -> bool {
    rules.names_table(schema, table)
        && match catalog.and_then(|catalog| catalog.named(schema, table)) {
            Some(known) => {
                known.columns.iter().any(|col| rules.rule(schema, table, &col.name).is_some())
            }
            None => true,
        }
}

/// What a statement puts elsewhere must be named there too, or the mask is lost on it.
fn check_kept(rules: &ColumnRules, kept: &[Output]) -> Result<(), Withheld> {
    for place in kept {
        if rules.rule_of(place.columns.iter().map(parts), place.unchanged).is_none() {
            continue;
        }
        let mut name = place.name.splitn(3, '.');
        let named = match (name.next(), name.next(), name.next()) {
            (Some(schema), Some(table), Some(column)) if !column.contains('.') => {
                rules.rule(schema, table, column).is_some()
            }
            _ => false,
        };
        if !named {
            return Err(Withheld::Kept(place.name.clone()));
        }
    }
    Ok(())
}

/// The oid of `text`.
const TEXT: u32 = 25;

/// One value as it may be seen.
fn seen<'v>(
    rules: &ColumnRules,
    column: &Column,
    value: Option<&'v [u8]>,
    report: &mut Report,
) -> Result<Option<Cow<'v, [u8]>>, Unmaskable> {
    match &column.rule {
        Some(rule) if rule.is_partial() => {
            let masked = mask_value(rule, column.kind, column.format, value)?;
            if masked.as_deref() != value {
                rule.count(report);
            }
            // What the paths do not lead to is like any other value.
            let rest = detect_value(rules, column.kind, column.format, masked.as_deref(), report)?;
            Ok(rest.map(|rest| Cow::Owned(rest.into_owned())))
        }
        Some(rule) => {
            if value.is_some() {
                rule.count(report);
            }
            mask_value(rule, column.kind, column.format, value)
        }
        None => detect_value(rules, column.kind, column.format, value, report),
    }
}
