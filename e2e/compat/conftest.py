"""A broker of Weir for the clients of others: one for the module, with JetStream."""

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(binaries.weir(), tmp_path_factory.mktemp("compat"), WITH_JETSTREAM.replace("NAME", "compat"), "compat").start()
    yield broker
    broker.stop()
