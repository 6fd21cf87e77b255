"""Publishing to a stream: acks, deduplication, expectations, limits: as nats-server answers them."""

import pytest

from broker import WITH_JETSTREAM, wait_until
from steps import converse, fill, pub

S = {"name": "S", "subjects": ["s.>"]}
INFO = ("STREAM.INFO.S", {"subjects_filter": ">"})


def create(**more):
    return ("STREAM.CREATE.S", S | more)


CASES = {
    "an ack names stream and sequence": [create(), pub("s.a", "x"), pub("s.b", "y")],
    "no stream means no responders": [pub("s.a", "x")],
    "headers are stored": [create(), pub("s.a", "x", Color="red"), ("STREAM.MSG.GET.S", {"seq": 1})],
    "file sizes are counted as nats-server does": [create(), pub("s.a", "12345"), pub("s.a", "x", Color="red"), INFO],
    "memory sizes are counted as nats-server does": [create(storage="memory"), pub("s.a", "12345"), pub("s.a", "x", Color="red"), INFO],
    "a message above max_msg_size is refused": [create(max_msg_size=5), pub("s.a", "12345"), pub("s.a", "123456"), INFO],
    "headers count towards max_msg_size": [create(max_msg_size=20), pub("s.a", "x", Color="red"), INFO],
    "max_msgs removes the oldest": [create(max_msgs=2), fill("s.a", 4), INFO],
    "max_bytes removes the oldest": [create(max_bytes=100), fill("s.a", 5), INFO],
    "max_msgs_per_subject removes the subject's oldest": [create(max_msgs_per_subject=2), fill("s.a", 4), fill("s.b", 1), INFO],
    "a message above max_bytes is refused or not alike": [create(max_bytes=50), pub("s.a", "x" * 200), INFO],
    "discard new refuses by bytes": [create(max_bytes=100, discard="new"), pub("s.a", "x"), pub("s.a", "x"), pub("s.a", "x"), pub("s.a", "x"), INFO],
    "a duplicate id is said and not stored": [create(), pub("s.a", "x", Nats_Msg_Id="1"), pub("s.a", "y", Nats_Msg_Id="1"),
                                              pub("s.b", "z", Nats_Msg_Id="1"), pub("s.a", "w", Nats_Msg_Id="2"), INFO],
    "an empty id is no id": [create(), pub("s.a", "x", Nats_Msg_Id=""), pub("s.a", "y", Nats_Msg_Id=""), INFO],
    "a duplicate is known after a delete": [create(), pub("s.a", "x", Nats_Msg_Id="1"), ("STREAM.MSG.DELETE.S", {"seq": 1}), pub("s.a", "x", Nats_Msg_Id="1"), INFO],
    "a duplicate is known after a purge or not alike": [create(), pub("s.a", "x", Nats_Msg_Id="1"), ("STREAM.PURGE.S",), pub("s.a", "x", Nats_Msg_Id="1"), INFO],
    "an expected stream matches": [create(), pub("s.a", "x", Nats_Expected_Stream="S")],
    "an expected stream differs": [create(), pub("s.a", "x", Nats_Expected_Stream="T"), INFO],
    "an expected last sequence matches": [create(), pub("s.a", "x"), pub("s.a", "y", Nats_Expected_Last_Sequence="1")],
    "an expected last sequence differs": [create(), pub("s.a", "x"), pub("s.a", "y", Nats_Expected_Last_Sequence="7"), INFO],
    "an expected last sequence of zero on an empty stream": [create(), pub("s.a", "x", Nats_Expected_Last_Sequence="0")],
    "an expected last sequence of zero on a filled stream": [create(), pub("s.a", "x"), pub("s.a", "y", Nats_Expected_Last_Sequence="0")],
    "an expected last sequence that is no number": [create(), pub("s.a", "x"), pub("s.a", "y", Nats_Expected_Last_Sequence="many"), INFO],
    "an expected last sequence of the subject matches": [create(), pub("s.a", "x"), pub("s.b", "y"), pub("s.a", "z", Nats_Expected_Last_Subject_Sequence="1")],
    "an expected last sequence of the subject differs": [create(), pub("s.a", "x"), pub("s.b", "y"), pub("s.a", "z", Nats_Expected_Last_Subject_Sequence="2"), INFO],
    "an expected last sequence of a new subject is zero": [create(), pub("s.a", "x"), pub("s.b", "z", Nats_Expected_Last_Subject_Sequence="0")],
    "an expected last sequence of another subject": [create(), pub("s.a", "x"), pub("s.b", "y", Nats_Expected_Last_Subject_Sequence="1", Nats_Expected_Last_Subject_Sequence_Subject="s.a")],
    "an expected last sequence of a wildcard": [create(), pub("s.a", "x"), pub("s.b", "y", Nats_Expected_Last_Subject_Sequence="1", Nats_Expected_Last_Subject_Sequence_Subject="s.>")],
    "an expected last message id matches": [create(), pub("s.a", "x", Nats_Msg_Id="1"), pub("s.a", "y", Nats_Msg_Id="2", Nats_Expected_Last_Msg_Id="1")],
    "an expected last message id differs": [create(), pub("s.a", "x", Nats_Msg_Id="1"), pub("s.a", "y", Nats_Expected_Last_Msg_Id="9"), INFO],
    "a rollup of the subject removes what was": [create(allow_rollup_hdrs=True), fill("s.a", 2), fill("s.b", 1), pub("s.a", "sum", Nats_Rollup="sub"), INFO],
    "a rollup of all removes what was": [create(allow_rollup_hdrs=True), fill("s.a", 2), fill("s.b", 1), pub("s.a", "sum", Nats_Rollup="all"), INFO],
    "a rollup that is not allowed is refused": [create(), fill("s.a", 2), pub("s.a", "sum", Nats_Rollup="sub"), INFO],
    "an unknown rollup is refused": [create(allow_rollup_hdrs=True), fill("s.a", 2), pub("s.a", "sum", Nats_Rollup="some"), INFO],
    "an interest stream without consumers keeps nothing": [create(retention="interest"), pub("s.a", "x"), INFO],
    "a subject outside the stream has no responders": [create(), pub("t.a", "x")],
    "a ttl that is not allowed is refused": [create(), pub("s.a", "x", Nats_TTL="1s")],
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_publish(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


def test_a_publish_without_reply_is_stored(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.wire.publish("s.a", "x")
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 1, "the message is stored")
        return js.api("STREAM.MSG.GET.S", {"seq": 1})


def test_no_ack_streams_store_and_say_nothing(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"no_ack": True})
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish("s.a", "x", inbox)
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 1, "the message is stored")
        return [message.payload for message in js.quiet()]


def test_a_plain_subscriber_hears_what_a_stream_stores(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.wire.subscribe("s.>")
        js.wire.publish("s.a", "x")
        message = js.wire.read_message()
        return message.subject, message.payload


def test_max_age_removes_in_time(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"max_age": 300_000_000})
        js.fill("s.a", 3)
        return wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 0, "the messages are gone", 5) and \
            js.api("STREAM.INFO.S")


def test_a_duplicate_is_forgotten_after_its_window(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"duplicate_window": 200_000_000})
        first = js.publish("s.a", "x", {"Nats-Msg-Id": "1"})
        js.quiet(0.6)
        return first, js.publish("s.a", "x", {"Nats-Msg-Id": "1"})


def test_many_publishes_at_once_are_acked_in_order(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        for number in range(500):
            js.wire.publish("s.a", str(number), inbox)
        return [js.wire.read_message().json() for _ in range(500)]
