"""@nats-io/transport-node with jetstream and kv: the claims of node/smoke.mjs."""

import hashlib
import shutil
import subprocess

import pytest

from claims import HERE, cache, holds, names, results

SOURCE = HERE / "node"
CLAIMS = names(SOURCE / "smoke.mjs", r"^  async (\w+)\(")


@pytest.fixture(scope="module")
def installed():
    """A folder in the cache with the packages of the lock file."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256((node + (SOURCE / "package-lock.json").read_text()).encode()).hexdigest()[:16]
    folder = cache() / f"node-{key}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCE / name, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True, timeout=300)
        (folder / "complete").touch()
    shutil.copy(SOURCE / "smoke.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def answers(installed, broker):
    return results(["node", str(installed / "smoke.mjs"), broker.url])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CLAIMS)
def test_transport_node(answers, claim):
    holds(answers, claim)
