"""Where clients are told to connect, and the cluster's name, while servers come and go: as nats-server tells it."""

import base64
import json
import os
import socket

import pytest

from broker import wait_until
from route import RoutePeer
from wire import Wire, message_of

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: subject
websocket {{ listen: "127.0.0.1:GRPC", no_tls: true {websocket} }}
cluster {{ {name} listen: "127.0.0.1:CLUSTER", compression: off {cluster} }}
"""
OTHERS = {"connect_urls": ["10.0.0.2:4222", "10.0.0.1:4222"], "ws_connect_urls": ["10.0.0.1:443"]}


@pytest.fixture
def configured(start_both):
    def start(name="name: C,", cluster="", websocket="", top=""):
        return start_both(CONFIG.format(name=name, cluster=cluster, websocket=websocket) + top)

    return start


def web_info(broker) -> dict:
    """The INFO a WebSocket client gets first."""
    with socket.create_connection(("127.0.0.1", broker.grpc), timeout=5) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        seen = b""
        while b"INFO " not in seen or not seen.endswith(b"\r\n"):
            seen += client.recv(65536)
        return json.loads(seen[seen.index(b"INFO ") + 5:])


def told(broker):
    """What clients of both kinds and /varz are told; this server's own addresses by name, and first."""
    own = {f"127.0.0.1:{broker.port}": "<client>", f"127.0.0.1:{broker.grpc}": "<web>"}

    def shown(fields):
        found = {}
        for key in ("connect_urls", "ws_connect_urls"):
            urls = [own.get(url, url) for url in fields.get(key, [])]
            found[key] = urls[:1] + sorted(urls[1:])
        return found
    with Wire(broker.port) as wire:
        client = wire.info
    return shown(client), shown(web_info(broker)), shown(broker.get_json("/varz"))


@pytest.mark.parametrize("settings", [{}, {"cluster": ", no_advertise: true"}, {"websocket": ', advertise: "web.example:8443"'},
                                      {"top": 'client_advertise: "example.org:7777"'}],
                         ids=["plain", "no_advertise", "websocket.advertise", "client_advertise"])
def test_urls_are_told_once_there_is_another_server(configured, settings):
    def conversation(broker):
        alone = told(broker)
        with RoutePeer(broker.cluster, server_id="NURL", name="url").join(**OTHERS):
            if "cluster" not in settings:
                wait_until(lambda: told(broker) != alone, "the new addresses are told")
            together = told(broker)
        if "cluster" not in settings:
            wait_until(lambda: told(broker) != together, "they are taken back")
        return alone, together, told(broker)
    expected, got = (conversation(broker) for broker in configured(**settings))
    assert got == expected


MAPPED = """
accounts {
    SYS { users: [{user: s, password: p}] }
    A { users: [{user: u, password: p}]
        mappings { foo: [{destination: here, weight: 100, cluster: C}, {destination: elsewhere, weight: 100}] } }
}
system_account: SYS
no_auth_user: u
"""


def test_an_adopted_cluster_name_is_used_by_mappings_and_traces(configured):
    def conversation(broker):
        def arrived(wire):
            wire.send("PUB foo 2\r\nhi")
            return [message_of(operation).subject for operation in wire.until_pong() if operation.verb == "MSG"]
        with Wire(broker.port, {"headers": True}) as wire:
            wire.send("SUB here 1\r\nSUB elsewhere 2\r\nSUB trace 3")
            wire.until_pong()
            before = arrived(wire)
            with RoutePeer(broker.cluster, server_id="NNAME", name="named").join(cluster="C"):
                wait_until(lambda: broker.get_json("/varz")["cluster"]["name"] == "C", "the name is adopted")
                after = arrived(wire)
                block = b"NATS/1.0\r\nNats-Trace-Dest: trace\r\n\r\n"
                wire.send_raw(b"HPUB here %d %d\r\n%b\r\n" % (len(block), len(block), block))
                traces = []

                def traced():
                    traces.extend(operation.payload for operation in wire.until_pong() if operation.arguments.startswith("trace "))
                    return traces
                wait_until(traced, "the trace came")
        return before, after, json.loads(traces[0])["server"].get("cluster")
    # A name that was made up gives way to another server's.
    expected, got = (conversation(broker) for broker in configured(name="", top=MAPPED))
    assert got == expected == (["elsewhere"], ["here"], "C")
