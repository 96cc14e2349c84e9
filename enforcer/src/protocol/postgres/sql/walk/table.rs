//! Tables and what hangs on them: columns, constraints, indexes, views, rules, triggers.

use super::walk;
use pg_query::protobuf::{
    AlterPolicyStmt, AlterSeqStmt, AlterStatsStmt, AlterTableCmd, AlterTableMoveAllStmt,
    AlterTableStmt, ClusterStmt, ColumnDef, Constraint, CreateForeignTableStmt, CreatePolicyStmt,
    CreateSeqStmt, CreateStatsStmt, CreateStmt, CreateTableAsStmt, CreateTrigStmt, IndexElem,
    IndexStmt, LockStmt, PartitionBoundSpec, PartitionCmd, PartitionElem, PartitionRangeDatum,
    PartitionSpec, RefreshMatViewStmt, ReindexStmt, ReplicaIdentityStmt, RuleStmt, StatsElem,
    TableLikeClause, TriggerTransition, TruncateStmt, VacuumRelation, VacuumStmt, ViewStmt,
};

walk!(CreateStmt {
    children: relation, table_elts, inh_relations, partbound, partspec, of_typename, constraints,
        options;
    leaves: oncommit, tablespacename, access_method, if_not_exists;
});
walk!(CreateTableAsStmt { children: query, into; leaves: objtype, is_select_into, if_not_exists; });
walk!(CreateForeignTableStmt { children: base_stmt, options; leaves: servername; });
walk!(ColumnDef {
    children: type_name, raw_default, cooked_default, identity_sequence, coll_clause, constraints,
        fdwoptions;
    leaves: colname, compression, inhcount, is_local, is_not_null, is_from_type, storage,
        storage_name, identity, generated, coll_oid, location;
});
walk!(Constraint {
    children: raw_expr, keys, including, exclusions, options, where_clause, pktable, fk_attrs,
        pk_attrs, fk_del_set_cols, old_conpfeqop;
    leaves: contype, conname, deferrable, initdeferred, skip_validation, initially_valid,
        is_no_inherit, cooked_expr, generated_when, inhcount, nulls_not_distinct, indexname,
        indexspace, reset_default_tblspc, access_method, fk_matchtype, fk_upd_action,
        fk_del_action, old_pktable_oid, location;
});
walk!(TableLikeClause { children: relation; leaves: options, relation_oid; });
walk!(PartitionSpec { children: part_params; leaves: strategy, location; });
walk!(PartitionElem { children: expr, collation, opclass; leaves: name, location; });
walk!(PartitionBoundSpec {
    children: listdatums, lowerdatums, upperdatums;
    leaves: strategy, is_default, modulus, remainder, location;
});
walk!(PartitionRangeDatum { children: value; leaves: kind, location; });
walk!(PartitionCmd { children: name, bound; leaves: concurrent; });
walk!(AlterTableStmt { children: relation, cmds; leaves: objtype, missing_ok; });
walk!(AlterTableCmd {
    children: newowner, def;
    leaves: subtype, name, num, behavior, missing_ok, recurse;
});
walk!(ReplicaIdentityStmt { leaves: identity_type, name; });
walk!(AlterTableMoveAllStmt {
    children: roles;
    leaves: orig_tablespacename, objtype, new_tablespacename, nowait;
});
walk!(IndexStmt {
    children: relation, index_params, index_including_params, options, where_clause,
        exclude_op_names;
    leaves: idxname, access_method, table_space, idxcomment, index_oid, old_number,
        old_create_subid, old_first_relfilelocator_subid, unique, nulls_not_distinct, primary,
        isconstraint, deferrable, initdeferred, transformed, concurrent, if_not_exists,
        reset_default_tblspc;
});
walk!(IndexElem {
    children: expr, collation, opclass, opclassopts;
    leaves: name, indexcolname, ordering, nulls_ordering;
});
walk!(CreateStatsStmt {
    children: defnames, stat_types, exprs, relations;
    leaves: stxcomment, transformed, if_not_exists;
});
walk!(StatsElem { children: expr; leaves: name; });
walk!(AlterStatsStmt { children: defnames, stxstattarget; leaves: missing_ok; });
walk!(CreateSeqStmt {
    children: sequence, options;
    leaves: owner_id, for_identity, if_not_exists;
});
walk!(AlterSeqStmt { children: sequence, options; leaves: for_identity, missing_ok; });
walk!(ViewStmt { children: view, aliases, query, options; leaves: replace, with_check_option; });
walk!(RefreshMatViewStmt { children: relation; leaves: concurrent, skip_data; });
walk!(RuleStmt {
    children: relation, where_clause, actions;
    leaves: rulename, event, instead, replace;
});
walk!(CreateTrigStmt {
    children: relation, funcname, args, columns, when_clause, transition_rels, constrrel;
    leaves: replace, isconstraint, trigname, row, timing, events, deferrable, initdeferred;
});
walk!(TriggerTransition { leaves: name, is_new, is_table; });
walk!(CreatePolicyStmt {
    children: table, roles, qual, with_check;
    leaves: policy_name, cmd_name, permissive;
});
walk!(AlterPolicyStmt { children: table, roles, qual, with_check; leaves: policy_name; });
walk!(TruncateStmt { children: relations; leaves: restart_seqs, behavior; });
walk!(LockStmt { children: relations; leaves: mode, nowait; });
walk!(ClusterStmt { children: relation, params; leaves: indexname; });
walk!(VacuumStmt { children: options, rels; leaves: is_vacuumcmd; });
walk!(VacuumRelation { children: relation, va_cols; leaves: oid; });
walk!(ReindexStmt { children: relation, params; leaves: kind, name; });
