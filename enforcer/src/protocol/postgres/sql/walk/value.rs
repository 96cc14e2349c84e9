//! Names, constants and the small parts that many statements share.

use super::walk;
use pg_query::protobuf::{
    AConst, AStar, AccessPriv, Alias, BitString, Boolean, CurrentOfExpr, DefElem, Float,
    FunctionParameter, Integer, List, MergeSupportFunc, ObjectWithArgs, ParamRef, RoleSpec,
    SetToDefault, SqlValueFunction, String, TypeName,
};

walk!(Integer { leaves: ival; });
walk!(Float { leaves: fval; });
walk!(Boolean { leaves: boolval; });
walk!(String { leaves: sval; });
walk!(BitString { leaves: bsval; });
walk!(List { holes: items; });
walk!(AConst { leaves: isnull, location, val; });
walk!(AStar {});
walk!(ParamRef { leaves: number, location; });
walk!(Alias { children: colnames; leaves: aliasname; });
walk!(RoleSpec { leaves: roletype, rolename, location; });
walk!(TypeName {
    children: names, typmods, array_bounds;
    leaves: type_oid, setof, pct_type, typemod, location;
});
walk!(DefElem { children: arg; leaves: defnamespace, defname, defaction, location, arg_location; });
walk!(ObjectWithArgs { children: objname; holes: objargs, objfuncargs; leaves: args_unspecified; });
walk!(AccessPriv { children: cols; leaves: priv_name; });
walk!(SetToDefault { children: xpr; leaves: type_id, type_mod, collation, location; });
walk!(CurrentOfExpr { children: xpr; leaves: cvarno, cursor_name, cursor_param; });
walk!(SqlValueFunction as SqlvalueFunction {
    children: xpr;
    leaves: op, r#type, typmod, location;
});
walk!(MergeSupportFunc { children: xpr; leaves: msftype, msfcollid, location; });
walk!(FunctionParameter { children: arg_type, defexpr; leaves: name, mode; });
