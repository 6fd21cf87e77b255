"""What consumers' clients are told when a server stops or a leader changes: as nats-server tells them."""

import json
import signal

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from cluster import create
from compare import same
from jetstream import JetStream, asked, shown, without_inbox

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}
REQUESTS = [{"batch": 1, "expires": 60 * SECOND}, {"batch": 5, "expires": 60 * SECOND, "idle_heartbeat": 20 * SECOND}]


def until_closed(wire):
    """All messages up to the end of the connection."""
    seen = []
    while True:
        try:
            seen.append(wire.read_message(10))
        except (AssertionError, OSError):
            return seen


@pytest.fixture
def servers(tmp_path):
    made = [Broker(binary, tmp_path / name, WITH_JETSTREAM).start() for name, binary in (("reference", binaries.reference()), ("weir", binaries.weir()))]
    yield made
    for broker in made:
        broker.stop()


@pytest.mark.parametrize("consumers", [["C"], ["C", "D"]], ids=len)
def test_a_waiting_pull_request_hears_of_the_stop(servers, consumers):
    def use(broker):
        js = JetStream(broker.port)
        js.raw("STREAM.CREATE.S", S)
        for name in consumers:
            js.consumer(name)
        for name in consumers:
            for request in REQUESTS:
                inbox = js.wire.inbox()
                js.wire.subscribe(inbox)
                js.wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", json.dumps(request), inbox)
        wait_until(lambda: all(js.raw(f"CONSUMER.INFO.S.{name}")["num_waiting"] == len(REQUESTS) for name in consumers), "the requests wait")
        broker.signal(signal.SIGTERM)
        seen = sorted([without_inbox(shown(message)) for message in until_closed(js.wire)], key=str)
        js.wire.close()
        broker.wait_exit()
        return seen

    same(servers, use)


@pytest.fixture(scope="module")
def clusters(start_clusters):
    return start_clusters(binaries.reference(), binaries.weir())


def test_a_waiting_pull_request_hears_of_another_leader(clusters):
    def use(cluster):
        with JetStream(cluster.brokers[0].port) as js:
            create(js, S | {"num_replicas": 3})
            js.consumer()
            wait_until(lambda: asked(js, "CONSUMER.INFO.S.C").get("cluster", {}).get("leader"), "the consumer is led", 20)

            def told():
                """What a request hears, if a leader steps down whose successor knows of it."""
                inbox = js.wire.inbox()
                sid = js.wire.subscribe(inbox)

                def waits():
                    js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps(REQUESTS[0]), inbox)
                    return asked(js, "CONSUMER.INFO.S.C").get("num_waiting")

                wait_until(waits, "a request waits", 20, every=0.2)
                cluster.current("S", 3)
                for what in ("CONSUMER.LEADER.STEPDOWN.S.C", "STREAM.LEADER.STEPDOWN.S"):
                    asked(js, what)
                return next((message for message in js.quiet(3.0) if message.sid == sid and message.code == 409), None)

            message = wait_until(told, "a request hears of another leader", 60)
            js.clear()
            return without_inbox(shown(message))

    same(clusters, use)


def test_info_names_a_stream_and_its_mirrors(clusters):
    def use(cluster):
        with JetStream(cluster.brokers[0].port) as js:
            create(js, S)
            said = [asked(js, "STREAM.INFO.S").get("alternates")]
            for name in ("M", "N"):
                create(js, {"name": name, "mirror": {"name": "S"}})
            create(js, {"name": "A", "sources": [{"name": "S"}]})
            wait_until(lambda: len(asked(js, "STREAM.INFO.S").get("alternates") or []) == 3, "all are known")
            for name in ("S", "M", "A"):
                alternates = asked(js, f"STREAM.INFO.{name}").get("alternates")
                said.append(alternates and sorted(alternates, key=lambda one: one["name"]))
            js.clear()
            return said

    same(clusters, use)
