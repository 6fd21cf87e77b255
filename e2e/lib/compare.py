"""One conversation with both programs, nats-server and Weir, in this order: what comes of it is equal.

For servers that live as long as one test; those of a module are a `Pair` of `conftest`, which asks nats-server again.
"""

import concurrent.futures
import difflib
import os
import pathlib
import pprint

import binaries

# nats-server's answers may hang on the order of a Go map or on the time its goroutines get.
REFERENCE_ASKED_AGAIN = 4


def same(two, conversation):
    """Holds the conversation with one, then with the other (servers, clusters, programs); returns what both say."""
    return _equal(two, *map(conversation, two))


def together(two, conversation):
    """As `same`, with both at the same time: for conversations that mostly wait."""
    with concurrent.futures.ThreadPoolExecutor(len(two)) as pool:
        return _equal(two, *pool.map(conversation, two))


def programs_agree(conversation):
    """`conversation(binary, name)` with servers of its own: Weir says once what nats-server says, in one of a few times."""
    actual = conversation(binaries.weir(), "weir")
    for attempt in range(1 + REFERENCE_ASKED_AGAIN):
        expected = conversation(binaries.reference(), f"reference{attempt}")
        if actual == expected:
            return
    raise AssertionError(f"\n{difference(expected, actual)}")


def _equal(two, expected, actual):
    logs = getattr(two[1], "logs", None) or getattr(two[1], "log_tail", str)
    assert actual == expected, f"\n{difference(expected, actual)}\n{logs()[-3000:]}"
    return expected


def difference(expected, actual) -> str:
    """What nats-server said beside what weir said."""
    def lines(value):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        return pprint.pformat(value, width=150).splitlines()

    return "\n".join(difflib.unified_diff(lines(expected), lines(actual), "nats-server", "weir", lineterm="", n=4))


def as_nats_server(directory: pathlib.Path, binary: str) -> str:
    """A link by which a program is started under the name nats-server: a program says its own name in what it prints."""
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "nats-server"
    link.symlink_to(os.path.realpath(binary))
    return str(link)
