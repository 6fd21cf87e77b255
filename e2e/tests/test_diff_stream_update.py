"""STREAM.UPDATE field by field: what may change, what may not, and in which words."""

import itertools

import pytest

from broker import WITH_JETSTREAM
from steps import converse, fill, pub

S = {"name": "S", "subjects": ["s.>"]}
INFO = ("STREAM.INFO.S",)
# One field of a stream from one value to another; None leaves it out.
CHANGES = {
    "description": [(None, "new"), ("old", None), ("old", "new")],
    "subjects": [(["s.>"], ["t"]), (["s.>"], ["s.>", "t"]), (["s.>"], []), (["s.>"], ["s.>", "s.a"])],
    "retention": list(itertools.permutations(["limits", "interest", "workqueue"], 2)),
    "max_consumers": [(-1, 3), (3, -1), (3, 1), (None, 0)],
    "max_msgs": [(-1, 2), (5, 1), (2, -1)],
    "max_bytes": [(-1, 1000), (1000, 100), (1000, -1), (-1, 10**13)],
    "max_age": [(None, 10**12), (10**12, None), (10**12, 5), (10**12, -1)],
    "max_msgs_per_subject": [(-1, 1), (3, 1), (1, -1)],
    "max_msg_size": [(-1, 10), (10, -1), (10, 5)],
    "discard": [("old", "new"), ("new", "old")],
    "storage": [("file", "memory"), ("memory", "file")],
    "num_replicas": [(1, 3), (1, 0), (1, -1), (1, 6)],
    "no_ack": [(False, True), (True, False)],
    "duplicate_window": [(None, 10**11), (10**11, None), (None, 5), (None, -1)],
    "placement": [(None, {"cluster": "x"}), (None, {"tags": ["a"]}), (None, {}), (None, {"preferred": "n"})],
    "first_seq": [(None, 10), (10, None), (10, 20)],
    "subject_transform": [(None, {"src": "s.*", "dest": "t.$1"}), ({"src": "s.*", "dest": "t.$1"}, None), (None, {"src": "s.*", "dest": "t.$2"})],
    "republish": [(None, {"src": "s.>", "dest": "r.>"}), ({"src": "s.>", "dest": "r.>"}, None), (None, {"src": "s.>", "dest": "s.x.>"})],
    "allow_direct": [(False, True), (True, False)],
    "mirror_direct": [(False, True)],
    "sealed": [(False, True), (False, "true")],
    "deny_delete": [(False, True), (True, False)],
    "deny_purge": [(False, True), (True, False)],
    "allow_rollup_hdrs": [(False, True), (True, False)],
    "consumer_limits": [(None, {"max_ack_pending": 3}), ({"max_ack_pending": 3}, None), (None, {"inactive_threshold": 10**9})],
    "allow_msg_ttl": [(False, True), (True, False)],
    "subject_delete_marker_ttl": [(None, 10**9), (10**9, None), (None, 5), (None, -1)],
    "metadata": [(None, {"a": "b"}), ({"a": "b"}, None), ({"a": "b"}, {"a": "c", "d": "e"})],
    "name": [("S", "T"), ("S", "a.b"), ("S", "")],
}
# Features that are added elsewhere: their rules for updates.
LATER = {
    "allow_msg_counter": [(False, True), (True, False)],
    "allow_atomic": [(False, True), (True, False)],
    "allow_msg_schedules": [(False, True), (True, False)],
    "allow_batched": [(False, True), (True, False)],
    "persist_mode": [("default", "async"), ("async", "default")],
    "compression": [("none", "s2"), ("s2", "none")],
}


def with_value(field, value):
    return S | {field: value} if value is not None else S


def steps_of(field, before, after, extra=None):
    first = with_value(field, before) | (extra or {})
    second = with_value(field, after) | (extra or {})
    return [("STREAM.CREATE.S", first), fill("s.a", 0 if field in ("retention", "no_ack") else 3), ("STREAM.UPDATE.S", second), INFO]


FIELDS = {
    f"{field} from {before} to {after}".replace(" ", "_"): steps_of(field, before, after)
    for field, changes in CHANGES.items() for before, after in changes if field != "name"
}
NAMES = {f"name to {after!r}": [("STREAM.CREATE.S", S), ("STREAM.UPDATE.S", S | {"name": after})] for _, after in CHANGES["name"]}
CONSUMER = ("CONSUMER.DURABLE.CREATE.S.c", {"stream_name": "S", "config": {"durable_name": "c", "ack_policy": "explicit", "max_ack_pending": 100}})
MORE = {
    "an update from no stream": [("STREAM.UPDATE.S", S)],
    "an update that is wrong from no stream": [("STREAM.UPDATE.S", S | {"max_age": 1})],
    "an update that is wrong and of another name": [("STREAM.CREATE.S", S), ("STREAM.UPDATE.S", S | {"name": "T", "max_age": 1})],
    "limits that consumers exceed": [("STREAM.CREATE.S", S), CONSUMER, ("STREAM.UPDATE.S", S | {"consumer_limits": {"max_ack_pending": 50}})],
    "limits that consumers keep": [("STREAM.CREATE.S", S), CONSUMER, ("STREAM.UPDATE.S", S | {"consumer_limits": {"max_ack_pending": 500}})],
    "interest without consumers drops all": [("STREAM.CREATE.S", S), fill("s.a", 3), ("STREAM.UPDATE.S", S | {"retention": "interest"}), INFO, pub("s.a")],
    "interest with a consumer keeps what it needs": [("STREAM.CREATE.S", S), fill("s.a", 3), CONSUMER, ("STREAM.UPDATE.S", S | {"retention": "interest"}), INFO],
    "a sealed stream changes its description": [("STREAM.CREATE.S", S), ("STREAM.UPDATE.S", S | {"sealed": True}), ("STREAM.UPDATE.S", S | {"sealed": True, "description": "d"})],
    "a sealed stream loses its age": [("STREAM.CREATE.S", S | {"max_age": 10**12}), ("STREAM.UPDATE.S", S | {"max_age": 10**12, "sealed": True})],
    "discard new per subject": [("STREAM.CREATE.S", S), ("STREAM.UPDATE.S", S | {"discard_new_per_subject": True}), ("STREAM.UPDATE.S", S | {"discard": "new", "discard_new_per_subject": True, "max_msgs_per_subject": 1})],
    "pedantic": [("STREAM.CREATE.S", S), ("STREAM.UPDATE.S", S | {"max_msgs": -5, "pedantic": True})],
}
CASES = FIELDS | NAMES | MORE


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_")[:80] for name in CASES])
def test_update(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))
