"""Pairs of servers for the differential suites: Weir, and the real nats-server as the judge."""

import pathlib

import pytest

import binaries
from broker import Broker, wait_until
from jetstream import JetStream

REFERENCE_ASKED_AGAIN = 4
DEVIATIONS = binaries.REPOSITORY / "broker/docs/deviations"


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
        wait_until(lambda: not streams.exists() or not any(streams.iterdir()), "nats-server has removed the files")


def difference(expected, actual) -> str:
    """What nats-server said beside what weir said."""
    import difflib
    import pprint

    def lines(value):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        return pprint.pformat(value, width=150).splitlines()

    return "\n".join(difflib.unified_diff(lines(expected), lines(actual), "nats-server", "weir", lineterm="", n=4))


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


def pytest_collection_modifyitems(items):
    """A test that allows a deviation names the file that gives its reason."""
    for item in items:
        for marker in item.iter_markers("deviates"):
            file = DEVIATIONS / marker.args[0]
            assert file.exists(), f"{item.nodeid} refers to {file}, which does not exist"


@pytest.fixture
def both(pair):
    """Holds a conversation, a function of a JetStream connection, with both servers of the module's `pair`; no stream is left."""

    def compare(function):
        def hold(broker):
            with JetStream(broker.port) as js:
                js.port = broker.port
                try:
                    return function(js)
                finally:
                    js.clear()

        pair.same(hold)

    return compare
