"""What the log says of a start, of a connection's life and of an end: whole lines, with levels, as nats-server's.

Flags and files of the log are in test_diff_flags.py and test_diff_process.py, lines about TLS and WebSocket in those suites.
"""

import re
import signal

import pytest

from broker import STANDALONE, Broker, wait_until
from compare import same
from test_diff_process import STAMP
from wire import Wire

# Whose numbers differ from run to run; or which build it is.
VARYING = [
    (re.compile(r"\bN[A-Z2-7]{55}\b"), "<server>"), (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"), (re.compile(r"\bcid:\d+"), "cid:<n>"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:<digest>"), (re.compile(r"/\S*/(reference|weir)\b"), "<folder>"),
    (re.compile(r"(Git: +)\[.*\]"), r"\1<git>"), (re.compile(r"(Node: +)\S+"), r"\1<node>"), (re.compile(r"Took \S+"), "Took <time>"),
    (re.compile(r"(Go build: +)\S+"), r"\1<go>"),
]


# Lines of one of both (broker/docs/deviations/logs.md, config-refusals.md): the banner, and what the inside says.
INSIDE = re.compile(r"\[INF\] ([ _|/\\-]*|.*docs\.nats\.io/jetstream)$|\[INF\] .*\|.*\||.*\" has no effect: |\[DBG\] (?!127\.)")


def outside(text: str) -> list[str]:
    """The lines that both have; without clients, of which the wait for the server is one."""
    return [line for line in lines(text) if not INSIDE.match(line) and " - cid:" not in line and " JETSTREAM " not in line]


def lines(text: str) -> list[str]:
    text = STAMP.sub("", text)
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text.splitlines()


@pytest.fixture
def brokers(programs, tmp_path):
    """Both under the name nats-server, which decides how they speak of themselves; not started."""
    made = []

    def make(config):
        made.extend(Broker(program, tmp_path, config.replace("NAME", "one"), name) for name, program in zip(("reference", "weir"), programs))
        return made[-2:]

    yield make
    for broker in made:
        broker.stop()


# -- starts

STARTS = {
    "plain": "",
    "http": 'http_base_path: "/a"',
    "a token": "authorization { token: t }",
    "a password": "authorization { user: u, password: p }",
    "users": "authorization { users: [ { user: u, password: p } ] }",
    "hashed passwords": 'authorization { users: [ { user: u, password: "$2a$04$LRXgkl.hjzhlJKz/XUpyzOyWPL7tQoXYKsaU9hPzgjeJSInvTvuLq" } ] }',
    "accounts": "accounts { A { users: [ { user: u, password: p } ] } }",
    "a large payload": "max_payload: 9MB",
    "a payload of eight megabytes": "max_payload: 8MB",
    "a small store": 'jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 256MB, sync_interval: "2m" }',
    "a domain": 'jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 256MB, domain: hub, sync_interval: "2m" }',
    "not strict": 'jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 256MB, strict: false, sync_interval: "2m" }',
    "a system account": "accounts { S { users: [ { user: u, password: p } ] } }\nsystem_account: S",
    "no system account": "no_system_account: true",
    "a cluster": 'cluster { name: C, listen: "127.0.0.1:CLUSTER" }',
    "a guarded cluster": 'cluster { name: C, listen: "127.0.0.1:CLUSTER", authorization { user: r, password: p } }',
    "a cluster without a port": "cluster { name: C }",
    "a websocket": 'websocket { listen: "127.0.0.1:GRPC", no_tls: true }',
    "a websocket for browsers": 'websocket { listen: "127.0.0.1:GRPC", no_tls: true, same_origin: true, allowed_origins: ["http://a"], compression: true }',
    "tags": "server_tags: [a, b]\nserver_metadata { k: v }",
    "an advertised address": 'client_advertise: "example.org:4333"',
    "debug": "debug: true",
    "trace": "trace: true",
    "debug and trace": "debug: true\ntrace: true",
    "no headers": "no_header_support: true",
    "no cache": "disable_sublist_cache: true",
    "no stalls": "no_fast_producer_stall: true",
    "a guest": "authorization { users: [ { user: u, password: p } ] }\nno_auth_user: u",
    "an advertised route": 'cluster { name: C, listen: "127.0.0.1:CLUSTER", advertise: "example.org:6222" }',
    "no advertising": 'cluster { name: C, listen: "127.0.0.1:CLUSTER", no_advertise: true }',
    "a route in a cluster": 'cluster { name: C, listen: "127.0.0.1:CLUSTER", pool_size: -1, permissions { import: a, export: b } }',
    "a lame duck's times": 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"',
    "feature flags": "feature_flags { js_ack_fc_v2: true }",
    "deadlines": 'write_deadline: "1s"\nwrite_timeout: retry\nping_interval: "5s"\nping_max: 1',
    "no tokens above": "max_sub_tokens: 8\nmax_subscriptions: 10\nmax_connections: 5",
    "mappings": "mappings { a: b }",
    "a variable": "size: 1024\nmax_payload: $size",
}


@pytest.mark.parametrize("text", STARTS.values(), ids=[name.replace(" ", "_") for name in STARTS])
def test_a_start_and_an_end_are_told_alike(brokers, text):
    """The order of lines too, but for ports that are opened at the same time."""
    def ask(broker):
        broker.start()
        broker.stop()
        return outside(broker.log())

    same(brokers(STANDALONE + text + "\n"), ask)


def test_a_start_with_tls_is_told_alike(brokers, authority, server):
    def ask(broker):
        broker.start()
        broker.stop()
        return outside(broker.log())

    same(brokers(STANDALONE + f'tls {{ cert_file: "{server.certificate}", key_file: "{server.key}", ca_file: "{authority.certificate}" }}\n'), ask)


def test_the_proxy_protocol_is_told_of_at_the_start(brokers):
    """Who looks whether the port is open is no proxy, and is complained about in other words."""
    same(brokers(STANDALONE + "proxy_protocol: true\n"),
         lambda broker: [line for line in outside(broker.start().log()) if "PROXY protocol enabled" in line])


# -- lives

CHATTY = STANDALONE + """
debug: true
trace: true
max_payload: 1000
max_control_line: 512
max_subscriptions: 2
max_connections: 3
authorization {
  timeout: 0.5
  users: [ { user: u, password: p }, { user: few, password: p, permissions: { publish: "a", subscribe: "b" } }, { user: g, password: p } ]
}
no_auth_user: g
"""
PING = "PING"
LIVES = {
    "a client that goes": ({"user": "u"}, [PING]),
    "a client with a name": ({"user": "u", "name": "N", "lang": "l", "version": "1.2"}, [PING]),
    "a name to be escaped": ({"user": "u", "name": 'a"b:c\u00e4', "lang": "l", "version": "1"}, [PING]),
    "a version alone": ({"user": "u", "version": "1"}, [PING]),
    "a guest": ({}, [PING]),
    "a subscription": ({"user": "u"}, ["SUB a 1", "SUB b q 2", "UNSUB 1", "UNSUB 2 5", PING]),
    "a publish": ({"user": "u"}, ["PUB nobody 2", "hi", "PUB nobody reply 0", "", PING]),
    "a publish with headers": ({"user": "u", "headers": True}, ["HPUB nobody 22 24", "NATS/1.0", "Bar: Baz", "", "hi", PING]),
    "a delivery": ({"user": "u"}, ["SUB a 1", "PUB a 2", "hi", PING]),
    "a delivery with headers": ({"user": "u", "headers": True}, ["SUB a 1", "HPUB a reply 22 24", "NATS/1.0", "Bar: Baz", "", "hi", PING]),
    "a delivery with a reply": ({"user": "u"}, ["SUB a 1", "PUB a b.c 2", "hi", PING]),
    "no responders": ({"user": "u", "headers": True, "no_responders": True}, ["SUB in 1", "PUB nobody in 2", "hi", PING]),
    "verbose": ({"user": "u", "verbose": True}, ["SUB a 1", PING]),
    "a wrong password": ({"user": "u", "pass": "x"}, []),
    "a wrong password with a name": ({"user": "u", "pass": "x", "name": "N", "lang": "l", "version": "1"}, []),
    "an unknown user": ({"user": "x"}, []),
    "an nkey": ({"user": "", "nkey": "U", "sig": "x"}, [PING]),
    "a token": ({"user": "", "auth_token": "t"}, [PING]),
    "an account": ({"user": "u", "account": "A"}, []),
    "a publish that is not allowed": ({"user": "few"}, ["PUB x 2", "hi", PING]),
    "a publish with a reply that is not allowed": ({"user": "few"}, ["PUB x r 2", "hi", PING]),
    "a subscription that is not allowed": ({"user": "few"}, ["SUB x 1", PING]),
    "a queue that is not allowed": ({"user": "few"}, ["SUB x q 1", PING]),
    "a bad subject": ({"user": "u"}, ["SUB a..b 1", PING]),
    "a third subscription": ({"user": "u"}, ["SUB a 1", "SUB b 2", "SUB c 3", PING]),
    "an unknown operation": ({"user": "u"}, ["FOO bar"]),
    "an operation that begins well": ({"user": "u"}, ["PUBLISH a 2"]),
    "a subscription without id": ({"user": "u"}, ["SUB a"]),
    "a subscription with too much": ({"user": "u"}, ["SUB a b c d"]),
    "an unsubscription without id": ({"user": "u"}, ["UNSUB"]),
    "a publish without size": ({"user": "u"}, ["PUB a"]),
    "a publish with a bad size": ({"user": "u"}, ["PUB a x"]),
    "a publish with too much": ({"user": "u"}, ["PUB a b c 2"]),
    "headers not asked for": ({"user": "u", "headers": False}, ["HPUB nobody 12 14", "NATS/1.0", "", "hi"]),
    "headers with a bad size": ({"user": "u", "headers": True}, ["HPUB a x 2"]),
    "headers larger than all": ({"user": "u", "headers": True}, ["HPUB a 5 2"]),
    "headers with too much": ({"user": "u", "headers": True}, ["HPUB a b c 1 2"]),
    "a payload too large": ({"user": "u"}, ["PUB a 1001"]),
    "a payload that goes on": ({"user": "u"}, ["PUB a 1", "xyz"]),
    "a line too long": ({"user": "u"}, ["SUB " + "x" * 600 + " 1"]),
    "an error": ({"user": "u"}, ["-ERR 'oops'"]),
    "an error without text": ({"user": "u"}, ["-ERR"]),
    "an ok": ({"user": "u"}, ["+OK", PING]),
    "an info": ({"user": "u"}, ["INFO {}", PING]),
    "a pong": ({"user": "u"}, ["PONG", PING]),
    "another connect, refused": ({"user": "u"}, ['CONNECT {"user":"few","pass":"x"}']),
    "a broken connect": ({"user": "u"}, ["CONNECT {x"]),
    "a protocol beyond": ({"user": "u", "protocol": 9}, []),
    "no responders without headers": ({"user": "u", "headers": False, "no_responders": True}, []),
    "a route's operation": ({"user": "u"}, ["RS+ $G a"]),
    "a leaf node's operation": ({"user": "u"}, ["LS+ a"]),
    "a route's message": ({"user": "u"}, ["RMSG $G a 0"]),
    "an account's interest": ({"user": "u"}, ["A+ A"]),
}


@pytest.fixture(scope="module")
def chatty(programs, tmp_path_factory):
    made = [Broker(program, tmp_path_factory.mktemp("chatty"), CHATTY.replace("NAME", "one"), name).start()
            for name, program in zip(("reference", "weir"), programs)]
    yield made
    for broker in made:
        broker.stop()


# Of a parser, and of a JSON library (broker/docs/deviations/logs.md).
OWN_WORDS = re.compile(r"(Client parser ERROR)\b.*|(?<=- )(CONNECT is not valid: .*|invalid character .*|unexpected end of JSON input)$")


def said_of(broker, client) -> list[str]:
    """The lines about one connection up to its end."""
    mark = f" - cid:{client.info['client_id']} - "
    mine = lambda: [line for line in broker.log().splitlines() if mark in line]
    wait_until(lambda: any("Client connection closed" in line for line in mine()), "its end is in the log")
    # What a timer says is chance. The line about an end may come before the one about its reason, and of subscriptions in any order.
    told = lines("\n".join(line for line in mine() if not re.search(r"Ping Timer|\[DBG\].*PING|->> \[(INFO|PING)|<<- \[PING|->> \[PONG", line)))
    return sorted(OWN_WORDS.sub(r"\1 <words>", line) for line in told)


def leave(client, said):
    sids = [line.split(" ")[-1] for line in said if line.startswith("SUB ")]
    client.send(*(f"UNSUB {sid}" for sid in sids), PING)
    client.until(lambda operation: operation.verb == "PONG")


@pytest.mark.parametrize("connect, after", LIVES.values(), ids=[name.replace(" ", "_") for name in LIVES])
def test_a_connection_is_logged_alike(chatty, connect, after):
    # Who comes with such a CONNECT is not let in by Weir, and so has no name in its lines.
    nameless = connect.get("protocol") == 9 or connect.get("no_responders") and connect.get("headers") is False

    def live(broker):
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier ones are gone")
        login = {"pass": "p"} if connect.get("user") else {}
        with Wire(broker.port, login | connect) as client:
            client.send(*after)
            if after[-1:] == [PING]:
                client.until(lambda operation: operation.verb == "PONG")
                # Subscriptions that end with the connection are told of at any time after its end.
                leave(client, after)
            else:
                client.until_closed()
        told = said_of(broker, client)
        if connect.get("headers") is False:
            # nats-server shows a payload once it takes the message.
            told = [line for line in told if "MSG_PAYLOAD" not in line]
        return [line.replace(' - "v1:wire" - "$G/user:u"', "") for line in told] if nameless else told

    same(chatty, live)


STRANGERS = {
    "silence": b"", "garbage": b"FOO\r\n", "binary": b"\x00\x01\x02\r\n", "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "a broken connect": b"CONNECT {\r\n", "half a line": b"PIN",
    "a long line": b"SUB " + b"x" * 600 + b"\r\n",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_logged_alike(chatty, name):
    def live(broker):
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier ones are gone")
        with Wire(broker.port) as client:
            client.send_raw(STRANGERS[name])
            if name not in ("silence", "half a line"):
                client.until_closed()
            else:
                wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "it is there")
        return said_of(broker, client)

    same(chatty, live)


def test_a_connection_too_many_is_logged_alike(chatty):
    def live(broker):
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier ones are gone")
        inside = [Wire(broker.port, {"user": "u", "pass": "p"}) for _ in range(3)]
        for client in inside:
            client.sync()
        with Wire(broker.port) as client:
            client.until_closed()
        for each in inside:
            each.close()
        return said_of(broker, client)

    same(chatty, live)


def publish_and_leave(broker):
    """The traces of a message without headers and of one with."""
    broker.start()
    with Wire(broker.port, {"headers": True}) as client:
        client.send("SUB a 1", "PUB a 10", "0123456789", "HPUB a 22 24", "NATS/1.0", "Bar: Baz", "", "hi", PING)
        client.until(lambda operation: operation.verb == "PONG")
        leave(client, ["SUB a 1"])
    return said_of(broker, client)


@pytest.mark.parametrize("length", [4, 0, 100])
def test_traced_payloads_are_cut_alike(brokers, length):
    same(brokers(STANDALONE + f"debug: true\ntrace: true\nmax_traced_msg_len: {length}\n"), publish_and_leave)


def test_traced_headers_are_shown_alone_alike(brokers):
    same(brokers(STANDALONE + "debug: true\ntrace: true\ntrace_headers: true\n"), publish_and_leave)


# -- ends

def test_clients_of_a_server_that_stops_are_closed_alike(brokers):
    def end(broker):
        broker.start()
        # The wait for the server was a client too.
        wait_until(lambda: broker.log().count("Client connection closed") == 1, "that client is gone")
        with Wire(broker.port, {"name": "held"}) as client:
            client.sync()
            broker.process.send_signal(signal.SIGTERM)
            heard = [str(operation) for operation in client.until_closed() if operation.verb != "INFO"]
            broker.wait_exit()
        return heard, [line for line in lines(broker.log()) if "Client connection closed" in line][1:]

    same(brokers(STANDALONE + "debug: true\n"), end)


def test_lame_duck_mode_is_logged_alike(brokers):
    def end(broker):
        broker.start()
        with Wire(broker.port, {"name": "held", "protocol": 1}) as client:
            client.sync()
            before = len(broker.log())
            broker.signal(signal.SIGUSR2)
            client.until_closed()
            broker.wait_exit()
        return lines(broker.log()[before:])

    same(brokers(STANDALONE + 'lame_duck_duration: "30s"\nlame_duck_grace_period: "200ms"\n'), end)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_are_logged_alike(brokers, number):
    def end(broker):
        broker.start()
        before = len(broker.log())
        broker.signal(number)
        return broker.wait_exit(), lines(broker.log()[before:])

    same(brokers(STANDALONE), end)


def test_a_silent_connection_is_logged_as_stale_alike(brokers):
    def live(broker):
        broker.start()
        with Wire(broker.port, {}) as client:
            client.until_closed()
        return [line for line in said_of(broker, client) if "Stale" in line or "closed" in line]

    same(brokers(STANDALONE + 'debug: true\nping_interval: "150ms"\nping_max: 2\n'), live)


