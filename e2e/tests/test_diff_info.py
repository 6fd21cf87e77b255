"""INFO and CONNECT: every field a plain server shows or takes, the INFO after the first PING, and /connz about it.

Fields that belong to TLS, clusters, nkeys or JetStream domains are in those suites.
"""

import json

import pytest

from broker import STANDALONE, WITH_JETSTREAM, wait_until
from wire import Wire

# Whatever says which build it is, or is drawn at random.
ITS_OWN = {"go", "git_commit", "xkey", "server_id", "client_id", "port"}


def fields(info: dict) -> dict:
    return {key: value for key, value in info.items() if key not in ITS_OWN} | {"": sorted(set(info) - {"go", "git_commit", "xkey"})}


CONFIGS = {
    "plain": STANDALONE,
    "JetStream": WITH_JETSTREAM,
    "a token": STANDALONE + "authorization { token: t }\n",
    "users": STANDALONE + "authorization { users: [ { user: u, password: t } ] }\n",
    "users and one without password": STANDALONE + "authorization { users: [ { user: u, password: t } ] }\nno_auth_user: u\n",
    "a small payload": STANDALONE + "max_payload: 77\n",
    "an advertised address": STANDALONE + 'client_advertise: "example.org:4333"\n',
    "an advertised host": STANDALONE + 'client_advertise: "example.org"\n',
    "accounts": STANDALONE + "accounts { A { users: [ { user: u, password: t } ] } }\nno_auth_user: u\n",
    "no system account": STANDALONE + "no_system_account: true\n",
    "a system user without password": STANDALONE + "accounts { SYS { users: [ { user: u, password: t } ] } }\nsystem_account: SYS\nno_auth_user: u\n",
    "tags and metadata": STANDALONE + "server_tags: [a, b]\nserver_metadata { k: v }\n",
    "a name with dots": STANDALONE.replace("NAME", '"a.b-c_d"'),
    "a cluster name without cluster": STANDALONE + "cluster { name: c }\n",
}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=[name.replace(" ", "_") for name in CONFIGS])
def pair(request, start_pair):
    pair = start_pair(request.param)
    yield pair
    pair.stop()


def test_first_info(pair):
    def ask(broker):
        with Wire(broker.port) as client:
            return fields(client.info), client.info["port"] == broker.port

    pair.same(ask)


@pytest.mark.parametrize("protocol", [0, 1])
def test_info_after_the_first_ping(pair, protocol):
    def ask(broker):
        with Wire(broker.port, {"protocol": protocol, "user": "u", "pass": "t", "auth_token": "t"}) as client:
            seen = []
            for _ in range(2):  # only the first PING brings it
                for operation in client.until_pong():
                    seen.append(fields(json.loads(operation.arguments)) if operation.verb == "INFO" else str(operation))
            return seen

    pair.same(ask)


def test_info_before_connect_follows_no_ping(pair):
    def ask(broker):
        with Wire(broker.port) as client:
            return [operation.verb for operation in client.until_pong()]

    pair.same(ask)


# -- CONNECT

@pytest.fixture(scope="module")
def plain(start_pair):
    return start_pair(STANDALONE)


@pytest.fixture(scope="module")
def guarded(start_pair):
    return start_pair(STANDALONE + """
authorization { users: [ { user: ann, password: one }, { user: bob, password: two, permissions: { publish: "a.>", subscribe: "b.>" } } ] }
""")


BROKEN = [
    "{", "}", "{}}", "null", "true", "1", '""', "[]", "[{}]", "{}x", "{} {}", '{"verbose":}', '{"verbose":1}', '{"verbose":"true"}',
    '{"verbose":null}', '{"pedantic":0}', '{"echo":"no"}', '{"headers":"yes"}', '{"no_responders":1,"headers":true}', '{"protocol":"1"}',
    '{"protocol":1.0}', '{"protocol":1.5}', '{"protocol":-1}', '{"protocol":2}', '{"protocol":99999999999999999999}', '{"protocol":null}',
    '{"name":5}', '{"name":null}', '{"user":5}', '{"user":null,"pass":null}', '{"lang":[]}', '{"version":1}', '{"account":""}',
    '{"account":"A"}', '{"new_account":true}', '{"account":"A","new_account":true}', '{"import":{}}', '{"export":{"allow":[]}}',
    '{"remote_account":"A"}', '{"VERBOSE":false}', '{"Verbose":false,"verbose":true}', '{"verbose":false,"verbose":true}',
    '{"tls_required":true}', '{"tls_required":"x"}', '{"jwt":"x"}', '{"nkey":"x"}', '{"nkey":"UAAA","sig":"x"}', '{"sig":"x"}',
    '{"jwt":5}', '{"proxy_sig":"x"}', '{"unknown":{"deep":[1,{"er":2}]}}', '{"name":"\\u00e4\\ud83d\\ude00"}',
    '{"name":"a\\nb"}', "{'verbose':false}", '{verbose:false}', '{"verbose":false,}', '// c\n{}', '\ufeff{}', '{"name":"\x01"}',
    '{"name":"tab\tinside"}', '{"headers":true,"no_responders":true}', '{"headers":false,"no_responders":true}', '{"no_responders":true}',
    " {} ", '{"pass":"x"}', '{"user":"ann"}', '{"auth_token":"x"}', '{"verbose":true,"pedantic":true,"echo":true,"headers":true,"protocol":1}',
]


@pytest.mark.parametrize("text", BROKEN)
def test_connect_fields(plain, text):
    def ask(broker):
        with Wire(broker.port) as client:
            client.send("CONNECT " + text, "SUB foo 1", "PUB foo..x 0", "", "PUB foo 2", "hi")
            return [str(operation) for operation in client.until_pong() if operation.verb != "INFO"]

    plain.same(ask)


@pytest.mark.deviates("connect-json.md")
@pytest.mark.parametrize("text", ['{"import":5}', '{"name":"\\ud800"}'])
def test_connect_fields_read_otherwise(plain, text):
    with Wire(plain.weir.port) as client:
        client.send("CONNECT " + text)
        client.until_pong()
    assert plain.weir.running


CREDENTIALS = [
    {}, {"user": "ann"}, {"user": "ann", "pass": "one"}, {"user": "ann", "pass": "One"}, {"user": "ANN", "pass": "one"}, {"pass": "one"},
    {"user": "", "pass": ""}, {"auth_token": "one"}, {"user": "ann", "pass": "one", "auth_token": "x"}, {"user": "bob", "pass": "two"},
    {"user": "bob", "pass": "two", "account": "A"}, {"user": "ann", "pass": "one", "new_account": True}, {"nkey": "U", "sig": "s"},
    {"jwt": "x.y.z", "user": "ann", "pass": "one"}, {"user": "ann ", "pass": "one"}, {"user": "a" * 500, "pass": "p" * 500},
    {"user": "ann", "pass": "one", "protocol": 7}, {"user": "ann", "pass": "x", "protocol": 7},
    {"user": "ann", "pass": "one", "no_responders": True}, {"user": "ann", "pass": "x", "no_responders": True},
]


@pytest.mark.parametrize("credentials", CREDENTIALS, ids=json.dumps)
def test_credentials(guarded, credentials):
    def ask(broker):
        with Wire(broker.port, credentials) as client:
            return [str(operation) for operation in client.until_pong() if operation.verb != "INFO"]

    guarded.same(ask)


@pytest.mark.parametrize("first, second", [
    ({"user": "ann", "pass": "one"}, {"user": "bob", "pass": "two"}),
    ({"user": "bob", "pass": "two"}, {"user": "ann", "pass": "one"}),
    ({"user": "ann", "pass": "one"}, {"user": "ann", "pass": "wrong"}),
    ({"user": "ann", "pass": "one"}, {"user": "ann", "pass": "one"}),
], ids=["another", "back", "wrong", "same"])
def test_a_second_connect_is_another_login(guarded, first, second):
    def ask(broker):
        with Wire(broker.port, first) as client:
            client.send("SUB b.x 1", "SUB c.x 2")
            seen = client.until_pong()
            client.send("CONNECT " + json.dumps({"verbose": False} | second), "PUB a.x 0", "", "PUB b.x 1", "x", "SUB b.x 1", "PUB c.x 1", "y")
            return [str(operation) for operation in seen + client.until_pong() if operation.verb != "INFO"]

    guarded.same(ask)


SHOWN = ["kind", "type", "ip", "name", "lang", "version", "subscriptions", "authorized_user", "account", "tls_version", "reason", "mqtt_client",
         "jwt", "issuer_key", "name_tag", "tags", "nkey", "proxy"]


@pytest.mark.parametrize("connect", [
    None, {}, {"name": "N", "lang": "x", "version": "1.2"}, {"name": "\u00e4<&>\"'"}, {"name": "n" * 300}, {"user": "u", "pass": "p"},
    {"auth_token": "t"}, {"jwt": "x", "nkey": "y"}, {"name": "", "lang": ""}, {"protocol": 1, "headers": True, "no_responders": True},
], ids=lambda connect: json.dumps(connect)[:40])
def test_connz_shows_what_connect_said(plain, connect):
    def ask(broker):
        with Wire(broker.port, connect) as client:
            client.until_pong()
            [shown] = broker.get_json(f"/connz?auth=1&cid={client.info['client_id']}")["connections"]
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "it is gone")
        [gone] = broker.get_json(f"/connz?auth=1&state=closed&cid={client.info['client_id']}")["connections"]
        return [{key: each.get(key) for key in SHOWN} | {"keys": sorted(set(each) - {"rtt"})} for each in (shown, gone)]

    plain.same(ask)
