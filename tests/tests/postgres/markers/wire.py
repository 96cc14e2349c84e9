"""Runs statements over PostgreSQL's bare protocol and looks for marked values in every byte that
comes back.

argv: a JSON file of {"cases": [{"strings": [...], "wrap": bool}], "modes": [...]}, then
`unix:PATH` or `HOST:PORT`, the user, the database. Prints a JSON list: for each case and mode the
forms of a marker that were seen, the SQLSTATEs, and the number of rows and pieces of COPY data.
"""
import base64
import json
import socket
import struct
import sys

TEXT = b"ZQXZQXZQX"
# 1961-07-13 as PostgreSQL's days since 2000, and a number, as both formats have them.
BORN, NUMBER = -14052, 987654321012


def forms():
    found = {
        "as it is": [TEXT[:5].lower(), TEXT[1:6].lower(), TEXT[2:7].lower()],
        "backwards": [TEXT[::-1][:5].lower()],
        "hex": [TEXT[:4].hex().encode(), TEXT[:4].lower().hex().encode()],
        "date": [b"1961-07-13", struct.pack(">i", BORN)],
        "number": [b"98765432101", struct.pack(">q", NUMBER)],
    }
    base = set()
    for lead in (b"", b"a", b"ab"):
        whole = base64.b64encode(lead + TEXT)
        base.add(whole[4:10].lower())
    found["base64"] = sorted(base)
    return found


FORMS = forms()


class Session:
    def __init__(self, where, user, database):
        if where.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(where[5:])
        else:
            host, port = where.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(120)
        self.buffer = b""
        start = f"user\0{user}\0database\0{database}\0\0".encode()
        body = struct.pack(">i", 196608) + start
        self.socket.sendall(struct.pack(">i", len(body) + 4) + body)
        self.until_ready()

    def message(self):
        while len(self.buffer) < 5 or len(self.buffer) < 1 + self.length():
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError("closed")
            self.buffer += more
        end = 1 + self.length()
        whole, self.buffer = self.buffer[:end], self.buffer[end:]
        return whole

    def length(self):
        return struct.unpack(">i", self.buffer[1:5])[0]

    def until_ready(self):
        """Everything up to ReadyForQuery; answers COPY IN with nothing."""
        got = []
        while True:
            one = self.message()
            got.append(one)
            if one[:1] == b"G":
                self.send(b"f", b"no\0")
            if one[:1] == b"Z":
                return got

    def send(self, tag, body=b""):
        self.socket.sendall(tag + struct.pack(">i", len(body) + 4) + body)

    def run(self, sql, mode):
        text = sql.encode() + b"\0"
        if mode == "simple":
            self.send(b"Q", text)
        else:
            result = 1 if mode == "binary" else 0
            parts = [
                (b"P", b"\0" + text + struct.pack(">h", 0)),
                (b"B", b"\0\0" + struct.pack(">hhhh", 0, 0, 1, result)),
                (b"D", b"P\0"),
                (b"E", b"\0" + struct.pack(">i", 0)),
                (b"S", b""),
            ]
            whole = [tag + struct.pack(">i", len(body) + 4) + body for tag, body in parts]
            self.socket.sendall(b"".join(whole))
        return self.until_ready()


def codes(messages):
    found = []
    for one in messages:
        if one[:1] == b"E":
            fields = one[5:].split(b"\0")
            found += [field[1:].decode() for field in fields if field[:1] == b"C"]
    return found


def main():
    plan = json.load(open(sys.argv[1]))
    session = Session(*sys.argv[2:5])
    report = []
    for case in plan["cases"]:
        for mode in plan["modes"]:
            got = []
            if case["wrap"]:
                session.run("BEGIN", "simple")
            for string in case["strings"]:
                got += session.run(string, mode)
            if case["wrap"]:
                got += session.run("ROLLBACK", "simple")
            if any("PREPARE" in string for string in case["strings"]):
                session.run("DEALLOCATE ALL", "simple")
            wire = b"".join(got).lower()
            seen = [name for name, all_of in FORMS.items() if any(one in wire for one in all_of)]
            report.append(
                {
                    "mode": mode,
                    "seen": seen,
                    "codes": codes(got),
                    "rows": sum(one[:1] in (b"D", b"d") for one in got),
                }
            )
    json.dump(report, sys.stdout)


main()
