"""Brokers of Weir for the clients of others: one with JetStream for a module, and all ways in for the session."""

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker
from doors import Doors


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(binaries.weir(), tmp_path_factory.mktemp("compat"), WITH_JETSTREAM.replace("NAME", "compat"), "compat").start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def doors(tmp_path_factory):
    doors = Doors(binaries.weir(), tmp_path_factory.mktemp("doors"))
    yield doors
    doors.stop()
