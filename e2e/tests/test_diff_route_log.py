"""What the log says of a route's life: its start, what is wrong with it, and why it ended, in nats-server's words.

What the other side hears of it is in test_diff_routes.py and test_diff_route_trouble.py.
"""

import json
import re
import signal
import socket

import pytest

from broker import STANDALONE, wait_until
from compare import same, together
from route import RoutePeer, listener, wait_for_routes
from test_diff_log_lines import lines
from test_diff_routes import INTRODUCTIONS, STRANGERS, reload
from wire import Wire

CONFIG = STANDALONE.replace("NAME", "subject") + """
debug: true
ping_interval: "1m"
%s
cluster { %s listen: "127.0.0.1:CLUSTER", compression: off, %s }
"""
ACCOUNTS = "accounts { A { users: [{user: a, password: p}] } }\nno_auth_user: a\n"
END = "Router connection closed"
# What only nats-server says, at level debug: of timers, of caches, and of a duplicate wherever a place is refused.
INSIDE = re.compile(r"\[DBG\] .*(Ping Timer|Sent local subscriptions|Removing \d+ subscriptions|Detected duplicate remote route)")
# What is wrong with JSON or an operation (broker/docs/deviations/logs.md).
OWN_WORDS = re.compile(r"(Router parser ERROR|(?<= - )(?:invalid character|key must be a string|process(?:Routed|Remote)\w+ |Parse Error: )).*")


def label(peer) -> str:
    """How the server's log names this connection."""
    return f"127.0.0.1:{peer.socket.getsockname()[1]} - rid:"


def told_of(broker, mark) -> list[str]:
    """The lines about one connection up to its end, in no order: an end and its reason may come in any."""
    mine = lambda: [line for line in broker.log().splitlines() if mark in line]
    wait_until(lambda: any(END in line for line in mine()), "its end is in the log")
    return shown(line for line in mine() if not INSIDE.search(line))


def shown(told) -> list[str]:
    return sorted(OWN_WORDS.sub("<words>", re.sub(r"rid:\d+", "rid:<n>", line)) for line in lines("\n".join(told)))


@pytest.fixture(scope="module")
def both(start_pair):
    return start_pair(CONFIG % (ACCOUNTS, "name: C,", "")).servers


@pytest.fixture
def configured(start_both):
    return lambda cluster="", top="", name="name: C,": start_both(CONFIG % (top, name, cluster))


@pytest.mark.parametrize("first", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_on_the_route_port_is_logged_alike(both, first):
    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            mark = label(peer)
            peer.send(first)
            peer.to_the_end()
        return told_of(broker, mark)

    same(both, conversation)


MORE = {
    "an account that is not there": {"route_account": "NOBODY"},
    "itself": None,
}


@pytest.mark.parametrize("said", (INTRODUCTIONS | MORE).values(), ids=INTRODUCTIONS | MORE)
def test_a_route_that_is_wrong_is_logged_alike(both, said):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NBAD", name="bad") as peer:
            mark = label(peer)
            peer.connect()
            if isinstance(said, str):
                peer.send(said)
            else:
                fields, after = said if isinstance(said, tuple) else (said, None)
                peer.say_info(**({"server_id": peer.info["server_id"]} if fields is None else fields))
                if after:
                    peer.settle()
                    peer.send(after)
            peer.to_the_end()
        return told_of(broker, mark)

    same(both, conversation)


def settled(broker):
    return RoutePeer(broker.cluster, server_id="NEND", name="ending").join()


def fail_the_writes(broker, peer):
    """What came before a reset is still read, and the answers to it are written in vain long before the last of it."""
    with Wire(broker.port, {}) as client:
        # So that reading it takes long.
        for _ in range(100):
            client.subscribe("flood")
        client.sync()
        with broker.paused():
            peer.send_as_much_as_fits(b"PING\r\nRMSG A flood 0\r\n\r\n" * 1000)
            peer.reset()
        wait_for_routes(broker, 0)


ENDS = {
    "Client Closed": lambda broker, peer: peer.close(),
    "Read Error": lambda broker, peer: peer.reset(),
    "Write Error": fail_the_writes,
}


@pytest.mark.parametrize("reason", ENDS)
def test_a_route_that_ends_is_logged_alike(both, reason):
    def conversation(broker):
        peer = settled(broker)
        mark = label(peer)
        ENDS[reason](broker, peer)
        return [line for line in told_of(broker, mark) if "Error flushing" not in line]

    told = same(both, conversation)
    assert f"[INF] 127.0.0.1:<port> - rid:<n> - {END}: {reason} - Remote: ending" in told


def test_a_duplicate_is_logged_alike(both):
    """Whichever of both connections is given up (broker/docs/deviations/routes.md), the reason is the same."""
    def conversation(broker):
        before = len(broker.log())
        with settled(broker), settled(broker):
            wait_until(lambda: END in broker.log()[before:], "one is given up")
            return [line for line in lines(broker.log()[before:]) if END in line][0].split(" - ", 2)[2]

    assert same(both, conversation) == f"{END}: Duplicate Route - Remote: ending"


def test_wrong_credentials_of_routes_are_logged_alike(configured):
    def conversation(broker):
        told = []
        for fields in ({}, {"user": "u", "pass": "x"}, None):
            with RoutePeer(broker.cluster) as peer:
                mark = label(peer)
                if fields is not None:
                    peer.connect(**fields)
                peer.to_the_end()
            told.append(told_of(broker, mark))
        return told

    together(configured("authorization { user: u, password: p, timeout: 1 }"), conversation)


def test_a_silent_route_is_logged_as_stale_alike(configured):
    def conversation(broker):
        with settled(broker) as peer:
            mark = label(peer)
            peer.to_the_end()
        return told_of(broker, mark)

    together(configured('ping_interval: "500ms", ping_max: 2'), conversation)


def test_a_slow_route_is_logged_alike(configured):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NSLOW", name="slow") as peer, Wire(broker.port, {}) as client:
            mark = label(peer)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.join(route_pool_size=0)
            peer.send("RS+ $G flood")
            peer.settle("flood")
            # More than a socket takes without a reader, and less than may wait.
            for _ in range(32):
                client.publish("flood", "x" * (2**20 - 100))
            client.sync()
            wait_for_routes(broker, 0)
        return [re.sub(r"\d+ chunks of \d+ total", "<n> chunks of <n> total", line) for line in told_of(broker, mark)]

    together(configured('write_deadline: "500ms", write_timeout: close, pool_size: -1'), conversation)


def test_routes_of_a_server_that_stops_are_logged_alike(configured):
    def conversation(broker):
        with settled(broker) as peer:
            mark = label(peer)
            broker.signal(signal.SIGTERM)
            peer.to_the_end()
        broker.wait_exit()
        return told_of(broker, mark)

    same(configured(), conversation)


def test_the_routes_of_a_name_that_is_given_up_are_logged_alike(configured):
    """A name that was made up gives way to a larger one of that kind, and that to a configured one: its routes are closed."""
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NMADE", name="made") as first, RoutePeer(broker.cluster, server_id="NSET", name="set") as second:
            first.connect(cluster="~made~up~", cluster_dynamic=True)
            first.say_info(cluster="~made~up~", cluster_dynamic=True)
            first.settle()
            mark = label(first)
            second.connect()
            second.say_info()
            first.to_the_end()
            return told_of(broker, mark), [line for line in lines(broker.log()) if "Cluster name updated" in line]

    same(configured(name=""), conversation)


def test_a_route_that_is_taken_out_of_the_configuration_is_logged_alike(start_both):
    def conversation(broker):
        with listener() as (port, accept):
            text = CONFIG % ("no_system_account: true", "name: C,", f'routes: ["nats://127.0.0.1:{port}"], pool_size: -1')
            reload(broker, text.replace("CLUSTER", str(broker.cluster)))
            with accept(server_id="NGONE", name="gone") as peer:
                peer.heard()
                peer.say_info(route_pool_size=0)
                peer.settle()
                wait_for_routes(broker, 1)
                reload(broker, text.replace(f"nats://127.0.0.1:{port}", "nats://127.0.0.1:1"))
                peer.to_the_end()
            mark = f"127.0.0.1:{port} - rid:"
            # That a new connection is made, and that the reload is done, may come in any order.
            return told_of(broker, mark), shown(line for line in broker.log().splitlines() if re.search(r"\[INF\].*\b[Rr]outes?\b", line))

    brokers = start_both(CONFIG % ("no_system_account: true", "name: C,", 'routes: ["nats://127.0.0.1:1"], pool_size: -1'))
    same(brokers, conversation)
