"""Imports and exports over a route between Weir and a real nats-server: requester and service on different servers."""

import itertools
import json

import pytest

import binaries
from broker import Broker, wait_until
from wire import Wire

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: mixed, listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}
accounts {{
  A {{ users: [ {{ user: a, password: p }} ]
      exports: [ {{ stream: "news.>" }}, {{ service: "one" }}, {{ service: "many", response_type: stream }} ] }}
  B {{ users: [ {{ user: b, password: p }} ]
      imports: [ {{ stream: {{ account: A, subject: "news.>" }}, prefix: "from.a" }},
                 {{ service: {{ account: A, subject: "one" }}, to: "my.one", share: true }},
                 {{ service: {{ account: A, subject: "many" }} }} ] }}
}}
"""
TOLD_WITHIN_SECONDS = 2.0
ENDS = {"nats_asks_weir": ("nats", "weir"), "weir_asks_nats": ("weir", "nats")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("routes_accounts")
    pair = {"nats": Broker(binaries.reference(), directory, "", "nats"), "weir": Broker(binaries.weir(), directory, "", "weir")}
    for name, broker in pair.items():
        other = pair["weir" if name == "nats" else "nats"]
        broker.write_config(CONFIG.format(routes=f'"nats://127.0.0.1:{other.cluster}"').replace("NAME", name))
    for broker in pair.values():
        broker.start()
    wait_until(lambda: all(broker.get_json("/routez")["routes"] for broker in pair.values()), "the servers are joined")
    yield pair
    for broker in pair.values():
        broker.stop()


@pytest.fixture(params=ENDS.values(), ids=ENDS.keys())
def ends(request, pair):
    """(broker of the requester, broker of the service)"""
    return tuple(pair[name] for name in request.param)


def user(broker, name):
    return Wire(broker.port, {"user": name, "pass": "p", "headers": True, "no_responders": True})


def crossed(requester, service, subject):
    """The last request that came over the route, once one does."""
    inbox = requester.inbox()
    requester.subscribe(inbox)

    def arrived():
        requester.publish(subject, "hello", inbox)
        requester.sync()
        return service.sync()

    return wait_until(arrived, "the request has crossed")[-1]


def test_a_service_of_another_server_answers(ends):
    with user(ends[0], "b") as requester, user(ends[1], "a") as service:
        sid = service.subscribe("one")
        service.sync()
        inbox = requester.inbox()
        requester.subscribe(inbox)

        def heard():
            requester.publish("my.one", "hello", inbox)
            return any(message.code != 503 for message in requester.sync()) or bool(pending(service))

        requests = []

        def pending(client):
            requests.extend(client.sync())
            return requests

        wait_until(heard, "the request has crossed")
        request = requests[-1]
        assert request.sid == sid and request.subject == "one" and request.reply.startswith("_R_.")
        info = json.loads(request.header("Nats-Request-Info"))
        assert info["acc"] == "B" and info["server"] == ends[0].name and info["user"] == "b"
        service.publish(request.reply, "yes")
        service.sync()
        assert requester.read_message().payload == b"yes"


def test_a_service_of_another_server_answers_often(ends):
    with user(ends[0], "b") as requester, user(ends[1], "a") as service:
        service.subscribe("many")
        service.sync()
        request = crossed(requester, service, "many")
        for number in range(50):
            service.publish(request.reply, str(number))
        service.sync()
        heard = []
        while len(heard) < 50:
            message = requester.read_message()
            if message.code != 503:
                heard.append(int(message.payload))
        assert heard == list(range(50))


def test_a_stream_of_another_server_is_heard(ends):
    with user(ends[0], "b") as importer, user(ends[1], "a") as exporter:
        importer.subscribe("from.a.news.*")
        importer.sync()
        heard = []

        def arrived():
            exporter.publish("news.x", "hello")
            exporter.sync()
            heard.extend(importer.sync())
            return heard

        wait_until(arrived, "the stream has crossed")
        assert heard[0].subject == "from.a.news.x" and heard[0].payload == b"hello"


def test_nobody_serves_on_either_server(ends):
    with user(ends[0], "b") as requester:
        wait_until(lambda: requester.request("my.one", "?").code == 503, "the service is gone everywhere")


def traced_until(publisher, listener, subject, wanted, headers):
    """Publishes with these headers until reports of these servers came; those of one message by server."""
    reports = {}
    rounds = itertools.count(1)

    def told():
        reports.clear()
        turn = str(next(rounds))
        publisher.publish(subject, "x", headers=headers | {"Turn": turn})
        publisher.sync()
        try:
            while not wanted <= set(reports):
                report = listener.read_message(TOLD_WITHIN_SECONDS).json()
                # The others are late ones of an earlier message.
                if report["request"]["header"].get("Turn") == [turn]:
                    reports[report["server"]["name"]] = report
        except AssertionError:
            return False
        return True

    wait_until(told, "these servers tell of the message")
    return reports


def test_a_trace_goes_over_the_route(ends):
    """(sender's server, subscriber's server): each tells its part; the hop ties them together."""
    with user(ends[0], "a") as sender, user(ends[0], "a") as listener, user(ends[1], "a") as subscriber:
        listener.subscribe("trace.here")
        listener.sync()
        subscriber.subscribe("foo.*")
        subscriber.sync()
        reports = traced_until(sender, listener, "foo.bar", {"nats", "weir"}, {"Nats-Trace-Dest": "trace.here"})
        first, second = reports[ends[0].name], reports[ends[1].name]
        assert first["hops"] == 1 and "hops" not in second
        egress = next(event for event in first["events"] if event["type"] == "eg")
        assert (egress["kind"], egress["name"], egress["hop"]) == (1, ends[1].name, "1") and not egress.get("error")
        ingress, delivered = second["events"]
        assert (ingress["type"], ingress["kind"], ingress["name"], ingress["acc"], ingress["subj"]) == ("in", 1, ends[0].name, "A", "foo.bar")
        assert (delivered["type"], delivered["kind"], delivered["sub"]) == ("eg", 0, "foo.*")
        assert second["request"]["header"]["Nats-Trace-Hop"] == ["1"]


def test_a_trace_alone_goes_over_the_route_and_no_message(ends):
    with user(ends[0], "a") as sender, user(ends[0], "a") as listener, user(ends[1], "a") as subscriber:
        listener.subscribe("trace.only")
        listener.sync()
        subscriber.subscribe("only.*")
        subscriber.sync()
        headers = {"Nats-Trace-Dest": "trace.only", "Nats-Trace-Only": "true"}
        reports = traced_until(sender, listener, "only.bar", {"nats", "weir"}, headers)
        assert [event["type"] for event in reports[ends[1].name]["events"]] == ["in", "eg"]
        assert subscriber.sync() == []


def test_a_trace_through_a_service_comes_home(ends):
    """The destination is the requester's, though the message goes on in another account."""
    with user(ends[0], "b") as requester, user(ends[0], "b") as listener, user(ends[1], "a") as service:
        listener.subscribe("trace.svc")
        listener.sync()
        service.subscribe("many")
        service.sync()
        reports = traced_until(requester, listener, "many", {ends[0].name}, {"Nats-Trace-Dest": "trace.svc"})
        assert [event["type"] for event in reports[ends[0].name]["events"]][:2] == ["in", "si"]


LATENCY = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: mixed, listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}
accounts {{
  SYS {{ users: [ {{ user: s, password: p }} ] }}
  A {{ users: [ {{ user: a, password: p }} ]
      exports: [ {{ service: "one", latency: {{ sampling: 100%, subject: "took" }} }} ] }}
  B {{ users: [ {{ user: b, password: p }} ], imports: [ {{ service: {{ account: A, subject: "one" }}, share: true }} ] }}
}}
system_account: SYS
"""


@pytest.mark.parametrize("programs", [("reference", "weir"), ("weir", "reference"), ("weir", "weir"), ("reference", "reference")], ids=" asks ".join)
def test_a_latency_is_measured_by_both_servers_and_told_once(tmp_path, programs):
    """(program of the requester's server, program of the responder's)"""
    made = [Broker(getattr(binaries, program)(), tmp_path, "", f"n{at}") for at, program in enumerate(programs)]
    for at, broker in enumerate(made):
        routes = f'"nats://127.0.0.1:{made[1 - at].cluster}"'
        broker.write_config(LATENCY.format(routes=routes).replace("NAME", broker.name))
        broker.start()
    try:
        wait_until(lambda: all(broker.get_json("/routez")["routes"] for broker in made), "the servers are joined")
        with user(made[0], "b") as requester, user(made[1], "a") as service, user(made[0], "a") as listener:
            service.subscribe("one")
            service.sync()
            listener.subscribe("took")
            listener.sync()
            request = crossed(requester, service, "one")
            listener.sync()
            service.publish(request.reply, "yes")
            service.sync()
            told = []

            def measured():
                told.extend(message.json() for message in listener.sync())
                return [one for one in told if one["status"] == 200]

            [whole] = wait_until(measured, "the latency is told")
            assert whole["responder"]["user"] == "a" and whole["responder"]["server"] == "n1" and whole["responder"]["acc"] == "A"
            assert whole["requestor"]["user"] == "b" and whole["requestor"]["acc"] == "B"
            assert whole["total"] >= whole["service"] >= 0 and whole["system"] >= 0
    finally:
        for broker in made:
            broker.stop()
