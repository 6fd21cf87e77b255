"""CONSUMER.RESET: where a consumer may be sent, what becomes of what was pending, and the answers: as nats-server."""

import pytest

from broker import WITH_JETSTREAM, wait_until
from jetstream import shown, without_inbox
from mask import mask

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"]}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def prepare(js, stream=None, messages=5, **config):
    js.raw("STREAM.CREATE.S", S | (stream or {}))
    if (stream or {}).get("retention") != "interest":
        js.fill("s.a", messages)
    js.consumer(**config)
    if (stream or {}).get("retention") == "interest":
        js.fill("s.a", messages)


def info(js):
    return js.api("CONSUMER.INFO.S.C")


@pytest.mark.parametrize("config", [
    {}, {"deliver_policy": "new"}, {"deliver_policy": "last"}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
    {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
    {"deliver_policy": "last_per_subject", "filter_subject": "s.>"}, {"ack_policy": "all"}, {"ack_policy": "none"},
], ids=lambda config: "_".join(map(str, config.values())) or "all")
@pytest.mark.parametrize("body", [None, {}, {"seq": 0}, {"seq": 2}, {"seq": 4}, {"seq": 9}], ids=str)
def test_reset(both, config, body):
    @both
    def _(js):
        prepare(js, **config)
        messages = js.pull("S", "C", {"batch": 3, "no_wait": True}, 3)
        if messages and messages[0].reply and config.get("ack_policy") != "none":
            js.ack(messages[0])
        before = info(js)
        answer = js.api("CONSUMER.RESET.S.C", body)
        after = info(js)
        return before, answer, after, js.pulled("S", "C", {"batch": 9, "no_wait": True}, 9), info(js)


@pytest.mark.parametrize("body", ["{", "x", {"seq": -1}, {"seq": "1"}, {"seq": 1.5}, {"colour": 1}, "[]", "null"], ids=str)
def test_bad_request(both, body):
    @both
    def _(js):
        prepare(js)
        return js.api("CONSUMER.RESET.S.C", body)


def test_of_what_is_not_there(both):
    @both
    def _(js):
        def ask(subject):
            inbox = js.wire.inbox()
            js.wire.subscribe(inbox)
            js.wire.publish(f"$JS.API.{subject}", b"", inbox)
            return [without_inbox(shown(message)) for message in js.quiet()]

        nothing = ask("CONSUMER.RESET.S.C")
        prepare(js)
        return nothing, ask("CONSUMER.RESET.S.D")


def test_a_newer_api_level_is_refused(both):
    @both
    def _(js):
        prepare(js)
        reset = js.api("CONSUMER.RESET.S.C", None, [("Nats-Required-Api-Level", "99")])
        pull = js.wire.request("$JS.API.CONSUMER.MSG.NEXT.S.C", b"", [("Nats-Required-Api-Level", "99")])
        fine = js.wire.request("$JS.API.CONSUMER.MSG.NEXT.S.C", b"", [("Nats-Required-Api-Level", "1")])
        return reset, without_inbox(shown(pull)), without_inbox(shown(fine))


def test_who_names_a_stream_is_told_which(both):
    @both
    def _(js):
        prepare(js)
        answer = js.wire.request("$JS.API.CONSUMER.RESET.S.C", b"", [("Nats-Stream-Identity", "x")])
        return [(key, len(value)) for key, value in answer.headers], mask(answer.json())


def test_pending_messages_come_again(both):
    @both
    def _(js):
        prepare(js)
        js.pull("S", "C", {"batch": 3, "no_wait": True}, 3)
        js.api("CONSUMER.RESET.S.C")
        return js.pulled("S", "C", {"batch": 9, "no_wait": True}, 9), info(js)


def test_waiting_requests_are_served_after_a_reset(both):
    @both
    def _(js):
        prepare(js, messages=1)
        js.pull("S", "C", {"batch": 1, "no_wait": True})
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", '{"batch": 1, "expires": 5000000000}', inbox)
        js.api("CONSUMER.RESET.S.C", {"seq": 1})
        return without_inbox(shown(js.wire.read_message()))


def test_a_reset_forward_frees_what_was_kept_for_the_consumer(both):
    @both
    def _(js):
        prepare(js, {"retention": "interest"})
        js.api("CONSUMER.RESET.S.C", {"seq": 4})
        wait_until(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 2, "messages are gone")
        return js.api("STREAM.INFO.S")["state"], js.pulled("S", "C", {"batch": 9, "no_wait": True}, 9)
