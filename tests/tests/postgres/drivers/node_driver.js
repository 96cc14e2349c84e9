// node-postgres: simple and parameterised queries, named statements, a pool, an error.
const { Client, Pool } = require("pg");
const fs = require("fs");
const ca = process.env.PGSSLROOTCERT;
const ssl = { ca: fs.readFileSync(ca, "utf8") };
delete process.env.PGSSLMODE;
// It gives TLS no name for an address, and then compares with "localhost".
if (require("net").isIP(process.env.PGHOST)) ssl.checkServerIdentity = () => undefined;
(async () => {
  const client = new Client({ ssl });
  await client.connect();
  console.log("user", (await client.query("SELECT current_user")).rows);
  await client.query("DROP SCHEMA IF EXISTS node CASCADE");
  await client.query("CREATE SCHEMA node");
  await client.query("CREATE TABLE node.t (id int, name text, doc jsonb, at timestamptz)");
  await client.query("INSERT INTO node.t VALUES ($1, $2, $3, $4)", [1, "Ünï", { a: 1 }, new Date(0)]);
  console.log("row", JSON.stringify((await client.query("SELECT * FROM node.t")).rows));
  for (let i = 0; i < 3; i++) {
    console.log("named", (await client.query({ name: "n", text: "SELECT $1::int + id AS x FROM node.t", values: [i] })).rows);
  }
  const several = await client.query("SELECT 1 AS a; SELECT 2 AS b");
  console.log("several", JSON.stringify(several.map((r) => r.rows)));
  try { await client.query("SELECT nope"); } catch (e) { console.log("error", e.code); }
  const pool = new Pool({ ssl, max: 3 });
  const all = await Promise.all([...Array(9).keys()].map((i) => pool.query("SELECT $1::int AS i", [i])));
  console.log("pool", all.map((r) => r.rows[0].i).join());
  await pool.end();
  await client.query("LISTEN news");
  const heard = new Promise((done) => client.on("notification", (n) => done(n.payload)));
  await client.query("SELECT pg_notify('news', 'hi')");
  console.log("heard", await heard);
  await client.query("DROP SCHEMA node CASCADE");
  await client.end();
})().catch((e) => { console.log("failed", e); process.exit(1); });
