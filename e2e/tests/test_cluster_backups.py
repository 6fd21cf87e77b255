"""Backups of replicated streams: taken and given back through any server, whole after a change of leaders, and nothing is
left of a restore whose server was killed."""

import time

import pytest

import backups
import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from cluster import Cluster
from jetstream import JetStream

S = {"name": "S", "subjects": ["s.>"]}
NO_STREAM = 10059
WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(binaries.weir(), tmp_path_factory.mktemp("weir"))
    try:
        made.start()
        with JetStream(made.brokers[0].port) as js:
            wait_until(lambda: "error" not in js.raw("STREAM.CREATE.FIRST", {"name": "FIRST", "num_replicas": 3}, within=10),
                       "the first stream is placed", 30, every=0.3)
            js.raw("STREAM.DELETE.FIRST")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    broker = Broker(binaries.reference(), tmp_path_factory.mktemp("reference"), WITH_JETSTREAM)
    try:
        yield broker.start()
    finally:
        broker.stop()


def asked(js, subject, body=None):
    """The answer, or nothing where nobody answers: a leader is being elected."""
    try:
        return js.raw(subject, body, within=2)
    except AssertionError:
        return {}


def filled(js, replicas):
    answer = js.raw("STREAM.CREATE.S", S | {"num_replicas": replicas}, within=10)
    assert "error" not in answer, answer
    js.fill("s.a", 20)
    js.raw("STREAM.MSG.DELETE.S", {"seq": 3})
    js.raw("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {
        "durable_name": "C", "ack_policy": "explicit", "ack_wait": 600 * 10**9}})
    got = js.pull("S", "C", {"batch": 5}, 5)
    js.ack(got[0])
    js.ack(got[3])


def same(before, after, replicas):
    """Equal but for the number of replicas."""
    for content in (before, after):
        content["config"].pop("num_replicas")
        for consumer in content["consumers"].values():
            consumer["config"].pop("num_replicas", None)
    assert after == before
    assert replicas


@pytest.mark.parametrize("server", range(3))
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_stream_comes_back_through_any_server(cluster, server, replicas):
    with JetStream(cluster.brokers[server].port) as js:
        filled(js, replicas)
        before = backups.content(js, "S")
        taken = backups.take(js, "S", chunk_size=1024)
        js.raw("STREAM.DELETE.S")
        restored = backups.restore(js, taken, chunk=500)
        assert "error" not in restored, restored
        try:
            same(before, backups.content(js, "S"), replicas)
            assert js.publish("s.a", "next")["seq"] == 21
            if replicas == 3:
                for _ in range(3):
                    js.raw("STREAM.LEADER.STEPDOWN.S")

                    wait_until(lambda: "state" in asked(js, "STREAM.INFO.S"), "the stream has a leader again", WITHIN_SECONDS, every=0.2)
                    assert js.raw("STREAM.INFO.S")["state"]["messages"] == before["state"]["messages"] + 1
                    assert js.raw("CONSUMER.INFO.S.C")["num_ack_pending"] == 3
        finally:
            js.clear()


def test_replicated_streams_go_to_nats_server_and_back(cluster, reference):
    with JetStream(cluster.brokers[1].port) as js, JetStream(reference.port) as other:
        filled(js, 3)
        before = backups.content(js, "S")
        taken = backups.take(js, "S")
        js.raw("STREAM.DELETE.S")
        there = backups.restore(other, taken, num_replicas=1)
        assert "error" not in there, there
        same(before, backups.content(other, "S"), 1)
        back = backups.take(other, "S")
        again = backups.restore(js, back, num_replicas=3)
        assert "error" not in again, again
        try:
            after = backups.content(js, "S")
            after["config"].pop("num_replicas")
            for consumer in after["consumers"].values():
                consumer["config"].pop("num_replicas", None)
            assert after == before
        finally:
            js.clear()
            other.clear()


def leader_of(cluster):
    for broker in cluster.running():
        meta = broker.get_json("/jsz").get("meta_cluster") or {}
        if meta.get("leader"):
            return cluster.named(meta["leader"])
    raise AssertionError("nobody leads")


def test_nothing_is_left_of_a_restore_whose_server_was_killed(cluster):
    with JetStream(cluster.brokers[0].port) as js:
        js.raw("STREAM.CREATE.S", S | {"num_replicas": 3}, within=10)
        payload = "x" * 2000
        for _ in range(2000):
            js.wire.publish("s.a", payload)
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 2000, "all are stored", WITHIN_SECONDS)
        taken = backups.take(js, "S")
        js.raw("STREAM.DELETE.S")
    leader = leader_of(cluster)
    others = [broker for broker in cluster.brokers if broker is not leader]
    with JetStream(others[0].port) as js:
        begun = backups.begin(js, "S", taken.answer["config"], taken.answer["state"])
        for at in range(0, len(taken.data), 65_536):
            js.wire.request(begun["deliver_subject"], taken.data[at:at + 65_536])
        # The end, and no wait for what comes of it.
        js.wire.publish(begun["deliver_subject"], b"", js.wire.inbox())
        js.wire.sync()
        leader.kill()
        leader.start()
        cluster.wait_formed(WITHIN_SECONDS)

        def is_settled():
            """There is all of it, or nothing."""
            info = asked(js, "STREAM.INFO.S")
            if info.get("error", {}).get("err_code") == NO_STREAM:
                return "state" in asked(js, "STREAM.CREATE.S", S | {"num_replicas": 3})
            return info.get("state", {}).get("messages") == 2000

        wait_until(is_settled, "the stream is there whole, or can be made anew", WITHIN_SECONDS, every=0.5)
        js.clear()


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 0.5])
def test_a_server_on_its_own_has_a_restored_stream_whole_or_not_at_all(tmp_path, seconds):
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM).start()
    try:
        with JetStream(broker.port) as js:
            js.raw("STREAM.CREATE.S", S)
            for _ in range(3000):
                js.wire.publish("s.a", "x" * 2000)
            wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 3000, "all are stored", WITHIN_SECONDS)
            taken = backups.take(js, "S")
            js.raw("STREAM.DELETE.S")
            begun = backups.begin(js, "S", taken.answer["config"])
            for at in range(0, len(taken.data), 65_536):
                js.wire.request(begun["deliver_subject"], taken.data[at:at + 65_536])
            js.wire.publish(begun["deliver_subject"], b"", js.wire.inbox())
            js.wire.sync()
            time.sleep(seconds)
        broker.kill()
        broker.start()
        with JetStream(broker.port) as js:
            info = js.raw("STREAM.INFO.S")
            if "error" not in info:
                assert info["state"]["messages"] == 3000
                return
            assert info["error"]["err_code"] == NO_STREAM
            wait_until(lambda: "error" not in js.raw("STREAM.RESTORE.S", {"config": S}), "the name is free", WITHIN_SECONDS)
            streams = broker.store / "jetstream" / "streams"
            wait_until(lambda: not streams.exists() or not list(streams.iterdir()), "no files are left", WITHIN_SECONDS)
    finally:
        broker.stop()


def test_a_server_on_its_own_forgets_a_restore_it_was_killed_in(tmp_path):
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM).start()
    try:
        with JetStream(broker.port) as js:
            js.raw("STREAM.CREATE.S", S)
            js.fill("s.a", 50)
            taken = backups.take(js, "S")
            js.raw("STREAM.DELETE.S")
            begun = backups.begin(js, "S", taken.answer["config"])
            js.wire.request(begun["deliver_subject"], taken.data[:100])
        broker.kill()
        broker.start()
        with JetStream(broker.port) as js:
            assert js.raw("STREAM.INFO.S")["error"]["err_code"] == NO_STREAM
            assert not list((broker.store / "jetstream" / "restore").iterdir())
            assert backups.restore(js, taken)["state"]["messages"] == 50
    finally:
        broker.stop()
