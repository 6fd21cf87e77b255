"""Errors of JetStream that only something unusual gives: a full server, a counter whose value is none, a durable consumer of
an origin that is not made for it."""

import pytest

from backups import restore, take
from broker import STANDALONE, wait_until
from jetstream import JetStream
from origins import until
from steps import converse, pub

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 1MB, max_file_store: 64MB }
"""
CHUNK = "x" * 65_536
DELIVER = {"name": "C", "deliver_subject": "deliver.here"}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG)


def test_a_full_server_takes_no_messages_until_there_is_room(pair):
    def use(broker):
        with JetStream(broker.port) as js:
            try:
                assert "error" not in js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "storage": "memory"})
                refused = wait_until(lambda: js.publish("s.a", CHUNK).get("error"), "the server is full")
                js.raw("STREAM.PURGE.S")
                wait_until(lambda: "seq" in js.publish("s.a"), "the server has room again")
                return refused
            finally:
                js.clear()

    pair.same(use)


def broken_counter(*then):
    """A counter stream whose subjects' last messages are no counter's: it came out of another stream's backup."""
    def use(broker):
        with JetStream(broker.port) as js:
            try:
                assert "error" not in js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
                js.publish("s.text", "twelve")
                js.publish("s.sources", '{"val":"12"}', [("Nats-Counter-Sources", "none")])
                js.publish("s.number", '{"val":12}')
                js.publish("s.whole", '{"val":"12"}')
                backup = take(js, "S")
                js.raw("STREAM.DELETE.S")
                answer = restore(js, backup, allow_msg_counter=True)
                assert "error" not in answer, answer
                return [step(js) for step in then]
            finally:
                js.clear()

    return use


BROKEN = [pub(f"s.{name}", Nats_Incr="1") for name in ("text", "sources", "number", "whole", "new")]


def test_an_increment_of_what_is_no_counter_is_refused(pair):
    pair.same(broken_counter(*BROKEN))


def consumer(**config):
    return ("CONSUMER.CREATE.O.C", {"stream_name": "O", "config": {"durable_name": "C", "name": "C", "deliver_subject": DELIVER["deliver_subject"]} | config})


ORIGIN = ("STREAM.CREATE.O", {"name": "O", "subjects": ["o.>"]})
MIRROR = ("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "O", "consumer": DELIVER}})
SOURCING = ("STREAM.CREATE.M", {"name": "M", "sources": [{"name": "O", "consumer": DELIVER}]})
ORIGINS = {
    "a mirror's durable consumer without flow control acks": (10214, [ORIGIN, consumer(ack_policy="none"), MIRROR]),
    "a mirror's durable consumer with explicit acks": (10214, [ORIGIN, consumer(ack_policy="explicit"), MIRROR]),
    "a source's durable consumer without flow control acks": (10217, [ORIGIN, consumer(ack_policy="none"), SOURCING]),
    "a source's durable consumer with explicit acks": (10217, [ORIGIN, consumer(ack_policy="explicit"), SOURCING]),
}


def error_of(js):
    info = js.raw("STREAM.INFO.M")
    return (info.get("mirror") or info["sources"][0]).get("error")


@pytest.mark.parametrize("case", ORIGINS)
def test_an_origin_that_cannot_be_followed_is_told(pair, case):
    code, steps = ORIGINS[case]
    pair.same(lambda broker: converse(broker.port, [*steps, until("M", error=code), error_of]))
