//! Sessions, cursors, transactions, COPY, privileges and maintenance.

use super::walk;
use pg_query::protobuf::{
    AlterDefaultPrivilegesStmt, AlterRoleSetStmt, AlterRoleStmt, AlterSystemStmt, CallStmt,
    CheckPointStmt, ClosePortalStmt, CommentStmt, ConstraintsSetStmt, CopyStmt, CreateRoleStmt,
    DeallocateStmt, DeclareCursorStmt, DiscardStmt, DoStmt, DropOwnedStmt, DropRoleStmt,
    ExecuteStmt, ExplainStmt, FetchStmt, GrantRoleStmt, GrantStmt, ListenStmt, LoadStmt,
    NotifyStmt, PrepareStmt, ReassignOwnedStmt, SecLabelStmt, TransactionStmt, UnlistenStmt,
    VariableSetStmt, VariableShowStmt,
};

walk!(CopyStmt {
    children: relation, query, attlist, options, where_clause;
    leaves: is_from, is_program, filename;
});
walk!(CallStmt { children: funccall, funcexpr, outargs; });
walk!(DoStmt { children: args; });
walk!(ExplainStmt { children: query, options; });
walk!(PrepareStmt { children: argtypes, query; leaves: name; });
walk!(ExecuteStmt { children: params; leaves: name; });
walk!(DeallocateStmt { leaves: name, isall, location; });
walk!(DeclareCursorStmt { children: query; leaves: portalname, options; });
walk!(ClosePortalStmt { leaves: portalname; });
walk!(FetchStmt { leaves: direction, how_many, portalname, ismove; });
walk!(ListenStmt { leaves: conditionname; });
walk!(UnlistenStmt { leaves: conditionname; });
walk!(NotifyStmt { leaves: conditionname, payload, payload_location; });
walk!(TransactionStmt { children: options; leaves: kind, savepoint_name, gid, chain, location; });
walk!(ConstraintsSetStmt { children: constraints; leaves: deferred; });
walk!(CheckPointStmt {});
walk!(DiscardStmt { leaves: target; });
walk!(LoadStmt { leaves: filename; });
walk!(VariableSetStmt { children: args; leaves: kind, name, is_local; });
walk!(VariableShowStmt { leaves: name; });
walk!(AlterSystemStmt { children: setstmt; });
walk!(GrantStmt {
    children: objects, privileges, grantees, grantor;
    leaves: is_grant, targtype, objtype, grant_option, behavior;
});
walk!(GrantRoleStmt {
    children: granted_roles, grantee_roles, opt, grantor;
    leaves: is_grant, behavior;
});
walk!(AlterDefaultPrivilegesStmt { children: options, action; });
walk!(CreateRoleStmt { children: options; leaves: stmt_type, role; });
walk!(AlterRoleStmt { children: role, options; leaves: action; });
walk!(AlterRoleSetStmt { children: role, setstmt; leaves: database; });
walk!(DropRoleStmt { children: roles; leaves: missing_ok; });
walk!(DropOwnedStmt { children: roles; leaves: behavior; });
walk!(ReassignOwnedStmt { children: roles, newrole; });
walk!(CommentStmt { children: object; leaves: objtype, comment; });
walk!(SecLabelStmt { children: object; leaves: objtype, provider, label; });
