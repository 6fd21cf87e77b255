"""What becomes of a client that is too slow for the write deadline, by `write_timeout`: its log lines, its end, the counters.

Subscribers with more pending than is allowed are in test_diff_limits.py, routes in test_diff_route_trouble.py.
"""

import re

import pytest

from broker import STANDALONE, wait_until
from compare import together
from test_diff_log_lines import lines
from wire import Wire

CONFIG = STANDALONE.replace("NAME", "subject") + 'debug: true\nwrite_deadline: "%s"\n%s\n'
MIB = 2**20
# More than a socket takes without a reader, less than may wait.
MESSAGES = 24
FIGURES = re.compile(r"(Flush took )[\d.]+s|\d+ (chunks of )\d+( total)")


def flooded(broker):
    """A client that does not read what was sent to it."""
    client = Wire(broker.port, {"name": "slow"})
    client.subscribe("flood")
    client.sync()
    with Wire(broker.port, {}) as feeder:
        for _ in range(MESSAGES):
            feeder.publish("flood", "x" * (MIB - 64))
        feeder.sync()
    return client


def drained(client) -> int:
    """Reads all that was sent, and says how much that is; not as messages, which takes its time."""
    size = MESSAGES * (len(f"MSG flood {client._sids} {MIB - 64}\r\n\r\n") + MIB - 64)
    got = len(client._buffer)
    while got < size:
        got += len(client.socket.recv(MIB))
    # A PING may have come with the last of it.
    return min(got, size)


def told(broker, cid):
    mark = f" - cid:{cid} - "
    mine = [line for line in broker.log().splitlines() if mark in line and ("Slow Consumer" in line or "closed" in line)]
    return [FIGURES.sub(lambda found: re.sub(r"[\d.]+", "<n>", found[0]), line) for line in lines("\n".join(mine))]


def counted(broker):
    varz = broker.get_json("/varz")
    [account] = [one for one in broker.get_json("/accstatz?unused=1")["account_statz"] if one["acc"] == "$G"]
    return varz["slow_consumers"], varz["slow_consumer_stats"], account["slow_consumers"]


POLICIES = {"none": "", "default": "write_timeout: default", "close": "write_timeout: close", "retry": "write_timeout: retry"}


@pytest.mark.parametrize("policy", POLICIES)
def test_who_reads_again_after_the_deadline(start_both, policy):
    """With retry it stays and gets everything; else it is gone."""
    brokers = start_both(CONFIG % ("2s", POLICIES[policy]))

    def conversation(broker):
        with flooded(broker) as client:
            cid = client.info["client_id"]
            wait_until(lambda: "Slow Consumer" in broker.log(), "the deadline has passed")
            if policy == "retry":
                got = drained(client)
                wait_until(lambda: "Recovered" in broker.log(), "it is said that it caught up")
                state = broker.connection(cid, "open").get("reason")
            else:
                got = 0
                state = broker.connection(cid, "closed")["reason"]
            return got, state, told(broker, cid), counted(broker)

    found = together(brokers, conversation)
    assert (found[0] > 0) == (policy == "retry")


@pytest.mark.parametrize("policy", POLICIES)
def test_who_never_reads_again_is_cut(start_both, policy):
    brokers = start_both(CONFIG % ("500ms", POLICIES[policy]))

    def conversation(broker):
        with flooded(broker) as client:
            cid = client.info["client_id"]
            reason = broker.connection(cid, "closed")["reason"]
            wait_until(lambda: any("closed" in line for line in told(broker, cid)), "its end is in the log")
            said = told(broker, cid)
            times = sum("Slow Consumer " in line and "closed" not in line for line in said)
            # How often a socket takes a little more without a reader is the kernel's.
            return reason, list(dict.fromkeys(said)), counted(broker) == (times, {"clients": times, "gateways": 0, "leafs": 0, "routes": 0}, times)

    assert together(brokers, conversation)[2]
