"""Servers under load: started for one load, measured, ended. Not which loads there are."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import binaries  # noqa: E402
from broker import Broker, free_port  # noqa: E402
from cluster import Cluster  # noqa: E402

LOAD_WITHIN_SECONDS = 300
SETTLE_SECONDS = 2.0


def build_generator() -> str:
    """Builds the load generator (once); the path of the program."""
    target = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "weir/bench-load"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", str(HERE / "load/Cargo.toml")],
                   check=True, env=os.environ | {"CARGO_TARGET_DIR": str(target)})
    return str(target / "release/weir-load")


def words(values: dict) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def generate(generator: str, mode: str, values: dict) -> dict:
    """Runs the generator to its end; what it has measured."""
    done = subprocess.run([generator, mode, *words(values)], capture_output=True, text=True, timeout=LOAD_WITHIN_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{mode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


class Started:
    """Servers that run while it is entered: `brokers`, of a `cluster` or alone, in a `_folder` that goes with them."""

    def __enter__(self):
        try:
            if self.cluster:
                self.cluster.start()
            else:
                self.brokers[0].start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for broker in self.brokers:
            broker.stop()
        self._folder.cleanup()

    def cpu_seconds(self) -> float:
        return sum(broker.cpu_seconds() for broker in self.brokers)

    def resident_mib(self) -> float:
        return sum(broker.resident_bytes() for broker in self.brokers) / 2**20


class Contender(Started):
    """The servers of one program, for one load, in a folder of their own."""

    def __init__(self, binary: str, workload):
        self.workload = workload
        self._folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self._folder.name)
        self.web = free_port()
        if "FOLDER" in workload.config:
            make_certificate(folder)
        self.cluster = None
        if workload.servers > 1:
            self.cluster = Cluster(binary, folder, workload.servers, jetstream=False)
            self.brokers = self.cluster.brokers
        else:
            config = workload.config.replace("FOLDER", str(folder)).replace("WSPORT", str(self.web))
            self.brokers = [Broker(binary, folder, config)]

    def peak_mib(self) -> float:
        """The most memory that was resident at once."""
        return sum(peak_kib(broker.process.pid) for broker in self.brokers) / 1024

    def addresses(self) -> dict:
        if self.workload.transport == "ws":
            return {"address": f"127.0.0.1:{self.web}"}
        values = {"address": f"127.0.0.1:{self.brokers[0].port}"}
        if self.cluster:
            values["subscribe_at"] = f"127.0.0.1:{self.brokers[1].port}"
        return values

    def load(self, generator: str, count: int, **more) -> dict:
        """One load: rate, CPU a message over all servers, memory, and what the generator itself used."""
        values = self.addresses() | {"transport": self.workload.transport, "count": count} | self.workload.values | more
        before = self.cpu_seconds()
        try:
            result = generate(generator, self.workload.mode, values)
        except (RuntimeError, subprocess.TimeoutExpired) as failure:
            raise RuntimeError(f"{failure}\n{self.brokers[0].log_tail()}") from None
        cpu = self.cpu_seconds() - before
        figures = {
            "per_second": result["messages"] / result["seconds"],
            "cpu_us": cpu * 1e6 / result["messages"],
            "rss_mib": self.resident_mib(),
            "generator_cpu_us": result["generator_cpu_seconds"] * 1e6 / result["messages"],
            "busiest_thread": result["busiest_thread"],
        }
        return figures | {name: value for name, value in result.items() if name.startswith("p")}

    def idle(self, generator: str, connections: int) -> dict:
        """Memory with so many connections that do nothing, some time after the last came."""
        before = self.resident_mib()
        values = self.addresses() | {"connections": connections}
        with subprocess.Popen([generator, "idle", *words(values)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as process:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"idle: the generator ended with {process.wait()}\n{self.brokers[0].log_tail()}")
            time.sleep(SETTLE_SECONDS)
            cpu = self.cpu_seconds()
            time.sleep(SETTLE_SECONDS)
            figures = {"rss_mib": self.resident_mib(), "before_mib": before,
                       "cpu_percent": 100 * (self.cpu_seconds() - cpu) / SETTLE_SECONDS}
            process.stdin.close()
        return figures | {"kib_each": (figures["rss_mib"] - before) * 1024 / connections}


def peak_kib(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def make_certificate(folder: pathlib.Path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "30",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)


def programs() -> dict:
    return {"nats-server": binaries.reference(), "weir": binaries.weir()}


def repository() -> pathlib.Path:
    return binaries.REPOSITORY
