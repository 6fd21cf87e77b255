"""Mirrors: what they store, when they are refused, what is told of them, and how they become streams of their own."""

import pytest

from broker import WITH_JETSTREAM
from origins import same_times, settled, stored, until
from steps import converse, direct, fill, pause, pub

O = ("STREAM.CREATE.O", {"name": "O", "subjects": ["o.>"]})
INFO = ("STREAM.INFO.M",)


def origin(**more):
    return ("STREAM.CREATE.O", O[1] | more)


def mirror(origin="O", **more):
    """STREAM.CREATE of M; keys of the mirror itself begin with `of_`."""
    of = {key[3:]: value for key, value in more.items() if key.startswith("of_")}
    own = {key: value for key, value in more.items() if not key.startswith("of_")}
    return ("STREAM.CREATE.M", {"name": "M", "mirror": {"name": origin} | of} | own)


def change(step, **more):
    """The same configuration as an update, changed."""
    return ("STREAM.UPDATE.M", {key: value for key, value in (step[1] | more).items() if value is not None})


# nats-server begins to mirror a moment after its answer.
WAIT = pause(1.0)


def quietly(step):
    """A request whose answer may come before or after something else."""
    return lambda js: js.raw(*step).get("error")


def mapping(src, dest):
    return {"src": src, "dest": dest}


REFUSALS = {
    "a mirror with subjects": [O, mirror(subjects=["m"])],
    "a mirror with sources": [O, mirror(sources=[{"name": "O"}])],
    "a mirror with a first sequence": [O, mirror(first_seq=5)],
    "a mirror of an invalid name": [mirror("a.b")],
    "a mirror of no name": [mirror("")],
    "a mirror of itself": [mirror("M")],
    "a mirror of its mirror": [mirror(), ("STREAM.CREATE.O", {"name": "O", "mirror": {"name": "M"}})],
    "a mirror behind a source": [mirror(), ("STREAM.CREATE.O", {"name": "O", "sources": [{"name": "M"}]})],
    "a mirror with a filter and transforms": [O, mirror(of_filter_subject="o.a", of_subject_transforms=[mapping("o.>", "x.>")])],
    "a mirror with overlapping transforms": [O, mirror(of_subject_transforms=[mapping("o.>", "x.>"), mapping("o.a", "y")])],
    "a mirror with a broken transform source": [O, mirror(of_subject_transforms=[mapping("o..a", "x")])],
    "a mirror with a broken transform destination": [O, mirror(of_subject_transforms=[mapping("o.*", "x.$2")])],
    "a mirror with a broken filter": [O, mirror(of_filter_subject="o..a")],
    "a mirror with smaller messages": [origin(max_msg_size=100), mirror(max_msg_size=50)],
    "a mirror with larger messages": [origin(max_msg_size=100), mirror(max_msg_size=500)],
    "a mirror with delete markers": [O, mirror(subject_delete_marker_ttl=10**9)],
    "a mirror with schedules": [O, mirror(allow_msg_schedules=True, allow_rollup_hdrs=True)],
    "a mirror with counters": [O, mirror(allow_msg_counter=True)],
    "a mirror with atomic publishing": [O, mirror(allow_atomic=True)],
    "a mirror with batch publishing": [O, mirror(allow_batched=True)],
    "mirror_direct without a mirror": [("STREAM.CREATE.M", {"name": "M", "mirror_direct": True})],
    "a mirror with a durable consumer of a broken name": [O, mirror(of_consumer={"name": "a.b", "deliver_subject": "d"})],
    "a mirror with a durable consumer to a wildcard": [O, mirror(of_consumer={"name": "c", "deliver_subject": "d.*"})],
    "a mirror with a durable consumer and a start": [O, mirror(of_opt_start_seq=3, of_consumer={"name": "c", "deliver_subject": "d"})],
    "a mirror with a durable consumer and a filter": [O, mirror(of_filter_subject="o.a", of_consumer={"name": "c", "deliver_subject": "d"})],
    "a mirror with the API of its own": [mirror(of_external={"api": "$JS.API", "deliver": ""})],
    "a mirror with a wildcard API": [mirror(of_external={"api": "$JS.*.API", "deliver": ""})],
    "a mirror with a wildcard delivery": [mirror(of_external={"api": "x.API", "deliver": "d.*"})],
    "a mirror with an unknown field": [("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "O", "colour": 1}})],
    "a pedantic mirror without its origin's direct get": [origin(allow_direct=True), mirror(pedantic=True)],
}

CONTENT = {
    "a mirror has the origin's messages": [O, fill("o.a", 3), mirror(), until("M", 3), stored("M", 1, 2, 3), same_times("O", "M", 1, 3)],
    "a mirror follows": [O, mirror(), fill("o.a", 2), until("M", 2), fill("o.b", 2), until("M", 4), stored("M", 4)],
    "a mirror in memory": [O, fill("o.a", 2), mirror(storage="memory"), until("M", 2)],
    "a mirror of a memory stream": [origin(storage="memory"), fill("o.a", 2), mirror(), until("M", 2)],
    "a mirror keeps headers": [O, pub("o.a", "x", Color="red", Nats_Msg_Id="1"), mirror(), until("M", 1), stored("M", 1)],
    "a mirror keeps no expectations": [O, pub("o.a", "x", Nats_Expected_Last_Sequence="0", Color="red"), mirror(), until("M", 1), stored("M", 1)],
    "a mirror keeps gaps": [O, fill("o.a", 5), ("STREAM.MSG.DELETE.O", {"seq": 2}), ("STREAM.MSG.DELETE.O", {"seq": 3}), mirror(), until("M", 3), stored("M", 1, 2, 4, 5)],
    "a mirror of a purged origin begins at its first": [O, fill("o.a", 4), ("STREAM.PURGE.O", {"seq": 3}), mirror(), until("M", 2), stored("M", 3, 4)],
    "a mirror of an empty origin with a past": [O, fill("o.a", 4), ("STREAM.PURGE.O",), quietly(mirror()), fill("o.a", 1), until("M", 1), stored("M", 5)],
    "a mirror of an origin with a first sequence": [origin(first_seq=100), fill("o.a", 2), mirror(), until("M", 2), stored("M", 100, 101)],
    "a mirror keeps what its origin purges": [O, fill("o.a", 3), mirror(), until("M", 3), ("STREAM.PURGE.O",), fill("o.a", 1), until("M", 4), stored("M", 1, 4)],
    "a mirror from a sequence": [O, fill("o.a", 5), mirror(of_opt_start_seq=3), until("M", 3), stored("M", 2, 3)],
    "a mirror from a time": [O, fill("o.a", 3), mirror(of_opt_start_time="2020-01-01T00:00:00Z"), until("M", 3), stored("M", 1)],
    "a mirror from a time to come": [O, fill("o.a", 3), mirror(of_opt_start_time="2099-01-01T00:00:00Z"), until("M", 0, 3), settled("M")],
    "a filtered mirror": [O, fill("o.a", 2), fill("o.b", 2), fill("o.a", 1), mirror(of_filter_subject="o.a"), until("M", 3), stored("M", 1, 2, 3, 5)],
    "a mirror that renames": [O, fill("o.a", 2), fill("o.b.c", 1), mirror(of_subject_transforms=[mapping("o.*", "m.$1")]), until("M", 2), stored("M", 1, 2, 3)],
    "a mirror that renames in two ways": [O, fill("o.a", 1), fill("o.b", 1), fill("o.c", 1), mirror(of_subject_transforms=[mapping("o.a", "x"), mapping("o.b", "y")]), until("M", 2), stored("M", 1, 2)],
    "a mirror that filters by transforms only": [O, fill("o.a", 1), fill("o.b", 1), mirror(of_subject_transforms=[mapping("o.b", "")]), until("M", 1), stored("M", 2)],
    "a mirror with a transform of its own": [O, fill("o.a", 1), mirror(subject_transform=mapping("o.*", "n.$1")), until("M", 1), stored("M", 1)],
    "a mirror with limits of its own": [O, fill("o.a", 5), mirror(max_msgs=2), until("M", 2, 5), stored("M", 3, 4, 5)],
    "a mirror of few a subject": [O, fill("o.a", 3), fill("o.b", 1), mirror(max_msgs_per_subject=1), until("M", 2, 4), stored("M", 3, 4)],
    "a mirror of a mirror": [O, fill("o.a", 2), mirror(), ("STREAM.CREATE.N", {"name": "N", "mirror": {"name": "M"}}), until("N", 2), stored("N", 1, 2)],
    "a mirror of a mirror's origin has no source header": [O, fill("o.a", 1), mirror(), until("M", 1), stored("M", 1)],
    "a mirror of lifetimes": [origin(allow_msg_ttl=True), pub("o.a", "x", Nats_TTL="1h"), mirror(allow_msg_ttl=True), until("M", 1), stored("M", 1)],
    "a mirror that has no lifetimes keeps their header": [origin(allow_msg_ttl=True), pub("o.a", "x", Nats_TTL="1h"), mirror(), until("M", 1), stored("M", 1)],
    "a publish to a mirror's name has no responders": [O, mirror(), pub("M"), until("M", 0)],
    "a purge of a mirror": [O, fill("o.a", 3), mirror(), until("M", 3), ("STREAM.PURGE.M",), fill("o.a", 1), until("M", 1), stored("M", 4)],
    "a delete in a mirror": [O, fill("o.a", 3), mirror(), until("M", 3), ("STREAM.MSG.DELETE.M", {"seq": 2}), until("M", 2, 3)],
    "a mirror of a work queue": [origin(retention="workqueue"), fill("o.a", 3), mirror(), until("M", 3), until("O", 0), stored("M", 1, 3)],
    "a mirror of an interest stream": [origin(retention="interest"), mirror(), settled("M"), WAIT, fill("o.a", 2), until("M", 2), until("O", 0)],
}

TOLD = {
    "a mirror before its origin": [mirror(), until("M", error=10059), settled("M"), O, fill("o.a", 2), until("M", 2), settled("M")],
    "a mirror's creation": [O, mirror()],
    "a mirror's creation with all options": [O, mirror(of_opt_start_seq=1, of_filter_subject="o.a", description="copy", max_age=10**12)],
    "a mirror's info": [O, fill("o.a", 2), mirror(), until("M", 2), settled("M", "mirror", "subjects", "duplicate_window")],
    "a filtered mirror's info": [O, fill("o.a", 2), mirror(of_filter_subject="o.a"), until("M", 2), settled("M")],
    "a renaming mirror's info": [O, fill("o.a", 2), mirror(of_subject_transforms=[mapping("o.*", "m.$1")]), until("M", 2), settled("M")],
    "an external mirror's info": [mirror(of_external={"api": "x.API", "deliver": "d"}), settled("M")],
    "a mirror in the list": [O, mirror(), ("STREAM.LIST",)],
    "consumers of mirrors are not told of": [O, fill("o.a", 1), mirror(), until("M", 1), ("CONSUMER.NAMES.O",), ("CONSUMER.LIST.O",), ("STREAM.INFO.O",)],
    "mirror_direct is the origin's": [origin(allow_direct=True), mirror(), INFO],
    "mirror_direct without the origin's": [O, mirror(mirror_direct=True)],
    "a mirror with the same config again": [O, mirror(), mirror()],
    "a mirror answers direct gets": [origin(allow_direct=True), fill("o.a", 2), mirror(allow_direct=True), until("M", 2), direct("M", {"seq": 1})],
    "a source header in a publish is refused": [O, pub("o.a", "x", Nats_Stream_Source="O 1 > > o.a")],
}

CHANGES = {
    "an update of a mirror's limits": [O, mirror(), change(mirror(), max_msgs=3), fill("o.a", 5), until("M", 3, 5)],
    "an update of the origin is refused": [O, mirror(), change(mirror(), mirror={"name": "P"})],
    "an update of the filter is refused": [O, mirror(), change(mirror(), mirror={"name": "O", "filter_subject": "o.a"})],
    "an update cannot make a mirror": [("STREAM.CREATE.M", {"name": "M", "subjects": ["m"]}), O, ("STREAM.UPDATE.M", {"name": "M", "mirror": {"name": "O"}})],
    "an update cannot give subjects to a mirror": [O, mirror(), change(mirror(), subjects=["m"])],
    "a promoted mirror takes publishes": [O, fill("o.a", 2), mirror(), until("M", 2), change(mirror(), mirror=None, subjects=["m.>"]), pub("m.a", "x"), fill("o.a", 1), until("M", 3), stored("M", 1, 2, 3), INFO],
    "a promoted mirror without subjects": [O, fill("o.a", 1), mirror(), until("M", 1), change(mirror(), mirror=None), pub("M", "x"), INFO],
    "a promoted mirror takes its origin's subjects once that is gone": [O, fill("o.a", 2), mirror(), until("M", 2), change(mirror(), mirror=None, subjects=["o.>"]), ("STREAM.DELETE.O",), change(mirror(), mirror=None, subjects=["o.>"]), pub("o.a", "x"), stored("M", 3)],
    "a promoted mirror does not become one again": [O, mirror(), change(mirror(), mirror=None, subjects=["m"]), change(mirror())],
    "a promoted mirror may get sources": [O, fill("o.a", 2), mirror(), until("M", 2), change(mirror(), mirror=None, sources=[{"name": "O", "filter_subject": "o.z"}]), fill("o.z", 1), until("M", 3), stored("M", 3)],
    "a mirror outlives its origin": [O, fill("o.a", 2), mirror(), until("M", 2), ("STREAM.DELETE.O",), until("M", 2), stored("M", 1, 2)],
}

CASES = REFUSALS | CONTENT | TOLD | CHANGES


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("steps", [pytest.param(steps, id=name.replace(" ", "_")) for name, steps in CASES.items()])
def test_mirror(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))
