//! A client that sends what it likes, message by message.

use super::*;
use crate::protocol::postgres::codec::error_response::{self, Report};
use crate::protocol::postgres::codec::frontend::{self, Bind, Execute, Named, Parse};
use crate::protocol::postgres::codec::function_call::{self, FunctionCall};
use crate::protocol::postgres::codec::startup::Startup;
use crate::protocol::postgres::codec::{Message, backend, data_row, startup};
use crate::protocol::postgres::io::{Io, Wire};
use bytes::{Bytes, BytesMut};

/// A client that has signed in.
pub(super) struct Raw {
    pub(super) wire: Wire,
    pub(super) process: u32,
    pub(super) key: Bytes,
    pub(super) negotiated: bool,
}

impl Raw {
    pub(super) async fn new(world: &World) -> Self {
        Self::with(world, 0, &[]).await
    }

    pub(super) async fn with(world: &World, minor: u16, more: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(world.gate).await.unwrap();
        Self::over(stream, minor, more).await
    }

    pub(super) async fn over(io: impl Io, minor: u16, more: &[(&str, &str)]) -> Self {
        let mut wire = Wire::new(io);
        let base = [("user", "agent"), ("database", "shop")];
        let parameters = base.iter().chain(more);
        let parameters =
            parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Startup { minor, parameters }.put(wire.out());
        wire.flush().await.unwrap();
        let mut raw = Self { wire, process: 0, key: Bytes::new(), negotiated: false };
        loop {
            let message = raw.wire.next().await.unwrap();
            match message.tag {
                backend::KEY_DATA => {
                    (raw.process, raw.key) = backend::key_data(&message.body).unwrap();
                }
                backend::NEGOTIATE => raw.negotiated = true,
                backend::READY => return raw,
                error_response::ERROR => panic!("{:?}", Report::read(&message.body)),
                _ => {}
            }
        }
    }

    /// Sends what was written and gives what came up to the next `ReadyForQuery`, in words.
    pub(super) async fn until_ready(&mut self) -> Vec<String> {
        self.wire.flush().await.unwrap();
        let mut told = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, self.wire.next()).await.expect("in time");
            let message = next.unwrap();
            told.push(word(&message));
            if message.tag == backend::READY {
                return told;
            }
        }
    }

    /// One message.
    pub(super) async fn message(&mut self) -> Message {
        self.wire.flush().await.unwrap();
        let next = tokio::time::timeout(PATIENCE, self.wire.next()).await.expect("in time");
        next.unwrap()
    }

    /// One message, in words.
    pub(super) async fn one(&mut self) -> String {
        word(&self.message().await)
    }

    pub(super) fn query(&mut self, sql: &str) -> &mut Self {
        frontend::put_query(self.wire.out(), sql);
        self
    }

    pub(super) fn parse(&mut self, name: &str, sql: &str) -> &mut Self {
        let parse = Parse { name: name.to_owned(), sql: sql.to_owned(), types: Vec::new() };
        parse.put(self.wire.out());
        self
    }

    pub(super) fn bind(&mut self, portal: &str, statement: &str, values: &[&str]) -> &mut Self {
        let values = values.iter().map(|value| Some(Bytes::copy_from_slice(value.as_bytes())));
        Bind {
            portal: portal.to_owned(),
            statement: statement.to_owned(),
            formats: Vec::new(),
            values: values.collect(),
            results: Vec::new(),
        }
        .put(self.wire.out());
        self
    }

    pub(super) fn describe(&mut self, named: Named) -> &mut Self {
        named.put_describe(self.wire.out());
        self
    }

    pub(super) fn close(&mut self, named: Named) -> &mut Self {
        named.put_close(self.wire.out());
        self
    }

    pub(super) fn execute(&mut self, portal: &str, rows: u32) -> &mut Self {
        Execute { portal: portal.to_owned(), rows }.put(self.wire.out());
        self
    }

    /// The function-call message.
    pub(super) fn call(&mut self, function: u32, format: i16, values: &[&[u8]]) -> &mut Self {
        let values = values.iter().map(|value| Some(Bytes::copy_from_slice(value))).collect();
        FunctionCall { function, formats: vec![format], values, result: format }
            .put(self.wire.out());
        self
    }

    pub(super) fn bare(&mut self, tag: u8) -> &mut Self {
        frontend::put_bare(self.wire.out(), tag);
        self
    }

    pub(super) fn sync(&mut self) -> &mut Self {
        self.bare(frontend::SYNC)
    }

    pub(super) fn out(&mut self) -> &mut BytesMut {
        self.wire.out()
    }
}

/// Asks to cancel, as another connection of the same agent; whether the bytes went.
pub(super) async fn cancel(world: &World, process: u32, key: &[u8]) {
    let mut wire = Wire::new(TcpStream::connect(world.gate).await.unwrap());
    startup::put_cancel(wire.out(), process, key);
    wire.flush().await.unwrap();
    wire.gone().await;
}

/// A message in a word or two.
fn word(message: &Message) -> String {
    match message.tag {
        error_response::ERROR => {
            let report = Report::read(&message.body).unwrap();
            format!("E {} {}", report.code(), report.get(b'M').unwrap_or_default())
        }
        error_response::NOTICE => {
            format!("N {}", Report::read(&message.body).unwrap().get(b'M').unwrap_or_default())
        }
        backend::COMPLETE => format!("C {}", backend::complete(&message.body).unwrap()),
        backend::READY => format!("Z {}", String::from_utf8_lossy(&message.body)),
        backend::NOTIFICATION => {
            let news = backend::notification(&message.body).unwrap();
            format!("A {} {}", news.channel, news.payload)
        }
        data_row::TAG => {
            let values = data_row::read(&message.body).unwrap();
            let text = |value: &Option<Bytes>| match value {
                None => "NULL".to_owned(),
                Some(value) => String::from_utf8_lossy(value).into_owned(),
            };
            format!("D {}", values.iter().map(text).collect::<Vec<_>>().join("|"))
        }
        function_call::RESPONSE => {
            let value = function_call::result(&message.body).unwrap();
            format!(
                "V {}",
                value.map_or_else(|| "NULL".to_owned(), |value| value.escape_ascii().to_string())
            )
        }
        tag => char::from(tag).to_string(),
    }
}
