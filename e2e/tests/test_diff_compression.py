"""The stream field `compression`: what it may be, how it changes, what it does not change; and what it saves on disk."""

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker
from jetstream import JetStream
from steps import converse, fill, pub

S = {"name": "S", "subjects": ["s.>"]}
S2 = S | {"compression": "s2"}
INFO = ("STREAM.INFO.S",)
CASES = {
    "created with s2": [("STREAM.CREATE.S", S2), fill("s.a", 3), INFO],
    "created with none": [("STREAM.CREATE.S", S | {"compression": "none"}), INFO],
    "in memory": [("STREAM.CREATE.S", S2 | {"storage": "memory"}), fill("s.a", 3), INFO],
    "an unknown algorithm": [("STREAM.CREATE.S", S | {"compression": "zstd"})],
    "in capitals": [("STREAM.CREATE.S", S | {"compression": "S2"})],
    "empty": [("STREAM.CREATE.S", S | {"compression": ""})],
    "a number": [("STREAM.CREATE.S", S | {"compression": 1})],
    "nothing": [("STREAM.CREATE.S", S | {"compression": None})],
    "from none to s2": [("STREAM.CREATE.S", S), fill("s.a", 3), ("STREAM.UPDATE.S", S2), fill("s.a", 3), INFO],
    "from s2 to none": [("STREAM.CREATE.S", S2), fill("s.a", 3), ("STREAM.UPDATE.S", S), fill("s.a", 3), INFO],
    "the same again": [("STREAM.CREATE.S", S2), ("STREAM.CREATE.S", S2), INFO],
    "another one under the same name": [("STREAM.CREATE.S", S2), ("STREAM.CREATE.S", S)],
    "bytes count what was published": [
        ("STREAM.CREATE.S", S2 | {"max_bytes": 2000}), *[pub("s.a", "x" * 500) for _ in range(6)], INFO,
        ("STREAM.MSG.GET.S", {"seq": 6}), ("STREAM.MSG.DELETE.S", {"seq": 5}), INFO,
    ],
    "pedantic": [("STREAM.CREATE.S", S2 | {"pedantic": True}), INFO],
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_compression(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


def stored_bytes(broker):
    return sum(path.stat().st_size for path in broker.store.rglob("*.segment"))


def text(number):
    return f'{{"order": {number}, "customer": "somebody", "state": "shipped", "lines": []}}'.ljust(600, "-")


@pytest.mark.timeout(60)
def test_compressible_messages_take_several_times_less_room_and_read_back(tmp_path):
    used = {}
    for compression in ("none", "s2"):
        broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, compression)
        try:
            broker.start()
            with JetStream(broker.port) as js:
                js.raw("STREAM.CREATE.S", S | {"compression": compression})
                for number in range(1, 1001):
                    js.publish("s.a", text(number))
            broker.stop()
            used[compression] = stored_bytes(broker)
            broker.start()
            with JetStream(broker.port) as js:
                for number in range(1, 1001, 37):
                    assert js.direct("S", {"seq": number}) is not None
                    assert "error" not in js.raw("STREAM.MSG.GET.S", {"seq": number})
                state = js.raw("STREAM.INFO.S")["state"]
                assert (state["messages"], state["bytes"]) == (1000, 1000 * (600 + 3 + 30))
        finally:
            broker.stop()
    assert used["s2"] * 4 < used["none"], used
