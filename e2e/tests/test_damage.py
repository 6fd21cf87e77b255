"""Damaged files under a real broker: a single replica says what it lost and serves the rest; one of three leaves its
group, gets everything from the others, and says so.
"""

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from cluster import Cluster
from jetstream import JetStream
from wire import Wire
from test_crash import attempt, create_stream, stream_state

MESSAGES = 60
RENEWED_WITHIN_SECONDS = 60


def publish(port, first=1):
    with JetStream(port) as js:
        for number in range(first, first + MESSAGES):
            assert js.publish("ledger.0", f"message {number} ".ljust(200, ".")).get("seq") == number


def flip(path, marker):
    """One bit of the file, within the text of a message."""
    content = bytearray(path.read_bytes())
    at = content.index(marker)
    content[at] ^= 4
    path.write_bytes(content)


def segment(broker):
    return next(broker.store.rglob("*.segment"))


def health(broker):
    try:
        return broker.get_json("/healthz")
    except (AssertionError, OSError) as refused:
        return {"error": str(refused)}


@pytest.mark.timeout(120)
def test_a_single_replica_names_the_unreadable_message_and_serves_the_rest(tmp_path):
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, "single")
    try:
        broker.start()
        create_stream(broker.port, 1)
        publish(broker.port)
        broker.stop()
        flip(segment(broker), b"message 7 ")
        broker.start()
        wait_until(lambda: "messages 7 are unreadable" in str(health(broker)), "healthz names the message", 20)
        assert "messages 7 are unreadable" in broker.log_tail()
        with JetStream(broker.port) as js:
            for number in range(1, MESSAGES + 1):
                answer = js.raw("STREAM.MSG.GET.LEDGER", {"seq": number})
                assert ("error" in answer) == (number == 7), answer
            assert js.publish("ledger.0", "after").get("seq") == MESSAGES + 1
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{broker.log_tail()}") from None
    finally:
        broker.stop()


@pytest.mark.timeout(120)
def test_a_single_replica_with_a_damaged_log_serves_what_came_before_and_takes_no_more(tmp_path):
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, "single")
    try:
        broker.start()
        create_stream(broker.port, 1)
        publish(broker.port)
        broker.kill()
        flip(next(path for path in broker.store.rglob("*.journal") if b"message 40 " in path.read_bytes()), b"message 40 ")
        broker.start()
        assert "LEDGER" in str(health(broker)) and "unreadable" in str(health(broker))
        with JetStream(broker.port) as js:
            state = js.raw("STREAM.INFO.LEDGER")["state"]
            assert state["last_seq"] == 39, state
            assert "error" not in js.raw("STREAM.MSG.GET.LEDGER", {"seq": 39})
            assert js.publish("ledger.0", "refused")["error"]["err_code"] == 10077
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{broker.log_tail()}") from None
    finally:
        broker.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("damaged", ["journal", "segment"])
def test_a_damaged_replica_of_three_is_made_anew_from_the_others(tmp_path, damaged):
    cluster = Cluster(binaries.weir(), tmp_path)
    try:
        cluster.start()
        create_stream(cluster.brokers[0].port, 3)
        publish(cluster.brokers[0].port)
        victim, witness = cluster.brokers[1], cluster.brokers[0]
        wait_until(lambda: (attempt(lambda: stream_state(witness.port)) or [0] * 4)[3], "all replicas are current", 20, every=0.2)
        if damaged == "journal":
            victim.kill()
            flip(next(path for path in victim.store.rglob("*.journal") if b"message 20 " in path.read_bytes()), b"message 20 ")
        else:
            victim.stop()
            flip(segment(victim), b"message 20 ")
        victim.start()
        wait_until(lambda: "is made anew from the others" in victim.log_tail(), "the replica leaves its group", RENEWED_WITHIN_SECONDS)

        def whole():
            state = attempt(lambda: stream_state(witness.port))
            return state and state[3] and state[2] and "ok" in str(health(victim))

        wait_until(whole, "the replica is current again", RENEWED_WITHIN_SECONDS, every=0.3)
        publish(witness.port, MESSAGES + 1)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{cluster.logs()}") from None
    finally:
        cluster.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("damaged", ["journal", "checkpoint"])
def test_a_damaged_meta_state_of_one_of_three_is_made_anew_while_core_nats_is_served(tmp_path, damaged):
    cluster = Cluster(binaries.weir(), tmp_path)
    try:
        cluster.start()
        create_stream(cluster.brokers[0].port, 3)
        publish(cluster.brokers[0].port)
        victim, witness = cluster.brokers[1], cluster.brokers[0]
        wait_until(lambda: (attempt(lambda: stream_state(witness.port)) or [0] * 4)[3], "all replicas are current", 20, every=0.2)
        if damaged == "journal":
            victim.kill()
            # Only the stream's creation names its subjects.
            flip(next(path for path in victim.store.rglob("*.journal") if b"ledger.*" in path.read_bytes()), b"ledger.*")
        else:
            victim.stop()
            for copy in victim.store.rglob("meta/checkpoint*"):
                copy.write_bytes(copy.read_bytes()[:-3] + b"xyz")
        victim.start()
        with Wire(victim.port) as wire:
            wire.subscribe("core.>")
            wire.publish("core.a", "served")
            assert wire.read_message(5).payload == b"served"
        wait_until(lambda: "meta state of JetStream here is damaged" in victim.log(), "the damage is named", 10)
        wait_until(lambda: "is made anew from the other servers" in victim.log(), "it leaves the group", RENEWED_WITHIN_SECONDS)
        wait_until(lambda: "ok" in str(health(victim)), "it is healthy again", RENEWED_WITHIN_SECONDS, every=0.2)
        wait_until(lambda: (attempt(lambda: stream_state(witness.port)) or [0] * 4)[3], "all replicas are current again", 20, every=0.2)
        publish(victim.port, MESSAGES + 1)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{cluster.logs()}") from None
    finally:
        cluster.stop()
