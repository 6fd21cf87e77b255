"""@nats-io/transport-node with jetstream and kv, and over WebSocket: the claims of node/smoke.mjs and connections.mjs."""

import pathlib

import pytest

from claims import holds, names, results
from npm import installed

SOURCE = pathlib.Path(__file__).parent / "node"
CLAIMS = names(SOURCE / "smoke.mjs", r"^  async (\w+)\(")
CONNECTIONS = names(SOURCE / "connections.mjs", r"^  async (\w+)\(")


@pytest.fixture(scope="module")
def answers(broker):
    return results(["node", str(installed(SOURCE) / "smoke.mjs"), broker.url])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CLAIMS)
def test_transport_node(answers, claim):
    holds(answers, claim)


@pytest.fixture(scope="module")
def connections(doors):
    return results(["node", "--experimental-websocket", str(installed(SOURCE) / "connections.mjs"), *doors.arguments()])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CONNECTIONS)
def test_node_connections(connections, claim):
    holds(connections, claim)
