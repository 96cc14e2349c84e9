"""asyncpg: binary formats, its own introspection of types, cursors, COPY, prepared statements."""
import asyncio
import datetime
import decimal
import io
import os
import ssl
import uuid
import asyncpg

async def main():
    context = ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT"))
    conn = await asyncpg.connect(ssl=context)
    print("user", await conn.fetchval("SELECT current_user"))
    for made in ["DROP SCHEMA IF EXISTS apg CASCADE", "CREATE SCHEMA apg", "CREATE TYPE apg.mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE apg.t (id int PRIMARY KEY, u uuid, d date, ts timestamptz, n numeric, j jsonb, a text[], m apg.mood, i inet, r int4range)"]:
        await conn.execute(made)
    await conn.execute("INSERT INTO apg.t VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)", 1, uuid.UUID(int=7), datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc), decimal.Decimal("1.50"), '{"a": 1}', ["x", None, 'y"z'], "ok", "10.0.0.1", asyncpg.Range(1, 5))
    print("row", dict(await conn.fetchrow("SELECT * FROM apg.t WHERE id = $1", 1)))
    statement = await conn.prepare("SELECT id, m FROM apg.t WHERE id = $1")
    print("types", [a.type.name for a in statement.get_attributes()], [p.name for p in statement.get_parameters()])
    for i in range(3):
        print("prepared", await statement.fetchval(i))
    await conn.executemany("INSERT INTO apg.t (id) VALUES ($1)", [(i,) for i in range(10, 200)])
    async with conn.transaction():
        total = 0
        async for record in conn.cursor("SELECT id FROM apg.t ORDER BY id", prefetch=7):
            total += record["id"]
        print("cursor", total)
        cur = await conn.cursor("SELECT id FROM apg.t ORDER BY id")
        print("portal", [r[0] for r in await cur.fetch(3)], [r[0] for r in await cur.fetch(2)])
    try:
        async with conn.transaction():
            await conn.execute("UPDATE apg.t SET m = 'sad'")
            await conn.execute("SELECT 1/0")
    except asyncpg.DivisionByZeroError as error:
        print("error", error.sqlstate)
    print("undone", await conn.fetchval("SELECT count(*) FROM apg.t WHERE m = 'sad'"))
    print("copied", await conn.copy_records_to_table("t", schema_name="apg", columns=["id"], records=[(i,) for i in range(1000, 1100)]))
    out = io.BytesIO()
    await conn.copy_from_query("SELECT id FROM apg.t WHERE id < $1 ORDER BY id", 13, output=out, format="csv")
    print("csv", out.getvalue())
    print("array", await conn.fetchval("SELECT $1::int[]", [1, 2, 3]))
    try:
        await asyncio.wait_for(conn.fetch("SELECT pg_sleep(30)"), 1)
    except asyncio.TimeoutError:
        print("timeout")
    print("after", await conn.fetchval("SELECT 1"))
    await conn.execute("DROP SCHEMA apg CASCADE")
    await conn.reset()
    await conn.close()

asyncio.run(main())
