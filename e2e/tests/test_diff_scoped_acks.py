"""The feature flag js_ack_fc_v2: acknowledgements and flow control whose subjects name domain and account. Both forms are taken,
whichever is sent."""

import hashlib
import string

import pytest

from broker import STANDALONE, wait_until
from jetstream import JetStream, shown, without_inbox

SECOND = 10**9
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CONFIGS = {
    "without a domain": "",
    "in a domain": "domain: hub",
}
# What comes before the stream's name in the second form; the account's part is a hash of its name.
ACCOUNT_HASH = "".join(BASE62[byte % 62] for byte in hashlib.sha256(b"$G").digest()[:8])


def config(more: str, flag: str) -> str:
    return STANDALONE + f"""
jetstream {{ store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB
{more}
}}
feature_flags {{ js_ack_fc_v2: {flag} }}
"""


@pytest.fixture(scope="module", params=[(more, flag) for more in CONFIGS for flag in ("true", "false")], ids=lambda it: f"{it[1]} {it[0]}")
def pair(start_pair, request):
    more, flag = request.param
    return start_pair(config(CONFIGS[more], flag))


def timeless(subject: str) -> str:
    """An acknowledgement's subject without its time, a flow-control one without its end."""
    tokens = subject.split(".")
    if tokens[1] == "ACK":
        tokens[-2] = "<time>"
    if tokens[1] == "FC":
        tokens[-1] = "<random>"
    return ".".join(tokens)


def see(message):
    seen = without_inbox(shown(message))
    if "reply" in seen:
        seen["reply"] = timeless(message.reply)
    return seen


def other_form(subject: str, domain: str) -> str:
    """The subject of the other form for the same message."""
    tokens = subject.split(".")
    numbers = {"ACK": 5, "FC": 1}[tokens[1]]
    if len(tokens) == numbers + 6:
        return ".".join(tokens[:2] + tokens[4:])
    return ".".join([*tokens[:2], domain, ACCOUNT_HASH, *tokens[2:]])


def second_form(subject: str, domain: str) -> str:
    return subject if subject.count(".") == 10 else other_form(subject, domain)


def state(js):
    info = js.raw("CONSUMER.INFO.S.C")
    return [info[key] for key in ("num_ack_pending", "num_pending", "num_redelivered")] + [info["ack_floor"]["stream_seq"]]


def held(pair, use):
    def hold(broker):
        domain = "hub" if "domain: hub" in broker.config_path.read_text() else "_"
        with JetStream(broker.port) as js:
            try:
                assert "error" not in js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
                return use(js, domain)
            finally:
                js.clear()

    pair.same(hold)


def test_a_pulled_message_is_acknowledged(pair):
    def use(js, _):
        js.consumer()
        js.fill("s.a", 3)
        messages = js.pull("S", "C", {"batch": 3, "expires": 5 * SECOND}, 3)
        answers = [js.ack(messages[0]), js.ack(messages[1], "-NAK"), js.ack(messages[2], "+TERM")]
        return [see(message) for message in messages], answers, state(js)

    held(pair, use)


def test_the_other_form_acknowledges_too(pair):
    def use(js, domain):
        js.consumer()
        js.fill("s.a", 3)
        messages = js.pull("S", "C", {"batch": 3, "expires": 5 * SECOND}, 3)
        for message in messages[:2]:
            assert not js.wire.request(other_form(message.reply, domain), "+ACK").status
        return state(js)

    held(pair, use)


def test_the_second_form_may_be_longer(pair):
    def use(js, domain):
        js.consumer()
        js.fill("s.a", 1)
        reply = js.pull("S", "C", {"batch": 1, "expires": 5 * SECOND})[0].reply
        return without_inbox(shown(js.wire.request(f"{second_form(reply, domain)}.more", "+ACK"))), state(js)

    held(pair, use)


@pytest.mark.parametrize("token", [2, 3])
def test_another_domain_or_account_is_not_heard(pair, token):
    def use(js, domain):
        js.consumer()
        js.fill("s.a", 1)
        reply = js.pull("S", "C", {"batch": 1, "expires": 5 * SECOND})[0].reply
        tokens = second_form(reply, domain).split(".")
        tokens[token] = "other"
        return js.wire.request(".".join(tokens), "+ACK").status, state(js)

    held(pair, use)


def test_a_pushed_message_is_acknowledged(pair):
    def use(js, _):
        # Filled before: how many wait behind a message is part of its reply.
        js.fill("s.a", 2)
        js.wire.subscribe("to.me")
        js.consumer(deliver_subject="to.me")
        messages = [js.wire.read_message() for _ in range(2)]
        return [see(message) for message in messages], [js.ack(message) for message in messages], state(js)

    held(pair, use)


def flow_controlled(js):
    js.wire.subscribe("to.me")
    js.consumer(deliver_subject="to.me", ack_policy="flow_control", flow_control=True, max_ack_pending=1, idle_heartbeat=SECOND, ack_wait=0, max_deliver=0)
    js.fill("s.a", 1)
    messages = [js.wire.read_message(5)]
    while messages[-1].code != 100 or not messages[-1].reply:
        messages.append(js.wire.read_message(5))
    return messages


@pytest.mark.parametrize("form", ["the same", "the other"])
def test_flow_control_is_answered(pair, form):
    def use(js, domain):
        messages = flow_controlled(js)
        request = messages[-1].reply
        js.wire.publish(request if form == "the same" else other_form(request, domain), "", "", [("Nats-Last-Stream", "1"), ("Nats-Last-Consumer", "1")])
        if form == "the same":
            wait_until(lambda: state(js)[0] == 0, "the message is acknowledged")
        js.wire.sync()
        return [see(message) for message in messages if message.payload], timeless(request), state(js)

    held(pair, use)


def test_a_mirror_follows_an_origin(pair):
    def use(js, _):
        js.fill("s.a", 3)
        js.raw("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "S"}})
        wait_until(lambda: js.raw("STREAM.INFO.M")["state"]["last_seq"] == 3, "the mirror is filled")
        return js.raw("STREAM.INFO.M")["state"]["messages"]

    held(pair, use)
