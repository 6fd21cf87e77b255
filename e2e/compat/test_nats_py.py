"""nats-py's main calls."""

import asyncio

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError

# Of one step; the machine may be busy.
WITHIN_SECONDS = 20


def with_client(function):
    """The test as a coroutine that gets a connection."""

    def test(broker):
        async def body():
            client = await nats.connect(broker.url, connect_timeout=WITHIN_SECONDS, max_reconnect_attempts=0)
            try:
                await asyncio.wait_for(function(client), 50)
            finally:
                if not client.is_closed:
                    await client.close()

        asyncio.run(body())

    test.__name__ = function.__name__
    return test


@with_client
async def test_publish_and_subscribe(client):
    subscription = await client.subscribe("py.>")
    await client.publish("py.a", b"one")
    await client.publish("py.b", b"two", reply="py.reply")
    first, second = await subscription.next_msg(WITHIN_SECONDS), await subscription.next_msg(WITHIN_SECONDS)
    assert (first.subject, first.data) == ("py.a", b"one")
    assert (second.subject, second.data, second.reply) == ("py.b", b"two", "py.reply")


@with_client
async def test_request_and_reply(client):
    async def answer(message):
        await message.respond(b"you said " + message.data)

    await client.subscribe("py.service", cb=answer)
    assert (await client.request("py.service", b"hi", timeout=WITHIN_SECONDS)).data == b"you said hi"


@with_client
async def test_no_responders(client):
    with pytest.raises(nats.errors.NoRespondersError):
        await client.request("py.nobody", b"hi", timeout=WITHIN_SECONDS)


@with_client
async def test_headers(client):
    subscription = await client.subscribe("py.headed")
    await client.publish("py.headed", b"x", headers={"Color": "red"})
    assert (await subscription.next_msg(WITHIN_SECONDS)).headers == {"Color": "red"}


@with_client
async def test_queue_groups(client):
    counts = [0, 0, 0]

    def counter(index):
        async def count(_):
            counts[index] += 1
        return count

    for index in range(3):
        await client.subscribe("py.jobs", queue="workers", cb=counter(index))
    await client.flush()
    for _ in range(300):
        await client.publish("py.jobs", b"")
    await client.flush()
    while sum(counts) < 300:
        await asyncio.sleep(0.01)
    assert sum(counts) == 300
    assert all(counts)


@with_client
async def test_unsubscribe_with_limit(client):
    subscription = await client.subscribe("py.limited")
    await subscription.unsubscribe(limit=2)
    for number in range(5):
        await client.publish("py.limited", str(number).encode())
    await client.flush()
    assert [(await subscription.next_msg(WITHIN_SECONDS)).data for _ in range(2)] == [b"0", b"1"]


@with_client
async def test_drain(client):
    seen = []

    async def take(message):
        await asyncio.sleep(0.001)
        seen.append(message.data)

    await client.subscribe("py.drained", cb=take)
    for number in range(50):
        await client.publish("py.drained", str(number).encode())
    await client.drain()
    assert len(seen) == 50
    assert client.is_closed


@with_client
async def test_large_payload_and_its_limit(client):
    subscription = await client.subscribe("py.large")
    await client.publish("py.large", b"x" * client.max_payload)
    assert len((await subscription.next_msg(WITHIN_SECONDS)).data) == client.max_payload
    with pytest.raises(nats.errors.MaxPayloadError):
        await client.publish("py.large", b"x" * (client.max_payload + 1))


@with_client
async def test_jetstream_streams(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    info = await js.add_stream(name="PYS", subjects=["pys.*"], max_msgs=100)
    assert info.config.max_msgs == 100
    assert (await js.publish("pys.a", b"x")).seq == 1
    assert (await js.publish("pys.a", b"x", headers={"Nats-Msg-Id": "1"})).seq == 2
    assert (await js.publish("pys.a", b"x", headers={"Nats-Msg-Id": "1"})).duplicate
    await js.update_stream(name="PYS", subjects=["pys.*"], max_msgs=50)
    assert (await js.stream_info("PYS")).config.max_msgs == 50
    assert "PYS" in [each.config.name for each in await js.streams_info()]
    assert await js.find_stream_name_by_subject("pys.a") == "PYS"
    assert (await js.get_msg("PYS", 1)).data == b"x"
    assert (await js.get_last_msg("PYS", "pys.a")).seq == 2
    await js.delete_msg("PYS", 1)
    assert (await js.stream_info("PYS")).state.messages == 1
    await js.purge_stream("PYS")
    assert (await js.stream_info("PYS")).state.messages == 0
    assert (await js.account_info()).streams >= 1
    await js.delete_stream("PYS")
    with pytest.raises(NotFoundError):
        await js.stream_info("PYS")


@with_client
async def test_jetstream_expectations(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYE", subjects=["pye"])
    await js.publish("pye", b"1", stream="PYE")
    with pytest.raises(APIError) as refusal:
        await js.publish("pye", b"2", headers={"Nats-Expected-Last-Sequence": "9"})
    assert refusal.value.err_code == 10071
    await js.delete_stream("PYE")


@with_client
async def test_jetstream_async_publish(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYA", subjects=["pya"], storage=StorageType.MEMORY)
    futures = [await js.publish_async("pya", b"x") for _ in range(200)]
    await asyncio.wait_for(js.publish_async_completed(), WITHIN_SECONDS)
    assert [future.result().seq for future in futures] == list(range(1, 201))
    await js.delete_stream("PYA")


@with_client
async def test_jetstream_pull(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYP", subjects=["pyp.*"])
    for number in range(10):
        await js.publish("pyp.a", str(number).encode())
    subscription = await js.pull_subscribe("pyp.*", durable="puller")
    messages = await subscription.fetch(4, timeout=WITHIN_SECONDS)
    assert [message.data for message in messages] == [b"0", b"1", b"2", b"3"]
    await messages[0].ack()
    await messages[1].ack_sync()
    await messages[2].nak()
    await messages[3].term()
    again = []
    while len(again) < 7:  # a nak is not awaited: its message may miss the first fetch
        again += await subscription.fetch(7 - len(again), timeout=WITHIN_SECONDS)
    assert sorted(message.data for message in again) == [b"2"] + [b"%d" % number for number in range(4, 10)]
    assert again[[message.data for message in again].index(b"2")].metadata.num_delivered == 2
    for message in again:
        await message.in_progress()
        await message.ack_sync()
    info = await subscription.consumer_info()
    assert (info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq) == (0, 0, 10)
    with pytest.raises(nats.errors.TimeoutError):
        await subscription.fetch(1, timeout=0.3)
    await js.delete_stream("PYP")


@with_client
async def test_jetstream_push(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYU", subjects=["pyu.*"])
    seen = asyncio.Queue()

    async def take(message):
        await seen.put(message)

    subscription = await js.subscribe("pyu.*", durable="pusher", cb=take, manual_ack=True)
    for number in range(20):
        await js.publish("pyu.a", str(number).encode())
    messages = [await asyncio.wait_for(seen.get(), WITHIN_SECONDS) for _ in range(20)]
    assert [message.data for message in messages] == [b"%d" % number for number in range(20)]
    for message in messages:
        await message.ack_sync()
    assert (await subscription.consumer_info()).ack_floor.stream_seq == 20
    await subscription.unsubscribe()
    await js.delete_stream("PYU")


@with_client
async def test_jetstream_push_queue(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYQ", subjects=["pyq"])
    seen = []

    async def take(message):
        seen.append(message.data)
        await message.ack()

    for _ in range(2):
        await js.subscribe("pyq", queue="workers", cb=take, manual_ack=True)
    for number in range(50):
        await js.publish("pyq", str(number).encode())
    while len(seen) < 50:
        await asyncio.sleep(0.01)
    assert len(set(seen)) == len(seen) == 50
    await js.delete_stream("PYQ")


@with_client
async def test_jetstream_ordered_consumer(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYO", subjects=["pyo"])
    for number in range(300):
        await js.publish("pyo", str(number).encode())
    subscription = await js.subscribe("pyo", ordered_consumer=True)
    assert [int((await subscription.next_msg(WITHIN_SECONDS)).data) for _ in range(300)] == list(range(300))
    await subscription.unsubscribe()
    await js.delete_stream("PYO")


@with_client
async def test_jetstream_consumers(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    await js.add_stream(name="PYC", subjects=["pyc.*"], retention=RetentionPolicy.LIMITS)
    await js.add_consumer("PYC", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.NEW,
                                                filter_subject="pyc.a", max_ack_pending=5, ack_wait=10))
    info = await js.consumer_info("PYC", "c")
    assert (info.config.max_ack_pending, info.config.ack_wait, info.config.filter_subject) == (5, 10, "pyc.a")
    assert [each.name for each in await js.consumers_info("PYC")] == ["c"]
    assert await js.delete_consumer("PYC", "c")
    with pytest.raises(NotFoundError):
        await js.consumer_info("PYC", "c")
    await js.delete_stream("PYC")


@with_client
async def test_key_value(client):
    js = client.jetstream(timeout=WITHIN_SECONDS)
    bucket = await js.create_key_value(KeyValueConfig(bucket="pykv", history=5))
    assert await bucket.put("color", b"red") == 1
    assert (await bucket.get("color")).value == b"red"
    revision = await bucket.update("color", b"blue", last=1)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.update("color", b"green", last=1)
    assert (await bucket.get("color")).revision == revision
    await bucket.create("size", b"9")
    assert sorted(await bucket.keys()) == ["color", "size"]
    assert [entry.value for entry in await bucket.history("color")] == [b"red", b"blue"]
    watcher = await bucket.watchall()
    assert {(await watcher.updates(2)).key for _ in range(2)} == {"color", "size"}
    assert await watcher.updates(2) is None
    await bucket.put("size", b"10")
    assert (await watcher.updates(2)).value == b"10"
    await watcher.stop()
    await bucket.delete("size")
    with pytest.raises(KeyNotFoundError):
        await bucket.get("size")
    await bucket.purge("color")
    assert (await bucket.status()).bucket == "pykv"
    assert await js.delete_key_value("pykv")
