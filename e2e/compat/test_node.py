"""@nats-io/transport-node with jetstream and kv: the claims of node/smoke.mjs."""

import pathlib

import pytest

from claims import holds, names, results
from npm import installed

SOURCE = pathlib.Path(__file__).parent / "node"
CLAIMS = names(SOURCE / "smoke.mjs", r"^  async (\w+)\(")


@pytest.fixture(scope="module")
def answers(broker):
    return results(["node", str(installed(SOURCE) / "smoke.mjs"), broker.url])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CLAIMS)
def test_transport_node(answers, claim):
    holds(answers, claim)
