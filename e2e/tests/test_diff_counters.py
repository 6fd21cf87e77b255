"""Counters (ADR-49): configuration, increments, what they exclude, what is stored: as nats-server answers."""

import pytest

from broker import WITH_JETSTREAM
from steps import converse, direct, pub

C = {"name": "C", "subjects": ["c.>"], "allow_msg_counter": True, "allow_direct": True}
INFO = ("STREAM.INFO.C", {"subjects_filter": ">"})
BIG = "9" * 60


def create(**more):
    return ("STREAM.CREATE.C", C | more)


def get(seq):
    return ("STREAM.MSG.GET.C", {"seq": seq})


CASES = {
    "an increment is added and said": [create(), pub("c.a", Nats_Incr="1"), pub("c.a", Nats_Incr="+41"), pub("c.a", Nats_Incr="-50"), get(1), get(3), INFO],
    "subjects count alone": [create(), pub("c.a", Nats_Incr="1"), pub("c.b", Nats_Incr="5"), pub("c.a", Nats_Incr="2"), direct("C.c.a"), direct("C.c.b")],
    "numbers have no end": [create(), pub("c.a", Nats_Incr=BIG), pub("c.a", Nats_Incr="1"), pub("c.a", Nats_Incr=f"-{BIG}0"), get(3)],
    "an increment of zero reads the value": [create(), pub("c.a", Nats_Incr="7"), pub("c.a", Nats_Incr="0")],
    "leading zeros are nothing": [create(), pub("c.a", Nats_Incr="007"), get(1)],
    "other headers stay": [create(), pub("c.a", Nats_Incr="1", Color="red"), get(1)],
    "an increment has no body": [create(), pub("c.a", "x", Nats_Incr="1"), INFO],
    "a counter takes nothing but increments": [create(), pub("c.a", "x"), pub("c.a", "x", Color="red"), pub("c.a"), INFO],
    "an increment is for counters": [("STREAM.CREATE.C", {"name": "C", "subjects": ["c.>"]}), pub("c.a", Nats_Incr="1"), pub("c.a", "x", Nats_Incr="x"), INFO],
    "a duplicate increment is not added": [create(), pub("c.a", Nats_Incr="1", Nats_Msg_Id="1"), pub("c.a", Nats_Incr="1", Nats_Msg_Id="1"), pub("c.a", Nats_Incr="1")],
    "a deleted value is counted anew": [create(), pub("c.a", Nats_Incr="5"), ("STREAM.MSG.DELETE.C", {"seq": 1}), pub("c.a", Nats_Incr="1")],
    "history is kept or not alike": [create(max_msgs_per_subject=1), pub("c.a", Nats_Incr="5"), pub("c.a", Nats_Incr="1"), INFO],
    "the value counts towards max_msg_size": [create(max_msg_size=40), pub("c.a", Nats_Incr="1"), pub("c.a", Nats_Incr="1000000"), INFO],
    "a source header is the server's own": [create(), pub("c.a", Nats_Incr="1", Nats_Stream_Source="X 1 > > c.a")],
    "counters cannot be switched on": [("STREAM.CREATE.C", {"name": "C", "subjects": ["c.>"]}), ("STREAM.UPDATE.C", C)],
    "counters cannot be switched off": [create(), ("STREAM.UPDATE.C", C | {"allow_msg_counter": False})],
} | {
    f"the increment {value!r} is refused or not alike": [create(), pub("c.a", Nats_Incr=value), INFO]
    for value in ["", "x", "1.5", "1_000", "0x10", "--1", "+", "-", " 1", "1e3", "١"]
} | {
    f"an increment excludes {name}": [create(allow_rollup_hdrs=True), pub("c.a", Nats_Incr="1"), pub("c.a", **{"Nats_Incr": "1", name: value}), INFO]
    for name, value in [("Nats_Rollup", "sub"), ("Nats_Expected_Stream", "C"), ("Nats_Expected_Last_Msg_Id", "1"), ("Nats_Expected_Last_Sequence", "1"),
                        ("Nats_Expected_Last_Subject_Sequence", "1"), ("Nats_Expected_Last_Subject_Sequence_Subject", "c.b"), ("Nats_TTL", "1s")]
} | {
    f"a counter stream with {more} is refused or not alike": [create(**more)]
    for more in [{"discard": "new", "max_msgs": 5}, {"allow_msg_ttl": True}, {"subject_delete_marker_ttl": 1_000_000_000}, {"allow_msg_schedules": True},
                 {"retention": "workqueue"}, {"retention": "interest"}, {"allow_atomic": True}, {"allow_batched": True}, {"storage": "memory"},
                 {"max_age": 1_000_000_000}, {"deny_purge": True, "allow_rollup_hdrs": True}, {"persist_mode": "async"}]
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_counters(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))
