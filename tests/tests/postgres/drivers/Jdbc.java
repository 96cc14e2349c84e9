import java.io.StringReader;
import java.sql.*;
import java.util.Properties;

/** PostgreSQL's JDBC driver: prepared statements (server-side from the fifth), batches, fetch size, COPY, metadata. */
class Jdbc {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("user", System.getenv("PGUSER"));
        p.put("password", System.getenv("PGPASSWORD"));
        p.put("ssl", "true");
        p.put("sslmode", "verify-full");
        p.put("sslrootcert", System.getenv("PGSSLROOTCERT"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection c = DriverManager.getConnection(url, p)) {
            Statement s = c.createStatement();
            s.execute("DROP SCHEMA IF EXISTS jdbc CASCADE");
            s.execute("CREATE SCHEMA jdbc");
            s.execute("CREATE TABLE jdbc.t (id int PRIMARY KEY, name text, n numeric(10,2), at timestamp)");
            c.setAutoCommit(false);
            try (PreparedStatement i = c.prepareStatement("INSERT INTO jdbc.t VALUES (?, ?, ?, ?)")) {
                for (int k = 0; k < 300; k++) {
                    i.setInt(1, k);
                    i.setString(2, "name " + k);
                    i.setBigDecimal(3, new java.math.BigDecimal("1.25"));
                    i.setTimestamp(4, Timestamp.valueOf("2024-02-29 12:00:00"));
                    i.addBatch();
                }
                System.out.println("batch " + i.executeBatch().length);
            }
            c.commit();
            try (PreparedStatement q = c.prepareStatement("SELECT id, name, n, at FROM jdbc.t WHERE id >= ? ORDER BY id")) {
                for (int k = 0; k < 8; k++) {
                    q.setInt(1, 298);
                    q.setFetchSize(1);
                    ResultSet r = q.executeQuery();
                    StringBuilder b = new StringBuilder();
                    while (r.next()) b.append(r.getInt(1)).append(r.getString(2)).append(r.getBigDecimal(3)).append(r.getTimestamp(4));
                    System.out.println("rows " + b);
                }
            }
            c.rollback();
            try {
                s.execute("INSERT INTO jdbc.t (id) VALUES (1)");
            } catch (SQLException e) {
                System.out.println("error " + e.getSQLState());
            }
            try {
                s.execute("SELECT 1");
            } catch (SQLException e) {
                System.out.println("failed block " + e.getSQLState());
            }
            c.rollback();
            c.setAutoCommit(true);
            org.postgresql.copy.CopyManager copy = c.unwrap(org.postgresql.PGConnection.class).getCopyAPI();
            System.out.println("copied " + copy.copyIn("COPY jdbc.t (id, name) FROM STDIN (FORMAT csv)", new StringReader("1000,a\n1001,\"b,c\"\n")));
            java.io.StringWriter w = new java.io.StringWriter();
            copy.copyOut("COPY (SELECT id, name FROM jdbc.t WHERE id >= 1000 ORDER BY id) TO STDOUT", w);
            System.out.print("out " + w);
            ResultSet columns = c.getMetaData().getColumns(null, "jdbc", "t", null);
            while (columns.next()) System.out.println("column " + columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
            s.setQueryTimeout(1);
            try {
                s.execute("SELECT pg_sleep(30)");
            } catch (SQLException e) {
                System.out.println("timeout " + e.getSQLState());
            }
            s.setQueryTimeout(0);
            s.execute("DROP SCHEMA jdbc CASCADE");
        }
    }
}
