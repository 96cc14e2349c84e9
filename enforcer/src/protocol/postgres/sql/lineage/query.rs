//! Queries: WITH, SELECT, VALUES, set operations.

use super::label;
use super::scope::{Item, Scope};
use super::taint::{Col, Taint};
use super::top::{Cols, Ctes, Place, Stop, Tracer, stop};
use crate::protocol::postgres::sql::names;
use pg_query::protobuf::{CommonTableExpr, SelectStmt, WithClause};
use pg_query::{Node, NodeEnum};

/// Times a recursive WITH is gone through before it is given up.
const MAX_ROUNDS: usize = 64;

impl Tracer<'_> {
    /// The columns that a query returns: those of RETURNING when it changes rows.
    pub(super) fn query(&mut self, tree: &NodeEnum, place: Place<'_>) -> Cols {
        self.deeper(|tracer| match tree {
            NodeEnum::SelectStmt(select) => tracer.select(select, place),
            NodeEnum::InsertStmt(insert) => tracer.insert(insert, place),
            NodeEnum::UpdateStmt(update) => tracer.update(update, place),
            NodeEnum::DeleteStmt(delete) => tracer.delete(delete, place),
            NodeEnum::MergeStmt(merge) => tracer.merge(merge, place),
            _ => stop("a statement that is no query stands where one must"),
        })
    }

    /// Runs `inner` with the common table expressions of `with` in sight.
    pub(super) fn with<T>(
        &mut self,
        with: Option<&WithClause>,
        place: Place<'_>,
        inner: impl FnOnce(&mut Self, Place<'_>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let Some(with) = with else { return inner(self, place) };
        let mut ctes = Ctes { known: Vec::new(), outer: Some(place.ctes) };
        let parts: Vec<&CommonTableExpr> = with
            .ctes
            .iter()
            .filter_map(|node| match node.node.as_ref()? {
                NodeEnum::CommonTableExpr(cte) => Some(&**cte),
                _ => None,
            })
            .collect();
        if parts.len() != with.ctes.len() {
            return stop("a part of WITH is none");
        }
        if with.recursive {
            ctes.known = parts.iter().map(|cte| (cte.ctename.clone(), None)).collect();
            self.recursive(&parts, &mut ctes, place.scope)?;
        } else {
            for cte in parts {
                let cols = self.cte(cte, Place { scope: place.scope, ctes: &ctes }, false)?;
                ctes.known.push((cte.ctename.clone(), Some(cols)));
            }
        }
        inner(self, Place { scope: place.scope, ctes: &ctes })
    }

    /// Goes through the parts of a recursive WITH until nothing is added any more.
    fn recursive(
        &mut self,
        parts: &[&CommonTableExpr],
        ctes: &mut Ctes<'_>,
        scope: &Scope<'_>,
    ) -> Result<(), Stop> {
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for (at, cte) in parts.iter().enumerate() {
                let place = Place { scope, ctes };
                let made = match self.cte(cte, place, false) {
                    // Its own first arm gives it columns to begin with.
                    Err(Stop::NotYet) => self.cte(cte, place, true),
                    made => made,
                };
                let made = match made {
                    Ok(made) => made,
                    Err(Stop::NotYet) => continue,
                    Err(stop) => return Err(stop),
                };
                let Some((_, known)) = ctes.known.get_mut(at) else { continue };
                match known {
                    Some(known) if known.len() != made.len() => {
                        return stop("the arms of a recursive WITH differ in columns");
                    }
                    Some(known) => {
                        let before = known.clone();
                        for (known, made) in known.iter_mut().zip(&made) {
                            known.taint.either(&made.taint);
                        }
                        changed |= before != *known;
                    }
                    None => {
                        changed = true;
                        *known = Some(made);
                    }
                }
            }
            if !changed {
                return match ctes.known.iter().all(|(_, cols)| cols.is_some()) {
                    true => Ok(()),
                    false => Err(Stop::NotYet),
                };
            }
        }
        stop("a recursive WITH does not come to an end")
    }

    /// One common table expression; of a UNION only the first arm when `first` is set.
    fn cte(&mut self, cte: &CommonTableExpr, place: Place<'_>, first: bool) -> Cols {
        let Some(query) = cte.ctequery.as_deref().and_then(|node| node.node.as_ref()) else {
            return stop("a part of WITH has no query");
        };
        let mut cols = match (first, query) {
            (false, query) => self.query(query, place)?,
            (true, NodeEnum::SelectStmt(select)) => {
                let Some(left) = select.larg.as_deref() else { return Err(Stop::NotYet) };
                self.with(select.with_clause.as_ref(), place, |tracer, place| {
                    tracer.deeper(|tracer| tracer.select(left, place))
                })?
            }
            (true, _) => return Err(Stop::NotYet),
        };
        let Some(names) = names::strings(&cte.aliascolnames) else {
            return stop("the name of a column is none");
        };
        for (col, name) in cols.iter_mut().zip(names) {
            name.clone_into(&mut col.name);
        }
        // SEARCH and CYCLE add columns with rows in them.
        let row = super::taint::all(&cols);
        if let Some(search) = &cte.search_clause {
            cols.push(Col::new(search.search_seq_column.clone(), row.clone()));
        }
        if let Some(cycle) = cte.cycle_clause.as_deref() {
            cols.push(Col::new(cycle.cycle_mark_column.clone(), row.clone()));
            cols.push(Col::new(cycle.cycle_path_column.clone(), row));
        }
        Ok(cols)
    }

    /// A SELECT, VALUES or set operation.
    pub(super) fn select(&mut self, select: &SelectStmt, place: Place<'_>) -> Cols {
        self.with(select.with_clause.as_ref(), place, |tracer, place| {
            let cols = match (&select.larg, &select.rarg) {
                (Some(left), Some(right)) => tracer.set_operation(select, left, right, place)?,
                (None, None) if !select.values_lists.is_empty() => tracer.values(select, place)?,
                (None, None) => tracer.plain(select, place)?,
                _ => return stop("a set operation has one arm"),
            };
            tracer.into(select, &cols)?;
            Ok(cols)
        })
    }

    fn into(&mut self, select: &SelectStmt, cols: &[Col]) -> Result<(), Stop> {
        let into = select.into_clause.as_deref().and_then(|into| into.rel.as_ref());
        if let Some(range) = into {
            for col in cols {
                let name = format!("{}.{}", names::relation(range), col.name);
                self.keep(name, col.taint.clone())?;
            }
        }
        Ok(())
    }

    fn set_operation(
        &mut self,
        select: &SelectStmt,
        left: &SelectStmt,
        right: &SelectStmt,
        place: Place<'_>,
    ) -> Cols {
        let mut cols = self.deeper(|tracer| tracer.select(left, place))?;
        self.into(left, &cols)?;
        let others = self.deeper(|tracer| tracer.select(right, place))?;
        if cols.len() != others.len() {
            return stop("the arms of a set operation differ in columns");
        }
        for (col, other) in cols.iter_mut().zip(&others) {
            col.taint.either(&other.taint);
        }
        // ORDER BY sees the columns of the result alone; LIMIT sees none.
        let result = Scope::new(vec![Item::new(None, cols.clone())], None);
        let inner = Place { scope: &result, ctes: place.ctes };
        self.orders(&select.sort_clause, &cols, inner)?;
        self.conditions([&select.limit_count, &select.limit_offset], place)?;
        Ok(cols)
    }

    fn values(&mut self, select: &SelectStmt, place: Place<'_>) -> Cols {
        let mut cols: Vec<Col> = Vec::new();
        for (nth, row) in select.values_lists.iter().enumerate() {
            let Some(values) = names::items(row) else { return stop("a row of VALUES is none") };
            if nth > 0 && values.len() != cols.len() {
                return stop("the rows of VALUES differ in columns");
            }
            for (at, value) in values.iter().enumerate() {
                let taint = self.value(value, place)?;
                match cols.get_mut(at) {
                    Some(col) => col.taint.either(&taint),
                    None => cols.push(Col::new(format!("column{}", at + 1), taint)),
                }
            }
        }
        self.orders(&select.sort_clause, &cols, place)?;
        self.conditions([&select.limit_count, &select.limit_offset], place)?;
        Ok(cols)
    }

    fn plain(&mut self, select: &SelectStmt, place: Place<'_>) -> Cols {
        let items = self.from(&select.from_clause, place)?;
        let scope = Scope::new(items, Some(place.scope));
        let place = Place { scope: &scope, ctes: place.ctes };
        let windows = self.windows(&select.window_clause, place)?;
        let cols = self.targets(&select.target_list, place, &windows)?;
        self.conditions([&select.where_clause, &select.having_clause], place)?;
        self.conditions([&select.limit_count, &select.limit_offset], place)?;
        self.orders(&select.sort_clause, &cols, place)?;
        self.orders(&select.group_clause, &cols, place)?;
        self.orders(&select.distinct_clause, &cols, place)?;
        Ok(cols)
    }

    /// What the named windows of a query look at: any call over one depends on it.
    fn windows(&mut self, windows: &[Node], place: Place<'_>) -> Result<Taint, Stop> {
        let mut taint = Taint::default();
        for window in windows {
            taint.mix(&self.value(window, place)?);
        }
        Ok(taint)
    }

    /// The columns of a list of targets (of SELECT and RETURNING). `windows` is what a window
    /// could bring in.
    pub(super) fn targets(&mut self, targets: &[Node], place: Place<'_>, windows: &Taint) -> Cols {
        let mut cols = Vec::new();
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                return stop("a target of the query is none");
            };
            let Some(value) = target.val.as_deref() else { return stop("a target has no value") };
            if let Some(expanded) = self.star(value, place)? {
                cols.extend(expanded);
                continue;
            }
            let mut taint = self.value(value, place)?;
            if !windows.is_empty() && label::has_window(value) {
                taint.mix(windows);
            }
            let name = match target.name.is_empty() {
                false => target.name.clone(),
                true => self.label(value, place),
            };
            cols.push(Col::new(name, taint));
        }
        Ok(cols)
    }

    /// Conditions and limits: looked at, and no part of the answer.
    pub(super) fn conditions<const N: usize>(
        &mut self,
        conditions: [&Option<Box<Node>>; N],
        place: Place<'_>,
    ) -> Result<(), Stop> {
        for condition in conditions.into_iter().flatten() {
            let taint = self.value(condition, place)?;
            self.look(&taint);
        }
        Ok(())
    }

    /// ORDER BY, GROUP BY and DISTINCT ON: a bare name may be one of the answer's, and a number
    /// counts them.
    fn orders(&mut self, orders: &[Node], cols: &[Col], place: Place<'_>) -> Result<(), Stop> {
        for order in orders {
            let node = match &order.node {
                Some(NodeEnum::SortBy(sort)) => match sort.node.as_deref() {
                    Some(node) => node,
                    None => continue,
                },
                Some(NodeEnum::GroupingSet(set)) => {
                    self.orders(&set.content, cols, place)?;
                    continue;
                }
                // Plain DISTINCT.
                None => continue,
                Some(_) => order,
            };
            if let Some(items) = label::row_items(node) {
                self.orders(items, cols, place)?;
                continue;
            }
            let mut found = false;
            if let Some(name) = label::bare_name(node) {
                for col in cols.iter().filter(|col| col.name == name) {
                    self.look(&col.taint);
                    found = true;
                }
            }
            if let Some(number) = label::ordinal(node) {
                if let Some(col) = number.checked_sub(1).and_then(|at| cols.get(at)) {
                    self.look(&col.taint);
                }
                continue;
            }
            match self.value(node, place) {
                Ok(taint) => self.look(&taint),
                Err(Stop::Untraceable(_)) if found => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }
}
