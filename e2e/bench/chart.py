"""The ratios of a run as one SVG. Not their computation."""

import html
import math
import pathlib

WIDTH, LEFT, RIGHT, ROW, TOP = 980, 250, 130, 22, 66
LOW = 0.1
COLOURS = {"cpu_us": "#3465a4", "per_second": "#4e9a06", "p50_us": "#c17d11", "p99_us": "#ce5c00", "rss_mib": "#75507b",
           "restart_ms": "#c17d11", "create_s": "#c17d11", "idle_cpu_percent": "#3465a4"}
TICKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0, 50.0)


def draw(path: pathlib.Path, title: str, rows: list, high: float = 4.0):
    """`rows` are (name, figure's label, ratio, limit or None, comparison or None, met or None); `high` is the scale's end."""
    def place(ratio: float) -> float:
        """Where a ratio lies: logarithmic, so that half and double are equally far from 1."""
        share = (math.log(min(max(ratio, LOW), high)) - math.log(LOW)) / (math.log(high) - math.log(LOW))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    height = TOP + ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="24" font-size="16">Weir / nats-server 2.15.1</text>',
        f'<text x="16" y="44" fill="#555">{html.escape(title)}</text>',
    ]
    for tick in (tick for tick in TICKS if tick <= high):
        x = place(tick)
        colour = "#888" if tick == 1.0 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 24}" stroke="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" fill="#555">{tick:g}</text>')
    last = None
    for at, (name, label, ratio, limit, comparison, met) in enumerate(rows):
        y = TOP + at * ROW
        if name != last:
            parts.append(f'<text x="16" y="{y + 13}">{html.escape(name)}</text>')
            last = name
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="#555">{html.escape(label)}</text>')
        start, end = sorted((place(1.0), place(ratio.median)))
        parts.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="13" fill="{COLOURS[ratio.figure]}"/>')
        parts.append(f'<line x1="{place(ratio.low):.1f}" y1="{y + 9.5}" x2="{place(ratio.high):.1f}" y2="{y + 9.5}" stroke="black"/>')
        text, colour = f"{ratio.median:.2f}", "black"
        if limit is not None:
            x = place(limit)
            parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 19}" stroke="#a40000" stroke-width="2"/>')
            text += f" {'≤' if comparison == '<=' else '≥'} {limit:g}" + ("" if met else "  not met")
            colour = "black" if met else "#a40000"
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 13}" fill="{colour}">{text}</text>')
    parts.append("</svg>")
    path.write_text("\n".join(parts) + "\n")
