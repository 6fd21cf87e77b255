"""Core NATS: Weir beside the real nats-server 2.15.1, in alternating pairs, judged by the bars of `workloads`.

Prints a table, writes every figure to target/bench/core.json and a chart to target/bench/core.svg.
Compare only figures of one run. Options by environment: ROUNDS (5 pairs), SCALE (1.0, of the message counts),
ONLY (names separated by commas). Exit status 1 when a bar is not met.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import chart
import workloads
from contender import Contender, build_generator, generate, programs, repository
from judge import FIGURES, Verdict, judge, median, ratio

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SCALE = float(os.environ.get("SCALE", "1"))
ONLY = {name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()}


def wanted(workload) -> bool:
    return not ONLY or workload.name in ONLY


def count_of(workload) -> int:
    return max(int(workload.count * SCALE), 1000)


def alternate(binaries: dict, measure, name: str, times: int) -> list[tuple[dict, dict]]:
    """Pairs of (nats-server, Weir), who is first changing from pair to pair."""
    pairs = []
    for number in range(ROUNDS * times):
        order = list(binaries) if number % 2 == 0 else list(reversed(binaries))
        figures = {}
        for who in order:
            try:
                figures[who] = measure(binaries[who])
            except (RuntimeError, AssertionError) as failure:
                print(f"{name}, {who}: {str(failure)[:1500]}", file=sys.stderr, flush=True)
                return pairs
        pairs.append((figures["nats-server"], figures["weir"]))
    return pairs


def show(name: str, pairs, verdicts: list[Verdict]):
    columns = list(FIGURES)
    for side, who in enumerate(("nats-server", "weir")):
        cells = [median([pair[side] for pair in pairs], column) for column in columns]
        shown = " ".join(f"{'' if cell is None else format_figure(column, cell):>12}" for column, cell in zip(columns, cells))
        print(f"{name if side == 0 else '':20} {who:12} {shown}")
    shown = " ".join(f"{'' if (r := ratio(column, pairs)) is None else f'{r.median:.2f}':>12}" for column in columns)
    print(f"{'':20} {'ratio':12} {shown}")
    for verdict in verdicts:
        print(f"{'':33} {verdict}  {'' if verdict.ratio is None else f'spread {verdict.ratio.low:.2f}..{verdict.ratio.high:.2f}'}")
    if any("busiest_thread" in weir for _, weir in pairs):
        each = [(median([pair[side] for pair in pairs], "generator_cpu_us"), median([pair[side] for pair in pairs], "busiest_thread")) for side in (0, 1)]
        print(f"{'':33} generator: {each[0][0]:.2f} / {each[1][0]:.2f} us/msg, its busiest thread {each[0][1]:.0%} / {each[1][1]:.0%} busy")
    print(flush=True)


def format_figure(column: str, value: float) -> str:
    return f"{value:,.0f}" if column == "per_second" else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def sink_speed(generator: str) -> dict:
    """How fast the generator is when the server does next to nothing."""
    figures = {}
    for name, mode, size, count in (("publish 16 B", "publish", 16, 10_000_000), ("receive 16 B", "deliver", 16, 5_000_000),
                                    ("receive 16 KiB", "deliver", 16384, 150_000)):
        count = max(int(count * SCALE), 1000)
        with subprocess.Popen([generator, "sink", f"count={count}", f"size={size}"], stdout=subprocess.PIPE, text=True) as sink:
            try:
                port = json.loads(sink.stdout.readline())["port"]
                result = generate(generator, mode, {"address": f"127.0.0.1:{port}", "size": size, "count": count})
                figures[name] = result["messages"] / result["seconds"]
            finally:
                sink.kill()
    return figures


def run_loads(generator: str, binaries: dict, report: dict) -> list:
    rows = []
    for workload in (*workloads.CORE, workloads.IDLE):
        if not wanted(workload):
            continue

        def measure(binary: str, workload=workload) -> dict:
            with Contender(binary, workload) as contender:
                if workload.mode == "idle":
                    return contender.idle(generator, count_of(workload))
                return contender.load(generator, count_of(workload))

        pairs = alternate(binaries, measure, workload.name, workload.times)
        verdicts = judge(workload.bars, pairs)
        if pairs:
            show(workload.name, pairs, verdicts)
        else:
            print(f"{workload.name:20} not measured\n", flush=True)
        rows += note(report, workload.name, pairs, verdicts)
    return rows


def note(report: dict, name: str, pairs, verdicts: list[Verdict]) -> list:
    """Puts a load into the report; its rows of the chart."""
    barred = {verdict.figure: verdict for verdict in verdicts}
    ratios = {column: ratio(column, pairs) for column in FIGURES}
    report["loads"][name] = {
        "nats-server": [pair[0] for pair in pairs], "weir": [pair[1] for pair in pairs],
        "ratios": {column: vars(value) for column, value in ratios.items() if value},
        "bars": [{"figure": v.figure, "comparison": v.comparison, "limit": v.limit, "met": v.met} for v in verdicts],
    }
    rows = []
    for column, value in ratios.items():
        if value is None or (column not in barred and column not in ("per_second", "cpu_us")):
            continue
        bar = barred.get(column)
        rows.append((name, FIGURES[column], value, bar and bar.limit, bar and bar.comparison, bar and bar.met))
    return rows


def run_stalled(generator: str, binaries: dict, report: dict) -> bool:
    """One subscriber of 100 never reads: what that costs the others, and in memory. Each server against itself."""
    workload = workloads.STALLED
    if not wanted(workload):
        return True
    met = True
    for who, binary in binaries.items():
        pairs, rounds, peaks = [], [], {0: [], 1: []}
        for _ in range(ROUNDS):
            # Slices with and without it alternate within one process: what else the machine does falls on both.
            fewer = {} if who == "weir" else {"pairs": workloads.STALLED_PAIRS_REFERENCE}
            of_round = run_against(generator, binary, workload, "stalled", stalled=1, **fewer)[0]["pairs"]
            pairs += of_round
            rounds.append(kept_of(of_round))
            for stalled in peaks:
                values = {"stalled": stalled, "window": workloads.STALLED_WINDOW}
                peaks[stalled].append(run_against(generator, binary, workload, "paced", **values)[1])
        kept = kept_of(pairs)
        grown = statistics.median(peaks[1]) - statistics.median(peaks[0])
        limit = workloads.MAX_PENDING_BYTES / 2**20 * workloads.STALLED_MEMORY
        rate_met, memory_met = kept >= workloads.STALLED_RATE, grown <= limit
        print(f"{workload.name:20} {who:12} the others keep {kept:.3f} of their throughput (over {len(pairs)} pairs; "
              f"rounds: {min(rounds):.3f}..{max(rounds):.3f}), at least {workloads.STALLED_RATE}: {'pass' if rate_met else 'FAIL'}; "
              f"memory grows by {grown:.1f} MiB, at most {limit:.1f}: {'pass' if memory_met else 'FAIL'}", flush=True)
        report["stalled"][who] = {"pairs": pairs, "kept": kept, "rounds": rounds, "peak_mib": peaks}
        if who == "weir":
            met = rate_met and memory_met
    print()
    return met


def run_against(generator: str, binary: str, workload, mode: str, **more) -> tuple[dict, float]:
    """What the generator has measured at a server of its own, and the most memory that server had."""
    with Contender(binary, workload) as contender:
        values = contender.addresses() | {"count": count_of(workload)} | workload.values | more
        return generate(generator, mode, values), contender.peak_mib()


def kept_of(pairs) -> float:
    """Throughput with it / without it, each over all slices: the same number of messages by the time for them."""
    return sum(1 / none for none, _ in pairs) / sum(1 / one for _, one in pairs)


def main() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator = build_generator()
    binaries = programs()
    began = time.time()
    print(f"weir: {binaries['weir']}\n{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, "
          f"{ROUNDS} pairs, medians; a ratio is Weir / nats-server, the median over pairs\n")
    report: dict = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": ROUNDS, "scale": SCALE,
                    "processors": os.cpu_count(), "load_average": os.getloadavg()[0], "loads": {}, "stalled": {}}
    if not ONLY:
        report["generator"] = sink_speed(generator)
        print("the generator against a server that discards: "
              + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in report["generator"].items()) + "\n")
    header = f"{'':20} {'':12} " + " ".join(f"{label:>12}" for label in FIGURES.values())
    print(header + "\n" + "-" * len(header), flush=True)
    rows = run_loads(generator, binaries, report)
    stalled_met = run_stalled(generator, binaries, report)
    folder = repository() / "target/bench"
    folder.mkdir(parents=True, exist_ok=True)
    report["seconds"] = time.time() - began
    (folder / "core.json").write_text(json.dumps(report, indent=1) + "\n")
    chart.draw(folder / "core.svg", f"{report['started']}, {os.cpu_count()} processors, {ROUNDS} pairs: medians, thin line: all pairs, red: the bar", rows)
    missed = [f"{name}: {bar['figure']}" for name, load in report["loads"].items() for bar in load["bars"] if not bar["met"]]
    if not stalled_met:
        missed.append(workloads.STALLED.name)
    print(f"{report['seconds']:.0f} s; all figures: {folder / 'core.json'}, {folder / 'core.svg'}")
    print("bars not met: " + "; ".join(missed) if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
