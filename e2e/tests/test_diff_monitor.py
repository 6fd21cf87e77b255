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
    "/connz?subs=1", "/connz?subs=0", "/connz?subs=DETAIL", "/connz?auth=1", "/connz?auth=1&subs=detail", "/connz?state=ALL",
    "/connz?state=open", "/connz?sort=cid", "/connz?sort=start", "/connz?sort=pending", "/connz?sort=msgs_to",
    "/connz?sort=msgs_from", "/connz?sort=bytes_to", "/connz?sort=bytes_from", "/connz?sort=last", "/connz?sort=idle",
    "/connz?sort=rtt", "/connz?state=closed&sort=stop", "/connz?state=closed&sort=reason", "/connz?limit=0", "/connz?limit=-5",
    "/connz?offset=-5", "/connz?acc=nobody", "/connz?user=nobody", "/connz?mqtt_client=x", "/connz?filter_subject=x",
    "/connz?unknown=1", "/connz?state=closed&acc=$G&auth=1",
    "/routez?subs=detail", "/subsz?subs=true&acc=nobody", "/subsz?acc=nobody", "/subsz?subs=true&test=nothing.here", "/subsz?offset=1",
    "/subsz?subs=1&limit=1&offset=100000", "/accstatz", "/accstatz?unused=true", "/accstatz?unused=0",
    "/gatewayz?accs=true", "/gatewayz?gw_name=x", "/gatewayz?acc_name=x&subs=detail", "/leafz?subs=true", "/leafz?acc=x",
    "/jsz?accounts=1&limit=1", "/jsz?accounts=1&offset=10", "/jsz?acc=$G&streams=1", "/jsz?acc=$G&consumers=1&config=1",
    "/jsz?direct-consumers=true", "/jsz?leader-only=true", "/jsz?stream-leader-only=1&streams=1", "/jsz?raft=1", "/jsz?config=1",
    "/jsz?streams=1&raft=1", "/jsz?limit=-1&accounts=1",
    "/healthz?js-enabled-only=0", "/healthz?account=$G&details=1", "/healthz?account=$G&stream=S&details=1",
    "/healthz?js-meta-only=1&js-server-only=1",
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


@pytest.mark.parametrize("account", ["$G", "$SYS"])
def test_keys_of_an_account(pair, account):
    pair.same(lambda broker: shape(broker.get_json(f"/accountz?acc={account}")))


REFUSED = [
    "/connz?sort=colour", "/connz?limit=x", "/connz?offset=x", "/connz?state=half", "/connz?cid=x", "/connz?subs=maybe",
    "/connz?cid=99999", "/subsz?limit=x", "/subsz?subs=x", "/jsz?acc=nobody", "/jsz?limit=x", "/jsz?accounts=x", "/nothing",
    "/healthz?account=nobody", "/healthz?account=$G&stream=none", "/healthz?account=$G&stream=S&consumer=none",
    "/healthz?stream=S", "/healthz?consumer=C", "/healthz?js-enabled=x", "/accountz?acc=nobody",
    "/connz?sort=stop", "/connz?sort=reason", "/connz?sort=stop&state=any", "/connz?auth=2", "/connz?cid=-1", "/connz?limit=1.5",
    "/connz?offset=99999999999999999999", "/connz?cid=99999999999999999999", "/connz?limit=%20", "/connz?state=%3c",
    "/routez?subs=x", "/subsz?offset=x", "/subsz?subs=true&test=a..b", "/subsz?test=a.*", "/subsz?test=a.%3E", "/accstatz?unused=x",
    "/gatewayz?subs=x", "/gatewayz?accs=x", "/leafz?subs=x", "/jsz?streams=x", "/jsz?consumers=x", "/jsz?direct-consumers=x",
    "/jsz?config=x", "/jsz?offset=x", "/jsz?leader-only=x", "/jsz?raft=x", "/jsz?stream-leader-only=x", "/ipqueuesz?all=x",
    "/raftz", "/raftz?acc=x", "/healthz?details=x", "/healthz?js-meta-only=x", "/healthz?js-server-only=x",
    "/healthz?js-enabled-only=x", "/healthz?stream=S&details=1", "/healthz?consumer=C&details=1",
    "/healthz?account=nobody&details=1", "/healthz?account=$G&stream=none&details=1",
    "/healthz?account=$G&stream=S&consumer=none&details=1", "/varz/", "/connz/", "/VARZ", "/debug",
]


@pytest.mark.parametrize("path", REFUSED)
def test_refusals(pair, path):
    def ask(broker):
        status, body = broker.get(path)
        try:
            answer = json.loads(body)
        except ValueError:
            return status, body.strip()
        return status, {key: answer[key] for key in ("status", "error", "errors", "status_code") if key in answer}

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


ENDS = {
    "goes": lambda client: client.close(),
    "unknown operation": lambda client: client.send("NONSENSE"),
    "no arguments": lambda client: client.send("PUB"),
    "too long a line": lambda client: client.send("PUB " + "x" * 5000),
    "too large a message": lambda client: client.send("PUB a 9999999"),
    "headers unasked": lambda client: client.send("HPUB a 2 2\r\nxx"),
    "a client's error": lambda client: client.send("-ERR 'x'"),
    "a server's verb": lambda client: client.send("RS+ $G a"),
    "bad protocol": lambda client: client.send('CONNECT {"protocol":9}'),
    "no responders alone": lambda client: client.send('CONNECT {"no_responders":true}'),
    "bad json": lambda client: client.send("CONNECT {x"),
    "an account": lambda client: client.send('CONNECT {"account":"x"}'),
}


@pytest.mark.parametrize("end", ENDS)
def test_why_a_connection_ended(pair, end):
    def ask(broker):
        with Wire(broker.port) as client:
            client.send('CONNECT {"verbose":false,"lang":"wire","version":"1","name":"ending"}')
            client.subscribe("kept.until.the.end")
            client.sync()
            [cid] = [each["cid"] for each in broker.get_json("/connz")["connections"] if each.get("name") == "ending"]
            ENDS[end](client)
            if end != "goes":
                client.until_closed()
        wait_until(lambda: broker.get_json(f"/connz?state=closed&cid={cid}")["num_connections"] == 1, "it is among the closed")
        [gone] = broker.get_json(f"/connz?state=closed&subs=detail&auth=1&cid={cid}")["connections"]
        subjects = [each["subject"] for each in gone.get("subscriptions_list_detail", [])]
        return gone["reason"], gone["subscriptions"], subjects, shape(gone)

    pair.same(ask)


def test_a_connection_before_connect(pair):
    def ask(broker):
        with Wire(broker.port) as client:
            client.send("SUB early 1")
            client.until_pong()
            [shown] = [each for each in broker.get_json("/connz?auth=1")["connections"] if each["port"] == client.socket.getsockname()[1]]
            return shape(shown), shown["subscriptions"]

    pair.same(ask)


def test_index_links_to_every_endpoint(pair):
    import re

    def ask(broker):
        status, body = broker.get("/")
        links = re.findall(r"href=[\"']?(\.?/[^\"' >]+)", body)
        return status, {link.lstrip("./").rstrip("'") for link in links}

    status, expected = ask(pair.reference)
    assert status == 200
    status, actual = ask(pair.weir)
    assert status == 200 and expected <= actual, expected - actual
    for link in actual:
        # A single server has no Raft groups.
        assert pair.weir.get(f"/{link}")[0] == (404 if link == "raftz" else 200), link


def test_variables_and_queues_are_json(pair):
    def ask(broker):
        return [sorted(broker.get_json("/debug/vars")), type(broker.get_json("/ipqueuesz")), type(broker.get_json("/ipqueuesz?all=1")),
                broker.get("/stacksz")[0]]

    pair.same(ask)


def test_requests_are_counted_by_path(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
""")

    def ask(broker):
        for path in ("/", "/connz", "/connz?sort=zz", "/connz?limit=x", "/subsz", "/subscriptionsz", "/subsz?limit=x", "/jsz",
                     "/jsz?limit=x", "/healthz", "/healthz?details=x", "/accountz", "/accstatz", "/leafz", "/gatewayz",
                     "/routez", "/routez?subs=x", "/ipqueuesz", "/raftz", "/stacksz", "/nothing", "/varz"):
            broker.get(path)
        return broker.get_json("/varz")["http_req_stats"]

    pair.same(ask)


def test_a_base_path(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
http_base_path: "/nats/mon"
server_name: NAME
""")

    def ask(broker):
        return [broker.get(path)[0] for path in ("/", "/varz", "/nats/mon", "/nats/mon/", "/nats/mon/varz", "/nats/mon/connz",
                                                  "/nats/mon/healthz", "/nats/mon/nothing", "/nats", "/nats/mon/debug/vars")], \
            broker.get_json("/nats/mon/varz")["http_base_path"]

    pair.same(ask)


def test_varz_shows_what_is_configured(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
server_tags: ["a", "b:c"]
server_metadata { k: v }
feature_flags { js_ack_fc_v2: true }
max_connections: 7
max_subscriptions: 8
max_payload: 4096
max_pending: 1MB
max_control_line: 2048
ping_interval: "33s"
ping_max: 5
write_deadline: "3s"
write_timeout: close
authorization { users: [{user: u, password: p}], timeout: 1.5 }
no_auth_user: u
cluster { name: c, listen: "127.0.0.1:CLUSTER", pool_size: 5, write_deadline: "4s", write_timeout: retry, authorization { user: r, password: p, timeout: 3 } }
""")
    fields = ["max_connections", "max_subscriptions", "max_payload", "max_pending", "max_control_line", "ping_interval", "ping_max",
              "write_deadline", "write_timeout", "auth_timeout", "auth_required", "tags", "metadata", "feature_flags", "tls_timeout",
              "tls_required", "websocket", "gateway", "leaf", "mqtt", "jetstream", "system_account", "slow_consumer_stats",
              "stale_connection_stats", "disk_io_wait_stats", "https_port", "http_base_path"]

    def ask(broker):
        varz = broker.get_json("/varz")
        cluster = {key: value for key, value in varz["cluster"].items() if key != "cluster_port"}
        # Whether a server that is alone in its cluster tells its own address is the routes' matter.
        return {field: varz.get(field) for field in fields}, cluster, sorted(set(varz) - {"connect_urls"})

    pair.same(ask)


def test_a_slow_reader_is_counted_and_told(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
max_payload: 150000
max_pending: 200000
""")

    def ask(broker):
        with Wire(broker.port, {"name": "slow"}) as slow, Wire(broker.port, {"name": "fast"}) as fast:
            slow.subscribe("flood")
            slow.sync()
            payload = "x" * 100_000

            def is_cut():
                for _ in range(20):
                    fast.publish("flood", payload)
                fast.sync()
                return broker.get_json("/varz")["slow_consumers"] > 0

            wait_until(is_cut, "it is cut")
        gone = lambda: [each for each in broker.get_json("/connz?state=closed")["connections"] if each.get("name") == "slow"]
        closed = wait_until(gone, "it is among the closed")
        varz = broker.get_json("/varz")
        line = [each.split(" - ")[-1] for each in broker.log().splitlines() if "Slow Consumer" in each]
        return [each["reason"] for each in closed], varz["slow_consumers"], \
            varz["slow_consumer_stats"], line

    pair.same(ask)


def test_closed_connections_are_bounded(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
max_closed_clients: 3
""")

    def ask(broker):
        for index in range(5):
            with Wire(broker.port, {"name": f"c{index}"}) as client:
                client.sync()
            wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "it is gone")
        return [each.get("name") for each in broker.get_json("/connz?state=closed&sort=stop")["connections"]][::-1]

    pair.same(ask)


def test_monitoring_over_tls(start_pair, tmp_path_factory):
    import ssl
    import subprocess
    import urllib.request

    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
                   check=True, capture_output=True)
    pair = start_pair(f"""
listen: "127.0.0.1:PORT"
https: "127.0.0.1:HTTP"
server_name: NAME
tls {{ cert_file: "{directory}/cert.pem", key_file: "{directory}/key.pem", ca_file: "{directory}/cert.pem", verify: true, timeout: 3 }}
""")
    context = ssl.create_default_context(cafile=directory / "cert.pem")

    def get(broker, path):
        with urllib.request.urlopen(f"https://127.0.0.1:{broker.http}{path}", timeout=5, context=context) as answer:
            return json.loads(answer.read())

    def ask(broker):
        varz = get(broker, "/varz")
        started = [each.split("] ")[-1].split(" on ")[0] for each in broker.log().splitlines() if "monitor on" in each]
        return {key: varz.get(key) for key in ("http_port", "tls_required", "tls_verify", "tls_timeout", "auth_required")}, \
            varz["https_port"] == broker.http, get(broker, "/healthz"), started

    pair.same(ask)
