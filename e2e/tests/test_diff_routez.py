"""/routez and what else the monitor shows of routes, with a scripted server at the other end: keys, values, subscriptions.

Answers without any route are in test_diff_monitor.py, requests over the system account in test_diff_system.py.
"""

import pytest

from broker import STANDALONE
from compare import same
from route import RoutePeer, wait_for_routes
from test_diff_monitor import shape
from wire import Wire

CONFIG = STANDALONE.replace("NAME", "subject") + """
ping_interval: "1m"
no_system_account: true
accounts { A { users: [{user: a, password: p}] }, B { users: [{user: b, password: p}] } }
no_auth_user: a
cluster { name: C, listen: "127.0.0.1:CLUSTER", compression: off, %s }
"""
# Of this run: ids, ports, times, and what a PING that went out by itself adds.
VARYING = {"rid", "port", "start", "uptime", "idle", "last_activity", "rtt", "now", "server_id", "pending_size", "cid"}


@pytest.fixture
def configured(start_both):
    return lambda cluster="", top="": start_both(CONFIG % cluster + top)


def masked(value):
    if isinstance(value, dict):
        return {key: shape(inner) if key in VARYING else masked(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return sorted((masked(inner) for inner in value), key=str)
    return value


def routez(broker, query=""):
    return masked(broker.get_json("/routez" + query))


QUERIES = ["", "?subs=1", "?subs=true", "?subs=detail", "?subs=0"]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("cluster", ["", "pool_size: -1", "permissions { import: in.>, export: [out.>, both] }", "accounts: [B]"],
                         ids=["pool", "no pool", "permissions", "an account of its own"])
def test_routes_are_shown_alike(configured, cluster, query):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first") as peer, Wire(broker.port, {}) as client:
            client.subscribe("near.in")
            client.sync()
            peer.connect()
            peer.say_info(route_pool_size=0 if "-1" in cluster else 3, route_account="B" if "accounts" in cluster else "",
                          tls_required=False)
            peer.settle("A")
            own = "" if "accounts" in cluster else "A "
            peer.send(f"RS+ {own}far", f"RS+ {own}far.jobs workers 2", f"RS+ {own}out.a", f"RS+ {own}far.*")
            peer.settle("A")
            wait_for_routes(broker, 1)
            return routez(broker, query)

    same(configured(cluster), conversation)


def test_traffic_of_a_route_is_shown_alike(configured):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as peer, Wire(broker.port, {"headers": True}) as client:
            client.subscribe("near")
            client.sync()
            peer.send("RS+ A far")
            peer.settle("A")
            client.publish("far", "12345")
            client.publish("far", "67")
            client.publish("nowhere", "x")
            client.sync()
            peer.settle("A")
            peer.send("RMSG A near 4\r\nfour", "HMSG A near 12 16\r\nNATS/1.0\r\n\r\nfour")
            peer.settle("A")
            client.sync()
            [route] = broker.get_json("/routez")["routes"]
            varz = broker.get_json("/varz")
            connection = broker.connection(client.info["client_id"], "open")
            return [connection[key] for key in ("in_msgs", "out_msgs", "in_bytes", "out_bytes")], [route[key] for key in ("in_msgs", "out_msgs", "in_bytes", "out_bytes", "subscriptions")], \
                [varz.get(key) for key in ("subscriptions", "routes", "remotes", "in_msgs", "out_msgs", "in_bytes", "out_bytes", "in_client_msgs", "out_client_msgs")]

    same(configured(), conversation)


@pytest.mark.parametrize("query", ["?subs=1", "?subs=1&acc=A", "?subs=1&test=far.x", "?subs=1&test=near", ""])
def test_interest_of_other_servers_is_among_the_subscriptions(configured, query):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as peer, Wire(broker.port, {}) as client:
            client.subscribe("near", "group")
            client.sync()
            peer.send("RS+ A far.*", "RS+ A far.x workers 3", "RS+ A gone", "RS- A gone")
            peer.settle("A")
            answer = broker.get_json("/subsz" + query)
            found = sorted(({key: value for key, value in each.items() if key not in ("cid", "sid")} for each in answer.get("subscriptions_list") or []), key=str)
            return found, {key: answer[key] for key in ("total", "num_subscriptions", "num_inserts", "num_removes") if query and "test" not in query}

    same(configured(), conversation)


def test_two_servers_and_their_connections_are_shown_alike(configured):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join(), RoutePeer(broker.cluster, server_id="NSECOND", name="second").join():
            with RoutePeer(broker.cluster, server_id="NFIRST", name="first") as more:
                more.connect()
                more.say_info(route_pool_idx=1)
                more.settle()
                wait_for_routes(broker, 3)
                varz = broker.get_json("/varz")
                shown = routez(broker), varz["routes"], varz["remotes"]
            wait_for_routes(broker, 2)
            return shown, routez(broker)["num_routes"]

    same(configured(), conversation)


MEMBERS = ["the members here", "members at both ends", "only members there"]


@pytest.mark.parametrize("case", MEMBERS)
def test_a_queue_group_over_two_servers_gets_each_message_once(configured, case):
    """Which member, is chance."""
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as peer, Wire(broker.port, {}) as client, Wire(broker.port, {}) as publisher:
            if case != MEMBERS[2]:
                client.subscribe("jobs", "workers")
                client.sync()
            if case != MEMBERS[0]:
                peer.send("RS+ A jobs workers 9")
            peer.settle("A")
            for number in range(20):
                publisher.publish("jobs", str(number))
            publisher.sync()
            here = len(client.sync())
            there = sum(line.startswith("RMSG") for line in peer.settle("A"))
            return here + there, "both" in case or (here, there)

    assert same(configured(), conversation)[0] == 20
