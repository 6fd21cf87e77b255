"""The consumer half of the JetStream API: creation with good and bad input, info, names, list, delete."""

import pytest

from broker import WITH_JETSTREAM
from jetstream import JetStream
from mask import mask, mask_generated
from steps import converse, fill, pause

S = {"name": "S", "subjects": ["s.>"]}
STREAM = ("STREAM.CREATE.S", S)
EXPLICIT = {"ack_policy": "explicit"}


def durable(name="C", stream="S", **config):
    """A durable consumer, created as clients of today do."""
    return (f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": {"durable_name": name, "name": name} | EXPLICIT | config})


def action(kind, **config):
    subject, body = durable(**config)
    return (subject, body | {"action": kind})


INFO = ("CONSUMER.INFO.S.C",)

CASES = {
    "a durable pull consumer has nats-server's defaults": [STREAM, durable(), INFO],
    "the older durable subject": [STREAM, ("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C"} | EXPLICIT})],
    "the older durable subject with another name": [STREAM, ("CONSUMER.DURABLE.CREATE.S.D", {"stream_name": "S", "config": {"durable_name": "C"} | EXPLICIT})],
    "the older durable subject without a name": [STREAM, ("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": EXPLICIT})],
    "a named ephemeral": [STREAM, ("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"name": "C"} | EXPLICIT})],
    "a filter in the subject": [STREAM, ("CONSUMER.CREATE.S.C.s.a", {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "filter_subject": "s.a"} | EXPLICIT})],
    "a filter in the subject that differs": [STREAM, ("CONSUMER.CREATE.S.C.s.a", {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "filter_subject": "s.b"} | EXPLICIT})],
    "a filter in the subject alone": [STREAM, ("CONSUMER.CREATE.S.C.s.a", {"stream_name": "S", "config": {"durable_name": "C", "name": "C"} | EXPLICIT})],
    "a push consumer": [STREAM, durable(deliver_subject="to.me"), INFO],
    "a push consumer of a group": [STREAM, durable(deliver_subject="to.me", deliver_group="workers")],
    "a push consumer with heartbeat and flow control": [STREAM, durable(deliver_subject="to.me", idle_heartbeat=10**9, flow_control=True)],
    "flow control without heartbeat is refused": [STREAM, durable(deliver_subject="to.me", flow_control=True)],
    "a heartbeat without push is refused": [STREAM, durable(idle_heartbeat=10**9)],
    "a short heartbeat is refused": [STREAM, durable(deliver_subject="to.me", idle_heartbeat=1000)],
    "flow control without push is refused": [STREAM, durable(flow_control=True)],
    "a rate limit without push is refused": [STREAM, durable(rate_limit_bps=1000)],
    "a deliver subject with a wildcard is refused": [STREAM, durable(deliver_subject="to.*")],
    "a deliver subject inside the stream is refused": [STREAM, durable(deliver_subject="s.me")],
    "a deliver group without push is refused": [STREAM, durable(deliver_group="g")],
    "max_waiting with push is refused": [STREAM, durable(deliver_subject="to.me", max_waiting=10)],
    "a negative max_waiting is refused": [STREAM, durable(max_waiting=-1)],
    "max_batch of a push consumer is refused": [STREAM, durable(deliver_subject="to.me", max_batch=10)],
    "ack none": [STREAM, durable(ack_policy="none")],
    "ack all": [STREAM, durable(ack_policy="all")],
    "an unknown ack policy is refused": [STREAM, durable(ack_policy="maybe")],
    "an unknown deliver policy is refused": [STREAM, durable(deliver_policy="some")],
    "an unknown replay policy is refused": [STREAM, durable(replay_policy="slow")],
    "deliver last": [STREAM, fill("s.a", 3), durable(deliver_policy="last")],
    "deliver new": [STREAM, fill("s.a", 3), durable(deliver_policy="new")],
    "deliver last per subject needs no filter or is refused alike": [STREAM, fill("s.a", 3), durable(deliver_policy="last_per_subject")],
    "deliver last per subject with a filter": [STREAM, fill("s.a", 3), fill("s.b", 2), durable(deliver_policy="last_per_subject", filter_subject="s.>")],
    "deliver by start sequence": [STREAM, fill("s.a", 3), durable(deliver_policy="by_start_sequence", opt_start_seq=2)],
    "deliver by start sequence without one is refused": [STREAM, durable(deliver_policy="by_start_sequence")],
    "deliver all with a start sequence is refused": [STREAM, durable(opt_start_seq=2)],
    "deliver by start time": [STREAM, fill("s.a", 3), durable(deliver_policy="by_start_time", opt_start_time="2020-01-01T00:00:00Z")],
    "deliver by start time without one is refused": [STREAM, durable(deliver_policy="by_start_time")],
    "deliver by a future start time": [STREAM, fill("s.a", 3), durable(deliver_policy="by_start_time", opt_start_time="2099-01-01T00:00:00Z")],
    "deliver last with a start time is refused": [STREAM, durable(deliver_policy="last", opt_start_time="2020-01-01T00:00:00Z")],
    "a start sequence beyond the end": [STREAM, fill("s.a", 3), durable(deliver_policy="by_start_sequence", opt_start_seq=10)],
    "one filter": [STREAM, fill("s.a", 3), fill("s.b", 1), durable(filter_subject="s.b")],
    "several filters": [STREAM, fill("s.a", 3), fill("s.b", 1), fill("s.c", 1), durable(filter_subjects=["s.b", "s.c"])],
    "one filter and several are refused": [STREAM, durable(filter_subject="s.a", filter_subjects=["s.b"])],
    "overlapping filters are refused": [STREAM, durable(filter_subjects=["s.*", "s.b"])],
    "an empty filter among several is refused": [STREAM, durable(filter_subjects=["s.a", ""])],
    "a filter outside the stream is refused or not alike": [STREAM, durable(filter_subject="t.a")],
    "an invalid filter is refused": [STREAM, durable(filter_subject="s..a")],
    "ack_wait is kept": [STREAM, durable(ack_wait=5 * 10**9)],
    "max_deliver is kept": [STREAM, durable(max_deliver=5)],
    "max_deliver of zero is unlimited": [STREAM, durable(max_deliver=0)],
    "a back off": [STREAM, durable(max_deliver=5, backoff=[10**9, 2 * 10**9])],
    "a back off longer than max_deliver is refused": [STREAM, durable(max_deliver=1, backoff=[10**9, 2 * 10**9])],
    "max_ack_pending is kept": [STREAM, durable(max_ack_pending=7)],
    "max_ack_pending without limit": [STREAM, durable(max_ack_pending=-1)],
    "max_ack_pending below minus one": [STREAM, durable(max_ack_pending=-5)],
    "a description is kept": [STREAM, durable(description="for review")],
    "a long description is refused": [STREAM, durable(description="d" * 5000)],
    "metadata is kept": [STREAM, durable(metadata={"team": "a"})],
    "headers only": [STREAM, durable(headers_only=True)],
    "a sample frequency": [STREAM, durable(sample_freq="30%")],
    "a broken sample frequency is refused": [STREAM, durable(sample_freq="often")],
    "max requests of a pull": [STREAM, durable(max_batch=5, max_expires=10**10, max_bytes=1000)],
    "max_expires with push is refused": [STREAM, durable(deliver_subject="to.me", max_expires=10**9)],
    "an inactive threshold of a durable": [STREAM, durable(inactive_threshold=60 * 10**9)],
    "a negative inactive threshold": [STREAM, durable(inactive_threshold=-1)],
    "replicas as the stream's": [STREAM, durable(num_replicas=1)],
    "more replicas than the stream's are refused": [STREAM, durable(num_replicas=3)],
    "memory storage": [STREAM, durable(mem_storage=True)],
    "direct consumers are refused on the api": [STREAM, durable(direct=True)],
    "an unknown field is refused": [STREAM, durable(colour="blue")],
    "nulls are as absent": [STREAM, durable(description=None, filter_subject=None, ack_wait=None, backoff=None, metadata=None)],
    "broken json is refused": [STREAM, ("CONSUMER.CREATE.S.C", "{")],
    "an empty body is refused": [STREAM, ("CONSUMER.CREATE.S.C", "")],
    "an unknown stream": [durable()],
    "a stream name that differs is refused": [STREAM, ("CONSUMER.CREATE.S.C", {"stream_name": "T", "config": {"durable_name": "C", "name": "C"} | EXPLICIT})],
    "a consumer name that differs is refused": [STREAM, ("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {"durable_name": "C", "name": "C"} | EXPLICIT})],
    "a durable name that differs from its name is refused": [STREAM, ("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "D", "name": "C"} | EXPLICIT})],
    "a durable name with a dot is refused": [STREAM, ("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"durable_name": "a.b"} | EXPLICIT})],
    "a durable name with a blank is refused": [STREAM, ("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"durable_name": "a b"} | EXPLICIT})],
    "a long name is refused": [STREAM, durable(name="x" * 256)],
    "the same again is the same consumer": [STREAM, durable(), durable()],
    "the same name with new limits is an update": [STREAM, durable(), durable(max_ack_pending=5, description="x", ack_wait=10**9), INFO],
    "a change of the ack policy is refused": [STREAM, durable(), durable(ack_policy="none")],
    "a change of the deliver policy is refused": [STREAM, durable(), durable(deliver_policy="new")],
    "a change from pull to push is refused": [STREAM, durable(), durable(deliver_subject="to.me")],
    "a change of the filter is an update": [STREAM, durable(), durable(filter_subject="s.a"), INFO],
    "a change of the replay policy is refused": [STREAM, durable(), durable(replay_policy="original")],
    "a change of max_waiting is refused or not alike": [STREAM, durable(), durable(max_waiting=5)],
    "action create of a new one": [STREAM, action("create")],
    "action create of the same again": [STREAM, action("create"), action("create")],
    "action create of another config is refused": [STREAM, action("create"), action("create", max_ack_pending=3)],
    "action update of a missing one is refused": [STREAM, action("update")],
    "action update changes": [STREAM, action("create"), action("update", max_ack_pending=3)],
    "an unknown action is refused": [STREAM, action("delete")],
    "max_consumers is a limit": [("STREAM.CREATE.S", S | {"max_consumers": 1}), durable(), durable(name="D")],
    "a work queue's consumer must ack": [("STREAM.CREATE.S", S | {"retention": "workqueue"}), durable(ack_policy="none")],
    "a work queue's consumer delivers all": [("STREAM.CREATE.S", S | {"retention": "workqueue"}), durable(deliver_policy="new")],
    "a work queue has one consumer without filter": [("STREAM.CREATE.S", S | {"retention": "workqueue"}), durable(), durable(name="D")],
    "a work queue's consumers have disjoint filters": [("STREAM.CREATE.S", S | {"retention": "workqueue"}), durable(filter_subject="s.a"), durable(name="D", filter_subject="s.b"), durable(name="E", filter_subject="s.*")],
    "the stream's consumer limits bind": [("STREAM.CREATE.S", S | {"consumer_limits": {"max_ack_pending": 5}}), durable(max_ack_pending=9)],
    "the stream's consumer limits are defaults": [("STREAM.CREATE.S", S | {"consumer_limits": {"max_ack_pending": 5, "inactive_threshold": 10**10}}), durable()],
    "info of an unknown consumer": [STREAM, INFO],
    "info of an unknown stream": [INFO],
    "names of none": [STREAM, ("CONSUMER.NAMES.S",)],
    "names": [STREAM, durable(), durable(name="A"), ("CONSUMER.NAMES.S",)],
    "names from an offset": [STREAM, durable(), durable(name="A"), ("CONSUMER.NAMES.S", {"offset": 1})],
    "names of an unknown stream": [("CONSUMER.NAMES.S",)],
    "names with broken json": [STREAM, ("CONSUMER.NAMES.S", "{")],
    "list": [STREAM, durable(), ("CONSUMER.LIST.S",)],
    "list of none": [STREAM, ("CONSUMER.LIST.S",)],
    "list from an offset": [STREAM, durable(), durable(name="A"), ("CONSUMER.LIST.S", {"offset": 1})],
    "list of an unknown stream": [("CONSUMER.LIST.S",)],
    "delete": [STREAM, durable(), ("CONSUMER.DELETE.S.C",), INFO, ("STREAM.INFO.S",)],
    "delete of an unknown consumer": [STREAM, ("CONSUMER.DELETE.S.C",)],
    "delete of an unknown stream": [("CONSUMER.DELETE.S.C",)],
    "the stream counts its consumers": [STREAM, durable(), durable(name="D"), ("STREAM.INFO.S",)],
    "deleting the stream deletes its consumers": [STREAM, durable(), ("STREAM.DELETE.S",), pause(), STREAM, ("CONSUMER.NAMES.S",)],
    "a pause holds until a time": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"}), INFO],
    "a pause until a time that has passed is none": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"pause_until": "2020-01-01T00:00:00Z"}), INFO],
    "a pause ends with an empty request": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"}), ("CONSUMER.PAUSE.S.C",), INFO],
    "a pause ends with an empty object": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"}), ("CONSUMER.PAUSE.S.C", {}), INFO],
    "a pause of the same time again": [STREAM, durable(), *[("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"})] * 2],
    "a pause with broken json is refused": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", "{")],
    "a pause with an unknown field is refused": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"until": 1})],
    "a pause until no time is refused": [STREAM, durable(), ("CONSUMER.PAUSE.S.C", {"pause_until": "soon"})],
    "a pause of an unknown consumer": [STREAM, ("CONSUMER.PAUSE.S.C",)],
    "a pause of an unknown stream": [("CONSUMER.PAUSE.S.C",)],
    "a consumer created paused": [STREAM, durable(pause_until="2099-01-01T00:00:00Z"), INFO],
    "leader step down on one server": [STREAM, durable(), ("CONSUMER.LEADER.STEPDOWN.S.C",)],
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_consumer(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


@pytest.mark.parametrize("config", [
    EXPLICIT, {"ack_policy": "none", "deliver_subject": "to.me"}, EXPLICIT | {"inactive_threshold": 10**10},
    EXPLICIT | {"mem_storage": True, "deliver_policy": "last"},
], ids=["pull", "push_without_listener", "with_a_threshold", "in_memory"])
def test_an_ephemeral_gets_a_name_of_the_server(pair, config):
    def hold(broker):
        with JetStream(broker.port) as js:
            try:
                js.raw(*STREAM)
                answer = js.raw("CONSUMER.CREATE.S", {"stream_name": "S", "config": config})
                name = answer.get("name", "")
                return len(name), mask(mask_generated(answer, name)) if name else mask(answer)
            finally:
                js.clear()

    pair.same(hold)
