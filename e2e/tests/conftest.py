"""Pairs of servers for the differential suites: Weir, and the real nats-server as the judge."""

import pathlib

import pytest

import binaries
import numbered
from broker import WITH_JETSTREAM, Broker, free_port, wait_until
from certificates import Authority
from cluster import Cluster, place_first
from compare import REFERENCE_ASKED_AGAIN, as_nats_server, difference
from jetstream import held
from ocsp import Responder

DEVIATIONS = binaries.REPOSITORY / "broker/docs/deviations"


def is_empty(folder: pathlib.Path) -> bool:
    """Whether nothing is in it, or it is not there; it may go while it is looked at."""
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True


class Pair:
    """The same config, run by both programs."""

    keeps_streams = False

    def __init__(self, directory: pathlib.Path, config: str):
        self.reference = Broker(binaries.reference(), directory, config, "reference")
        self.weir = Broker(binaries.weir(), directory, config, "weir")
        # Both are asked for the same name, since some answers hold it.
        for broker in self.servers:
            broker.write_config(config.replace("NAME", "subject"))

    @property
    def servers(self) -> tuple[Broker, Broker]:
        return self.reference, self.weir

    def start(self) -> "Pair":
        for broker in self.servers:
            broker.start()
        return self

    def stop(self):
        for broker in self.servers:
            broker.stop()

    def same(self, conversation):
        """Holds `conversation(broker)` with both; Weir's transcript must be one that nats-server gives.

        Some of nats-server's answers hang on the order of a Go map or on the time its goroutines get, so a difference is
        asked again: of nats-server only, whose set of answers is what a client has to live with. Weir answers once.
        """
        expected = self._hold_with_reference(conversation)
        actual = conversation(self.weir)
        assert self.weir.running, f"weir ended\n{self.weir.log_tail()}"
        if actual == expected:
            return
        failure = f"\n{difference(expected, actual)}\n{self.weir.log_tail()[-1500:]}"
        for _ in range(REFERENCE_ASKED_AGAIN):
            try:
                if actual == self._hold_with_reference(conversation):
                    return
            except AssertionError as refusal:
                failure += f"\nasked again, nats-server's conversation fails: {refusal}"
                break
        raise AssertionError(failure)

    def _hold_with_reference(self, conversation):
        transcript = conversation(self.reference)
        if not self.keeps_streams:
            self._await_deletions()
        return transcript

    def _await_deletions(self):
        # nats-server removes a deleted stream's files later: a new stream of that name may find old messages.
        streams = self.reference.store / "jetstream/$G/streams"
        wait_until(lambda: is_empty(streams), "nats-server has removed the files")


class WebPair(Pair):
    """A pair whose servers have a WebSocket port each: WEBSOCKET in the configuration."""

    def __init__(self, directory: pathlib.Path, config: str):
        super().__init__(directory, config)
        for broker in self.servers:
            broker.websocket = free_port()
            broker.write_config(broker.config_path.read_text().replace("WEBSOCKET", str(broker.websocket)))


@pytest.fixture(scope="module")
def start_pair(tmp_path_factory):
    """Starts pairs that live as long as the module."""
    started: list[Pair] = []

    def start(config: str) -> Pair:
        pair = Pair(tmp_path_factory.mktemp("pair"), config)
        started.append(pair)
        return pair.start()

    yield start
    for pair in started:
        pair.stop()


@pytest.fixture(scope="module")
def start_clusters(tmp_path_factory):
    """Starts clusters of these binaries that live as long as the module; replicated streams can be made in each."""
    started: list[Cluster] = []

    def start(*programs: str, extra: str = "", user: dict | None = None) -> list[Cluster]:
        clusters = [Cluster(binary, tmp_path_factory.mktemp("cluster"), extra=extra) for binary in programs]
        started.extend(clusters)
        for cluster in clusters:
            cluster.start()
            place_first(cluster.brokers[0].port, user)
        return clusters

    yield start
    for cluster in started:
        cluster.stop()


def pytest_collection_modifyitems(items):
    """A test that allows a deviation names the file that gives its reason."""
    for item in items:
        for marker in item.iter_markers("deviates"):
            file = DEVIATIONS / marker.args[0]
            assert file.exists(), f"{item.nodeid} refers to {file}, which does not exist"


@pytest.fixture
def make_pair(tmp_path):
    """Makes pairs that live as long as the test; what it makes is started by itself but for `start=False`."""
    made: list[Pair] = []

    def make(config: str, kind=Pair, start: bool = True) -> Pair:
        made.append(kind(tmp_path, config))
        return made[-1].start() if start else made[-1]

    yield make
    for pair in made:
        pair.stop()


@pytest.fixture
def running():
    """Starts servers, and ends them after the test."""
    started: list[Broker] = []

    def start(*brokers: Broker) -> list[Broker]:
        started.extend(brokers)
        return [broker.start() for broker in brokers]

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def start_both(tmp_path, running):
    """Starts both programs with one text, for the functions of `compare`: [nats-server, weir]."""
    def start(config: str, programs=None) -> list[Broker]:
        programs = programs or (binaries.reference(), binaries.weir())
        return running(*(Broker(program, tmp_path, config, name) for name, program in zip(("reference", "weir"), programs)))

    return start


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Both under the name nats-server: [nats-server, weir]."""
    return [as_nats_server(tmp_path_factory.mktemp("program"), binary) for binary in (binaries.reference(), binaries.weir())]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    """Signs certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority):
    """A certificate for servers."""
    return authority.issue("server")


@pytest.fixture
def responder(authority):
    """Tells of the authority's certificates whether they are good."""
    made = Responder(authority)
    yield made
    made.stop()


@pytest.fixture
def single(tmp_path):
    """A server on its own with a filled stream (`numbered`)."""
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, "single")
    try:
        broker.start()
        numbered.create_stream(broker.port, 1)
        numbered.publish(broker.port)
        yield broker
    finally:
        broker.stop()
        print(broker.log_tail())


@pytest.fixture
def trio(tmp_path):
    """Three servers with a filled stream (`numbered`) on all of them."""
    cluster = Cluster(binaries.weir(), tmp_path)
    try:
        port = cluster.start().brokers[0].port
        numbered.create_stream(port, 3)
        numbered.publish(port)
        numbered.await_replicas(port)
        yield cluster
    finally:
        cluster.stop()
        print(cluster.logs())


@pytest.fixture
def both(pair):
    """Holds a conversation, a function of a JetStream connection, with both servers of the module's `pair`; no stream is left."""
    return lambda function: pair.same(held(function))
