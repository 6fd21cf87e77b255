"""Push consumers beyond plain delivery: who counts as a listener, flow control and acknowledgement by it, rate limits,
original replay: as nats-server does it.
"""

import time

import pytest

from broker import WITH_JETSTREAM, wait_until
from jetstream import JetStream, shown, without_inbox
from mask import mask
from wire import Wire

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def prepare(js, messages=3, **config):
    js.raw("STREAM.CREATE.S", S)
    js.fill("s.a", messages)
    js.consumer(**{"ack_policy": "none", "deliver_subject": "to.me"} | config)


def see(messages):
    return [without_inbox(mask_flow(shown(message))) for message in messages]


def mask_flow(data):
    if data.get("reply", "").startswith("$JS.FC."):
        data["reply"] = data["reply"].rsplit(".", 1)[0] + ".<random>"
    headers = data.get("headers", {})
    if "Nats-Consumer-Stalled" in headers:
        headers["Nats-Consumer-Stalled"] = headers["Nats-Consumer-Stalled"].rsplit(".", 1)[0] + ".<random>"
    return data


def info(js):
    return js.api("CONSUMER.INFO.S.C")


@pytest.mark.parametrize(("group", "subject", "queue"), [
    ("", "to.me", ""), ("", "to.me", "q"), ("", "to.*", ""), ("", "to.>", ""), ("", ">", ""),
    ("q", "to.me", ""), ("q", "to.me", "q"), ("q", "to.me", "r"), ("q", "to.*", "q"),
])
def test_who_listens(both, group, subject, queue):
    @both
    def _(js):
        prepare(js, **({"deliver_group": group} if group else {}))
        with Wire(js.port, {}) as listener:
            listener.subscribe(subject, queue)
            early = listener.sync()
            js.quiet(0.1)
            heard = [message for message in early + listener.sync() if message.subject.startswith("s.") or message.reply.startswith("$JS.ACK")]
            return [message.payload for message in heard], js.raw("CONSUMER.INFO.S.C").get("push_bound")


def test_acks_without_policy_have_no_responders(both):
    @both
    def _(js):
        prepare(js, 1)
        js.wire.subscribe("to.me")
        message = js.wire.read_message()
        return without_inbox(shown(js.wire.request(message.reply, "+ACK")))


def test_acks_of_what_is_gone_have_no_responders(both):
    @both
    def _(js):
        prepare(js, 1, ack_policy="explicit")
        js.wire.subscribe("to.me")
        message = js.wire.read_message()
        js.raw("CONSUMER.DELETE.S.C")
        return without_inbox(shown(js.wire.request(message.reply, "+ACK")))


def test_flow_control_asks_and_says_when_it_waits(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        for _ in range(24):
            js.publish("s.a", b"x" * 100_000)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "none", "deliver_subject": "to.me",
                                               "flow_control": True, "idle_heartbeat": SECOND // 2}}
        with Wire(js.port, {"headers": True}) as listener:
            listener.subscribe("to.me")
            listener.sync()
            js.raw("CONSUMER.CREATE.S.C", body)
            seen = []
            while not seen or "Idle" not in seen[-1].status:
                seen.append(listener.read_message())
            asked = [message for message in seen if "FlowControl" in message.status]
            stalled = seen[-1].header("Nats-Consumer-Stalled") == asked[-1].reply
            before = [message.status for message in seen]
            listener.publish(asked[-1].reply, b"")
            more = [listener.read_message()]
            while "Idle" not in more[-1].status:
                more.append(listener.read_message())
            return before, stalled, see(asked), [message.status for message in more], see([more[-1]])


def flow_acked(js, listener, messages=3, **config):
    js.raw("STREAM.CREATE.S", S | config.pop("stream", {}))
    listener.subscribe("to.me")
    listener.sync()
    body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "flow_control", "deliver_subject": "to.me"} | config}
    js.fill("s.a", messages)
    created = js.raw("CONSUMER.CREATE.S.C", body)
    assert "error" not in created, created


def test_acks_by_flow_control(both):
    @both
    def _(js):
        with Wire(js.port, {"headers": True}) as listener:
            flow_acked(js, listener)
            seen = []
            while not seen or "FlowControl" not in seen[-1].status:
                seen.append(listener.read_message())
            before = info(js)
            answer = [("Nats-Last-Consumer", "2"), ("Nats-Last-Stream", "2")]
            listener.publish(seen[-1].reply, b"", headers=answer)
            wait_until(lambda: js.raw("CONSUMER.INFO.S.C")["num_ack_pending"] == 1, "two are acknowledged")
            return see(seen), before, info(js)


def test_acks_by_flow_control_at_max_ack_pending(both):
    @both
    def _(js):
        with Wire(js.port, {"headers": True}) as listener:
            flow_acked(js, listener, 5, max_ack_pending=2)
            seen = [listener.read_message() for _ in range(3)]
            listener.publish(seen[-1].reply, b"", headers=[("Nats-Last-Consumer", "2"), ("Nats-Last-Stream", "2")])
            more = [listener.read_message() for _ in range(3)]
            return see(seen), see(more)


def test_acks_by_flow_control_are_no_plain_acks(both):
    @both
    def _(js):
        with Wire(js.port, {"headers": True, "no_responders": True}) as listener:
            flow_acked(js, listener, 1)
            message = listener.read_message()
            return see([message]), without_inbox(shown(listener.request(message.reply, "+ACK"))), info(js)


def test_acks_by_flow_control_empty_a_work_queue(both):
    @both
    def _(js):
        with Wire(js.port, {"headers": True}) as listener:
            flow_acked(js, listener, 3, stream={"retention": "workqueue"})
            message = listener.read_message()
            while "FlowControl" not in message.status:
                message = listener.read_message()
            listener.publish(message.reply, b"", headers=[("Nats-Last-Consumer", "3"), ("Nats-Last-Stream", "3")])
            wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 0, "the queue is empty")
            return mask(js.raw("STREAM.INFO.S")["state"]), info(js)


def test_a_filtered_consumer_beats_with_what_it_passed_over(both):
    @both
    def _(js):
        prepare(js, 5, filter_subject="s.b", idle_heartbeat=SECOND // 4)
        with Wire(js.port, {"headers": True}) as listener:
            listener.subscribe("to.me")
            return see([listener.read_message()]), info(js)


def timed(function):
    begin = time.monotonic()
    result = function()
    return result, time.monotonic() - begin


def test_a_rate_limit_spaces_messages(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"max_msg_size": 1000})
        for _ in range(9):
            js.publish("s.a", b"x" * 900)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "none", "deliver_subject": "to.me", "rate_limit_bps": 40_000}}
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            listener.sync()
            js.raw("CONSUMER.CREATE.S.C", body)
            messages, took = timed(lambda: [listener.read_message() for _ in range(9)])
        return len(messages), 1.2 < took < 2.6


def test_original_replay_keeps_the_rhythm(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        for _ in range(4):
            js.publish("s.a", b"x")
            time.sleep(0.3)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "none", "deliver_subject": "to.me", "replay_policy": "original"}}
        with Wire(js.port, {}) as listener:
            listener.subscribe("to.me")
            listener.sync()
            js.raw("CONSUMER.CREATE.S.C", body)
            messages, took = timed(lambda: [listener.read_message() for _ in range(4)])
            later, at_once = timed(lambda: [js.publish("s.a", b"y"), listener.read_message()])
        return see(messages), 0.8 < took < 1.6, at_once < 0.25, len(later)


def test_original_replay_of_pulls(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        for _ in range(3):
            js.publish("s.a", b"x")
            time.sleep(0.3)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit", "replay_policy": "original"}}
        js.raw("CONSUMER.CREATE.S.C", body)
        messages, took = timed(lambda: js.pulled("S", "C", {"batch": 3, "expires": 5 * SECOND}, 3))
        return messages, 0.5 < took < 1.2


def test_a_pause_is_told(both):
    @both
    def _(js):
        prepare(js)
        with JetStream(js.port) as other:
            other.wire.subscribe("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.>")
            other.wire.sync()
            js.api("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"})
            js.api("CONSUMER.PAUSE.S.C", {"pause_until": "2099-01-01T00:00:00Z"})
            js.api("CONSUMER.PAUSE.S.C", {})
            js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {"name": "D", "ack_policy": "explicit", "pause_until": "2099-01-01T00:00:00Z"}})
            return [(message.subject, mask(message.json())) for message in other.quiet()]


def test_the_ends_of_messages_are_told(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 3)
        body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit", "sample_freq": "100%",
                                               "max_deliver": 1, "ack_wait": SECOND // 4}}
        js.raw("CONSUMER.CREATE.S.C", body)
        with JetStream(js.port) as other:
            for subject in ("MSG_NAKED", "MSG_TERMINATED", "MAX_DELIVERIES"):
                other.wire.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.{subject}.>")
            other.wire.subscribe("$JS.EVENT.METRIC.CONSUMER.ACK.>")
            other.wire.sync()
            messages = js.pull("S", "C", {"batch": 3, "no_wait": True}, 3)
            js.ack(messages[0])
            js.ack(messages[1], "+TERM no good")
            js.ack(messages[2], "-NAK")
            seen = other.quiet(1.0)
        events = [(message.subject, mask(message.json())) for message in seen]
        for _, event in events:
            event.pop("ack_time", None)
        return sorted(events, key=str)
