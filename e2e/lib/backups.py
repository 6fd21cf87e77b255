"""Backups of streams over the wire: taken in chunks, given back in chunks, chunk by chunk as a client does it.

Not a client library, and it does not look into a backup.
"""

import dataclasses
import json

from jetstream import JetStream
from wire import Message


@dataclasses.dataclass
class Backup:
    """A backup as it came: the answer, the chunks' lengths, whether each asked for an acknowledgement, the last message."""

    answer: dict
    data: bytes
    chunks: list[tuple[int, bool]]
    end: Message


def take(js: JetStream, stream: str, within: float = 20.0, ack: bool = True, **request) -> Backup:
    """Asks for a backup and acknowledges every chunk that asks for it."""
    inbox = js.wire.inbox()
    sid = js.wire.subscribe(inbox)
    js.wire.sync()
    answer = js.raw(f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox} | request)
    assert "error" not in answer, answer
    data, chunks = b"", []
    while True:
        message = js.wire.read_message(within)
        if message.sid != sid:
            continue
        if not message.payload:
            js.wire.unsubscribe(sid)
            return Backup(answer, data, chunks, message)
        data += message.payload
        chunks.append((len(message.payload), bool(message.reply)))
        if message.reply and ack:
            js.wire.publish(message.reply)


def begin(js: JetStream, stream: str, config: dict, state: dict | None = None) -> dict:
    """Asks to restore a stream; the answer has where the chunks go."""
    return js.raw(f"STREAM.RESTORE.{stream}", {"config": config, "state": state or {}})


def give(js: JetStream, deliver_subject: str, data: bytes, chunk: int = 65_536, within: float = 30.0) -> dict:
    """Sends the chunks, each after the one before it was acknowledged, then the end; the answer to it."""
    for at in range(0, len(data), chunk):
        answer = js.wire.request(deliver_subject, data[at:at + chunk], within=within)
        if answer.status or answer.payload:
            return {"status": answer.status} if answer.status else answer.json()
    answer = js.wire.request(deliver_subject, b"", within=within)
    return {"status": answer.status} if answer.status else answer.json()


def restore(js: JetStream, backup: Backup, chunk: int = 65_536, **changes) -> dict:
    """Restores a stream from its backup; `changes` are of its configuration."""
    config = backup.answer["config"] | changes
    begun = begin(js, config["name"], config, backup.answer["state"])
    assert "error" not in begun, begun
    return give(js, begun["deliver_subject"], backup.data, chunk)


def content(js: JetStream, stream: str) -> dict:
    """All that a stream holds: its state, its messages with everything they have, its consumers."""
    info = js.raw(f"STREAM.INFO.{stream}", {"deleted_details": True})
    assert "error" not in info, info
    messages = []
    for seq in range(info["state"]["first_seq"], info["state"]["last_seq"] + 1):
        got = js.raw(f"STREAM.MSG.GET.{stream}", {"seq": seq})
        if "message" in got:
            messages.append(json.dumps(got["message"], sort_keys=True))
    consumers = {}
    for consumer in js.raw(f"CONSUMER.LIST.{stream}").get("consumers") or []:
        kept = {key: consumer.get(key) for key in ("config", "num_ack_pending", "num_redelivered", "num_pending")}
        for position in ("delivered", "ack_floor"):
            kept[position] = {key: consumer[position][key] for key in ("consumer_seq", "stream_seq")}
        consumers[consumer["name"]] = kept
    return {"state": info["state"], "config": info["config"], "messages": messages, "consumers": consumers}
