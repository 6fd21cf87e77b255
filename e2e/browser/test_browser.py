"""The sample manifests/samples/browser-push on three brokers, in a headless Chromium: the claims of drive.mjs.

Pictures of the page are left in the folder that BROWSER_SHOTS names, else in the test's temporary one.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import binaries
from broker import Broker, free_port, wait_until
from claims import holds, names, results
from npm import installed

SOURCE = pathlib.Path(__file__).parent
SAMPLE = binaries.REPOSITORY / "manifests/samples/browser-push"
CLAIMS = names(SOURCE / "drive.mjs", r"^  async (\w+)\(\) \{")
PAGE_WITHIN_SECONDS = 45


class SampleBroker(Broker):
    """A broker on a config that the sample's setup wrote."""

    def __init__(self, folder: pathlib.Path, name: str, port: int):
        super().__init__(binaries.weir(), folder, "", name)
        self.port = port
        self.directory = folder
        self.config_path = folder / f"{name}.conf"


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's path. Without one the suite is skipped, but not in CI, where that would go unnoticed."""
    candidates = [os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    for path in filter(None, candidates):
        # Some systems have a program of that name which only says how to get the browser.
        if subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
            return path
    why = "there is no Chromium: e2e/deps installs Debian's, and CHROMIUM names any other"
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


@pytest.fixture(scope="module")
def sample(tmp_path_factory, chromium):
    """Three brokers and the backend: (the page's address, the brokers)."""
    program, folder = installed(SAMPLE), tmp_path_factory.mktemp("browser")
    ports = [[free_port() for _ in range(5)] for _ in range(3)]
    page = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"PORTS": json.dumps(ports), "ORIGIN": page, "FOR": "nats-server" if binaries.weir_is_reference() else "weir"}
    subprocess.run(["node", str(program / "setup.mjs"), str(folder)], check=True, env=environment, timeout=30, capture_output=True)
    brokers = [SampleBroker(folder, f"n{index + 1}", client) for index, (client, *_) in enumerate(ports)]
    log = folder / "backend.log"
    backend = None
    try:
        for broker in brokers:
            broker.start(wait=False)
        for broker in brokers:
            broker.wait_ready()
        with open(log, "wb") as output:
            backend = subprocess.Popen(["node", str(program / "backend.mjs"), str(folder), page.rsplit(":")[-1]],
                                       stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        wait_until(lambda: backend.poll() is not None or "Page on" in log.read_text(), "the page is served", PAGE_WITHIN_SECONDS)
        assert backend.poll() is None, log.read_text() + "".join(broker.log_tail() for broker in brokers)
        yield page, brokers
    finally:
        if backend:
            backend.kill()
            backend.wait()
        for broker in brokers:
            broker.stop()


@pytest.fixture(scope="module")
def answers(sample, chromium, tmp_path_factory):
    page, brokers = sample
    shots = pathlib.Path(os.environ.get("BROWSER_SHOTS") or tmp_path_factory.mktemp("shots"))
    ids = {broker.name: broker.process.pid for broker in brokers}
    return results(["env", f"CHROMIUM={chromium}", "node", str(installed(SOURCE) / "drive.mjs"), page + "/", json.dumps(ids), str(shots)])


@pytest.mark.timeout(420)
@pytest.mark.parametrize("claim", CLAIMS)
def test_browser(answers, claim):
    holds(answers, claim)
