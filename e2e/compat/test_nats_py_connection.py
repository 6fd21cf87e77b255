"""nats-py: ways in, and what happens when a server goes or a client does not keep up."""

import asyncio
import os
import signal
import ssl

import nats
import pytest
from nats.errors import Error, SlowConsumerError

from doors import NKEY_SEED

WITHIN_SECONDS = 40


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, WITHIN_SECONDS))


async def works(url, **options):
    client = await nats.connect(url, connect_timeout=20, allow_reconnect=False, max_reconnect_attempts=1, **options)
    try:
        subscription = await client.subscribe("door.>")
        await client.publish("door.a", b"hi")
        assert (await subscription.next_msg(20)).data == b"hi"
    finally:
        await client.close()


async def until(condition, what):
    deadline = asyncio.get_running_loop().time() + 20
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.01)


def test_user_and_password(doors):
    run(works(doors.at["users"], user="ann", password="apple"))


def test_a_wrong_password_is_refused(doors):
    with pytest.raises(Error, match="(?i)authorization violation"):
        run(works(doors.at["users"], user="ann", password="pear"))


def test_token(doors):
    run(works(doors.at["token"], token="s3cret"))


def test_nkey(doors):
    run(works(doors.at["nkeys"], nkeys_seed_str=NKEY_SEED))


def test_credentials_file(doors):
    run(works(doors.at["operator"], user_credentials=doors.at["credentials"]))


def trusting(doors):
    return ssl.create_default_context(cafile=doors.at["ca"])


def test_tls(doors):
    run(works(doors.at["tls"], token="s3cret", tls=trusting(doors)))


def test_tls_with_an_unknown_ca_is_refused(doors):
    with pytest.raises((Error, ssl.SSLError, OSError)):
        run(works(doors.at["tls"], token="s3cret", tls=ssl.create_default_context()))


def test_tls_first(doors):
    run(works(doors.at["tls_first"], token="s3cret", tls=trusting(doors), tls_handshake_first=True))


def test_websocket(doors):
    run(works(doors.at["websocket"], user="ann", password="apple"))


def test_secure_websocket_and_reconnect(doors):
    """One server is killed: the client goes on with the other one over TLS, its subscription with it."""
    secure = doors.secure_websockets()

    async def body():
        returns = []

        async def reconnected():
            returns.append(True)

        async def ignore(_):
            pass

        client = await nats.connect([url for url, _ in secure], user="ann", password="apple", tls=trusting(doors), reconnect_time_wait=0.1,
                                    max_reconnect_attempts=-1, reconnected_cb=reconnected, error_cb=ignore)
        subscription = await client.subscribe("moved.>")
        await client.flush()
        name = client._server_info["server_name"]
        next(broker for _, broker in secure if broker.name == name).kill()
        await until(lambda: returns and client.is_connected and client._server_info["server_name"] != name, "it has moved")
        await client.publish("moved.a", b"x" * 100_000)
        assert len((await subscription.next_msg(20)).data) == 100_000
        await client.close()

    run(body())


def test_discovery_reconnect_and_lame_duck(doors):
    """One server is killed, the next one says good-bye: the client learns of others and moves on, its subscription with it."""
    trio = doors.trio()

    async def body():
        told, returns = [], []

        async def lame_duck():
            told.append(True)

        async def reconnected():
            returns.append(client.connected_server_version)

        async def ignore(_):
            pass

        client = await nats.connect(trio.brokers[0].url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, lame_duck_mode_cb=lame_duck,
                                    reconnected_cb=reconnected, error_cb=ignore)
        await until(lambda: len(client.discovered_servers) >= 2, "the others are known")
        subscription = await client.subscribe("moved.>")
        await client.flush()
        for number, (name, farewell) in enumerate([(client._server_info["server_name"], signal.SIGKILL), (None, signal.SIGUSR2)], 1):
            name = name or client._server_info["server_name"]
            os.kill(trio.named(name).process.pid, farewell)
            await until(lambda: len(returns) >= number and client.is_connected and client._server_info["server_name"] != name, f"it has left {name}")
            await client.publish("moved.a", b"%d" % number)
            assert (await subscription.next_msg(20)).data == b"%d" % number
        assert told
        await client.close()

    run(body())


def test_what_is_published_while_a_server_is_away_comes_after_the_return(doors):
    """The client buffers; the same server comes back on its port."""
    broker = doors.brokers[0]

    async def body():
        returns = []

        async def reconnected():
            returns.append(True)

        async def ignore(_):
            pass

        client = await nats.connect(broker.url, user="ann", password="apple", reconnect_time_wait=0.1, max_reconnect_attempts=-1,
                                    reconnected_cb=reconnected, error_cb=ignore)
        subscription = await client.subscribe("again.>")
        await client.flush()
        broker.kill()
        await until(lambda: client.is_reconnecting, "the loss is seen")
        for number in range(5):
            await client.publish("again.a", b"%d" % number)
        broker.start()  # by this thread: it would end with the one that started it
        await until(lambda: returns, "it is back")
        assert [(await subscription.next_msg(20)).data for _ in range(5)] == [b"%d" % number for number in range(5)]
        await client.close()

    run(body())


def test_a_drained_client_answers_what_it_was_asked(doors):
    async def body():
        client = await nats.connect(doors.at["token"], token="s3cret")
        other = await nats.connect(doors.at["token"], token="s3cret")
        answered = 0

        async def answer(message):
            nonlocal answered
            await asyncio.sleep(0.001)
            await message.respond(message.data)
            answered += 1

        await client.subscribe("drained", cb=answer)
        await client.flush()
        questions = [asyncio.create_task(other.request("drained", b"%d" % number, timeout=20)) for number in range(50)]
        await until(lambda: answered > 5, "it answers")
        await client.drain()
        assert [(await question).data for question in questions] == [b"%d" % number for number in range(50)]
        assert client.is_closed
        await other.close()

    run(body())


def test_a_slow_callback_is_the_clients_own_trouble(doors):
    async def body():
        errors = []

        async def note(error):
            errors.append(error)

        client = await nats.connect(doors.at["token"], token="s3cret", error_cb=note)
        gate = asyncio.Event()

        async def wait(_):
            await gate.wait()

        await client.subscribe("slow", cb=wait, pending_msgs_limit=10)
        for _ in range(100):
            await client.publish("slow", b"x")
        await client.flush()
        await until(lambda: any(isinstance(error, SlowConsumerError) for error in errors), "the client noticed")
        gate.set()
        assert client.is_connected
        await client.close()

    run(body())
