"""Damaged files under a real broker: a single replica says what it lost and serves the rest; one of three leaves its
group, gets everything from the others, and says so.
"""

import pytest

from broker import wait_until
from jetstream import JetStream
from numbered import MESSAGES, await_replicas, flip, journal, publish, segment, stream_state
from wire import Wire

RENEWED_WITHIN_SECONDS = 90


def health(broker):
    try:
        return broker.get_json("/healthz")
    except (AssertionError, OSError) as refused:
        return {"error": str(refused)}


@pytest.mark.timeout(120)
def test_a_single_replica_names_the_unreadable_message_and_serves_the_rest(single):
    single.stop()
    flip(segment(single), b"message 7 ")
    single.start()
    wait_until(lambda: "messages 7 are unreadable" in str(health(single)), "healthz names the message")
    assert "messages 7 are unreadable" in single.log_tail()
    with JetStream(single.port) as js:
        for number in range(1, MESSAGES + 1):
            answer = js.raw("STREAM.MSG.GET.LEDGER", {"seq": number})
            assert ("error" in answer) == (number == 7), answer
        assert js.publish("ledger.0", "after").get("seq") == MESSAGES + 1


@pytest.mark.timeout(120)
def test_a_single_replica_with_a_damaged_log_serves_what_came_before_and_takes_no_more(single):
    single.kill()
    flip(journal(single, b"message 40 "), b"message 40 ")
    single.start()
    assert "LEDGER" in str(health(single)) and "unreadable" in str(health(single))
    with JetStream(single.port) as js:
        state = js.raw("STREAM.INFO.LEDGER")["state"]
        assert state["last_seq"] == 39, state
        assert "error" not in js.raw("STREAM.MSG.GET.LEDGER", {"seq": 39})
        assert js.publish("ledger.0", "refused")["error"]["err_code"] == 10077


@pytest.mark.timeout(300)
@pytest.mark.parametrize("damaged", ["journal", "segment"])
def test_a_damaged_replica_of_three_is_made_anew_from_the_others(trio, damaged):
    witness, victim = trio.brokers[:2]
    if damaged == "journal":
        victim.kill()
        flip(journal(victim, b"message 20 "), b"message 20 ")
    else:
        victim.stop()
        flip(segment(victim), b"message 20 ")
    victim.start()
    wait_until(lambda: "is made anew from the others" in victim.log(), "the replica leaves its group", RENEWED_WITHIN_SECONDS)

    def whole():
        state = stream_state(witness.port)
        return state and state[3] and state[2] and "ok" in str(health(victim))

    wait_until(whole, "the replica is current again", RENEWED_WITHIN_SECONDS, every=0.3)
    publish(witness.port, MESSAGES + 1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("damaged", ["journal", "checkpoint"])
def test_a_damaged_meta_state_of_one_of_three_is_made_anew_while_core_nats_is_served(trio, damaged):
    witness, victim = trio.brokers[:2]
    if damaged == "journal":
        victim.kill()
        # Only the stream's creation names its subjects.
        flip(journal(victim, b"ledger.*"), b"ledger.*")
    else:
        victim.stop()
        for copy in victim.store.rglob("meta/checkpoint*"):
            copy.write_bytes(copy.read_bytes()[:-3] + b"xyz")
    victim.start()
    with Wire(victim.port) as wire:
        wire.subscribe("core.>")
        wire.publish("core.a", "served")
        assert wire.read_message().payload == b"served"
    wait_until(lambda: "meta state of JetStream here is damaged" in victim.log(), "the damage is named")
    wait_until(lambda: "is made anew from the other servers" in victim.log(), "it leaves the group", RENEWED_WITHIN_SECONDS)
    wait_until(lambda: "ok" in str(health(victim)), "it is healthy again", RENEWED_WITHIN_SECONDS, every=0.2)
    await_replicas(witness.port)
    publish(victim.port, MESSAGES + 1)
