//! One response body on its way through decoding and masking. Owns the choice of
//! what reads it; the readers own how.

use super::content::{BOM, Kind, Look, sniff};
use super::decode::Decoder;
use super::escape::Escaping;
use super::form::FormMasker;
use super::json::JsonMasker;
use super::plan::Rules;
use super::sse::SseMasker;
use super::text::TextMasker;
use super::wrapper::{self, Wrapper};
use super::{Report, Unmaskable};
use std::sync::Arc;

/// Most blank bytes in front of content whose kind they hide.
const MAX_HEAD: usize = 64 * 1024;

/// Masks one response body. Bytes go in as they come from the upstream; what is to
/// be delivered comes out, identity-coded. After an error nothing comes out and
/// the body must be cut.
pub struct BodyMasker {
    decoder: Decoder,
    stage: Stage,
    report: Report,
    failed: Option<Unmaskable>,
}

enum Stage {
    /// Content that no rule reads, or that the rules let through uninspected.
    Pass,
    /// The first bytes, until they tell the kind.
    Head {
        rules: Arc<Rules>,
        kind: Kind,
        content_type: String,
        head: Vec<u8>,
    },
    Json(Box<JsonStage>),
    Text(Box<TextMasker>),
    Form(Box<FormStage>),
    Sse(Box<SseMasker>),
}

/// JSON fields, then detectors.
struct JsonStage {
    fields: Option<JsonMasker>,
    text: Option<TextMasker>,
    /// What to do when content that only looked like JSON is not.
    otherwise: Otherwise,
    between: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
enum Otherwise {
    /// It had to be JSON.
    Fail,
    /// It is text.
    Text,
    /// It is content of this type that cannot be read.
    Block(String),
    /// It is a script.
    BlockScript,
    /// It is content that may pass.
    Pass,
}

struct FormStage {
    fields: Option<FormMasker>,
    text: Option<TextMasker>,
    between: Vec<u8>,
}

impl BodyMasker {
    /// For bodies that no rule reads.
    pub(super) fn pass(decoder: Decoder) -> Self {
        Self::at(decoder, Stage::Pass)
    }

    pub(super) fn new(decoder: Decoder, rules: Arc<Rules>, kind: Kind, content_type: &str) -> Self {
        let content_type = content_type.to_owned();
        Self::at(decoder, Stage::Head { rules, kind, content_type, head: Vec::new() })
    }

    fn at(decoder: Decoder, stage: Stage) -> Self {
        Self { decoder, stage, report: Report::default(), failed: None }
    }

    /// Takes the next bytes of the body and appends to `out` what may be delivered.
    ///
    /// # Errors
    /// When the content cannot be decoded or read; `out` is then as it was.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.guarded(out, |this, out| {
            let Self { decoder, stage, report, .. } = this;
            decoder.push(input, &mut |bytes| stage.push(bytes, out, report))
        })
    }

    /// The body is complete: appends what was still held.
    ///
    /// # Errors
    /// When the content ends early or cannot be read; `out` is then as it was.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.guarded(out, |this, out| {
            this.decoder.finish()?;
            this.stage.finish(out, &mut this.report)
        })
    }

    /// Whether the response's head should wait for the first piece that comes out: what is read
    /// may turn out to be unreadable. Events may begin with a long silence, so their head does not.
    pub fn head_waits(&self) -> bool {
        match &self.stage {
            Stage::Pass => !self.decoder.is_identity(),
            Stage::Head { kind, .. } => *kind != Kind::Sse,
            _ => true,
        }
    }

    /// What was masked so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn guarded(
        &mut self,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Unmaskable>,
    ) -> Result<(), Unmaskable> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        let before = out.len();
        let result = work(self, out);
        if let Err(why) = &result {
            out.truncate(before);
            self.failed = Some(why.clone());
        }
        result
    }
}

impl std::fmt::Debug for BodyMasker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyMasker")
            .field("report", &self.report)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Stage {
    fn push(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        if !matches!(self, Self::Pass | Self::Head { .. }) && memchr::memchr(0, bytes).is_some() {
            return Err(Unmaskable::Charset(
                "text with NUL bytes, which is UTF-16 or not text".to_owned(),
            ));
        }
        match self {
            Self::Pass => out.extend_from_slice(bytes),
            Self::Head { head, .. } => {
                head.extend_from_slice(bytes);
                self.decide(false, out, report)?;
            }
            Self::Json(json) => json.push(bytes, out, report)?,
            Self::Text(text) => text.push(bytes, out, report)?,
            Self::Form(form) => form.push(bytes, out, report)?,
            Self::Sse(sse) => sse.push(bytes, out, report)?,
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unmaskable> {
        if matches!(self, Self::Head { .. }) {
            self.decide(true, out, report)?;
        }
        match self {
            Self::Pass | Self::Head { .. } => Ok(()),
            Self::Json(json) => json.finish(out, report),
            Self::Text(text) => text.finish(out, report),
            Self::Form(form) => form.finish(out, report),
            Self::Sse(sse) => sse.finish(out, report),
        }
    }

    /// Chooses the reader once the first bytes tell, and gives them to it.
    fn decide(
        &mut self,
        eof: bool,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        let Self::Head { rules, kind, content_type, head } = self else {
            return Ok(());
        };
        if head.is_empty() {
            return Ok(());
        }
        let kind = *kind;
        let text = |escaping| {
            rules.text.as_ref().map(|rules| TextMasker::new(Arc::clone(rules), escaping))
        };
        let unread = || Unmaskable::Type(content_type.clone());
        let by_path = rules.json.as_ref().filter(|rules| !rules.paths.is_empty());
        if let Some(paths) = by_path
            && matches!(kind, Kind::Json | Kind::Script | Kind::Text)
        {
            match wrapper::find(head, kind != Kind::Text, eof) {
                Wrapper::Undecided => return Ok(()),
                Wrapper::None => {}
                Wrapper::Found { ends, call } => {
                    let fields = match call {
                        true => JsonMasker::in_call(Arc::clone(paths)),
                        false => JsonMasker::new(Arc::clone(paths)),
                    };
                    let otherwise = match kind {
                        Kind::Script if rules.pass_other => Otherwise::Pass,
                        Kind::Script => Otherwise::BlockScript,
                        // A guard says that JSON follows; what looks like a call may be prose.
                        Kind::Text if call => Otherwise::Text,
                        _ => Otherwise::Fail,
                    };
                    let head = std::mem::take(head);
                    let mut json = JsonStage::new(Some(fields), text(Escaping::Json), otherwise);
                    json.scan(&head[..ends], out, report)?;
                    *self = Self::Json(Box::new(json));
                    return self.push(&head[ends..], out, report);
                }
            }
        }
        let stage = match (sniff(head, kind, eof), kind) {
            (Look::Undecided, _) if head.len() > MAX_HEAD => return Err(unread()),
            (Look::Undecided, _) => return Ok(()),
            (Look::Wide, Kind::Media | Kind::Other) if rules.pass_other => Self::Pass,
            (Look::Wide, _) => return Err(Unmaskable::Charset("UTF-16 or UTF-32".to_owned())),
            (_, Kind::Json) => Self::json(
                by_path.map(|rules| JsonMasker::new(Arc::clone(rules))),
                text(Escaping::Json),
                Otherwise::Fail,
            ),
            (Look::Json, _) => {
                let otherwise = match kind {
                    Kind::Media | Kind::Other | Kind::Script if rules.pass_other => Otherwise::Pass,
                    Kind::Script if by_path.is_some() => Otherwise::BlockScript,
                    // Events and forms have readers of their own, which text would go past.
                    Kind::Media | Kind::Other | Kind::Sse | Kind::Form => {
                        Otherwise::Block(content_type.clone())
                    }
                    _ => Otherwise::Text,
                };
                let fields = rules.json.as_ref().map(|rules| JsonMasker::new(Arc::clone(rules)));
                Self::json(fields, text(Escaping::Json), otherwise)
            }
            (Look::Binary, Kind::Media) => Self::Pass,
            (_, Kind::Other) if rules.pass_other => Self::Pass,
            (_, Kind::Script) if by_path.is_some() && !rules.pass_other => {
                return Err(Unmaskable::Script);
            }
            (_, Kind::Other) | (Look::Binary, _) => return Err(unread()),
            (Look::Text, Kind::Sse) => {
                Self::Sse(Box::new(SseMasker::new(rules.json.clone(), rules.text.clone())))
            }
            (Look::Text, Kind::Form) => Self::Form(Box::new(FormStage {
                fields: rules.form.as_ref().map(|rules| FormMasker::new(Arc::clone(rules))),
                text: text(Escaping::Form),
                between: Vec::new(),
            })),
            (Look::Text, Kind::Markup) => {
                text(Escaping::Entity).map_or(Self::Pass, |text| Self::Text(Box::new(text)))
            }
            (Look::Text, Kind::Text | Kind::Script | Kind::Media) => {
                text(Escaping::None).map_or(Self::Pass, |text| Self::Text(Box::new(text)))
            }
        };
        let head = std::mem::take(head);
        *self = stage;
        // RFC 8259 section 8.1 lets a reader skip the mark; it stays in the output.
        let rest = match self {
            Self::Json(_) => head.strip_prefix(BOM).unwrap_or(&head),
            _ => &head,
        };
        out.extend_from_slice(&head[..head.len() - rest.len()]);
        self.push(rest, out, report)
    }

    fn json(fields: Option<JsonMasker>, text: Option<TextMasker>, otherwise: Otherwise) -> Self {
        Self::Json(Box::new(JsonStage::new(fields, text, otherwise)))
    }
}

impl JsonStage {
    fn new(fields: Option<JsonMasker>, text: Option<TextMasker>, otherwise: Otherwise) -> Self {
        Self { fields, text, otherwise, between: Vec::new() }
    }

    fn push(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        let Some(fields) = &mut self.fields else {
            return self.scan(bytes, out, report);
        };
        let mut taken = 0;
        let mut between = std::mem::take(&mut self.between);
        between.clear();
        let result = fields.push(bytes, &mut between, report, &mut taken);
        let committed = fields.has_committed();
        let closed = fields.is_closed();
        self.scan(&between, out, report)?;
        self.between = between;
        let rest = &bytes[taken..];
        match result {
            Ok(()) if closed && !wrapper::ends_call(rest) => return Err(Unmaskable::Script),
            Ok(()) => {}
            Err(why) => self.not_json(why, committed)?,
        }
        self.scan(rest, out, report)
    }

    fn finish(&mut self, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unmaskable> {
        if let Some(fields) = &mut self.fields {
            let mut between = Vec::new();
            let result = fields.finish(&mut between, report);
            let committed = fields.has_committed();
            self.scan(&between, out, report)?;
            if let Err(why) = result {
                self.not_json(why, committed)?;
            }
        }
        self.text.as_mut().map_or(Ok(()), |text| text.finish(out, report))
    }

    /// It looked like JSON by its first byte and is not.
    fn not_json(&mut self, why: Unmaskable, committed: bool) -> Result<(), Unmaskable> {
        if committed {
            return Err(why);
        }
        match &self.otherwise {
            Otherwise::Fail => return Err(why),
            Otherwise::Block(content_type) => return Err(Unmaskable::Type(content_type.clone())),
            Otherwise::BlockScript => return Err(Unmaskable::Script),
            Otherwise::Text | Otherwise::Pass => {}
        }
        self.fields = None;
        if let Some(text) = &mut self.text {
            text.plain_from_here();
        }
        Ok(())
    }

    fn scan(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        match &mut self.text {
            Some(text) => text.push(bytes, out, report),
            None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

impl FormStage {
    fn push(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        let mut between = std::mem::take(&mut self.between);
        let bytes = match &mut self.fields {
            Some(fields) => {
                between.clear();
                fields.push(bytes, &mut between, report);
                &between
            }
            None => bytes,
        };
        match &mut self.text {
            Some(text) => text.push(bytes, out, report)?,
            None => out.extend_from_slice(bytes),
        }
        self.between = between;
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unmaskable> {
        let mut rest = Vec::new();
        if let Some(fields) = &mut self.fields {
            fields.finish(&mut rest, report);
        }
        match &mut self.text {
            Some(text) => {
                text.push(&rest, out, report)?;
                text.finish(out, report)
            }
            None => {
                out.extend_from_slice(&rest);
                Ok(())
            }
        }
    }
}
