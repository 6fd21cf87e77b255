"""Errors of the JetStream API that no other area's cases provoke: the same code and text from Weir and from nats-server."""

import json

import pytest

from broker import STANDALONE, wait_until
from jetstream import JetStream

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB, limits { max_request_batch: 10 } }
"""
# One more than a page of names holds.
STREAMS = 1025
EXPLICIT = {"ack_policy": "explicit"}


def consumer(subject: str, **config):
    return subject, {"stream_name": "S", "config": config}


# The code that is looked for, and the request.
REQUESTS = {
    "a stream's deletion with a body": (10038, ("STREAM.DELETE.S", {"x": 1})),
    "a consumer's info with a body": (10038, ("CONSUMER.INFO.S.C", {"x": 1})),
    "a consumer's deletion with a body": (10038, ("CONSUMER.DELETE.S.C", {"x": 1})),
    "pending acks without acks": (10082, consumer("CONSUMER.CREATE.S.C", name="C", deliver_subject="d", ack_policy="none", max_ack_pending=5)),
    "a direct consumer that is durable": (10091, consumer("CONSUMER.DURABLE.CREATE.S.C", durable_name="C", deliver_subject="d", direct=True)),
    "a batch above the server's": (10125, consumer("CONSUMER.CREATE.S.C", name="C", max_batch=11, **EXPLICIT)),
}
PUBLISHES = {
    "an expected subject without its sequence": (10193, {"Nats-Expected-Last-Subject-Sequence-Subject": "s.a"}),
    "headers above 64 KiB": (10097, {"X": "x" * 66_000}),
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG)


def with_stream(broker, use):
    with JetStream(broker.port) as js:
        try:
            assert "error" not in js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
            return use(js)
        finally:
            js.clear()


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_is_refused(pair, case):
    code, (subject, body) = REQUESTS[case]

    def use(js):
        answer = js.api(subject, body)
        assert answer["error"]["err_code"] == code, answer
        return answer

    pair.same(lambda broker: with_stream(broker, use))


@pytest.mark.parametrize("case", PUBLISHES)
def test_a_publish_is_refused(pair, case):
    code, headers = PUBLISHES[case]

    def use(js):
        answer = js.publish("s.a", "m", headers)
        assert answer["error"]["err_code"] == code, answer
        return answer

    pair.same(lambda broker: with_stream(broker, use))


def test_a_consumer_for_another_stream_of_the_name_is_refused(pair):
    def use(js):
        body = {"stream_name": "S", "config": {"name": "C", "deliver_subject": "d", "direct": True, "ack_policy": "none"}}
        answer = js.raw("CONSUMER.CREATE.S.C", body, [("Nats-Stream-Identity", "another")])
        assert answer["error"]["err_code"] == 10225, answer
        # Which identity the stream has is chance.
        answer["error"]["description"] = answer["error"]["description"].rsplit(": ", 1)[0]
        return answer

    pair.same(lambda broker: with_stream(broker, use))


@pytest.mark.parametrize("offset", [0, 255, 256, 1023, 1024, 1025, 5000, -1])
@pytest.mark.parametrize("subject", ["STREAM.NAMES", "STREAM.LIST"])
def test_lists_come_in_pages(many, subject, offset):
    def use(broker):
        with JetStream(broker.port) as js:
            answer = js.raw(subject, {"offset": offset})
            found = answer.pop("streams", None) or []
            return answer, [entry if isinstance(entry, str) else entry["config"]["name"] for entry in found]

    many.same(use)


@pytest.fixture(scope="module")
def many(start_pair):
    """More streams than a page of names holds."""
    both = start_pair(CONFIG)
    for broker in (both.reference, both.weir):
        with JetStream(broker.port) as js:
            for number in range(STREAMS):
                config = {"name": f"N{number:04}", "subjects": [f"n.{number}"], "storage": "memory"}
                js.wire.publish(f"$JS.API.STREAM.CREATE.N{number:04}", json.dumps(config))
            wait_until(lambda: js.raw("STREAM.NAMES")["total"] == STREAMS, "the streams are there", 90, 0.2)
    return both
