"""Which servers hold a stream: tags, exclusions and unique tags at its creation, its update and its move; who leads after a
step-down that asks for tags. The same with three servers of Weir and three of nats-server."""

import json

import pytest

from broker import wait_until
from cluster import both
from compare import same as held_with_both
from jetstream import JetStream
from mask import mask

CONFIG = """
server_tags: ["az:NAME", "same:x", "Big"]
accounts {
  B { jetstream: enabled, users: [ { user: b, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""
SERVERS = {"n1", "n2", "n3"}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    with both(tmp_path_factory, extra=CONFIG, jetstream_options='unique_tag: "same:"') as made:
        yield made


def user(cluster, name: str = "b") -> JetStream:
    return JetStream(cluster.brokers[0].port, {"user": name, "pass": "p"})


def ask(js: JetStream, subject: str, body=None) -> dict | str:
    answer = js.wire.request(f"$JS.API.{subject}", json.dumps(body) if body else "", within=20)
    return answer.status or mask(answer.json())


def places(info: dict) -> tuple[str, set[str]]:
    """Who leads, and who has a replica."""
    cluster = info.get("cluster") or {}
    return cluster.get("leader"), {cluster.get("leader")} | {peer["name"] for peer in cluster.get("replicas") or []}


def without_places(answer):
    return {key: value for key, value in answer.items() if key != "cluster"} if isinstance(answer, dict) else answer


def stream(replicas: int, tags, **more) -> dict:
    return {"name": "S", "subjects": ["s"], "num_replicas": replicas, "placement": {"tags": tags}} | more


def shown(js: JetStream) -> dict:
    """The stream's places; nothing while nobody leads it. nats-server shows what it is about to change as `desired`."""
    try:
        return js.raw("STREAM.INFO.S", within=2)
    except AssertionError:
        return {}


def held(js: JetStream, servers: set[str]):
    """Waits until just these have a replica, one of them leads, and no change is on its way; the messages are there."""
    def is_held():
        info = shown(js)
        leader, holders = places(info)
        return holders == servers and leader in servers and "desired" not in info["cluster"] and info

    return wait_until(is_held, f"the stream is on {servers}", 30)["state"]["messages"]


def same(clusters, conversation):
    def hold(cluster):
        with user(cluster) as js:
            try:
                return conversation(js, cluster)
            finally:
                js.clear()

    held_with_both(clusters, hold)


@pytest.mark.parametrize("tags, replicas, servers", [
    (["az:n2"], 1, {"n2"}), ([" AZ:N2 "], 1, {"n2"}), (["big", "az:n3"], 1, {"n3"}), (["!az:n1", "!az:n3"], 1, {"n2"}),
    (["same:x", "!az:n1"], 2, {"n2", "n3"}), (["same:x"], 3, SERVERS), (["!same:y", "az:n1"], 1, {"n1"}),
])
def test_a_stream_goes_where_its_tags_are(clusters, tags, replicas, servers):
    def use(js, _):
        answer = ask(js, "STREAM.CREATE.S", stream(replicas, tags))
        return without_places(answer), places(answer)[1] == servers, held(js, servers)

    same(clusters, use)


@pytest.mark.parametrize("tags, replicas", [
    (["x"], 1), (["x", "az:n1"], 1), (["same:x", "!az:n1"], 3), (["!big"], 1), ([], 2), (["big"], 2), (["!same:x"], 1),
    (["same:x"], 5), (["", "az:n1"], 1), (["!"], 1),
])
def test_who_fits_nowhere_is_told_why(clusters, tags, replicas):
    same(clusters, lambda js, _: without_places(ask(js, "STREAM.CREATE.S", stream(replicas, tags))))


def test_an_update_of_the_placement_moves_the_stream(clusters):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(1, ["az:n1"]))
        js.fill("s", 3)
        said = [ask(js, "STREAM.UPDATE.S", stream(1, ["az:n2"])).get("config"), held(js, {"n2"})]
        said += [without_places(ask(js, "STREAM.UPDATE.S", stream(1, ["x"]))), held(js, {"n2"})]
        # None asked for is no reason to go.
        said += [ask(js, "STREAM.UPDATE.S", {"name": "S", "subjects": ["s"]}).get("config"), held(js, {"n2"})]
        said += [ask(js, "STREAM.UPDATE.S", stream(1, ["az:n3"])).get("config"), held(js, {"n3"})]
        return said

    same(clusters, use)


def test_a_move_and_a_scale_are_two_updates(clusters):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(1, ["az:n1"]))
        said = [ask(js, "STREAM.UPDATE.S", stream(3, ["same:x"])), ask(js, "STREAM.UPDATE.S", stream(1, ["az:n2"], retention="interest"))]
        return [without_places(answer) for answer in said], held(js, {"n1"})

    same(clusters, use)


def test_a_scale_looks_at_the_tags(clusters):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(1, ["az:n1"]))
        refused = ask(js, "STREAM.UPDATE.S", stream(3, ["az:n1"]))
        ask(js, "STREAM.UPDATE.S", stream(1, ["same:x", "az:n2"]))
        held(js, {"n2"})
        ask(js, "STREAM.UPDATE.S", {"name": "S", "subjects": ["s"]})
        refused = [refused, ask(js, "STREAM.UPDATE.S", stream(1, ["same:x", "az:n1"])).get("config"), held(js, {"n1"})]
        grown = ask(js, "STREAM.UPDATE.S", stream(3, ["same:x", "az:n1"]))
        return refused, without_places(grown), held(js, {"n1"})

    same(clusters, use)


@pytest.mark.parametrize("name", ["b", "s"])
def test_a_replica_is_moved_on_request(clusters, name):
    def use(js, cluster):
        with user(cluster, name) as asker:
            def move(body=None):
                answer = ask(asker, "ACCOUNT.STREAM.MOVE.B.S", body)
                return answer if "error" in answer else answer.get("config")

            said = [move({"server": "n1"})]
            ask(js, "STREAM.CREATE.S", stream(1, ["big"]) | {"placement": {"tags": ["az:n1"]}})
            js.fill("s", 3)
            said += [move({"server": "nobody"}), move({"server": "n2"}), move({"server": "n1"}), move({"server": "n1", "cluster": "x"}),
                     move({"server": 1}), move({"tags": ["x"]})]
            ask(js, "STREAM.UPDATE.S", {"name": "S", "subjects": ["s"]})
            said += [move({"server": "n1", "tags": ["az:n3"]}), held(js, {"n3"}), move({"tags": ["az:n2"]}), held(js, {"n2"})]
            said.append(ask(asker, "ACCOUNT.STREAM.CANCEL_MOVE.B.S"))
            return said

    same(clusters, use)


def test_a_replica_for_which_there_is_no_other_server_stays(clusters):
    def use(js, cluster):
        ask(js, "STREAM.CREATE.S", stream(3, ["same:x"]))
        return ask(js, "ACCOUNT.STREAM.MOVE.B.S", {"server": "n1"}), held(js, SERVERS)

    same(clusters, use)


def test_a_step_down_asks_for_tags(clusters):
    def use(js, cluster):
        ask(js, "STREAM.CREATE.S", stream(3, ["same:x"]))
        said = []

        def leader():
            return wait_until(lambda: places(shown(js))[0], "there is a leader", 20)

        for wanted in ("n1", "n2", "n3"):
            if leader() == wanted:
                continue
            wait_until(lambda: all(peer["current"] for peer in (shown(js).get("cluster") or {}).get("replicas") or [{"current": False}]),
                       "all are current", 20)
            answer = ask(js, "STREAM.LEADER.STEPDOWN.S", {"placement": {"tags": ["big", f"az:{wanted}"]}})
            assert answer.get("success"), answer
            wait_until(lambda: leader() == wanted, f"{wanted} leads", 20)
        leader = leader()
        for placement in ({"tags": ["x"]}, {"tags": [f"az:{leader}"]}, {"cluster": "x"}, {"preferred": leader}):
            answer = ask(js, "STREAM.LEADER.STEPDOWN.S", {"placement": placement})
            said.append(json.dumps(answer).replace(leader, "<leader>"))
        return said

    same(clusters, use)


@pytest.mark.parametrize("code, streams, replicas", [
    (10126, {"num_replicas": 1}, 3), (10134, {"num_replicas": 3, "retention": "interest"}, 1),
    (10134, {"num_replicas": 3, "retention": "workqueue"}, 1), (0, {"num_replicas": 3}, 1),
])
def test_a_consumers_replicas_are_bound_to_its_streams(clusters, code, streams, replicas):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(1, ["same:x"]) | streams)
        config = {"name": "C", "ack_policy": "explicit", "num_replicas": replicas}
        answer = ask(js, "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})
        assert answer.get("error", {}).get("err_code", 0) == code, answer
        return answer.get("error")

    same(clusters, use)


@pytest.mark.parametrize("body", [{"peer": "n1"}, {"peer": "nobody"}, {}, {"peer": ""}, {"peer": 1}])
def test_a_replica_that_no_other_server_can_take_is_not_removed(clusters, body):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(3, ["same:x"]))
        return ask(js, "STREAM.PEER.REMOVE.S", body), held(js, SERVERS)

    same(clusters, use)
