"""Ratios of pairs, bars, and whether they are met. Not where the figures come from."""

import dataclasses
import statistics

# Names people read, in the order of the table.
FIGURES = {
    "per_second": "messages/s",
    "cpu_us": "CPU us/msg",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "rss_mib": "RSS MiB",
}
# Figures of some loads only: no column of the table.
RARE = {
    "restart_ms": "restart ms",
    "create_s": "create s",
    "idle_cpu_percent": "idle CPU %",
}
LABELS = FIGURES | RARE


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Weir divided by nats-server, over the pairs of one run."""

    figure: str
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}..{self.high:.2f})"


def ratio(figure: str, pairs: list[tuple[dict, dict]]) -> Ratio | None:
    """`pairs` are (nats-server, Weir) of the same moment; None without such a figure."""
    ratios = [weir[figure] / max(other[figure], 1e-9) for other, weir in pairs if figure in weir and figure in other]
    if not ratios:
        return None
    return Ratio(figure, statistics.median(ratios), min(ratios), max(ratios))


@dataclasses.dataclass(frozen=True)
class Verdict:
    figure: str
    comparison: str
    limit: float
    ratio: Ratio | None

    @property
    def met(self) -> bool:
        if self.ratio is None:
            return False
        return self.ratio.median <= self.limit if self.comparison == "<=" else self.ratio.median >= self.limit

    def __str__(self) -> str:
        shown = self.ratio.median if self.ratio else float("nan")
        return f"{LABELS[self.figure]} {shown:.2f} {self.comparison} {self.limit:g}: {'pass' if self.met else 'FAIL'}"


def judge(bars, pairs) -> list[Verdict]:
    return [Verdict(figure, comparison, limit, ratio(figure, pairs)) for figure, comparison, limit in bars]


def median(figures: list[dict], name: str) -> float | None:
    values = [figure[name] for figure in figures if name in figure]
    return statistics.median(values) if values else None
