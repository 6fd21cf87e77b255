"""Limits and ends: max_payload, max_control_line, max_subscriptions, max_sub_tokens, max_connections, max_pending,
pings, write deadlines; and the reason that /connz gives for each end, with the counters of /varz.
"""

import json
import socket
import time

import pytest

from broker import STANDALONE, wait_until
from script import play, unescape
from wire import Wire

QUIET = 'a: CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\n'


def ids(table):
    return [str(name).replace(" ", "_") for name in table]


def alone(pair):
    for broker in pair.servers:
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier connections are gone")


# -- max_payload: headers and payload together

@pytest.fixture(scope="module")
def small(start_pair):
    return start_pair(STANDALONE + "max_payload: 100\n")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 102, 1000, 1048576])
def test_max_payload(small, size):
    small.same(lambda broker: play(broker.port, f"{QUIET}a: SUB foo 1\na: PUB foo {size}\na~ {{x*{size}}}\\r\\n\na?" if size
                                   else f"{QUIET}a: SUB foo 1\na: PUB foo 0\na~ \\r\\n\na?"))


@pytest.mark.parametrize("payload", [0, 77, 78, 79, 100])
def test_max_payload_counts_headers(small, payload):
    block = "NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\n"
    size = len(unescape(block))
    rest = f"{{x*{payload}}}" if payload else ""
    small.same(lambda broker: play(broker.port, f"{QUIET}a: SUB foo 1\na: HPUB foo {size} {size + payload}\na~ {block}{rest}\\r\\n\na?"))


def test_max_payload_is_judged_before_the_payload_is_there(small):
    small.same(lambda broker: play(broker.port, QUIET + "a~ PUB foo 101\\r\\n\na!"))


# -- max_control_line: what counts is the line's arguments

@pytest.fixture(scope="module")
def narrow(start_pair):
    return start_pair(STANDALONE + "max_control_line: 64\n")


@pytest.mark.parametrize("length", range(55, 70))
@pytest.mark.parametrize("verb", ["SUB {} 1", "PUB {} 0", "UNSUB {}", "PUB foo {} 0", "SUB foo {} 1", "PING {}", "-ERR {}", "HPUB {} 0 0"])
def test_max_control_line(narrow, verb, length):
    line = verb.format("x" * length)
    after = "\na~ \\r\\n" if "PUB" in verb else ""
    narrow.same(lambda broker: play(broker.port, f"{QUIET}a: {line}{after}\na?"))


@pytest.mark.parametrize("length", [50, 62, 63, 64, 65, 66, 100])
def test_max_control_line_in_pieces(narrow, length):
    narrow.same(lambda broker: play(broker.port, f"{QUIET}a~ SUB {{x*{length}}}\na|\na~  1\\r\\n\na?"))


def test_max_control_line_spares_connect(narrow):
    narrow.same(lambda broker: play(broker.port, 'a: CONNECT {"verbose":false,"name":"{n*500}"}\na?'))


def test_a_connect_line_has_an_end_too(narrow):
    """Far above every limit: both close. Before authentication nothing large is kept."""
    def ask(broker):
        with Wire(broker.port) as client:
            client.send_raw(b'CONNECT {"name":"' + b"n" * 3_000_000)
            try:
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed by the other side already
            return client.until_closed()[-1].verb

    narrow.same(ask)


# -- subscriptions

@pytest.fixture(scope="module")
def few(start_pair):
    return start_pair(STANDALONE + "max_subscriptions: 3\nmax_sub_tokens: 4\n")


SUBSCRIPTIONS = {
    "the limit": "a: SUB a 1\na: SUB b 2\na: SUB c 3\na?",
    "one more": "a: SUB a 1\na: SUB b 2\na: SUB c 3\na: SUB d 4\na: PUB d 1\na: x\na?",
    "one more, many times": "a: SUB a 1\na: SUB b 2\na: SUB c 3\na: SUB d 4\na: SUB e 5\na: SUB f 6\na?",
    "a sid in use above it": "a: SUB a 1\na: SUB b 2\na: SUB c 3\na: SUB d 3\na?",
    "room again": "a: SUB a 1\na: SUB b 2\na: SUB c 3\na: UNSUB 2\na: SUB d 4\na: PUB d 1\na: x\na?",
    "room again by a max": "a: SUB a 1\na: UNSUB 1 1\na: SUB b 2\na: SUB c 3\na: PUB a 1\na: x\na?\na: SUB d 4\na: PUB d 1\na: y\na?",
    "queues count": "a: SUB a q 1\na: SUB a q 2\na: SUB a q 3\na: SUB a q 4\na?",
    "as many tokens as allowed": "a: SUB a.b.c.d 1\na: PUB a.b.c.d 1\na: x\na?",
    "a token more": "a: SUB a.b.c.d.e 1\na: PUB a.b.c.d.e 1\na: x\na?",
    "a wildcard token more": "a: SUB a.*.c.d.> 1\na?",
    "a token more with a queue": "a: SUB a.b.c.d.e q 1\na?",
    "empty tokens count": "a: SUB a..... 1\na?",
    "a publish with more tokens": "a: SUB > 1\na: PUB a.b.c.d.e.f 1\na: x\na?",
}


@pytest.mark.parametrize("script", SUBSCRIPTIONS.values(), ids=ids(SUBSCRIPTIONS))
@pytest.mark.parametrize("verbose", ["false", "true"], ids=["quiet", "verbose"])
def test_subscription_limits(few, script, verbose):
    few.same(lambda broker: play(broker.port, f'a: CONNECT {{"verbose":{verbose}}}\n{script}'))


def test_a_long_subject_with_many_tokens(start_pair):
    """The default has no limit on tokens but the control line's; Weir's own bound lies above what fits here."""
    subject = ".".join("t" * 30)
    start_pair(STANDALONE).same(lambda broker: play(broker.port, f"{QUIET}a: SUB {subject} 1\na: PUB {subject} 1\na: x\na?"))


# -- connections

@pytest.fixture(scope="module")
def crowded(start_pair):
    return start_pair(STANDALONE + "max_connections: 2\n")


def test_max_connections_refuses_and_lets_in_again(crowded):
    def ask(broker):
        one, two = Wire(broker.port, {}), Wire(broker.port, {})
        one.sync(), two.sync()
        with Wire(broker.port) as third:
            refused = [str(operation) for operation in third.until_closed()]
        one.close()
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "there is room")
        with Wire(broker.port, {}) as fourth:
            served = [str(operation) for operation in fourth.until_pong() if operation.verb != "INFO"]
        two.close()
        return refused, served, broker.get_json("/varz")["max_connections"]

    crowded.same(ask)


# -- pings

PINGED = STANDALONE + 'ping_interval: "150ms"\nping_max: 2\n'


@pytest.fixture(scope="module")
def pinged(start_pair):
    return start_pair(PINGED)


def test_pings_go_on_while_they_are_answered(pinged):
    def ask(broker):
        with Wire(broker.port, {}) as client:
            seen = []
            while len(seen) < 4:
                operation = client.read()
                if operation.verb != "INFO":
                    seen.append(str(operation))
                    client.send("PONG")
            return seen

    pinged.same(ask)


def test_one_who_answers_none_is_stale(pinged):
    def ask(broker):
        before = broker.get_json("/varz")
        with Wire(broker.port, {}) as client:
            seen = [str(operation) for operation in client.until_closed() if operation.verb != "INFO"]
        return seen, reason_of(broker, client), counted(before, broker.get_json("/varz"), "stale_connections")

    pinged.same(ask)


def test_one_who_talks_is_not_stale(pinged):
    """Answers no PING, but publishes: whether that is enough is the reference's to say."""
    def ask(broker):
        with Wire(broker.port, {}) as client:
            client.send("SUB talk 1")
            deadline = time.monotonic() + 1.2
            alive = True
            while time.monotonic() < deadline and alive:
                client.send("PUB talk 1", "x")
                time.sleep(0.05)
                try:
                    alive = client.read(0.5).verb != "<closed>"
                except AssertionError:
                    pass
            return alive

    pinged.same(ask)


def test_one_who_has_not_connected_is_pinged_too(pinged):
    pinged.same(lambda broker: play(broker.port, "a!"))


# -- why connections end

def reason_of(broker, client) -> str:
    def closed():
        found = [each for each in broker.get_json("/connz?state=closed")["connections"] if each["cid"] == client.info["client_id"]]
        return found and found[0]["reason"]

    return wait_until(closed, "its end is in the books")


def counted(before, after, *names):
    return {name: after[name] - before[name] for name in names}


@pytest.fixture(scope="module")
def ends(start_pair):
    return start_pair(STANDALONE + 'authorization { token: t, timeout: 0.4 }\nmax_payload: 1000\nmax_control_line: 256\nmax_subscriptions: 2\n')


ENDS = {
    "it went": ([], True),
    "an unknown operation": (["FOO"], False),
    "bad arguments": (["SUB foo"], False),
    "a bad size": (["PUB foo x"], False),
    "a broken payload": (["PUB foo 1", "xyz"], False),
    "headers not asked for": (["HPUB foo 12 12", "NATS/1.0\r\n\r\n"], False),
    "a long line": (["SUB " + "x" * 300 + " 1"], False),
    "a large payload": (["PUB foo 1001"], False),
    "an error of its own": (["-ERR 'x'"], False),
    "a wrong token later": (['CONNECT {"auth_token":"x"}'], False),
    "broken json later": (["CONNECT {"], False),
    "a protocol beyond": (['CONNECT {"auth_token":"t","protocol":9}'], False),
    "no responders without headers": (['CONNECT {"auth_token":"t","no_responders":true}'], False),
    "an account": (['CONNECT {"auth_token":"t","account":"A"}'], False),
    "too many subscriptions, then gone": (["SUB a 1", "SUB b 2", "SUB c 3"], True),
}


@pytest.mark.parametrize("lines, leaves", ENDS.values(), ids=ids(ENDS))
def test_the_reason_of_an_end(ends, lines, leaves):
    def ask(broker):
        with Wire(broker.port, {"auth_token": "t"}) as client:
            client.sync()
            client.send(*lines)
            seen = client.until_pong() if leaves else client.until_closed()
        return [str(operation) for operation in seen if operation.verb != "INFO"], reason_of(broker, client)

    ends.same(ask)


FIRST = {
    "silence": [],
    "no token": ["CONNECT {}"],
    "a wrong token": ['CONNECT {"auth_token":"x"}'],
    "broken json": ["CONNECT {"],
    "a ping": ["PING"],
    "a subscription": ["SUB foo 1"],
    "garbage": ["FOO"],
    "an info": ["INFO {}"],
    "a long connect": ['CONNECT {"name":"' + "x" * 5000 + '"}'],
    "a long line": ["SUB " + "x" * 5000 + " 1"],
}


@pytest.mark.parametrize("lines", FIRST.values(), ids=ids(FIRST))
def test_the_reason_of_an_end_before_a_login(ends, lines):
    def ask(broker):
        with Wire(broker.port) as client:
            client.send(*lines)
            seen = [str(operation) for operation in client.until_closed() if operation.verb != "INFO"]
        return seen, reason_of(broker, client)

    ends.same(ask)


# -- slow consumers

SLOW = STANDALONE + 'max_pending: 200KB\nmax_payload: 100KB\nwrite_deadline: "400ms"\n'


def slow_reader(port: int, connect: dict, buffer_bytes: int = 4096) -> Wire:
    client = Wire(port, None)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    client.send("CONNECT " + json.dumps({"verbose": False} | connect), "SUB slow 1")
    client.until_pong()
    return client


@pytest.fixture(scope="module")
def slow(start_pair):
    return start_pair(SLOW)


def test_one_who_does_not_read_is_cut_and_the_others_are_served(slow):
    def ask(broker):
        before = broker.get_json("/varz")
        idle = slow_reader(broker.port, {"name": "idle"})
        with Wire(broker.port, {"name": "listener"}) as listener, Wire(broker.port, {"name": "sender"}) as sender:
            listener.subscribe("slow")
            listener.sync()
            for _ in range(100):
                sender.publish("slow", b"x" * 100_000)
                sender.sync()
                heard = listener.sync()
                assert len(heard) == 1
            reason = reason_of(broker, idle)
            after = broker.get_json("/varz")
            others = sorted({each["name"] for each in broker.get_json("/connz")["connections"]} - {"idle"})
        idle.close()
        stats = {key: after["slow_consumer_stats"][key] - before["slow_consumer_stats"][key] for key in after["slow_consumer_stats"]}
        return reason, others, counted(before, after, "slow_consumers"), stats

    slow.same(ask)


@pytest.fixture(scope="module")
def deadline(start_pair):
    return start_pair(STANDALONE + 'max_pending: 64MB\nwrite_deadline: "300ms"\n')


def test_the_write_deadline_cuts_one_who_does_not_read(deadline):
    def ask(broker):
        before = broker.get_json("/varz")
        idle = slow_reader(broker.port, {"name": "idle"})
        with Wire(broker.port, {}) as sender:
            for _ in range(12):
                sender.publish("slow", b"x" * 1_000_000)
            sender.sync()
            reason = reason_of(broker, idle)
        idle.close()
        return reason, counted(before, broker.get_json("/varz"), "slow_consumers")

    deadline.same(ask)


def test_one_who_reads_late_but_in_time_gets_all(start_pair):
    def ask(broker):
        late = slow_reader(broker.port, {}, 131_072)
        with Wire(broker.port, {}) as sender:
            for number in range(40):
                sender.publish("slow", b"%07d" % number * 50_000)
            sender.sync()
        time.sleep(0.3)
        return [message.payload[:7] for message in late.sync()]

    start_pair(STANDALONE).same(ask)
