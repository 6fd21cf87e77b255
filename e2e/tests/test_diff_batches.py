"""Atomic and fast batches (ADR-50): acks, what a batch refuses, what ends it: as nats-server answers."""

import json

import pytest

from broker import WITH_JETSTREAM
from mask import mask
from steps import converse, heard, pause, pub

S = {"name": "S", "subjects": ["s.>"], "allow_atomic": True, "allow_batched": True}
INFO = ("STREAM.INFO.S", {"subjects_filter": ">"})
SMALL_LIMITS = WITH_JETSTREAM.replace("jetstream {", "jetstream { limits { batch { max_inflight_per_stream: 2, max_inflight_total: 3, max_msgs: 3, timeout: \"300ms\" } },", 1)


def create(**more):
    return ("STREAM.CREATE.S", S | more)


def get(seq):
    return ("STREAM.MSG.GET.S", {"seq": seq})


def part(seq, commit=None, batch="b", subject="s.a", payload="x", **headers):
    """One message of an atomic batch, and the body of what it is answered."""
    fields = [("Nats-Batch-Id", batch)] if batch is not None else []
    fields += [("Nats-Batch-Sequence", str(seq))] if seq is not None else []
    fields += [("Nats-Batch-Commit", commit)] if commit is not None else []
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]

    def send(js):
        answer = js.wire.request(subject, payload, fields)
        return mask(json.loads(answer.payload)) if answer.payload else "staged"

    return send


def abandoned(*steps):
    """The steps, and the advisories that come meanwhile."""
    listen = heard("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.>", *steps)

    def hear(js):
        done, advisories = listen(js)
        return done, [(advisory["subject"], mask(json.loads(advisory["payload"]))) for advisory in advisories]

    return hear


ATOMIC = {
    "a batch is stored at its commit": [create(), part(1), INFO, part(2, subject="s.b"), part(3, "1"), INFO, get(1), get(3)],
    "an end marker is not stored": [create(), part(1), part(2), part(3, "eob"), INFO, get(2)],
    "a batch of one": [create(), part(1, "1"), get(1)],
    "an end marker alone": [create(), abandoned(part(1, "eob")), INFO],
    "a batch may be used again": [create(), part(1), part(2, "1"), part(1), part(2, "1"), INFO],
    "two batches at once": [create(), part(1, batch="x"), part(1, batch="y"), part(2, "1", batch="y"), part(2, "1", batch="x"), INFO],
    "a single publish between": [create(), part(1), pub("s.b", "y"), part(2, "1"), INFO, get(1)],
    "a gap ends the batch": [create(), part(1), abandoned(part(3)), part(2), INFO],
    "a repeated sequence ends the batch": [create(), part(1), abandoned(part(1)), part(2, "1"), INFO],
    "a batch does not begin later": [create(), part(2), part(1001), part(1002, "eob"), INFO],
    "a sequence is needed": [create(), part(None), part("x"), part("-1"), part(0), INFO],
    "an id is at most 64 long": [create(), part(1, "1", batch="i" * 64), part(1, "1", batch="i" * 65), INFO],
    "an empty id is none": [create(), pub("s.a", "x", Nats_Batch_Id="", Nats_Batch_Sequence="1"), INFO],
    "a commit is 1 or eob": [create(), part(1), abandoned(part(2, "yes")), part(2, "1"), part(1, ""), INFO],
    "batches may be switched off": [create(allow_atomic=False), part(1), part(1, "1"), INFO],
    "switching off drops what was staged": [create(), part(1), ("STREAM.UPDATE.S", S | {"allow_atomic": False}), part(2, "1"), ("STREAM.UPDATE.S", S), part(2, "1"), INFO],
    "an api level that is met": [create(), part(1, Nats_Required_Api_Level="1"), part(2, "1"), get(1)],
    "an api level too high": [create(), abandoned(part(1, Nats_Required_Api_Level="99")), part(2), INFO],
    "max_msg_size holds in a batch": [create(max_msg_size=100), part(1), part(2, payload="x" * 200), part(2, "1"), INFO],
    "sealed streams take no batch": [create(), ("STREAM.UPDATE.S", S | {"sealed": True}), part(1, "1"), INFO],
    "an expected stream in a batch": [create(), part(1, Nats_Expected_Stream="S"), part(2, "1", Nats_Expected_Stream="T"), INFO],
    "an expected last sequence on the first": [create(), pub("s.x"), part(1, Nats_Expected_Last_Sequence="1"), part(2, "1"), INFO],
    "a wrong expected last sequence on the first": [create(), pub("s.x"), part(1, Nats_Expected_Last_Sequence="7"), part(2, "1"), INFO],
    "an expected last sequence later": [create(), pub("s.x"), part(1), part(2, "1", Nats_Expected_Last_Sequence="2"), part(1), part(2, "1", Nats_Expected_Last_Sequence="1"), INFO],
    "an expected subject sequence": [create(), pub("s.a"), part(1, Nats_Expected_Last_Subject_Sequence="1"), part(2, "1", subject="s.b", Nats_Expected_Last_Subject_Sequence="0"), INFO],
    "a wrong expected subject sequence": [create(), pub("s.a"), part(1, subject="s.b"), part(2, "1", Nats_Expected_Last_Subject_Sequence="9"), INFO],
    "an expected subject sequence of what the batch wrote": [create(), part(1), part(2, "1", Nats_Expected_Last_Subject_Sequence="1"), INFO],
    "an expected sequence of another subject": [create(), pub("s.x"), part(1, Nats_Expected_Last_Subject_Sequence="1", Nats_Expected_Last_Subject_Sequence_Subject="s.x"),
                                                part(2, "1", Nats_Expected_Last_Subject_Sequence="2", Nats_Expected_Last_Subject_Sequence_Subject="s.x"), INFO],
    "an expected last message id": [create(), part(1), part(2, "1", Nats_Expected_Last_Msg_Id="1"), INFO],
    "message ids in a batch": [create(), part(1, Nats_Msg_Id="1"), part(2, "1", Nats_Msg_Id="2"), pub("s.a", Nats_Msg_Id="2"), INFO],
    "a message id twice in a batch": [create(), part(1, Nats_Msg_Id="1"), part(2, "1", Nats_Msg_Id="1"), INFO],
    "a message id that is known": [create(), pub("s.a", Nats_Msg_Id="1"), part(1), part(2, "1", Nats_Msg_Id="1"), INFO],
    "a rollup of a subject in a batch": [create(allow_rollup_hdrs=True), pub("s.a"), pub("s.b"), part(1, Nats_Rollup="sub"), part(2, "1", subject="s.b", Nats_Rollup="sub"), INFO],
    "a rollup of what the batch wrote": [create(allow_rollup_hdrs=True), part(1), part(2, "1", Nats_Rollup="sub"), INFO],
    "a rollup of all first": [create(allow_rollup_hdrs=True), pub("s.a"), part(1, Nats_Rollup="all"), part(2, "1"), INFO],
    "a rollup of all later": [create(allow_rollup_hdrs=True), pub("s.a"), part(1), part(2, "1", Nats_Rollup="all"), INFO],
    "a rollup that is not allowed": [create(), part(1), part(2, "1", Nats_Rollup="sub"), INFO],
    "a ttl in a batch": [create(allow_msg_ttl=True), part(1, Nats_TTL="1h"), part(2, "1", Nats_TTL="x"), INFO],
    "a ttl that is not allowed": [create(), part(1), part(2, "1", Nats_TTL="1h"), INFO],
    "a source header in a batch": [create(), part(1), part(2, "1", Nats_Stream_Source="X 1"), INFO],
    "an increment in a batch of no counter": [create(), part(1, "1", payload="", Nats_Incr="1"), INFO],
    "counters in a batch": [create(allow_msg_counter=True), part(1, payload="", Nats_Incr="1"), part(2, payload="", subject="s.b", Nats_Incr="5"), part(3, "1", payload="", Nats_Incr="2"), get(3), INFO],
    "a schedule in a batch": [create(allow_msg_schedules=True), part(1, "1", Nats_Schedule="@at 2099-01-01T00:00:00Z", Nats_Schedule_Target="s.t"), get(1)],
    "discard new counts the batch": [create(max_msgs=2, discard="new"), part(1), part(2), part(3, "1"), part(1), part(2, "1"), INFO],
    "discard new by subject counts the batch": [create(max_msgs_per_subject=1, discard="new", discard_new_per_subject=True), part(1), part(2, "1"), part(1, subject="s.b"), part(2, "1"), INFO],
    "discard old in a batch": [create(max_msgs=2), part(1), part(2), part(3, "1"), INFO],
    "an interest stream without consumers": [create(retention="interest"), part(1), part(2, "1"), INFO],
    "a transform in a batch": [create(subject_transform={"src": "s.*", "dest": "t.{{wildcard(1)}}"}), part(1), part(2, "1"), get(1), INFO],
    "a batch in memory": [create(storage="memory"), part(1), part(2), part(3, "eob"), INFO, get(2)],
    "a thousand are the most": [create(), lambda js: [js.wire.publish("s.a", "x", None, [("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", str(seq))]) for seq in range(1, 1001)] and None,
                                abandoned(part(1001)), part(1002, "1"), INFO],
}


def fast(seq, operation, batch="f", gap="fail", flow=2, subject="s.a", payload="x", **headers):
    """One message of a fast batch, and all that comes for it before the ack of a single publish behind it."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def send(js):
        inbox = js.wire.inbox()
        sid = js.wire.subscribe(f"{inbox}.>")
        js.wire.publish(subject, payload, f"{inbox}.{batch}.{flow}.{gap}.{seq}.{operation}.$FI", fields)
        js.publish("t" if subject == "t" else "s.behind", "")
        answers = [message.payload for message in js.quiet(0.02) if message.sid == sid]
        js.wire.unsubscribe(sid)
        return [mask(json.loads(answer)) if answer else "" for answer in answers]

    return send


FAST = {
    "a batch is told of and committed": [create(), fast(1, 0), fast(2, 1), fast(3, 1), fast(4, 1), fast(5, 2), INFO, get(5)],
    "a batch ends with a marker": [create(), fast(1, 0), fast(2, 1), fast(3, 3), INFO],
    "a batch of one": [create(), fast(1, 2), INFO],
    "a batch begins at one": [create(), fast(2, 1), fast(2, 2), fast(1, 1), fast(2, 0), fast(1, 3), fast(1, 4), INFO],
    "a ping says where the batch is": [create(), fast(1, 0), fast(1, 4), fast(2, 1), fast(2, 4), fast(1, 4)],
    "a ping finds a gap": [create(), fast(1, 0), fast(5, 4), fast(2, 1), INFO],
    "a ping finds a gap that is allowed": [create(), fast(1, 0, gap="ok"), fast(5, 4, gap="ok"), fast(6, 1, gap="ok"), fast(7, 2, gap="ok"), INFO],
    "a gap ends the batch": [create(), fast(1, 0), fast(3, 1), fast(4, 1), INFO],
    "a gap that is allowed": [create(), fast(1, 0, gap="ok"), fast(3, 1, gap="ok"), fast(4, 1, gap="ok"), fast(5, 2, gap="ok"), INFO],
    "a message that comes again": [create(), fast(1, 0), fast(2, 1), fast(2, 1), fast(3, 1), INFO],
    "a message that comes again where gaps are allowed": [create(), fast(1, 0, gap="ok"), fast(2, 1, gap="ok"), fast(1, 0, gap="ok"), INFO],
    "a refused first message": [create(), fast(1, 0, Nats_Expected_Last_Sequence="9"), fast(2, 1), INFO],
    "a refused later message": [create(), fast(1, 0), fast(2, 1, Nats_Expected_Last_Sequence="9"), fast(3, 1), INFO],
    "a refused message where gaps are allowed": [create(), fast(1, 0, gap="ok"), fast(2, 1, gap="ok", Nats_Expected_Last_Sequence="9"), fast(3, 1, gap="ok"), fast(4, 2, gap="ok"), INFO],
    "a refused commit": [create(), fast(1, 0), fast(2, 2, Nats_Expected_Stream="T"), INFO],
    "a refused commit where gaps are allowed": [create(), fast(1, 0, gap="ok"), fast(2, 2, gap="ok", Nats_Expected_Stream="T"), INFO],
    "a duplicate in a batch": [create(), pub("s.a", Nats_Msg_Id="1"), fast(1, 0), fast(2, 1, Nats_Msg_Id="1"), fast(3, 1), fast(4, 2), INFO],
    "a duplicate commits": [create(), pub("s.a", Nats_Msg_Id="1"), fast(1, 0), fast(2, 2, Nats_Msg_Id="1"), INFO],
    "a duplicate batch of one": [create(), pub("s.a", Nats_Msg_Id="1"), fast(1, 2, Nats_Msg_Id="1"), INFO],
    "batches may be switched off": [create(allow_batched=False), fast(1, 0), INFO],
    "an unknown pattern": [create(), fast(1, 9), fast(0, 0), fast("x", 0), fast(1, 0, gap="maybe"), INFO],
    "an id is at most 64 long": [create(), fast(1, 2, batch="i" * 64), fast(1, 2, batch="i" * 65), INFO],
    "no flow is ten": [create(), fast(1, 0, flow=0), fast(2, 1, flow=0)],
    "a large flow is capped": [create(), fast(1, 0, flow=70000)],
    "two batches share the flow": [create(), fast(1, 0, batch="x", flow=400), fast(1, 0, batch="y", flow=400), fast(2, 1, batch="y", flow=400), fast(3, 1, batch="y", flow=400), fast(4, 1, batch="y", flow=400)],
    "an api level too high": [create(), fast(1, 0, Nats_Required_Api_Level="99"), fast(2, 1), INFO],
    "counters in a fast batch": [create(allow_msg_counter=True), fast(1, 0, payload="", Nats_Incr="1"), fast(2, 1, payload="", Nats_Incr="2"), fast(3, 2, payload="", Nats_Incr="3"), get(3)],
    "an interest stream without consumers": [create(retention="interest"), fast(1, 0), fast(2, 2), INFO],
    "max_msg_size holds": [create(max_msg_size=10), fast(1, 0, payload="x" * 20), INFO],
    "single publishes between": [create(), fast(1, 0), pub("s.b"), fast(2, 1), pub("s.b"), fast(3, 2), INFO],
    "an atomic header in a fast batch": [create(), fast(1, 0, Nats_Batch_Id="b", Nats_Batch_Sequence="1"), fast(2, 2), INFO],
}

CONFIGURATIONS = [{"retention": "workqueue"}, {"persist_mode": "async"}, {"persist_mode": "async", "allow_atomic": False}, {"storage": "memory", "persist_mode": "async", "allow_atomic": False},
                  {"allow_atomic": False, "allow_batched": False}, {"persist_mode": "sometimes"}, {"persist_mode": "default"}]


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.fixture(scope="module")
def limited(start_pair):
    return start_pair(SMALL_LIMITS)


@pytest.mark.parametrize("steps", ATOMIC.values(), ids=[name.replace(" ", "_") for name in ATOMIC])
def test_atomic(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


@pytest.mark.parametrize("steps", FAST.values(), ids=[name.replace(" ", "_") for name in FAST])
def test_fast(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


@pytest.mark.parametrize("more", CONFIGURATIONS, ids=[json.dumps(more) for more in CONFIGURATIONS])
def test_configuration(pair, more):
    pair.same(lambda broker: converse(broker.port, [create(**more), ("STREAM.UPDATE.S", S), INFO]))


LIMITED = {
    "too many messages": [create(), part(1), part(2), part(3), abandoned(part(4)), part(1), part(2), part(3), part(4, "eob"), INFO],
    "too many batches": [create(), part(1, batch="x"), part(1, batch="y"), part(1, batch="z"), part(2, "1", batch="x"), part(1, "1", batch="z")],
    "too many batches of all streams": [create(), ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "allow_atomic": True}), part(1, batch="x"), part(1, batch="y"),
                                        part(1, batch="x", subject="t"), part(1, batch="y", subject="t")],
    "silent batches are given up": [create(), abandoned(part(1), pause(0.6)), part(2, "1"), INFO],
    "too many fast batches": [create(), fast(1, 0, batch="x"), fast(1, 0, batch="y"), fast(1, 0, batch="z")],
    "too many fast batches of all streams": [create(), ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "allow_batched": True}), fast(1, 0, batch="x"), fast(1, 0, batch="y"),
                                             fast(1, 0, batch="x", subject="t"), fast(1, 0, batch="y", subject="t")],
    "silent fast batches are given up": [create(), fast(1, 0), pause(0.5), fast(2, 1), INFO],
}


@pytest.mark.parametrize("steps", LIMITED.values(), ids=[name.replace(" ", "_") for name in LIMITED])
def test_limits(limited, steps):
    limited.same(lambda broker: converse(broker.port, steps))
