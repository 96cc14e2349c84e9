//! Every kind of node is known by name: walked, or refused.

use super::kinds::{children, name};
use super::{Children, Foreign};
use pg_query::protobuf::{FuncExpr, Query, SelectStmt, Var};
use pg_query::{Node, NodeEnum, NodeRef};

/// The source of the dispatch. The compiler refuses it when a kind is missing: there is no
/// wildcard, and the rows below are counted against the kinds of the grammar's own definition.
const KINDS: &str = include_str!("kinds.rs");

#[test]
fn there_is_no_wildcard_and_each_kind_is_named_once() {
    assert!(!KINDS.contains("_ =>"));
    let mut walked: Vec<_> = KINDS
        .split("NodeRef::")
        .skip(1)
        .filter_map(|arm| arm.split_once('('))
        .map(|(kind, _)| kind)
        .filter(|kind| kind.chars().all(char::is_alphanumeric))
        .collect();
    let all = walked.len();
    walked.sort_unstable();
    walked.dedup();
    assert_eq!(walked.len(), all);
    // The tags of `message Node` in pg_query.proto.
    assert_eq!(all, 268);
}

#[test]
fn what_only_the_analysis_makes_is_refused() {
    let kinds = [
        NodeEnum::Var(Box::<Var>::default()),
        NodeEnum::Query(Box::<Query>::default()),
        NodeEnum::FuncExpr(Box::<FuncExpr>::default()),
    ];
    for kind in kinds {
        let mut found = Children::default();
        let error = children(kind.to_ref(), &mut found).unwrap_err();
        assert_eq!(error, Foreign(name(kind.to_ref())));
    }
    let select = SelectStmt::default();
    assert_eq!(name(NodeRef::SelectStmt(&select)), "SelectStmt");
    assert!(children(NodeRef::SelectStmt(&select), &mut Children::default()).is_ok());
}

#[test]
fn a_node_of_an_unknown_kind_is_not_skipped() {
    // A kind that is newer than the reader decodes to a node that holds nothing.
    let broken =
        SelectStmt { where_clause: Some(Box::new(Node { node: None })), ..SelectStmt::default() };
    let mut found = Children::default();
    children(NodeRef::SelectStmt(&broken), &mut found).unwrap();
    assert!(found.broken);
    // Plain DISTINCT is a list with nothing in it.
    let distinct =
        SelectStmt { distinct_clause: vec![Node { node: None }], ..SelectStmt::default() };
    let mut found = Children::default();
    children(NodeRef::SelectStmt(&distinct), &mut found).unwrap();
    assert!(!found.broken);
}
