"""Steps of conversations with mirrors and sources: waiting until one has what it shall have, and reading what it stored.

Not a judge: the transcripts are compared elsewhere.
"""

import base64
import re
import time

from mask import mask

WITHIN_SECONDS = 30.0
EVERY_SECONDS = 0.05
# The identity of an origin is the last field of the header: it depends on when the origin was created.
IDENTITY = re.compile(r"(Nats-Stream-Source: [^ ]+ \d+ [^ ]+ [^ ]+ [^ ]+) [A-Za-z0-9]{8}\r\n")


def until(stream, messages=None, last=None, error=None, within=WITHIN_SECONDS):
    """Waits until the stream has that many messages, that last sequence, or an origin with that error; its info's state."""

    def wait(js):
        deadline = time.monotonic() + within
        while True:
            info = js.raw(f"STREAM.INFO.{stream}")
            state = info.get("state", {})
            origins = [info["mirror"]] if "mirror" in info else info.get("sources", [])
            done = (messages is None or state.get("messages") == messages) and (last is None or state.get("last_seq") == last)
            if error is not None:
                done = done and any(origin.get("error", {}).get("err_code") == error for origin in origins)
            if done:
                return mask({key: state[key] for key in ("messages", "first_seq", "last_seq", "num_deleted") if key in state})
            assert time.monotonic() < deadline, f"{stream} is at {state}, with {origins}; wanted {messages} messages, last {last}, error {error}"
            time.sleep(EVERY_SECONDS)

    return wait


def stored(stream, *sequences):
    """Messages as they are stored: subject, headers, data."""

    def read(js):
        seen = []
        for sequence in sequences:
            message = js.raw(f"STREAM.MSG.GET.{stream}", {"seq": sequence}).get("message")
            if message is None:
                seen.append(None)
                continue
            headers = base64.b64decode(message.get("hdrs", "")).decode()
            seen.append([message["seq"], message["subject"], IDENTITY.sub(r"\1 <identity>\r\n", headers), base64.b64decode(message.get("data", "")).decode()])
        return seen

    return read


def same_times(one, other, *sequences):
    """Whether the messages of two streams have the same time."""

    def read(js):
        def at(stream, sequence):
            return js.raw(f"STREAM.MSG.GET.{stream}", {"seq": sequence})["message"]["time"]

        return [at(one, sequence) == at(other, sequence) for sequence in sequences]

    return read


def settled(stream, *keys):
    """The `mirror` and `sources` of a stream's info without what varies, in the order of their names."""

    def read(js):
        info = js.raw(f"STREAM.INFO.{stream}")
        origins = sorted(info.get("sources", []), key=lambda origin: (origin["name"], origin.get("filter_subject", "")))
        return mask({"mirror": info.get("mirror"), "sources": origins} | {key: info.get("config", {}).get(key) for key in keys})

    return read


def in_order(value):
    """Answers with the infos of sources by name: nats-server prints them in no order."""
    if isinstance(value, dict):
        value = {key: in_order(inner) for key, inner in value.items()}
        if all("active" in source for source in value.get("sources") or [{}]):
            value["sources"] = sorted(value["sources"], key=str)
        return value
    return [in_order(inner) for inner in value] if isinstance(value, (list, tuple)) else value
