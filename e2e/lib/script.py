"""A conversation at the wire, written as lines, and its transcript.

    a: SUB foo 1        connection a (opened at its first mention) sends this and CR LF
    a~ PUB foo          ... exactly this: nothing is added
    a?                  a sends PING and reads up to its PONG, or to the end of the connection
    a!                  a reads until the server closes it
    a<2                 a reads two operations
    a|                  what a has said so far goes out on its own (else it goes out in one piece, when a reads)
    a.                  a closes
    # text              is for the reader

In what is sent, \\r \\n \\t \\xNN \\\\ are escapes, and {x*900} is 900 times x.
"""

import itertools
import re
import time

from wire import Wire, Operation

PAUSE_SECONDS = 0.03
LINE = re.compile(r"(?P<name>[a-z])(?P<act>[:~?!.<|])\s?(?P<text>.*)")


def play(port: int, script: str, connect=None) -> list[str]:
    """Plays a script against the server at `port`; one line for each operation that came back, in the order read."""
    connections: dict[str, Wire] = {}
    unsent: dict[str, bytes] = {}
    transcript: list[str] = []

    def heard(name: str, operations: list[Operation]):
        # One message to several subscriptions of a connection: in no order.
        runs = itertools.groupby(operations, lambda operation: (operation.verb, operation.arguments.split(" ")[0],
                                                                operation.headers, operation.payload))
        operations = [operation for _, run in runs for operation in sorted(run, key=str)]
        transcript.extend(f"{name} {operation}" for operation in operations if operation.verb != "INFO")

    try:
        for line in filter(None, (line.strip() for line in script.splitlines())):
            if line.startswith("#"):
                continue
            found = LINE.fullmatch(line)
            assert found, f"not a line of a script: {line}"
            name, act, text = found["name"], found["act"], found["text"]
            if name not in connections:
                connections[name] = Wire(port, connect)
            connection = connections[name]
            if act in ":~":
                # How the server splits its reads shows in some errors: so it gets whole pieces.
                unsent[name] = unsent.get(name, b"") + unescape(text) + (b"\r\n" if act == ":" else b"")
                continue
            connection.send_raw(unsent.pop(name, b""))
            if act == "|":
                time.sleep(PAUSE_SECONDS)
            elif act == "?":
                heard(name, connection.until_pong())
            elif act == "!":
                heard(name, connection.until_closed())
            elif act == "<":
                wanted = int(text)
                while wanted:
                    operation = connection.read()
                    wanted -= operation.verb != "INFO"
                    heard(name, [operation])
            else:
                connection.close()
    except AssertionError as failure:
        raise AssertionError(f"{failure}\nafter:\n" + "\n".join(transcript)) from None
    finally:
        for connection in connections.values():
            connection.close()
    return transcript


def unescape(text: str) -> bytes:
    text = re.sub(r"\{(.+?)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)
    return re.sub(
        rb"\\(r|n|t|\\|x[0-9a-fA-F]{2})",
        lambda found: {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}.get(found[1]) or bytes([int(found[1][1:], 16)]),
        text.encode(),
    )
