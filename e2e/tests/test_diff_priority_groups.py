"""Priority groups of pull consumers: overflow, pinned clients, prioritized requests, unpin: as nats-server does it."""

import json

import pytest

from broker import WITH_JETSTREAM, wait_until
from jetstream import JetStream, shown, without_inbox
from mask import mask

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}
GROUP = {"priority_groups": ["A"]}
OVERFLOW = GROUP | {"priority_policy": "overflow"}
PINNED = GROUP | {"priority_policy": "pinned_client"}
PRIORITIZED = GROUP | {"priority_policy": "prioritized"}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def prepare(js, messages=3, **config):
    """A stream with messages and the durable consumer C."""
    js.raw("STREAM.CREATE.S", S)
    js.fill("s.a", messages)
    js.consumer(**config)


def info(js):
    return js.api("CONSUMER.INFO.S.C")


def see(messages):
    return [without_inbox(shown(message)) for message in messages]


def ask(js, body):
    """Leaves a pull request waiting; its inbox."""
    inbox = js.wire.inbox()
    js.wire.subscribe(inbox)
    js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps(body), inbox)
    return inbox


def waiting(js, count):
    with JetStream(js.port) as other:
        wait_until(lambda: other.raw("CONSUMER.INFO.S.C")["num_waiting"] == count, f"{count} requests wait")


def pin_of(message):
    return dict(message.headers)["Nats-Pin-Id"]


CONFIGS = {
    "overflow": OVERFLOW, "pinned": PINNED, "prioritized": PRIORITIZED, "none": {"priority_policy": "none"},
    "pinned with a timeout": PINNED | {"priority_timeout": 5 * SECOND},
    "overflow with a timeout": OVERFLOW | {"priority_timeout": 5 * SECOND},
    "two groups": OVERFLOW | {"priority_groups": ["A", "B"]},
    "a group twice": OVERFLOW | {"priority_groups": ["A", "A"]},
    "no group": {"priority_policy": "overflow"},
    "an empty group": OVERFLOW | {"priority_groups": [""]},
    "a group with a blank": OVERFLOW | {"priority_groups": ["a b"]},
    "a group with a dot": OVERFLOW | {"priority_groups": ["a.b"]},
    "a group of 16": OVERFLOW | {"priority_groups": ["a-/_=0123456789Z"]},
    "a group of 17": OVERFLOW | {"priority_groups": ["a" * 17]},
    "a group without policy": GROUP,
    "a timeout without policy": {"priority_timeout": SECOND},
    "a negative timeout": PINNED | {"priority_timeout": -1},
    "an unknown policy": GROUP | {"priority_policy": "loudest"},
    "push": OVERFLOW | {"deliver_subject": "to.me"},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=[name.replace(" ", "_") for name in CONFIGS])
@pytest.mark.parametrize("pedantic", [False, True], ids=["lenient", "pedantic"])
def test_configuration(both, config, pedantic):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        body = {"stream_name": "S", "pedantic": pedantic,
                "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit", "ack_wait": SECOND} | config}
        return js.api("CONSUMER.CREATE.S.C", body), info(js)


@pytest.mark.parametrize(("before", "after"), [
    (OVERFLOW, PINNED), (PINNED, {}), ({}, OVERFLOW), (OVERFLOW, OVERFLOW | {"priority_groups": ["B"]}),
    (PINNED, PINNED | {"priority_timeout": 9 * SECOND}),
], ids=["policy", "to_none", "from_none", "groups", "timeout"])
def test_update(both, before, after):
    @both
    def _(js):
        prepare(js, 0, **before)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit"} | after}
        return js.api("CONSUMER.CREATE.S.C", body), info(js)


REFUSED = {
    "no group": (OVERFLOW, {"batch": 1}),
    "another group": (OVERFLOW, {"batch": 1, "group": "B"}),
    "min_pending of pinned": (PINNED, {"group": "A", "batch": 1, "min_pending": 1}),
    "min_ack_pending of prioritized": (PRIORITIZED, {"group": "A", "batch": 1, "min_ack_pending": 1}),
    "min_pending of none": ({}, {"batch": 1, "min_pending": 1}),
    "an id of overflow": (OVERFLOW, {"group": "A", "batch": 1, "id": "x"}),
    "an id of none": ({}, {"batch": 1, "id": "x"}),
    "priority 10": (PRIORITIZED, {"group": "A", "batch": 1, "priority": 10}),
    "priority -1": (PRIORITIZED, {"group": "A", "batch": 1, "priority": -1}),
    "priority 10 of none": ({}, {"batch": 1, "priority": 10}),
    "priority 9 of none": ({}, {"batch": 1, "priority": 9}),
    "a group of none": ({}, {"batch": 1, "group": "A"}),
    "a wrong id without pin": (PINNED, {"group": "A", "batch": 1, "id": "x"}),
    "no json of overflow": (OVERFLOW, "1"),
    "no json of pinned": (PINNED, "1"),
    "empty of prioritized": (PRIORITIZED, ""),
    "negative min_pending": (OVERFLOW, {"group": "A", "batch": 1, "min_pending": -1}),
    "wrong types": (OVERFLOW, {"group": 1}),
}


@pytest.mark.parametrize(("config", "body"), REFUSED.values(), ids=[name.replace(" ", "_") for name in REFUSED])
def test_request(both, config, body):
    @both
    def _(js):
        prepare(js, 2, **config)
        body_now = body | {"expires": SECOND // 4} if isinstance(body, dict) else body
        return js.pulled("S", "C", body_now, 1)


@pytest.mark.parametrize(("limits", "messages"), [
    ({"min_pending": 3}, 3), ({"min_pending": 4}, 3), ({"min_ack_pending": 1}, 3),
    ({"min_pending": 9, "min_ack_pending": 0}, 3), ({}, 3), ({"min_pending": 1}, 1),
], ids=str)
def test_overflow_serves_above_its_levels(both, limits, messages):
    @both
    def _(js):
        prepare(js, messages, **OVERFLOW)
        return js.pulled("S", "C", {"group": "A", "batch": 5, "expires": SECOND // 3} | limits, 9)


def test_overflow_begins_when_enough_wait_for_acks(both):
    @both
    def _(js):
        prepare(js, 4, **OVERFLOW)
        ask(js, {"group": "A", "batch": 1, "min_ack_pending": 2, "expires": 5 * SECOND})
        waiting(js, 1)
        first = js.pulled("S", "C", {"group": "A", "batch": 2, "expires": 2 * SECOND}, 2)
        return first, see([js.wire.read_message()]), info(js)


def test_overflow_without_waiting_is_404(both):
    @both
    def _(js):
        prepare(js, 1, **OVERFLOW)
        return js.pulled("S", "C", {"group": "A", "batch": 1, "min_pending": 5, "no_wait": True}, 1)


def test_the_first_client_is_pinned(both):
    @both
    def _(js):
        prepare(js, 5, **PINNED)
        before = info(js)
        [first] = js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
        pin = pin_of(first)
        again = js.pulled("S", "C", {"group": "A", "batch": 1, "expires": SECOND, "id": pin})
        other = js.pulled("S", "C", {"group": "A", "batch": 1, "expires": SECOND // 3})
        wrong = js.pulled("S", "C", {"group": "A", "batch": 1, "expires": SECOND // 3, "id": "x"})
        known = js.raw("CONSUMER.INFO.S.C")["priority_groups"][0]["pinned_client_id"] == pin
        return before, see([first]), again, other, wrong, known, info(js)


def test_one_request_waits_while_another_is_pinned(both):
    @both
    def _(js):
        prepare(js, 1, **PINNED)
        [first] = js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
        ask(js, {"group": "A", "batch": 2, "expires": 5 * SECOND})
        ask(js, {"group": "A", "batch": 2, "expires": 5 * SECOND, "id": pin_of(first)})
        waiting(js, 2)
        with JetStream(js.port) as other:
            other.fill("s.b", 2)
        return see([js.wire.read_message(), js.wire.read_message()]), info(js)


def test_unpin_lets_the_next_one_in(both):
    @both
    def _(js):
        prepare(js, 3, **PINNED)
        [first] = js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
        ask(js, {"group": "A", "batch": 1, "expires": 5 * SECOND})
        waiting(js, 1)
        with JetStream(js.port) as other:
            answer = other.api("CONSUMER.UNPIN.S.C", {"group": "A"})
        second = js.wire.read_message()
        old = js.pulled("S", "C", {"group": "A", "batch": 1, "expires": SECOND, "id": pin_of(first)})
        return answer, pin_of(first) != pin_of(second), see([second]), old


def test_an_unpinned_client_that_waits_is_told(both):
    @both
    def _(js):
        prepare(js, 1, **PINNED)
        [first] = js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
        ask(js, {"group": "A", "batch": 1, "expires": 5 * SECOND, "id": pin_of(first)})
        waiting(js, 1)
        with JetStream(js.port) as other:
            other.raw("CONSUMER.UNPIN.S.C", {"group": "A"})
            other.fill("s.b", 1)
        return see([js.wire.read_message()]), info(js)


def test_a_silent_client_loses_its_pin(both):
    @both
    def _(js):
        prepare(js, 2, **PINNED | {"priority_timeout": SECOND // 2})
        js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
        return js.pulled("S", "C", {"group": "A", "batch": 1, "expires": 3 * SECOND}), info(js)


def test_pins_are_told(both):
    @both
    def _(js):
        prepare(js, 1, **PINNED | {"priority_timeout": SECOND // 2})
        with JetStream(js.port) as other:
            other.wire.subscribe("$JS.EVENT.ADVISORY.CONSUMER.PINNED.>")
            other.wire.subscribe("$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.>")
            other.wire.sync()
            js.pull("S", "C", {"group": "A", "batch": 1, "expires": SECOND})
            advisories = [other.wire.read_message(), other.wire.read_message()]
            js.api("CONSUMER.UNPIN.S.C", {"group": "A"})
            advisories.append(other.wire.read_message())
        return [(message.subject, mask(message.json())) for message in advisories]


UNPINS = {
    "an unknown group": {"group": "B"}, "no group": {}, "no body": None, "an invalid group": {"group": "a b"},
    "broken json": "{", "an unknown field": {"group": "A", "colour": 1}, "a number": {"group": 1},
}


@pytest.mark.parametrize("body", UNPINS.values(), ids=[name.replace(" ", "_") for name in UNPINS])
def test_unpin(both, body):
    @both
    def _(js):
        prepare(js, 0, **PINNED)
        return js.api("CONSUMER.UNPIN.S.C", body)


def test_unpin_of_what_is_not_there(both):
    @both
    def _(js):
        nothing = js.api("CONSUMER.UNPIN.S.C", {"group": "A"})
        prepare(js, 0)
        return nothing, js.api("CONSUMER.UNPIN.S.D", {"group": "A"}), js.api("CONSUMER.UNPIN.S.C", {"group": "A"})


def test_prioritized_requests_are_served_by_priority(both):
    @both
    def _(js):
        prepare(js, 0, **PRIORITIZED)
        for priority in (5, 0, 9, 1):
            ask(js, {"group": "A", "batch": 2, "priority": priority, "expires": 5 * SECOND})
        waiting(js, 4)
        with JetStream(js.port) as other:
            other.fill("s.b", 6)
        order = [js.wire.read_message() for _ in range(6)]
        return [message.sid for message in order]


def test_prioritized_requests_of_one_priority_take_turns(both):
    @both
    def _(js):
        prepare(js, 0, **PRIORITIZED)
        for _ in range(2):
            ask(js, {"group": "A", "batch": 2, "priority": 1, "expires": 5 * SECOND})
        waiting(js, 2)
        with JetStream(js.port) as other:
            other.fill("s.b", 4)
        order = [js.wire.read_message() for _ in range(4)]
        return [message.sid for message in order]
