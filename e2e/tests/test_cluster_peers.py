"""The requests that take replicas off a server, raise what is replicated on one, and ask every server to go on without a majority:
the same with three servers of Weir and three of nats-server."""

import json

import pytest

from broker import wait_until
from cluster import both
from compare import same as held_with_both
from jetstream import asked
from test_cluster_placement import CONFIG, ask, places, stream, user

LIMITS = 'unique_tag: "same:", limits: { max_ha_assets: 2 }'


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    with both(tmp_path_factory, extra=CONFIG, jetstream_options=LIMITS) as made:
        yield made


def same(clusters, use):
    """Holds `use(connection, cluster)`; afterwards no stream is left."""
    def hold(cluster):
        with user(cluster) as js:
            wait_until(lambda: "error" not in js.raw("STREAM.CREATE.FIRST", stream(3, ["same:x"]) | {"name": "FIRST", "subjects": ["first"]}),
                       "streams can be made", 20, every=0.3)
            js.raw("STREAM.DELETE.FIRST")
            try:
                return use(js, cluster)
            finally:
                js.clear()
                wait_until(lambda: not js.raw("STREAM.NAMES").get("streams"), "the streams are gone", 20)

    return held_with_both(clusters, hold)


PEER_BODIES = [None, {}, {"peer": ""}, {"peer": 1}, {"peer": "nobody"}, {"peer": "n1"}, {"nobody": "n1"}, [], {"peer_id": "n1"}]


@pytest.mark.parametrize("verb", ["REMOVE", "EVACUATE"])
def test_a_replica_without_another_server_stays(clusters, verb):
    def use(js, _):
        missing = [ask(js, f"STREAM.PEER.{verb}.S", body) for body in PEER_BODIES]
        ask(js, "STREAM.CREATE.S", stream(3, ["same:x"]))
        return missing, [ask(js, f"STREAM.PEER.{verb}.S", body) for body in PEER_BODIES]

    same(clusters, use)


@pytest.mark.parametrize("verb", ["REMOVE", "EVACUATE"])
def test_a_consumers_replica_stays_with_its_stream(clusters, verb):
    def use(js, _):
        missing = [ask(js, f"CONSUMER.PEER.{verb}.S.C", body) for body in PEER_BODIES]
        ask(js, "STREAM.CREATE.S", stream(3, ["same:x"]))
        missing += [ask(js, f"CONSUMER.PEER.{verb}.S.C", body) for body in PEER_BODIES]
        ask(js, "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"name": "C", "durable_name": "C", "ack_policy": "explicit"}})
        return missing, [ask(js, f"CONSUMER.PEER.{verb}.S.C", body) for body in PEER_BODIES]

    same(clusters, use)


@pytest.mark.parametrize("verb", ["REMOVE", "EVACUATE"])
def test_a_consumer_of_a_stream_on_one_server_has_nowhere_to_go(clusters, verb):
    def use(js, _):
        ask(js, "STREAM.CREATE.S", stream(1, ["az:n2"]))
        ask(js, "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"name": "C", "durable_name": "C", "ack_policy": "explicit"}})
        return [ask(js, f"CONSUMER.PEER.{verb}.S.C", {"peer": name}) for name in ("n1", "n2")]

    same(clusters, use)


@pytest.mark.parametrize("body", PEER_BODIES[:5] + [{"peer_id": "x"}, {"peer": "n1", "peer_id": "x"}, {"server": "n1"}])
def test_a_server_that_is_not_named_is_not_evacuated(clusters, body):
    def use(js, cluster):
        with user(cluster, "s") as system:
            return ask(system, "SERVER.EVACUATE", body)

    same(clusters, use)


def test_an_evacuated_server_holds_nothing(clusters):
    def use(js, cluster):
        ask(js, "STREAM.CREATE.S", stream(1, ["az:n1"]))
        ask(js, "STREAM.CREATE.T", stream(1, ["az:n2"]) | {"name": "T", "subjects": ["t"]})
        js.fill("s", 5)
        for name, subject in (("S", "s"), ("T", "t")):
            assert "error" not in ask(js, f"STREAM.UPDATE.{name}", {"name": name, "subjects": [subject]})
        with user(cluster, "s") as system:
            answer = ask(system, "SERVER.EVACUATE", {"peer": "n1"})

        def moved():
            info = asked(js, "STREAM.INFO.S")
            leader, servers = places(info)
            return leader in ("n2", "n3") and "n1" not in servers and info

        info = wait_until(moved, "the stream has left the server", 60, every=0.1)
        return answer, info["state"]["messages"], places(asked(js, "STREAM.INFO.T"))[1] == {"n2"}

    same(clusters, use)


def test_a_server_has_so_many_replicated_streams(clusters):
    def use(js, _):
        def made(name, replicas):
            return stream(replicas, ["same:x"]) | {"name": name, "subjects": [name.lower()]}

        said = [ask(js, f"STREAM.CREATE.{name}", made(name, 3)).get("error") for name in ("A", "B", "C")]
        ask(js, "STREAM.CREATE.D", made("D", 1) | {"placement": {"tags": ["az:n1"]}})
        said.append(ask(js, "STREAM.UPDATE.D", made("D", 3)))
        return said

    same(clusters, use)


RESCUES = ["", "{}", "[]", "{", {"quorum_needed": 0}, {"quorum_needed": -1}, {"quorum_needed": 3}, {"quorum_needed": 2}, {"quorum_needed": 1},
           {"quorum_needed": "2"}, {"x": 1}]


@pytest.mark.parametrize("body", RESCUES, ids=str)
def test_every_server_refuses_a_rescue_while_there_is_a_majority(clusters, body):
    def use(_, cluster):
        wait_until(cluster.led, "there is a meta leader")
        with user(cluster, "s") as system:
            inbox = system.wire.inbox()
            system.wire.subscribe(inbox)
            system.wire.publish("$JS.API.META.RESCUE", body if isinstance(body, str) else json.dumps(body), inbox)
            answers = [system.wire.read_message(10).json() for _ in cluster.brokers]
            assert len({answer.pop("server_id") for answer in answers}) == len(answers)
            return sorted(answers, key=lambda answer: answer["server"])

    same(clusters, use)
