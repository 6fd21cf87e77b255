"""JetStream's accounts on three servers: limits, the system account's requests, audits, claims known to one server only."""

import json
import pathlib

import pytest

import binaries
import nsc
from broker import wait_until
from cluster import Cluster, create
from compare import same
from jetstream import JetStream, asked
from mask import mask
from test_diff_js_accounts import A, ADMIN, OPERATOR, SERVED, SYS, U, logged_in, pushed

ACCOUNTS = """
accounts {
  A { jetstream: { max_file: 10000000, max_streams: 3 }, users: [ { user: a, password: p } ] }
  B { jetstream: enabled, users: [ { user: b, password: p } ] }
  C { users: [ { user: c, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""


@pytest.fixture(scope="module")
def clusters(start_clusters):
    return start_clusters(binaries.reference(), binaries.weir(), extra=ACCOUNTS, user={"user": "b", "pass": "p"})


def user(cluster, index: int, name: str) -> JetStream:
    return JetStream(cluster.brokers[index].port, {"user": name, "pass": "p"})


def ask(js: JetStream, subject: str, body="") -> dict | str:
    answer = js.wire.request(f"$JS.API.{subject}", body if isinstance(body, str) else json.dumps(body))
    return answer.status or mask(answer.json())


def without_places(value):
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items() if key not in ("cluster", "api", "leader")}
    return value


def config(name: str, **more) -> tuple:
    return f"STREAM.CREATE.{name}", {"name": name, "subjects": [name.lower()]} | more


REFUSED = {
    "more than a server has": config("S", max_bytes=9 * 1024**3),
    "more than three servers have": config("S", max_bytes=9 * 1024**3, num_replicas=3),
    "more memory than there is": config("S", storage="memory", max_bytes=257 * 1024**2, num_replicas=3),
    "more replicas than servers": config("S", num_replicas=5),
    "tags that nobody has": config("S", placement={"tags": ["x"]}),
    "another cluster": config("S", placement={"cluster": "x"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_stream_that_fits_nowhere_is_refused(clusters, case):
    def use(cluster):
        with user(cluster, 1, "b") as js:
            return ask(js, *REFUSED[case])

    same(clusters, use)


def test_replicas_count_in_the_account(clusters):
    def use(cluster):
        with user(cluster, 2, "a") as js:
            said = [ask(js, *config("S", max_bytes=10000001)), ask(js, *config("S", max_bytes=4000000, num_replicas=3))]
            said.append(ask(js, *config("S", max_bytes=3000000, num_replicas=3)))
            said.append(ask(js, "INFO"))
            for number in range(3):
                said.append(ask(js, *config(f"T{number}")))
            for name in js.raw("STREAM.NAMES")["streams"]:
                js.raw(f"STREAM.DELETE.{name}")
            return [without_places(answer) for answer in said]

    same(clusters, use)


def test_only_the_first_create_creates(clusters):
    def use(cluster):
        with user(cluster, 0, "b") as js:
            said = []
            for replicas in (1, 3):
                name = f"R{replicas}"
                said += [ask(js, *config(name, num_replicas=replicas)).get("did_create") for _ in range(2)]
                js.raw(f"STREAM.DELETE.{name}")
            return said

    same(clusters, use)


@pytest.mark.parametrize("policy", ["all", "last", "new"])
def test_nothing_is_acknowledged_before_the_first_ack(clusters, policy):
    def use(cluster):
        with user(cluster, 0, "b") as js:
            said = []
            for replicas in (1, 3):
                # nats-server removes a deleted stream's files later: a name of its own for each.
                name = f"{policy.upper()}{replicas}"
                ask(js, *config(name, num_replicas=replicas))
                wait_until(lambda: "seq" in js.publish(name.lower(), "m"), "the stream takes messages")
                consumer = {"stream_name": name, "config": {"durable_name": "C", "ack_policy": "explicit", "deliver_policy": policy}}
                info = ask(js, f"CONSUMER.CREATE.{name}.C", consumer)
                said.append((info["delivered"], info["ack_floor"]))
                js.raw(f"STREAM.DELETE.{name}")
            return said

    same(clusters, use)


SYSTEM = [
    ("SERVER.REMOVE",), ("SERVER.REMOVE", {"peer": "nobody"}), ("SERVER.REMOVE", {"peer_id": "x"}), ("SERVER.EVACUATE",),
    ("ACCOUNT.PURGE.C",), ("ACCOUNT.STREAM.MOVE.B.X",), ("ACCOUNT.STREAM.MOVE.Z.X",), ("ACCOUNT.STREAM.CANCEL_MOVE.B.X",),
    ("META.LEADER.STEPDOWN", {"placement": {"preferred": "nobody"}}), ("META.LEADER.STEPDOWN", {"placement": {"cluster": "x"}}),
    ("META.LEADER.STEPDOWN", {"placement": {"tags": ["x"]}}), ("META.LEADER.STEPDOWN", {"x": 1}), ("META.LEADER.STEPDOWN",),
]


def test_the_meta_leader_answers_the_system_account(clusters):
    def use(cluster):
        before = wait_until(cluster.led, "there is a meta leader")
        with user(cluster, 1, "s") as js:
            said = [ask(js, *request) for request in SYSTEM]
        # The last request is answered before the leader has gone.
        wait_until(lambda: cluster.led() not in ("", before), "there is another meta leader")
        return said

    same(clusters, use)


@pytest.mark.parametrize("index", range(3))
def test_who_has_no_jetstream_is_told_so_by_every_server(clusters, index):
    def use(cluster):
        with user(cluster, index, "c") as js, user(cluster, index, "s") as system:
            return [ask(js, "INFO"), ask(js, "STREAM.NAMES"), ask(system, "INFO"), ask(system, "STREAM.NAMES")]

    same(clusters, use)


def test_audits_tell_of_clients_of_other_servers(clusters):
    def use(cluster):
        heard = []
        for index in range(3):
            with user(cluster, index, "b") as js, user(cluster, (index + 1) % 3, "b") as watcher:
                watcher.wire.subscribe("$JS.EVENT.ADVISORY.API")
                watcher.wire.sync()
                wait_until(lambda: js.raw("INFO") and js.raw("STREAM.NAMES") and watcher.wire.sync(), "audits are heard")
                js.raw("STREAM.LIST")
                while (advisory := watcher.wire.read_message().json())["subject"] != "$JS.API.STREAM.LIST":
                    pass
                client = advisory["client"]
                heard.append((advisory["type"], client["acc"], client["user"], client["server"], client["cluster"], client["kind"]))
        return heard

    same(clusters, use)


def test_an_account_that_one_server_got_to_know_is_served_by_all(tmp_path_factory):
    """Only the server of the client has fetched the account: the meta leader and the stream's leader have to hear of it."""
    operator = nsc.operator(OPERATOR, system_account=SYS.public)
    directory = pathlib.Path(tmp_path_factory.mktemp("jwt"))
    extra = f"""
operator: {operator}
system_account: {SYS.public}
resolver: {{ type: full, dir: "STORE/jwt" }}
resolver_preload {{ {SYS.public}: {nsc.account(OPERATOR, SYS)} }}
"""
    with Cluster(binaries.weir(), directory, extra=extra) as cluster:
        with logged_in(cluster.brokers[0], SYS, ADMIN, js=False) as admin:
            pushed(admin, A, limits=SERVED | {"disk_storage": -1, "streams": -1})
        for index, broker in enumerate(cluster.brokers):
            with logged_in(broker, A, U) as js:
                created = create(js, {"name": f"S{index}", "subjects": [f"s.{index}"], "num_replicas": 3})
                assert created.get("did_create"), created
                assert js.publish(f"s.{index}", "m")["seq"] == 1
        cluster.restart()
        with logged_in(cluster.brokers[2], A, U) as js:
            wait_until(lambda: len(asked(js, "STREAM.NAMES").get("streams") or []) == 3, "the streams are there")
            for index in range(3):
                wait_until(lambda: js.publish(f"s.{index}", "m").get("seq", 0) > 1, f"stream {index} takes messages")
