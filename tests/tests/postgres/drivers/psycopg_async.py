"""psycopg 3, asynchronous: several connections at once, a cancel by the driver."""
import asyncio
import psycopg

async def one(i):
    async with await psycopg.AsyncConnection.connect(autocommit=True) as conn:
        cur = await conn.execute("SELECT %s::int, pg_sleep(0.05)::text", (i,))
        return (await cur.fetchone())[0]

async def main():
    print("many", await asyncio.gather(*(one(i) for i in range(8))))
    async with await psycopg.AsyncConnection.connect(autocommit=True) as conn:
        task = asyncio.create_task(conn.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(1)
        await conn.cancel_safe() if hasattr(conn, "cancel_safe") else conn.cancel()
        try:
            await task
            print("not cancelled")
        except psycopg.errors.QueryCanceled as error:
            print("cancelled", error.sqlstate)
        print("after", await (await conn.execute("SELECT 1")).fetchone())
        async with conn.pipeline():
            a = await conn.execute("SELECT 1")
            b = await conn.execute("SELECT 2")
            print("pipeline", await a.fetchone(), await b.fetchone())

asyncio.run(main())
