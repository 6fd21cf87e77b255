"""Runs a smoke program that prints `ok NAME` or `failed NAME: ...` for each of its claims.

Not a test: the tests beside such a program hold its claims' names against what was printed.
"""

import os
import pathlib
import re
import subprocess

RUNS_WITHIN_SECONDS = 120


def cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "weir"


def names(source: pathlib.Path, pattern: str) -> list[str]:
    """The claims that a program's source makes."""
    found = re.findall(pattern, source.read_text(), re.M)
    assert found, f"no claims in {source}"
    return found


def results(arguments: list[str]) -> dict[str, str]:
    """Claim -> "ok" or what went wrong."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=RUNS_WITHIN_SECONDS, stdin=subprocess.DEVNULL)
    answers: dict[str, str] = {}
    last = ""
    for line in done.stdout.splitlines():
        if found := re.match(r"ok (\w+)$", line):
            last = ""
            answers[found[1]] = "ok"
        elif found := re.match(r"failed (\w+): (.*)", line):
            last = found[1]
            answers[last] = found[2]
        elif last:
            answers[last] += f"\n{line}"
    answers["<end>"] = f"status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return answers


def holds(answers: dict[str, str], name: str):
    assert answers.get(name) == "ok", answers.get(name) or f"it was not reached: {answers['<end>']}"
