"""Mirrors, sources and changes of the number of replicas on three servers, under publishes and with servers killed:
nothing that was acknowledged is lost, nothing is there twice."""

import base64
import threading
import time

import pytest

import binaries
from broker import wait_until
from cluster import create, wait_heard
from jetstream import JetStream, asked

WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(start_clusters):
    [made] = start_clusters(binaries.weir())
    return made


@pytest.fixture(autouse=True)
def empty(cluster):
    yield
    for broker in cluster.brokers:
        if not broker.running:
            broker.start()
    cluster.wait_formed()

    def cleared():
        try:
            with JetStream(cluster.brokers[0].port) as js:
                js.clear()
                return not js.raw("STREAM.NAMES").get("streams")
        except AssertionError:
            return False

    wait_until(cleared, "no stream is left", WITHIN_SECONDS, every=0.3)


class Publisher:
    """Publishes one after the other through a server and keeps what was acknowledged, until stopped."""

    def __init__(self, broker, subject):
        self.broker, self.subject, self.acked = broker, subject, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def _run(self):
        number = 0
        with JetStream(self.broker.port) as js:
            while not self.stopping.is_set():
                number += 1
                try:
                    answer = js.publish(self.subject, str(number))
                except AssertionError:
                    continue
                if "seq" in answer:
                    self.acked.append(str(number))
                else:
                    time.sleep(0.01)


def payloads(cluster, stream):
    """Every message's data, in order."""
    with JetStream(cluster.leader(stream).port) as js:
        state = wait_until(lambda: asked(js, f"STREAM.INFO.{stream}").get("state"), f"{stream} answers", WITHIN_SECONDS)
        answers = [js.raw(f"STREAM.MSG.GET.{stream}", {"seq": sequence}) for sequence in range(state["first_seq"], state["last_seq"] + 1)]
    return [base64.b64decode(answer["message"]["data"]).decode() for answer in answers if "message" in answer]


def make(cluster, config):
    with JetStream(cluster.running()[0].port) as js:
        create(js, config)


def arrives(cluster, stream, publisher):
    """All that was acknowledged is there, once, in order."""
    wanted = publisher.acked
    cluster.wait_formed(WITHIN_SECONDS)
    # What was stored and not acknowledged counts as well: there may be as many messages before all of those wanted are there.
    wait_until(lambda: cluster.info(stream).get("state", {}).get("messages", 0) >= len(wanted), f"{stream} has {len(wanted)} messages", WITHIN_SECONDS, every=0.2)
    wait_until(lambda: set(wanted) <= set(payloads(cluster, stream)), f"{stream} has all that was acknowledged", WITHIN_SECONDS, every=0.5)
    found = payloads(cluster, stream)
    assert len(found) == len(set(found)), "messages are there twice"
    assert found == sorted(found, key=int), "the order is broken"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("kind", ["mirror", "sources"])
def test_nothing_is_lost_or_doubled_when_leaders_are_killed(cluster, kind, replicas):
    make(cluster, {"name": "O", "subjects": ["o.>"], "num_replicas": 3})
    make(cluster, {"name": "T", "num_replicas": replicas} | ({"mirror": {"name": "O"}} if kind == "mirror" else {"sources": [{"name": "O"}]}))
    led = cluster.leader("T")
    publisher_at = next(broker for broker in cluster.brokers if broker is not led)
    with Publisher(publisher_at, "o.a") as publisher:
        wait_until(lambda: len(publisher.acked) > 50, "publishes begin", WITHIN_SECONDS)
        led.kill()
        wait_until(lambda: len(publisher.acked) > 200, "publishes go on", WITHIN_SECONDS)
        led.start()
        count = len(publisher.acked)
        wait_until(lambda: len(publisher.acked) > count + 200, "publishes go on", WITHIN_SECONDS)
    arrives(cluster, "T", publisher)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("storage", ["file", "memory"])
def test_a_stream_grows_and_shrinks_under_publishes(cluster, storage):
    config = {"name": "S", "subjects": ["s.>"], "num_replicas": 1, "storage": storage}
    make(cluster, config)
    with Publisher(cluster.brokers[0], "s.a") as publisher:
        wait_until(lambda: len(publisher.acked) > 100, "publishes begin", WITHIN_SECONDS)
        for replicas in (3, 1, 3, 2, 1):
            with JetStream(cluster.brokers[1].port) as js:
                answer = js.raw("STREAM.UPDATE.S", config | {"num_replicas": replicas})
                assert answer.get("config", {}).get("num_replicas") == replicas, answer
            wait_until(lambda: cluster.current("S", replicas), f"the stream has {replicas} replicas", WITHIN_SECONDS, every=0.1)
            count = len(publisher.acked)
            wait_until(lambda: len(publisher.acked) > count + 50, "publishes go on", WITHIN_SECONDS)
    arrives(cluster, "S", publisher)


@pytest.mark.timeout(180)
def test_a_grown_stream_survives_its_first_server(cluster):
    make(cluster, {"name": "S", "subjects": ["s.>"], "num_replicas": 1})
    first = cluster.leader("S")
    other = next(broker for broker in cluster.brokers if broker is not first)
    with JetStream(other.port) as js:
        wait_heard(js, "s.a")
        js.fill("s.a", 50)
        assert "error" not in js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3})
    wait_until(lambda: cluster.current("S", 3), "all have it", WITHIN_SECONDS)
    first.kill()
    wait_until(lambda: cluster.info("S").get("state", {}).get("messages") == 50, "the others serve it", WITHIN_SECONDS, every=0.2)


@pytest.mark.timeout(180)
def test_a_removed_peer_is_replaced(cluster):
    make(cluster, {"name": "S", "subjects": ["s.>"], "num_replicas": 1})
    before = cluster.leader("S").name
    with JetStream(cluster.brokers[0].port) as js:
        js.fill("s.a", 20)
        assert js.raw("STREAM.PEER.REMOVE.S", {"peer": "nobody"})["error"]["err_code"] == 10040
        assert js.raw("STREAM.PEER.REMOVE.S", {"peer": before}).get("success"), before

    def moved():
        answer = cluster.current("S", 1)
        return answer if answer and answer["cluster"]["leader"] != before else None

    answer = wait_until(moved, "another server keeps the stream", WITHIN_SECONDS, every=0.1)
    assert answer["state"]["messages"] == 20
