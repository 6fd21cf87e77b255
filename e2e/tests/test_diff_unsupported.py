"""Streams that need a newer server: one that came out of a newer server's backup is offline from the next start on. It is listed,
says why, keeps its subjects, and can be deleted."""

import json

import pytest

from backups import restore, take
from broker import WITH_JETSTREAM, wait_until
from jetstream import JetStream
from mask import mask

EXPLICIT = {"name": "X", "ack_policy": "explicit"}
CONSUMER = {"stream_name": "S", "config": EXPLICIT}
S = {"name": "S", "subjects": ["s.>"]}
LEVELS = ["6", "9", "newer", "-1", "5", ""]
REQUESTS = {
    "what is it": [("STREAM.INFO.S",), ("STREAM.INFO.S", {"deleted_details": True})],
    "what is there": [("STREAM.NAMES",), ("STREAM.LIST",), ("STREAM.LIST", {"subject": "s.a"}), ("STREAM.NAMES", {"subject": "s.a"}), ("STREAM.LIST", {"offset": 1})],
    "an update": [("STREAM.UPDATE.S", S), ("STREAM.UPDATE.S", S | {"max_msgs": 3}), ("STREAM.INFO.S",)],
    "other streams": [("STREAM.CREATE.T", {"name": "T", "subjects": ["s.>"]}), ("STREAM.CREATE.T", {"name": "T", "subjects": ["t.>"]}), ("STREAM.INFO.T",), ("STREAM.LIST",)],
    "its consumers": [("CONSUMER.INFO.S.C",), ("CONSUMER.LIST.S",), ("CONSUMER.NAMES.S",), ("CONSUMER.DELETE.S.C",), ("CONSUMER.CREATE.S.X", CONSUMER), ("CONSUMER.CREATE.S", CONSUMER | {"config": {"ack_policy": "none", "deliver_subject": "d"}})],
    "its messages": [("STREAM.PURGE.S",), ("STREAM.MSG.DELETE.S", {"seq": 1}), ("STREAM.SNAPSHOT.S", {"deliver_subject": "d"}), ("DIRECT.GET.S", {"seq": 1}), ("CONSUMER.MSG.NEXT.S.C", {})],
    "its end": [("STREAM.DELETE.S",), ("STREAM.INFO.S",), ("STREAM.NAMES",), ("STREAM.CREATE.S", S), ("STREAM.INFO.S",)],
}
SILENT = [("STREAM.MSG.GET.S", {"seq": 1}), ("CONSUMER.PAUSE.S.C", {}), ("CONSUMER.UNPIN.S.C", {"group": "g"}), ("CONSUMER.RESET.S.C", {"seq": 1})]


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def conversation(level, ask):
    """Restores a stream of that level, starts the server anew, and asks."""
    def hold(broker):
        with JetStream(broker.port) as js:
            js.clear()
            assert "error" not in js.raw("STREAM.CREATE.S", S)
            js.fill("s.a", 3)
            js.consumer("C")
            backup = take(js, "S")
            js.raw("STREAM.DELETE.S")
            answer = restore(js, backup, metadata={"_nats.req.level": level})
            assert "error" not in answer, answer
            before = js.api("STREAM.INFO.S")["config"], js.publish("s.a", "m4")
        broker.stop()
        broker.start()
        with JetStream(broker.port) as js:
            try:
                wait_until(lambda: js.raw("INFO").get("streams") == 1, "the stream is known")
                return before, ask(js)
            finally:
                js.clear()

    return hold


def info(js):
    answer = js.api("STREAM.INFO.S")
    return answer.get("error") or (answer["config"]["metadata"], answer["state"]["messages"])


@pytest.mark.parametrize("level", LEVELS)
def test_who_needs_a_newer_server(pair, level):
    pair.same(conversation(level, info))


@pytest.mark.parametrize("case", REQUESTS)
def test_an_offline_stream(pair, case):
    pair.same(conversation("9", lambda js: [mask(js.raw(*request)) for request in REQUESTS[case]]))


def test_a_stream_of_a_newer_server_is_there_already_until_the_next_start(pair):
    def hold(broker):
        with JetStream(broker.port) as js:
            js.clear()
            assert "error" not in js.raw("STREAM.CREATE.S", S)
            js.fill("s.a", 1)
            backup = take(js, "S")
            js.raw("STREAM.DELETE.S")
            restore(js, backup, metadata={"_nats.req.level": "9"})
            said = [js.api("STREAM.CREATE.S", S), js.api("STREAM.CREATE.S", S | {"max_msgs": 3})]
            said += [js.api("STREAM.UPDATE.S", S)["config"], js.api("STREAM.CREATE.S", S)]
            js.clear()
            return said

    pair.same(hold)


@pytest.mark.deviates("newer-backups.md")
def test_an_offline_stream_is_not_created_again(pair):
    asked = conversation("9", lambda js: [js.api("STREAM.CREATE.S", S | {"max_msgs": 3}), js.api("STREAM.CREATE.S", S)])
    (_, (other, same)), (_, (weir_other, weir_same)) = asked(pair.reference), asked(pair.weir)
    assert weir_other == other
    assert same["did_create"] and weir_same["error"]["err_code"] == 10194


def test_an_offline_stream_does_not_answer_the_rest(pair):
    def ask(js):
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        for subject, body in SILENT:
            js.wire.publish(f"$JS.API.{subject}", json.dumps(body), inbox)
        return [message.payload for message in js.quiet(1.0)], js.publish("s.a", "m5")

    pair.same(conversation("9", ask))


def test_the_log_tells_of_it(pair):
    def hold(broker):
        conversation("9", info)(broker)
        lines = [line for line in broker.log_since_start().splitlines() if "unsupported stream" in line]
        return [line.split("[WRN]")[1].strip() for line in lines]

    pair.same(hold)
