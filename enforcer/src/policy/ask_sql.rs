//! A statement as a person describes it: read by the code that reads what agents send, and
//! judged as all that it is.
//!
//! There is no catalog here. A table without a schema is in the first schema of the search
//! path, a function without one is PostgreSQL's own, views are not looked through and which
//! columns are shown is only known when it is said.

use super::ask::{Ask, BadAsk, bad};
use super::evaluate::strictest;
use super::schema::SQL_CONNECT;
use super::sql as facts;
use super::target::{NamePattern, Target};
use super::{Bundle, Judgement, Verdict};
use crate::operation::{Fact, Operation, Protocol};
use crate::principal::Principal;
use crate::protocol::postgres::sql::{Effect, Function, Relation, Statement, read};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// The schema of PostgreSQL's own functions and tables.
const OWN: &str = "pg_catalog";

impl Bundle {
    /// Judges the statements of an [`Ask`] with `sql`, or its signing in; of several statements
    /// the strictest verdict counts, as one refusal refuses all.
    pub(super) fn judge_sql(&self, ask: &Ask, principal: &Principal) -> Result<Judgement, BadAsk> {
        let name = ask.target.as_ref().ok_or_else(|| {
            bad("SQL needs `target`: a statement does not say which database it is for")
        })?;
        let target =
            self.target(name).ok_or_else(|| bad(format!("there is no target `{name}`")))?;
        let Some(postgres) = &target.postgres else {
            return Err(bad(format!("target `{name}` does not speak postgres")));
        };
        let user = ask.user.clone().or_else(|| {
            let named = postgres.users.keys().find(|user| *user != "*");
            named.or_else(|| postgres.roles.first().map(|role| &role.name)).cloned()
        });
        let user = user.ok_or_else(|| bad("give `user`"))?;
        let Some(role) = postgres.role_of(&user) else {
            return Ok(denied(format!("target `{name}` maps user `{user}` to no role")));
        };
        let known = postgres.databases.keys().next();
        let database = ask.database.as_ref().or(known).unwrap_or(&user);
        let Some(upstream) = postgres.database_of(database) else {
            return Ok(denied(format!("target `{name}` has no database `{database}`")));
        };
        let database = upstream.to_owned();
        let session = Session {
            ask,
            target,
            place: place(target)?,
            user,
            role: ask.role.clone().unwrap_or_else(|| role.name.clone()),
            database,
        };
        let Some(text) = &ask.sql else {
            let op = session.operation(SQL_CONNECT);
            return Ok(self.evaluate(principal, target, &op));
        };
        let statements = match read(text) {
            Ok(statements) if statements.is_empty() => {
                return Err(bad("`sql` has no statement in it"));
            }
            Ok(statements) => statements,
            Err(why) => return Ok(denied(why.to_string())),
        };
        let mut names = Names::default();
        let mut judged: Option<Judgement> = None;
        for statement in &statements {
            let one = match names.runs(statement) {
                Ok(runs) => self.evaluate(principal, target, &session.statement(statement, runs)),
                Err(name) => denied(format!("nothing is prepared or declared as `{name}`")),
            };
            judged = Some(match judged {
                Some(before) => strictest(before, one),
                None => one,
            });
            names.after(statement);
        }
        judged.ok_or_else(|| bad("`sql` has no statement in it"))
    }
}

fn denied(why: String) -> Judgement {
    Judgement { verdict: Verdict::Deny, rules: Vec::new(), trace: vec![format!("denied: {why}")] }
}

/// What the statements before made that a later one can run.
#[derive(Default)]
struct Names {
    prepared: HashMap<String, Statement>,
    cursors: HashMap<String, Statement>,
}

impl Names {
    /// What runs when `statement` does: itself, or what it names. The name when there is none.
    fn runs<'s>(&'s self, statement: &'s Statement) -> Result<&'s Statement, &'s str> {
        match &statement.effect {
            Effect::Execute { name, .. } => self.prepared.get(name).ok_or(name),
            Effect::Fetch { name, .. } => self.cursors.get(name).ok_or(name),
            _ => Ok(statement),
        }
    }

    fn after(&mut self, statement: &Statement) {
        match &statement.effect {
            Effect::Prepare { name, inner } => {
                self.prepared.insert(name.clone(), Statement::clone(inner));
            }
            Effect::DeclareCursor { name, inner, .. } => {
                self.cursors.insert(name.clone(), Statement::clone(inner));
            }
            _ => {}
        }
    }
}

/// The session that the statements are in.
struct Session<'a> {
    ask: &'a Ask,
    target: &'a Target,
    place: (String, u16),
    user: String,
    role: String,
    database: String,
}

impl Session<'_> {
    fn operation(&self, action: &str) -> Operation {
        let (name, port) = &self.place;
        let resource = format!("postgres://{name}:{port}/{}", self.database);
        let mut op =
            Operation::new(&self.target.name, name, *port, Protocol::Postgres, action, resource);
        op.fact(facts::DATABASE, self.database.as_str());
        op.fact(facts::USER, self.user.as_str());
        op.fact(facts::ROLE, self.role.as_str());
        op
    }

    fn statement(&self, statement: &Statement, runs: &Statement) -> Operation {
        let mut op = self.operation(runs.action);
        let path = match self.ask.search_path.as_slice() {
            [] => vec!["public".to_owned()],
            path => path.to_vec(),
        };
        let first = path.iter().find(|schema| *schema != OWN).map_or("public", String::as_str);
        let table = |relation: &Relation| match &relation.schema {
            Some(_) => relation.to_string(),
            None => format!("{first}.{}", relation.name),
        };
        let function = |function: &Function| match &function.schema {
            Some(_) => function.to_string(),
            None => format!("{OWN}.{}", function.name),
        };
        op.fact(facts::STATEMENT, statement.text.as_str());
        op.fact(facts::ACTIONS, list(runs.actions.iter().map(|action| (*action).to_owned())));
        op.fact(facts::TABLES_READ, list(runs.reads.iter().map(table)));
        op.fact(facts::TABLES_WRITTEN, list(runs.writes.iter().map(table)));
        op.fact(facts::FUNCTIONS, list(runs.functions.iter().map(function)));
        op.fact(facts::FLAGS, list(runs.flags.iter().map(|flag| (*flag).to_owned())));
        for (fact, said) in
            [(facts::COLUMNS, &self.ask.columns), (facts::LOOKED_AT, &self.ask.looked_at)]
        {
            if let Some(columns) = said {
                op.fact(fact, list(columns.iter().cloned()));
            }
        }
        op.fact(facts::HAS_WHERE, runs.filtered == Some(true));
        op.fact(facts::IN_TRANSACTION, self.ask.in_transaction);
        op.fact(facts::SEARCH_PATH, Fact::List(path));
        for (number, value) in &self.ask.parameters {
            op.fact(format!("{}{number}", facts::PARAMETER), value.as_str());
        }
        op
    }
}

fn list(items: impl Iterator<Item = String>) -> Fact {
    let sorted: BTreeSet<String> = items.collect();
    Fact::List(sorted.into_iter().collect())
}

/// A name or address of the target, and its port.
fn place(target: &Target) -> Result<(String, u16), BadAsk> {
    let named = target.names.first().map(|pattern| match pattern {
        NamePattern::Exact(name) => name.clone(),
        NamePattern::Below(suffix) => format!("any.{suffix}"),
    });
    let address = target.addresses.first().map(|net| match net.addr() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    });
    let name = named.or(address).ok_or_else(|| bad("the target has no name"))?;
    Ok((name, target.ports.first().copied().unwrap_or(PORT)))
}
