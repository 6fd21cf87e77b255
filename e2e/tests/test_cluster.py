"""JetStream on three servers: replicated streams answer as on three real nats-servers, whichever server is asked."""

import itertools
import threading
import time

import pytest

import binaries
import test_diff_consumers
import test_diff_publish
import test_diff_streams
from broker import wait_until
from cluster import Cluster
from conftest import difference
from jetstream import JetStream

READY_WITHIN_SECONDS = 20
ANSWERED_WITHIN_SECONDS = 5.0
NO_SUITABLE_PEERS = 10005
GONE_WITHIN_SECONDS = 10
SPREAD_SECONDS = 0.15

# Conversations of the other suites that are held here with three replicas.
STREAMS = [
    "a stream has nats-server's defaults", "discard new",
    "the same name with another config is refused", "overlapping subjects of another stream are refused", "an unknown field is refused",
    "an update changes limits", "an update to fewer messages removes the oldest",
    "an update of an unknown stream", "an update of the storage is refused", "an update may add subjects", "delete", "delete of an unknown stream",
    "info of an unknown stream", "info with subjects", "names", "list", "purge takes all", "purge by subject", "purge that keeps",
    "delete of a message", "delete of a message that never was", "get by sequence", "get last by subject", "get of a missing sequence",
    "direct get by sequence", "direct get last by subject in the subject",
]
PUBLISHES = [
    "an ack names stream and sequence", "headers are stored", "max_msgs removes the oldest", "a duplicate id is said and not stored",
    "an expected stream differs", "an expected last sequence matches", "an expected last sequence differs",
    "an expected last sequence of the subject differs", "a rollup of the subject removes what was", "a message above max_msg_size is refused",
]
CONSUMERS = [
    "a durable pull consumer has nats-server's defaults", "a push consumer", "several filters", "an unknown stream",
    "the same name with new limits is an update", "a change of the ack policy is refused", "info of an unknown consumer", "names", "list",
    "delete", "delete of an unknown consumer",
]
CASES = {f"{kind} {name}": table[name] for kind, table, names in (
    ("stream", test_diff_streams.CASES, STREAMS), ("publish", test_diff_publish.CASES, PUBLISHES), ("consumer", test_diff_consumers.CASES, CONSUMERS),
) for name in names}


def replicated(step):
    """The step with three replicas where it makes or changes a stream."""
    if callable(step) or not step[0].startswith(("STREAM.CREATE", "STREAM.UPDATE")) or not isinstance(step[1], dict):
        return step
    return (step[0], {"num_replicas": 3} | step[1], *step[2:])


def without_places(value):
    """An answer without who leads and follows, which differs from run to run."""
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items() if key not in ("cluster", "api")}
    if isinstance(value, list):
        return [without_places(inner) for inner in value]
    return value


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Three real nats-servers, and three of Weir."""
    made = [Cluster(binaries.reference(), tmp_path_factory.mktemp("reference")), Cluster(binaries.weir(), tmp_path_factory.mktemp("weir"))]
    try:
        for cluster in made:
            cluster.start()
            with JetStream(cluster.brokers[0].port) as js:
                wait_until(lambda: js.raw("STREAM.CREATE.FIRST", {"name": "FIRST", "num_replicas": 3}, within=10).get("error", {}).get("err_code")
                           != NO_SUITABLE_PEERS, "the first stream is placed", READY_WITHIN_SECONDS, every=0.3)
                js.raw("STREAM.DELETE.FIRST")
        yield made
    finally:
        for cluster in made:
            cluster.stop()


asked = itertools.count()


def hold(cluster, steps, port):
    with JetStream(port) as js:
        try:
            answers = []
            for step in map(replicated, steps):
                answers.append(step(js) if callable(step) else js.api(*step, within=10))
                if not callable(step) and step[0].startswith("STREAM."):
                    # nats-server answers before its subjects are known at every server: a publish would find nobody.
                    time.sleep(SPREAD_SECONDS)
            return without_places(answers)
        finally:
            js.clear()
            await_nothing(cluster)


def await_nothing(cluster):
    def empty():
        for broker in cluster.brokers:
            with JetStream(broker.port) as js:
                if js.raw("STREAM.NAMES").get("streams"):
                    return False
        return True

    wait_until(empty, "every server has forgotten the streams", GONE_WITHIN_SECONDS)
    time.sleep(0.1)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_replicated(clusters, steps):
    index = next(asked) % 3
    # The followers of nats-server lag behind its answers now and then: what differs must differ twice.
    for _ in range(2):
        expected, actual = (hold(cluster, steps, cluster.brokers[index].port) for cluster in clusters)
        if actual == expected:
            break
    assert actual == expected, f"asked through n{index + 1}:\n{difference(expected, actual)}\n{clusters[1].logs()[-3000:]}"


@pytest.fixture
def weir(clusters):
    """Weir's cluster with the replicated stream S, which is gone afterwards."""
    cluster = clusters[1]
    with JetStream(cluster.brokers[0].port) as js:
        answer = js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3}, within=10)
        assert "error" not in answer, answer
    yield cluster
    with JetStream(cluster.brokers[0].port) as js:
        js.clear()
    await_nothing(cluster)


def leader(cluster):
    with JetStream(cluster.brokers[0].port) as js:
        return js.raw("STREAM.INFO.S")["cluster"].get("leader")


def led_by(cluster, name):
    with JetStream(cluster.brokers[0].port) as js:
        def moved():
            if leader(cluster) == name:
                return True
            js.raw("STREAM.LEADER.STEPDOWN.S", {"placement": {"preferred": name}})
            return False

        wait_until(moved, f"{name} leads the stream", 20, every=0.3)


def test_every_update_is_answered_whoever_leads(weir):
    for number, broker in enumerate(weir.brokers * 2):
        led_by(weir, broker.name)
        for asked_broker in weir.brokers:
            with JetStream(asked_broker.port) as js:
                config = {"name": "S", "subjects": ["s.>"], "num_replicas": 3, "max_msgs": 1000 + number * 10 + asked_broker.port % 7}
                answer = js.raw("STREAM.UPDATE.S", config, within=ANSWERED_WITHIN_SECONDS)
                assert answer.get("config", {}).get("max_msgs") == config["max_msgs"], answer


def test_updates_of_several_clients_are_all_answered(weir):
    trouble = []

    def update(broker, begin):
        with JetStream(broker.port) as js:
            for number in range(10):
                try:
                    answer = js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3, "max_msgs": begin + number},
                                    within=ANSWERED_WITHIN_SECONDS)
                    if "error" in answer:
                        trouble.append(answer)
                except AssertionError as failure:
                    trouble.append(str(failure))

    threads = [threading.Thread(target=update, args=(broker, index * 100 + 1)) for index, broker in enumerate(weir.brokers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble, trouble[:3]


def test_a_stream_is_published_to_and_read_through_every_server(weir):
    for number, broker in enumerate(weir.brokers):
        with JetStream(broker.port) as js:
            assert js.publish("s.a", broker.name)["seq"] == number + 1
    for broker in weir.brokers:
        with JetStream(broker.port) as js:
            created = js.raw(f"CONSUMER.CREATE.S.{broker.name}", {"stream_name": "S", "config": {
                "durable_name": broker.name, "name": broker.name, "ack_policy": "explicit"}})
            assert "error" not in created, created
            # A young consumer's leader may be found a moment later.
            messages = wait_until(lambda: [message for message in js.pull("S", broker.name, {"batch": 3, "expires": 3 * 10**9}, 3)
                                           if not message.status], "the consumer delivers")
            assert [message.payload.decode() for message in messages] == ["n1", "n2", "n3"]
            for message in messages:
                js.ack(message)
            assert js.raw(f"CONSUMER.INFO.S.{broker.name}")["ack_floor"]["stream_seq"] == 3


def test_leadership_moves_where_it_is_asked_to(weir):
    for broker in weir.brokers:
        led_by(weir, broker.name)
        with JetStream(broker.port) as js:
            assert "seq" in js.publish("s.moved", "x")


def test_info_names_the_leader_and_two_current_followers(weir):
    def current():
        with JetStream(weir.brokers[1].port) as js:
            cluster = js.raw("STREAM.INFO.S")["cluster"]
        names = {cluster["leader"], *(peer["name"] for peer in cluster["replicas"])}
        return names == {"n1", "n2", "n3"} and all(peer["current"] for peer in cluster["replicas"])

    wait_until(current, "all three are current", 10)
