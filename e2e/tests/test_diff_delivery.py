"""What consumers do: pulls and their statuses, acks of every kind, redelivery, push delivery: as nats-server does it."""

import json

import pytest

from broker import WITH_JETSTREAM, wait_until
from jetstream import JetStream, shown, without_inbox
from wire import Wire

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def prepare(js, messages=3, stream=None, **config):
    """A stream with messages and the durable consumer C."""
    created = js.raw("STREAM.CREATE.S", S | (stream or {}))
    assert "error" not in created, created
    js.fill("s.a", messages)
    js.consumer(**config)


def info(js, name="C"):
    return js.api(f"CONSUMER.INFO.S.{name}")


def settled(js, check, name="C"):
    """The consumer's info once `check` of it holds (acks are not awaited by their sender)."""
    wait_until(lambda: check(js.raw(f"CONSUMER.INFO.S.{name}")), "the consumer's state is as expected", 5)
    return info(js, name)


def see(messages):
    return [without_inbox(shown(message)) for message in messages]


PULLS = {
    "without body brings one": (3, None, 1),
    "by a bare number brings that many": (3, "2", 2),
    "of a batch": (3, {"batch": 3}, 3),
    "no_wait of an empty stream is 404": (0, {"batch": 1, "no_wait": True}, 1),
    "no_wait of fewer messages ends by 404": (2, {"batch": 5, "no_wait": True}, 9),
    "no_wait of as many messages has no status": (2, {"batch": 2, "no_wait": True}, 2),
    "that expires empty is 408": (0, {"batch": 1, "expires": SECOND // 4}, 1),
    "that expires with a part is 408": (2, {"batch": 5, "expires": SECOND // 4}, 9),
    "with no_wait and expires": (2, {"batch": 5, "no_wait": True, "expires": SECOND // 4}, 9),
    "with a heartbeat": (0, {"batch": 1, "expires": SECOND, "idle_heartbeat": 3 * SECOND // 10}, 9),
    "with a heartbeat too long for its expiry": (0, {"batch": 1, "expires": SECOND, "idle_heartbeat": SECOND}, 1),
    "with a heartbeat without expiry": (0, {"batch": 1, "idle_heartbeat": SECOND}, 1),
    "with max_bytes": (3, {"batch": 3, "max_bytes": 100, "expires": SECOND // 4}, 9),
    "with max_bytes too small for one": (3, {"batch": 3, "max_bytes": 4, "expires": SECOND // 4}, 9),
    "of a negative batch": (3, {"batch": -1, "expires": SECOND // 4}, 1),
    "of batch zero": (3, {"batch": 0, "no_wait": True}, 1),
    "with nulls is as without": (3, {"batch": 2, "expires": None, "no_wait": None, "max_bytes": None, "idle_heartbeat": None, "group": None}, 2),
    "with broken json": (3, "{", 1),
    "with an unknown field": (3, {"batch": 1, "colour": 1, "no_wait": True}, 1),
    "with a negative expiry": (3, {"batch": 1, "expires": -5}, 1),
    "with a text that is no request": (3, "next please", 1),
}


@pytest.mark.parametrize(("messages", "body", "expected"), PULLS.values(), ids=[name.replace(" ", "_") for name in PULLS])
def test_pull(both, messages, body, expected):
    @both
    def _(js):
        prepare(js, messages)
        return js.pulled("S", "C", body, expected), info(js)


def test_a_pull_waits_for_a_message(both):
    @both
    def _(js):
        prepare(js, 0)
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps({"batch": 2, "expires": 5 * SECOND}), inbox)
        wait_until(lambda: other_info(js)["num_waiting"] == 1, "the pull waits")
        with JetStream(js.port) as other:
            other.fill("s.a", 2)
        return see([js.wire.read_message(), js.wire.read_message()])


def other_info(js, name="C"):
    with JetStream(js.port) as other:
        return other.raw(f"CONSUMER.INFO.S.{name}")


def test_a_pull_of_an_unknown_consumer_has_no_responders(both):
    both(lambda js: (js.raw("STREAM.CREATE.S", S), js.pulled("S", "C", {"batch": 1}))[1])


def test_a_pull_of_a_push_consumer_is_refused(both):
    @both
    def _(js):
        prepare(js, 1, deliver_subject="to.me")
        return js.pulled("S", "C", {"batch": 1, "no_wait": True})


def test_pulls_above_max_waiting_are_refused(both):
    @both
    def _(js):
        prepare(js, 0, max_waiting=1)
        first, second = js.wire.inbox(), js.wire.inbox()
        js.wire.subscribe(first)
        js.wire.subscribe(second)
        js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps({"batch": 1, "expires": 5 * SECOND}), first)
        js.wire.sync()
        js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps({"batch": 1, "expires": 5 * SECOND}), second)
        return see([js.wire.read_message()])


@pytest.mark.parametrize(("limits", "body"), [
    ({"max_batch": 2}, {"batch": 3, "no_wait": True}),
    ({"max_expires": SECOND}, {"batch": 1, "expires": 2 * SECOND}),
    ({"max_bytes": 100}, {"batch": 1, "max_bytes": 200, "no_wait": True}),
    ({"max_expires": SECOND}, {"batch": 1}),
], ids=["batch", "expires", "bytes", "no_expiry"])
def test_a_pull_above_the_consumers_limits_is_409(both, limits, body):
    @both
    def _(js):
        prepare(js, 3, **limits)
        return js.pulled("S", "C", body)


def test_deleting_the_consumer_ends_its_pulls(both):
    @both
    def _(js):
        prepare(js, 0)
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps({"batch": 1, "expires": 5 * SECOND}), inbox)
        wait_until(lambda: other_info(js)["num_waiting"] == 1, "the pull waits")
        with JetStream(js.port) as other:
            other.raw("CONSUMER.DELETE.S.C")
        return see([js.wire.read_message()])


@pytest.mark.parametrize("policy", [
    {"deliver_policy": "all"}, {"deliver_policy": "last"}, {"deliver_policy": "new"},
    {"deliver_policy": "last_per_subject", "filter_subject": "s.>"},
    {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
    {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
    {"filter_subject": "s.b"}, {"filter_subjects": ["s.b", "s.c"]}, {"filter_subject": "s.*"},
    {"deliver_policy": "last", "filter_subject": "s.b"},
    {"headers_only": True}, {"ack_policy": "none"}, {"ack_policy": "all"},
], ids=lambda policy: "_".join(str(value) for value in policy.values()))
def test_policies_choose_the_messages(both, policy):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        for subject in ("s.a", "s.b", "s.c", "s.b"):
            js.publish(subject, f"to {subject}", {"Color": "red"})
        js.consumer(**policy)
        js.publish("s.b", "later")
        js.quiet(0.05)  # nats-server counts a new message as pending a moment after its ack
        return js.pulled("S", "C", {"batch": 9, "no_wait": True}, 10), info(js)


ACKS = {"ack": "+ACK", "empty": "", "nak": "-NAK", "in_progress": "+WPI", "terminate": "+TERM",
        "terminate_with_reason": "+TERM broken order", "unknown": "maybe"}


@pytest.mark.parametrize("body", ACKS.values(), ids=ACKS)
def test_ack(both, body):
    @both
    def _(js):
        prepare(js, 3)
        messages = js.pull("S", "C", {"batch": 2}, 2)
        answer = js.ack(messages[0], body) if body != "maybe" else js.wire.publish(messages[0].reply, body)
        again = js.pulled("S", "C", {"batch": 5, "no_wait": True}, 9)
        return answer, again, info(js)


def test_ack_next_brings_the_next(both):
    @both
    def _(js):
        prepare(js, 3)
        [first] = js.pull("S", "C", {"batch": 1})
        return see([js.wire.request(first.reply, "+NXT")]), info(js)


def test_ack_next_of_two(both):
    @both
    def _(js):
        prepare(js, 4)
        [first] = js.pull("S", "C", {"batch": 1})
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish(first.reply, '+NXT {"batch": 2, "no_wait": true}', inbox)
        return see([js.wire.read_message(), js.wire.read_message()]), info(js)


def test_an_ack_of_ack_all_acks_what_came_before(both):
    @both
    def _(js):
        prepare(js, 4, ack_policy="all")
        messages = js.pull("S", "C", {"batch": 4}, 4)
        return js.ack(messages[2]), info(js)


def test_acks_out_of_order_move_the_floor_when_complete(both):
    @both
    def _(js):
        prepare(js, 3)
        messages = js.pull("S", "C", {"batch": 3}, 3)
        states = []
        for index in (1, 2, 0):
            js.ack(messages[index])
            states.append(info(js))
        return states


def test_an_ack_twice_is_harmless(both):
    @both
    def _(js):
        prepare(js, 2)
        [message] = js.pull("S", "C", {"batch": 1})
        js.ack(message)
        js.wire.publish(message.reply, "+ACK")
        js.wire.sync()
        return info(js)


def test_a_nak_is_redelivered_at_once(both):
    @both
    def _(js):
        prepare(js, 2)
        [message] = js.pull("S", "C", {"batch": 1})
        js.ack(message, "-NAK")
        return js.pulled("S", "C", {"batch": 2}, 2), info(js)


def test_a_nak_with_delay_waits(both):
    @both
    def _(js):
        prepare(js, 1)
        [message] = js.pull("S", "C", {"batch": 1})
        js.ack(message, '-NAK {"delay": 400000000}')
        early = js.pulled("S", "C", {"batch": 1, "no_wait": True})
        late = js.pulled("S", "C", {"batch": 1, "expires": 3 * SECOND})
        return early, late


def test_what_is_not_acked_in_time_is_redelivered(both):
    @both
    def _(js):
        prepare(js, 2, ack_wait=SECOND // 2)
        js.pull("S", "C", {"batch": 2}, 2)
        again = js.pulled("S", "C", {"batch": 2, "expires": 3 * SECOND}, 2)
        return sorted(again, key=str), info(js)


def test_in_progress_resets_the_clock(both):
    @both
    def _(js):
        prepare(js, 1, ack_wait=SECOND)
        [message] = js.pull("S", "C", {"batch": 1})
        for _ in range(3):
            js.quiet(0.6)
            js.ack(message, "+WPI")
        return info(js)


def test_max_deliver_ends_redelivery(both):
    @both
    def _(js):
        prepare(js, 1, max_deliver=2, ack_wait=SECOND // 4)
        first = js.pulled("S", "C", {"batch": 1})
        second = js.pulled("S", "C", {"batch": 1, "expires": 2 * SECOND})
        third = js.pulled("S", "C", {"batch": 1, "expires": SECOND})
        return first, second, third, info(js)


def test_back_off_spaces_redeliveries(both):
    @both
    def _(js):
        prepare(js, 1, max_deliver=3, backoff=[SECOND // 5, SECOND // 2])
        return [js.pulled("S", "C", {"batch": 1, "expires": 3 * SECOND}) for _ in range(3)]


def test_max_ack_pending_holds_delivery_back(both):
    @both
    def _(js):
        prepare(js, 4, max_ack_pending=2)
        messages = js.pull("S", "C", {"batch": 2}, 2)
        held = js.pulled("S", "C", {"batch": 2, "expires": SECOND // 4}, 2)
        js.ack(messages[0])
        freed = js.pulled("S", "C", {"batch": 1, "expires": SECOND})
        return held, freed, info(js)


def test_a_work_queue_removes_what_is_acked(both):
    @both
    def _(js):
        prepare(js, 3, stream={"retention": "workqueue"})
        messages = js.pull("S", "C", {"batch": 2}, 2)
        js.ack(messages[0])
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 2, "the message is gone")
        return js.api("STREAM.INFO.S")


def test_a_work_queue_removes_what_is_terminated(both):
    @both
    def _(js):
        prepare(js, 2, stream={"retention": "workqueue"})
        [message] = js.pull("S", "C", {"batch": 1})
        js.ack(message, "+TERM")
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 1, "the message is gone")
        return js.api("STREAM.INFO.S")


def test_an_interest_stream_keeps_until_all_have_acked(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"retention": "interest"})
        js.consumer("C")
        js.consumer("D")
        js.fill("s.a", 1)
        [one] = js.pull("S", "C", {"batch": 1})
        js.ack(one)
        between = js.api("STREAM.INFO.S")["state"]
        [two] = js.pull("S", "D", {"batch": 1})
        js.ack(two)
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 0, "the message is gone")
        return between, js.api("STREAM.INFO.S")["state"]


def test_a_deleted_message_is_skipped(both):
    @both
    def _(js):
        prepare(js, 3)
        js.raw("STREAM.MSG.DELETE.S", {"seq": 2})
        return js.pulled("S", "C", {"batch": 3, "no_wait": True}, 4), info(js)


def test_a_purge_moves_the_consumer_on(both):
    @both
    def _(js):
        prepare(js, 3)
        js.pull("S", "C", {"batch": 1})
        js.raw("STREAM.PURGE.S")
        return settled(js, lambda state: state["num_ack_pending"] == 0 and state["num_pending"] == 0)


# -- push

def push_messages(js, count, to="to.me", queue="", **config):
    """Subscribes, then creates the push consumer; what it delivers."""
    js.wire.subscribe(to, queue)
    js.consumer(**{"deliver_subject": to} | config)
    return [js.wire.read_message() for _ in range(count)]


def test_a_push_consumer_delivers_what_is_there_and_what_comes(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 2)
        with JetStream(js.port) as other:
            other.consumer(deliver_subject="to.me")
            js.wire.subscribe("to.me")
            first = [js.wire.read_message(), js.wire.read_message()]
            other.fill("s.b", 1)
            return see(first + [js.wire.read_message()]), info(other)


def test_a_push_consumer_waits_for_its_listener(both):
    @both
    def _(js):
        prepare(js, 2, deliver_subject="to.me")
        before = info(js)
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            messages = [listener.read_message(), listener.read_message()]
        return before, see(messages), settled(js, lambda state: not state.get("push_bound"))


def test_a_push_consumer_redelivers_to_its_listener(both):
    @both
    def _(js):
        prepare(js, 1, deliver_subject="to.me", ack_wait=SECOND // 3)
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            return see([listener.read_message(), listener.read_message()])


def test_a_push_group_shares_the_messages(both):
    @both
    def _(js):
        prepare(js, 0, deliver_subject="to.me", deliver_group="workers")
        with Wire(js.port, {}) as one, Wire(js.port, {}) as two:
            one.subscribe("to.me", "workers")
            two.subscribe("to.me", "workers")
            one.sync()
            two.sync()
            js.fill("s.a", 40)
            settled(js, lambda state: state["delivered"]["stream_seq"] == 40)
            heard = [message.payload for wire in (one, two) for message in wire.sync()]
            return sorted(heard), len(heard)


def test_a_push_group_ignores_who_is_not_in_it(both):
    @both
    def _(js):
        prepare(js, 1, deliver_subject="to.me", deliver_group="workers")
        with Wire(js.port, {}) as stranger:
            stranger.subscribe("to.me")
            js.quiet()
            return see(stranger.sync()), info(js)


def test_a_push_consumer_stops_at_max_ack_pending(both):
    @both
    def _(js):
        prepare(js, 5, deliver_subject="to.me", max_ack_pending=2)
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            first = [listener.read_message(), listener.read_message()]
            js.quiet()
            none = listener.sync()
            listener.publish(first[0].reply, "+ACK")
            return see(first), see(none), see([listener.read_message()])


def test_a_push_consumer_beats_when_idle(both):
    @both
    def _(js):
        prepare(js, 1, deliver_subject="to.me", idle_heartbeat=SECOND // 4)
        with Wire(js.port, {"headers": True}) as listener:
            listener.subscribe("to.me")
            return see([listener.read_message() for _ in range(3)])


def test_a_push_consumer_without_acks_delivers_once(both):
    @both
    def _(js):
        prepare(js, 3, deliver_subject="to.me", ack_policy="none")
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            messages = see([listener.read_message() for _ in range(3)])
            return messages, settled(js, lambda state: state["delivered"]["stream_seq"] == 3)


def test_a_bound_push_consumer_cannot_be_bound_again(both):
    @both
    def _(js):
        prepare(js, 0, deliver_subject="to.me")
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            listener.sync()
            settled(js, lambda state: state.get("push_bound"))
            body = {"durable_name": "C", "name": "C", "ack_policy": "explicit", "deliver_subject": "to.another"}
            return js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": body})


def test_an_ephemeral_push_consumer_goes_with_its_listener(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            listener.sync()
            js.raw("CONSUMER.CREATE.S", {"stream_name": "S", "config": {
                "deliver_subject": "to.me", "ack_policy": "none", "inactive_threshold": SECOND // 2}})
            during = js.api("CONSUMER.NAMES.S")["total"]
        wait_until(lambda: js.raw("CONSUMER.NAMES.S")["total"] == 0, "the ephemeral is gone", 8)
        return during


def test_an_ephemeral_pull_consumer_goes_when_inactive(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.raw("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"ack_policy": "explicit", "inactive_threshold": SECOND // 2}})
        wait_until(lambda: js.raw("CONSUMER.NAMES.S")["total"] == 0, "the ephemeral is gone", 8)
        return js.api("CONSUMER.NAMES.S")


def test_an_unknown_api_subject_is_not_answered(both):
    @both
    def _(js):
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish("$JS.API.STREAM.WHATEVER.S", "{}", inbox)
        return see(js.quiet())
