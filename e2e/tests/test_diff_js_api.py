"""The JetStream API around its requests: audits, advisories, strictness, levels, paging: the same with Weir and nats-server."""

import json
import re

import pytest

from broker import STANDALONE, wait_until
from compare import same
from jetstream import JetStream
from mask import mask
from test_diff_log_lines import outside
from wire import Wire

ACCOUNTS = """
accounts {
  A {
    jetstream: enabled
    users: [ { user: a, password: p }, { user: w, password: p } ]
    exports: [ { service: "$JS.API.>", response_type: stream } ]
  }
  U {
    users: [ { user: u, password: p } ]
    imports: [ { service: { account: A, subject: "$JS.API.>" }, to: "remote.API.>" } ]
  }
  B { users: [ { user: b, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""
CONFIG = STANDALONE + 'jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB, %s }' + ACCOUNTS


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG % "domain: hub")


def connect(who: str, **more) -> dict:
    return {"user": who, "pass": "p", "headers": True, "no_responders": True} | more


def user(broker, who: str, **more) -> JetStream:
    return JetStream(broker.port, connect(who, **more))


def stream(name: str, **config) -> tuple:
    return f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name.lower()}.>"], "storage": "memory"} | config


def consumer(stream: str, name: str, **config) -> tuple:
    body = {"stream_name": stream, "config": {"durable_name": name, "ack_policy": "explicit"} | config}
    return f"CONSUMER.CREATE.{stream}.{name}", body


def unquoted(value):
    """JSON inside of strings as JSON."""
    if isinstance(value, dict):
        return {key: unquoted(inner) for key, inner in value.items()}
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value


def advisory(message) -> tuple:
    body = mask(unquoted(message.json()))
    if isinstance(body.get("client"), dict):
        assert body["client"].pop("id", 1) > 0
    return message.subject, body


def told(watcher: Wire, act, count: int) -> list:
    """The advisories that follow."""
    sid = watcher.subscribe("$JS.EVENT.>")
    watcher.sync()
    act()
    heard = [advisory(watcher.read_message()) for _ in range(count)]
    heard += [advisory(message) for message in watcher.sync()]
    watcher.unsubscribe(sid)
    return heard


def cleared(js: JetStream):
    for name in js.raw("STREAM.NAMES")["streams"] or []:
        js.api(f"STREAM.DELETE.{name}")


AUDITED = {
    "account": [("INFO",)],
    "bodies": [("STREAM.NAMES", {"subject": "x"}), ("STREAM.LIST", {"offset": 3})],
    "bad requests": [("STREAM.INFO.NONE",), ("STREAM.CREATE.S", "nonsense"), ("STREAM.DELETE.NONE",), ("CONSUMER.INFO.NONE.C",)],
    "refused": [("STREAM.PEER.REMOVE.S",), ("CONSUMER.LEADER.STEPDOWN.S.C",)],
}


@pytest.mark.parametrize("case", AUDITED)
def test_requests_are_audited(pair, case):
    def use(broker):
        with user(broker, "a", name="tool", lang="go", version="1.2") as js, user(broker, "w") as watcher:
            return told(watcher.wire, lambda: [js.api(*request) for request in AUDITED[case]], len(AUDITED[case]))

    pair.same(use)


def test_a_request_without_a_reply_is_done_and_audited(pair):
    def use(broker):
        with user(broker, "a") as js, user(broker, "w") as watcher:
            js.api(*stream("S"))
            js.fill("s.x", 3)
            heard = told(watcher.wire, lambda: js.wire.publish("$JS.API.STREAM.PURGE.S"), 1)
            heard.append(js.api("STREAM.INFO.S")["state"]["messages"])
            cleared(js)
            return heard

    pair.same(use)


@pytest.mark.parametrize("name", ["u", "b", "s"])
def test_audits_tell_who_asked(pair, name):
    where = {"u": ("remote.API", "w"), "b": ("$JS.API", "b"), "s": ("$JS.API", "s")}
    prefix, watches = where[name]

    def use(broker):
        with user(broker, name) as client, user(broker, watches) as watcher:
            ask = lambda: [client.wire.request(f"{prefix}.{subject}") for subject in ("INFO", "STREAM.NAMES")]
            return told(watcher.wire, ask, 2)

    pair.same(use)


def test_requests_that_are_too_many_are_dropped_and_told(start_both):
    """How many are dropped is chance: nats-server empties its queue, if its workers have not, Weir refuses what comes while
    it is full."""
    dropped = []

    def use(broker):
        with user(broker, "a") as js, user(broker, "s") as watcher:
            watcher.wire.subscribe("$JS.EVENT.ADVISORY.API.LIMIT_REACHED")
            watcher.wire.sync()
            requests = [(subject, json.dumps(body)) for subject, body in (stream(f"S{number}", storage="file") for number in range(200))]
            js.wire.send_raw("".join(f"PUB $JS.API.{subject} {len(body)}\r\n{body}\r\n" for subject, body in requests).encode())
            _, heard = advisory(watcher.wire.read_message())
            dropped.append(heard.pop("dropped"))
            lines = {re.sub(r"\d+ requests", "<n> requests", line) for line in outside(broker.log()) if "[WRN]" in line}
            return heard, lines, js.raw("INFO")["domain"]

    config = CONFIG.replace("NAME", "subject") % "domain: hub, request_queue_limit: 2"
    same(start_both(config), use)
    _, by_weir = dropped
    assert by_weir > 0


def test_streams_and_consumers_tell_what_becomes_of_them(pair):
    def use(broker):
        acts = [
            stream("S"), stream("S"), ("STREAM.UPDATE.S", stream("S", max_msgs=5)[1]), consumer("S", "C"), consumer("S", "C"),
            consumer("S", "C", max_deliver=3), ("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"name": "E", "ack_policy": "none"}}),
            ("CONSUMER.DELETE.S.C",), ("STREAM.DELETE.S",),
        ]
        with user(broker, "a") as js, user(broker, "w") as watcher:
            def act():
                for request in acts:
                    js.api(*request)
            sid = watcher.wire.subscribe("$JS.EVENT.ADVISORY.*.*.>")
            watcher.wire.sync()
            act()
            heard = [watcher.wire.read_message() for _ in range(6)]
            wait_until(lambda: heard.extend(watcher.wire.sync()) or heard[-1].subject.endswith("STREAM.DELETED.S"), "all is told")
            watcher.wire.unsubscribe(sid)
            return [advisory(message) for message in heard]

    pair.same(use)


UNKNOWN = {
    "stream": ("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "colour": "red"}),
    "nested": ("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "placement": {"colour": "red"}}),
    "consumer": ("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C", "colour": "red"}}),
    "names": ("STREAM.NAMES", {"colour": "red"}),
    "purge": ("STREAM.PURGE.S", {"colour": "red"}),
    "wrong type": ("STREAM.CREATE.S", {"name": 5}),
    "cut": ("STREAM.CREATE.S", '{"name":"S"'),
    "no JSON": ("STREAM.NAMES", "nonsense"),
}


@pytest.mark.parametrize("strict", ["true", "false"])
def test_unknown_fields_are_refused_where_it_is_strict(start_pair, strict):
    pair = start_pair(CONFIG % f"strict: {strict}")

    def use(broker):
        with user(broker, "a") as js:
            said = {"before": js.api(*stream("S", subjects=["s"]))}
            for case, request in UNKNOWN.items():
                said[case] = js.api(*request)
            cleared(js)
            return said

    pair.same(use)


LEVELS = ["", "0", "5", "6", "x", "-1", "4294967296"]


@pytest.mark.parametrize("subject", ["INFO", "STREAM.NAMES", "STREAM.INFO.S", "STREAM.PURGE.S", "CONSUMER.NAMES.S", "STREAM.INFO.NONE", "STREAM.CREATE.S"])
def test_a_request_may_ask_for_a_level(pair, subject):
    def use(broker):
        with user(broker, "a") as js:
            js.api(*stream("S"))
            said = [js.api(subject, None, [("Nats-Required-Api-Level", level)]).get("error") for level in LEVELS]
            cleared(js)
            return said

    pair.same(use)


def test_lists_come_in_pages(pair):
    def use(broker):
        with user(broker, "a") as js:
            for number in range(260):
                js.raw(*stream(f"S{number:03}", subjects=[f"p.{number}"]))
            said = []
            for offset in (0, 4, 256, 259, 260, 1000, -1):
                names, listed = js.raw("STREAM.NAMES", {"offset": offset}), js.raw("STREAM.LIST", {"offset": offset})
                said.append([{key: answer.get(key) for key in ("total", "offset", "limit", "error")} for answer in (names, listed)])
                said.append([len(names["streams"] or []), len(listed["streams"] or [])])
            for subject in ("p.7", "p.*", "p.25?", ">", "q"):
                said.append([js.raw("STREAM.NAMES", {"subject": subject}), len(js.raw("STREAM.LIST", {"subject": subject})["streams"] or [])])
            cleared(js)
            return said

    pair.same(use)


def test_requests_are_counted(pair):
    def use(broker):
        with user(broker, "a") as js:
            before = js.raw("INFO")["api"]
            for request in (("STREAM.NAMES",), ("STREAM.INFO.NONE",), ("STREAM.CREATE.S", "x"), stream("S"), ("STREAM.DELETE.S",)):
                js.raw(*request)
            js.wire.publish("$JS.API.STREAM.NAMES")
            js.wire.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", "", "_INBOX.x")
            js.wire.sync()
            counted = lambda: {key: js.raw("INFO")["api"][key] - before[key] for key in ("total", "errors")}
            total = counted()
            js_stats = broker.get_json("/jsz")["api"]
            return [total, js_stats["level"], js_stats["total"] >= total["total"]]

    pair.same(use)
