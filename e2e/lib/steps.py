"""A JetStream conversation as a list of steps, and its transcript.

A step is (api subject, body[, headers]), or one of the functions' results below. Not for pulls and acks:
those conversations are written out as functions.
"""

import time

from jetstream import JetStream, shown


def pub(subject, payload="", **headers):
    """A publish that awaits its ack; header names with _ for -."""
    return lambda js: js.publish(subject, payload, [(name.replace("_", "-"), value) for name, value in headers.items()])


def fill(subject, count):
    """`count` publishes of m1, m2 ..."""
    return lambda js: js.fill(subject, count)


def direct(subject, body=None):
    return lambda js: js.direct(subject, body)


def heard(subject, *steps):
    """What comes on `subject` while other steps are made, after their own transcripts."""

    def listen(js):
        sid = js.wire.subscribe(subject)
        js.wire.sync()
        done = [step(js) for step in steps]
        messages = [shown(message) for message in js.quiet() if message.sid == sid]
        js.wire.unsubscribe(sid)
        return done, messages

    return listen


def batch(subject, body):
    return lambda js: js.direct_batch(subject, body)


def pause(seconds=0.1):
    """A wait for what nats-server does after its answer (the files of a deleted stream)."""
    return lambda js: time.sleep(seconds)


def without_chance(answer: dict) -> dict:
    """What a mirror has of its origin, and what it says of it, is chance when its creation is answered: names stay."""
    if answer.get("did_create") and (answer.get("mirror") or answer.get("sources")):
        answer.pop("state", None)
        if answer.get("mirror"):
            answer["mirror"] = answer["mirror"]["name"]
        answer["sources"] = sorted(source["name"] for source in answer.get("sources") or [])
    return answer


def converse(port: int, steps, connect=None) -> list:
    """Holds the conversation; afterwards no stream is left."""
    with JetStream(port, connect) as js:
        try:
            return [step(js) if callable(step) else without_chance(js.api(*step)) for step in steps]
        finally:
            js.clear()
