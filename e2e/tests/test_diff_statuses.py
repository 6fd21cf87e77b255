"""The statuses of headers that come without a message: each exactly as nats-server writes it, byte for byte.

Which requests get them is in the suites of those requests.
"""

import json

import pytest

from broker import WITH_JETSTREAM
from jetstream import held

SECOND = 1_000_000_000
STREAM = {"name": "S", "subjects": ["s.>"], "allow_direct": True}
LEVEL = [("Nats-Required-Api-Level", "99")]


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


def raw(message):
    return message.subject.startswith("_INBOX"), message.status, message.headers, message.payload


def asked(js, subject, body=b"", headers=()):
    return raw(js.wire.request(subject, body if isinstance(body, bytes) else json.dumps(body), headers))


def until_status(js, subject, body, headers=()):
    """What comes for a request up to a status that is no sign of life."""
    inbox = js.wire.inbox()
    sid = js.wire.subscribe(inbox)
    js.wire.publish(subject, json.dumps(body), inbox, headers)
    seen = [js.wire.read_message()]
    while seen[-1].code in (0, 100):
        seen.append(js.wire.read_message())
    js.wire.unsubscribe(sid)
    return raw(seen[-1])


def prepared(js, messages=0, **consumer):
    js.raw("STREAM.CREATE.S", STREAM)
    js.fill("s.a", messages)
    js.consumer(**consumer)


def wrong_pin(js):
    prepared(js, 2, priority_groups=["g"], priority_policy="pinned_client")
    pull = "$JS.API.CONSUMER.MSG.NEXT.S.C"
    asked(js, pull, {"batch": 1, "group": "g", "expires": SECOND})
    return until_status(js, pull, {"batch": 1, "group": "g", "id": "nobodys", "expires": SECOND})


def too_many_results(js):
    """One more subject than a request for the last of many may match."""
    js.raw("STREAM.CREATE.S", STREAM)
    for number in range(1025):
        js.wire.publish(f"s.{number}")
    js.publish("s.0")
    return until_status(js, "$JS.API.DIRECT.GET.S", {"multi_last": ["s.>"]})


def consumer_deleted(js):
    prepared(js)
    inbox = js.wire.inbox()
    js.wire.subscribe(inbox)
    js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps({"batch": 1, "expires": 10 * SECOND}), inbox)
    js.wire.sync()
    js.raw("CONSUMER.DELETE.S.C")
    return raw(js.wire.read_message())


def pushed(js, wanted, **config):
    """The first status of a push consumer that begins with what is wanted."""
    js.raw("STREAM.CREATE.S", STREAM)
    js.wire.subscribe("pushed")
    js.raw("CONSUMER.CREATE.S.P", {"stream_name": "S", "config": {"name": "P", "deliver_subject": "pushed", "ack_policy": "none"} | config})
    if "FlowControl" in wanted:
        for _ in range(200):
            js.wire.publish("s.a", "x" * 10_000)
    while not (message := js.wire.read_message()).status.startswith(wanted):
        pass
    return message.status, [key for key, _ in message.headers], message.payload


def with_stream(act):
    def conversation(js):
        prepared(js, 2)
        return act(js)

    return conversation


CASES = {
    "100 an idle heartbeat": lambda js: pushed(js, "100 Idle", idle_heartbeat=SECOND // 5, flow_control=False),
    "100 a request of flow control": lambda js: pushed(js, "100 FlowControl", idle_heartbeat=30 * SECOND, flow_control=True),
    "204 the end of a batch": with_stream(lambda js: until_status(js, "$JS.API.DIRECT.GET.S", {"seq": 1, "batch": 2})),
    "404 no such message": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S", {"seq": 9})),
    "404 no results": with_stream(lambda js: until_status(js, "$JS.API.DIRECT.GET.S", {"multi_last": ["t.>"]})),
    "404 no messages": lambda js: (prepared(js), until_status(js, "$JS.API.CONSUMER.MSG.NEXT.S.C", {"batch": 1, "no_wait": True}))[1],
    "408 a request that waited in vain": lambda js: (prepared(js), until_status(js, "$JS.API.CONSUMER.MSG.NEXT.S.C", {"batch": 1, "expires": SECOND // 5}))[1],
    "408 an empty request": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S")),
    "408 a malformed request": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S", b"{x")),
    "408 a bad request": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S", {"batch": 3})),
    "409 a consumer that is deleted": consumer_deleted,
    "409 a message too large for the request": with_stream(lambda js: until_status(js, "$JS.API.CONSUMER.MSG.NEXT.S.C", {"batch": 1, "max_bytes": 1})),
    "412 a direct get that needs a newer server": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S", {"seq": 1}, LEVEL)),
    "412 a direct get of a subject that needs a newer server": with_stream(lambda js: asked(js, "$JS.API.DIRECT.GET.S.s.a", b"", LEVEL)),
    "412 a pull that needs a newer server": with_stream(lambda js: asked(js, "$JS.API.CONSUMER.MSG.NEXT.S.C", {"batch": 1}, LEVEL)),
    "413 too many results": too_many_results,
    "423 a wrong pin": wrong_pin,
    "503 nobody listens": lambda js: (lambda found: (found[1], [key for key, _ in found[2]], found[3]))(asked(js, "nobody.listens")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_status_is_written_alike(pair, name):
    def conversation(broker):
        answer = held(CASES[name])(broker)
        assert name.split(" ")[0] in str(answer), answer
        return answer

    pair.same(conversation)
