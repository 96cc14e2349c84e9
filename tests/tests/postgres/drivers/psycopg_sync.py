"""psycopg 3, synchronous: simple and prepared, text and binary, COPY, pipeline, errors."""
import io
import psycopg
from psycopg.types.json import Jsonb

with psycopg.connect(autocommit=True) as conn:
    print("server", conn.info.server_version // 10000, conn.info.encoding)
    print("user", conn.execute("SELECT current_user").fetchone())
    conn.execute("DROP SCHEMA IF EXISTS psy CASCADE")
    conn.execute("CREATE SCHEMA psy")
    conn.execute("CREATE TABLE psy.t (id int PRIMARY KEY, name text, doc jsonb, at timestamptz, n numeric, b bytea, a int[])")
    row = (1, "Ünïcode 'quoted'", Jsonb({"a": [1, None]}), "2024-02-29 12:00:00+00", "12.50", b"\x00\xff", [1, 2, None])
    conn.execute("INSERT INTO psy.t VALUES (%s,%s,%s,%s,%s,%s,%s)", row)
    for binary in (False, True):
        cur = conn.cursor(binary=binary)
        cur.execute("SELECT * FROM psy.t WHERE id = %s", (1,))
        print("row", binary, cur.fetchone(), [c.type_code for c in cur.description])
    # The fifth execution of a statement is prepared by the driver.
    for i in range(8):
        got = conn.execute("SELECT id + %s FROM psy.t", (i,), prepare=None if i % 2 else True).fetchone()
        print("prepared", i, got)
    with conn.transaction():
        conn.execute("UPDATE psy.t SET name = 'inside' WHERE id = 1")
        try:
            with conn.transaction():
                conn.execute("UPDATE psy.t SET name = 'undone'")
                raise KeyError
        except KeyError:
            pass
    print("name", conn.execute("SELECT name FROM psy.t").fetchall())
    try:
        conn.execute("SELECT 1/0")
    except psycopg.Error as error:
        print("error", error.sqlstate, type(error).__name__)
    try:
        conn.execute("INSERT INTO psy.t (id) VALUES (1)")
    except psycopg.Error as error:
        print("error", error.sqlstate, error.diag.constraint_name, error.diag.table_name)
    with conn.cursor().copy("COPY psy.t (id, name) FROM STDIN") as copy:
        for i in range(2, 500):
            copy.write_row((i, f"row\t{i}\\"))
    with conn.cursor().copy("COPY psy.t (id, name) FROM STDIN WITH (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        for i in range(500, 600):
            copy.write_row((i, f"binary {i}"))
    print("count", conn.execute("SELECT count(*), sum(id) FROM psy.t").fetchone())
    out = io.BytesIO()
    with conn.cursor().copy("COPY (SELECT id, name FROM psy.t ORDER BY id LIMIT 3) TO STDOUT (FORMAT csv, HEADER)") as copy:
        for data in copy:
            out.write(data)
    print("csv", out.getvalue())
    with conn.cursor().copy("COPY (SELECT id, name FROM psy.t ORDER BY id DESC LIMIT 2) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        print("binary", list(copy.rows()))
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int * 2", (i,)) for i in range(20)]
    print("pipeline", [cur.fetchone()[0] for cur in cursors])
    try:
        with conn.pipeline():
            conn.execute("SELECT 1")
            conn.execute("SELECT nonsense")
            conn.execute("SELECT 2")
    except psycopg.Error as error:
        print("pipeline error", error.sqlstate)
    print("after", conn.execute("SELECT 'still here'").fetchone())
    with conn.transaction():
        cur = conn.cursor("named")
        cur.itersize = 100
        cur.execute("SELECT id FROM psy.t ORDER BY id")
        print("cursor", sum(r[0] for r in cur))
    cur = conn.cursor()
    cur.executemany("INSERT INTO psy.t (id) VALUES (%s) RETURNING id", [(i,) for i in range(1000, 1010)], returning=True)
    found = [cur.fetchone()[0]]
    while cur.nextset():
        found.append(cur.fetchone()[0])
    print("many", found)
    print("stream", [r[0] for r in conn.cursor().stream("SELECT generate_series(1, 5)")])
    print("several", conn.execute("SELECT 1; SELECT 2").fetchone())
    notices = []
    conn.add_notice_handler(lambda diag: notices.append(diag.message_primary))
    conn.execute("DROP TABLE IF EXISTS psy.nothing")
    print("notices", notices)
    conn.execute("LISTEN psy_news")
    conn.execute("NOTIFY psy_news, 'hello'")
    print("notifies", [n.payload for n in conn.notifies(timeout=2, stop_after=1)])
    print("large", len(conn.execute("SELECT repeat('x', 3000000)").fetchone()[0]))
    conn.execute("DROP SCHEMA psy CASCADE")
    try:
        conn.execute("SELECT pg_cancel_backend(pg_backend_pid())")
    except psycopg.errors.QueryCanceled as error:
        print("cancelled", error.sqlstate)
