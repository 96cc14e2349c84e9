"""Runs statements over PostgreSQL's bare protocol and looks for marked values in every byte that
comes back.

argv: a JSON file of {"cases": [{"strings": [...], "wrap": bool}], "modes": [...]}, then
`unix:PATH` or `HOST:PORT`, the user, the database. Prints a JSON list: for each case and mode the
forms of a marker that were seen, the SQLSTATEs, and the number of rows and pieces of COPY data.
"""
import base64
import json
import struct
import sys

from session import Session

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
