"""Mirrors, sources and changes of the number of replicas on three servers, under publishes and with servers killed:
nothing that was acknowledged is lost, nothing is there twice."""

import base64
import threading
import time

import pytest

import binaries
from broker import wait_until
from cluster import Cluster
from jetstream import JetStream

NO_SUITABLE_PEERS = 10005
WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(binaries.weir(), tmp_path_factory.mktemp("weir"))
    try:
        made.start()
        with JetStream(made.brokers[0].port) as js:
            wait_until(lambda: js.raw("STREAM.CREATE.FIRST", {"name": "FIRST", "num_replicas": 3}, within=10).get("error", {}).get("err_code")
                       != NO_SUITABLE_PEERS, "the first stream is placed", 20, every=0.3)
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def empty(cluster):
    yield
    for broker in cluster.brokers:
        if not broker.running:
            broker.start()
    cluster.wait_formed(60)

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


def info(cluster, stream):
    """STREAM.INFO through whichever server answers."""
    for broker in cluster.running():
        try:
            with JetStream(broker.port) as js:
                answer = js.raw(f"STREAM.INFO.{stream}", within=2)
                if "error" not in answer and "state" in answer:
                    return answer
        except (AssertionError, OSError):
            continue
    return {}


def payloads(cluster, stream):
    """Every message's data, in order."""
    cluster.wait_formed(60)
    state = info(cluster, stream)["state"]
    found = []
    with JetStream(cluster.named(info(cluster, stream)["cluster"]["leader"]).port) as js:
        for sequence in range(state["first_seq"], state["last_seq"] + 1):
            message = js.raw(f"STREAM.MSG.GET.{stream}", {"seq": sequence}).get("message")
            if message:
                found.append(base64.b64decode(message["data"]).decode())
    return found


def make(cluster, config, within=15):
    with JetStream(cluster.running()[0].port) as js:
        answer = js.raw(f"STREAM.CREATE.{config['name']}", config, within=within)
        assert "error" not in answer, answer


def arrives(cluster, stream, publisher):
    """All that was acknowledged is there, once, in order."""
    wanted = publisher.acked
    wait_until(lambda: info(cluster, stream).get("state", {}).get("messages", 0) >= len(wanted), f"{stream} has {len(wanted)} messages", WITHIN_SECONDS, every=0.2)
    found = payloads(cluster, stream)
    assert len(found) == len(set(found)), "messages are there twice"
    missing = set(wanted) - set(found)
    assert not missing, f"{len(missing)} of {len(wanted)} are missing: {sorted(missing)[:5]}"
    assert found == sorted(found, key=int), "the order is broken"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("kind", ["mirror", "sources"])
def test_nothing_is_lost_or_doubled_when_leaders_are_killed(cluster, kind, replicas):
    make(cluster, {"name": "O", "subjects": ["o.>"], "num_replicas": 3})
    make(cluster, {"name": "T", "num_replicas": replicas} | ({"mirror": {"name": "O"}} if kind == "mirror" else {"sources": [{"name": "O"}]}))
    wait_until(lambda: info(cluster, "T"), "T is led")
    led = info(cluster, "T")["cluster"]["leader"]
    publisher_at = next(broker for broker in cluster.brokers if broker.name != led)
    with Publisher(publisher_at, "o.a") as publisher:
        time.sleep(0.5)
        cluster.named(led).kill()
        wait_until(lambda: len(publisher.acked) > 200, "publishes go on", WITHIN_SECONDS)
        cluster.named(led).start()
        count = len(publisher.acked)
        wait_until(lambda: len(publisher.acked) > count + 200, "publishes go on", WITHIN_SECONDS)
    arrives(cluster, "T", publisher)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("storage", ["file", "memory"])
def test_a_stream_grows_and_shrinks_under_publishes(cluster, storage):
    config = {"name": "S", "subjects": ["s.>"], "num_replicas": 1, "storage": storage}
    make(cluster, config)
    with Publisher(cluster.brokers[0], "s.a") as publisher:
        wait_until(lambda: len(publisher.acked) > 100, "publishes begin", WITHIN_SECONDS)
        for replicas in (3, 1, 3, 2, 1):
            with JetStream(cluster.brokers[1].port) as js:
                answer = js.raw("STREAM.UPDATE.S", config | {"num_replicas": replicas}, within=20)
                assert answer.get("config", {}).get("num_replicas") == replicas, answer

            def has_changed(replicas=replicas):
                peers = info(cluster, "S").get("cluster", {}).get("replicas", [])
                return len(peers) == replicas - 1 and all(peer["current"] for peer in peers)

            wait_until(has_changed, f"the stream has {replicas} replicas", WITHIN_SECONDS, every=0.1)
            count = len(publisher.acked)
            wait_until(lambda: len(publisher.acked) > count + 50, "publishes go on", WITHIN_SECONDS)
    arrives(cluster, "S", publisher)


@pytest.mark.timeout(120)
def test_a_grown_stream_survives_its_first_server(cluster):
    make(cluster, {"name": "S", "subjects": ["s.>"], "num_replicas": 1})
    first = info(cluster, "S")["cluster"]["leader"]
    other = next(broker for broker in cluster.brokers if broker.name != first)
    with JetStream(other.port) as js:
        js.fill("s.a", 50)
        assert "error" not in js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3}, within=20)
    wait_until(lambda: len([peer for peer in info(cluster, "S")["cluster"].get("replicas", []) if peer["current"]]) == 2, "all have it", WITHIN_SECONDS)
    cluster.named(first).kill()
    wait_until(lambda: info(cluster, "S").get("state", {}).get("messages") == 50, "the others serve it", WITHIN_SECONDS, every=0.2)


@pytest.mark.timeout(120)
def test_a_removed_peer_is_replaced(cluster):
    make(cluster, {"name": "S", "subjects": ["s.>"], "num_replicas": 1})
    before = info(cluster, "S")["cluster"]["leader"]
    with JetStream(cluster.brokers[0].port) as js:
        js.fill("s.a", 20)
        assert js.raw("STREAM.PEER.REMOVE.S", {"peer": "nobody"})["error"]["err_code"] == 10040
        assert js.raw("STREAM.PEER.REMOVE.S", {"peer": before}, within=10).get("success"), before

    def has_moved():
        answer = info(cluster, "S")
        return answer and answer["cluster"]["leader"] not in ("", before) and not answer["cluster"].get("replicas")

    wait_until(has_moved, "another server keeps the stream", WITHIN_SECONDS, every=0.1)
    assert info(cluster, "S")["state"]["messages"] == 20
