//! Calls: a value that depends on all arguments, unless the body can see more than them.

use super::label;
use super::taint::Taint;
use super::top::{Place, Stop, Tracer, stop};
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::statement::Function;
use pg_query::NodeRef;
use pg_query::protobuf::FuncCall;

impl Tracer<'_> {
    /// What the result of a call depends on.
    pub(super) fn call(&mut self, call: &FuncCall, place: Place<'_>) -> Result<Taint, Stop> {
        let Some(function) = names::function(&call.funcname) else {
            return stop("the name of a function is none");
        };
        let mut taint = self.mixed(NodeRef::FuncCall(call), place)?;
        let mut arguments = call.args.len();
        if call.agg_within_group {
            arguments += call.agg_order.len();
        }
        let known = self.catalog.call(&self.path, &function, Some(arguments));
        if known.changes {
            // What it keeps can be asked for later, by another name.
            self.keep(format!("{function}()"), taint.clone())?;
        }
        if known.reads {
            let why = format!("the function {function} can see more than its arguments");
            taint.mix(&Taint::opaque(why));
        } else if !(known.known || arguments == 1 && self.notation(&function, call, place)) {
            taint.mix(&Taint::opaque(format!("the catalog knows no function {function}")));
        }
        Ok(taint)
    }

    /// Whether a call of one argument is a cast, or a column of a row.
    fn notation(&self, function: &Function, call: &FuncCall, place: Place<'_>) -> bool {
        if self.catalog.has_type(&function.name) {
            return !self.catalog.cast_reads(&function.name);
        }
        let row = call.args.first().and_then(label::bare_name);
        let item = row.and_then(|name| place.scope.item(None, name));
        item.is_some_and(|item| item.open.is_none() && item.column(&function.name).is_some())
    }

    /// `row.name` where the row has no such column: a function, called with the row.
    pub(super) fn of_row(&mut self, name: &str, row: Taint) -> Result<Taint, Stop> {
        let function = Function { schema: None, name: name.to_owned(), keyword: false };
        match self.catalog.call(&self.path, &function, Some(1)).known {
            true => Ok(self.field(name, row)),
            false => stop(format!("no column or function {name} of a row is known")),
        }
    }

    /// `value.name`: a field of a row of any type, or a function of it.
    pub(super) fn field(&self, name: &str, mut row: Taint) -> Taint {
        let function = Function { schema: None, name: name.to_owned(), keyword: false };
        row.unchanged = false;
        if self.catalog.call(&self.path, &function, Some(1)).reads {
            row.mix(&Taint::opaque(format!("the function {name} can see more than its row")));
        }
        row
    }
}
