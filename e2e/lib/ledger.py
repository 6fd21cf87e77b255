"""Publishers that keep a record of what was acked, and the check of a stream against those records.

Not a load generator: it publishes moderately, and remembers everything.
"""

import dataclasses
import json
import threading
import time
import zlib

from jetstream import JetStream
from wire import Message, Wire

ACK_WITHIN_SECONDS = 3.0
RETRY_AFTER_SECONDS = 0.05
PAUSE_BETWEEN_WINDOWS_SECONDS = 0.03
READ_BATCH = 500


def payload_of(publisher: int, number: int) -> bytes:
    """What message `number` of a publisher holds: of varying size, and no other's."""
    seed = zlib.crc32(f"{publisher}/{number}".encode())
    return f"{publisher}/{number}/".encode() + (b"%08x" % seed) * (seed % 40)


@dataclasses.dataclass
class Record:
    """What one publisher knows."""

    acked: dict[int, int] = dataclasses.field(default_factory=dict)  # number -> sequence the ack named
    duplicates: set[int] = dataclasses.field(default_factory=set)  # acked as duplicates: stored by an earlier try
    sent: int = 0
    complaints: list[str] = dataclasses.field(default_factory=list)


class Publisher(threading.Thread):
    """Publishes to <subject>.<id> until stopped, through whichever broker answers.

    window 1: each message is sent again with its Nats-Msg-Id until it is acked, and only then the next one goes out.
    A larger window: no ids and no second try; what is not acked has an unknown outcome.
    """

    def __init__(self, number: int, addresses: list[tuple[str, int]], subject: str, window: int, credentials: dict | None = None):
        super().__init__(daemon=True, name=f"publisher-{number}")
        self.number, self.addresses, self.subject, self.window = number, addresses, f"{subject}.{number}", window
        self._connect = {"headers": True, "no_responders": True} | (credentials or {})
        self.record = Record()
        self._stop_asked = threading.Event()

    def run(self):
        turn = self.number
        while not self._stop_asked.is_set():
            turn += 1
            try:
                host, port = self.addresses[turn % len(self.addresses)]
                with Wire(port, self._connect, host) as wire:
                    wire.sync()
                    self._publish_on(wire)
            except (OSError, AssertionError):
                time.sleep(RETRY_AFTER_SECONDS)

    def stop(self):
        self._stop_asked.set()
        self.join(timeout=60)
        assert not self.is_alive(), f"{self.name} does not end"

    def _publish_on(self, wire: Wire):
        """Until this connection fails or the stop."""
        while not self._stop_asked.is_set():
            if self.window == 1:
                self._publish_one(wire, self.record.sent + 1)
            else:
                refused = self._publish_window(wire)
                time.sleep(RETRY_AFTER_SECONDS * 4 if refused else PAUSE_BETWEEN_WINDOWS_SECONDS)

    def _publish_one(self, wire: Wire, number: int):
        """Until it is acked, even when the stop has been asked for: else its order could not be told."""
        while True:
            answer = wire.request(self.subject, payload_of(self.number, number),
                                  {"Nats-Msg-Id": f"{self.number}/{number}"}, within=ACK_WITHIN_SECONDS)
            if self._note(number, answer):
                self.record.sent = number
                return
            time.sleep(RETRY_AFTER_SECONDS)

    def _publish_window(self, wire: Wire) -> int:
        """How many of it were answered, but not by an ack."""
        inbox = wire.inbox()
        sid = wire.subscribe(f"{inbox}.*")
        first = self.record.sent + 1
        self.record.sent += self.window
        for number in range(first, first + self.window):
            wire.publish(self.subject, payload_of(self.number, number), f"{inbox}.{number}")
        refused = 0
        for _ in range(self.window):
            answer = wire.read_message(ACK_WITHIN_SECONDS)
            refused += not self._note(int(answer.subject.rsplit(".", 1)[1]), answer)
        wire.unsubscribe(sid)
        return refused

    def _note(self, number: int, answer: Message) -> bool:
        if answer.status:
            return False  # no responders: there is no leader now
        body = answer.json()
        if "error" in body:
            return False
        if number in self.record.acked:
            self.record.complaints.append(f"{self.number}/{number} was acked twice")
        self.record.acked[number] = body["seq"]
        if body.get("duplicate"):
            self.record.duplicates.add(number)
        return True


@dataclasses.dataclass(frozen=True)
class Stored:
    sequence: int
    subject: str
    payload: bytes


def read_all(port: int, stream: str, last_sequence: int, credentials: dict | None = None, host: str = "127.0.0.1") -> list[Stored]:
    """Every message of the stream up to a sequence, by an ephemeral consumer that does not ack."""
    seen: list[Stored] = []
    with JetStream(port, credentials, host) as js:
        created = js.raw(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": {
            "ack_policy": "none", "mem_storage": True, "inactive_threshold": 60 * 10**9}})
        assert "error" not in created, created
        name = created["name"]
        inbox = js.wire.inbox()
        js.wire.subscribe(inbox)
        pending = created["num_pending"]
        while pending:
            js.wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
                            json.dumps({"batch": READ_BATCH, "expires": 5 * 10**9}), inbox)
            for _ in range(min(READ_BATCH, pending)):
                message = js.wire.read_message(10)
                assert not message.status, f"after {len(seen)} messages: {message.status}"
                words = message.reply.split(".")
                seen.append(Stored(int(words[5]), message.subject, message.payload))
                pending = int(words[8])
        js.raw(f"CONSUMER.DELETE.{stream}.{name}")
    assert not seen or seen[-1].sequence == last_sequence, f"read up to {seen[-1].sequence} of {last_sequence}"
    return seen


def check(stored: list[Stored], publishers: list[Publisher]) -> list[str]:
    """What is wrong with the stream's content, given the records. Empty: nothing."""
    wrong: list[str] = []
    places: dict[tuple[int, int], list[int]] = {}
    for message in stored:
        publisher, number, _ = message.payload.split(b"/", 2)
        identity = int(publisher), int(number)
        if message.payload != payload_of(*identity):
            wrong.append(f"sequence {message.sequence} is not what {identity} sent")
        if not message.subject.endswith(f".{identity[0]}"):
            wrong.append(f"sequence {message.sequence} of {identity} is stored under {message.subject}")
        places.setdefault(identity, []).append(message.sequence)
    sequences = [message.sequence for message in stored]
    if sequences != sorted(set(sequences)):
        wrong.append("the sequences are not ascending")
    for publisher in publishers:
        record = publisher.record
        wrong += record.complaints
        for number in range(1, record.sent + 1):
            found = places.pop((publisher.number, number), [])
            told = record.acked.get(number)
            if told is not None and found != [told]:
                wrong.append(f"message {publisher.number}/{number}, acked as sequence {told}, is stored at {found or 'no place'}")
            if told is None and len(found) > 1:
                wrong.append(f"message {publisher.number}/{number}, never acked, is stored at {found}")
        order = [record.acked[number] for number in sorted(record.acked)]
        if order != sorted(order):
            wrong.append(f"the messages of publisher {publisher.number} are not in the order they were sent")
    for (publisher, number), found in places.items():
        # The one message a publisher was at when it was told to stop.
        record = next(each.record for each in publishers if each.number == publisher)
        if number > record.sent + 1:
            wrong.append(f"message {publisher}/{number} at {found} was never sent")
    return wrong
