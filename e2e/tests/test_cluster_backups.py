"""Backups of replicated streams: taken and given back through any server, whole after a change of leaders, and nothing is
left of a restore whose server was killed."""

import copy
import time

import pytest

import backups
import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from cluster import create, take, wait_heard
from jetstream import JetStream, asked

S = {"name": "S", "subjects": ["s.>"]}
NO_STREAM = 10059
WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(start_clusters):
    [made] = start_clusters(binaries.weir())
    return made


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    broker = Broker(binaries.reference(), tmp_path_factory.mktemp("reference"), WITH_JETSTREAM)
    try:
        yield broker.start()
    finally:
        broker.stop()


def answered(js, subject):
    """The answer of whoever leads, nothing of another and where nobody does."""
    answer = asked(js, subject)
    return answer if "error" not in answer else None


def filled(js, replicas):
    create(js, S | {"num_replicas": replicas})
    js.fill("s.a", 20)
    js.raw("STREAM.MSG.DELETE.S", {"seq": 3})
    js.raw("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {
        "durable_name": "C", "ack_policy": "explicit", "ack_wait": 600 * 10**9}})
    got = take(js, "S", "C", 5)
    js.ack(got[0])
    js.ack(got[3])


def alike(before, after):
    """Equal but for the number of replicas."""
    for content in (before, after):
        content["config"].pop("num_replicas")
        for consumer in content["consumers"].values():
            consumer["config"].pop("num_replicas", None)
    assert after == before


@pytest.mark.timeout(180)
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
            alike(before, backups.content(js, "S"))
            wait_heard(js, "s.a")
            assert js.publish("s.a", "next")["seq"] == 21
            if replicas == 3:
                for _ in range(3):
                    js.raw("STREAM.LEADER.STEPDOWN.S")
                    info = wait_until(lambda: answered(js, "STREAM.INFO.S"), "the stream has a leader again", WITHIN_SECONDS, every=0.2)
                    assert info["state"]["messages"] == before["state"]["messages"] + 1
                    info = wait_until(lambda: answered(js, "CONSUMER.INFO.S.C"), "the consumer has one", WITHIN_SECONDS, every=0.2)
                    assert info["num_ack_pending"] == 3
        finally:
            js.clear()


@pytest.mark.timeout(180)
def test_replicated_streams_go_to_nats_server_and_back(cluster, reference):
    with JetStream(cluster.brokers[1].port) as js, JetStream(reference.port) as other:
        filled(js, 3)
        before = backups.content(js, "S")
        taken = backups.take(js, "S")
        js.raw("STREAM.DELETE.S")
        there = backups.restore(other, taken, num_replicas=1)
        assert "error" not in there, there
        alike(copy.deepcopy(before), backups.content(other, "S"))
        back = backups.take(other, "S")
        again = backups.restore(js, back, num_replicas=3)
        assert "error" not in again, again
        try:
            alike(before, backups.content(js, "S"))
        finally:
            js.clear()
            other.clear()


@pytest.mark.timeout(240)
def test_nothing_is_left_of_a_restore_whose_server_was_killed(cluster):
    with JetStream(cluster.brokers[0].port) as js:
        create(js, S | {"num_replicas": 3})
        payload = "x" * 2000
        for _ in range(2000):
            js.wire.publish("s.a", payload)
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 2000, "all are stored", WITHIN_SECONDS)
        taken = backups.take(js, "S")
        js.raw("STREAM.DELETE.S")
    leader = cluster.named(wait_until(cluster.led, "there is a meta leader"))
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


@pytest.mark.timeout(180)
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
