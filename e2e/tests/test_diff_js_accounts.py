"""What accounts may use of JetStream: shares, limits, tiers, domains, reloads, claims: the same with Weir and nats-server."""

import json
import signal

import pytest

import nsc
from broker import STANDALONE, wait_until
from jetstream import JetStream
from mask import mask
from test_diff_log_lines import outside
from wire import Wire

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB, domain: hub }
accounts {
  A { jetstream: enabled, users: [ { user: a, password: p } ] }
  L {
    jetstream: {
      max_mem: 1000000, max_file: 10000000, max_streams: 2, max_consumers: 3, max_ack_pending: 10
      mem_max_stream_bytes: 1000, disk_max_stream_bytes: 9000000, max_bytes_required: true
    }
    users: [ { user: l, password: p } ]
  }
  B { users: [ { user: b, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""
SUBJECTS = [
    "INFO", "STREAM.INFO.X", "STREAM.NAMES", "STREAM.LIST", "STREAM.CREATE.X", "STREAM.UPDATE.X", "STREAM.DELETE.X", "STREAM.PURGE.X",
    "STREAM.MSG.GET.X", "STREAM.MSG.DELETE.X", "STREAM.PEER.REMOVE.X", "STREAM.PEER.EVACUATE.X", "STREAM.CANCEL_MOVE.X",
    "STREAM.LEADER.STEPDOWN.X", "CONSUMER.CREATE.X", "CONSUMER.CREATE.X.C", "CONSUMER.DURABLE.CREATE.X.C", "CONSUMER.NAMES.X",
    "CONSUMER.LIST.X", "CONSUMER.INFO.X.C", "CONSUMER.DELETE.X.C", "CONSUMER.PAUSE.X.C", "CONSUMER.UNPIN.X.C",
    "CONSUMER.PEER.REMOVE.X.C", "CONSUMER.PEER.EVACUATE.X.C", "CONSUMER.LEADER.STEPDOWN.X.C",
]
# Nobody answers these: a message arrives, or at once that there is no one.
SILENT = ["FOO", "META.LEADER.STEPDOWN", "SERVER.REMOVE", "SERVER.EVACUATE", "META.RESCUE", "ACCOUNT.STREAM.MOVE.A.X",
          "ACCOUNT.STREAM.CANCEL_MOVE.A.X"]


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG)


def user(broker, name, js: bool = False):
    connect = {"user": name, "pass": "p", "headers": True, "no_responders": True}
    return JetStream(broker.port, connect) if js else Wire(broker.port, connect)


def ask(client: Wire, subject: str, body="", headers=(), within: float = 5.0):
    payload = body if isinstance(body, (str, bytes)) else json.dumps(body)
    answer = client.request(subject, payload, headers, within)
    return answer.status or mask(answer.json())


def heard(client: Wire, subjects) -> dict:
    """What comes back to each of these before the answer to what was asked afterwards."""
    answers = {}
    for subject in subjects:
        inbox = client.inbox()
        sid = client.subscribe(inbox)
        client.publish(f"$JS.API.{subject}", "", inbox)
        ask(client, "$JS.API.INFO")
        answers[subject] = [message.payload.decode() or message.status for message in client.sync()]
        client.unsubscribe(sid)
    return answers


@pytest.mark.parametrize("name", ["a", "b"])
def test_what_is_for_the_system_account_is_not_answered_to_others(pair, name):
    def use(broker):
        with user(broker, name) as client:
            return heard(client, SILENT + ["ACCOUNT.PURGE.A"])

    pair.same(use)


def test_a_server_on_its_own_is_silent_about_clusters(pair):
    def use(broker):
        with user(broker, "s") as client:
            return heard(client, SILENT[1:])

    pair.same(use)


@pytest.mark.parametrize("name", ["b", "s"])
def test_who_has_no_jetstream_is_told_so(pair, name):
    def use(broker):
        with user(broker, name) as client:
            said = {subject: ask(client, f"$JS.API.{subject}") for subject in SUBJECTS}
            for domain in ("hub", "other"):
                said[domain] = ask(client, f"$JS.{domain}.API.INFO")
            if name == "b":
                level = [("Nats-Required-Api-Level", "99")]
                said["level"] = [ask(client, f"$JS.API.{subject}", "", level) for subject in ("INFO", "STREAM.NAMES")]
                said |= {subject: ask(client, f"$JS.API.{subject}.X.C") for subject in ("CONSUMER.MSG.NEXT", "DIRECT.GET")}
            return said

    pair.same(use)


def test_an_account_is_told_its_limits_and_what_it_asked(pair):
    def use(broker):
        with user(broker, "l", js=True) as js:
            said = [js.api("INFO")]
            said.append(js.api("STREAM.CREATE.M", {"name": "M", "subjects": ["m"], "storage": "memory", "max_bytes": 900}))
            said.append(js.api("STREAM.INFO.NONE"))
            js.publish("m", "x" * 100)
            info = js.api("INFO")
            info.pop("memory")  # sizes of stored messages differ
            said.append(info)
            said.append(js.api("STREAM.DELETE.M"))
            said.append(js.api("INFO")["api"])
            return said

    pair.same(use)


LIMITS = {
    "no size": [{"name": "S", "subjects": ["s"]}],
    "too large on disk": [{"name": "S", "subjects": ["s"], "max_bytes": 9000001}],
    "too large in memory": [{"name": "S", "subjects": ["s"], "storage": "memory", "max_bytes": 1001}],
    "more than the account": [{"name": "S", "subjects": ["s"], "max_bytes": 8000000}, {"name": "T", "subjects": ["t"], "max_bytes": 2000001}],
    "just the account": [{"name": "S", "subjects": ["s"], "max_bytes": 8000000}, {"name": "T", "subjects": ["t"], "max_bytes": 2000000}],
    "too many streams": [{"name": name, "subjects": [name], "max_bytes": 100} for name in "STU"],
    "the same again": [{"name": "S", "subjects": ["s"], "max_bytes": 100}] * 3,
    "too many consumers allowed": [{"name": "S", "subjects": ["s"], "max_bytes": 100, "max_consumers": 4}],
    "as many consumers as allowed": [{"name": "S", "subjects": ["s"], "max_bytes": 100, "max_consumers": 3}],
    "too many streams before a bad subject": [
        {"name": name, "subjects": [subject], "max_bytes": 100} for name, subject in (("S", "s"), ("T", "t"), ("U", "u..v"))
    ],
}


def cleared(js: JetStream):
    for name in js.raw("STREAM.NAMES")["streams"] or []:
        js.api(f"STREAM.DELETE.{name}")


@pytest.mark.parametrize("case", LIMITS)
def test_streams_stay_within_the_account(pair, case):
    def use(broker):
        with user(broker, "l", js=True) as js:
            said = [js.api(f"STREAM.CREATE.{config['name']}", config) for config in LIMITS[case]]
            said.append(js.api("INFO")["reserved_storage"])
            cleared(js)
            return said

    pair.same(use)


def test_updates_stay_within_the_account(pair):
    def use(broker):
        with user(broker, "l", js=True) as js:
            js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_bytes": 5000000})
            js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "max_bytes": 4000000})
            said = []
            for size in (6000000, 6000001, 100, 9000001, 0, -1):
                said.append(js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "max_bytes": size}))
            said.append(js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "max_bytes": 100, "max_consumers": 4}))
            said.append(js.api("INFO")["reserved_storage"])
            cleared(js)
            return said

    pair.same(use)


def test_a_server_has_only_so_much_room(pair):
    def use(broker):
        with user(broker, "a", js=True) as js:
            # nats-server takes an account's folder away behind its last stream, maybe from under the next one.
            js.api("STREAM.CREATE.STAYS", {"name": "STAYS", "subjects": ["stays"]})
            said = []
            for storage, size in (("file", 1024**3 + 1), ("memory", 64 * 1024**2 + 1), ("file", 1024**3), ("memory", 64 * 1024**2)):
                said.append(js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": storage, "max_bytes": size}))
                said.append(js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "storage": storage}))
                said.extend(js.api(f"STREAM.DELETE.{name}") for name in "ST")
            cleared(js)
            return said

    pair.same(use)


def test_consumers_stay_within_the_account(pair):
    def use(broker):
        with user(broker, "l", js=True) as js:
            js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_bytes": 100})
            said = []
            for number in range(4):
                config = {"durable_name": f"C{number}", "ack_policy": "explicit"}
                said.append(js.api(f"CONSUMER.CREATE.S.C{number}", {"stream_name": "S", "config": config}))
            said.append(js.api("CONSUMER.DELETE.S.C0"))
            config = {"durable_name": "D", "ack_policy": "explicit", "max_ack_pending": 11}
            said.append(js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": config}))
            config["max_ack_pending"] = 10
            said.append(js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": config}))
            cleared(js)
            return said

    pair.same(use)


def exceeded(broker) -> set:
    """What the log says of limits."""
    return {line for line in outside(broker.log()) if "limits exceeded" in line}


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_a_server_stores_only_so_much(start_pair, storage):
    pair = start_pair(STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 20000, max_file_store: 20000 }
accounts { A { jetstream: enabled, users: [ { user: a, password: p } ] } }
""")

    def use(broker):
        with user(broker, "a", js=True) as js:
            js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": storage})
            said = [js.publish("s", "x" * 1000) for _ in range(15)]
            # How much is stored is looked at now and then.
            refusal = wait_until(lambda: (answer := js.publish("s", "x" * 1000)) and "error" in answer and answer, "the server is full")
            wait_until(lambda: exceeded(broker), "the log says so")
            js.api("STREAM.PURGE.S")
            wait_until(lambda: "error" not in js.publish("s", "x" * 1000), "there is room again")
            cleared(js)
            return said, refusal, exceeded(broker)

    pair.same(use)


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_an_account_stores_only_so_much(start_pair, storage):
    pair = start_pair(STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }
accounts { A { jetstream: { max_mem: 20000, max_file: 20000 }, users: [ { user: a, password: p } ] } }
""")

    def use(broker):
        with user(broker, "a", js=True) as js:
            for name in ("S", "T"):
                js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name.lower()}.>"], "storage": storage})
            said = [js.publish("s.x", "x" * 1000) for _ in range(15)]
            # The other stream hears a moment later of what the first one has.
            wait_until(lambda: "error" in js.publish("t.x", "x" * 5000), "the account is full")
            js.api("STREAM.PURGE.S")
            wait_until(lambda: "error" not in js.publish("t.x", "x" * 1000), "there is room again")
            said.append(js.publish("s.x", "x" * 21000))
            said.append(js.publish("s.x", "x" * 100)["stream"])
            cleared(js)
            return said, exceeded(broker)

    pair.same(use)


def test_a_domain_is_reached_by_its_name(pair):
    def use(broker):
        with user(broker, "a", js=True) as js:
            config = {"name": "S", "subjects": ["s"]}
            said = [ask(js.wire, "$JS.hub.API.STREAM.CREATE.S", config), js.publish("s", "m")]
            consumer = {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}
            said.append(ask(js.wire, "$JS.hub.API.CONSUMER.CREATE.S.C", consumer))
            said.append(js.wire.request("$JS.hub.API.CONSUMER.MSG.NEXT.S.C", '{"batch":1}').payload)
            said.append(ask(js.wire, "$JS.hub.API.STREAM.INFO.S")["domain"])
            said.append(js.api("INFO")["domain"])
            cleared(js)
            return said

    pair.same(use)


def test_the_system_account_purges_an_account(pair):
    def use(broker):
        with user(broker, "a", js=True) as js, user(broker, "s") as system:
            for name in ("S", "T"):
                js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [name]})
            said = [ask(system, "$JS.API.ACCOUNT.PURGE.A"), js.api("STREAM.NAMES")]
            said.append(ask(system, "$JS.API.ACCOUNT.PURGE.NONE"))
            said.append(ask(system, "$JS.hub.API.ACCOUNT.PURGE.A"))
            return said

    pair.same(use)


def reloaded(broker, config: str):
    """After a reload with this config."""
    broker.write_config(config.replace("NAME", "subject"))
    before = broker.log().count("Reloaded server configuration")
    broker.signal(signal.SIGHUP)
    wait_until(lambda: broker.log().count("Reloaded server configuration") > before, "it has reloaded")


def test_a_reload_gives_and_takes_jetstream(start_pair):
    def with_jetstream(share: str) -> str:
        return STANDALONE + f"""
jetstream {{ store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }}
accounts {{
  A {{ {share} users: [ {{ user: a, password: p }} ] }}
  B {{ jetstream: enabled, users: [ {{ user: b, password: p }} ] }}
}}
"""

    pair = start_pair(with_jetstream("jetstream: enabled,"))

    def use(broker):
        said = []
        with user(broker, "a", js=True) as js:
            said.append(js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}))
            said.append([js.publish("s.1", "m") for _ in range(3)])
            reloaded(broker, with_jetstream(""))
            said += [js.api("INFO"), js.api("STREAM.INFO.S"), js.publish("s.2", "lost")]
            reloaded(broker, with_jetstream("jetstream: { max_streams: 1, max_file: 1000000 },"))
            state = js.api("STREAM.INFO.S")["state"]
            said += [state["messages"], state["last_seq"], js.publish("s.3", "m"), js.api("INFO")["limits"]]
            said.append(js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["t"]}))
            reloaded(broker, with_jetstream("jetstream: { max_streams: 2 },"))
            said.append(js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["t"]})["did_create"])
            said += [js.api("STREAM.DELETE.S"), js.api("STREAM.DELETE.T")]
        return said

    pair.keeps_streams = True
    pair.same(use)


OPERATOR = nsc.Key("O", "operator")
SYS, A, B = (nsc.Key("A", name) for name in ("SYS", "A", "B"))
U, ADMIN = nsc.Key("U", "u"), nsc.Key("U", "admin")
SERVED = {"mem_storage": -1, "disk_storage": 1000000, "streams": 2, "consumer": 2}


def operator_config(resolver: str) -> str:
    operator = nsc.operator(OPERATOR, system_account=SYS.public)
    return STANDALONE + f"""
jetstream {{ store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }}
operator: {operator}
system_account: {SYS.public}
{resolver}
"""


FULL = 'resolver: { type: full, dir: "STORE/jwt", allow_delete: true }\nresolver_preload { %s: %s }'


def logged_in(broker, account, key, js=True):
    token = nsc.user(account, key)

    def connect(info):
        return {"jwt": token, "sig": key.sign_nonce(info["nonce"]), "headers": True, "no_responders": True}

    wire = Wire(broker.port)
    wire.send("CONNECT " + json.dumps({"verbose": False, "protocol": 1} | connect(wire.info)))
    if not js:
        return wire
    client = JetStream.__new__(JetStream)
    client.wire = wire
    return client


def pushed(admin: Wire, account, **claims):
    answer = admin.request("$SYS.REQ.CLAIMS.UPDATE", nsc.account(OPERATOR, account, **claims)).json()
    assert "error" not in answer, answer


def test_claims_give_change_and_take_jetstream(start_pair):
    pair = start_pair(operator_config(FULL % (SYS.public, nsc.account(OPERATOR, SYS))))

    def use(broker):
        said = []
        with logged_in(broker, SYS, ADMIN, js=False) as admin:
            pushed(admin, A)
            with logged_in(broker, A, U) as js:
                said += [js.api("INFO"), js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})]
                pushed(admin, A, limits=SERVED)
                said += [js.api("INFO"), js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}), js.publish("s", "m")]
                said.append([js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [name]}) for name in "TU"])
                pushed(admin, A, limits=SERVED | {"streams": 3})
                said.append(js.api("STREAM.CREATE.U", {"name": "U", "subjects": ["U"]})["did_create"])
                pushed(admin, A)
                said += [js.api("STREAM.NAMES"), js.publish("s", "lost")]
                pushed(admin, A, limits=SERVED)
                said += [js.api("STREAM.NAMES"), js.publish("s", "m")]
        return said

    pair.keeps_streams = True
    pair.same(use)


def test_streams_of_an_account_wait_for_its_claims(start_pair):
    """The server starts without knowing the account: its streams are there as soon as somebody comes."""
    pair = start_pair(operator_config(FULL % (SYS.public, nsc.account(OPERATOR, SYS))))

    def use(broker):
        with logged_in(broker, SYS, ADMIN, js=False) as admin:
            pushed(admin, A, limits=SERVED)
        with logged_in(broker, A, U) as js:
            said = [js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}), js.publish("s", "1")]
        for end in (broker.stop, broker.kill):
            end()
            broker.start()
            with logged_in(broker, A, U) as js:
                wait_until(lambda: js.raw("STREAM.INFO.S").get("state"), "the stream is there")
                said += [js.publish("s", "m"), js.api("INFO")["streams"]]
        return said

    pair.keeps_streams = True
    pair.same(use)


def test_tiers_count_apart(start_pair):
    pair = start_pair(operator_config(FULL % (SYS.public, nsc.account(OPERATOR, SYS))))
    tier = SERVED | {"max_ack_pending": 5, "disk_max_stream_bytes": 500000}

    def use(broker):
        said = []
        with logged_in(broker, SYS, ADMIN, js=False) as admin:
            pushed(admin, A, limits={"tiered_limits": {"R1": tier, "R3": tier | {"streams": 1}}})
            pushed(admin, B, limits={"tiered_limits": {"R3": tier}})
        with logged_in(broker, A, U) as js:
            said.append(js.api("INFO"))
            for name in "STU":
                said.append(js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [name], "max_bytes": 400000}))
            said.append(js.api("STREAM.CREATE.R", {"name": "R", "subjects": ["R"], "num_replicas": 3}))
            said.append(js.api("STREAM.CREATE.R", {"name": "R", "subjects": ["R"], "num_replicas": 2}))
            said.append(js.api("INFO"))
        with logged_in(broker, B, U) as js:
            said += [js.api("INFO"), js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})]
        return said

    pair.keeps_streams = True
    pair.same(use)
