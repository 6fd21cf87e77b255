"""The protocol between servers: a scripted peer hears the same from Weir and from the real nats-server."""

import json
import re
import signal
import time

import pytest

from broker import Broker, wait_until
from compare import programs_agree, same
from route import RoutePeer, listener, masked, wait_for_routes
from wire import Wire

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: subject
ping_interval: "1m"
cluster {{ name: C, listen: "127.0.0.1:CLUSTER", {cluster} }}
"""
OFF = "compression: off"


@pytest.fixture(scope="module")
def plain(start_pair):
    return start_pair(CONFIG.format(cluster=OFF)).servers


@pytest.fixture
def configured(start_both):
    """Starts both with a `cluster` block of their own."""
    return lambda cluster, rest="": start_both(CONFIG.format(cluster=cluster) + rest)


def refused(first: str):
    """What comes back for a first line, up to the close."""
    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            peer.send(first)
            return peer.to_the_end()
    return conversation


STRANGERS = {
    "ping": "PING",
    "info": "INFO {}",
    "interest": "RS+ $G foo",
    "a client's sub": "SUB foo 1",
    "garbage": "\x00\x01",
    "http": "GET / HTTP/1.1",
    "broken json": "CONNECT {not json",
    "a client": 'CONNECT {"verbose":false,"lang":"go","version":"1"}',
    "another cluster": 'CONNECT {"name":"X","cluster":"D","headers":true}',
    "no cluster": 'CONNECT {"name":"X"}',
    "a reserved cluster": 'CONNECT {"name":"X","cluster":"_"}',
    "a gateway": 'CONNECT {"name":"X","cluster":"C","gateway":"G"}',
    "an account": 'CONNECT {"name":"X","cluster":"C","account":"A"}',
    "a new account": 'CONNECT {"name":"X","cluster":"C","new_account":true}',
    "a line without end": "CONNECT " + "x" * 70_000,
}


@pytest.mark.parametrize("first", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_are_turned_away(plain, first):
    same(plain, refused(first))


INTRODUCTIONS = {
    "broken json": "INFO {no",
    "a wrong pool index": {"route_pool_idx": 3},
    "a negative pool index": {"route_pool_idx": -1},
    "an account without a route": {"route_account": "A"},
    "an account and no pool": {"route_account": "A", "route_pool_size": 0},
    "another cluster": {"cluster": "D"},
    "a reserved cluster": {"cluster": "_"},
    "a duplicate name": {"server_name": "subject"},
    "garbage behind it": ({}, "FOO"),
    "a message without size": ({}, "RMSG $G foo"),
    "a message with a bad size": ({}, "RMSG $G foo x"),
    "a message with a bad indicator": ({}, "RMSG $G foo reply q 2"),
    "headers larger than the message": ({}, "HMSG $G foo 20 10"),
    "a payload that goes on": ({}, "RMSG $G foo 2\r\nhello"),
    "a message with too much": ({}, "RMSG $G foo + r q1 q2 q3 q4 q5 q6 q7 2\r\nhi\r\nFOO"),
    "a message with headers and without a size": ({}, "HMSG $G foo 12"),
    "a message with headers and a bad indicator": ({}, "HMSG $G foo reply q r 12 14"),
    "interest in an account without a name": ({}, "RS+"),
    "an end of interest without a subject": ({}, "RS- $G"),
    "a leaf node's interest without a subject": ({}, "LS+ L1 $G"),
    "a leaf node's interest with too much": ({}, "LS+ L1 $G foo q 1 2"),
    "a leaf node's message without a size": ({}, "LMSG L1 $G foo"),
    "interest without a subject": ({}, "RS+ $G"),
    "interest with half a queue": ({}, "RS+ $G foo q"),
    "interest with too much": ({}, "RS+ $G foo q 1 2"),
    "an end of interest with too much": ({}, "RS- $G foo q 1"),
    "an error": ({}, "-ERR 'no'"),
    "a line without end": ({}, "RS+ " + "x" * 70_000),
}


@pytest.mark.parametrize("said", INTRODUCTIONS.values(), ids=INTRODUCTIONS.keys())
def test_bad_introductions_and_operations_close_only_that_route(plain, said):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NGOOD", name="good").join() as good:
            with RoutePeer(broker.cluster, server_id="NBAD", name="bad") as peer:
                peer.connect()
                if isinstance(said, str):
                    peer.send(said)
                else:
                    fields, after = said if isinstance(said, tuple) else (said, None)
                    peer.say_info(**fields)
                    if after:
                        peer.settle()
                        peer.send(after)
                heard = peer.to_the_end()
            return heard, good.settle()
    same(plain, conversation)


def test_a_route_to_itself_is_closed_without_a_word(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            peer.connect()
            peer.say_info(server_id=peer.info["server_id"])
            return peer.to_the_end()
    same(plain, conversation)


def test_a_second_connection_for_a_place_of_the_pool_is_closed(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NTWICE").join(route_pool_idx=1) as first:
            with RoutePeer(broker.cluster, server_id="NTWICE") as second:
                second.connect()
                second.say_info(route_pool_idx=0)
                assert second.settle() == []
                # Weir takes a new connection for the sign that the old one is dead, see the deviations.
            return first.settle()
    same(plain, conversation)


@pytest.mark.parametrize("cluster", [OFF, "compression: accept", "compression: s2_auto", "compression: s2_best", OFF + ", pool_size: -1", OFF + ", pool_size: 7",
                                     OFF + ', no_advertise: true', OFF + ', cluster_advertise: "here.example:77"',
                                     OFF + ", authorization { user: u, password: p }",
                                     OFF + ", permissions { import { allow: [in.>], deny: in.not }, export { deny: [secret.>] } }"])
def test_info_and_connect_have_the_same_fields(tmp_path, cluster):
    """What a server says first when it is dialled, and when it dials."""
    def conversation(binary, name):
        with listener() as (port, accept):
            routes = f', routes: ["nats://127.0.0.1:{port}"]'
            # Without a system account there is one connection at first, that of the pool.
            broker = Broker(binary, tmp_path, CONFIG.format(cluster=cluster + routes) + "no_system_account: true", name).start()
            try:
                with RoutePeer(broker.cluster) as dialler:
                    greeting = dialler.info
                with accept() as peer:
                    connect = peer.heard()
                    first = connect.verb, masked(json.loads(connect.arguments))
                    peer.say_info(route_pool_size=0 if "pool_size: -1" in cluster else 3)
                    info = peer.heard()
                    answer = info.verb, masked(json.loads(info.arguments))
                order = [key for key in greeting if key != "weir"]
                return order, masked(greeting), first, answer
            finally:
                broker.stop()
    programs_agree(conversation)


def client(broker):
    return Wire(broker.port, {"headers": True, "no_responders": True})


def test_interest_is_told_as_it_comes_and_goes(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster).join() as pooled, client(broker) as wire, client(broker) as other:
            peers = [pooled]
            for index in (1, 2):
                peer = RoutePeer(broker.cluster)
                peer.connect()
                peer.say_info(route_pool_idx=index)
                peer.settle()
                peers.append(peer)
            said = []

            def step(*operations, on=wire):
                on.send(*operations)
                on.sync()
                time.sleep(0.05)
                said.append([peer.settle() for peer in peers])

            step("SUB foo 1")
            step("SUB foo 2")
            step("SUB foo.* 3")
            step("SUB jobs workers 4")
            step("SUB jobs workers 5", on=other)
            step("SUB jobs others 6")
            step("UNSUB 1")
            step("UNSUB 2")
            step("UNSUB 5", on=other)
            step("UNSUB 4")
            step("SUB once 7", "UNSUB 7 1", "PUB once 2", "hi")
            step("UNSUB 3", "UNSUB 6")
            for peer in peers[1:]:
                peer.close()
            return said
    same(plain, conversation)


def test_interest_that_is_there_is_told_to_a_new_route(plain):
    def conversation(broker):
        with client(broker) as wire:
            wire.send("SUB early 1", "SUB early.jobs workers 2", "SUB early.jobs workers 3")
            wire.sync()
            with RoutePeer(broker.cluster, server_id="NLATE", name="late") as peer:
                said = []
                peer.connect()
                peer.say_info(route_pool_size=0)
                said += peer.settle()
            return sorted(said)
    same(plain, conversation)


MESSAGES = {
    "plain": ("RS+ $G foo", ["PUB foo 2", "hi"]),
    "with a reply": ("RS+ $G foo", ["PUB foo bar 2", "hi"]),
    "empty": ("RS+ $G foo", ["PUB foo 0", ""]),
    "with headers": ("RS+ $G foo", ["HPUB foo 22 24", "NATS/1.0\r\nColor: red", "", "hi"]),
    "with headers and a reply": ("RS+ $G foo", ["HPUB foo bar 22 24", "NATS/1.0\r\nColor: red", "", "hi"]),
    "to a wildcard": ("RS+ $G foo.*", ["PUB foo.a 2", "hi"]),
    "to a queue group": ("RS+ $G foo q 1", ["PUB foo 2", "hi"]),
    "to a queue group with a reply": ("RS+ $G foo q 1", ["PUB foo bar 2", "hi"]),
    "to a queue group with headers": ("RS+ $G foo q 1", ["HPUB foo bar 22 24", "NATS/1.0\r\nColor: red", "", "hi"]),
    "to two queue groups": ("RS+ $G foo q 1\r\nRS+ $G foo p 2", ["PUB foo 2", "hi"]),
    "to a group and one more": ("RS+ $G foo q 1\r\nRS+ $G foo", ["PUB foo 2", "hi"]),
    "to a leaf node": ("LS+ L1 $G foo", ["PUB foo 2", "hi"]),
    "to a leaf node's queue group": ("LS+ L1 $G foo q 3", ["PUB foo 2", "hi"]),
    "to interest told twice": ("RS+ $G foo\r\nRS+ $G foo", ["PUB foo 2", "hi"]),
    "to two patterns": ("RS+ $G foo\r\nRS+ $G *", ["PUB foo 2", "hi"]),
    "to interest that ended": ("RS+ $G foo\r\nRS- $G foo", ["PUB foo 2", "hi"]),
    "to a leaf node's interest that ended": ("LS+ L1 $G foo\r\nLS- L1 $G foo", ["PUB foo 2", "hi"]),
    "to a group that lost members": ("RS+ $G foo q 3\r\nRS+ $G foo q 1", ["PUB foo 2", "hi"]),
    "to an unknown account": ("RS+ OTHER foo", ["PUB foo 2", "hi"]),
}


@pytest.mark.parametrize("case", MESSAGES.values(), ids=MESSAGES.keys())
def test_messages_leave_in_the_same_form(plain, case):
    interest, publish = case

    def conversation(broker):
        with RoutePeer(broker.cluster).join() as peer, client(broker) as wire:
            peer.send(interest)
            peer.settle()
            wire.send(*publish)
            said = wire.sync()
            return [str(message) for message in said], [" ".join(sorted(line.split(" "))) for line in peer.settle()]
    same(plain, conversation)


ARRIVALS = {
    "plain": ("RMSG $G foo 2\r\nhi", "SUB foo 1"),
    "with a reply": ("RMSG $G foo bar 2\r\nhi", "SUB foo 1"),
    "with headers": ("HMSG $G foo 12 14\r\nNATS/1.0\r\n\r\nhi", "SUB foo 1"),
    "with headers and a reply": ("HMSG $G foo bar 12 14\r\nNATS/1.0\r\n\r\nhi", "SUB foo 1"),
    "for a named group": ("RMSG $G foo | q 2\r\nhi", "SUB foo q 1\r\nSUB foo p 2"),
    "for a named group with a reply": ("RMSG $G foo + bar q 2\r\nhi", "SUB foo q 1\r\nSUB foo p 2"),
    "for two named groups": ("RMSG $G foo | q p 2\r\nhi", "SUB foo q 1\r\nSUB foo p 2"),
    "for a group that is not here": ("RMSG $G foo | z 2\r\nhi", "SUB foo q 1"),
    "for no group": ("RMSG $G foo 2\r\nhi", "SUB foo q 1"),
    "for a group and others": ("HMSG $G foo + bar q 12 14\r\nNATS/1.0\r\n\r\nhi", "SUB foo q 1\r\nSUB foo 2"),
    "from a leaf node": ("LMSG L1 $G foo 0 2\r\nhi", "SUB foo 1"),
    "from a leaf node with headers": ("LMSG L1 $G foo bar 12 14\r\nNATS/1.0\r\n\r\nhi", "SUB foo 1"),
    "from a leaf node for a group": ("LMSG L1 $G foo | q 0 2\r\nhi", "SUB foo q 1"),
    "for an unknown account": ("RMSG OTHER foo 2\r\nhi", "SUB foo 1"),
    "for nobody": ("RMSG $G bar 2\r\nhi", "SUB foo 1"),
    "twice": ("RMSG $G foo 2\r\nhi\r\nRMSG $G foo 2\r\nho", "SUB foo 1"),
    "in lower case": ("rmsg $G foo 2\r\nhi", "SUB foo 1"),
    "with a shown subject": ("RMSG $G inbox $JS.ACK.S.C.1.2.3.4.5@orders.new 2\r\nhi", "SUB inbox 1"),
}


@pytest.mark.parametrize("case", ARRIVALS.values(), ids=ARRIVALS.keys())
def test_messages_arrive_in_the_same_form(plain, case):
    message, subscribe = case

    def conversation(broker):
        with RoutePeer(broker.cluster).join() as peer, client(broker) as wire:
            wire.send(subscribe)
            wire.sync()
            peer.send(message)
            peer.settle()
            return sorted(str(message) for message in wire.sync())
    same(plain, conversation)


def test_a_message_from_a_route_goes_to_no_other_route(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NA", name="a").join() as a, RoutePeer(broker.cluster, server_id="NB", name="b").join() as b:
            b.send("RS+ $G foo", "RS+ $G foo q 1")
            b.settle()
            a.send("RMSG $G foo | q 2\r\nhi")
            a.settle()
            return b.settle()
    same(plain, conversation)


def test_a_connection_for_the_system_account_names_no_account(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            peer.connect()
            peer.say_info(route_account="$SYS")
            said = peer.settle("$SYS")
            with RoutePeer(broker.cluster) as second:
                second.connect()
                second.say_info(route_account="$G")
                return said, second.to_the_end()
    same(plain, conversation)


def test_news_of_a_server_that_joined_is_passed_on(plain):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as first:
            with RoutePeer(broker.cluster, server_id="NSECOND", name="second") as second:
                second.connect()
                second.say_info(port=4321, connect_urls=["127.0.0.1:1234"])
                second.settle()
                fields = first.next_info()
                return {key: value for key, value in fields.items() if key not in ("ip", "nonce")}, fields["ip"], "nonce" in fields
    same(plain, conversation)


def test_clients_hear_of_the_other_servers_addresses(plain):
    def conversation(broker):
        with Wire(broker.port, {"protocol": 1}) as wire:
            wire.sync()
            own = set(wire.info.get("connect_urls", []))
            with RoutePeer(broker.cluster, server_id="NURL", name="url").join(connect_urls=["10.0.0.1:4222", "10.0.0.2:4222"]) as peer:
                def urls():
                    found = [json.loads(operation.arguments) for operation in wire.until_pong() if operation.verb == "INFO"]
                    return set(found[-1].get("connect_urls", [])) - own if found else set()
                seen = []
                wait_until(lambda: seen.append(urls()) or len(seen[-1] & {"10.0.0.1:4222"}) == 1, "the new addresses are told")
                told = seen[-1] - {f"127.0.0.1:{broker.port}"}
                # On its way out it is not recommended any more.
                peer.say_info(ldm=True)
                peer.settle()
                wait_until(lambda: seen.append(urls()) or len(seen[-1] & {"10.0.0.1:4222"}) == 0 and len(seen) > 2, "they are taken back")
            return sorted(told)
    same(plain, conversation)


def test_wrong_credentials_are_refused(configured):
    brokers = configured(OFF + ", authorization { user: u, password: p, timeout: 1 }")

    def conversation(broker):
        said = []
        for fields in ({}, {"user": "u"}, {"user": "u", "pass": "x"}, {"user": "x", "pass": "p"}):
            with RoutePeer(broker.cluster) as peer:
                peer.connect(**fields)
                said.append(peer.to_the_end())
        with RoutePeer(broker.cluster) as peer:
            said.append(peer.to_the_end())  # says nothing in time
        with RoutePeer(broker.cluster) as peer:
            peer.connect(user="u", **{"pass": "p"})
            peer.say_info()
            said.append(peer.settle())
        return said
    same(brokers, conversation)


def test_permissions_filter_interest_both_ways(configured):
    brokers = configured(OFF + ", permissions { import { allow: [in.>], deny: in.not }, export { deny: [secret.>] } }")

    def conversation(broker):
        with RoutePeer(broker.cluster).join(route_pool_size=0) as peer, client(broker) as wire:
            wire.send("SUB in.a 1", "SUB in.not 2", "SUB out 3", "SUB in.> 4", "SUB > 5")
            wire.sync()
            time.sleep(0.05)
            told = sorted(peer.settle())
            peer.send("RS+ $G secret.a", "RS+ $G open", "RS+ $G >")
            peer.settle()
            wire.send("PUB secret.a 1", "x", "PUB open 1", "y", "PUB secret.b 1", "z", "PUB else 1", "w")
            wire.sync()
            return told, [line for line in peer.settle()]
    same(brokers, conversation)


def test_lame_duck_mode_is_told(configured):
    brokers = configured(OFF)

    def conversation(broker):
        # With a client to let go; otherwise the server is gone at once.
        with RoutePeer(broker.cluster).join() as peer, client(broker) as wire:
            wire.sync()
            broker.signal(signal.SIGUSR2)
            return masked(peer.next_info())
    same(brokers, conversation)


def test_a_silent_peer_is_found_stale(configured):
    brokers = configured(OFF + ', ping_interval: "500ms", ping_max: 2')

    def conversation(broker):
        with RoutePeer(broker.cluster) as peer:
            peer.connect()
            peer.say_info()
            return [line for line in peer.to_the_end(within=10) if line.startswith(("-ERR", "<"))]
    same(brokers, conversation)


def test_an_account_that_another_server_pins_moves_to_its_own_connection(configured):
    brokers = configured(OFF, "\naccounts { A { users: [{user: a, password: a}] } }\nno_auth_user: a\n")

    def conversation(broker):
        with RoutePeer(broker.cluster).join(route_pool_size=1) as peer:
            peer.send("INFO " + json.dumps({"route_pool_size": 1, "route_account": "A", "route_acc_add_reqid": "request"}))
            fields = peer.next_info()
            with RoutePeer(broker.cluster) as own:
                own.connect()
                own.say_info(route_account="A", route_pool_size=1)
                own.settle()
                with client(broker) as wire:
                    wire.send("SUB foo 1")
                    wire.sync()
                    time.sleep(0.05)
                    own.send("RS+ bar")
                    own.settle("foo")
                    wire.send("PUB bar 2", "hi")
                    wire.sync()
                    return fields["route_acc_add_reqid"], fields.get("route_account", ""), own.settle("bar"), peer.settle("A")
    same(brokers, conversation)


def test_a_peer_without_a_pool_is_dialled_once(tmp_path):
    def conversation(binary, name):
        with listener() as (port, accept):
            broker = Broker(binary, tmp_path, CONFIG.format(cluster=OFF + f', routes: ["nats://127.0.0.1:{port}"]') + "no_system_account: true", name).start()
            try:
                with accept() as peer:
                    connect = peer.heard()
                    peer.say_info(route_pool_size=0)
                    info = json.loads(peer.heard().arguments)
                    peer.settle()
                    wait_for_routes(broker, 1)
                    return connect.verb, info.get("route_pool_size"), info.get("route_pool_idx", 0)
            finally:
                broker.stop()
    programs_agree(conversation)


def reload(broker, config):
    before = len(broker.log())
    broker.write_config(config)
    broker.signal(signal.SIGHUP)
    wait_until(lambda: "Reloaded server configuration" in broker.log()[before:], "it is reloaded")


def test_a_reload_cuts_routes_whose_credentials_changed(configured):
    """(those of the accepted route after the change of the password, after none): what it hears."""
    def conversation(broker):
        def config(password, more=""):
            return CONFIG.format(cluster=OFF + f", authorization {{ user: u, password: {password} }}") + more
        with RoutePeer(broker.cluster, server_id="NCRED") as peer:
            peer.connect(user="u", **{"pass": "p"})
            peer.say_info()
            peer.settle()
            reload(broker, config("p", "max_payload: 1000000"))
            peer.settle()
            reload(broker, config("q", "max_payload: 1000000"))
            return peer.to_the_end(), [line.split(" - ", 2)[-1] for line in broker.log().splitlines() if "authentication error" in line]
    same(configured(OFF + ", authorization { user: u, password: p }"), conversation)


# From one mode to another: whether the route stays, and what /routez says in the end.
COMPRESSIONS = [("s2_fast", "s2_best"), ("off", "s2_fast"), ("s2_fast", "off"), ("s2_fast", "accept"), ("s2_best", "s2_auto"), ("accept", "s2_better")]


@pytest.mark.parametrize("modes", COMPRESSIONS, ids=" to ".join)
def test_another_compression_is_taken_on_by_routes_that_exist(tmp_path, modes):
    before, after = modes

    def conversation(binary, name):
        first = Broker(binary, tmp_path, CONFIG.format(cluster=f"compression: {before}, pool_size: -1"), name + "1").start()
        config = CONFIG.format(cluster=f'compression: s2_fast, pool_size: -1, routes: ["nats://127.0.0.1:{first.cluster}"]')
        second = Broker(binary, tmp_path, config.replace("subject", "other"), name + "2").start()
        try:
            def routes():
                return first.get_json("/routez").get("routes") or []
            wait_for_routes(first, 1)
            known = routes()[0]["rid"]
            reload(first, CONFIG.format(cluster=f"compression: {after}, pool_size: -1"))
            expected = {"accept": "s2_fast", "s2_auto": "s2_uncompressed"}.get(after, after)
            # A route that is cut may be seen for a moment longer, in a mode that is also the next one's.
            is_cut = "off" in modes or after == "accept"
            wait_until(lambda: [(route.get("compression"), route["rid"] != known) for route in routes()] == [(expected, is_cut)],
                       f"the route is {expected}", 10)
            return is_cut
        finally:
            second.stop()
            first.stop()
    programs_agree(conversation)


def test_the_trace_shows_the_protocol_between_servers(configured):
    """What both programs show with -V of one route's operations, but for times and addresses."""
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NTRACE", name="traced").join() as peer, client(broker) as wire:
            before = len(broker.log())
            peer.send("RS+ $G far")
            peer.settle()
            wire.send("SUB near 1")
            wire.until_pong()
            peer.settle()
            wire.send("PUB far re.ply 2\r\nhi")
            wire.until_pong()
            peer.send("RMSG $G near 2\r\nyo")
            peer.send("RS- $G far")
            peer.settle()
            lines = re.findall(r"rid:\d+ - (?:\S+ - )?((?:<<-|->>) .*)", broker.log()[before:])
            wanted = ("RS+", "RS-", "RMSG", "MSG_PAYLOAD")
            return [line for line in lines if any(word in line for word in wanted) and "$SYS" not in line and "SYS" not in line]
    expected = same(configured(OFF, "trace: true\nno_system_account: true\n"), conversation)
    assert any("RS+ $G far" in line for line in expected)


def test_traffic_of_accounts_over_routes_is_counted(configured):
    def conversation(broker):
        with RoutePeer(broker.cluster, server_id="NCOUNT", name="counted").join() as peer, client(broker) as wire:
            peer.send("RS+ $G far")
            peer.settle()
            wire.send("SUB near 1")
            wire.until_pong()
            wire.send("PUB far 2\r\nhi\r\nPUB far 3\r\nyes\r\nPUB nowhere 1\r\nx")
            wire.until_pong()
            peer.settle()
            for _ in range(3):
                peer.send("RMSG $G near 4\r\nfour")
            peer.settle()
            wire.until_pong()

            def counted():
                [found] = [one for one in broker.get_json("/accstatz?unused=1")["account_statz"] if one["acc"] == "$G"]
                return found["sent"]["routes"], found["received"]["routes"]
            wait_until(lambda: counted()[1]["msgs"] == 3, "they are counted")
            return counted()
    same(configured(OFF), conversation)
