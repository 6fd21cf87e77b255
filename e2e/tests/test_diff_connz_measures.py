"""/connz by what the server measures: how long answers take, and what waits for whom.

The other orders are in test_diff_connz.py.
"""

import concurrent.futures
import socket
import time

import pytest

from broker import STANDALONE, wait_until
from compare import together
from wire import Wire

# The interval is longer than every answer takes, so that each PING is answered before the next.
CONFIG = STANDALONE.replace("NAME", "subject") + """
ping_interval: "2s"
ping_max: 100
write_deadline: "60s"
max_pending: 256MB
"""
# No two orders are the same: by id, by the time of the answer, by what waits.
ANSWERS_AFTER_SECONDS = {"middling": 0.5, "slow": 1.0, "quick": 0.0}
WAITING_MIB = {"some": 16, "much": 48, "little": 0, "more": 32}
MIB = 2**20


@pytest.fixture
def brokers(start_both):
    return start_both(CONFIG)


def names(broker, query):
    return [each["name"] for each in broker.get_json(f"/connz?{query}")["connections"] if "name" in each]


def shown(broker, key, state):
    return {each["name"]: each[key] for each in broker.get_json(f"/connz?state={state}")["connections"] if "name" in each}


def orders(broker, sort):
    """In which order the open are shown, and all; page by page too."""
    def of(state):
        return [names(broker, f"state={state}&sort={sort}{page}") for page in ("", "&limit=2", "&limit=2&offset=1")]

    return of("open"), of("any")


def closed(broker, clients, sort):
    """Closes them; the order in which they are shown then."""
    for client in clients.values():
        client.close()
    wait_until(lambda: len(shown(broker, "rtt", "closed")) == len(clients), "all are closed")
    return names(broker, f"state=closed&sort={sort}")


def answer_once(client, after_seconds):
    client.until(lambda operation: operation.verb == "PING")
    time.sleep(after_seconds)
    client.send("PONG")


def test_connections_are_sorted_by_the_time_of_their_answers(brokers):
    def conversation(broker):
        clients = {name: Wire(broker.port, {"name": name}) for name in ANSWERS_AFTER_SECONDS}
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda name: answer_once(clients[name], ANSWERS_AFTER_SECONDS[name]), clients))
        wait_until(lambda: "0s" not in shown(broker, "rtt", "open").values(), "all answers are measured")
        found = orders(broker, "rtt")
        return found, closed(broker, clients, "rtt")

    (opened, everyone), gone = together(brokers, conversation)
    assert opened == everyone and opened[0] == gone == ["slow", "middling", "quick"]


def test_connections_are_sorted_by_what_waits_for_them(brokers):
    def conversation(broker):
        clients = {}
        for name in WAITING_MIB:
            client = clients[name] = Wire(broker.port, {"name": name})
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.subscribe(name)
            client.sync()
        with Wire(broker.port, {}) as feeder:
            for name, size in WAITING_MIB.items():
                for _ in range(size):
                    feeder.publish(name, "x" * (MIB - 64))
            feeder.sync()
        # What a socket takes without a reader is far less than the differences; it is taken a while later.
        wait_until(lambda: all(shown(broker, "pending_bytes", "open")[name] > (size - 12) * MIB for name, size in WAITING_MIB.items()),
                   "it waits")
        found = orders(broker, "pending")
        return found, closed(broker, clients, "pending")

    (opened, everyone), gone = together(brokers, conversation)
    assert opened == everyone and opened[0] == gone == ["much", "more", "some", "little"]


@pytest.mark.parametrize("query", [f"sort={sort}&state={state}" for sort in ("rtt", "pending", "stop", "reason", "colour", "CID", "")
                                   for state in ("open", "closed", "any")])
def test_sorts_are_refused_for_the_same_states(pair, query):
    pair.same(lambda broker: broker.get(f"/connz?{query}")[0] == 200 or broker.get(f"/connz?{query}"))


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(STANDALONE)
