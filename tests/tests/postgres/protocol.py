"""Odd orders and pieces of PostgreSQL's messages. argv: `unix:PATH` or `HOST:PORT`, the user, the
database. Prints, for each script by name, what came back in words, up to its ReadyForQuery or
the connection's end."""
import json
import struct
import sys
import time

from session import Session, message


def cstring(text):
    return text.encode() + b"\0"


def query(sql):
    return message(b"Q", cstring(sql))


def parse(name, sql, types=()):
    kinds = struct.pack(">h", len(types)) + b"".join(struct.pack(">i", oid) for oid in types)
    return message(b"P", cstring(name) + cstring(sql) + kinds)


def bind(portal, statement, values=(), formats=(), results=()):
    body = cstring(portal) + cstring(statement)
    body += struct.pack(">h", len(formats)) + b"".join(struct.pack(">h", one) for one in formats)
    body += struct.pack(">h", len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    body += struct.pack(">h", len(results)) + b"".join(struct.pack(">h", one) for one in results)
    return message(b"B", body)


def describe(kind, name):
    return message(b"D", kind + cstring(name))


def close(kind, name):
    return message(b"C", kind + cstring(name))


def execute(portal="", rows=0):
    return message(b"E", cstring(portal) + struct.pack(">i", rows))


S, H = message(b"S"), message(b"H")
N63 = "n" * 63

# Each a list of steps: bytes to send, and then what is read up to ReadyForQuery. A step that is
# a pair sends, and reads up to a message with that tag.
SCRIPTS = {
    "one series": [parse("", "SELECT 1, 'x'") + bind("", "") + describe(b"P", "") + execute() + S],
    "a flush after each": [
        (parse("", "SELECT $1::int + 1") + H, b"1"),
        (describe(b"S", "") + H, b"T"),
        (bind("", "", [b"41"]) + H, b"2"),
        (describe(b"P", "") + H, b"T"),
        (execute() + H, b"C"),
        S,
    ],
    "described before it is bound": [
        parse("s", "SELECT $1::text") + describe(b"S", "s") + bind("", "s", [b"v"]) + execute() + S,
        close(b"S", "s") + S,
    ],
    "too few values": [parse("", "SELECT $1::int, $2::int") + bind("", "", [b"1"]) + execute() + S],
    "too many values": [parse("", "SELECT 1") + bind("", "", [b"1"]) + execute() + S],
    "types that are none": [parse("", "SELECT $1", [999999]) + bind("", "", [b"1"]) + execute() + S],
    "more types than values": [parse("", "SELECT 1", [23, 25]) + bind("", "", [b"1", b"2"]) + execute() + S],
    "a type to be told": [parse("", "SELECT $1", [0]) + describe(b"S", "") + S],
    "binary values": [
        parse("", "SELECT $1::int4 + 1") + bind("", "", [struct.pack(">i", 41)], [1], [1]) + execute() + S
    ],
    "a value that is none": [parse("", "SELECT $1::int4") + bind("", "", [b"x"]) + execute() + S, query("SELECT 1")],
    "a binary value too short": [parse("", "SELECT $1::int4") + bind("", "", [b"x"], [1]) + execute() + S],
    "NULL": [parse("", "SELECT $1::int4") + bind("", "", [None]) + execute() + S],
    "a portal in parts": [
        query("BEGIN"),
        parse("", "SELECT generate_series(1, 5)") + bind("p", "") + execute("p", 2) + execute("p", 1) + S,
        execute("p") + execute("p") + S,
        query("COMMIT"),
    ],
    "a portal ends with its series": [
        parse("", "SELECT generate_series(1, 5)") + bind("p", "") + execute("p", 2) + S,
        execute("p") + S,
    ],
    "a portal twice": [query("BEGIN"), parse("", "SELECT 1") + bind("p", "") + execute("p") + bind("p", "") + S, query("ROLLBACK")],
    "a change twice": [
        query("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP"),
        parse("", "INSERT INTO t VALUES (1)") + bind("", "") + execute() + execute() + S,
        query("ROLLBACK"),
    ],
    "what is not there": [execute("p") + S, bind("", "s") + S, describe(b"S", "s") + S, describe(b"P", "p") + S],
    "closed twice": [parse("s", "SELECT 1") + close(b"S", "s") + close(b"S", "s") + close(b"P", "p") + S],
    "made twice": [parse("s", "SELECT 1") + parse("s", "SELECT 2") + S, close(b"S", "s") + S],
    "the longest names": [
        parse(N63, "SELECT 63") + bind(N63, N63) + describe(b"P", N63) + execute(N63) + S,
        close(b"S", N63) + S,
    ],
    "two in one": [parse("", "SELECT 1; SELECT 2") + bind("", "") + execute() + S],
    "nothing": [parse("", "") + describe(b"S", "") + bind("", "") + describe(b"P", "") + execute() + S, query(""), query(" -- x"), S],
    "skipped to the Sync": [
        parse("", "SELEC") + bind("", "") + execute() + parse("", "SELECT 1") + S + query("SELECT 2"),
        b"",
    ],
    "an error in a row of series": [
        b"".join(parse("", f"SELECT 1 / {n}") + bind("", "") + execute() + S for n in (1, 0, 2)),
        b"",
        b"",
    ],
    "a transaction that failed": [
        query("BEGIN"),
        query("SELECT 1/0"),
        parse("", "SELECT 1") + bind("", "") + execute() + S,
        query("SELECT 1"),
        parse("", "ROLLBACK") + bind("", "") + execute() + S,
        query("SELECT 3"),
    ],
    "a transaction by the extended protocol": [
        b"".join(parse("", sql) + bind("", "") + execute() for sql in ("BEGIN", "SELECT 1", "COMMIT")) + S
    ],
    "a string within a series": [parse("", "SELECT 1") + bind("", "") + query("SELECT 2"), execute() + S],
    "several in a string": [query("SELECT 1; SELECT 2 WHERE false; SELECT 3"), query("SELECT 1; SELECT 1/0; SELECT 2")],
    "COPY in": [
        query("CREATE TEMP TABLE c (a int)"),
        (query("COPY c FROM STDIN"), b"G"),
        message(b"d", b"1\n") + H + S + message(b"d", b"2\n3") + message(b"d", b"\n") + message(b"c"),
        query("TABLE c"),
        (query("COPY c FROM STDIN"), b"G"),
        message(b"f", b"enough\0"),
        (query("COPY c FROM STDIN"), b"G"),
        message(b"d", b"x\n") + message(b"c"),
        query("COPY c TO STDOUT"),
        (parse("", "COPY c FROM STDIN") + bind("", "") + execute() + S, b"G"),
        message(b"d", b"4\n") + message(b"c") + S,
        parse("", "COPY c TO STDOUT (FORMAT binary)") + bind("", "") + execute() + S,
        query("DROP TABLE c"),
    ],
    "COPY data that nobody asked for": [message(b"d", b"1\n") + message(b"c") + query("SELECT 1")],
    "a cursor and a portal": [
        query("BEGIN; DECLARE k CURSOR FOR SELECT generate_series(1, 4)"),
        parse("", "FETCH 2 FROM k") + bind("", "") + describe(b"P", "") + execute() + S,
        describe(b"P", "k") + S,
        query("FETCH ALL FROM k"),
        query("COMMIT"),
    ],
    "PREPARE is a statement of both": [
        query("PREPARE b AS SELECT 7"),
        bind("", "b") + execute() + S,
        parse("c", "SELECT 8") + S,
        query("EXECUTE c"),
        query("DEALLOCATE ALL"),
        bind("", "b") + S,
    ],
    "planned again": [
        query("CREATE TEMP TABLE r (a int)"),
        parse("s", "SELECT * FROM r") + bind("", "s") + execute() + S,
        query("ALTER TABLE r ADD COLUMN b int"),
        bind("", "s") + execute() + S,
        close(b"S", "s") + S,
        query("DROP TABLE r"),
    ],
    "all is discarded": [parse("s", "SELECT 1") + S, query("DISCARD ALL"), bind("", "s") + execute() + S],
    "a large value": [parse("", "SELECT length($1::text)") + bind("", "", [b"v" * (1 << 20)]) + execute() + S],
    "a channel": [query("LISTEN a"), query("NOTIFY a, 'b'"), query("UNLISTEN *")],
    "savepoints": [query("BEGIN; SAVEPOINT a"), query("SELECT 1/0"), query("ROLLBACK TO a"), query("SELECT 1"), query("COMMIT")],
}


def fields(body):
    return {field[:1]: field[1:] for field in body.split(b"\0") if field}


def words(one):
    tag, body = one[:1].decode("latin1"), one[5:]
    if tag == "E":
        return f"E {fields(body)[b'C'].decode()} {fields(body)[b'M'].decode()}"
    if tag == "N":
        return f"N {fields(body)[b'C'].decode()}"
    if tag == "T":
        count, names, rest = struct.unpack(">h", body[:2])[0], [], body[2:]
        for _ in range(count):
            name, rest = rest.split(b"\0", 1)
            kind, form = struct.unpack(">i", rest[6:10])[0], struct.unpack(">h", rest[16:18])[0]
            names.append(f"{name.decode()}:{kind}:{form}")
            rest = rest[18:]
        return "T " + " ".join(names)
    if tag == "A":
        return f"A {body[4:]!r}"
    return f"{tag} {body!r}" if tag in "CDdtZ" else tag


def until(session, tag):
    told = []
    while True:
        try:
            one = session.message()
        except (ConnectionError, OSError):
            return told + ["closed"]
        if one[:1] == b"S":
            continue
        told.append(words(one))
        if one[:1] in (tag, b"E" if tag != b"Z" else b"Z"):
            return told


def run(session, steps, pieces=0):
    told = []
    for step in steps:
        data, tag = step if isinstance(step, tuple) else (step, b"Z")
        if pieces:
            for at in range(0, len(data), pieces):
                session.socket.sendall(data[at : at + pieces])
                time.sleep(0)
        else:
            session.socket.sendall(data)
        told.append(until(session, tag))
        if told[-1][-1] == "closed":
            break
    return told


def main():
    where = sys.argv[1:4]
    report = {}
    for name, steps in SCRIPTS.items():
        report[name] = run(Session(*where), steps)
    # Each message in pieces of a byte: what is told is the same.
    for name in ("one series", "a portal in parts", "COPY in", "several in a string", "PREPARE is a statement of both"):
        report[name + ", byte by byte"] = run(Session(*where), SCRIPTS[name], 1)
    json.dump(report, sys.stdout)


main()
