"""What a cluster tells of itself under $JS.EVENT.ADVISORY: who was elected, which stream has lost its quorum.

The same with three servers of Weir and three of nats-server. Who leads is chance, so names of servers are compared as such.
"""

import time

import pytest

import binaries
from broker import wait_until
from compare import same as held_with_both
from jetstream import JetStream
from mask import mask
from wire import Wire

CONFIG = """
accounts {
  B { jetstream: enabled, users: [ { user: b, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""
USER = {"user": "b", "pass": "p"}
SYSTEM = {"user": "s", "pass": "p"}
S = {"name": "S", "subjects": ["s"], "num_replicas": 3}
C = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit"}}
WITHIN_SECONDS = 60.0
TOLD_FROM_SECONDS = 7.0


@pytest.fixture
def clusters(start_clusters):
    return start_clusters(binaries.reference(), binaries.weir(), extra=CONFIG, user=USER)


def shown(message, names) -> dict:
    """What is told, with servers' names and peers' ids as such, the replicas in no order and without how they stand: chance."""
    body = mask(message.json())
    names = {**dict.fromkeys(names, "<server>"), **{replica["peer"]: "<peer>" for replica in body.get("replicas") or []}}
    for replica in body.get("replicas") or []:
        for varies in ("current", "offline", "lag"):
            replica.pop(varies, None)
    return named(body, names)


def named(value, names: dict):
    if isinstance(value, dict):
        return {key: named(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((named(inner, names) for inner in value), key=str)
    return names.get(value, value) if isinstance(value, str) else value


class Listener:
    """Hears advisories at one server; the last of each subject counts."""

    def __init__(self, cluster, subject: str, connect: dict, at: int = 0):
        self.names = {broker.name for broker in cluster.brokers}
        self.wire = Wire(cluster.brokers[at].port, connect)
        self.wire.subscribe(subject)
        self.wire.sync()
        self.heard = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def has(self, *subjects) -> bool:
        for message in self.wire.sync():
            self.heard[message.subject] = shown(message, self.names)
        return set(subjects) <= set(self.heard)

    def wait(self, *subjects) -> list:
        """What was told under these subjects; all of them have to be."""
        try:
            wait_until(lambda: self.has(*subjects), f"{subjects} are told", WITHIN_SECONDS, every=0.1)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; heard {sorted(self.heard)}") from None
        return [self.heard[subject] for subject in subjects]


def events(kind: str, *names: str) -> str:
    return ".".join(("$JS.EVENT.ADVISORY", kind, *names))


@pytest.fixture
def same(clusters):
    return lambda conversation: held_with_both(clusters, conversation)


def made(cluster) -> JetStream:
    js = JetStream(cluster.brokers[0].port, USER)
    assert "error" not in js.raw("STREAM.CREATE.S", S)
    wait_until(lambda: current(js), "all replicas are current", WITHIN_SECONDS, every=0.1)
    return js


def current(js) -> bool:
    replicas = js.raw("STREAM.INFO.S").get("cluster", {}).get("replicas") or []
    return len(replicas) == 2 and all(peer["current"] for peer in replicas)


ELECTED = {
    "a stream's, after a step-down": (("STREAM.LEADER_ELECTED", "S"), "STREAM.LEADER.STEPDOWN.S", None, "success"),
    "a consumer's, when it is made": (("CONSUMER.LEADER_ELECTED", "S", "C"), "CONSUMER.CREATE.S.C", C, "name"),
}


@pytest.mark.parametrize("event, subject, body, done", ELECTED.values(), ids=[name.replace(" ", "_") for name in ELECTED])
def test_a_new_leader_is_told(same, event, subject, body, done):
    def conversation(cluster):
        told = events(*event)
        with made(cluster) as js, Listener(cluster, told, USER) as listener:
            assert js.raw(subject, body).get(done)
            heard = listener.wait(told)
            js.raw("STREAM.DELETE.S")
            return heard

    same(conversation)


def test_a_new_meta_leader_is_told_to_the_system_account(same):
    def conversation(cluster):
        told = events("DOMAIN.LEADER_ELECTED")
        with JetStream(cluster.brokers[0].port, SYSTEM) as js, Listener(cluster, told, SYSTEM) as listener:
            assert js.raw("META.LEADER.STEPDOWN").get("success")
            return listener.wait(told)

    same(conversation)


@pytest.mark.timeout(180)
def test_a_stream_without_a_quorum_is_told(same):
    def conversation(cluster):
        told, began = events("STREAM.QUORUM_LOST", "S"), time.monotonic()
        with made(cluster) as js:
            leader = js.raw("STREAM.INFO.S")["cluster"]["leader"]
            at = next(index for index, broker in enumerate(cluster.brokers) if broker.name == leader)
        others = [broker for broker in cluster.brokers if broker.name != leader]
        # nats-server says nothing of a group that is younger.
        time.sleep(max(0.0, began + TOLD_FROM_SECONDS - time.monotonic()))
        with Listener(cluster, told, USER, at) as listener:
            for broker in others:
                broker.kill()
            heard = listener.wait(told)
        for broker in others:
            broker.start()
        cluster.wait_formed()
        return heard

    same(conversation)


def test_a_server_that_was_removed_is_told_to_the_system_account(same):
    def conversation(cluster):
        told = events("SERVER.REMOVED")
        leader = cluster.led()
        at = next(index for index, broker in enumerate(cluster.brokers) if broker.name == leader)
        removed = cluster.brokers[at - 1]
        with JetStream(cluster.brokers[at].port, SYSTEM) as js, Listener(cluster, told, SYSTEM, at) as listener:
            answer = js.api("SERVER.REMOVE", {"peer": removed.name})
            return answer, listener.wait(told), "JetStream being DISABLED" in removed.log()

    same(conversation)
