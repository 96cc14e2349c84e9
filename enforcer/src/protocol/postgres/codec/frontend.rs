//! What a client sends after the start-up.

use super::function_call::{self, FunctionCall};
use super::{CodecError, Message, Reader, put, put_count, put_text, put_value};
use bytes::{BufMut, Bytes, BytesMut};

/// `Parse`.
pub const PARSE: u8 = b'P';
/// `Bind`.
pub const BIND: u8 = b'B';
/// `Describe`.
pub const DESCRIBE: u8 = b'D';
/// `Execute`.
pub const EXECUTE: u8 = b'E';
/// `Close`.
pub const CLOSE: u8 = b'C';
/// `Flush`.
pub const FLUSH: u8 = b'H';
/// `Sync`.
pub const SYNC: u8 = b'S';
/// `Query`.
pub const QUERY: u8 = b'Q';
/// `FunctionCall`.
pub const FUNCTION_CALL: u8 = b'F';
/// `Terminate`.
pub const TERMINATE: u8 = b'X';
/// `PasswordMessage`, `SASLInitialResponse`, `SASLResponse` and `GSSResponse`.
pub const PASSWORD: u8 = b'p';

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend {
    /// A query string, of any number of statements.
    Query(String),
    /// A statement to prepare.
    Parse(Parse),
    /// Parameters for a prepared statement.
    Bind(Bind),
    /// A question about a statement or portal.
    Describe(Named),
    /// A portal to run.
    Execute(Execute),
    /// A statement or portal that is no longer needed.
    Close(Named),
    /// What was answered so far is wanted now.
    Flush,
    /// The end of a series.
    Sync,
    /// A function by its oid.
    FunctionCall(FunctionCall),
    /// A piece of `COPY` data.
    CopyData(Bytes),
    /// The end of `COPY` data.
    CopyDone,
    /// The client gives up its `COPY`.
    CopyFail(String),
    /// The end.
    Terminate,
}

/// A prepared statement or a portal, by name; the empty one is unnamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A prepared statement.
    Statement(String),
    /// A portal.
    Portal(String),
}

/// A statement to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse {
    /// Its name; empty: the unnamed one.
    pub name: String,
    /// Its text.
    pub sql: String,
    /// The types of its first parameters, 0 for one to be inferred.
    pub types: Vec<u32>,
}

/// Parameters for a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The portal that is made.
    pub portal: String,
    /// The prepared statement.
    pub statement: String,
    /// None: all text; one: for all; else one for each. 0 is text, 1 binary.
    pub formats: Vec<i16>,
    /// The values; `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// The formats of the result's columns, counted like `formats`.
    pub results: Vec<i16>,
}

impl Bind {
    /// The format of a parameter (from 0).
    pub fn format(&self, parameter: usize) -> i16 {
        format_of(&self.formats, parameter)
    }

    /// The format of a result's column (from 0).
    pub fn result_format(&self, column: usize) -> i16 {
        format_of(&self.results, column)
    }

    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, BIND, |body| {
            put_text(body, &self.portal);
            put_text(body, &self.statement);
            put_formats(body, &self.formats);
            put_count(body, self.values.len());
            for value in &self.values {
                put_value(body, value.as_deref());
            }
            put_formats(body, &self.results);
        });
    }
}

pub(super) fn format_of(formats: &[i16], at: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(at).copied().unwrap_or_default(),
    }
}

pub(super) fn put_formats(out: &mut BytesMut, formats: &[i16]) {
    put_count(out, formats.len());
    for format in formats {
        out.put_i16(*format);
    }
}

/// A portal to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// The portal.
    pub portal: String,
    /// Most rows to return; 0 is all.
    pub rows: u32,
}

/// Reads a message of a client.
///
/// # Errors
/// What does not fit its length, or a tag that no client sends after the start-up.
pub fn read(message: &Message) -> Result<Frontend, CodecError> {
    let body = &message.body;
    Ok(match message.tag {
        QUERY => {
            let mut reader = Reader::new(body, "Query");
            let sql = reader.text()?;
            reader.end()?;
            Frontend::Query(sql)
        }
        PARSE => Frontend::Parse(parse(body)?),
        BIND => Frontend::Bind(bind(body)?),
        DESCRIBE => Frontend::Describe(named(body, "Describe")?),
        CLOSE => Frontend::Close(named(body, "Close")?),
        EXECUTE => {
            let mut reader = Reader::new(body, "Execute");
            let portal = name(&mut reader)?;
            // A negative number means no limit, as 0 does.
            let rows = u32::try_from(reader.i32()?).unwrap_or_default();
            reader.end()?;
            Frontend::Execute(Execute { portal, rows })
        }
        FLUSH => {
            Reader::new(body, "Flush").end()?;
            Frontend::Flush
        }
        SYNC => {
            Reader::new(body, "Sync").end()?;
            Frontend::Sync
        }
        TERMINATE => Frontend::Terminate,
        FUNCTION_CALL => Frontend::FunctionCall(function_call::read(body)?),
        super::copy::DATA => Frontend::CopyData(body.clone()),
        super::copy::DONE => {
            Reader::new(body, "CopyDone").end()?;
            Frontend::CopyDone
        }
        super::copy::FAIL => {
            let mut reader = Reader::new(body, "CopyFail");
            let why = reader.text()?;
            reader.end()?;
            Frontend::CopyFail(why)
        }
        _ => return Err(CodecError::Value("message")),
    })
}

/// Longest name of a statement or portal, bytes (`NAMEDATALEN` and its end).
const MAX_NAME: usize = 63;

/// A name of a statement or portal. The server cuts a longer one without a word, so that two that
/// differ here would be one there.
fn name(reader: &mut Reader) -> Result<String, CodecError> {
    match reader.text()? {
        name if name.len() <= MAX_NAME => Ok(name),
        _ => Err(CodecError::Bounds("name")),
    }
}

fn parse(body: &Bytes) -> Result<Parse, CodecError> {
    let mut reader = Reader::new(body, "Parse");
    let (name, sql) = (name(&mut reader)?, reader.text()?);
    let count = reader.count(4)?;
    let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Parse { name, sql, types })
}

fn bind(body: &Bytes) -> Result<Bind, CodecError> {
    let mut reader = Reader::new(body, "Bind");
    let (portal, statement) = (name(&mut reader)?, name(&mut reader)?);
    let formats = formats(&mut reader)?;
    let count = reader.count(4)?;
    let values = (0..count).map(|_| reader.value()).collect::<Result<Vec<_>, _>>()?;
    let results = self::formats(&mut reader)?;
    reader.end()?;
    if formats.len() > 1 && formats.len() != values.len() {
        return Err(CodecError::Bounds("Bind"));
    }
    Ok(Bind { portal, statement, formats, values, results })
}

pub(super) fn formats(reader: &mut Reader) -> Result<Vec<i16>, CodecError> {
    let count = reader.count(2)?;
    (0..count)
        .map(|_| match reader.i16()? {
            format @ 0..=1 => Ok(format),
            _ => Err(CodecError::Value("format")),
        })
        .collect()
}

fn named(body: &Bytes, what: &'static str) -> Result<Named, CodecError> {
    let mut reader = Reader::new(body, what);
    let kind = reader.u8()?;
    let name = name(&mut reader)?;
    reader.end()?;
    match kind {
        b'S' => Ok(Named::Statement(name)),
        b'P' => Ok(Named::Portal(name)),
        _ => Err(CodecError::Value(what)),
    }
}

/// Appends a `Query`.
pub fn put_query(out: &mut BytesMut, sql: &str) {
    put(out, QUERY, |body| put_text(body, sql));
}

impl Parse {
    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, PARSE, |body| {
            put_text(body, &self.name);
            put_text(body, &self.sql);
            put_count(body, self.types.len());
            for oid in &self.types {
                body.put_u32(*oid);
            }
        });
    }
}

impl Execute {
    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, EXECUTE, |body| {
            put_text(body, &self.portal);
            body.put_u32(self.rows);
        });
    }
}

impl Named {
    /// Appends a `Describe` of it.
    pub fn put_describe(&self, out: &mut BytesMut) {
        put(out, DESCRIBE, |body| self.put_name(body));
    }

    /// Appends a `Close` of it.
    pub fn put_close(&self, out: &mut BytesMut) {
        put(out, CLOSE, |body| self.put_name(body));
    }

    fn put_name(&self, body: &mut BytesMut) {
        let (kind, name) = match self {
            Self::Statement(name) => (b'S', name),
            Self::Portal(name) => (b'P', name),
        };
        body.put_u8(kind);
        put_text(body, name);
    }
}

/// Appends a message that is its tag alone: `Flush`, `Sync`, `Terminate`.
pub fn put_bare(out: &mut BytesMut, tag: u8) {
    put(out, tag, |_| {});
}
