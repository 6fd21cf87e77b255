"""A broker process on loopback: started with a config, awaited, stopped, killed, started again on its store.

Not a client, and it does not know which program it runs: `binaries` does.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

# Generous: on a machine whose only core is busy everything takes long, and who need not wait does not.
WITHIN_SECONDS = 30.0
READY_WITHIN_SECONDS = 40.0
STOPPED_WITHIN_SECONDS = 30.0
SHOWN_LOG_BYTES = 6_000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class BrokerFailure(AssertionError):
    """The broker did not do what the harness waited for; the text ends with the tail of its log."""


def wait_until(condition, what: str, within: float = WITHIN_SECONDS, every: float = 0.02):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)


# Below the ports that the kernel gives to outgoing connections: one of those could take a port before its server binds it.
PORTS = range(12_000, 30_000)
_reservations = open(pathlib.Path(tempfile.gettempdir()) / f"weir-test-ports.{os.getuid()}", "ab")
_handed_out: set[int] = set()


def free_port() -> int:
    """A port nobody listens on now, and that no run on this machine has been handed while it lasts."""
    for port in random.sample(PORTS, len(PORTS)):
        if port not in _handed_out and _reserve(port):
            _handed_out.add(port)
            return port
    raise AssertionError(f"no port is free in {PORTS}")


def _reserve(port: int) -> bool:
    # A lock on one byte of a shared file for each port: it ends with this process, however that ends.
    try:
        fcntl.lockf(_reservations, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_the_tests():
    # A run that is killed must not leave brokers behind.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Broker:
    """One server. `config` is the text of its config file; PORT, HTTP, CLUSTER, GRPC, STORE and NAME in it are filled in."""

    def __init__(self, binary: str, directory: pathlib.Path, config: str, name: str = "one"):
        self.binary = binary
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self.http, self.cluster, self.grpc = (free_port() for _ in range(4))
        self.store = self.directory / "store"
        self.log_path = self.directory / "log"
        self.config_path = self.directory / "broker.conf"
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.write_config(config)

    def write_config(self, config: str):
        """Writes the config file; a running broker reads it on reload only."""
        values = {
            "PORT": self.port, "HTTP": self.http, "CLUSTER": self.cluster,
            "GRPC": self.grpc, "STORE": self.store, "NAME": self.name,
        }
        self.config_path.write_text(re.sub(r"\b(PORT|HTTP|CLUSTER|GRPC|STORE|NAME)\b",
                                           lambda found: str(values[found.group(1)]), config))

    def start(self, *arguments: str, wait: bool = True) -> "Broker":
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.starts += 1
        with open(self.log_path, "ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [self.binary, "-c", str(self.config_path), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                preexec_fn=_die_with_the_tests,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, within: float = READY_WITHIN_SECONDS):
        """Waits for the line that tools wait for, and for the port behind it."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokerFailure(f"{self.name} ended with {self.process.returncode} at its start\n{self.log_tail()}")
            if "Server is ready" in self.log_since_start():
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    return
            time.sleep(0.01)
        raise BrokerFailure(f"{self.name} was not ready within {within:g} s\n{self.log_tail()}")

    def signal(self, number: int):
        self.process.send_signal(number)

    @contextlib.contextmanager
    def paused(self):
        """Its process stands still meanwhile; its kernel does not."""
        self.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: re.search(r"State:\s+T", pathlib.Path(f"/proc/{self.process.pid}/status").read_text()), f"{self.name} stands still")
            yield
        finally:
            self.signal(signal.SIGCONT)

    def wait_exit(self, within: float = STOPPED_WITHIN_SECONDS) -> int:
        try:
            return self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            raise BrokerFailure(f"{self.name} still ran {within:g} s later\n{self.log_tail()}") from None

    def stop(self) -> int | None:
        """Ends it as a service manager would; kills it when it does not go. Returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self):
        """kill -9, and waits until the process is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_since_start(self) -> str:
        with open(self.log_path, "rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self) -> str:
        return f"--- {self.name}: {self.config_path}\n{self.log()[-SHOWN_LOG_BYTES:]}"

    def get(self, path: str, within: float = 5.0) -> tuple[int, str]:
        """Status and body of a monitoring endpoint."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=within) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def get_json(self, path: str) -> dict:
        status, body = self.get(path)
        assert status == 200, f"{path}: {status} {body}"
        return json.loads(body)

    def connection(self, cid: int, state: str) -> dict:
        """A client as /connz lists it, once it does."""
        def listed():
            connections = self.get_json(f"/connz?auth=1&state={state}&limit=4096")["connections"]
            return next((one for one in connections if one["cid"] == cid), None)

        return wait_until(listed, f"connection {cid} is listed as {state}")

    def cpu_seconds(self) -> float:
        """User and system time this process has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


STANDALONE = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
"""

WITH_JETSTREAM = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 256MB, max_file_store: 4GB }
"""
