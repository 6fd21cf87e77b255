"""async-nats: the claims of async-nats/src/main.rs."""

import os
import pathlib
import subprocess

import pytest

from claims import cache, holds, names, results

SOURCE = pathlib.Path(__file__).parent / "async-nats"
CLAIMS = names(SOURCE / "src/main.rs", r"^async fn (\w+)\(client: &Client\)")


@pytest.fixture(scope="module")
def program():
    target = cache() / "compat-async-nats"
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--manifest-path", str(SOURCE / "Cargo.toml")], check=True, timeout=900,
                   env=os.environ | {"CARGO_TARGET_DIR": str(target)})
    return target / "debug/weir-compat-async-nats"


@pytest.fixture(scope="module")
def answers(program, broker):
    return results([str(program), broker.url])


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("claim", CLAIMS)
def test_async_nats(answers, claim):
    holds(answers, claim)
