"""The stream LEDGER with numbered messages, on one server or on three, and damage to the files that hold it.

Not the record of what was acknowledged under load: that is `ledger`.
"""

import pathlib

from broker import Broker, wait_until
from cluster import SETTLED_WITHIN_SECONDS, create, wait_heard
from jetstream import JetStream

MESSAGES = 60


def create_stream(port: int, replicas: int, storage: str = "file", **more):
    with JetStream(port) as js:
        create(js, {"name": "LEDGER", "subjects": ["ledger.*"], "storage": storage, "num_replicas": replicas} | more)


def payload(number: int) -> str:
    return f"message {number} ".ljust(200, ".")


def publish(port: int, first: int = 1, count: int = MESSAGES, text=payload):
    with JetStream(port) as js:
        wait_heard(js, "ledger.0")
        for number in range(first, first + count):
            assert js.publish("ledger.0", text(number)).get("seq") == number


def stream_state(port: int) -> tuple | None:
    """(last sequence, messages, leader, all replicas are current), None where nobody answers."""
    try:
        with JetStream(port) as js:
            info = js.raw("STREAM.INFO.LEDGER", within=3)
    except (OSError, AssertionError):
        return None
    if "state" not in info:
        return None
    cluster = info.get("cluster") or {}
    current = all(replica["current"] and not replica.get("lag") for replica in cluster.get("replicas") or [])
    return info["state"]["last_seq"], info["state"]["messages"], cluster.get("leader"), current


def await_replicas(port: int, within: float = SETTLED_WITHIN_SECONDS) -> tuple:
    """The stream has a leader, and every replica all there is."""
    def settled():
        state = stream_state(port)
        return state if state and state[3] and state[2] else None

    return wait_until(settled, "every replica is current", within, every=0.2)


def flip(path: pathlib.Path, marker: bytes):
    """One bit of the file, within the text of a message."""
    content = bytearray(path.read_bytes())
    content[content.index(marker)] ^= 4
    path.write_bytes(content)


def segment(broker: Broker) -> pathlib.Path:
    """A file with messages."""
    return next(broker.store.rglob("*.segment"))


def journal(broker: Broker, marker: bytes) -> pathlib.Path:
    """The file of the journal that holds this text."""
    return next(path for path in broker.store.rglob("*.journal") if marker in path.read_bytes())
