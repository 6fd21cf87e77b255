"""Backups of streams: the same requests bring the same answers, chunks and advisories; and a stream that one program gave
out comes back whole in the other."""

import random
import time

import pytest

import backups
from broker import WITH_JETSTREAM
from jetstream import JetStream, shown
from mask import mask
from steps import converse, fill

S = {"name": "S", "subjects": ["s.>"]}
CREATE = ("STREAM.CREATE.S", S)
INFO = ("STREAM.INFO.S",)
TAKE = {"deliver_subject": "to.me"}
DURABLE = {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit", "ack_wait": 600 * 10**9}}
CONSUMER = ("CONSUMER.DURABLE.CREATE.S.C", DURABLE)

REQUESTS = {
    "a snapshot of an unknown stream": [("STREAM.SNAPSHOT.S", TAKE)],
    "a snapshot of an unknown stream without a body": [("STREAM.SNAPSHOT.S",)],
    "a snapshot without a body": [CREATE, ("STREAM.SNAPSHOT.S",)],
    "a snapshot with an empty object": [CREATE, ("STREAM.SNAPSHOT.S", {})],
    "a snapshot with broken json": [CREATE, ("STREAM.SNAPSHOT.S", "{")],
    "a snapshot with an unknown field": [CREATE, ("STREAM.SNAPSHOT.S", TAKE | {"colour": "blue"})],
    "a snapshot with a wrong type": [CREATE, ("STREAM.SNAPSHOT.S", TAKE | {"chunk_size": "big"})],
    "a snapshot without a deliver subject": [CREATE, ("STREAM.SNAPSHOT.S", {"jsck": True})],
    "a snapshot to a wildcard": [CREATE, ("STREAM.SNAPSHOT.S", {"deliver_subject": "a.*"})],
    "a snapshot to an invalid subject": [CREATE, ("STREAM.SNAPSHOT.S", {"deliver_subject": "a..b"})],
    "a snapshot that needs a newer server": [CREATE, ("STREAM.SNAPSHOT.S", TAKE, [("Nats-Required-Api-Level", "99")])],
    "a snapshot's answer": [CREATE, fill("s.a", 3), CONSUMER, ("STREAM.MSG.DELETE.S", {"seq": 2}), ("STREAM.SNAPSHOT.S", TAKE)],
    "a snapshot's answer for an empty stream": [CREATE, ("STREAM.SNAPSHOT.S", TAKE)],
    "a restore without a body": [("STREAM.RESTORE.S",)],
    "a restore with an empty object": [("STREAM.RESTORE.S", {})],
    "a restore with broken json": [("STREAM.RESTORE.S", "{")],
    "a restore with an unknown field": [("STREAM.RESTORE.S", {"config": S, "colour": "blue"})],
    "a restore with an unknown field of the stream": [("STREAM.RESTORE.S", {"config": S | {"colour": "blue"}})],
    "a restore with a wrong type": [("STREAM.RESTORE.S", {"config": S | {"max_msgs": "many"}})],
    "a restore of another name": [("STREAM.RESTORE.S", {"config": S | {"name": "T"}})],
    "a restore of a stream that is there": [CREATE, ("STREAM.RESTORE.S", {"config": S})],
    "a restore of a stream that is there with another config": [CREATE, ("STREAM.RESTORE.S", {"config": S | {"max_msgs": 5}})],
    "a restore with an invalid config": [("STREAM.RESTORE.S", {"config": S | {"max_age": 1000}})],
    "a restore with an invalid subject": [("STREAM.RESTORE.S", {"config": S | {"subjects": ["s..a"]}})],
    "a restore with more bytes than there are": [("STREAM.RESTORE.S", {"config": S | {"max_bytes": 10**13}})],
    "a restore with a name with a slash": [("STREAM.RESTORE.a/b", {"config": {"name": "a/b", "subjects": ["x"]}})],
    "a restore that needs a newer server": [("STREAM.RESTORE.S", {"config": S}, [("Nats-Required-Api-Level", "99")])],
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_answered_alike(pair, name):
    pair.same(lambda broker: converse(broker.port, REQUESTS[name]))


def filled(js, count=20, **config):
    """A stream with everything that a backup has to keep: gaps, headers, message ids, consumers with pending messages."""
    js.raw("STREAM.CREATE.S", S | config)
    js.fill("s.a", count)
    js.publish("s.b", b"\x00\xff binary", [("A", "b"), ("A", "c")])
    js.publish("s.b", "once", [("Nats-Msg-Id", "one")])
    for seq in (3, 4, 7):
        js.raw("STREAM.MSG.DELETE.S", {"seq": seq})
    js.raw("CONSUMER.DURABLE.CREATE.S.C", DURABLE)
    js.raw("CONSUMER.DURABLE.CREATE.S.D", {"stream_name": "S", "config": {
        "durable_name": "D", "ack_policy": "all", "filter_subject": "s.a", "metadata": {"owner": "me"}}})
    got = js.pull("S", "C", {"batch": 6}, 6)
    js.ack(got[0])
    js.ack(got[3])
    js.ack(got[4], "-NAK")
    js.pull("S", "C", {"batch": 1}, 1)
    js.ack(js.pull("S", "D", {"batch": 3}, 3)[1])


@pytest.mark.parametrize("request_of", [
    {}, {"chunk_size": 1}, {"chunk_size": 1024, "window_size": 1}, {"chunk_size": -7}, {"chunk_size": 4096, "window_size": 8192},
    {"chunk_size": 10**12, "window_size": 10**12}, {"no_consumers": True}, {"jsck": True},
], ids=str)
def test_chunks_come_in_the_same_sizes_and_end_alike(both, request_of):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        # What does not shrink, so that the sizes are not the compressor's.
        noise = random.Random(7)
        for _ in range(60):
            js.publish("s.a", noise.randbytes(512))
        taken = backups.take(js, "S", **request_of)
        # The last chunk is as long as the compressor made it.
        asked = [size for size, wants_ack in taken.chunks if wants_ack]
        return sorted(set(asked)), taken.chunks[-1][1], taken.end.status, mask(taken.answer)

    both(conversation)


def test_a_backup_that_fits_into_one_chunk_ends_without_a_status(both):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 2)
        taken = backups.take(js, "S")
        return len(taken.chunks), taken.chunks[0][1], taken.end.status, taken.end.headers

    both(conversation)


def test_chunks_wait_for_a_client_that_listens_late(both):
    """As clients do: answers come by a wildcard that takes the deliver subject too; for the chunks it listens afterwards."""
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 2)
        js.wire.subscribe("late.*")
        js.wire.sync()
        assert "error" not in js.raw("STREAM.SNAPSHOT.S", {"deliver_subject": "late.1"})
        time.sleep(0.5)
        early = js.quiet()
        sid = js.wire.subscribe("late.1")
        chunks = [message for message in (js.wire.read_message() for _ in range(4)) if message.sid == sid]
        return len(early), [len(message.payload) > 0 for message in chunks]

    both(conversation)


def test_a_client_that_does_not_acknowledge_is_given_up(both):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        noise = random.Random(7)
        for _ in range(20):
            js.publish("s.a", noise.randbytes(512))
        taken = backups.take(js, "S", ack=False, chunk_size=1024, window_size=4096)
        return [size for size, _ in taken.chunks], taken.end.status

    both(conversation)


def delete(js):
    """nats-server removes the files after its answer."""
    js.raw("STREAM.DELETE.S")
    time.sleep(0.3)


def advisories(messages):
    return [mask(message.json()) | {"subject": message.subject} for message in messages]


def without_client(advisory):
    client = advisory.pop("client", None)
    return advisory | {"client": sorted(client) if client else client}


def test_advisories_tell_of_backups_and_restores(both):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 3)
        with JetStream(js.port) as listener:
            for event in ("SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE", "RESTORE_CREATE", "RESTORE_COMPLETE", "CREATED"):
                listener.wire.subscribe(f"$JS.EVENT.ADVISORY.STREAM.{event}.S")
            listener.wire.sync()
            taken = backups.take(js, "S")
            seen = [listener.wire.read_message() for _ in range(2)]
            delete(js)
            restored = backups.begin(js, "S", taken.answer["config"], taken.answer["state"])
            backups.give(js, restored["deliver_subject"], taken.data)
            seen += [listener.wire.read_message() for _ in range(3)]
        told = [without_client(advisory) for advisory in advisories(seen)]
        for advisory in told:
            # As long as the compressor made it.
            advisory.pop("bytes", None)
            advisory.pop("end", None)
        return sorted((advisory for advisory in told), key=str)

    both(conversation)


def ways(pair):
    reference, weir = pair.servers
    return {"nats-server to weir": (reference, weir), "weir to nats-server": (weir, reference), "weir to weir": (weir, weir)}


KINDS = {
    "file": {},
    "memory": {"storage": "memory"},
    "a work queue": {"retention": "workqueue"},
    "with limits": {"max_msgs": 10},
    "with ttls": {"allow_msg_ttl": True},
    "from a sequence on": {"first_seq": 1000},
    "sealed later": {},
}


@pytest.mark.parametrize("way", ["nats-server to weir", "weir to nats-server", "weir to weir"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_comes_back_whole(pair, way, kind):
    source, target = ways(pair)[way]
    with JetStream(source.port) as one:
        if kind == "a work queue":
            one.raw("STREAM.CREATE.S", S | KINDS[kind])
            one.fill("s.a", 9)
            one.raw("CONSUMER.DURABLE.CREATE.S.C", DURABLE)
            got = one.pull("S", "C", {"batch": 5}, 5)
            one.ack(got[0])
            one.ack(got[2])
        elif kind == "from a sequence on":
            one.raw("STREAM.CREATE.S", S | KINDS[kind])
            one.fill("s.a", 9)
        else:
            filled(one, **KINDS[kind])
        if kind == "with ttls":
            one.publish("s.t", "x", [("Nats-TTL", "1h")])
            one.publish("s.t", "x", [("Nats-TTL", "never")])
        if kind == "sealed later":
            config = one.raw("STREAM.INFO.S")["config"]
            one.raw("STREAM.UPDATE.S", config | {"sealed": True})
        before = backups.content(one, "S")
        taken = backups.take(one, "S", chunk_size=2048)
        one.clear()
    pair._await_deletions()
    with JetStream(target.port) as other:
        try:
            restored = backups.restore(other, taken, chunk=777)
            assert "error" not in restored, restored
            after = backups.content(other, "S")
            assert after == before
            if kind == "file":
                if target is pair.weir:
                    # nats-server has forgotten it.
                    assert other.publish("s.b", "again", [("Nats-Msg-Id", "one")]).get("duplicate")
                assert other.publish("s.a", "next")["seq"] == before["state"]["last_seq"] + 1
        finally:
            other.clear()
    pair._await_deletions()


def test_an_ephemeral_consumer_comes_back(pair):
    for source, target in ways(pair).values():
        with JetStream(source.port) as one:
            one.raw("STREAM.CREATE.S", S)
            one.fill("s.a", 3)
            made = one.raw("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"ack_policy": "explicit", "inactive_threshold": 600 * 10**9}})
            taken = backups.take(one, "S")
            without = backups.take(one, "S", no_consumers=True)
            one.clear()
        pair._await_deletions()
        with JetStream(target.port) as other:
            backups.restore(other, taken)
            config = other.raw(f"CONSUMER.INFO.S.{made['name']}")["config"]
            assert "durable_name" not in config and config["inactive_threshold"] == 600 * 10**9
            other.clear()
            pair._await_deletions()
            backups.restore(other, without)
            assert other.raw("STREAM.INFO.S")["state"]["consumer_count"] == 0
            other.clear()
        pair._await_deletions()


DAMAGE = {
    "nothing": lambda data: b"",
    "no backup": lambda data: b"this is no backup at all",
    "a flipped byte": lambda data: data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:],
    "cut in the middle": lambda data: data[:len(data) // 2],
    "cut before its end": lambda data: data[:-3],
    "only its beginning": lambda data: data[:10],
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.deviates("restores-are-whole.md")
def test_a_damaged_backup_is_refused_alike(pair, name):
    def conversation(broker):
        with JetStream(broker.port) as js:
            try:
                filled(js)
                taken = backups.take(js, "S")
                delete(js)
                begun = backups.begin(js, "S", taken.answer["config"], taken.answer["state"])
                answer = backups.give(js, begun["deliver_subject"], DAMAGE[name](taken.data))
                if broker is pair.weir:
                    assert js.raw("STREAM.INFO.S")["error"]["err_code"] == 10059, "something half is left"
                    assert backups.restore(js, taken)["state"]["messages"] == taken.answer["state"]["messages"]
                return mask(answer)
            finally:
                js.clear()

    pair.same(conversation)


@pytest.mark.deviates("restores-are-whole.md")
def test_a_backup_whose_subjects_are_taken_is_refused_alike(both):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 2)
        taken = backups.take(js, "S")
        delete(js)
        js.raw("STREAM.CREATE.T", {"name": "T", "subjects": ["s.a"]})
        begun = backups.begin(js, "S", taken.answer["config"])
        return backups.give(js, begun["deliver_subject"], taken.data)

    both(conversation)


def test_a_name_taken_while_chunks_come_is_refused_alike(both):
    def conversation(js):
        js.raw("STREAM.CREATE.S", S)
        js.fill("s.a", 2)
        taken = backups.take(js, "S")
        delete(js)
        begun = backups.begin(js, "S", taken.answer["config"])
        js.raw("STREAM.CREATE.S", S)
        answer = backups.give(js, begun["deliver_subject"], taken.data)
        return answer, js.api("STREAM.INFO.S")

    both(conversation)


def test_a_chunk_without_a_reply_ends_the_restore(both):
    def conversation(js):
        begun = backups.begin(js, "S", S)
        sid = js.wire.subscribe("$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.S")
        js.wire.publish(begun["deliver_subject"], "chunk")
        js.wire.sync()
        told = [without_client(mask(message.json())) for message in js.quiet() if message.sid == sid]
        for advisory in told:
            advisory.pop("end", None)
        after = js.wire.request(begun["deliver_subject"], "chunk")
        return told, shown(after).get("status"), js.api("STREAM.INFO.S")

    both(conversation)


def test_a_silent_client_is_forgotten(both):
    def conversation(js):
        begun = backups.begin(js, "S", S)
        first = js.wire.request(begun["deliver_subject"], "chunk")
        time.sleep(6)
        after = js.wire.request(begun["deliver_subject"], "chunk")
        return first.status, first.payload, after.status

    both(conversation)
