"""What each test came to, one JSON object a line, for pytest (`-p results`).

ENFORCER_RESULTS is the file. ENFORCER_ONLY, where it is set, is a file of node ids, one a line:
other tests are left out. A test with subtests is as bad as the worst of its parts.
"""

import json
import os

import pytest

ORDER = ["passed", "skipped", "failed"]
seen = {}


def add(test, outcome, text):
    worst, texts = seen.get(test, ("passed", []))
    if text:
        texts.append(text)
    seen[test] = (max(worst, outcome, key=ORDER.index), texts)


def write(test):
    outcome, texts = seen.pop(test)
    with open(os.environ["ENFORCER_RESULTS"], "a") as file:
        line = {"test": test, "outcome": outcome, "text": "\n".join(texts)}
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logreport(report):
    outcome = report.outcome if hasattr(report, "wasxfail") is False else "skipped"
    text = report.longreprtext if outcome == "failed" else ""
    add(report.nodeid, outcome, text)


def pytest_runtest_logfinish(nodeid):
    write(nodeid)


def pytest_collectreport(report):
    if report.failed:
        add(report.nodeid, "failed", report.longreprtext)
        write(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    only = os.environ.get("ENFORCER_ONLY")
    if not only:
        return
    with open(only) as file:
        wanted = set(file.read().split("\n"))
    items[:] = [item for item in items if item.nodeid in wanted]
