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
    lives: dict[int, str] = dataclasses.field(default_factory=dict)  # number -> id of the server process that acked it
    sent: int = 0
    complaints: list[str] = dataclasses.field(default_factory=list)


class Client(threading.Thread):
    """Is connected with whichever broker answers, the next one after each end, until it is stopped."""

    def __init__(self, name: str, addresses: list[tuple[str, int]], first: int = 0):
        super().__init__(daemon=True, name=name)
        self.addresses, self._turn = addresses, first
        self.stopping = threading.Event()

    def serve(self, host: str, port: int):
        """What is done on one connection, until it fails or `stopping`."""
        raise NotImplementedError

    def run(self):
        while not self.stopping.is_set():
            self._turn += 1
            try:
                self.serve(*self.addresses[self._turn % len(self.addresses)])
            except (OSError, AssertionError):
                time.sleep(RETRY_AFTER_SECONDS)

    def stop(self):
        self.stopping.set()
        self.join(timeout=60)
        assert not self.is_alive(), f"{self.name} does not end"


class Publisher(Client):
    """Publishes to <subject>.<id> until stopped, through whichever broker answers.

    window 1: each message is sent again with its Nats-Msg-Id until it is acked, and only then the next one goes out.
    A larger window: no ids and no second try; what is not acked has an unknown outcome.
    """

    def __init__(self, number: int, addresses: list[tuple[str, int]], subject: str, window: int, credentials: dict | None = None):
        super().__init__(f"publisher-{number}", addresses, number)
        self.number, self.subject, self.window = number, f"{subject}.{number}", window
        self._connect = {"headers": True, "no_responders": True} | (credentials or {})
        self.record = Record()

    def serve(self, host: str, port: int):
        with Wire(port, self._connect, host) as wire:
            wire.sync()
            self._publish_on(wire)

    def _publish_on(self, wire: Wire):
        """Until this connection fails or the stop."""
        self._life = wire.info["server_id"]
        while not self.stopping.is_set():
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
        self.record.lives[number] = self._life
        if body.get("duplicate"):
            self.record.duplicates.add(number)
        return True


class Worker(Client):
    """Takes messages from a durable consumer and acks each, until stopped; what was confirmed must not come again."""

    def __init__(self, addresses: list[tuple[str, int]], stream: str, consumer: str):
        super().__init__(f"worker-{consumer}", addresses)
        self.stream, self.consumer = stream, consumer
        self.delivered: set[int] = set()
        self.confirmed: set[int] = set()
        self.complaints: list[str] = []

    def serve(self, host: str, port: int):
        with JetStream(port, host=host) as js:
            while not self.stopping.is_set():
                self._take(js)

    def _take(self, js: JetStream):
        for message in js.pull(self.stream, self.consumer, {"batch": 20, "expires": 10**9}, 20, ACK_WITHIN_SECONDS):
            if message.status:
                continue
            sequence = int(message.reply.split(".")[5])
            if sequence in self.confirmed:
                self.complaints.append(f"{sequence} was delivered again after its ack was confirmed")
            self.delivered.add(sequence)
            if not js.wire.request(message.reply, "+ACK", within=ACK_WITHIN_SECONDS).status:
                self.confirmed.add(sequence)

    def check(self, info: dict) -> list[str]:
        """What is wrong with what the server says of the consumer."""
        floor, delivered = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
        wrong = list(self.complaints)
        if missing := [sequence for sequence in range(1, floor + 1) if sequence not in self.delivered]:
            wrong.append(f"the floor is {floor}, but {len(missing)} below it never came: {missing[:5]}")
        if self.confirmed and max(self.confirmed) > delivered:
            wrong.append(f"{max(self.confirmed)} was confirmed, but the consumer knows of {delivered} only")
        return wrong


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


def check_unsynced(stored: list[Stored], publishers: list[Publisher]) -> tuple[int, list[str]]:
    """How many acked messages are lost, and what is wrong, where every life of the server may lose its end."""
    wrong: list[str] = []
    places: dict[tuple[int, int], int] = {}
    numbers: dict[int, int] = {}
    for message in stored:
        publisher, number = (int(word) for word in message.payload.split(b"/", 2)[:2])
        if message.payload != payload_of(publisher, number) or not message.subject.endswith(f".{publisher}"):
            wrong.append(f"sequence {message.sequence} is not what {publisher}/{number} sent")
        if number <= numbers.get(publisher, 0):
            wrong.append(f"message {publisher}/{number} at {message.sequence} is behind {numbers[publisher]}, or there twice")
        numbers[publisher] = max(number, numbers.get(publisher, 0))
        places[publisher, number] = message.sequence
    if [message.sequence for message in stored] != list(range(1, len(stored) + 1)):
        wrong.append("the sequences are not those from 1 on")
    lives: dict[str, list[tuple[int, int, int]]] = {}
    for publisher in publishers:
        record = publisher.record
        wrong += record.complaints
        for number, sequence in record.acked.items():
            if number not in record.duplicates:
                lives.setdefault(record.lives[number], []).append((sequence, publisher.number, number))
    lost = 0
    for acked in lives.values():
        has_ended = False
        for sequence, *identity in sorted(acked):
            place = places.get(tuple(identity))
            if place is None:
                has_ended = True
                lost += 1
            elif has_ended or place != sequence:
                wrong.append(f"message {identity}, acked as {sequence}, is at {place}, and one acked before it is lost: {has_ended}")
    return lost, wrong


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
