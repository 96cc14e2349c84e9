//! Everything else that CREATE, ALTER and DROP know.

use super::walk;
use pg_query::protobuf::{
    AlterCollationStmt, AlterDatabaseRefreshCollStmt, AlterDatabaseSetStmt, AlterDatabaseStmt,
    AlterDomainStmt, AlterEnumStmt, AlterEventTrigStmt, AlterExtensionContentsStmt,
    AlterExtensionStmt, AlterFdwStmt, AlterForeignServerStmt, AlterFunctionStmt,
    AlterObjectDependsStmt, AlterObjectSchemaStmt, AlterOpFamilyStmt, AlterOperatorStmt,
    AlterOwnerStmt, AlterPublicationStmt, AlterSubscriptionStmt, AlterTableSpaceOptionsStmt,
    AlterTsConfigurationStmt, AlterTsDictionaryStmt, AlterTypeStmt, AlterUserMappingStmt,
    CompositeTypeStmt, CreateAmStmt, CreateCastStmt, CreateConversionStmt, CreateDomainStmt,
    CreateEnumStmt, CreateEventTrigStmt, CreateExtensionStmt, CreateFdwStmt,
    CreateForeignServerStmt, CreateFunctionStmt, CreateOpClassItem, CreateOpClassStmt,
    CreateOpFamilyStmt, CreatePLangStmt, CreatePublicationStmt, CreateRangeStmt, CreateSchemaStmt,
    CreateSubscriptionStmt, CreateTableSpaceStmt, CreateTransformStmt, CreateUserMappingStmt,
    CreatedbStmt, DefineStmt, DropStmt, DropSubscriptionStmt, DropTableSpaceStmt,
    DropUserMappingStmt, DropdbStmt, ImportForeignSchemaStmt, PublicationObjSpec, PublicationTable,
    RenameStmt,
};

walk!(CreateSchemaStmt { children: authrole, schema_elts; leaves: schemaname, if_not_exists; });
walk!(AlterCollationStmt { children: collname; });
walk!(AlterDomainStmt { children: type_name, def; leaves: subtype, name, behavior, missing_ok; });
walk!(CreateTableSpaceStmt { children: owner, options; leaves: tablespacename, location; });
walk!(DropTableSpaceStmt { leaves: tablespacename, missing_ok; });
walk!(AlterTableSpaceOptionsStmt { children: options; leaves: tablespacename, is_reset; });
walk!(CreateExtensionStmt { children: options; leaves: extname, if_not_exists; });
walk!(AlterExtensionStmt { children: options; leaves: extname; });
walk!(AlterExtensionContentsStmt { children: object; leaves: extname, action, objtype; });
walk!(CreateFdwStmt { children: func_options, options; leaves: fdwname; });
walk!(AlterFdwStmt { children: func_options, options; leaves: fdwname; });
walk!(CreateForeignServerStmt {
    children: options;
    leaves: servername, servertype, version, fdwname, if_not_exists;
});
walk!(AlterForeignServerStmt { children: options; leaves: servername, version, has_version; });
walk!(CreateUserMappingStmt { children: user, options; leaves: servername, if_not_exists; });
walk!(AlterUserMappingStmt { children: user, options; leaves: servername; });
walk!(DropUserMappingStmt { children: user; leaves: servername, missing_ok; });
walk!(ImportForeignSchemaStmt {
    children: table_list, options;
    leaves: server_name, remote_schema, local_schema, list_type;
});
walk!(CreateAmStmt { children: handler_name; leaves: amname, amtype; });
walk!(CreateEventTrigStmt { children: whenclause, funcname; leaves: trigname, eventname; });
walk!(AlterEventTrigStmt { leaves: trigname, tgenabled; });
walk!(CreatePLangStmt as CreatePlangStmt {
    children: plhandler, plinline, plvalidator;
    leaves: replace, plname, pltrusted;
});
walk!(DefineStmt {
    children: defnames, definition;
    holes: args;
    leaves: kind, oldstyle, if_not_exists, replace;
});
walk!(CreateDomainStmt { children: domainname, type_name, coll_clause, constraints; });
walk!(CreateOpClassStmt {
    children: opclassname, opfamilyname, datatype, items;
    leaves: amname, is_default;
});
walk!(CreateOpClassItem {
    children: name, order_family, class_args, storedtype;
    leaves: itemtype, number;
});
walk!(CreateOpFamilyStmt { children: opfamilyname; leaves: amname; });
walk!(AlterOpFamilyStmt { children: opfamilyname, items; leaves: amname, is_drop; });
walk!(DropStmt { children: objects; leaves: remove_type, behavior, missing_ok, concurrent; });
walk!(CreateFunctionStmt {
    children: funcname, parameters, return_type, options, sql_body;
    leaves: is_procedure, replace;
});
walk!(AlterFunctionStmt { children: func, actions; leaves: objtype; });
walk!(RenameStmt {
    children: relation, object;
    leaves: rename_type, relation_type, subname, newname, behavior, missing_ok;
});
walk!(AlterObjectDependsStmt { children: relation, object, extname; leaves: object_type, remove; });
walk!(AlterObjectSchemaStmt {
    children: relation, object;
    leaves: object_type, newschema, missing_ok;
});
walk!(AlterOwnerStmt { children: relation, object, newowner; leaves: object_type; });
walk!(AlterOperatorStmt { children: opername, options; });
walk!(AlterTypeStmt { children: type_name, options; });
walk!(CompositeTypeStmt { children: typevar, coldeflist; });
walk!(CreateEnumStmt { children: type_name, vals; });
walk!(CreateRangeStmt { children: type_name, params; });
walk!(AlterEnumStmt {
    children: type_name;
    leaves: old_val, new_val, new_val_neighbor, new_val_is_after, skip_if_new_val_exists;
});
walk!(CreatedbStmt { children: options; leaves: dbname; });
walk!(AlterDatabaseStmt { children: options; leaves: dbname; });
walk!(AlterDatabaseRefreshCollStmt { leaves: dbname; });
walk!(AlterDatabaseSetStmt { children: setstmt; leaves: dbname; });
walk!(DropdbStmt { children: options; leaves: dbname, missing_ok; });
walk!(CreateConversionStmt {
    children: conversion_name, func_name;
    leaves: for_encoding_name, to_encoding_name, def;
});
walk!(CreateCastStmt { children: sourcetype, targettype, func; leaves: context, inout; });
walk!(CreateTransformStmt { children: type_name, fromsql, tosql; leaves: replace, lang; });
walk!(AlterTsDictionaryStmt as AlterTsdictionaryStmt { children: dictname, options; });
walk!(AlterTsConfigurationStmt as AlterTsconfigurationStmt {
    children: cfgname, tokentype, dicts;
    leaves: kind, r#override, replace, missing_ok;
});
walk!(PublicationTable { children: relation, where_clause, columns; });
walk!(PublicationObjSpec { children: pubtable; leaves: pubobjtype, name, location; });
walk!(CreatePublicationStmt { children: options, pubobjects; leaves: pubname, for_all_tables; });
walk!(AlterPublicationStmt {
    children: options, pubobjects;
    leaves: pubname, for_all_tables, action;
});
walk!(CreateSubscriptionStmt {
    children: publication, options;
    leaves: subname, conninfo, conninfo_location;
});
walk!(AlterSubscriptionStmt {
    children: publication, options;
    leaves: kind, subname, conninfo, conninfo_location;
});
walk!(DropSubscriptionStmt { leaves: subname, missing_ok, behavior; });
