"""Servers with JetStream under load: started for one load on a real disk, their streams made and filled, measured, ended.

Not which loads there are, and not how they are judged.
"""

import contextlib
import pathlib
import subprocess
import tempfile
import time

import stream_workloads as workloads
from contender import Started, generate, programs, repository

from broker import Broker, wait_until  # noqa: E402
from cluster import Cluster  # noqa: E402
from jetstream import JetStream  # noqa: E402

MADE_WITHIN_SECONDS = 30
SYNC_ALWAYS = ("jetstream { ", "jetstream { sync_interval: always, ")


class Servers(Started):
    """One server, or three in a cluster, of one contender."""

    def __init__(self, who: str, size: int = 1):
        binaries = programs()
        binary = binaries["weir" if who == workloads.WEIR else "nats-server"]
        # Where the checkout is: /tmp may be memory.
        target = repository() / "target/bench"
        target.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=target)
        folder = pathlib.Path(self._folder.name)
        self.cluster = Cluster(binary, folder, size) if size > 1 else None
        self.brokers = self.cluster.brokers if self.cluster else [Broker(binary, folder, workloads.STANDALONE)]
        if who == workloads.ALWAYS:
            for broker in self.brokers:
                text = broker.config_path.read_text()
                assert SYNC_ALWAYS[0] in text, text
                broker.config_path.write_text(text.replace(*SYNC_ALWAYS))

    @property
    def first(self) -> Broker:
        return self.brokers[0]

    def api(self, subject: str, body=None, within: float = 20.0) -> dict:
        with JetStream(self.first.port) as js:
            return js.raw(subject, body, within=within)

    def make_stream(self, config: dict, replicas: int = 1) -> Broker:
        """Makes a stream and waits for its leader; the server to publish to."""
        def made():
            answer = self.api(f"STREAM.CREATE.{config['name']}", config | {"num_replicas": replicas})
            if "error" in answer and not self.cluster:
                raise RuntimeError(f"the stream is refused: {answer['error']}")
            return "error" not in answer

        wait_until(made, f"stream {config['name']} is made", MADE_WITHIN_SECONDS)
        return self.leader(config["name"], replicas)

    def leader(self, stream: str, replicas: int) -> Broker:
        if replicas == 1:
            return self.first

        def led():
            cluster = self.api(f"STREAM.INFO.{stream}").get("cluster") or {}
            peers = cluster.get("replicas") or []
            return cluster.get("leader") if len(peers) == replicas - 1 and all(peer["current"] for peer in peers) else None

        return self.cluster.named(wait_until(led, f"{stream} has a leader and all replicas", MADE_WITHIN_SECONDS))

    def make_consumer(self, stream: str, config: dict):
        answer = self.api(f"CONSUMER.DURABLE.CREATE.{stream}.{config['durable_name']}", {"stream_name": stream, "config": config})
        if "error" in answer:
            raise RuntimeError(f"the consumer is refused: {answer['error']}")

    def fill(self, generator: str, port: int, values: dict):
        generate(generator, "stored", {"address": f"127.0.0.1:{port}", "expected": "ack", "window": 4096} | values)


def measure(generator: str, who: str, load: workloads.Load, count: int, traced: bool = False) -> dict:
    """One load on servers of its own."""
    with Servers(who, load.replicas) as servers:
        for config in load.streams:
            leader = servers.make_stream(config, load.replicas)
        if load.fill is not None:
            servers.fill(generator, leader.port, {"count": count} | load.fill)
        if load.consumer:
            servers.make_consumer(load.streams[0]["name"], load.consumer)
        values = {"address": f"127.0.0.1:{leader.port}", "count": count} | load.values
        before = servers.cpu_seconds()
        with trace(servers) if traced else contextlib.nullcontext({}) as syncs:
            try:
                result = generate(generator, load.mode, values)
            except (RuntimeError, subprocess.TimeoutExpired) as failure:
                raise RuntimeError(f"{failure}\n{leader.log_tail()}") from None
            if load.consumer:
                await_acks(servers, load)
        cpu = servers.cpu_seconds() - before
        return {"per_second": result["messages"] / result["seconds"], "cpu_us": cpu * 1e6 / result["messages"],
                "rss_mib": servers.resident_mib(), "messages": result["messages"], "generator_cpu_us": result["generator_cpu_seconds"] * 1e6 / result["messages"],
                "busiest_thread": result["busiest_thread"]} | {name: value for name, value in result.items() if name.startswith("p")} | syncs


def await_acks(servers: Servers, load: workloads.Load):
    stream, consumer = load.streams[0]["name"], load.consumer["durable_name"]

    def acked():
        info = servers.api(f"CONSUMER.INFO.{stream}.{consumer}")
        return info["num_ack_pending"] == 0 and info["num_pending"] == 0

    wait_until(acked, "every ack has arrived", 30)


@contextlib.contextmanager
def trace(servers: Servers):
    """Counts the fsyncs and fdatasyncs that each server completes meanwhile."""
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / broker.name for broker in servers.brokers]
        tracers = [subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(path), "-p", str(broker.process.pid)],
                                    stderr=subprocess.DEVNULL) for path, broker in zip(paths, servers.brokers)]
        try:
            for broker in servers.brokers:
                wait_until(lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{broker.process.pid}/status").read_text(),
                           "strace has attached")
            yield found
        finally:
            for tracer in tracers:
                tracer.terminate()
                tracer.wait()
        found["syncs"] = sorted(sum("= 0" in line for line in path.read_text().splitlines()) for path in paths)


def idle_cpu_percent(servers: Servers, seconds: float) -> float:
    before, began = servers.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return 100 * (servers.cpu_seconds() - before) / (time.monotonic() - began)
