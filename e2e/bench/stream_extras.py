"""What is measured otherwise than by one run of the generator: restarts, many idle streams, purges beside publishes.

Each is (name, contenders, figure(who), bars). Not how figures are judged.
"""

import signal
import threading
import time

import stream_workloads as workloads
from contender import generate
from stream_servers import Servers, idle_cpu_percent

from broker import wait_until
from jetstream import JetStream

IDLE_SECONDS = 10.0
PROBES = 600
READY_WITHIN_SECONDS = 300


def loads(generator: str, scale: float):
    both = [workloads.DEFAULT, workloads.WEIR]
    restart = max(int(workloads.RESTART_MESSAGES * scale), 10_000)
    yield "restart, clean", both, lambda who: restarted(generator, who, restart, signal.SIGTERM), workloads.RESTART_BARS
    yield "restart, kill -9", both, lambda who: restarted(generator, who, restart, signal.SIGKILL), workloads.RESTART_BARS
    streams = max(int(workloads.IDLE_STREAMS * scale), 10)
    yield f"{streams} idle R1 streams", both, lambda who: idle(who, streams, 1), workloads.IDLE_BARS
    replicated = max(int(workloads.REPLICATED_STREAMS * scale), 10)
    yield f"{replicated} idle R3 streams", both, lambda who: idle(who, replicated, 3), workloads.REPLICATED_BARS
    purged = max(int(workloads.PURGE_MESSAGES * scale), 10_000)
    for verb in ("PURGE", "DELETE"):
        yield f"{verb.lower()} beside publishes", [workloads.WEIR, "before"], Beside(generator, purged, verb), (
            ("p99_us", "<=", workloads.PURGE_FACTOR, "before"),)


def restarted(generator: str, who: str, messages: int, how: int) -> dict:
    """From the start of the process to the answer that has every message."""
    with Servers(who) as servers:
        servers.make_stream(workloads.stream())
        servers.fill(generator, servers.first.port, {"count": messages, "size": 64, "subject": "bench"})
        servers.first.signal(how)
        servers.first.wait_exit()
        began = time.monotonic()
        servers.first.start(wait=False)
        servers.first.wait_ready(READY_WITHIN_SECONDS)

        def whole():
            answer = servers.api("STREAM.INFO.BENCH")
            return answer.get("state", {}).get("messages") == messages

        wait_until(whole, f"all {messages} messages are there again", READY_WITHIN_SECONDS, every=0.005)
        return {"restart_ms": (time.monotonic() - began) * 1000, "rss_mib": servers.resident_mib()}


def idle(who: str, streams: int, replicas: int) -> dict:
    """So many streams with consumers, nothing happening: the time to make them, processor and memory."""
    with Servers(who, 3 if replicas > 1 else 1) as servers, JetStream(servers.first.port) as js:
        began = time.monotonic()
        for number in range(streams):
            asked(js, f"STREAM.CREATE.S{number}", {"name": f"S{number}", "subjects": [f"s.{number}"], "num_replicas": replicas})
            for consumer in range(workloads.IDLE_CONSUMERS):
                name = f"c{consumer}"
                asked(js, f"CONSUMER.DURABLE.CREATE.S{number}.{name}", {"stream_name": f"S{number}", "config": {"durable_name": name, "ack_policy": "explicit"}})
        made = time.monotonic() - began
        time.sleep(2)
        return {"create_s": made, "idle_cpu_percent": idle_cpu_percent(servers, IDLE_SECONDS), "rss_mib": servers.resident_mib()}


def asked(js: JetStream, subject: str, body: dict):
    answer = js.raw(subject, body, within=30)
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")


class Beside:
    """p99 of one publisher to another stream: before, and while a large one is purged or deleted."""

    def __init__(self, generator: str, messages: int, verb: str):
        self.generator, self.messages, self.verb = generator, messages, verb
        self.kept: dict | None = None

    def __call__(self, who: str) -> dict:
        """Both come from one run of Weir: the first call measures, the second hands out the other half."""
        if self.kept is None:
            before, during = self.run()
            self.kept = {workloads.WEIR: during, "before": before}
        figures = self.kept.pop(who)
        if not self.kept:
            self.kept = None
        return figures

    def run(self) -> tuple[dict, dict]:
        with Servers(workloads.WEIR) as servers:
            servers.make_stream(workloads.stream())
            servers.make_stream(workloads.stream("OTHER", subject="other"))
            servers.fill(self.generator, servers.first.port, {"count": self.messages, "size": 64, "subject": "bench"})
            before = self.probe(servers)
            answer: dict = {}
            purge = threading.Thread(target=lambda: answer.update(servers.api(f"STREAM.{self.verb}.BENCH", within=120)))
            purge.start()
            during = self.probe(servers)
            purge.join()
            if not answer.get("success"):
                raise RuntimeError(f"{self.verb}: {answer}")
            return before, during

    def probe(self, servers: Servers) -> dict:
        result = generate(self.generator, "request", {
            "address": f"127.0.0.1:{servers.first.port}", "subject": "other", "expected": "ack", "responders": 0, "count": PROBES})
        return {name: value for name, value in result.items() if name.startswith("p")}
