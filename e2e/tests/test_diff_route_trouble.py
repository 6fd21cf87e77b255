"""Routes in trouble: servers that cannot be reached, peers that stay silent or do not read, operations of clients on the route
port, and a cluster's name that is taken over. Each case runs with Weir and with the real nats-server.
"""

import json
import re
import socket
import time

import pytest

from broker import free_port, wait_until
from compare import same, together
from route import RoutePeer, wait_for_routes
from wire import Wire

SYSTEM = {"user": "sys", "pass": "p"}
CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: subject
ping_interval: "1m"
debug: true
%s
"""
CLUSTER = 'cluster { name: C, listen: "127.0.0.1:CLUSTER", compression: off, %s }\n'
MIB = 2**20


@pytest.fixture
def configured(start_both):
    return lambda text: start_both(CONFIG % text)


def attempts(broker, port) -> list[tuple[str, int]]:
    """What the log says of attempts at a port: level and number of each."""
    found = re.findall(rf"\[(\w+)\] Error trying to connect to route \(attempt (\d+)\): dial tcp 127\.0\.0\.1:{port}: connect: connection refused",
                       broker.log())
    return [(level, int(number)) for level, number in found]


@pytest.mark.parametrize("retries", [1, 2])
def test_a_server_named_by_gossip_is_tried_as_often_as_configured(configured, retries):
    brokers = configured(CLUSTER % f"connect_retries: {retries}")

    def conversation(broker):
        nobody = free_port()
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as peer:
            peer.say_info(server_id="NTHIRD", server_name="third", port=nobody, ip=f"nats-route://127.0.0.1:{nobody}/", route_pool_size=0)
            wait_until(lambda: len(attempts(broker, nobody)) > retries, "it was tried as often", 15)
            # Long enough for one more.
            time.sleep(2.5)
            return attempts(broker, nobody)

    together(brokers, conversation)


def attempted_at(broker, port, number) -> float:
    """Seconds of the day at which the log has that attempt."""
    clock = re.search(rf" (\d\d):(\d\d):(\d\d\.\d+) \[\w+\] Error trying to connect to route \(attempt {number}\): dial tcp 127\.0\.0\.1:{port}:",
                      broker.log())
    hours, minutes, seconds = clock.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.mark.parametrize("backoff", ["false", "true"])
def test_seeds_are_tried_again_at_growing_intervals_where_the_configuration_says_so(configured, backoff):
    """The first intervals are shorter than nats-server's (broker/docs/deviations/routes.md)."""
    nobody = free_port()
    brokers = configured("connect_error_reports: 3\n" + CLUSTER % f'routes: ["nats://127.0.0.1:{nobody}"], pool_size: -1, connect_backoff: {backoff}')

    def conversation(broker):
        wait_until(lambda: len(attempts(broker, nobody)) >= 5, "it was tried five times", 30)
        interval = (attempted_at(broker, nobody, 5) - attempted_at(broker, nobody, 4)) % 86_400
        return attempts(broker, nobody)[:5], interval > 1.8

    together(brokers, conversation)


CLIENT_OPERATIONS = {
    "a subscription": "SUB foo 1",
    "the end of a subscription": "UNSUB 1",
    "a publish": "PUB foo 2\r\nhi",
    "a publish with headers": "HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi",
    "a delivery": "MSG foo 1 2\r\nhi",
    "an ok": "+OK",
}


# nats-server passes over these from a server it knows; Weir closes the route.
CLOSING = {"a subscription", "a publish", "a publish with headers"}


@pytest.mark.deviates("routes.md")
@pytest.mark.parametrize("name", sorted(CLOSING))
def test_what_only_clients_say_closes_a_route_and_reaches_nobody(configured, name):
    reference, weir = configured(CLUSTER % "")

    def conversation(broker):
        with Wire(broker.port, {"headers": True}) as client, RoutePeer(broker.cluster) as peer:
            client.subscribe("foo")
            client.sync()
            peer.join()
            peer.send(CLIENT_OPERATIONS[name])
            return peer.settle(), client.sync()

    assert conversation(reference) == ([], [])
    assert conversation(weir) == (["<closed>"], [])


CASES = [(operation, introduced) for name, operation in CLIENT_OPERATIONS.items() for introduced in (True, False)
         if not introduced or name not in CLOSING]


@pytest.mark.parametrize("operation, introduced", CASES)
def test_what_only_clients_say_is_answered_alike_on_the_route_port(configured, operation, introduced):
    brokers = configured(CLUSTER % "")

    def conversation(broker):
        with Wire(broker.port, {"headers": True}) as client, RoutePeer(broker.cluster) as peer:
            client.subscribe("foo")
            client.sync()
            if introduced:
                peer.join()
            peer.send(operation)
            said = peer.settle() if introduced else peer.to_the_end()
            return said, [str(message) for message in client.sync()], "foo" in str(broker.get_json("/subsz?subs=1&test=foo"))

    same(brokers, conversation)


def test_a_silent_route_is_counted_as_stale(configured):
    brokers = configured(CLUSTER % 'ping_interval: "500ms", ping_max: 2')

    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            peer.connect()
            peer.say_info()
            peer.to_the_end(within=10)
        varz = broker.get_json("/varz")
        wait_for_routes(broker, 0)
        return varz["stale_connections"], varz["stale_connection_stats"]

    together(brokers, conversation)


def statistics(broker) -> dict:
    """What the server tells the system account of itself."""
    with Wire(broker.port, SYSTEM) as client:
        return client.request("$SYS.REQ.SERVER.PING.STATSZ").json()["statsz"]


@pytest.mark.parametrize("policy", ["close", "default"])
def test_a_route_that_does_not_read_is_counted_as_slow_and_cut(configured, policy):
    brokers = configured('accounts { $SYS { users: [{user: sys, password: p}] } }\n' +
                         CLUSTER % f'write_deadline: "500ms", write_timeout: {policy}, pool_size: -1')

    def conversation(broker):
        with RoutePeer(broker.cluster) as peer, Wire(broker.port, {}) as client:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.join(route_pool_size=0)
            peer.send("RS+ $G flood")
            peer.settle("flood")
            payload = "x" * (MIB - 100)

            def is_counted():
                client.publish("flood", payload)
                client.sync()
                return "Slow Consumer Detected" in broker.log()

            # Slowly enough that the deadline passes before the pending bytes are too many.
            wait_until(is_counted, "the route is found slow", 20, 0.02)
            wait_for_routes(broker, 0)
            varz = broker.get_json("/varz")
            # A route that is only slow may be found so again before it is stuck.
            counted = varz["slow_consumers"] if policy == "close" else varz["slow_consumers"] > 0
            told = statistics(broker)
            assert (told["slow_consumers"], told["slow_consumer_stats"]) == (varz["slow_consumers"], varz["slow_consumer_stats"])
            # Slow routes are no account's, and /routez has no counter of its own: there they are gone.
            [account] = [one for one in broker.get_json("/accstatz?unused=1")["account_statz"] if one["acc"] == "$G"]
            routez = broker.get_json("/routez")
            return counted, account["slow_consumers"], sorted(told), told.get("routes"), routez["num_routes"], routez["routes"], varz["slow_consumer_stats"], "WriteDeadline of 500ms exceeded with" in broker.log()

    together(brokers, conversation)


SHARED = """
accounts {
  A { users: [{user: a, password: p}], exports: [{service: "svc", accounts: [B]}] }
  B { users: [{user: b, password: p}], imports: [{service: {account: A, subject: "svc"}, share: true}] }
}
cluster { listen: "127.0.0.1:CLUSTER", compression: off }
"""


def cluster_of(broker):
    with Wire(broker.port) as client:
        return client.info["cluster"]


def test_a_request_tells_the_clusters_name_that_was_taken_over(configured):
    """A name that was made up gives way to one that is configured, also in what is told of requesters."""
    brokers = configured(SHARED)

    def conversation(broker):
        with RoutePeer(broker.cluster) as peer, \
                Wire(broker.port, {"user": "a", "pass": "p", "headers": True}) as service, \
                Wire(broker.port, {"user": "b", "pass": "p", "headers": True, "name": "asker"}) as asker:
            peer.connect(cluster="CHOSEN")
            peer.say_info(cluster="CHOSEN")
            wait_until(lambda: cluster_of(broker) == "CHOSEN", "the name is taken over")
            service.subscribe("svc")
            service.sync()
            asker.publish("svc", "hi", "_INBOX.x")
            asker.sync()
            info = json.loads(service.read_message().header("Nats-Request-Info"))
            peer.settle()
            return {key: value for key, value in info.items() if key in ("acc", "name", "user", "cluster", "server", "kind", "client_type")}

    same(brokers, conversation)
