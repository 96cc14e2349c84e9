//! JSON and XML: constructors, predicates, `JSON_TABLE` and `XMLTABLE`.

use super::walk;
use pg_query::protobuf::{
    JsonAggConstructor, JsonArgument, JsonArrayAgg, JsonArrayConstructor,
    JsonArrayQueryConstructor, JsonBehavior, JsonFormat, JsonFuncExpr, JsonIsPredicate,
    JsonKeyValue, JsonObjectAgg, JsonObjectConstructor, JsonOutput, JsonParseExpr, JsonReturning,
    JsonScalarExpr, JsonSerializeExpr, JsonTable, JsonTableColumn, JsonTablePathSpec,
    JsonValueExpr, RangeTableFunc, RangeTableFuncCol, XmlExpr, XmlSerialize,
};

walk!(JsonFormat { leaves: format_type, encoding, location; });
walk!(JsonReturning { children: format; leaves: typid, typmod; });
walk!(JsonValueExpr { children: raw_expr, formatted_expr, format; });
walk!(JsonIsPredicate { children: expr, format; leaves: item_type, unique_keys, location; });
walk!(JsonBehavior { children: expr; leaves: btype, coerce, location; });
walk!(JsonOutput { children: type_name, returning; });
walk!(JsonArgument { children: val; leaves: name; });
walk!(JsonFuncExpr {
    children: context_item, pathspec, passing, output, on_empty, on_error;
    leaves: op, column_name, wrapper, quotes, location;
});
walk!(JsonTablePathSpec { children: string; leaves: name, name_location, location; });
walk!(JsonTable {
    children: context_item, pathspec, passing, columns, on_error, alias;
    leaves: lateral, location;
});
walk!(JsonTableColumn {
    children: type_name, pathspec, format, columns, on_empty, on_error;
    leaves: coltype, name, wrapper, quotes, location;
});
walk!(JsonKeyValue { children: key, value; });
walk!(JsonParseExpr { children: expr, output; leaves: unique_keys, location; });
walk!(JsonScalarExpr { children: expr, output; leaves: location; });
walk!(JsonSerializeExpr { children: expr, output; leaves: location; });
walk!(JsonObjectConstructor { children: exprs, output; leaves: absent_on_null, unique, location; });
walk!(JsonArrayConstructor { children: exprs, output; leaves: absent_on_null, location; });
walk!(JsonArrayQueryConstructor {
    children: query, output, format;
    leaves: absent_on_null, location;
});
walk!(JsonAggConstructor { children: output, agg_filter, agg_order, over; leaves: location; });
walk!(JsonObjectAgg { children: constructor, arg; leaves: absent_on_null, unique; });
walk!(JsonArrayAgg { children: constructor, arg; leaves: absent_on_null; });
walk!(XmlExpr {
    children: xpr, named_args, arg_names, args;
    leaves: op, name, xmloption, indent, r#type, typmod, location;
});
walk!(XmlSerialize { children: expr, type_name; leaves: xmloption, indent, location; });
walk!(RangeTableFunc {
    children: docexpr, rowexpr, namespaces, columns, alias;
    leaves: lateral, location;
});
walk!(RangeTableFuncCol {
    children: type_name, colexpr, coldefexpr;
    leaves: colname, for_ordinality, is_not_null, location;
});
