"""Every field of a consumer's configuration with good, odd and bad values, on creation and as a change: judged as nats-server
judges it.
"""

import pytest

from broker import WITH_JETSTREAM
from steps import converse, fill

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}
PULL = {"ack_policy": "explicit"}
PUSH = PULL | {"deliver_subject": "to.me"}
ACKS_BY_FLOW = {"ack_policy": "flow_control", "deliver_subject": "to.me"}

WRONG_TYPES = ["text", 1, -1, 1.5, True, [1], {"a": 1}]
INTEGERS = [0, 1, -1, -2, 7, 2**31, 2**63, 1.5, "1", True, [], {}]
DURATIONS = [0, 1, -1, 10**6, SECOND, 2**63 - 1, "1s", 1.5]
TEXTS = ["", "a", "a.b", "a b", "a/b", "a\\b", "a*", ">", "x" * 300, 1, True, [], {}]
FLAGS = [True, False, 1, "true", None]

FIELDS = {
    "durable_name": TEXTS, "name": TEXTS, "description": ["", "d", "d" * 4096, "d" * 4097, 1],
    "deliver_policy": ["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", "", "ALL", 0, None],
    "opt_start_seq": INTEGERS,
    "opt_start_time": ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00", "2020-01-01", "", 1, None],
    "ack_policy": ["none", "all", "explicit", "flow_control", "", "ACK", 1, None],
    "ack_wait": DURATIONS, "max_deliver": INTEGERS,
    "backoff": [[], [SECOND], [SECOND, 2 * SECOND], [-1], [0], ["1s"], SECOND, [SECOND] * 20],
    "filter_subject": ["", "s.a", "s.*", "s.>", "t", "s..a", ">", " ", "s.a b", 1],
    "filter_subjects": [[], ["s.a"], ["s.a", "s.b"], ["s.a", "s.a"], ["s.*", "s.a"], [""], ["s..a"], "s.a", [1], None],
    "replay_policy": ["instant", "original", "", "slow", 1],
    "rate_limit_bps": INTEGERS, "sample_freq": ["", "0", "100", "50%", "100%", "101", "-5", "5.5", "%", "x", "99999999999999999999", 5],
    "max_waiting": INTEGERS, "max_ack_pending": INTEGERS, "flow_control": FLAGS, "headers_only": FLAGS,
    "max_batch": INTEGERS, "max_expires": DURATIONS, "max_bytes": INTEGERS,
    "deliver_subject": ["", "to.me", "to.*", "to.>", "s.a", "s", "to..me", "to me", "$JS.x", 1],
    "deliver_group": ["", "g", "g.h", "g h", "g*", 1], "idle_heartbeat": DURATIONS + [10**8, 10**8 - 1],
    "inactive_threshold": [0, -1, SECOND, 2**63 - 1, "1s", 1.5], "num_replicas": INTEGERS, "mem_storage": FLAGS, "direct": [False, 1, "x"],
    "sourcing": [False, 1, "x"], "metadata": [{}, {"a": "b"}, {"a": 1}, {"_nats.req.level": "9"}, {"a": "x" * 140_000}, [], "x"],
    "pause_until": ["2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "soon", 1, None],
    "priority_groups": [[], ["a"], [""], "a", [1]], "priority_policy": ["none", "overflow", "", "x", 1],
    "priority_timeout": DURATIONS,
}


def create(config, **request):
    return ("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config} | request)


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def judged(pair, base, field, pedantic, stream=S):
    """What both say to each value, each for a consumer of its own."""

    def hold(broker):
        steps = [("STREAM.CREATE.S", stream), fill("s.a", 1)]
        for value in FIELDS[field]:
            steps.append(create({"durable_name": "C", "name": "C"} | base | {field: value}, pedantic=pedantic))
            steps.append(("CONSUMER.DELETE.S.C",))
        return list(zip(["stream", "fill"] + [each for value in FIELDS[field] for each in (str(value)[:40], "delete")],
                        converse(broker.port, steps), strict=True))

    pair.same(hold)


@pytest.mark.parametrize("field", FIELDS)
def test_pull(pair, field):
    judged(pair, PULL, field, False)


@pytest.mark.parametrize("field", FIELDS)
def test_push(pair, field):
    judged(pair, PUSH, field, False)


@pytest.mark.parametrize("field", FIELDS)
def test_pedantic(pair, field):
    judged(pair, PULL | {"ack_wait": SECOND}, field, True)


@pytest.mark.parametrize("field", ["ack_wait", "backoff", "max_deliver", "idle_heartbeat", "flow_control", "max_ack_pending", "deliver_subject"])
def test_acknowledged_by_flow_control(pair, field):
    judged(pair, ACKS_BY_FLOW, field, False)


@pytest.mark.parametrize("field", ["flow_control", "idle_heartbeat", "max_ack_pending"])
def test_acknowledged_by_flow_control_pedantically(pair, field):
    judged(pair, ACKS_BY_FLOW | {"flow_control": True, "idle_heartbeat": SECOND}, field, True)


@pytest.mark.parametrize("field", ["ack_policy", "num_replicas", "deliver_policy", "filter_subject", "deliver_subject"])
@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_of_other_retention(pair, field, retention):
    judged(pair, PULL, field, False, S | {"retention": retention})


@pytest.mark.parametrize("field", ["max_ack_pending", "inactive_threshold"])
@pytest.mark.parametrize("pedantic", [False, True], ids=["lenient", "pedantic"])
def test_under_the_streams_limits(pair, field, pedantic):
    limits = {"consumer_limits": {"max_ack_pending": 5, "inactive_threshold": SECOND}}
    judged(pair, PULL | {"ack_wait": SECOND}, field, pedantic, S | limits)


CHANGES = {
    "deliver_policy": ["new"], "opt_start_seq": [2], "opt_start_time": ["2020-01-01T00:00:00Z"], "ack_policy": ["none", "all"],
    "ack_wait": [SECOND], "max_deliver": [3], "backoff": [[SECOND, 2 * SECOND]], "filter_subject": ["s.b"],
    "filter_subjects": [["s.a", "s.b"]], "replay_policy": ["original"], "rate_limit_bps": [1000], "sample_freq": ["50%"],
    "max_waiting": [7], "max_ack_pending": [7], "flow_control": [True], "headers_only": [True], "max_batch": [7],
    "max_expires": [SECOND], "max_bytes": [7], "deliver_subject": ["to.other", ""], "deliver_group": ["g"], "idle_heartbeat": [SECOND],
    "inactive_threshold": [SECOND * 60], "num_replicas": [1, 3], "mem_storage": [True], "description": ["d"],
    "metadata": [{"a": "b"}], "pause_until": ["2099-01-01T00:00:00Z"], "priority_groups": [["a"]],
    "priority_policy": ["overflow"], "priority_timeout": [SECOND],
}


@pytest.mark.parametrize("base", [PULL, PUSH], ids=["pull", "push"])
@pytest.mark.parametrize("field", CHANGES)
def test_change(pair, base, field):
    def hold(broker):
        steps = [("STREAM.CREATE.S", S)]
        for value in CHANGES[field]:
            named = {"durable_name": "C", "name": "C"} | base
            for action in ("", "create", "update"):
                steps += [create(named), create(named | {field: value}, action=action), ("CONSUMER.INFO.S.C",), ("CONSUMER.DELETE.S.C",)]
        return converse(broker.port, steps)

    pair.same(hold)


@pytest.mark.parametrize("subject", [
    "CONSUMER.CREATE.S.C", "CONSUMER.CREATE.S.C.s.a", "CONSUMER.CREATE.S.C.s.>", "CONSUMER.CREATE.S.D", "CONSUMER.CREATE.S",
    "CONSUMER.DURABLE.CREATE.S.C", "CONSUMER.DURABLE.CREATE.S.D", "CONSUMER.CREATE.S.C/D", "CONSUMER.CREATE.S.C\\D", "CONSUMER.CREATE.T.C",
])
@pytest.mark.parametrize("config", [
    {"durable_name": "C"}, {"name": "C"}, {"durable_name": "C", "filter_subject": "s.a"}, {"durable_name": "C", "filter_subjects": ["s.a"]},
    {"durable_name": "C", "name": "D"}, {"name": "C/D"},
], ids=str)
def test_subject(pair, subject, config):
    pair.same(lambda broker: converse(broker.port, [("STREAM.CREATE.S", S), (subject, {"stream_name": "S", "config": PULL | config}), ("CONSUMER.NAMES.S",)]))


QUEUE = ("STREAM.CREATE.S", S | {"retention": "workqueue"})


@pytest.mark.parametrize("configs", [
    [{}, {}], [{"filter_subject": "s.a"}, {"filter_subject": "s.a"}], [{"filter_subject": "s.a"}, {"filter_subject": "s.b"}],
    [{"filter_subject": "s.a"}, {}], [{"filter_subject": "s.*"}, {"filter_subject": "s.b"}],
    [{"filter_subjects": ["s.a", "s.b"]}, {"filter_subjects": ["s.c", "s.b"]}], [{"ack_policy": "all"}], [{"ack_policy": "none"}],
    [{"ack_policy": "none", "deliver_subject": "to.me"}], [{"deliver_policy": "new"}], [{"deliver_policy": "last", "ack_policy": "all"}],
    [{"ack_policy": "flow_control", "deliver_subject": "to.me"}],
], ids=str)
def test_consumers_share_a_work_queue(pair, configs):
    steps = [QUEUE]
    for number, config in enumerate(configs):
        name = f"C{number}"
        steps.append((f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": {"durable_name": name} | PULL | config}))
    pair.same(lambda broker: converse(broker.port, steps))
