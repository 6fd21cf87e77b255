"""The system account: events about connections, and the request services, answer as nats-server's do.

Compared are whole answers after times, ids, addresses and counts of the runtime are masked; where nats-server's
content is that of a Go runtime, the kinds of the values.
"""

import gzip
import json
import re
import time

import pytest

import nsc
from broker import STANDALONE, wait_until
from test_diff_monitor import shape
from wire import Wire

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
server_tags: ["zone:a", "b"]
server_metadata { k: v }
accounts {
  $SYS { users: [{user: sys, password: pw}] }
  A {
    users: [
      {user: a, password: pw}
      {user: limited, password: pw, permissions: {publish: {allow: ["x.>", "$SYS.>"], deny: "x.no"}, subscribe: {allow: ["y.>", "z q"], deny: "y.no"}}}
    ]
    jetstream: enabled
    exports: [{service: "svc.*", accounts: [B], latency: {sampling: 50, subject: lat}}, {stream: "st.>"}]
    mappings: {"m.*": [{destination: "n.$1", weight: 50%}], "f": "g"}
  }
  B {
    users: [{user: b, password: pw}]
    imports: [{service: {account: A, subject: "svc.x"}, to: local}, {stream: {account: A, subject: "st.>"}, prefix: p}]
  }
  EMPTY {}
}
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 256MB, sync_interval: always }
"""
SYSTEM = {"user": "sys", "pass": "pw", "headers": True, "protocol": 1, "name": "watch"}
SERVER_SERVICES = ("IDZ STATSZ VARZ SUBSZ CONNZ ROUTEZ GATEWAYZ LEAFZ ACCOUNTZ JSZ HEALTHZ PROFILEZ EXPVARZ "
                   "IPQUEUESZ RAFTZ").split()
SILENCE_SECONDS = 0.4

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
SERVER_ID = re.compile(r"\bN[A-Z2-7]{55}\b")
# Counted by what the runtime and the services inside do, or by how long something took.
VOLATILE = {"mem", "cpu", "cid", "port", "http_port", "rtt", "uptime", "idle", "seq", "git_commit", "go", "id",
            "subscriptions", "num_subscriptions", "num_inserts", "num_removes", "num_matches", "num_cache",
            "cache_hit_rate", "max_fanout", "avg_fanout", "store_dir", "config_digest", "flags", "memstats", "cmdline",
            "bytes", "msgs", "in_msgs", "out_msgs", "in_bytes", "out_bytes", "in_client_msgs", "out_client_msgs",
            "in_client_bytes", "out_client_bytes", "total_connections", "pending_bytes", "cores", "gomaxprocs",
            "cluster_port", "http_req_stats", "total"}
# Lists in the order of a Go map.
UNORDERED = {"accounts", "imports", "exports", "connections", "account_statz"}


def masked(value, key=""):
    if key in VOLATILE:
        return f"<{key}>"
    if isinstance(value, dict):
        return {name: masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        inner = [masked(item) for item in value]
        return sorted(inner, key=lambda item: json.dumps(item, sort_keys=True)) if key in UNORDERED else inner
    if isinstance(value, str):
        return SERVER_ID.sub("<server>", TIME.sub("<time>", value))
    return value


def masked_body(payload: bytes):
    try:
        return masked(json.loads(payload))
    except ValueError:
        return payload.decode(errors="replace")


@pytest.fixture(scope="module")
def pair(start_pair):
    pair = start_pair(CONFIG)
    pair.keeps_streams = True
    return pair


def server_id(broker) -> str:
    return broker.get_json("/varz")["server_id"]


def ask(client: Wire, subject: str, body="", headers=(), within=SILENCE_SECONDS):
    """The answer's body, masked; None when nobody answers in time."""
    inbox = client.inbox()
    sid = client.subscribe(inbox)
    client.publish(subject, body, inbox, headers)
    try:
        while (message := client.read_message(within)).sid != sid:
            pass
        return message
    except AssertionError:
        return None
    finally:
        client.unsubscribe(sid)


def answer(client: Wire, subject: str, body="", headers=()):
    message = ask(client, subject, body, headers, within=5)
    assert message is not None, f"nobody answers {subject}"
    return message.status, masked_body(message.payload)


def key_order(text: bytes) -> list:
    """The keys of all objects in the order of the text."""
    return re.findall(r'"([A-Za-z_0-9]+)":', text.decode(errors="replace"))


class Watched:
    """A client of the system account that sees events, asked for under one pattern."""

    def __init__(self, broker, pattern: str):
        self.client = Wire(broker.port, SYSTEM)
        self.client.subscribe(pattern)
        self.client.sync()
        # What this client itself brought about may come late.
        time.sleep(0.2)
        self.client.sync()

    def events(self, count: int) -> list:
        return [self.client.read_message() for _ in range(count)]

    def quiet(self) -> bool:
        try:
            self.client.read_message(SILENCE_SECONDS)
            return False
        except AssertionError:
            return True

    def close(self):
        self.client.close()


def event(message):
    return SERVER_ID.sub("<server>", message.subject), masked_body(message.payload), key_order(message.payload)


LOGINS = [
    {"user": "a", "pass": "pw"},
    {"user": "a", "pass": "pw", "name": "named", "lang": "py", "version": "1.2.3"},
    {"user": "b", "pass": "pw", "name": "other"},
    {"user": "limited", "pass": "pw", "protocol": 1, "headers": True},
]


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: "-".join(map(str, login.values())))
def test_a_connection_is_told_when_it_begins_and_ends(pair, login):
    account = "B" if login["user"] == "b" else "A"

    def watch(broker):
        watched = Watched(broker, f"$SYS.ACCOUNT.{account}.>")
        with Wire(broker.port, login) as client:
            client.sync()
            seen = watched.events(2)
            client.publish("x.y", "12345")
            client.sync()
        seen += watched.events(2)
        watched.close()
        return [event(message) for message in seen]

    pair.same(watch)


@pytest.mark.parametrize("account", ["A", "B"])
def test_connections_are_counted_under_the_old_subject_too(pair, account):
    def watch(broker):
        watched = Watched(broker, f"$SYS.SERVER.ACCOUNT.{account}.CONNS")
        with Wire(broker.port, {"user": account.lower(), "pass": "pw"}) as client:
            client.sync()
            seen = watched.events(1)
        seen += watched.events(1)
        watched.close()
        return [event(message) for message in seen]

    pair.same(watch)


def test_both_subjects_carry_the_same_count(pair):
    def watch(broker):
        watched = Watched(broker, "$SYS.>")
        with Wire(broker.port, {"user": "b", "pass": "pw"}) as client:
            client.sync()
            wanted = {"$SYS.SERVER.ACCOUNT.B.CONNS", "$SYS.ACCOUNT.B.SERVER.CONNS"}
            seen = []
            while len(seen) < 2:
                message = watched.client.read_message()
                if message.subject in wanted:
                    seen.append(message)
        watched.close()
        return [message.subject for message in seen], seen[0].json()["id"] == seen[1].json()["id"]

    pair.same(watch)


@pytest.mark.parametrize("login", [
    {"user": "a", "pass": "wrong"}, {"user": "nobody", "pass": "pw"}, {}, {"auth_token": "t"},
    {"user": "a"}, {"user": "a", "pass": "wrong", "name": "named", "lang": "l", "version": "9"},
], ids=str)
def test_a_refused_client_is_told(pair, login):
    def watch(broker):
        watched = Watched(broker, f"$SYS.SERVER.{server_id(broker)}.CLIENT.AUTH.ERR")
        with Wire(broker.port, login) as client:
            client.until_closed()
        seen = watched.events(1)
        watched.close()
        return [event(message) for message in seen]

    pair.same(watch)


def test_a_refused_client_was_in_the_global_account(pair):
    def watch(broker):
        watched = Watched(broker, "$SYS.ACCOUNT.$G.*")
        with Wire(broker.port, {"user": "a", "pass": "wrong"}) as client:
            client.until_closed()
        seen = watched.events(1)
        watched.close()
        return [event(message) for message in seen]

    pair.same(watch)


@pytest.mark.parametrize("provoke, reason", [
    ("PUB a..b\r\nNONSENSE", "Parse Error"), ("PUB", "Parse Error"), ("HPUB a 1 1\r\nx", ""), ("-ERR x", ""),
])
def test_the_reason_of_the_end_is_told(pair, provoke, reason):
    def watch(broker):
        watched = Watched(broker, "$SYS.ACCOUNT.B.DISCONNECT")
        with Wire(broker.port, {"user": "b", "pass": "pw"}) as client:
            client.sync()
            client.send(provoke)
            client.until_closed()
        [seen] = watched.events(1)
        watched.close()
        return seen.json()["reason"]

    pair.same(watch)


def test_statistics_are_broadcast(pair):
    def watch(broker):
        watched = Watched(broker, f"$SYS.SERVER.{server_id(broker)}.STATSZ")
        watched.client.publish(f"$SYS.REQ.SERVER.{server_id(broker)}.STATSZ")
        [seen] = watched.events(1)
        watched.close()
        return shape(masked(seen.json()))

    pair.same(watch)


def test_events_have_no_listener_no_event(pair):
    def watch(broker):
        watched = Watched(broker, "$SYS.ACCOUNT.B.>")
        with Wire(broker.port, {"user": "a", "pass": "pw"}) as client:
            client.sync()
        quiet = watched.quiet()
        watched.close()
        return quiet

    pair.same(watch)


# ---- requests

OPAQUE_DATA = {"EXPVARZ": "kinds", "IPQUEUESZ": "kinds", "VARZ": "kinds"}


def served(broker, service: str, target: str, body=""):
    with Wire(broker.port, SYSTEM) as client:
        target = server_id(broker) if target == "ID" else target
        status, body = answer(client, f"$SYS.REQ.SERVER.{target}.{service}", body)
    if service in ("EXPVARZ", "IPQUEUESZ") and isinstance(body, dict) and "data" in body:
        body["data"] = "<data>"
    if service in ("VARZ", "STATSZ", "SUBSZ"):
        body = shape(body)
    return status, body


@pytest.mark.parametrize("service", SERVER_SERVICES)
@pytest.mark.parametrize("target", ["ID", "PING"])
def test_a_server_answers(pair, service, target):
    pair.same(lambda broker: served(broker, service, target))


def test_a_ping_without_a_service_is_answered_with_statistics(pair):
    def ping(broker):
        with Wire(broker.port, SYSTEM) as client:
            return shape(answer(client, "$SYS.REQ.SERVER.PING")[1])

    pair.same(ping)


BAD = ["xx", "[]", "5", '"x"', '{"a":', '{"server_name":3}', '{"tags":"x"}', '{"tags":[1]}', '{"exact_match":"x"}',
       '{"domain":[]}', "{} x", "null", "true"]


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("service", ["CONNZ", "HEALTHZ", "STATSZ", "RAFTZ", "IDZ"])
def test_a_bad_body_is_complained_about(pair, service, body):
    pair.same(lambda broker: served(broker, service, "PING", body))


TYPES = [
    ("CONNZ", '{"sort":5}'), ("CONNZ", '{"limit":"x"}'), ("CONNZ", '{"limit":1.5}'), ("CONNZ", '{"cid":-1}'),
    ("CONNZ", '{"auth":"x"}'), ("CONNZ", '{"state":"open"}'), ("CONNZ", '{"subscriptions":1}'), ("CONNZ", '{"CID":"x"}'),
    ("CONNZ", '{"limit":"x","offset":"y"}'), ("CONNZ", '{"cid":null}'), ("SUBSZ", '{"offset":{}}'),
    ("SUBSZ", '{"account":1}'), ("SUBSZ", '{"test":true}'), ("ROUTEZ", '{"subscriptions_detail":1}'),
    ("GATEWAYZ", '{"accounts":1}'), ("GATEWAYZ", '{"name":1}'), ("LEAFZ", '{"account":false}'), ("ACCOUNTZ", '{"account":1}'),
    ("JSZ", '{"streams":"yes"}'), ("JSZ", '{"limit":[]}'), ("HEALTHZ", '{"js-enabled-only":1}'), ("HEALTHZ", '{"stream":1}'),
    ("PROFILEZ", '{"name":1}'), ("PROFILEZ", '{"duration":"1s"}'), ("PROFILEZ", '{"debug":"x"}'), ("IPQUEUESZ", '{"all":1}'),
    ("IPQUEUESZ", '{"filter":1}'), ("RAFTZ", '{"group":1}'), ("VARZ", '{"limit":"x"}'), ("EXPVARZ", '{"host":1}'),
]


@pytest.mark.parametrize("service, body", TYPES)
def test_a_wrong_type_is_complained_about(pair, service, body):
    pair.same(lambda broker: served(broker, service, "PING", body))


FILTERS = [
    ({"server_name": "subject"}, True), ({"server_name": "sub"}, True), ({"server_name": "sub", "exact_match": True}, False),
    ({"server_name": "subject", "exact_match": True}, True), ({"server_name": "other"}, False), ({"cluster": "c"}, False),
    ({"host": "127.0"}, True), ({"host": "127.0", "exact_match": True}, False), ({"host": "10."}, False),
    ({"tags": ["b"]}, True), ({"tags": ["zone:a", "b"]}, True), ({"tags": ["zone:b"]}, False), ({"tags": []}, True),
    ({"tags": ["B"]}, True), ({"domain": "x"}, False), ({"cluster": ""}, True), ({"server_name": "subject", "tags": ["no"]}, False),
]


@pytest.mark.parametrize("fields, answered", FILTERS, ids=str)
@pytest.mark.parametrize("service", ["HEALTHZ", "STATSZ"])
def test_a_filter_decides_who_answers(pair, service, fields, answered):
    def filtered(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.SERVER.PING.{service}", json.dumps(fields))
            return message is not None

    pair.same(filtered)
    assert filtered(pair.weir) == answered


CONNZ_OPTIONS = [
    {"sort": "colour"}, {"sort": "stop"}, {"sort": "reason"}, {"sort": "uptime"}, {"sort": "rtt"}, {"filter_subject": "x"},
    {"filter_subject": "watched.a", "acc": "B"}, {"filter_subject": "*.a", "acc": "B"}, {"filter_subject": "zz", "acc": "B"},
    {"filter_subject": ">", "acc": "B"}, {"filter_subject": ">"}, {"state": 0}, {"state": 7}, {"auth": True, "user": "b"},
    {"auth": True, "acc": "B"}, {"acc": "B"}, {"acc": "nobody"}, {"acc": "EMPTY"}, {"subscriptions": True, "acc": "B"},
    {"subscriptions_detail": True, "acc": "B"}, {"limit": 1}, {"offset": 1}, {"offset": 100}, {"limit": -1}, {"offset": -1},
    {"cid": 999999}, {"mqtt_client": "x"}, {"user": "nobody"}, {"ACC": "B"},
]


@pytest.fixture(scope="module")
def crowd(pair):
    """One client of B that subscribes and publishes."""
    pair.clients = []
    for broker in pair.servers:
        client = Wire(broker.port, {"user": "b", "pass": "pw", "name": "crowd", "lang": "x", "version": "0"})
        client.subscribe("watched.*")
        client.subscribe("work", "group")
        client.publish("watched.a", "hello")
        client.sync()
        pair.clients.append(client)
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 1, "only that client is left")
    yield pair
    for client in pair.clients:
        client.close()


@pytest.mark.parametrize("options", CONNZ_OPTIONS, ids=str)
def test_connections_as_asked_for(crowd, options):
    def connz(broker):
        status, body = served(broker, "CONNZ", "PING", json.dumps(options))
        for connection in (body.get("data") or {}).get("connections") or []:
            if "subscriptions_list" in connection:
                connection["subscriptions_list"].sort()
            connection.get("subscriptions_list_detail", []).sort(key=lambda each: each["subject"])
        return status, body

    crowd.same(connz)


@pytest.mark.parametrize("service", "SUBSZ CONNZ LEAFZ JSZ INFO STATZ CONNS".split())
@pytest.mark.parametrize("account", ["A", "B", "EMPTY", "$G", "$SYS", "nobody", "PING"])
def test_an_account_is_told_about(crowd, account, service):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.ACCOUNT.{account}.{service}")
        if message is None:
            return None
        body = masked_body(message.payload)
        if service == "SUBSZ":
            # The services inside subscribe as they need.
            body["data"].pop("subscriptions_list", None)
        if service == "INFO" and "data" in body and body["data"]:
            for list_name in ("imports", "exports"):
                body["data"].get(list_name, []).sort(key=lambda each: json.dumps(each, sort_keys=True))
        return body

    crowd.same(told)


@pytest.mark.parametrize("body", ["x", "[]", '{"offset":"x"}', '{"server_name":"other"}', '{"server_name":"sub"}'])
@pytest.mark.parametrize("service", ["SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ"])
def test_a_request_about_an_account_is_checked(crowd, service, body):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.ACCOUNT.A.{service}", body)
        if message is None:
            return None
        answered = masked_body(message.payload)
        return answered if "error" in answered else sorted(answered)

    crowd.same(told)


USERS = {"a": {"user": "a", "pass": "pw"}, "b": {"user": "b", "pass": "pw"}, "sys": {"user": "sys", "pass": "pw"}}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("subject", [
    "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ", "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.PING", "$SYS.DEBUG.SUBSCRIBERS",
])
def test_what_users_of_an_account_may_ask(crowd, user, subject):
    def told(broker):
        with Wire(broker.port, USERS[user] | {"headers": True}) as client:
            message = ask(client, subject)
        if message is None:
            return None
        body = masked_body(message.payload)
        return shape(body) if "STATSZ" in subject or subject.endswith("SERVER.PING") else body

    crowd.same(told)


@pytest.mark.parametrize("body", ["x", '{"sort":"stop"}', '{"state":1}', '{"auth":true}', '{"acc":"A"}'])
def test_an_account_asks_about_its_own_connections(crowd, body):
    def told(broker):
        with Wire(broker.port, USERS["b"] | {"headers": True}) as client:
            message = ask(client, "$SYS.REQ.ACCOUNT.PING.CONNZ", body)
        body_ = masked_body(message.payload)
        return body_ if "state" not in body else sorted(body_)

    crowd.same(told)


def test_a_user_is_told_its_permissions(pair):
    def told(broker):
        with Wire(broker.port, {"user": "limited", "pass": "pw"}) as client:
            client.subscribe("y.answer")
            client.publish("$SYS.REQ.USER.INFO", "", "y.answer")
            answer = masked_body(client.read_message().payload)
        # nats-server lists them in the order of its tables, which is another each time.
        for rules in answer["data"]["permissions"].values():
            rules["allow"].sort()
        return answer

    pair.same(told)


@pytest.mark.parametrize("encoding, decoded", [("gzip", gzip.decompress), ("GZIP, x", gzip.decompress), ("br", bytes), ("", bytes)])
def test_answers_are_compressed_on_request(pair, encoding, decoded):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, "$SYS.REQ.SERVER.PING.HEALTHZ", "", [("Accept-Encoding", encoding)])
        return message.headers, masked_body(decoded(message.payload))

    pair.same(told)


@pytest.mark.parametrize("encoding", ["snappy", "s2", "S2, gzip"])
def test_snappy_answers_are_framed(pair, encoding):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, "$SYS.REQ.SERVER.PING.HEALTHZ", "", [("Accept-Encoding", encoding)])
        return message.headers, message.payload[:10]

    pair.same(told)


def test_errors_are_never_compressed(pair):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, "$SYS.REQ.SERVER.PING.CONNZ", '{"sort":"x"}', [("Accept-Encoding", "gzip")])
        return message.headers, masked_body(message.payload)

    pair.same(told)


@pytest.mark.parametrize("command", ["KICK", "LDM"])
@pytest.mark.parametrize("body", ["", "x", "[]", '{"cid":"x"}', '{"cid":999999}', "{}", '{"cid":999999,"server_name":"other"}',
                                  '{"cid":1,"server_name":5}'])
def test_commands_about_a_connection_are_checked(pair, command, body):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.SERVER.{server_id(broker)}.{command}", body)
        return None if message is None else masked_body(message.payload)

    pair.same(told)


def test_a_client_is_kicked(pair):
    def kick(broker):
        with Wire(broker.port, SYSTEM) as client, Wire(broker.port, {"user": "b", "pass": "pw", "name": "victim"}) as victim:
            victim.sync()
            [cid] = [each["cid"] for each in broker.get_json("/connz")["connections"] if each.get("name") == "victim"]
            told = masked_body(ask(client, f"$SYS.REQ.SERVER.{server_id(broker)}.KICK", json.dumps({"cid": cid})).payload)
            rest = [str(operation) for operation in victim.until_closed() if operation.verb not in ("INFO", "PING")]
            wait_until(lambda: any(each["cid"] == cid for each in broker.get_json("/connz?state=closed")["connections"]), "it is gone")
            [gone] = [each for each in broker.get_json("/connz?state=closed")["connections"] if each["cid"] == cid]
            return told, rest, gone["reason"]

    pair.same(kick)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_client_is_told_to_go_elsewhere(pair, protocol):
    def announce(broker):
        login = {"user": "b", "pass": "pw", "name": "asked", "protocol": protocol}
        with Wire(broker.port, SYSTEM) as client, Wire(broker.port, login) as asked:
            asked.sync()
            [cid] = [each["cid"] for each in broker.get_json("/connz")["connections"] if each.get("name") == "asked"]
            told = masked_body(ask(client, f"$SYS.REQ.SERVER.{server_id(broker)}.LDM", json.dumps({"cid": cid})).payload)
            info = [json.loads(operation.arguments) for operation in asked.until_pong() if operation.verb == "INFO"]
            return told, [each.get("ldm") for each in info]

    pair.same(announce)


@pytest.mark.parametrize("body", ["", "{}", "x", '{"server_name":"other"}', '{"server_name":"subject"}'])
def test_a_reload_is_asked_for(pair, body):
    def reload(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.SERVER.{server_id(broker)}.RELOAD", body, within=2)
        return None if message is None else masked_body(message.payload)

    pair.same(reload)


def test_a_failed_reload_is_told(start_pair):
    pair = start_pair(CONFIG)

    def reload(broker):
        broker.config_path.write_text(broker.config_path.read_text() + "\nlisten: [\n")
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, f"$SYS.REQ.SERVER.{server_id(broker)}.RELOAD", "", within=2)
        told = masked_body(message.payload)
        return told["error"]["code"], sorted(told)

    pair.same(reload)


@pytest.mark.parametrize("body", ["watched", "watched group", "watched other", "", "*", ">", "w.>", "none"])
def test_subscribers_are_counted(pair, body):
    def count(broker):
        with Wire(broker.port, SYSTEM) as client, Wire(broker.port, SYSTEM) as other:
            for _ in range(2):
                other.subscribe("watched")
            other.subscribe("watched", "group")
            other.subscribe("w.x")
            other.sync()
            message = ask(client, "$SYS.DEBUG.SUBSCRIBERS", body)
            counted = int(message.payload)
            # The requester's own inboxes count under wide patterns.
            return counted if body not in ("*", ">") else counted > 3

    pair.same(count)


@pytest.mark.parametrize("body", ['{"acc":"$SYS","subject":"watched"}', '{"acc":"$SYS","subject":"watched","queue":"Z3JvdXA="}',
                                  '{"acc":"nobody","subject":"watched"}', '{"acc":"EMPTY","subject":"watched"}', "x", ""])
def test_a_server_counts_subscribers_for_another(pair, body):
    def count(broker):
        with Wire(broker.port, SYSTEM) as client:
            client.subscribe("watched")
            client.subscribe("watched", "group")
            message = ask(client, "$SYS.REQ.ACCOUNT.NSUBS", body)
        return None if message is None else message.payload

    pair.same(count)


@pytest.mark.parametrize("subject", ["$SYS.REQ.USER.A.INFO", "$SYS.REQ.SERVER.PING.NOSUCH", "$SYS.REQ.ACCOUNT.A.NOSUCH",
                                     "$SYS.REQ.SERVER.NOSUCH.VARZ", "$SYS.REQ.SERVER.PING.RELOAD", "$SYS.REQ.SERVER.PING.KICK"])
def test_what_nobody_serves(pair, subject):
    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            message = ask(client, subject)
        return None if message is None else masked_body(message.payload)

    pair.same(told)


@pytest.mark.parametrize("body", [{"account": "A"}, {"account": "B"}, {"account": "nobody"}, {"account": "$SYS"}])
def test_accounts_in_detail(pair, body):
    pair.same(lambda broker: served(broker, "ACCOUNTZ", "PING", json.dumps(body)))


@pytest.mark.parametrize("body", [
    {"accounts": True}, {"streams": True}, {"account": "A"}, {"account": "B"}, {"account": "nobody"}, {"leader_only": True},
    {"config": True}, {"limit": 1, "accounts": True}, {"offset": 5, "accounts": True}, {"raft": True}, {"consumer": True},
])
def test_jetstream_as_asked_for(pair, body):
    pair.same(lambda broker: served(broker, "JSZ", "PING", json.dumps(body)))


@pytest.mark.parametrize("body", [
    {"js-enabled-only": True}, {"js-server-only": True}, {"js-meta-only": True}, {"details": True}, {"stream": "S"},
    {"consumer": "C"}, {"account": "nobody"}, {"account": "nobody", "details": True}, {"account": "A", "stream": "none"},
    {"account": "A", "stream": "S", "consumer": "C", "details": True}, {"stream": "S", "details": True},
])
def test_health_as_asked_for(pair, body):
    pair.same(lambda broker: served(broker, "HEALTHZ", "PING", json.dumps(body)))


def test_profiles_that_do_not_exist(pair):
    for body in ({"name": "nosuch"}, {"name": "cpu"}, {"name": "cpu", "duration": -1}, {"name": "cpu", "duration": 16_000_000_000}, {}):
        pair.same(lambda broker, body=body: served(broker, "PROFILEZ", "PING", json.dumps(body)))


def test_the_end_of_a_server_is_told(start_pair):
    pair = start_pair(CONFIG)

    def end(broker):
        watched = Watched(broker, f"$SYS.SERVER.{server_id(broker)}.SHUTDOWN")
        broker.process.terminate()
        [seen] = watched.events(1)
        watched.close()
        broker.wait_exit()
        broker.start()
        return event(seen)

    pair.same(end)


def test_lame_duck_mode_is_told(start_pair):
    import signal

    pair = start_pair(CONFIG + '\nlame_duck_grace_period: "1s"\nlame_duck_duration: "30s"\n')

    def enter(broker):
        watched = Watched(broker, f"$SYS.SERVER.{server_id(broker)}.*")
        broker.signal(signal.SIGUSR2)
        told = []
        while not told:
            message = watched.client.read_message()
            if message.subject.endswith("LAMEDUCK"):
                told.append(event(message))
        watched.close()
        broker.kill()
        broker.start()
        return told

    pair.same(enter)


def test_a_system_account_of_another_name(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
accounts {
  OPS { users: [{user: sys, password: pw}] }
  A { users: [{user: a, password: pw}] }
}
system_account: OPS
""")

    def told(broker):
        with Wire(broker.port, SYSTEM) as client:
            client.subscribe("$SYS.ACCOUNT.A.CONNECT")
            client.sync()
            with Wire(broker.port, {"user": "a", "pass": "pw"}) as other:
                other.sync()
                connect = event(client.read_message())
            return connect, masked_body(ask(client, "$SYS.REQ.USER.INFO").payload), \
                answer(client, "$SYS.REQ.SERVER.PING.ACCOUNTZ")

    pair.same(told)


def test_without_a_system_account_nobody_answers(start_pair):
    pair = start_pair("""
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
no_system_account: true
""")

    def told(broker):
        with Wire(broker.port, {"headers": True, "no_responders": True}) as client:
            message = ask(client, "$SYS.REQ.USER.INFO")
            return message and message.status, broker.get_json("/varz").get("system_account")

    pair.same(told)


TOLD = """
accounts {
  SYS { users: [ { user: system, password: pw } ] }
  AUTH { users: [ { user: auth, password: pw } ] }
}
system_account: SYS
authorization {
  timeout: 1
  users: [ { user: a, password: pw } ]
  %s
}
"""


@pytest.mark.parametrize("callout, listener", [
    ("", {"user": "a", "pass": "pw"}),
    (f"auth_callout {{ issuer: {nsc.Key('A', 'issuer').public}, account: AUTH, auth_users: [ auth, a, system ] }}", {"user": "auth", "pass": "pw"}),
], ids=["the global account", "the account of the callout"])
@pytest.mark.parametrize("login", [{"user": "a", "pass": "wrong"}, {"user": "nobody", "pass": "pw"}, {}], ids=str)
def test_an_account_is_told_of_clients_that_are_refused(start_pair, callout, listener, login):
    def watch(broker):
        with Wire(broker.port, listener) as told:
            told.subscribe("$SYS.ACCOUNT.CLIENT.AUTH.ERR")
            told.sync()
            with Wire(broker.port, login) as client:
                client.until_closed()
            subject, body, order = event(told.read_message(5))
            # Of a callout that gives no answer nats-server says nothing here.
            reason = body.pop("reason")
            return subject, body, order, callout or reason

    start_pair(STANDALONE + TOLD % callout).same(watch)
