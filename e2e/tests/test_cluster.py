"""JetStream on three servers: replicated streams answer as on three real nats-servers, whichever server is asked."""

import concurrent.futures
import itertools
import time

import pytest

import binaries
import test_diff_consumers
import test_diff_publish
import test_diff_streams
from broker import wait_until
from cluster import create, take, wait_heard
from compare import difference
from jetstream import JetStream, asked

SPREADS_SECONDS = (0.15, 0.5, 2.0)

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
def clusters(start_clusters):
    """Three real nats-servers, and three of Weir."""
    return start_clusters(binaries.reference(), binaries.weir())


turns = itertools.count()


def hold(cluster, steps, port, spread_seconds):
    with JetStream(port) as js:
        try:
            answers = []
            for step in map(replicated, steps):
                answers.append(step(js) if callable(step) else js.api(*step))
                if not callable(step) and step[0].startswith("STREAM."):
                    # nats-server answers before its subjects are known at every server: a publish would find nobody.
                    time.sleep(spread_seconds)
            return without_places(answers)
        except AssertionError as failure:
            # Not equal to another.
            return [failure]
        finally:
            js.clear()
            cluster.wait_empty()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_replicated(clusters, steps):
    index = next(turns) % 3
    # The followers of nats-server lag behind its answers, the more so on a busy machine: what differs must differ however long is waited.
    for spread_seconds in SPREADS_SECONDS:
        expected, actual = (hold(cluster, steps, cluster.brokers[index].port, spread_seconds) for cluster in clusters)
        if actual == expected:
            break
    assert actual == expected, f"asked through n{index + 1}:\n{difference(expected, actual)}\n{clusters[1].logs()[-3000:]}"


@pytest.fixture
def weir(clusters):
    """Weir's cluster with the replicated stream S, which is gone afterwards."""
    cluster = clusters[1]
    with JetStream(cluster.brokers[0].port) as js:
        create(js, {"name": "S", "subjects": ["s.>"], "num_replicas": 3})
    yield cluster
    with JetStream(cluster.brokers[0].port) as js:
        js.clear()
    cluster.wait_empty()


def test_every_update_is_answered_whoever_leads(weir):
    for number, broker in enumerate(weir.brokers * 2):
        weir.lead("S", broker.name)
        for asked_broker in weir.brokers:
            with JetStream(asked_broker.port) as js:
                config = {"name": "S", "subjects": ["s.>"], "num_replicas": 3, "max_msgs": 1000 + number * 10 + asked_broker.port % 7}
                answer = js.raw("STREAM.UPDATE.S", config)
                assert answer.get("config", {}).get("max_msgs") == config["max_msgs"], answer


def test_updates_of_several_clients_are_all_answered(weir):
    trouble = []

    def update(broker, begin):
        with JetStream(broker.port) as js:
            for number in range(10):
                try:
                    answer = js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3, "max_msgs": begin + number})
                    if "error" in answer:
                        trouble.append(answer)
                except AssertionError as failure:
                    trouble.append(str(failure))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(update, weir.brokers, (1, 101, 201)))
    assert not trouble, trouble[:3]


def test_a_stream_is_published_to_and_read_through_every_server(weir):
    for number, broker in enumerate(weir.brokers):
        with JetStream(broker.port) as js:
            wait_heard(js, "s.a")
            assert js.publish("s.a", broker.name)["seq"] == number + 1
    for broker in weir.brokers:
        with JetStream(broker.port) as js:
            created = js.raw(f"CONSUMER.CREATE.S.{broker.name}", {"stream_name": "S", "config": {
                "durable_name": broker.name, "name": broker.name, "ack_policy": "explicit"}})
            assert "error" not in created, created
            messages = take(js, "S", broker.name, 3)
            assert [message.payload.decode() for message in messages] == ["n1", "n2", "n3"]
            for message in messages:
                js.ack(message)
            assert js.raw(f"CONSUMER.INFO.S.{broker.name}")["ack_floor"]["stream_seq"] == 3


def test_leadership_moves_where_it_is_asked_to(weir):
    for broker in weir.brokers:
        weir.lead("S", broker.name)
        with JetStream(broker.port) as js:
            wait_heard(js, "s.moved")
            assert "seq" in js.publish("s.moved", "x")


def test_info_names_the_leader_and_two_current_followers(weir):
    def current():
        with JetStream(weir.brokers[1].port) as js:
            cluster = asked(js, "STREAM.INFO.S").get("cluster", {})
        followers = cluster.get("replicas") or []
        names = {cluster.get("leader"), *(peer["name"] for peer in followers)}
        return names == {"n1", "n2", "n3"} and all(peer["current"] for peer in followers)

    wait_until(current, "all three are current")
