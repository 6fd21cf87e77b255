"""A real nats-server 2.15.1 joined to Weir by a route: core messages go both ways, as between two of its own kind."""

import pytest

import binaries
from broker import Broker, wait_until
from wire import Wire

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: mixed, listen: "127.0.0.1:CLUSTER", pool_size: {pool}, compression: {compression}, routes: [{routes}] }}
"""
MESSAGES = 200


def join(directory, seed_of, pool=3, compression="off"):
    """nats-server and Weir; `seed_of` says who has the other's route in its config."""
    pair = {"nats": Broker(binaries.reference(), directory, "", "nats"), "weir": Broker(binaries.weir(), directory, "", "weir")}
    for name, broker in pair.items():
        other = pair["weir" if name == "nats" else "nats"]
        routes = f'"nats://127.0.0.1:{other.cluster}"' if name in seed_of else ""
        broker.write_config(CONFIG.format(routes=routes, pool=pool, compression=compression).replace("NAME", name))
    for broker in pair.values():
        broker.start()
    wait_until(lambda: all(routed(broker) for broker in pair.values()), "each has a route to the other")
    return pair


def routed(broker):
    return bool(broker.get_json("/routez")["routes"])


@pytest.fixture(scope="module", params=["weir_dials", "nats_dials", "both_dial", "one_connection"])
def pair(request, tmp_path_factory):
    seeds = {"weir_dials": ("weir",), "nats_dials": ("nats",)}.get(request.param, ("weir", "nats"))
    # Without a pool, all accounts share one connection, as servers before 2.10 had it.
    pair = join(tmp_path_factory.mktemp("routes"), seeds, pool=-1 if request.param == "one_connection" else 3)
    yield pair
    for broker in pair.values():
        broker.stop()


@pytest.fixture(params=[("nats", "weir"), ("weir", "nats")], ids=["nats_to_weir", "weir_to_nats"])
def ends(request, pair):
    """(from, to): brokers of the publisher and of the subscriber."""
    return tuple(pair[name] for name in request.param)


def awaits_interest(publisher, subject):
    """The subscriber's interest has come over the route once a request no longer has no responders."""
    def heard():
        with Wire(publisher.port, {"headers": True, "no_responders": True}) as probe:
            inbox = probe.inbox()
            probe.subscribe(inbox)
            probe.publish(subject, "probe", inbox)
            return all(message.code != 503 for message in probe.sync())

    wait_until(heard, f"interest in {subject} has crossed the route")


def heard_after_probes(wire, count):
    """The next `count` messages that are no probes."""
    messages = []
    while len(messages) < count:
        message = wire.read_message()
        if message.payload != b"probe":
            messages.append(message)
    return messages


def test_messages_cross_in_order(ends):
    source, target = ends
    with Wire(target.port, {}) as subscriber, Wire(source.port, {}) as publisher:
        subscriber.subscribe("cross.*")
        subscriber.sync()
        awaits_interest(source, "cross.x")
        for number in range(MESSAGES):
            publisher.publish("cross.a", str(number))
        assert [int(message.payload) for message in heard_after_probes(subscriber, MESSAGES)] == list(range(MESSAGES))


def test_headers_and_replies_cross(ends):
    source, target = ends
    with Wire(target.port, {"headers": True}) as subscriber, Wire(source.port, {"headers": True}) as publisher:
        subscriber.subscribe("headed")
        subscriber.sync()
        awaits_interest(source, "headed")
        publisher.publish("headed", "body", "reply.here", {"Color": "red", "Size": "9"})
        [message] = heard_after_probes(subscriber, 1)
        assert (message.subject, message.reply, message.headers, message.payload) == \
            ("headed", "reply.here", (("Color", "red"), ("Size", "9")), b"body")


def test_large_payloads_cross(ends):
    source, target = ends
    with Wire(target.port, {}) as subscriber, Wire(source.port, {}) as publisher:
        subscriber.subscribe("large")
        subscriber.sync()
        awaits_interest(source, "large")
        payload = bytes(range(256)) * 4000
        publisher.publish("large", payload)
        [message] = heard_after_probes(subscriber, 1)
        assert message.payload == payload


def test_requests_are_answered_across(ends):
    source, target = ends
    with Wire(target.port, {}) as responder, Wire(source.port, {"headers": True, "no_responders": True}) as requester:
        responder.subscribe("service")
        responder.sync()
        awaits_interest(source, "service")
        for number in range(20):
            inbox = requester.inbox()
            requester.subscribe(inbox)
            requester.publish("service", str(number), inbox)
            [request] = heard_after_probes(responder, 1)
            responder.publish(request.reply, b"answer to " + request.payload)
            assert requester.read_message().payload == f"answer to {number}".encode()


def test_no_responders_is_said_when_the_last_subscriber_is_gone(ends):
    source, target = ends
    with Wire(target.port, {}) as responder:
        sid = responder.subscribe("fleeting")
        responder.sync()
        awaits_interest(source, "fleeting")
        responder.unsubscribe(sid)
        responder.sync()

    def unanswered():
        with Wire(source.port, {"headers": True, "no_responders": True}) as probe:
            inbox = probe.inbox()
            probe.subscribe(inbox)
            probe.publish("fleeting", "", inbox)
            return any(message.code == 503 for message in probe.sync())

    wait_until(unanswered, "nobody is left")


def test_a_queue_group_across_both_gets_each_message_once(ends):
    source, target = ends
    with Wire(target.port, {}) as far, Wire(source.port, {}) as near, Wire(source.port, {}) as publisher:
        far.subscribe("jobs", "workers")
        near.subscribe("jobs", "workers")
        for wire in (far, near):
            wire.sync()
        # nats-server prefers the near member; the far one counts once the near is gone.
        for number in range(MESSAGES):
            publisher.publish("jobs", str(number))
        publisher.sync()
        got: list[int] = []
        wait_until(lambda: got.extend(int(m.payload) for wire in (near, far) for m in wire.sync()) or len(got) >= MESSAGES,
                   "all jobs are delivered")
        assert sorted(got) == list(range(MESSAGES))


def test_a_queue_group_only_on_the_far_side_gets_each_message_once(ends):
    source, target = ends
    with Wire(target.port, {}) as one, Wire(target.port, {}) as two, Wire(source.port, {}) as publisher:
        one.subscribe("far.jobs", "workers")
        two.subscribe("far.jobs", "workers")
        one.sync()
        two.sync()
        awaits_interest(source, "far.jobs")
        for number in range(MESSAGES):
            publisher.publish("far.jobs", str(number))
        got: list[bytes] = []
        wait_until(lambda: got.extend(m.payload for wire in (one, two) for m in wire.sync() if m.payload != b"probe")
                   or len(got) >= MESSAGES, "all jobs are delivered")
        assert sorted(map(int, got)) == list(range(MESSAGES))
        assert len(got) == MESSAGES


def test_two_queue_groups_and_a_plain_subscriber_each_get_it(ends):
    source, target = ends
    with Wire(target.port, {}) as a, Wire(target.port, {}) as b, Wire(target.port, {}) as c, Wire(source.port, {}) as publisher:
        a.subscribe("news", "readers")
        b.subscribe("news", "archive")
        c.subscribe("news")
        for wire in (a, b, c):
            wire.sync()
        awaits_interest(source, "news")
        # Interest of the three crosses one after the other: it is all there once each has heard a probe.
        waiting = [a, b, c]

        def all_hear():
            publisher.publish("news", "probe")
            publisher.sync()
            waiting[:] = [wire for wire in waiting if not wire.sync()]
            return not waiting

        wait_until(all_hear, "all three hear probes")
        publisher.publish("news", "extra")
        assert [heard_after_probes(wire, 1)[0].payload for wire in (a, b, c)] == [b"extra"] * 3


def test_interest_that_was_there_before_the_route_crosses(tmp_path):
    brokers = {}
    try:
        brokers = join(tmp_path, ("weir", "nats"))
        with Wire(brokers["nats"].port, {}) as listener:
            listener.subscribe("earlier")
            listener.sync()
            brokers["weir"].stop()
            brokers["weir"].start()
            wait_until(lambda: routed(brokers["weir"]), "the route is back")
            awaits_interest(brokers["weir"], "earlier")
            with Wire(brokers["weir"].port, {}) as publisher:
                publisher.publish("earlier", "x")
                assert heard_after_probes(listener, 1)[0].payload == b"x"
    finally:
        for broker in brokers.values():
            broker.stop()


def test_gossip_makes_a_full_mesh(tmp_path):
    """nats-server knows only weir, a second weir knows only weir: all three find each other."""
    names = {"weir": binaries.weir(), "nats": binaries.reference(), "other": binaries.weir()}
    brokers = {name: Broker(binary, tmp_path, "", name) for name, binary in names.items()}
    try:
        for name, broker in brokers.items():
            routes = "" if name == "weir" else f'"nats://127.0.0.1:{brokers["weir"].cluster}"'
            broker.write_config(CONFIG.format(routes=routes, pool=3, compression="off").replace("NAME", name))
            broker.start()

        def meshed():
            return all({route.get("remote_name") for route in broker.get_json("/routez")["routes"] or []} == set(brokers) - {name}
                       for name, broker in brokers.items())

        wait_until(meshed, "each has a route to both others")
        # A message goes one hop only: the far ones get it once.
        with Wire(brokers["nats"].port, {}) as subscriber, Wire(brokers["other"].port, {}) as publisher:
            subscriber.subscribe("mesh")
            subscriber.sync()
            awaits_interest(brokers["other"], "mesh")
            publisher.publish("mesh", "once")
            publisher.sync()
            assert heard_after_probes(subscriber, 1)[0].payload == b"once"
            assert all(message.payload == b"probe" for message in subscriber.sync())
    finally:
        for broker in brokers.values():
            broker.stop()


def test_a_route_without_the_password_is_refused(tmp_path):
    secured = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: mixed, listen: "127.0.0.1:CLUSTER", authorization {{ user: route, password: pw, timeout: 2 }}, routes: [{routes}] }}
"""
    for inner, outer in ((binaries.weir(), binaries.reference()), (binaries.reference(), binaries.weir())):
        guard = Broker(inner, tmp_path, secured.format(routes=""), f"guard{inner == binaries.weir()}")
        stranger = Broker(outer, tmp_path, CONFIG.format(routes=f'"nats://127.0.0.1:{guard.cluster}"', pool=3, compression="off"), f"stranger{inner == binaries.weir()}")
        member = Broker(outer, tmp_path, secured.format(routes=f'"nats://route:pw@127.0.0.1:{guard.cluster}"'), f"member{inner == binaries.weir()}")
        try:
            guard.start()
            stranger.start()
            wait_until(lambda: "uthorization" in guard.log() or "uthentication" in guard.log(), "the guard refuses")
            assert not routed(guard)
            stranger.stop()
            member.start()
            wait_until(lambda: routed(guard), "the member with the password is let in")
        finally:
            for broker in (guard, stranger, member):
                broker.stop()
