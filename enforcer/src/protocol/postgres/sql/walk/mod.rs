//! The children of every kind of node that PostgreSQL's raw grammar makes.
//!
//! Nothing can be left out by an oversight: each kind names all of its fields (a field that a
//! newer grammar brings does not compile until it is named here), what is named as a leaf must
//! be of a type that holds no node, and [`children`] has an arm for every kind, without a
//! wildcard. The kinds that only PostgreSQL's analysis and planner make are [`Foreign`].

mod document;
mod expression;
mod kinds;
mod object;
mod query;
mod table;
mod utility;
mod value;

#[cfg(test)]
mod tests;

pub(super) use kinds::children;

use pg_query::protobuf::{FuncExpr, a_const};
use pg_query::{Node, NodeRef};

/// A node that no raw parse tree has: its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign(pub(super) String);

/// What a node holds, in the order of its fields.
#[derive(Default)]
pub(super) struct Children<'a> {
    /// The nodes within.
    pub(super) nodes: Vec<NodeRef<'a>>,
    /// Whether a place that must hold a node holds none: the parser met a kind it cannot write.
    pub(super) broken: bool,
}

/// A kind of node: pushes every child it has.
trait Walk {
    fn children<'a>(&'a self, found: &mut Children<'a>);
}

/// A field that holds nodes.
trait Inner {
    fn push<'a>(&'a self, found: &mut Children<'a>);
}

impl Inner for Node {
    fn push<'a>(&'a self, found: &mut Children<'a>) {
        match &self.node {
            Some(node) => found.nodes.push(node.to_ref()),
            None => found.broken = true,
        }
    }
}

/// Not of a raw parse tree; the field that can hold it (of CALL) is empty there.
impl Inner for FuncExpr {
    fn push<'a>(&'a self, found: &mut Children<'a>) {
        found.nodes.push(NodeRef::FuncExpr(self));
    }
}

impl<T: Inner> Inner for Box<T> {
    fn push<'a>(&'a self, found: &mut Children<'a>) {
        (**self).push(found);
    }
}

impl<T: Inner> Inner for Option<T> {
    fn push<'a>(&'a self, found: &mut Children<'a>) {
        if let Some(inner) = self {
            inner.push(found);
        }
    }
}

impl<T: Inner> Inner for Vec<T> {
    fn push<'a>(&'a self, found: &mut Children<'a>) {
        for inner in self {
            inner.push(found);
        }
    }
}

/// A list whose elements may be NULL in the grammar itself (plain DISTINCT, `NONE` in the
/// arguments of an operator, a function in FROM without a list of columns).
fn holes<'a>(list: &'a [Node], found: &mut Children<'a>) {
    found.nodes.extend(list.iter().filter_map(|node| Some(node.node.as_ref()?.to_ref())));
}

/// A type that holds no node.
trait Leaf {}

impl Leaf for bool {}
impl Leaf for i32 {}
impl Leaf for i64 {}
impl Leaf for u32 {}
impl Leaf for String {}
impl Leaf for Vec<u32> {}
impl Leaf for Option<a_const::Val> {}

/// Compiles for leaves alone.
fn leaf<L: Leaf>(_: &L) {}

/// Names all the fields of one kind of node: those with nodes, those with holes, the rest.
macro_rules! walk {
    ($kind:ident { $($fields:tt)* }) => {
        super::walk!($kind as $kind { $($fields)* });
    };
    ($kind:ident as $variant:ident {
        $(children: $($child:ident),+;)? $(holes: $($hole:ident),+;)? $(leaves: $($leaf:ident),+;)?
    }) => {
        impl super::Walk for $kind {
            fn children<'a>(&'a self, found: &mut super::Children<'a>) {
                let Self { $($($child,)+)? $($($hole,)+)? $($($leaf,)+)? } = self;
                let _ = &found;
                $($(super::Inner::push($child, found);)+)?
                $($(super::holes($hole, found);)+)?
                $($(super::leaf($leaf);)+)?
            }
        }
        impl super::Inner for $kind {
            fn push<'a>(&'a self, found: &mut super::Children<'a>) {
                found.nodes.push(pg_query::NodeRef::$variant(self));
            }
        }
    };
}
use walk;
