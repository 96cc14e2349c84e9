//! What else is to know of a statement: the closed list of flags, and the functions that set one
//! by their name (in whatever schema: a name that is borrowed is flagged, too).

/// A change of rows inside a WITH.
pub const DATA_CHANGING_CTE: &str = "data-changing-cte";
/// SELECT INTO or CREATE TABLE AS: a query's rows become a table.
pub const SELECT_INTO: &str = "select-into";
/// FOR UPDATE, FOR SHARE and the like.
pub const ROW_LOCK: &str = "row-lock";
/// EXPLAIN ANALYZE: the statement within is run.
pub const EXPLAIN_ANALYZE: &str = "explain-analyze";
/// COPY FROM or TO PROGRAM: a command on the server.
pub const COPY_PROGRAM: &str = "copy-program";
/// COPY FROM or TO a file of the server.
pub const COPY_FILE: &str = "copy-file";
/// DO: a block of code.
pub const DO: &str = "do";
/// CALL: a procedure.
pub const CALL: &str = "call";
/// A temporary table, view or sequence is made: it is found before those of the search path.
pub const TEMPORARY: &str = "temporary";
/// SET or RESET of `search_path`.
pub const SET_SEARCH_PATH: &str = "set-search-path";
/// SET or RESET of `role`.
pub const SET_ROLE: &str = "set-role";
/// SET or RESET of `session_authorization`.
pub const SET_SESSION_AUTHORIZATION: &str = "set-session-authorization";
/// SET or RESET of `row_security`.
pub const SET_ROW_SECURITY: &str = "set-row-security";
/// SET or RESET of what the text of the next statement means: `standard_conforming_strings`,
/// `backslash_quote`, `client_encoding`, `transform_null_equals`.
pub const SET_READING: &str = "set-reading";
/// `set_config()`: SET, as a function.
pub const SET_CONFIG: &str = "set-config";
/// The session may be another one afterwards, in a way that the text does not tell.
pub const STATE_UNKNOWN: &str = "state-unknown";
/// Large objects (`lo_*`, `loread`, `lowrite`).
pub const LARGE_OBJECT: &str = "large-object";
/// `dblink`: another database.
pub const DBLINK: &str = "dblink";
/// Files of the server are read or listed.
pub const SERVER_FILE: &str = "server-file";
/// Other sessions or the server itself are steered.
pub const SERVER_CONTROL: &str = "server-control";
/// A sequence is moved on (`nextval`, `setval`).
pub const SEQUENCE: &str = "sequence";
/// Advisory locks.
pub const ADVISORY_LOCK: &str = "advisory-lock";
/// A text is run as SQL, or a table is named by a text (`query_to_xml`, `ts_stat`).
pub const DYNAMIC_SQL: &str = "dynamic-sql";
/// `pg_notify()`.
pub const NOTIFY: &str = "notify";
/// Replication slots, origins and logical decoding.
pub const REPLICATION: &str = "replication";
/// `pg_sleep()`.
pub const SLEEP: &str = "sleep";
/// ALTER SYSTEM, or settings kept with a role or a database.
pub const PERSISTENT_SETTING: &str = "persistent-setting";
/// Code that runs later: CREATE FUNCTION, TRIGGER, RULE, POLICY, CAST, OPERATOR and the like.
pub const DEFINES_CODE: &str = "defines-code";
/// LOAD, CREATE EXTENSION, a function in C.
pub const LOADS_LIBRARY: &str = "loads-library";
/// Foreign servers, subscriptions and user mappings: the server connects elsewhere.
pub const REMOTE: &str = "remote";
/// GRANT or REVOKE on everything in a schema, or default privileges.
pub const ALL_IN_SCHEMA: &str = "all-in-schema";

/// Resolved: a relation that the catalog does not know.
pub const UNKNOWN_RELATION: &str = "unknown-relation";
/// Resolved: a function that the catalog does not know.
pub const UNKNOWN_FUNCTION: &str = "unknown-function";
/// Resolved: a function that may change something (volatile, and not one of PostgreSQL's own
/// that are known to change nothing).
pub const VOLATILE_FUNCTION: &str = "volatile-function";
/// Resolved: a function whose body is not PostgreSQL's own, so it can do what its owner likes.
pub const USER_FUNCTION: &str = "user-function";
/// Resolved: a function that runs as its owner.
pub const SECURITY_DEFINER: &str = "security-definer";
/// Resolved: a table of another server.
pub const FOREIGN_TABLE: &str = "foreign-table";
/// Resolved: a view is read or written through.
pub const VIEW: &str = "view";
/// Resolved: a relation with rewrite rules of its own is written.
pub const RULE: &str = "rule";
/// Resolved: a relation with triggers is written.
pub const TRIGGER: &str = "trigger";
/// Resolved: a change of rows changes those of other tables, by a foreign key of theirs.
pub const CASCADE: &str = "cascade";
/// Resolved: a temporary relation hides one that the search path has under the same name.
pub const SHADOWED: &str = "shadowed";
/// Resolved: one of the system's catalogs is written.
pub const SYSTEM_CATALOG: &str = "system-catalog";

/// Every flag, for policy to know a misspelt one.
pub const ALL: [&str; 43] = [
    DATA_CHANGING_CTE,
    SELECT_INTO,
    ROW_LOCK,
    EXPLAIN_ANALYZE,
    COPY_PROGRAM,
    COPY_FILE,
    DO,
    CALL,
    TEMPORARY,
    SET_SEARCH_PATH,
    SET_ROLE,
    SET_SESSION_AUTHORIZATION,
    SET_ROW_SECURITY,
    SET_READING,
    SET_CONFIG,
    STATE_UNKNOWN,
    LARGE_OBJECT,
    DBLINK,
    SERVER_FILE,
    SERVER_CONTROL,
    SEQUENCE,
    ADVISORY_LOCK,
    DYNAMIC_SQL,
    NOTIFY,
    REPLICATION,
    SLEEP,
    PERSISTENT_SETTING,
    DEFINES_CODE,
    LOADS_LIBRARY,
    REMOTE,
    ALL_IN_SCHEMA,
    UNKNOWN_RELATION,
    UNKNOWN_FUNCTION,
    VOLATILE_FUNCTION,
    USER_FUNCTION,
    SECURITY_DEFINER,
    FOREIGN_TABLE,
    VIEW,
    RULE,
    TRIGGER,
    CASCADE,
    SHADOWED,
    SYSTEM_CATALOG,
];

/// The flag that a function's name sets.
pub fn of_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "set_config" => SET_CONFIG,
        "nextval" | "setval" => SEQUENCE,
        "loread" | "lowrite" => LARGE_OBJECT,
        "pg_notify" => NOTIFY,
        "pg_sleep" | "pg_sleep_for" | "pg_sleep_until" => SLEEP,
        "pg_stat_file" | "pg_current_logfile" | "pg_logdir_ls" => SERVER_FILE,
        "pg_terminate_backend"
        | "pg_cancel_backend"
        | "pg_reload_conf"
        | "pg_rotate_logfile"
        | "pg_promote"
        | "pg_switch_wal"
        | "pg_switch_xlog"
        | "pg_create_restore_point"
        | "pg_start_backup"
        | "pg_stop_backup"
        | "pg_backup_start"
        | "pg_backup_stop"
        | "pg_wal_replay_pause"
        | "pg_wal_replay_resume"
        | "pg_log_backend_memory_contexts"
        | "pg_stat_reset"
        | "pg_export_snapshot"
        | "pg_import_system_collations" => SERVER_CONTROL,
        "ts_stat"
        | "ts_rewrite"
        | "crosstab"
        | "crosstabn"
        | "connectby"
        | "xpath_table"
        | "cursor_to_xml"
        | "cursor_to_xmlschema"
        | "query_to_xml"
        | "query_to_xmlschema"
        | "query_to_xml_and_xmlschema"
        | "table_to_xml"
        | "table_to_xmlschema"
        | "table_to_xml_and_xmlschema"
        | "schema_to_xml"
        | "schema_to_xmlschema"
        | "schema_to_xml_and_xmlschema"
        | "database_to_xml"
        | "database_to_xmlschema"
        | "database_to_xml_and_xmlschema" => DYNAMIC_SQL,
        name if name.starts_with("lo_") => LARGE_OBJECT,
        name if name.starts_with("dblink") => DBLINK,
        name if name.starts_with("pg_read_") || name.starts_with("pg_ls_") => SERVER_FILE,
        name if name.starts_with("pg_file_") => SERVER_FILE,
        name if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => {
            ADVISORY_LOCK
        }
        name if name.starts_with("crosstab") => DYNAMIC_SQL,
        name if name.starts_with("pg_logical_")
            || name.starts_with("pg_replication_")
            || name.contains("_replication_slot") =>
        {
            REPLICATION
        }
        name if name.starts_with("pg_stat_reset") => SERVER_CONTROL,
        _ => return None,
    })
}

/// The flag that SET or RESET of a parameter sets.
pub(super) fn of_setting(name: &str) -> Option<&'static str> {
    Some(match name {
        "search_path" => SET_SEARCH_PATH,
        "role" => SET_ROLE,
        "session_authorization" => SET_SESSION_AUTHORIZATION,
        "row_security" => SET_ROW_SECURITY,
        "standard_conforming_strings"
        | "backslash_quote"
        | "client_encoding"
        | "transform_null_equals" => SET_READING,
        _ => return None,
    })
}
