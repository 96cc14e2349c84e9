//! One walk over a statement's parse tree that gathers what it does, and to what.
//!
//! Every node is visited. What has no arm of its own here is walked through, and a relation in
//! it counts as written unless a query reads it: an unknown statement errs to the strict side.

mod objects;

pub(super) use objects::{is_remote, runs_unseen};

use super::flags;
use super::names;
use super::read::Unreadable;
use super::statement::{Function, Reading, Relation, Statement};
use super::walk::{Children, children};
use super::{action, effect};
use pg_query::protobuf::{
    CreateFunctionStmt, DeleteStmt, InsertStmt, MergeStmt, RangeVar, SelectStmt, UpdateStmt,
    WithClause,
};
use pg_query::{Node, NodeEnum, NodeRef};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a relation that is met counts as.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Read,
    Write,
}

/// Gathers the facts of one statement.
#[derive(Default)]
pub(super) struct Facts {
    reads: BTreeSet<Relation>,
    writes: BTreeSet<Relation>,
    functions: BTreeSet<Function>,
    operators: BTreeSet<Function>,
    flags: BTreeSet<&'static str>,
    actions: Vec<&'static str>,
    filters: Vec<bool>,
    parameters: u16,
    /// Names of the common table expressions in sight, innermost last.
    ctes: Vec<String>,
    /// Whether statements within are run now (not in a view, a rule, a plain EXPLAIN).
    dormant: bool,
    in_cte: bool,
}

impl Facts {
    /// The facts of one statement.
    ///
    /// # Errors
    /// When a part of the tree is of a kind the walk does not know.
    pub(super) fn of(tree: &NodeEnum) -> Result<Self, Unreadable> {
        let mut facts = Self::default();
        facts.actions.push(action::of(tree).unwrap_or("sql.other"));
        facts.top(tree)?;
        if matches!(tree, NodeEnum::ExplainStmt(explain) if !effect::analyzes(&explain.options)) {
            // Nothing is changed; the plan is made of what the tables are.
            let writes = std::mem::take(&mut facts.writes);
            facts.reads.extend(writes);
        }
        action::strictest_first(&mut facts.actions);
        Ok(facts)
    }

    /// The statement these facts are of.
    ///
    /// # Errors
    /// When a statement within it cannot be read.
    pub(super) fn statement(self, text: String, tree: NodeEnum) -> Result<Statement, Unreadable> {
        let effect = effect::of(&tree, &text)?;
        let reading = Reading {
            action: self.actions.first().copied().unwrap_or("sql.other"),
            actions: self.actions,
            reads: self.reads.into_iter().collect(),
            writes: self.writes.into_iter().collect(),
            functions: self.functions.into_iter().collect(),
            operators: self.operators.into_iter().collect(),
            filtered: match (self.filters.is_empty(), &tree) {
                (false, _) => Some(self.filters.iter().all(|filtered| *filtered)),
                (true, NodeEnum::SelectStmt(select)) => filters(select),
                (true, _) => None,
            },
            flags: self.flags,
            effect,
            returns_rows: returns_rows(&tree),
            parameters: self.parameters,
            tree,
        };
        Ok(Statement { text, recurs: false, reading: Arc::new(reading) })
    }

    fn top(&mut self, tree: &NodeEnum) -> Result<(), Unreadable> {
        match tree {
            NodeEnum::ExplainStmt(explain) => {
                if effect::analyzes(&explain.options) {
                    self.flag(flags::EXPLAIN_ANALYZE);
                    if let Some(inner) = explain.query.as_deref().and_then(|n| n.node.as_ref()) {
                        self.actions.extend(action::of(inner));
                    }
                } else {
                    self.dormant = true;
                }
            }
            NodeEnum::DeclareCursorStmt(_) => self.actions.push("sql.select"),
            NodeEnum::PrepareStmt(_)
            | NodeEnum::ViewStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::CreateFunctionStmt(_) => self.dormant = true,
            _ => {}
        }
        self.statement_flags(tree);
        self.visit(tree.to_ref(), Role::Write)
    }

    fn flag(&mut self, flag: &'static str) {
        self.flags.insert(flag);
    }

    fn relation(&mut self, range: &RangeVar, role: Role) {
        let relation = names::relation(range);
        match role {
            Role::Read if relation.schema.is_none() && self.ctes.contains(&relation.name) => {}
            Role::Read => _ = self.reads.insert(relation),
            Role::Write => _ = self.writes.insert(relation),
        }
    }

    fn visit(&mut self, node: NodeRef<'_>, role: Role) -> Result<(), Unreadable> {
        match node {
            NodeRef::SelectStmt(select) => self.select(select),
            NodeRef::InsertStmt(insert) => self.insert(insert),
            NodeRef::UpdateStmt(update) => self.update(update),
            NodeRef::DeleteStmt(delete) => self.delete(delete),
            NodeRef::MergeStmt(merge) => self.merge(merge),
            NodeRef::RangeVar(range) => {
                self.relation(range, role);
                self.within(node, role)
            }
            NodeRef::IntoClause(into) => {
                if let Some(range) = &into.rel {
                    self.created(range);
                }
                self.each(&into.options, role)
            }
            NodeRef::FuncCall(call) => {
                let function = names::function(&call.funcname)
                    .ok_or_else(|| Unreadable::Unknown("the name of a function".to_owned()))?;
                if let Some(flag) = flags::of_function(&function.name) {
                    self.flag(flag);
                    if flag == flags::SET_CONFIG {
                        self.flag(flags::STATE_UNKNOWN);
                    }
                }
                self.functions.insert(function);
                self.within(node, Role::Read)
            }
            NodeRef::AExpr(expression) => {
                self.operators.extend(names::function(&expression.name));
                self.within(node, Role::Read)
            }
            NodeRef::SubLink(link) => {
                self.operators.extend(names::function(&link.oper_name));
                self.within(node, Role::Read)
            }
            NodeRef::SortBy(sort) => {
                self.operators.extend(names::function(&sort.use_op));
                self.within(node, Role::Read)
            }
            NodeRef::RangeTableSample(sample) => {
                // A sampling method is a function: its name alone is not followed.
                self.functions.extend(names::function(&sample.method));
                self.within(node, role)
            }
            NodeRef::ParamRef(parameter) => {
                let number = u16::try_from(parameter.number)
                    .map_err(|_| Unreadable::Unknown(format!("${}", parameter.number)))?;
                self.parameters = self.parameters.max(number);
                Ok(())
            }
            // What the newest grammar reads as syntax, an older server takes for a call.
            NodeRef::JsonFuncExpr(_) => {
                self.keyword(&["json_exists", "json_query", "json_value"], node)
            }
            NodeRef::JsonParseExpr(_) => self.keyword(&["json"], node),
            NodeRef::JsonScalarExpr(_) => self.keyword(&["json_scalar"], node),
            NodeRef::JsonSerializeExpr(_) => self.keyword(&["json_serialize"], node),
            NodeRef::JsonTable(_) => self.keyword(&["json_table"], node),
            NodeRef::MergeSupportFunc(_) => self.keyword(&["merge_action"], node),
            NodeRef::JsonObjectAgg(_) => self.keyword(&["json_objectagg"], node),
            NodeRef::JsonArrayAgg(_) => self.keyword(&["json_arrayagg"], node),
            NodeRef::JsonArrayConstructor(_) | NodeRef::JsonArrayQueryConstructor(_) => {
                self.keyword(&["json_array"], node)
            }
            NodeRef::CommonTableExpr(_) => {
                let outer = std::mem::replace(&mut self.in_cte, true);
                self.within(node, Role::Read)?;
                self.in_cte = outer;
                Ok(())
            }
            NodeRef::TableLikeClause(_) | NodeRef::Constraint(_) => self.within(node, Role::Read),
            NodeRef::CopyStmt(copy) if !copy.is_from => self.within(node, Role::Read),
            NodeRef::CreateStmt(create) => {
                if let Some(range) = &create.relation {
                    self.created(range);
                }
                self.each(&create.inh_relations, Role::Read)?;
                self.without(node, |child| matches!(child, NodeRef::RangeVar(_)))
            }
            _ => self.within(node, role),
        }
    }

    /// A name that an older server takes for a function, and everything within.
    fn keyword(&mut self, called: &[&str], node: NodeRef<'_>) -> Result<(), Unreadable> {
        self.functions.extend(called.iter().map(|name| Function {
            schema: None,
            name: (*name).to_owned(),
            keyword: true,
        }));
        self.within(node, Role::Read)
    }

    fn created(&mut self, range: &RangeVar) {
        // `pg_temp.x` is temporary without the word.
        if range.relpersistence == "t" || range.schemaname.starts_with("pg_temp") {
            self.flag(flags::TEMPORARY);
        }
        self.relation(range, Role::Write);
    }

    /// Every child of a node.
    fn within(&mut self, node: NodeRef<'_>, role: Role) -> Result<(), Unreadable> {
        for child in parts(node)? {
            self.visit(child, role)?;
        }
        Ok(())
    }

    /// Every child of a node but those that were looked at already.
    fn without(
        &mut self,
        node: NodeRef<'_>,
        seen: impl Fn(&NodeRef<'_>) -> bool,
    ) -> Result<(), Unreadable> {
        for child in parts(node)?.into_iter().filter(|child| !seen(child)) {
            self.visit(child, Role::Read)?;
        }
        Ok(())
    }

    fn each(&mut self, nodes: &[Node], role: Role) -> Result<(), Unreadable> {
        for node in nodes.iter().filter_map(|node| node.node.as_ref()) {
            self.visit(node.to_ref(), role)?;
        }
        Ok(())
    }

    /// Runs `inner` with the names of a WITH in sight, after its queries were walked.
    fn with(
        &mut self,
        with: Option<&WithClause>,
        inner: impl FnOnce(&mut Self) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let outer = self.ctes.len();
        if let Some(with) = with {
            let named = |node: &Node| match node.node.as_ref() {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.ctename.clone()),
                _ => None,
            };
            if with.recursive {
                // Each sees all of them, itself as well.
                self.ctes.extend(with.ctes.iter().filter_map(named));
                self.each(&with.ctes, Role::Read)?;
            } else {
                for cte in &with.ctes {
                    self.each(std::slice::from_ref(cte), Role::Read)?;
                    self.ctes.extend(named(cte));
                }
            }
        }
        let done = inner(self);
        self.ctes.truncate(outer);
        done
    }

    fn select(&mut self, select: &SelectStmt) -> Result<(), Unreadable> {
        self.with(select.with_clause.as_ref(), |facts| {
            if let Some(into) = select.into_clause.as_deref() {
                facts.flag(flags::SELECT_INTO);
                facts.did("sql.ddl.create");
                facts.visit(into.to_ref(), Role::Write)?;
            }
            if !select.locking_clause.is_empty() {
                facts.flag(flags::ROW_LOCK);
                facts.did("sql.lock");
            }
            for child in parts(select.to_ref())? {
                match child {
                    NodeRef::WithClause(_) | NodeRef::IntoClause(_) => {}
                    // The names after OF are aliases of what is in FROM.
                    NodeRef::LockingClause(_) => {}
                    child => facts.visit(child, Role::Read)?,
                }
            }
            Ok(())
        })
    }

    /// Something that a statement does besides.
    fn did(&mut self, action: &'static str) {
        if !self.dormant {
            self.actions.push(action);
        }
    }

    fn changes(&mut self, action: &'static str, target: Option<&RangeVar>, reads: bool) {
        self.did(action);
        if self.in_cte {
            self.flag(flags::DATA_CHANGING_CTE);
        }
        if let Some(target) = target {
            self.relation(target, Role::Write);
            if reads {
                // The name of a common table expression cannot be the target of a change.
                self.reads.insert(names::relation(target));
            }
        }
    }

    fn rest(&mut self, node: NodeRef<'_>, target: Option<&RangeVar>) -> Result<(), Unreadable> {
        let is_target = |child: &NodeRef<'_>| match (child, target) {
            (NodeRef::RangeVar(range), Some(target)) => std::ptr::eq(*range, target),
            _ => false,
        };
        self.without(node, |child| matches!(child, NodeRef::WithClause(_)) || is_target(child))
    }

    fn insert(&mut self, insert: &InsertStmt) -> Result<(), Unreadable> {
        self.with(insert.with_clause.as_ref(), |facts| {
            let target = insert.relation.as_ref();
            let conflict = insert.on_conflict_clause.as_deref();
            let updates = conflict.is_some_and(|conflict| !conflict.target_list.is_empty());
            let reads = conflict.is_some() || !insert.returning_list.is_empty();
            facts.changes("sql.insert", target, reads);
            if updates {
                // One row at most for each that is inserted: limited by what conflicts.
                facts.did("sql.update");
            }
            facts.rest(insert.to_ref(), target)
        })
    }

    fn update(&mut self, update: &UpdateStmt) -> Result<(), Unreadable> {
        self.with(update.with_clause.as_ref(), |facts| {
            facts.changes("sql.update", update.relation.as_ref(), true);
            facts.filters.push(limits(update.where_clause.as_deref()));
            facts.rest(update.to_ref(), update.relation.as_ref())
        })
    }

    fn delete(&mut self, delete: &DeleteStmt) -> Result<(), Unreadable> {
        self.with(delete.with_clause.as_ref(), |facts| {
            let reads = delete.where_clause.is_some()
                || !delete.using_clause.is_empty()
                || !delete.returning_list.is_empty();
            facts.changes("sql.delete", delete.relation.as_ref(), reads);
            facts.filters.push(limits(delete.where_clause.as_deref()));
            facts.rest(delete.to_ref(), delete.relation.as_ref())
        })
    }

    fn merge(&mut self, merge: &MergeStmt) -> Result<(), Unreadable> {
        self.with(merge.with_clause.as_ref(), |facts| {
            facts.changes("sql.merge", merge.relation.as_ref(), true);
            for when in &merge.merge_when_clauses {
                if let Some(NodeEnum::MergeWhenClause(when)) = &when.node {
                    use pg_query::protobuf::CmdType;
                    match CmdType::try_from(when.command_type) {
                        Ok(CmdType::CmdInsert) => facts.did("sql.insert"),
                        Ok(CmdType::CmdUpdate) => facts.did("sql.update"),
                        Ok(CmdType::CmdDelete) => facts.did("sql.delete"),
                        _ => {}
                    }
                }
            }
            facts.rest(NodeRef::MergeStmt(merge), merge.relation.as_ref())
        })
    }

    fn create_function(&mut self, create: &CreateFunctionStmt) {
        self.flag(flags::DEFINES_CODE);
        let language =
            effect::elements(&create.options).find(|option| option.defname == "language");
        let language = language.and_then(|option| names::string(option.arg.as_deref()?));
        if language.is_some_and(|name| name == "c" || name == "internal") {
            self.flag(flags::LOADS_LIBRARY);
        }
    }
}

/// The children of a node.
fn parts(node: NodeRef<'_>) -> Result<Vec<NodeRef<'_>>, Unreadable> {
    let mut found = Children::default();
    children(node, &mut found).map_err(|foreign| Unreadable::Unknown(foreign.0))?;
    match found.broken {
        true => Err(Unreadable::Unknown("a part that the parser could not write".to_owned())),
        false => Ok(found.nodes),
    }
}

/// Whether a WHERE is there, and more than a constant.
fn limits(condition: Option<&Node>) -> bool {
    condition.is_some_and(|condition| names::constant(condition).is_none())
}

/// Whether the outermost SELECT has a WHERE; `None` where it reads no table of its own.
fn filters(select: &SelectStmt) -> Option<bool> {
    match (&select.larg, &select.rarg) {
        (Some(left), Some(right)) => match (filters(left), filters(right)) {
            (None, other) | (other, None) => other,
            (Some(left), Some(right)) => Some(left && right),
        },
        _ if select.from_clause.is_empty() => None,
        _ => Some(limits(select.where_clause.as_deref())),
    }
}

/// Whether a statement can be answered with DataRow messages.
fn returns_rows(tree: &NodeEnum) -> bool {
    match tree {
        NodeEnum::SelectStmt(select) => outermost(select).into_clause.is_none(),
        NodeEnum::InsertStmt(insert) => !insert.returning_list.is_empty(),
        NodeEnum::UpdateStmt(update) => !update.returning_list.is_empty(),
        NodeEnum::DeleteStmt(delete) => !delete.returning_list.is_empty(),
        NodeEnum::MergeStmt(merge) => !merge.returning_list.is_empty(),
        NodeEnum::FetchStmt(fetch) => !fetch.ismove,
        NodeEnum::ExplainStmt(_)
        | NodeEnum::VariableShowStmt(_)
        | NodeEnum::ExecuteStmt(_)
        | NodeEnum::CallStmt(_) => true,
        _ => false,
    }
}

/// The arm of a set operation that an INTO would be in.
fn outermost(select: &SelectStmt) -> &SelectStmt {
    select.larg.as_deref().map_or(select, outermost)
}
