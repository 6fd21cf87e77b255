"""JetStream at the wire: API requests, publishes with acks, pulls; each answer as plain data, masked, for a transcript.

Not a client library: it neither retries nor validates.
"""

import json

from mask import mask, mask_subject
from wire import Message, Wire

QUIET_SECONDS = 0.25
# What is created or stored waits for a disk, which other programs may keep busy for seconds.
DISK_WITHIN_SECONDS = 20.0


def shown(message: Message) -> dict:
    """A message as a transcript holds it."""
    data = {"subject": mask_subject(message.subject)}
    if message.reply:
        data["reply"] = mask_subject(message.reply)
    if message.status:
        data["status"] = message.status
    if message.headers:
        data["headers"] = {key: mask(value) for key, value in message.headers}
    if message.payload:
        data["payload"] = message.payload.decode(errors="replace")
    return data


class JetStream:
    """One connection that speaks JetStream."""

    def __init__(self, port: int, connect: dict | None = None, host: str = "127.0.0.1"):
        self.port = port
        self.wire = Wire(port, {"headers": True, "no_responders": True} | (connect or {}), host)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def raw(self, subject: str, body=None, headers=(), within: float = DISK_WITHIN_SECONDS) -> dict:
        """The answer to an API request as it is."""
        payload = body if isinstance(body, (str, bytes)) else b"" if body is None else json.dumps(body)
        answer = self.wire.request(f"$JS.API.{subject}", payload, headers, within)
        return {"status": answer.status} if answer.status else answer.json()

    def api(self, subject: str, body=None, headers=(), within: float = DISK_WITHIN_SECONDS) -> dict:
        """The answer to an API request, masked."""
        return mask(self.raw(subject, body, headers, within))

    def direct(self, subject: str, body=None) -> dict:
        """The answer to a direct get: the message itself, or a status."""
        payload = body if isinstance(body, (str, bytes)) else b"" if body is None else json.dumps(body)
        return without_inbox(shown(self.wire.request(f"$JS.API.DIRECT.GET.{subject}", payload)))

    def direct_batch(self, subject: str, body) -> list[dict]:
        """The answers to a direct get of many, up to the status that ends them."""
        inbox = self.wire.inbox()
        sid = self.wire.subscribe(inbox)
        self.wire.publish(f"$JS.API.DIRECT.GET.{subject}", json.dumps(body), inbox)
        seen: list[Message] = []
        while not seen or not seen[-1].code:
            seen.append(self.wire.read_message())
        self.wire.unsubscribe(sid)
        return [without_inbox(shown(message)) for message in seen]

    def publish(self, subject: str, payload: bytes | str = b"", headers=()) -> dict:
        """The publish ack, or the status in its place."""
        answer = self.wire.request(subject, payload, headers)
        return {"status": answer.status} if answer.status else answer.json()

    def fill(self, subject: str, count: int):
        """Publishes m1 ... m<count>."""
        for number in range(1, count + 1):
            answer = self.publish(subject, f"m{number}")
            assert "seq" in answer, answer

    def consumer(self, name: str = "C", **config):
        """Makes a durable consumer of the stream S."""
        body = {"stream_name": "S", "config": {"durable_name": name, "name": name, "ack_policy": "explicit"} | config}
        created = self.raw(f"CONSUMER.CREATE.S.{name}", body)
        assert "error" not in created, created

    def pull(self, stream: str, consumer: str, body=None, messages: int = 1, within: float = 5.0) -> list[Message]:
        """Messages and statuses of one pull request, up to `messages` or a final status."""
        inbox = self.wire.inbox()
        sid = self.wire.subscribe(inbox)
        payload = body if isinstance(body, str) else b"" if body is None else json.dumps(body)
        self.wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", payload, inbox)
        seen: list[Message] = []
        while len(seen) < messages:
            message = self.wire.read_message(within)
            seen.append(message)
            if message.code not in (0, 100):
                break
        self.wire.unsubscribe(sid)
        return seen

    def pulled(self, stream: str, consumer: str, body=None, messages: int = 1, within: float = 5.0) -> list[dict]:
        """`pull` as a transcript holds it."""
        return [without_inbox(shown(message)) for message in self.pull(stream, consumer, body, messages, within)]

    def ack(self, message: Message, body: str = "+ACK") -> dict:
        """Acks and awaits the ack's ack."""
        return without_inbox(shown(self.wire.request(message.reply, body)))

    def quiet(self, seconds: float = QUIET_SECONDS) -> list[Message]:
        """All messages that come within a time."""
        import time

        deadline = time.monotonic() + seconds
        seen = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                seen.append(self.wire.read_message(left))
            except AssertionError:
                break
        return seen

    def clear(self):
        """Deletes every stream."""
        for name in self.raw("STREAM.NAMES").get("streams") or []:
            self.raw(f"STREAM.DELETE.{name}")


def without_inbox(data: dict) -> dict:
    if data["subject"].startswith("_INBOX.wire."):
        data["subject"] = "<inbox>"
    return data


def asked(js: JetStream, subject: str, body=None, within: float = 3.0) -> dict:
    """The answer to an API request, {} where nobody answers: a leader is being elected."""
    try:
        answer = js.raw(subject, body, within=within)
    except AssertionError:
        return {}
    return {} if "status" in answer else answer


def held(function):
    """The conversation with a broker that `function` of a connection to it is; no stream is left."""
    def hold(broker):
        with JetStream(broker.port) as js:
            try:
                return function(js)
            finally:
                js.clear()

    return hold
