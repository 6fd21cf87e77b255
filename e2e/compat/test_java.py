"""nats.java (io.nats:jnats): the claims of java/src/main/java/weir, on one connection and about connections."""

import hashlib
import pathlib
import shutil
import subprocess

import pytest

from claims import cache, holds, names, results

SOURCE = pathlib.Path(__file__).parent / "java"
CALLS = names(SOURCE / "src/main/java/weir/Calls.java", r'claims\.claim\("(\w+)"')
CONNECTIONS = names(SOURCE / "src/main/java/weir/Connections.java", r'claims\.claim\("(\w+)"')
BUILT_WITHIN_SECONDS = 300


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """The command up to the class: built by Maven, the first time with the network, then kept in the cache."""
    files = sorted(path for path in SOURCE.rglob("*") if path.is_file() and "target" not in path.parts)
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = cache() / f"compat-java-{key}"
    if not (folder / "classpath").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("target"))
        subprocess.run(["mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={cache() / 'maven'}", "compile",
                        "dependency:build-classpath", f"-Dmdep.outputFile={folder / 'classpath'}"],
                       cwd=folder, check=True, timeout=BUILT_WITHIN_SECONDS, stdin=subprocess.DEVNULL)
    return ["java", "-cp", f"{folder / 'target/classes'}:{(folder / 'classpath').read_text().strip()}"]


@pytest.fixture(scope="module")
def calls(java, broker):
    return results([*java, "weir.Calls", broker.url])


@pytest.fixture(scope="module")
def connections(java, doors):
    return results([*java, "weir.Connections", *doors.arguments()])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CALLS)
def test_java(calls, claim):
    holds(calls, claim)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CONNECTIONS)
def test_java_connections(connections, claim):
    holds(connections, claim)
