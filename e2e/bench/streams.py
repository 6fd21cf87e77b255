"""JetStream: Weir, which syncs before every ack, beside the real nats-server 2.15.1, alternating, judged by `stream_workloads`.

Prints a table, writes every figure to target/bench/jetstream.json and a chart to target/bench/jetstream.svg.
Compare only figures of one run. Options by environment: ROUNDS (5), SCALE (1.0, of the message counts), ONLY (names or
parts of them, separated by commas). Exit status 1 when a bar is not met.
"""

import json
import os
import platform
import sys
import time

import chart
import stream_extras as extras
import stream_workloads as workloads
from contender import build_generator, programs, repository
from judge import FIGURES, LABELS, RARE, Verdict, median, ratio
from stream_servers import measure

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SCALE = float(os.environ.get("SCALE", "1"))
ONLY = {name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()}
# A run with strace is for its count of fsyncs only.
TRACED_MESSAGES = 20_000


def wanted(name: str) -> bool:
    return not ONLY or any(part in name for part in ONLY)


def rounds(contenders: list[str], figure) -> dict[str, list[dict]]:
    """`figure(who)` for each contender, who is first changing from round to round; rounds that failed are left out whole."""
    figures: dict[str, list[dict]] = {who: [] for who in contenders}
    for number in range(ROUNDS):
        turn = number % len(contenders)
        one = {}
        for who in contenders[turn:] + contenders[:turn]:
            try:
                one[who] = figure(who)
            except (RuntimeError, AssertionError) as failure:
                print(f"{who}: {str(failure)[:1500]}", file=sys.stderr, flush=True)
                return figures
        for who, measured in one.items():
            figures[who].append(measured)
    return figures


def judged(bars, figures: dict[str, list[dict]]) -> list[tuple[Verdict, str]]:
    verdicts = []
    for figure, comparison, limit, against in bars:
        pairs = list(zip(figures.get(against, []), figures[workloads.WEIR]))
        verdicts.append((Verdict(figure, comparison, limit, ratio(figure, pairs)), against))
    return verdicts


def show(name: str, figures: dict[str, list[dict]], verdicts) -> None:
    columns = list(FIGURES)
    for number, (who, measured) in enumerate(figures.items()):
        cells = [median(measured, column) for column in columns]
        shown = " ".join(f"{'' if cell is None else f'{cell:,.0f}' if cell >= 100 else f'{cell:,.2f}':>12}" for cell in cells)
        rare = ", ".join(f"{label} {median(measured, column):,.1f}" for column, label in RARE.items() if median(measured, column) is not None)
        print(f"{name if number == 0 else '':20} {who:12} {shown} {rare}")
    for verdict, against in verdicts:
        spread = "" if verdict.ratio is None else f"spread {verdict.ratio.low:.2f}..{verdict.ratio.high:.2f}"
        print(f"{'':33} against {against}: {verdict}  {spread}")
    print(flush=True)


def note(report: dict, rows: list, name: str, figures, bars) -> None:
    """Shows a load, and puts it into the report and the chart."""
    verdicts = judged(bars, figures)
    show(name, figures, verdicts)
    report["loads"][name] = figures | {"bars": [
        {"figure": v.figure, "against": against, "comparison": v.comparison, "limit": v.limit, "met": v.met,
         "ratio": v.ratio and vars(v.ratio)} for v, against in verdicts]}
    for verdict, against in verdicts:
        if verdict.ratio:
            label = LABELS[verdict.figure] + (", always" if against == workloads.ALWAYS else "")
            rows.append((name, label, verdict.ratio, verdict.limit, verdict.comparison, verdict.met))


def synced(generator: str, load: workloads.Load) -> dict:
    """Whether one fdatasync came before each batch of acks: as many as `window` acks can share one, on a majority of servers.
    A count with strace, in a run of its own."""
    count = max(TRACED_MESSAGES // (1 if load.window > 1 else 20), load.window * 10)
    figures = measure(generator, workloads.WEIR, load, count, traced=True)
    needed = figures["messages"] // load.window
    majority = figures["syncs"][-(load.replicas // 2 + 1):]
    return {"messages": figures["messages"], "syncs": figures["syncs"], "needed": needed, "met": min(majority) >= needed}


def run_loads(generator: str, report: dict, rows: list) -> None:
    for load in workloads.LOADS:
        if not wanted(load.name):
            continue

        def figure(who: str, load=load) -> dict:
            share = load.always_share if who == workloads.ALWAYS else 1
            return measure(generator, who, load, max(int(load.count * SCALE * share), 1000))

        figures = rounds(load.contenders, figure)
        note(report, rows, load.name, figures, load.bars)
        if load.window and figures[workloads.WEIR]:
            report["synced"][load.name] = found = synced(generator, load)
            print(f"{'':33} Weir's fdatasyncs for {found['messages']:,} acked messages: {', '.join(map(str, found['syncs']))}; at least "
                  f"{found['needed']:,} on a majority: {'pass' if found['met'] else 'FAIL'}\n", flush=True)


def main() -> int:
    generator = build_generator()
    began = time.time()
    report: dict = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": ROUNDS, "scale": SCALE,
                    "processors": os.cpu_count(), "load_average": os.getloadavg()[0], "loads": {}, "synced": {}}
    print(f"weir: {programs()['weir']}\n{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {ROUNDS} rounds, "
          "medians; a ratio is Weir, which syncs before every ack, to the other of the same round\n")
    header = f"{'':20} {'':12} " + " ".join(f"{label:>12}" for label in FIGURES.values())
    print(header + "\n" + "-" * len(header), flush=True)
    rows: list = []
    run_loads(generator, report, rows)
    for name, contenders, figure, bars in extras.loads(generator, SCALE):
        if wanted(name):
            note(report, rows, name, rounds(contenders, figure), bars)
    folder = repository() / "target/bench"
    report["seconds"] = time.time() - began
    (folder / "jetstream.json").write_text(json.dumps(report, indent=1) + "\n")
    chart.draw(folder / "jetstream.svg", f"{report['started']}, {os.cpu_count()} processors, {ROUNDS} rounds: medians, thin line: all, red: the bar", rows, high=50.0)
    missed = [f"{name}: {LABELS[bar['figure']]} {bar['comparison']} {bar['limit']} of {bar['against']}"
              for name, load in report["loads"].items() for bar in load["bars"] if not bar["met"]]
    missed += [f"{name}: synced before acked" for name, found in report["synced"].items() if not found["met"]]
    print(f"{report['seconds']:.0f} s; all figures: {folder / 'jetstream.json'}, {folder / 'jetstream.svg'}")
    print("bars not met: " + "; ".join(missed) if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
