"""Thousands of streams under a low limit of open files: none of them fails for want of a handle."""

import os

import pytest

import binaries
from broker import Broker, WITH_JETSTREAM
from jetstream import JetStream

STREAMS = 2_000
# So many of them have a segment file, written behind the buffer of 256 KiB.
WRITTEN = 200
PAYLOAD = b"x" * 300_000
FILES_MAX = 200


@pytest.fixture
def broker(tmp_path):
    limited = tmp_path / "limited.sh"
    limited.write_text(f'#!/bin/sh\nulimit -n {FILES_MAX}\nexec "{binaries.weir()}" "$@"\n')
    limited.chmod(0o755)
    broker = Broker(str(limited), tmp_path, WITH_JETSTREAM, "limited")
    try:
        yield broker.start()
    finally:
        broker.kill()


def open_files(broker):
    return len(os.listdir(f"/proc/{broker.process.pid}/fd"))


@pytest.mark.timeout(300)
def test_two_thousand_streams_live_with_few_open_files(broker):
    with JetStream(broker.port) as js:
        for number in range(STREAMS):
            answer = js.raw(f"STREAM.CREATE.S{number}", {"name": f"S{number}", "subjects": [f"s.{number}"]})
            assert "error" not in answer, answer
        for number in range(WRITTEN):
            assert js.publish(f"s.{number}", PAYLOAD).get("seq") == 1
            assert js.publish(f"s.{number}", "end").get("seq") == 2
        assert open_files(broker) < FILES_MAX / 2
    broker.kill()
    broker.start(wait=False)
    broker.wait_ready(120)
    with JetStream(broker.port) as js:
        for number in range(WRITTEN):
            found = js.raw(f"STREAM.MSG.GET.S{number}", {"seq": 1})
            assert len(found["message"]["data"]) == len(PAYLOAD) * 4 // 3, found
            assert js.publish(f"s.{number}", "more").get("seq") == 3
        assert open_files(broker) < FILES_MAX / 2
    assert "Too many open files" not in broker.log()
