//! Between the program's own words and the stored ones.
//!
//! Reading back is strict: a fact without a value, twice the same name, an
//! unknown protocol or a port out of range is an error, never a default, since
//! a digest is computed from what is read.

use crate::operation::{Digest, Fact, Operation, OperationId, Protocol};
use crate::principal::{AgentName, Principal, Process};
use enforcer_proto::v1::{self, fact::Value};
use std::path::{Path, PathBuf};

/// A stored message does not say what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The protocol is none that this version knows.
    #[error("protocol {0:?} is unknown")]
    Protocol(String),
    /// A port above 65535.
    #[error("port {0} is out of range")]
    Port(u32),
    /// A fact without a value.
    #[error("fact {0:?} has no value")]
    Empty(String),
    /// Facts must be by name in ascending order, each name once.
    #[error("fact {0:?} is out of order or there twice")]
    Order(String),
    /// The agent's name has characters that no agent can have.
    #[error("agent {0:?} is not an agent's name")]
    Agent(String),
}

impl From<&Fact> for Value {
    fn from(fact: &Fact) -> Self {
        match fact {
            Fact::Number(number) => Self::Number(*number),
            Fact::Flag(flag) => Self::Flag(*flag),
            Fact::Text(text) => Self::Text(text.clone()),
            Fact::List(items) => Self::List(v1::TextList { items: items.clone() }),
        }
    }
}

impl From<Value> for Fact {
    fn from(value: Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Flag(flag) => Self::Flag(flag),
            Value::Text(text) => Self::Text(text),
            Value::List(list) => Self::List(list.items),
        }
    }
}

/// A stored fact.
pub fn fact(name: &str, value: &Fact) -> v1::Fact {
    v1::Fact { name: name.to_owned(), value: Some(value.into()) }
}

/// All but the digest, which needs the principal: see [`asked`].
impl From<&Operation> for v1::OperationAsked {
    fn from(op: &Operation) -> Self {
        Self {
            digest: String::new(),
            target: op.target.clone(),
            name: op.name.clone(),
            port: u32::from(op.port),
            protocol: op.protocol.as_str().to_owned(),
            action: op.action.clone(),
            resource: op.resource.clone(),
            facts: op.facts().iter().map(|(n, f)| fact(n, f)).collect(),
            notes: Vec::new(),
        }
    }
}

/// The event of an operation with its digest; `notes` are recorded and not hashed.
pub fn asked(op: &Operation, digest: &Digest, notes: Vec<v1::Fact>) -> v1::OperationAsked {
    v1::OperationAsked { digest: digest.to_string(), notes, ..op.into() }
}

/// The operation that was asked, under `id`. The body is not part of the message.
pub fn operation(asked: &v1::OperationAsked, id: OperationId) -> Result<Operation, ConvertError> {
    let protocol = Protocol::named(&asked.protocol)
        .ok_or_else(|| ConvertError::Protocol(asked.protocol.clone()))?;
    let port = u16::try_from(asked.port).map_err(|_| ConvertError::Port(asked.port))?;
    let mut op = Operation::new(
        &asked.target,
        &asked.name,
        port,
        protocol,
        &asked.action,
        asked.resource.clone(),
    );
    op.id = id;
    let mut before: Option<&str> = None;
    for fact in &asked.facts {
        if before.is_some_and(|before| before >= fact.name.as_str()) {
            return Err(ConvertError::Order(fact.name.clone()));
        }
        before = Some(&fact.name);
        let value = fact.value.clone();
        let value = value.ok_or_else(|| ConvertError::Empty(fact.name.clone()))?;
        op.fact(fact.name.clone(), Fact::from(value));
    }
    Ok(op)
}

/// The digest of a recorded operation, computed again from its facts and the recorded principal.
pub fn digest(
    asked: &v1::OperationAsked,
    principal: &v1::Principal,
) -> Result<Digest, ConvertError> {
    let op = operation(asked, OperationId(uuid::Uuid::nil()))?;
    let task = (!principal.task.is_empty()).then_some(principal.task.as_str());
    Ok(crate::operation::digest(&principal.agent, task, &op))
}

fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl From<&Principal> for v1::Principal {
    fn from(principal: &Principal) -> Self {
        let process = &principal.process;
        Self {
            host: principal.host.clone(),
            agent: principal.agent.as_str().to_owned(),
            task: principal.task.clone().unwrap_or_default(),
            cgroup: principal.cgroup.clone(),
            pid: process.pid,
            uid: process.uid,
            gid: process.gid,
            start_ticks: process.start_ticks,
            comm: process.comm.clone(),
            exe: process.exe.as_deref().map(lossy).unwrap_or_default(),
            exe_sha256: process.exe_sha256.clone().unwrap_or_default(),
            argv: process.argv.clone(),
            exe_inside: process.exe_inside.as_deref().map(lossy).unwrap_or_default(),
        }
    }
}

impl TryFrom<&v1::Principal> for Principal {
    type Error = ConvertError;

    fn try_from(principal: &v1::Principal) -> Result<Self, ConvertError> {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Ok(Self {
            host: principal.host.clone(),
            agent: AgentName::parse(&principal.agent)
                .ok_or_else(|| ConvertError::Agent(principal.agent.clone()))?,
            task: some(&principal.task),
            cgroup: principal.cgroup.clone(),
            process: Process {
                pid: principal.pid,
                uid: principal.uid,
                gid: principal.gid,
                start_ticks: principal.start_ticks,
                comm: principal.comm.clone(),
                exe: some(&principal.exe).map(PathBuf::from),
                exe_inside: some(&principal.exe_inside).map(PathBuf::from),
                exe_sha256: some(&principal.exe_sha256),
                argv: principal.argv.clone(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        Principal {
            host: "h".into(),
            agent: AgentName::parse("a").unwrap(),
            task: Some("t".into()),
            cgroup: "/agents.slice/a".into(),
            process: Process {
                pid: 7,
                exe: Some("/usr/bin/curl".into()),
                argv: vec!["curl".into()],
                ..Process::default()
            },
        }
    }

    fn op() -> Operation {
        let mut op = Operation::new("api", "api.test", 443, Protocol::Http, "http.get", "r".into());
        op.fact("n", 3);
        op.fact("f", true);
        op.fact("t", "text");
        op.fact("l", Fact::List(vec!["a".into(), "b".into()]));
        op
    }

    #[test]
    fn an_operation_and_its_principal_come_back_with_the_same_digest() {
        let (op, who) = (op(), principal());
        let asked = asked(&op, &op.digest(&who), Vec::new());
        let back = operation(&asked, op.id).unwrap();
        assert_eq!(back.facts(), op.facts());
        let stored = v1::Principal::from(&who);
        assert_eq!(digest(&asked, &stored).unwrap().to_string(), asked.digest);
        assert_eq!(Principal::try_from(&stored).unwrap(), who);
    }

    #[test]
    fn what_is_not_said_in_full_is_refused() {
        let whole = v1::OperationAsked::from(&op());
        type Break = fn(&mut v1::OperationAsked);
        let cases: [(&str, Break); 5] = [
            ("protocol", |a| a.protocol = "HTTP".into()),
            ("port", |a| a.port = 70_000),
            ("empty", |a| a.facts[0].value = None),
            ("order", |a| a.facts.swap(0, 1)),
            ("twice", |a| a.facts[1].name = a.facts[0].name.clone()),
        ];
        for (what, change) in cases {
            let mut asked = whole.clone();
            change(&mut asked);
            assert!(operation(&asked, OperationId::new()).is_err(), "{what}");
        }
        let mut who = v1::Principal::from(&principal());
        who.agent = "a/b".into();
        assert!(Principal::try_from(&who).is_err());
    }
}
