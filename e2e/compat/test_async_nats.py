"""async-nats: the claims of async-nats/src/main.rs and src/bin/connections.rs."""

import os
import pathlib
import subprocess

import pytest

from claims import cache, holds, names, results

SOURCE = pathlib.Path(__file__).parent / "async-nats"
CLAIMS = names(SOURCE / "src/main.rs", r"^async fn (\w+)\(client: &Client\)")
CONNECTIONS = names(SOURCE / "src/bin/connections.rs", r"^async fn (\w+)\(doors: &Doors\)")


@pytest.fixture(scope="module")
def program():
    target = cache() / "compat-async-nats"
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--manifest-path", str(SOURCE / "Cargo.toml")], check=True, timeout=900,
                   env=os.environ | {"CARGO_TARGET_DIR": str(target)})
    return target / "debug"


@pytest.fixture(scope="module")
def answers(program, broker):
    return results([str(program / "weir-compat-async-nats"), broker.url])


@pytest.fixture(scope="module")
def connections(program, doors):
    return results([str(program / "connections"), *doors.arguments()])


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("claim", CLAIMS)
def test_async_nats(answers, claim):
    holds(answers, claim)


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("claim", CONNECTIONS)
def test_async_nats_connections(connections, claim):
    holds(connections, claim)
