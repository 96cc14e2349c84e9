//! Expressions.

use super::walk;
use pg_query::protobuf::{
    AArrayExpr, AExpr, AIndices, AIndirection, BoolExpr, BooleanTest, CaseExpr, CaseWhen,
    CoalesceExpr, CollateClause, ColumnRef, FuncCall, GroupingFunc, MinMaxExpr, MultiAssignRef,
    NamedArgExpr, NullTest, RowExpr, SubLink, TypeCast, WindowDef,
};

walk!(AExpr { children: name, lexpr, rexpr; leaves: kind, location; });
walk!(AIndices { children: lidx, uidx; leaves: is_slice; });
walk!(AIndirection { children: arg, indirection; });
walk!(AArrayExpr { children: elements; leaves: location; });
walk!(BoolExpr { children: xpr, args; leaves: boolop, location; });
walk!(BooleanTest { children: xpr, arg; leaves: booltesttype, location; });
walk!(CaseExpr { children: xpr, arg, args, defresult; leaves: casetype, casecollid, location; });
walk!(CaseWhen { children: xpr, expr, result; leaves: location; });
walk!(CoalesceExpr { children: xpr, args; leaves: coalescetype, coalescecollid, location; });
walk!(CollateClause { children: arg, collname; leaves: location; });
walk!(ColumnRef { children: fields; leaves: location; });
walk!(FuncCall {
    children: funcname, args, agg_order, agg_filter, over;
    leaves: agg_within_group, agg_star, agg_distinct, func_variadic, funcformat, location;
});
walk!(GroupingFunc { children: xpr, args, refs; leaves: agglevelsup, location; });
walk!(MinMaxExpr {
    children: xpr, args;
    leaves: minmaxtype, minmaxcollid, inputcollid, op, location;
});
walk!(MultiAssignRef { children: source; leaves: colno, ncolumns; });
walk!(NamedArgExpr { children: xpr, arg; leaves: name, argnumber, location; });
walk!(NullTest { children: xpr, arg; leaves: nulltesttype, argisrow, location; });
walk!(RowExpr { children: xpr, args, colnames; leaves: row_typeid, row_format, location; });
walk!(SubLink {
    children: xpr, testexpr, oper_name, subselect;
    leaves: sub_link_type, sub_link_id, location;
});
walk!(TypeCast { children: arg, type_name; leaves: location; });
walk!(WindowDef {
    children: partition_clause, order_clause, start_offset, end_offset;
    leaves: name, refname, frame_options, location;
});
