//! The SQL that a [`Catalog`] is loaded with: PostgreSQL 12 and later, any role.

use super::Catalog;

impl Catalog {
    /// To be run first, on a connection that nobody else uses: views are then written with
    /// every name qualified that is not PostgreSQL's own.
    pub const PREAMBLE: &'static str = "SET search_path = pg_catalog, pg_temp";

    /// Answers one text that changes when something that a [`Catalog`] holds does.
    pub const STAMP: &'static str = "SELECT pg_catalog.concat_ws(' ', \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_class), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(attrelid, '/', attnum, '/', xmin)))) \
            FROM pg_attribute), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_proc), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_rewrite), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_trigger), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(inhrelid, '/', xmin)))) \
            FROM pg_inherits), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_operator), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_cast), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_type), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) FROM pg_attrdef), \
        (SELECT concat_ws(':', count(*), sum(hashtext(concat(oid, '/', xmin)))) \
            FROM pg_namespace))";

    /// What [`Catalog::from_rows`] takes the answers of, in this order.
    pub const QUERIES: [&'static str; 8] = [
        // oid, schema, name, kind, definition, has triggers
        "SELECT c.oid, n.nspname, c.relname, c.relkind, \
            CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END, \
            EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't', 'c')",
        // relation, number, name, type, expression of a generated column
        "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, \
            CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attnum > 0 AND NOT a.attisdropped \
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't', 'c') \
         ORDER BY a.attrelid, a.attnum",
        // child, parent
        "SELECT i.inhrelid, i.inhparent FROM pg_inherits i",
        // relation
        "SELECT DISTINCT r.ev_class FROM pg_rewrite r WHERE r.rulename <> '_RETURN'",
        // oid, schema, name, kind, language, volatility, security definer, arguments, defaults,
        // variadic, result type, modes and names of all arguments, their types, those of a call
        "SELECT p.oid, n.nspname, p.proname, p.prokind, l.lanname, p.provolatile, p.prosecdef, \
            p.pronargs, p.pronargdefaults, p.provariadic <> 0, p.prorettype, \
            to_json(p.proargmodes::text[]), to_json(p.proargnames), \
            to_json(p.proallargtypes::int8[]), to_json(p.proargtypes::oid[]::int8[]) \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         JOIN pg_language l ON l.oid = p.prolang",
        // schema, name, function
        "SELECT n.nspname, o.oprname, o.oprcode::oid FROM pg_operator o \
         JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384",
        // target type, function
        "SELECT c.casttarget, c.castfunc FROM pg_cast c WHERE c.castfunc >= 16384",
        // oid, schema, name, kind, relation, base type, type of elements
        "SELECT t.oid, n.nspname, t.typname, t.typtype, t.typrelid, t.typbasetype, \
            CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END \
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace",
    ];
}
