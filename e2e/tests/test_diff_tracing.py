"""Traces of single messages (ADR-41): the same messages to Weir and the real nats-server, the same reports."""

import gzip
import json

import pytest

from broker import STANDALONE
from mask import mask
from talk import Talk
from wire import Wire

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }
no_auth_user: a
accounts {
  A {
    jetstream: enabled
    users: [
      { user: a, password: p }
      { user: limited, password: p, permissions: { publish: ["ok", "t.ok"], subscribe: { allow: ">", deny: "secret" } } }
    ]
    mappings: { "mapped": "to.here", "gone": [ { destination: gone, weight: 0 } ] }
    msg_trace: { dest: "t.parent", sampling: 100 }
    exports: [
      { service: "open", allow_trace: true }
      { service: "shut" }
      { stream: "news.>" }
    ]
  }
  B {
    users: [ { user: b, password: p } ]
    imports: [
      { service: { account: A, subject: "open" }, to: "my.open" }
      { service: { account: A, subject: "shut" } }
      { stream: { account: A, subject: "news.>" }, prefix: "traced", allow_trace: true }
    ]
  }
  C {
    users: [ { user: c, password: p } ]
    imports: [ { stream: { account: A, subject: "news.>" }, to: "untraced.>" } ]
  }
}
"""
DEST = "Nats-Trace-Dest=t.x"
ONLY = DEST + ",Nats-Trace-Only=true"
SAMPLED = "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

# The connection `t` of the sender's account listens on t.>; its messages are compared as JSON.
TRACES = {
    "a message nobody hears": f"t = a\nt sub t.>\na = a\na hpub foo {DEST} x\na ?\nt ?",
    "a message with one subscriber": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST} x\na ?\ns ?\nt ?",
    "a message with two subscribers": f"t = a\nt sub t.>\ns = a\ns sub foo\ns sub foo.>\nr = a\nr sub *\na = a\na hpub foo {DEST} x\na ?\ns ?\nr ?\nt ?",
    "a message with a queue group": f"t = a\nt sub t.>\ns = a\ns sub foo q\na = a\na hpub foo {DEST} x\na ?\ns ?\nt ?",
    "a message for the trace only": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {ONLY} x\na ?\ns ?\nt ?",
    "only may be written 1": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST},Nats-Trace-Only=1 x\na ?\ns ?\nt ?",
    "only may be written ON": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST},Nats-Trace-Only=ON x\na ?\ns ?\nt ?",
    "only may not be written yes": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST},Nats-Trace-Only=yes x\na ?\ns ?\nt ?",
    "only without a destination": "t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo Nats-Trace-Only=true x\na ?\ns ?\nt ?",
    "a destination that is no subject": "t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo Nats-Trace-Dest=t..x x\na ?\ns ?\nt ?",
    "a destination that is no subject for the trace only": "t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo Nats-Trace-Dest=t..x,Nats-Trace-Only=true x\na ?\ns ?\nt ?",
    "a destination that is no destination": "t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo Nats-Trace-Dest=trace,X=y x\na ?\ns ?\nt ?",
    "the header's name has its case": "t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo nats-trace-dest=t.x x\na ?\ns ?\nt ?",
    "an own message without echo": f"t = a\nt sub t.>\na = a noecho\na sub foo\na hpub foo {DEST} x\na ?\nt ?",
    "a subscription that may not have it": f"t = a\nt sub t.>\ns = limited\ns sub *\na = a\na hpub secret {DEST} x\na ?\ns ?\nt ?",
    "a sender that may not publish": f"t = a\nt sub t.>\na = limited\na hpub no Nats-Trace-Dest=t.ok x\na ?\nt ?",
    "a sender that may not publish there": f"t = a\nt sub t.>\ns = a\ns sub ok\na = limited\na hpub ok {DEST} x\na ?\ns ?\nt ?",
    "a sender that may": f"t = a\nt sub t.>\ns = a\ns sub ok\na = limited\na hpub ok Nats-Trace-Dest=t.ok x\na ?\ns ?\nt ?",
    "a mapped message": f"t = a\nt sub t.>\ns = a\ns sub to.here\na = a\na hpub mapped {DEST} x\na ?\ns ?\nt ?",
    "a message that a mapping loses": f"t = a\nt sub t.>\na = a\na hpub gone {DEST} x\na ?\nt ?",
    "a request": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST} >re.ply x\na ?\ns ?\nt ?",
    "a request nobody takes": f"t = a\nt sub t.>\na = a\na sub re.ply\na hpub foo {DEST} >re.ply x\na ?\nt ?",
    "a request for the trace only": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na sub re.ply\na hpub foo {ONLY} >re.ply x\na ?\ns ?\nt ?",
    "a reserved reply": f"t = a\nt sub t.>\na = a\na hpub foo {DEST} >_R_.a.b x\na ?\nt ?",
    "more headers are shown": f"t = a\nt sub t.>\na = a\na hpub foo {DEST},A=1,B=2,A=3 x\na ?\nt ?",
    "the old origin header disables": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {DEST},Nats-Trace-Origin-Account=A x\na ?\ns ?\nt ?",
    "a sampled parent": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {SAMPLED} x\na ?\ns ?\nt ?",
    "an unsampled parent": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {UNSAMPLED} x\na ?\ns ?\nt ?",
    "a parent in capitals": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {SAMPLED.replace('traceparent', 'TraceParent')} x\na ?\ns ?\nt ?",
    "a parent cannot ask for the trace only": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {SAMPLED},Nats-Trace-Only=true x\na ?\ns ?\nt ?",
    "a parent and a destination": f"t = a\nt sub t.>\ns = a\ns sub foo\na = a\na hpub foo {SAMPLED},{DEST} x\na ?\ns ?\nt ?",
    "a sampled parent where nobody wants it": f"t = b\nt sub t.>\ns = b\ns sub foo\na = b\na hpub foo {SAMPLED} x\na ?\ns ?\nt ?",
    "a service that allows traces": f"t = b\nt sub t.>\ns = a\ns sub open\nb = b\nb hpub my.open {DEST} x\nb ?\ns ?\nt ?",
    "a service that allows traces, for the trace only": f"t = b\nt sub t.>\ns = a\ns sub open\nb = b\nb hpub my.open {ONLY} x\nb ?\ns ?\nt ?",
    "a service that does not": f"t = b\nt sub t.>\ns = a\ns sub shut\nb = b\nb hpub shut {DEST} x\nb ?\ns ?\nt ?",
    "a service that does not, for the trace only": f"t = b\nt sub t.>\ns = a\ns sub shut\nb = b\nb hpub shut {ONLY} x\nb ?\ns ?\nt ?",
    "a service nobody serves": f"t = b\nt sub t.>\nb = b\nb sub re.ply\nb hpub my.open {DEST} >re.ply x\nb ?\nt ?",
    "an imported stream that allows traces": f"t = a\nt sub t.>\nb = b\nb sub traced.news.*\na = a\na hpub news.x {DEST} x\na ?\nb ?\nt ?",
    "an imported stream that allows traces, for the trace only": f"t = a\nt sub t.>\nb = b\nb sub traced.news.*\na = a\na hpub news.x {ONLY} x\na ?\nb ?\nt ?",
    "an imported stream that does not": f"t = a\nt sub t.>\nc = c\nc sub untraced.*\na = a\na hpub news.x {DEST} x\na ?\nc ?\nt ?",
    "an imported stream that does not, for the trace only": f"t = a\nt sub t.>\nc = c\nc sub untraced.*\na = a\na hpub news.x {ONLY} x\na ?\nc ?\nt ?",
}


class Traced(Talk):
    """What comes on t.> is a report: shown as JSON, without what differs from run to run."""

    def note(self, name, operation, skip=("PONG", "INFO", "PING")):
        if name in "ts" and operation.verb in ("MSG", "HMSG") and operation.payload.startswith(b'{"server"'):
            report = json.loads(operation.payload)
            server = report["server"]
            for varying in ("id", "seq", "time", "ver", "feature_flags", "host"):
                server.pop(varying, None)
            for event in report["events"]:
                event["ts"] = "<time>"
                event["cid"] = 0
            # Who gets it first is not said.
            report["events"][1:] = sorted(report["events"][1:], key=lambda event: event["type"] + event.get("sub", ""))
            self.transcript.append(f"{name} report " + json.dumps(mask(report), sort_keys=True))
            return
        super().note(name, operation, skip)


@pytest.fixture(scope="module")
def traced(start_pair):
    return start_pair(CONFIG)


@pytest.mark.parametrize("script", TRACES.values(), ids=[name.replace(" ", "_") for name in TRACES])
def test_a_trace_says_the_same(traced, script):
    # The report is sent from the server itself: `t` waits a moment for it.
    script = script[:-3] + "t quiet" if script.endswith("t ?") else script
    traced.same(lambda broker: Traced(broker.port).play(script))


def test_a_stream_is_part_of_the_trace(traced):
    def trace(broker):
        with Wire(broker.port, {"user": "a", "pass": "p", "headers": True}) as client:
            client.request("$JS.API.STREAM.CREATE.T", '{"name":"T","subjects":["stored"],"storage":"memory"}')
            client.subscribe("t.x")
            client.publish("stored", "1", headers={"Nats-Trace-Dest": "t.x", "Nats-Trace-Only": "true"})
            only = client.read_message().json()["events"]
            client.publish("stored", "2", headers={"Nats-Trace-Dest": "t.x"})
            both = client.read_message().json()["events"]
            stored = client.request("$JS.API.STREAM.INFO.T").json()["state"]["messages"]
            return [[(event["type"], event.get("stream"), event.get("subject")) for event in events] for events in (only, both)], stored

    traced.same(trace)


ENCODINGS = ["gzip", "s2", "snappy", "S2, gzip", "deflate, gzip", "br"]


def unpacked(headers: dict, body: bytes) -> bytes:
    encoding = headers.get("Content-Encoding")
    if encoding == "gzip":
        return gzip.decompress(body)
    # A frame of snappy begins with this; its blocks are either program's own.
    return body if encoding != "snappy" else body[:10]


@pytest.mark.parametrize("accepted", ENCODINGS)
def test_a_trace_is_compressed_for_who_accepts_that(traced, accepted):
    def trace(broker):
        with Wire(broker.port, {"user": "a", "pass": "p", "headers": True}) as client:
            client.subscribe("t.packed")
            client.publish("foo", "x", headers={"Nats-Trace-Dest": "t.packed", "Accept-Encoding": accepted})
            message = client.read_message()
            headers = dict(message.headers)
            body = unpacked(headers, message.payload)
            return headers, sorted(json.loads(body)) if body.startswith(b"{") else body[4:]

    traced.same(trace)


# Announced size, and what follows the line of the operation.
OVERSIZED = {
    "asked for": (2_000_000, b"NATS/1.0\r\nNats-Trace-Dest: t.big\r\n\r\n"),
    "not asked for": (2_000_000, b"NATS/1.0\r\nA: b\r\n\r\n"),
    "of which too little has come": (2_000_000, b""),
}


@pytest.mark.parametrize("size, block", OVERSIZED.values(), ids=[name.replace(" ", "_") for name in OVERSIZED])
def test_a_message_that_is_too_large_has_a_trace(traced, size, block):
    def trace(broker):
        with Wire(broker.port, {"user": "a", "pass": "p", "headers": True}) as listener, \
                Wire(broker.port, {"user": "a", "pass": "p", "headers": True}) as sender:
            listener.subscribe("t.big")
            listener.sync()
            sender.sync()
            sender.send_raw(b"HPUB foo %d %d\r\n" % (len(block) or 12, size) + block)
            ends = [str(operation) for operation in sender.until_closed() if operation.verb != "INFO"]
            try:
                report = listener.read_message(0.5).json()
            except AssertionError:
                return ends, "no report"
            return ends, report["request"], [(event["type"], event.get("subj"), event.get("error")) for event in report["events"]]

    traced.same(trace)
