//! Queries, changes of rows, and what stands in a FROM.

use super::walk;
use pg_query::protobuf::{
    CommonTableExpr, CteCycleClause, CteSearchClause, DeleteStmt, GroupingSet, InferClause,
    InsertStmt, IntoClause, JoinExpr, LockingClause, MergeStmt, MergeWhenClause, OnConflictClause,
    RangeFunction, RangeSubselect, RangeTableSample, RangeVar, ResTarget, ReturnStmt, SelectStmt,
    SortBy, UpdateStmt, WithClause,
};

walk!(SelectStmt {
    children: into_clause, target_list, from_clause, where_clause, group_clause, having_clause,
        window_clause, values_lists, sort_clause, limit_offset, limit_count, locking_clause,
        with_clause, larg, rarg;
    holes: distinct_clause;
    leaves: group_distinct, limit_option, op, all;
});
walk!(InsertStmt {
    children: relation, cols, select_stmt, on_conflict_clause, returning_list, with_clause;
    leaves: r#override;
});
walk!(UpdateStmt {
    children: relation, target_list, where_clause, from_clause, returning_list, with_clause;
});
walk!(DeleteStmt { children: relation, using_clause, where_clause, returning_list, with_clause; });
walk!(MergeStmt {
    children: relation, source_relation, join_condition, merge_when_clauses, returning_list,
        with_clause;
});
walk!(MergeWhenClause {
    children: condition, target_list, values;
    leaves: match_kind, command_type, r#override;
});
walk!(OnConflictClause { children: infer, target_list, where_clause; leaves: action, location; });
walk!(InferClause { children: index_elems, where_clause; leaves: conname, location; });
walk!(WithClause { children: ctes; leaves: recursive, location; });
walk!(CommonTableExpr {
    children: aliascolnames, ctequery, search_clause, cycle_clause, ctecolnames, ctecoltypes,
        ctecoltypmods, ctecolcollations;
    leaves: ctename, ctematerialized, location, cterecursive, cterefcount;
});
walk!(CteSearchClause as CtesearchClause {
    children: search_col_list;
    leaves: search_breadth_first, search_seq_column, location;
});
walk!(CteCycleClause as CtecycleClause {
    children: cycle_col_list, cycle_mark_value, cycle_mark_default;
    leaves: cycle_mark_column, cycle_path_column, location, cycle_mark_type, cycle_mark_typmod,
        cycle_mark_collation, cycle_mark_neop;
});
walk!(IntoClause {
    children: rel, col_names, options, view_query;
    leaves: access_method, on_commit, table_space_name, skip_data;
});
walk!(ResTarget { children: indirection, val; leaves: name, location; });
walk!(RangeVar {
    children: alias;
    leaves: catalogname, schemaname, relname, inh, relpersistence, location;
});
walk!(RangeSubselect { children: subquery, alias; leaves: lateral; });
walk!(RangeFunction {
    children: functions, alias, coldeflist;
    leaves: lateral, ordinality, is_rowsfrom;
});
walk!(RangeTableSample { children: relation, method, args, repeatable; leaves: location; });
walk!(JoinExpr {
    children: larg, rarg, using_clause, join_using_alias, quals, alias;
    leaves: jointype, is_natural, rtindex;
});
walk!(SortBy { children: node, use_op; leaves: sortby_dir, sortby_nulls, location; });
walk!(GroupingSet { children: content; leaves: kind, location; });
walk!(LockingClause { children: locked_rels; leaves: strength, wait_policy; });
walk!(ReturnStmt { children: returnval; });
