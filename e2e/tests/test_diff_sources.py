"""Sources: what they store and in which header they say where it came from, when they are refused, what is told of them."""

import pytest

from broker import WITH_JETSTREAM
from origins import in_order, settled, stored, until
from steps import converse, fill, pause, pub

A = {"name": "A", "subjects": ["a.>"]}
B = {"name": "B", "subjects": ["b.>"]}
MAKE_A = ("STREAM.CREATE.A", A)
MAKE_B = ("STREAM.CREATE.B", B)
INFO = ("STREAM.INFO.S",)


def make(name, **more):
    return (f"STREAM.CREATE.{name}", {"A": A, "B": B}[name] | more)


def of(name, **more):
    return {"name": name} | more


def mapping(src, dest):
    return {"src": src, "dest": dest}


def sourcing(*sources, **more):
    return ("STREAM.CREATE.S", {"name": "S", "sources": list(sources)} | more)


def without_errors(read):
    """What `read` gives of sources, but not why nothing comes from them (deviations/sourcing-retries.md)."""

    def reduced(js):
        told = read(js)
        for source in told["sources"]:
            source.pop("error", None)
        return told

    return reduced


def unseen(step):
    """A request whose answer tells by chance how far the stream is with its sources; only its errors count."""
    return lambda js: js.api(*step).get("error")


def update(*sources, **more):
    return ("STREAM.UPDATE.S", {"name": "S", "sources": list(sources)} | more)


REFUSALS = {
    "a source of no name": [sourcing(of(""))],
    "a source of an invalid name": [sourcing(of("a.b"))],
    "the same source twice": [sourcing(of("A"), of("A"))],
    "the same source with the same filter twice": [sourcing(of("A", filter_subject="a.x"), of("A", filter_subject="a.x"))],
    "a source with a filter and transforms": [sourcing(of("A", filter_subject="a.x", subject_transforms=[mapping("a.>", "x.>")]))],
    "a source with overlapping transforms": [sourcing(of("A", subject_transforms=[mapping("a.>", "x.>"), mapping("a.x", "y")]))],
    "a source with a broken transform source": [sourcing(of("A", subject_transforms=[mapping("a..x", "y")]))],
    "a source with a broken transform destination": [sourcing(of("A", subject_transforms=[mapping("a.*", "y.$2")]))],
    "a source with a broken filter": [sourcing(of("A", filter_subject="a..x"))],
    "a source of itself": [sourcing(of("S"))],
    "a source of itself with subjects": [sourcing(of("S"), subjects=["s"])],
    "a source of itself with a filter that is not its own": [sourcing(of("S", filter_subject="z"), subjects=["s"])],
    "a circle of two": [("STREAM.CREATE.A", {"name": "A", "sources": [of("S")]}), sourcing(of("A"))],
    "a circle of three": [("STREAM.CREATE.A", {"name": "A", "sources": [of("B")]}), ("STREAM.CREATE.B", {"name": "B", "sources": [of("S")]}), sourcing(of("A"))],
    "a source with smaller messages": [make("A", max_msg_size=100), sourcing(of("A"), max_msg_size=50)],
    "sources with schedules": [sourcing(of("A"), allow_msg_schedules=True, allow_rollup_hdrs=True)],
    "a source with a durable consumer of a broken name": [sourcing(of("A", consumer={"name": "", "deliver_subject": "d"}))],
    "a source with a durable consumer to nowhere": [sourcing(of("A", consumer={"name": "c"}))],
    "a source with a durable consumer and a start": [sourcing(of("A", opt_start_seq=2, consumer={"name": "c", "deliver_subject": "d"}))],
    "two sources with the same durable consumer": [sourcing(of("A", subject_transforms=[mapping("a.x", "")], consumer={"name": "c", "deliver_subject": "d"}),
                                                           of("A", subject_transforms=[mapping("a.y", "")], consumer={"name": "c", "deliver_subject": "e"}))],
    "a source with the API of its own": [sourcing(of("A", external={"api": "$JS.API", "deliver": ""}))],
    "a source whose delivery overlaps": [make("A", subjects=["d.>"]), sourcing(of("A"), of("X", external={"api": "x.API", "deliver": "d"}))],
    "subjects of another stream": [MAKE_A, sourcing(of("A"), subjects=["a.x"])],
}

CONTENT = {
    "a source's messages": [MAKE_A, fill("a.x", 2), sourcing(of("A")), until("S", 2), stored("S", 1, 2)],
    "a source that follows": [MAKE_A, sourcing(of("A")), fill("a.x", 2), until("S", 2), fill("a.y", 1), until("S", 3), stored("S", 3)],
    "a source in memory": [MAKE_A, fill("a.x", 2), sourcing(of("A"), storage="memory"), until("S", 2), stored("S", 2)],
    "two sources": [MAKE_A, MAKE_B, fill("a.x", 2), sourcing(of("A"), of("B")), until("S", 2), fill("b.x", 1), until("S", 3), stored("S", 1, 3)],
    "sources beside subjects": [MAKE_A, fill("a.x", 1), sourcing(of("A"), subjects=["s"]), until("S", 1), pub("s", "own"), stored("S", 1, 2)],
    "a filtered source": [MAKE_A, fill("a.x", 2), fill("a.y", 2), sourcing(of("A", filter_subject="a.y")), until("S", 2), stored("S", 1, 2)],
    "one origin with two filters": [MAKE_A, fill("a.x", 1), sourcing(of("A", filter_subject="a.x"), of("A", filter_subject="a.y")), until("S", 1), fill("a.y", 1), until("S", 2), stored("S", 1, 2)],
    "a source that renames": [MAKE_A, fill("a.x", 1), sourcing(of("A", subject_transforms=[mapping("a.*", "s.$1.y")])), until("S", 1), stored("S", 1)],
    "a source with two transforms": [MAKE_A, fill("a.x", 1), fill("a.y", 1), fill("a.z", 1), sourcing(of("A", subject_transforms=[mapping("a.x", "s.x"), mapping("a.z", "")])), until("S", 2), stored("S", 1, 2)],
    "a source with a transform of the stream": [MAKE_A, fill("a.x", 1), sourcing(of("A"), subject_transform=mapping("a.*", "t.$1")), until("S", 1), stored("S", 1)],
    "a source from a sequence": [MAKE_A, fill("a.x", 4), sourcing(of("A", opt_start_seq=3)), until("S", 2), stored("S", 1, 2)],
    "a source from a time": [MAKE_A, fill("a.x", 2), sourcing(of("A", opt_start_time="2020-01-01T00:00:00Z")), until("S", 2), stored("S", 1)],
    "a source of gaps": [MAKE_A, fill("a.x", 4), ("STREAM.MSG.DELETE.A", {"seq": 2}), sourcing(of("A")), until("S", 3), stored("S", 1, 2, 3)],
    "headers come first": [MAKE_A, pub("a.x", "x", Color="red"), sourcing(of("A")), until("S", 1), stored("S", 1)],
    "expectations are not taken along": [MAKE_A, pub("a.x", "x", Nats_Expected_Last_Sequence="0"), sourcing(of("A")), until("S", 1), stored("S", 1)],
    "a source of a source names the last": [MAKE_A, fill("a.x", 1), ("STREAM.CREATE.B", {"name": "B", "sources": [of("A")]}), sourcing(of("B")), until("S", 1), stored("S", 1)],
    "a source of a mirror": [MAKE_A, fill("a.x", 1), ("STREAM.CREATE.B", {"name": "B", "mirror": {"name": "A"}}), sourcing(of("B")), until("S", 1), stored("S", 1)],
    "message ids are deduplicated": [MAKE_A, MAKE_B, pub("a.x", "x", Nats_Msg_Id="1"), sourcing(of("A"), of("B"), duplicate_window=10**11), until("S", 1), pub("b.x", "x", Nats_Msg_Id="1"), pub("b.x", "y"), until("S", 2), stored("S", 1, 2)],
    "message ids are not deduplicated without a window": [MAKE_A, MAKE_B, pub("a.x", "x", Nats_Msg_Id="1"), sourcing(of("A"), of("B")), until("S", 1), pub("b.x", "x", Nats_Msg_Id="1"), until("S", 2), stored("S", 2)],
    "a purge of the origin": [MAKE_A, fill("a.x", 2), sourcing(of("A")), until("S", 2), ("STREAM.PURGE.A",), fill("a.x", 1), until("S", 3), stored("S", 3)],
    "a purge of the stream": [MAKE_A, fill("a.x", 2), sourcing(of("A")), until("S", 2), ("STREAM.PURGE.S",), fill("a.x", 1), until("S", 1), stored("S", 3)],
    "limits of the stream": [MAKE_A, fill("a.x", 5), sourcing(of("A"), max_msgs=2), until("S", 2, 5), stored("S", 4, 5)],
    "a full stream that discards new": [MAKE_A, fill("a.x", 3), sourcing(of("A"), max_msgs=2, discard="new"), until("S", 2), ("STREAM.PURGE.S",), until("S", 1, 3), stored("S", 3)],
    "lifetimes": [make("A", allow_msg_ttl=True), pub("a.x", "x", Nats_TTL="1h"), sourcing(of("A")), until("S", 1), stored("S", 1)],
    "rollups": [make("A", allow_rollup_hdrs=True), fill("a.x", 2), sourcing(of("A"), allow_rollup_hdrs=True), until("S", 2), pub("a.x", "x", Nats_Rollup="sub"), until("S", 1, 3), stored("S", 3)],
    "a source of a work queue": [make("A", retention="workqueue"), fill("a.x", 3), sourcing(of("A")), until("S", 3), until("A", 0), stored("S", 1)],
    "a source of an interest stream": [make("A", retention="interest"), sourcing(of("A")), pause(1.0), fill("a.x", 2), until("S", 2), until("A", 0)],
    "a work queue of sources": [MAKE_A, fill("a.x", 2), sourcing(of("A"), retention="workqueue"), until("S", 2), stored("S", 1)],
}

TOLD = {
    "a source before its origin": [sourcing(of("A")), until("S", error=10059), settled("S"), MAKE_A, fill("a.x", 1), until("S", 1), settled("S")],
    "a creation with sources": [MAKE_A, sourcing(of("A", filter_subject="a.x"))],
    "info of sources": [MAKE_A, MAKE_B, fill("a.x", 2), fill("b.x", 1), sourcing(of("A"), of("B", subject_transforms=[mapping("b.*", "x.$1")])), until("S", 3), settled("S", "subjects", "duplicate_window")],
    "info of an external source": [sourcing(of("A", external={"api": "x.API", "deliver": "d"})), without_errors(settled("S"))],
    "consumers of sources are not told of": [MAKE_A, fill("a.x", 1), sourcing(of("A")), until("S", 1), ("CONSUMER.NAMES.A",), ("STREAM.INFO.A",)],
    "names by subject": [MAKE_A, sourcing(of("A"), subjects=["s"]), ("STREAM.NAMES", {"subject": "s"})],
}

CHANGES = {
    "a source is added": [MAKE_A, MAKE_B, fill("a.x", 1), fill("b.x", 1), sourcing(of("A")), until("S", 1), unseen(update(of("A"), of("B"))), until("S", 2), stored("S", 2)],
    "a source is taken away": [MAKE_A, MAKE_B, fill("a.x", 1), sourcing(of("A"), of("B")), until("S", 1), update(of("B")), fill("a.x", 1), fill("b.x", 1), until("S", 2), stored("S", 2), settled("S")],
    "a source comes back where it was": [MAKE_A, fill("a.x", 2), sourcing(of("A"), subjects=["s"]), until("S", 2), update(subjects=["s"]), fill("a.x", 1), unseen(update(of("A"), subjects=["s"])), until("S", 3), stored("S", 3)],
    "a source comes back after a purge from its beginning": [MAKE_A, fill("a.x", 2), sourcing(of("A"), subjects=["s"]), until("S", 2), update(subjects=["s"]), ("STREAM.PURGE.S",)],
    "a source with another filter is another": [MAKE_A, fill("a.x", 2), sourcing(of("A", filter_subject="a.x")), until("S", 2), unseen(update(of("A", filter_subject="a.*"))), until("S", 4), stored("S", 3)],
    "an origin that is made anew": [MAKE_A, fill("a.x", 2), sourcing(of("A")), until("S", 2), ("STREAM.DELETE.A",), pause(0.5), MAKE_A, fill("a.y", 1), until("S", 3), stored("S", 3), settled("S")],
    "all sources are taken away": [MAKE_A, fill("a.x", 1), sourcing(of("A")), until("S", 1), ("STREAM.UPDATE.S", {"name": "S"}), INFO],
}

CASES = REFUSALS | CONTENT | TOLD | CHANGES


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_source(pair, steps):
    pair.same(lambda broker: in_order(converse(broker.port, steps)))
