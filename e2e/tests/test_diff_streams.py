"""The stream half of the JetStream API: the same requests bring the same answers, good ones and refusals."""

import pytest

from broker import WITH_JETSTREAM
from steps import converse, direct, fill, pause, pub

S = {"name": "S", "subjects": ["s.>"]}


def create(**more):
    return ("STREAM.CREATE.S", S | more)


def update(**more):
    return ("STREAM.UPDATE.S", S | more)


INFO = ("STREAM.INFO.S",)
TINY_NAME = "x" * 256

CREATE = {
    "account info of an empty account": [("INFO",)],
    "account info counts streams": [create(), fill("s.a", 2), ("INFO",)],
    "account info ignores a body": [("INFO", "whatever")],
    "a stream has nats-server's defaults": [create()],
    "a memory stream": [create(storage="memory"), fill("s.a", 2), INFO],
    "a stream without subjects listens on its name": [("STREAM.CREATE.S", {"name": "S"}), pub("S", "x"), INFO],
    "a description is kept": [create(description="all orders")],
    "a description too long is refused": [create(description="d" * 5000)],
    "metadata is kept": [create(metadata={"owner": "team"})],
    "limits are kept": [create(max_msgs=10, max_bytes=4096, max_age=10**12, max_msgs_per_subject=3, max_msg_size=512)],
    "zero limits become unlimited": [create(max_msgs=0, max_bytes=0, max_msgs_per_subject=0, max_msg_size=0)],
    "limits below minus one": [create(max_msgs=-5, max_bytes=-7)],
    "discard new": [create(discard="new", max_msgs=2), pub("s.a"), pub("s.a"), pub("s.a"), INFO],
    "discard new per subject": [create(discard="new", discard_new_per_subject=True, max_msgs_per_subject=1),
                                pub("s.a"), pub("s.a"), pub("s.b"), INFO],
    "discard new per subject needs discard new": [create(discard_new_per_subject=True, max_msgs_per_subject=1)],
    "discard new per subject needs a limit": [create(discard="new", discard_new_per_subject=True)],
    "retention interest": [create(retention="interest"), pub("s.a"), INFO],
    "retention workqueue": [create(retention="workqueue"), pub("s.a"), INFO],
    "an unknown retention is refused": [create(retention="forever")],
    "an unknown storage is refused": [create(storage="tape")],
    "an unknown discard is refused": [create(discard="some")],
    "a wrong type is refused": [create(max_msgs="many")],
    "an unknown field is refused": [create(colour="blue")],
    "broken json is refused": [("STREAM.CREATE.S", "{not json")],
    "an empty body is refused": [("STREAM.CREATE.S", "")],
    "an array is refused": [("STREAM.CREATE.S", "[]")],
    "a name that differs from the subject is refused": [("STREAM.CREATE.T", S)],
    "nulls are as absent": [create(max_msgs=None, description=None, placement=None, metadata=None, storage=None, no_ack=None)],
    "message ttls": [create(allow_msg_ttl=True), pub("s.a", "x", Nats_TTL="1h"), pub("s.a", "x", Nats_TTL="soon"), INFO],
    "a missing name is refused": [("STREAM.CREATE.S", {"subjects": ["s.>"]})],
    "a name with a dot is refused": [("STREAM.CREATE.S", S | {"name": "a.b"})],
    "a name with a blank is refused": [("STREAM.CREATE.S", S | {"name": "a b"})],
    "a name with a star is refused": [("STREAM.CREATE.S", S | {"name": "a*"})],
    "a name with a slash is refused": [("STREAM.CREATE.a/b", {"name": "a/b", "subjects": ["x"]})],
    "a name too long is refused": [("STREAM.CREATE." + TINY_NAME, {"name": TINY_NAME, "subjects": ["x"]})],
    "the same again is the same stream": [create(), create()],
    "the same name with another config is refused": [create(), create(max_msgs=5)],
    "overlapping subjects of another stream are refused": [create(), ("STREAM.CREATE.T", {"name": "T", "subjects": ["s.a"]})],
    "overlapping subjects of itself are refused": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*", "s.a"]})],
    "the same subject twice is refused": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s.a", "s.a"]})],
    "an invalid subject is refused": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s..a"]})],
    "a subject of the API is refused": [("STREAM.CREATE.S", {"name": "S", "subjects": ["$JS.API.>"]})],
    "a subject that takes all is refused without no_ack": [("STREAM.CREATE.S", {"name": "S", "subjects": [">"]})],
    "an inbox subject is refused or not alike": [("STREAM.CREATE.S", {"name": "S", "subjects": ["_INBOX.>"]})],
    "more replicas than servers are refused": [create(num_replicas=3)],
    "too many replicas are refused": [create(num_replicas=7)],
    "negative replicas are refused": [create(num_replicas=-1)],
    "a short max_age is refused": [create(max_age=1000)],
    "a negative max_age": [create(max_age=-1)],
    "a duplicate window above max_age is refused": [create(max_age=10**9, duplicate_window=2 * 10**9)],
    "a negative duplicate window is refused": [create(duplicate_window=-1)],
    "a short duplicate window is refused": [create(duplicate_window=1000)],
    "the duplicate window shrinks to max_age": [create(max_age=10**9)],
    "more bytes than the server has are refused": [create(max_bytes=10**13)],
    "sealed on creation is refused": [create(sealed=True)],
    "no_ack takes publishes silently": [create(no_ack=True)],
    "allow_direct": [create(allow_direct=True)],
    "deny_delete and deny_purge": [create(deny_delete=True, deny_purge=True), fill("s.a", 2),
                                   ("STREAM.MSG.DELETE.S", {"seq": 1}), ("STREAM.PURGE.S",)],
    "deny_purge and rollups exclude each other": [create(deny_purge=True, allow_rollup_hdrs=True)],
    "first_seq": [create(first_seq=100), pub("s.a"), INFO],
    "consumer limits": [create(consumer_limits={"max_ack_pending": 5, "inactive_threshold": 10**9})],
    "a second stream with other subjects": [create(), ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"]}), ("STREAM.NAMES",)],
}

CHANGE = {
    "an update changes limits": [create(), update(max_msgs=7, max_age=10**12, duplicate_window=10**11), INFO],
    "an update of nothing": [create(), update()],
    "an update to fewer messages removes the oldest": [create(), fill("s.a", 5), update(max_msgs=2), INFO],
    "an update to fewer bytes removes the oldest": [create(), fill("s.a", 5), update(max_bytes=80), INFO],
    "an update to fewer a subject removes the oldest": [create(), fill("s.a", 3), fill("s.b", 1), update(max_msgs_per_subject=1), INFO],
    "an update of an unknown stream": [update()],
    "an update that renames is refused": [create(), ("STREAM.UPDATE.S", S | {"name": "T"})],
    "an update of the storage is refused": [create(), update(storage="memory")],
    "an update of the retention is refused": [create(), update(retention="workqueue")],
    "an update of the replicas on one server is refused": [create(), update(num_replicas=3)],
    "an update may add subjects": [create(), update(subjects=["s.>", "t"]), pub("t"), INFO],
    "an update may take subjects away": [create(), fill("s.a", 1), update(subjects=["t"]), pub("t"), INFO],
    "an update to others' subjects is refused": [create(), ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"]}), update(subjects=["t"])],
    "an update to a short max_age is refused": [create(), update(max_age=5)],
    "an update seals": [create(), fill("s.a", 1), update(sealed=True), pub("s.a"), INFO],
    "an update cannot unseal": [create(), update(sealed=True), update(sealed=False)],
    "an update cannot allow deletion again": [create(deny_delete=True), update(deny_delete=False)],
    "an update cannot allow purging again": [create(deny_purge=True), update(deny_purge=False)],
    "an update of the metadata": [create(), update(metadata={"a": "b"})],
    "an update with broken json": [create(), ("STREAM.UPDATE.S", "{")],
    "an update with an unknown field": [create(), update(colour="blue")],
    "an update of the description": [create(), update(description="new")],
    "an update to discard new": [create(max_msgs=3), update(max_msgs=3, discard="new")],
    "an update of max_consumers": [create(), update(max_consumers=3)],
    "an update of first_seq": [create(), update(first_seq=10)],
    "delete": [create(), ("STREAM.DELETE.S",), INFO],
    "delete of an unknown stream": [("STREAM.DELETE.S",)],
    "delete with a body": [create(), ("STREAM.DELETE.S", "{}")],
    "create again after delete begins at one": [create(), fill("s.a", 3), ("STREAM.DELETE.S",), pause(), create(), pub("s.a")],
    "info of an unknown stream": [INFO],
    "info of an invalid name": [("STREAM.INFO.a*b",)],
    "info with broken json": [create(), ("STREAM.INFO.S", "{")],
    "info with subjects": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.INFO.S", {"subjects_filter": ">"})],
    "info with some subjects": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.INFO.S", {"subjects_filter": "s.b"})],
    "info with subjects from an offset": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.INFO.S", {"subjects_filter": ">", "offset": 1})],
    "info with deleted details": [create(), fill("s.a", 4), ("STREAM.MSG.DELETE.S", {"seq": 2}), ("STREAM.INFO.S", {"deleted_details": True})],
    "names of none": [("STREAM.NAMES",)],
    "names": [create(), ("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]}), ("STREAM.NAMES",)],
    "names by subject": [create(), ("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]}), ("STREAM.NAMES", {"subject": "s.x"})],
    "names from an offset": [create(), ("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]}), ("STREAM.NAMES", {"offset": 1})],
    "names with broken json": [("STREAM.NAMES", "{")],
    "list of none": [("STREAM.LIST",)],
    "list": [create(), fill("s.a", 1), ("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]}), ("STREAM.LIST",)],
    "list by subject": [create(), ("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]}), ("STREAM.LIST", {"subject": "a"})],
    "leader step down on one server": [create(), ("STREAM.LEADER.STEPDOWN.S",)],
    "peer remove on one server": [create(), ("STREAM.PEER.REMOVE.S", {"peer": "x"})],
}

PURGE = {
    "purge takes all": [create(), fill("s.a", 3), ("STREAM.PURGE.S",), INFO, pub("s.a")],
    "purge of nothing": [create(), ("STREAM.PURGE.S",)],
    "purge by subject": [create(), fill("s.a", 3), fill("s.b", 2), ("STREAM.PURGE.S", {"filter": "s.a"}), INFO],
    "purge by wildcard": [create(), fill("s.a.x", 2), fill("s.b", 2), ("STREAM.PURGE.S", {"filter": "s.a.*"}), INFO],
    "purge up to a sequence": [create(), fill("s.a", 5), ("STREAM.PURGE.S", {"seq": 3}), INFO],
    "purge up to a sequence by subject": [create(), fill("s.a", 3), fill("s.b", 3), ("STREAM.PURGE.S", {"seq": 5, "filter": "s.b"}), INFO],
    "purge beyond the end": [create(), fill("s.a", 3), ("STREAM.PURGE.S", {"seq": 50}), INFO, pub("s.a")],
    "purge that keeps": [create(), fill("s.a", 5), ("STREAM.PURGE.S", {"keep": 2}), INFO],
    "purge that keeps by subject": [create(), fill("s.a", 3), fill("s.b", 3), ("STREAM.PURGE.S", {"keep": 1, "filter": "s.a"}), INFO],
    "purge that keeps more than there is": [create(), fill("s.a", 2), ("STREAM.PURGE.S", {"keep": 9}), INFO],
    "purge with seq and keep is refused": [create(), ("STREAM.PURGE.S", {"seq": 2, "keep": 2})],
    "purge of an unknown stream": [("STREAM.PURGE.S",)],
    "purge with broken json": [create(), ("STREAM.PURGE.S", "{")],
    "purge with an unknown field": [create(), ("STREAM.PURGE.S", {"colour": 1})],
    "purge of a sealed stream": [create(), update(sealed=True), ("STREAM.PURGE.S",)],
    "delete of a message": [create(), fill("s.a", 3), ("STREAM.MSG.DELETE.S", {"seq": 2}), INFO, ("STREAM.MSG.GET.S", {"seq": 2})],
    "delete of the first message moves the first": [create(), fill("s.a", 3), ("STREAM.MSG.DELETE.S", {"seq": 1}), INFO],
    "delete of the last message keeps the last sequence": [create(), fill("s.a", 3), ("STREAM.MSG.DELETE.S", {"seq": 3}), INFO, pub("s.a")],
    "delete of every message": [create(), fill("s.a", 2), ("STREAM.MSG.DELETE.S", {"seq": 1}), ("STREAM.MSG.DELETE.S", {"seq": 2}), INFO],
    "delete without erasing": [create(), fill("s.a", 2), ("STREAM.MSG.DELETE.S", {"seq": 1, "no_erase": True}), INFO],
    "delete of a message twice": [create(), fill("s.a", 2), ("STREAM.MSG.DELETE.S", {"seq": 2}), ("STREAM.MSG.DELETE.S", {"seq": 2})],
    "delete of a message that never was": [create(), fill("s.a", 2), ("STREAM.MSG.DELETE.S", {"seq": 9})],
    "delete of a message zero": [create(), fill("s.a", 2), ("STREAM.MSG.DELETE.S", {"seq": 0})],
    "delete of a message without body": [create(), ("STREAM.MSG.DELETE.S",)],
    "delete of a message of an unknown stream": [("STREAM.MSG.DELETE.S", {"seq": 1})],
    "delete of a message of a sealed stream": [create(), fill("s.a", 1), update(sealed=True), ("STREAM.MSG.DELETE.S", {"seq": 1})],
}

GET = {
    "get by sequence": [create(), fill("s.a", 2), ("STREAM.MSG.GET.S", {"seq": 2})],
    "get with headers": [create(), pub("s.a", "x", Color="red"), ("STREAM.MSG.GET.S", {"seq": 1})],
    "get an empty message": [create(), pub("s.a"), ("STREAM.MSG.GET.S", {"seq": 1})],
    "get of a missing sequence": [create(), fill("s.a", 2), ("STREAM.MSG.GET.S", {"seq": 7})],
    "get from an empty stream": [create(), ("STREAM.MSG.GET.S", {"seq": 1})],
    "get last by subject": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.MSG.GET.S", {"last_by_subj": "s.a"})],
    "get last by wildcard": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.MSG.GET.S", {"last_by_subj": "s.*"})],
    "get last of an unknown subject": [create(), fill("s.a", 2), ("STREAM.MSG.GET.S", {"last_by_subj": "s.z"})],
    "get next by subject": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.MSG.GET.S", {"seq": 1, "next_by_subj": "s.b"})],
    "get next by subject without sequence": [create(), fill("s.a", 2), fill("s.b", 1), ("STREAM.MSG.GET.S", {"next_by_subj": "s.b"})],
    "get next of an unknown subject": [create(), fill("s.a", 2), ("STREAM.MSG.GET.S", {"seq": 1, "next_by_subj": "s.z"})],
    "get with sequence and last is refused": [create(), fill("s.a", 2), ("STREAM.MSG.GET.S", {"seq": 1, "last_by_subj": "s.a"})],
    "get without anything is refused": [create(), ("STREAM.MSG.GET.S", {})],
    "get without body is refused": [create(), ("STREAM.MSG.GET.S",)],
    "get with broken json is refused": [create(), ("STREAM.MSG.GET.S", "{")],
    "get with an unknown field is refused": [create(), ("STREAM.MSG.GET.S", {"seq": 1, "colour": 1})],
    "get of an unknown stream": [("STREAM.MSG.GET.S", {"seq": 1})],
    "direct get where it is not allowed has no responders": [create(), fill("s.a", 1), direct("S", {"seq": 1})],
    "direct get by sequence": [create(allow_direct=True), fill("s.a", 2), direct("S", {"seq": 2})],
    "direct get with headers": [create(allow_direct=True), pub("s.a", "x", Color="red"), direct("S", {"seq": 1})],
    "direct get of a missing sequence": [create(allow_direct=True), fill("s.a", 2), direct("S", {"seq": 7})],
    "direct get last by subject in the body": [create(allow_direct=True), fill("s.a", 2), fill("s.b", 1), direct("S", {"last_by_subj": "s.a"})],
    "direct get last by subject in the subject": [create(allow_direct=True), fill("s.a", 2), fill("s.b", 1), direct("S.s.a")],
    "direct get of an unknown subject": [create(allow_direct=True), fill("s.a", 1), direct("S.s.z")],
    "direct get next by subject": [create(allow_direct=True), fill("s.a", 2), fill("s.b", 1), direct("S", {"seq": 1, "next_by_subj": "s.b"})],
    "direct get without body": [create(allow_direct=True), fill("s.a", 1), direct("S")],
    "direct get with broken json": [create(allow_direct=True), fill("s.a", 1), direct("S", "{")],
    "direct get with an empty request": [create(allow_direct=True), fill("s.a", 1), direct("S", {})],
}

CASES = CREATE | CHANGE | PURGE | GET
assert len(CASES) == sum(map(len, (CREATE, CHANGE, PURGE, GET))), "two cases have the same name"


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_stream(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))
