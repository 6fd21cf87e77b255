"""Imports and exports over a route between Weir and a real nats-server: requester and service on different servers."""

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
    wait_until(lambda: all(broker.get_json("/routez")["routes"] for broker in pair.values()), "the servers are joined", 15)
    yield pair
    for broker in pair.values():
        broker.stop()


@pytest.fixture(params=ENDS.values(), ids=ENDS.keys())
def ends(request, pair):
    """(broker of the requester, broker of the service)"""
    return tuple(pair[name] for name in request.param)


def user(broker, name):
    return Wire(broker.port, {"user": name, "pass": "p", "headers": True, "no_responders": True})


def ask(client, subject, within=5.0):
    """A request's first answer that is not «nobody listens»; tried again until then."""
    answers = []

    def answered():
        answers[:] = [client.request(subject, "hello", within=within)]
        return answers[0].code != 503

    wait_until(answered, f"the service on {subject} is known there", 10)
    return answers[0]


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

        wait_until(heard, "the request has crossed", 10)
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
        inbox = requester.inbox()
        requester.subscribe(inbox)
        requests = []

        def arrived():
            requester.publish("many", "hello", inbox)
            requester.sync()
            requests.extend(service.sync())
            return requests

        wait_until(arrived, "the request has crossed", 10)
        for number in range(50):
            service.publish(requests[-1].reply, str(number))
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

        wait_until(arrived, "the stream has crossed", 10)
        assert heard[0].subject == "from.a.news.x" and heard[0].payload == b"hello"


def test_nobody_serves_on_either_server(ends):
    with user(ends[0], "b") as requester:
        wait_until(lambda: requester.request("my.one", "?").code == 503, "the service is gone everywhere", 10)
