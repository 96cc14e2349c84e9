//! The SQL that a [`Catalog`](super::Catalog) is loaded with: PostgreSQL 12 and later, any role.

use super::stamp::{BUCKETS, Buckets, RUN, Stamp};
use super::{FIRST_NORMAL_OID, Step};
use std::fmt::Write as _;

/// To be run first, on a connection that nobody else uses: views are then written with every name
/// qualified that is not PostgreSQL's own.
pub const PREAMBLE: &str = "SET search_path = pg_catalog, pg_temp";

/// The catalogs that a stamp is of: part, catalog, what its bucket is of, what tells its rows
/// apart. What inherits is of both, the child and the parent.
const STAMPED: [(&str, &str, &str, &str); 18] = [
    ("names", "pg_namespace", "0", "oid::int8"),
    ("names", "pg_language", "0", "oid::int8"),
    ("relations", "pg_class", "oid", "oid::int8"),
    ("relations", "pg_attribute WHERE attnum > 0", "attrelid", "(attrelid::int8 << 16) | attnum"),
    ("relations", "pg_attrdef", "adrelid", "oid::int8"),
    ("relations", "pg_rewrite", "ev_class", "oid::int8"),
    ("relations", "pg_trigger", "tgrelid", "oid::int8"),
    ("relations", "pg_constraint WHERE confrelid <> 0", "confrelid", "oid::int8"),
    ("relations", "pg_inherits", "inhrelid", "(inhrelid::int8 << 32) | inhparent::int8"),
    ("relations", "pg_inherits", "inhparent", "(inhrelid::int8 << 32) | inhparent::int8"),
    ("routines", "pg_proc", "oid", "oid::int8"),
    ("types", "pg_type", "oid", "oid::int8"),
    ("operators", "pg_operator", "0", "oid::int8"),
    ("casts", "pg_cast", "0", "oid::int8"),
    ("words", "pg_enum", "0", "oid::int8"),
    ("words", "pg_collation", "0", "oid::int8"),
    ("words", "pg_ts_config", "0", "oid::int8"),
    ("words", "pg_ts_dict", "0", "oid::int8"),
];

impl Stamp {
    /// Answers which transactions are seen, or NULL where that does not tell: as long as it is
    /// the same on a connection without a transaction, so is everything. A standby names but the
    /// first and the last of the transactions that run.
    pub const SEEN: &'static str = "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
         THEN pg_catalog.txid_current_snapshot()::pg_catalog.text END";

    /// Answers what [`Stamp::read`] reads. Stamps that were asked with other `secret`s differ:
    /// with one that is not known nobody can look for changes whose sum is nothing.
    ///
    /// A row is told from an older one by its transaction. Only the transaction that asks can
    /// have had it otherwise at another command; of its own, the place in the file counts too.
    pub fn question(secret: i64) -> String {
        // For `age`, transactions before the first are infinitely old.
        let first = "(SELECT age('3'::xid)::int8)";
        let own = "(SELECT age((txid_current_if_assigned() % 4294967296)::text::xid))";
        let mut question = format!(
            "SELECT 'seen', 0, ({}) \
             UNION ALL SELECT 'server', 0, \
             (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8::text \
             UNION ALL SELECT part, bucket::int4, sum(row)::text FROM (",
            Self::SEEN
        );
        for (at, (part, catalog, oid, key)) in STAMPED.into_iter().enumerate() {
            let all = if at == 0 { "" } else { " UNION ALL " };
            let bucket = match oid {
                "0" => "0".to_owned(),
                oid => of(oid),
            };
            let _ = write!(
                question,
                "{all}SELECT '{part}' AS part, {bucket} AS bucket, \
                 hashint8extended(({key}) # ({secret}), \
                 coalesce({first} - nullif(age(xmin), 2147483647), 0)) \
                 # CASE WHEN age(xmin) <= {own} THEN hashtext(ctid::text)::int8 ELSE 0 END AS row \
                 FROM {catalog}"
            );
        }
        question.push_str(") rows GROUP BY part, bucket");
        question
    }
}

/// The bucket of an oid.
fn of(oid: &str) -> String {
    let mask = BUCKETS - 2;
    format!(
        "CASE WHEN {oid} < {FIRST_NORMAL_OID} THEN 0 \
         ELSE 1 + (({oid}::int8 >> {RUN}) & {mask}) END"
    )
}

/// Whether an oid is in one of the buckets.
fn within(oid: &str, buckets: &Buckets) -> String {
    match buckets {
        Buckets::All => "true".to_owned(),
        Buckets::These(these) => {
            let these: Vec<String> = these.iter().map(usize::to_string).collect();
            format!("({}) IN ({})", of(oid), these.join(", "))
        }
    }
}

/// What a step asks, of the objects in these buckets.
pub(super) fn question(step: Step, buckets: &Buckets) -> String {
    match step {
        // n(amespace) or l(anguage), oid, name
        Step::Names => "SELECT 'n', oid, nspname FROM pg_namespace \
             UNION ALL SELECT 'l', oid, lanname FROM pg_language"
            .to_owned(),
        // oid, schema, name, kind, has triggers, has foreign keys that change others
        Step::Tables => format!(
            "SELECT c.oid, n.nspname, c.relname, c.relkind, \
                EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), \
                EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f' \
                    AND (k.confupdtype NOT IN ('a', 'r') OR k.confdeltype NOT IN ('a', 'r'))) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't', 'c') AND {}",
            within("c.oid", buckets)
        ),
        // relation, number, name, type, is generated
        Step::Columns => format!(
            "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.attgenerated <> '' \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE a.attnum > 0 AND NOT a.attisdropped \
                AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't', 'c') AND {} \
             ORDER BY a.attrelid, a.attnum",
            within("c.oid", buckets)
        ),
        // child, parent
        Step::Inherits => format!(
            "SELECT i.inhrelid, i.inhparent FROM pg_inherits i WHERE {} OR {} ORDER BY 1, 2",
            within("i.inhrelid", buckets),
            within("i.inhparent", buckets)
        ),
        // relation
        Step::Rules => format!(
            "SELECT DISTINCT r.ev_class FROM pg_rewrite r WHERE r.rulename <> '_RETURN' AND {}",
            within("r.ev_class", buckets)
        ),
        // oid, schema, name, kind, language, volatility, security definer, arguments, defaults,
        // variadic, result type, modes and names of all arguments, their types, those of a call
        Step::Routines => format!(
            "SELECT p.oid, n.nspname, p.proname, p.prokind, l.lanname, p.provolatile, \
                p.prosecdef, p.pronargs, p.pronargdefaults, p.provariadic <> 0, p.prorettype, \
                to_json(p.proargmodes::text[]), to_json(p.proargnames), \
                to_json(p.proallargtypes::int8[]), to_json(p.proargtypes::oid[]::int8[]) \
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_language l ON l.oid = p.prolang WHERE {}",
            within("p.oid", buckets)
        ),
        // oid, schema, name, kind, relation, base type, type of elements
        Step::Types => format!(
            "SELECT t.oid, n.nspname, t.typname, t.typtype, t.typrelid, t.typbasetype, \
                CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END \
             FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {}",
            within("t.oid", buckets)
        ),
        // schema, name, function
        Step::Operators => "SELECT n.nspname, o.oprname, o.oprcode::oid FROM pg_operator o \
             JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384"
            .to_owned(),
        // target type, function
        Step::Casts => {
            "SELECT c.casttarget, c.castfunc FROM pg_cast c WHERE c.castfunc >= 16384".to_owned()
        }
        // relation, number of the column or 0, a view's query or a generated column's expression
        Step::Texts => format!(
            "SELECT c.oid, 0, pg_get_viewdef(c.oid) FROM pg_class c \
             WHERE c.relkind IN ('v', 'm') AND {} \
             UNION ALL SELECT d.adrelid, d.adnum, pg_get_expr(d.adbin, d.adrelid) \
             FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE a.attgenerated <> '' AND {}",
            within("c.oid", buckets),
            within("d.adrelid", buckets)
        ),
    }
}
