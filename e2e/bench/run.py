"""Weir beside the real nats-server, alternating in one run: throughput, server CPU a message, resident memory.

Prints a table of medians and writes every figure to target/bench/. Not a proof: compare only figures of one run.
Options by environment: ROUNDS (3), SCALE (1.0, of the message counts), ONLY (comma-separated names).
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import binaries  # noqa: E402
from broker import STANDALONE, WITH_JETSTREAM, Broker  # noqa: E402
from cluster import Cluster  # noqa: E402
from contender import build_generator, generate  # noqa: E402
from jetstream import JetStream  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SCALE = float(os.environ.get("SCALE", "1"))
ONLY = set(filter(None, os.environ.get("ONLY", "").split(",")))
IDLE_SECONDS = 3
SYNC_ALWAYS = WITH_JETSTREAM.replace('store_dir: "STORE"', 'store_dir: "STORE", sync_interval: always')

# name -> (mode, size, messages, window, replicas or None without a stream, storage)
LOADS = {
    "core publish 16 B": ("publish", 16, 4_000_000, 0, None, ""),
    "core 1:1 16 B": ("deliver", 16, 2_000_000, 0, None, ""),
    "core 1:1 1 KiB": ("deliver", 1024, 400_000, 0, None, ""),
    "R1 file async 128 B": ("jetstream", 128, 300_000, 4096, 1, "file"),
    "R1 file sync 128 B": ("jetstream", 128, 2_000, 1, 1, "file"),
    "R1 memory async 128 B": ("jetstream", 128, 300_000, 4096, 1, "memory"),
    "R3 file async 128 B": ("jetstream", 128, 150_000, 4096, 3, "file"),
}


def measure(load: str, brokers: list[Broker], port: int, plan) -> dict:
    """One load on servers that run: rate and server CPU."""
    mode, size, count, window, _, _ = plan
    count = max(int(count * SCALE), 1000)
    before = sum(broker.cpu_seconds() for broker in brokers)
    values = {"address": f"127.0.0.1:{port}", "subject": "bench", "size": size, "count": count, "window": window or 1}
    try:
        result = generate(load, mode, values)
    except RuntimeError as failure:
        raise RuntimeError(f"{failure}\n{brokers[0].log_tail()}") from None
    cpu = sum(broker.cpu_seconds() for broker in brokers) - before
    return {"per_second": result["messages"] / result["seconds"], "cpu_us": cpu * 1e6 / result["messages"],
            "rss_mib": sum(broker.resident_bytes() for broker in brokers) / 2**20}


def create_stream(port: int, plan) -> str:
    """Makes the stream of the load; the name of its leader."""
    with JetStream(port) as js:
        deadline = time.monotonic() + 20
        while "error" in (answer := js.raw("STREAM.CREATE.BENCH", {"name": "BENCH", "subjects": ["bench"], "storage": plan[5],
                                                                  "num_replicas": plan[4]}, within=20)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the stream of the benchmark is refused: {answer['error']}")
            time.sleep(0.2)
        while time.monotonic() < deadline:
            cluster = js.raw("STREAM.INFO.BENCH").get("cluster") or {}
            if plan[4] == 1 or (cluster.get("leader") and all(peer["current"] for peer in cluster.get("replicas") or [])):
                return cluster.get("leader", "")
            time.sleep(0.1)
    raise RuntimeError("the stream of the benchmark has no leader")


def round_of(load: str, binary: str, config: str, plan) -> dict:
    """Servers of their own for one load, so that no load inherits another's state."""
    # A real disk, where there is one: /tmp may be memory.
    target = binaries.REPOSITORY / "target/bench"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as folder:
        directory = pathlib.Path(folder)
        if plan[4] == 3:
            cluster = Cluster(binary, directory)
            if "sync_interval" in config:
                for broker in cluster.brokers:
                    text = broker.config_path.read_text()
                    broker.config_path.write_text(text.replace("jetstream { ", "jetstream { sync_interval: always, "))
            try:
                cluster.start()
                leader = create_stream(cluster.brokers[0].port, plan)
                return measure(load, cluster.brokers, cluster.named(leader).port, plan)
            finally:
                cluster.stop()
        broker = Broker(binary, directory, config if plan[4] else STANDALONE)
        try:
            broker.start()
            if plan[4]:
                create_stream(broker.port, plan)
            return measure(load, [broker], broker.port, plan)
        finally:
            broker.stop()


def idle(binary: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(binary, pathlib.Path(folder), WITH_JETSTREAM)
        try:
            began = time.monotonic()
            broker.start()
            ready = time.monotonic() - began
            before = broker.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            return {"ready_ms": ready * 1000, "rss_mib": broker.resident_bytes() / 2**20, "cpu_percent": 100 * (broker.cpu_seconds() - before) / IDLE_SECONDS}
        finally:
            broker.stop()


def median(figures: list[dict], key: str) -> float:
    return statistics.median(figure[key] for figure in figures)


def main():
    load = build_generator()
    contenders = {
        "nats-server": (binaries.reference(), WITH_JETSTREAM),
        "nats-server, sync always": (binaries.reference(), SYNC_ALWAYS),
        "weir": (binaries.weir(), WITH_JETSTREAM),
    }
    print(f"weir: {binaries.weir()}\n{platform.processor() or platform.machine()}, {os.cpu_count()} processors, "
          f"medians of {ROUNDS} rounds; weir fsyncs before every ack, nats-server does only with sync always\n")
    header = f"{'':24} {'':26} {'messages/s':>12} {'CPU us/msg':>11} {'RSS MiB':>8}"
    print(header + "\n" + "-" * len(header))
    report: dict = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": ROUNDS, "scale": SCALE,
                    "processors": os.cpu_count(), "loads": {}, "idle": {}}
    for name, plan in LOADS.items():
        if ONLY and name not in ONLY:
            continue
        running = {who: what for who, what in contenders.items() if plan[5] == "file" or "sync" not in who}
        figures: dict[str, list[dict]] = {who: [] for who in running}
        for _ in range(ROUNDS):
            for who, (binary, config) in running.items():
                try:
                    figures[who].append(round_of(load, binary, config, plan))
                except (RuntimeError, AssertionError, subprocess.TimeoutExpired) as failure:
                    print(f"{name}, {who}: {str(failure)[:600]}", file=sys.stderr)
        report["loads"][name] = figures
        for who, rounds in figures.items():
            if rounds:
                print(f"{name:24} {who:26} {median(rounds, 'per_second'):12,.0f} {median(rounds, 'cpu_us'):11.2f} {median(rounds, 'rss_mib'):8.0f}", flush=True)
            else:
                print(f"{name:24} {who:26} {'failed':>12}", flush=True)
        if figures["weir"] and figures["nats-server"]:
            rate = median(figures["weir"], "per_second") / median(figures["nats-server"], "per_second")
            cpu = median(figures["weir"], "cpu_us") / max(median(figures["nats-server"], "cpu_us"), 1e-9)
            print(f"{'':24} {'weir / nats-server':26} {rate:12.2f} {cpu:11.2f}\n", flush=True)
    for who in ("nats-server", "weir"):
        report["idle"][who] = idle(contenders[who][0])
        print(f"{'idle with JetStream':24} {who:26} ready in {report['idle'][who]['ready_ms']:.0f} ms, RSS {report['idle'][who]['rss_mib']:.1f} MiB, "
              f"CPU {report['idle'][who]['cpu_percent']:.1f} %")
    path = binaries.REPOSITORY / "target/bench" / f"{report['started'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nall figures: {path}")


main()
