"""Monitoring endpoints: the keys and the types of their values are nats-server's."""

import json

import pytest

from broker import WITH_JETSTREAM, wait_until
from jetstream import JetStream
from wire import Wire

# Values that are maps from a name of this run, or whose content depends on the platform.
OPAQUE = {"http_req_stats", "metadata", "feature_flags"}


def shape(value, key=""):
    """The same structure with the names of types in place of values; of a list, all its elements' keys."""
    if key in OPAQUE:
        return "opaque"
    if isinstance(value, dict):
        return {name: shape(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(inner, dict) for inner in value):
            return [{name: kind for inner in value for name, kind in shape(inner).items()}]
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return type(value).__name__
    return "number"


@pytest.fixture(scope="module")
def pair(start_pair):
    """Both with one named client that has two subscriptions, a stream with messages and two consumers."""
    # With sync_interval: always, which is Weir's default, nats-server shows sync_always too (acks-are-synced.md).
    pair = start_pair(WITH_JETSTREAM.replace('store_dir: "STORE"', 'store_dir: "STORE", sync_interval: always'))
    pair.keeps_streams = True
    pair.clients = []
    for broker in pair.servers:
        client = Wire(broker.port, {"name": "watcher", "lang": "wire", "version": "1.2.3", "headers": True})
        client.subscribe("watched.*")
        client.subscribe("work", "group")
        client.publish("watched.a", "hello")
        client.sync()
        with JetStream(broker.port) as js:
            js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
            js.fill("s.a", 3)
            for name in ("C", "D"):
                js.raw(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": {"durable_name": name, "name": name, "ack_policy": "explicit"}})
            js.pull("S", "C", {"batch": 1})
        pair.clients.append(client)
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "only the watcher is left")
    yield pair
    for client in pair.clients:
        client.close()


PATHS = [
    "/varz", "/", "/connz", "/connz?subs=true", "/connz?subs=detail", "/connz?auth=true", "/connz?state=closed",
    "/connz?state=any", "/connz?sort=subs", "/connz?limit=1&offset=0", "/connz?offset=5", "/connz?sort=uptime", "/connz?acc=$G",
    "/routez", "/routez?subs=true", "/subsz", "/subscriptionsz", "/subsz?subs=true", "/subsz?subs=true&test=watched.b",
    "/subsz?limit=1",
    "/jsz", "/jsz?accounts=true", "/jsz?streams=true", "/jsz?consumers=true", "/jsz?streams=true&config=true",
    "/jsz?consumers=true&config=true", "/jsz?acc=$G", "/accountz", "/gatewayz", "/leafz",
    "/healthz", "/healthz?js-enabled=true", "/healthz?js-enabled-only=true", "/healthz?js-server-only=true",
    "/healthz?js-meta-only=true", "/healthz?details=true", "/healthz?account=$G", "/healthz?account=$G&stream=S",
    "/healthz?account=$G&stream=S&consumer=C",
]


@pytest.mark.parametrize("path", PATHS)
def test_keys(pair, path):
    def ask(broker):
        status, body = broker.get(path)
        if path == "/":
            return status
        answer = json.loads(body)
        return status, shape(answer)

    pair.same(ask)


@pytest.mark.deviates("account-imports.md")
def test_keys_of_an_account(pair):
    def ask(broker):
        kinds = shape(broker.get_json("/accountz?acc=$G"))
        kinds["account_detail"].pop("imports", None)
        return kinds

    pair.same(ask)


REFUSED = [
    "/connz?sort=colour", "/connz?limit=x", "/connz?offset=x", "/connz?state=half", "/connz?cid=x", "/connz?subs=maybe",
    "/connz?cid=99999", "/subsz?limit=x", "/subsz?subs=x", "/jsz?acc=nobody", "/jsz?limit=x", "/jsz?accounts=x", "/nothing",
    "/healthz?account=nobody", "/healthz?account=$G&stream=none", "/healthz?account=$G&stream=S&consumer=none",
    "/healthz?stream=S", "/healthz?consumer=C", "/healthz?js-enabled=x", "/accountz?acc=nobody",
]


@pytest.mark.parametrize("path", REFUSED)
def test_refusals(pair, path):
    def ask(broker):
        status, body = broker.get(path)
        try:
            answer = json.loads(body)
        except ValueError:
            return status, body.strip()
        return status, {key: answer[key] for key in ("status", "error", "status_code") if key in answer}

    pair.same(ask)


def test_varz_values_of_the_config(pair):
    fields = ["version", "proto", "host", "max_connections", "ping_interval", "ping_max", "auth_timeout", "max_control_line",
              "max_payload", "max_pending", "tls_timeout", "write_deadline", "connections", "routes", "subscriptions", "server_name"]
    # The JetStream services' own subscriptions are an inner matter.
    pair.same(lambda broker: {field: value for field, value in broker.get_json("/varz").items() if field in fields and field != "subscriptions"})


def test_varz_counts_messages(pair):
    def count(broker):
        before = broker.get_json("/varz")
        with Wire(broker.port, {}) as client:
            client.subscribe("counted")
            for _ in range(10):
                client.publish("counted", "12345")
            client.sync()
        after = broker.get_json("/varz")
        return {key: after[key] - before[key] for key in ("in_msgs", "out_msgs", "in_bytes", "out_bytes", "total_connections", "slow_consumers")}

    pair.same(count)


def test_connz_tells_about_the_client(pair):
    def ask(broker):
        [connection] = broker.get_json("/connz?subs=true")["connections"]
        return {key: connection.get(key) for key in (
            "kind", "type", "ip", "name", "lang", "version", "subscriptions", "in_msgs", "out_msgs", "in_bytes", "out_bytes",
            "pending_bytes", "subscriptions_list")} | {"list": sorted(connection.get("subscriptions_list", []))} | {"subscriptions_list": None}

    pair.same(ask)


def test_connz_tells_why_a_client_is_gone(pair):
    def ask(broker):
        with Wire(broker.port, {"name": "parting"}) as client:
            client.sync()
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "it is gone")
        with Wire(broker.port, {"name": "wrong"}) as client:
            client.send("NONSENSE")
            client.until_closed()
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "it is gone")
        closed = broker.get_json("/connz?state=closed&sort=stop")["connections"]
        return sorted({(each.get("name"), each["reason"]) for each in closed if each.get("name") in ("parting", "wrong")})

    pair.same(ask)


def test_jsz_counts(pair):
    def ask(broker):
        jsz = broker.get_json("/jsz?consumers=true&config=true")
        [account] = jsz["account_details"]
        [stream] = account["stream_detail"]
        return {key: jsz[key] for key in ("memory", "storage", "streams", "consumers", "messages", "bytes", "limits")}, \
            stream["state"]["messages"], sorted(consumer["name"] for consumer in stream["consumer_detail"])

    pair.same(ask)


def test_info_has_nats_servers_fields(pair):
    def ask(broker):
        with Wire(broker.port) as client:
            info = client.info
        fixed = ("version", "proto", "headers", "max_payload", "jetstream", "api_lvl", "server_name", "client_ip")
        return shape(info), {key: info.get(key) for key in fixed}

    # Which Go built it is none of ours to claim.
    pair.same(lambda broker: without(ask(broker), {"go", "git_commit", "xkey"}))


def without(answer, keys):
    kinds, values = answer
    return {key: kind for key, kind in kinds.items() if key not in keys}, values


def test_info_follows_the_first_ping(pair):
    def ask(broker):
        with Wire(broker.port, {"protocol": 1}) as client:
            operations = client.until_pong()
            return [(operation.verb, sorted(set(json.loads(operation.arguments)) - {"go", "git_commit", "xkey"}) if operation.verb == "INFO" else "")
                    for operation in operations]

    pair.same(ask)
