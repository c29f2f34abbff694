"""Rows as markdown for people: what was measured, how it spreads, and the goal beside each ratio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pam_edge.benchmarks.harness.rows import Row

_TITLES = {
    "bandwidth": "Memory",
    "decoder": "Language decoder alone",
    "encoder": "Image encoder alone",
    "answers": "One click, four answers",
    "clicks": "Clicks on one picture",
    "bundle": "One click in a fresh process",
    "image": "One click, one answer",
    "video": "Following objects through a video",
    "decode": "Language decoder alone, by prompt",
    "claims": "PAM beside other systems, rebuilt",
}


def markdown(rows: Sequence[Row]) -> str:
    """Every row, part by part, failed ones with their reasons; then the conditions."""
    if not rows:
        return "No rows yet."
    order = list(_TITLES)
    parts = sorted(rows, key=lambda row: (order.index(row.part) if row.part in order else 99, row.variant))
    text = []
    for part, found in groupby(parts, key=lambda row: row.part):
        held = list(found)
        text.append(f"## {_TITLES.get(part, part)}\n")
        plain, ratios = ([r for r in held if (r.against is None) == alone] for alone in (True, False))
        if plain:
            text.append(table(_PLAIN, [_plain(row) for row in plain]))
        if ratios:
            text.append(table(_RATIO, [_ratio(row) for row in ratios]))
    text.append(_conditions(rows))
    return "\n".join(text)


_GROWS = ("clicks", "prompt", "frames", "objects", "size")  # settings that lists are made of
_PLAIN = ("variant", "measure", "side", "scheme", "work", "median", "p25 to p75", "", "n", "others")
_RATIO = ("variant", "measure", "against", "factor", "in one round", "goal", "", "others")


def _plain(row: Row) -> tuple[str, ...]:
    settings = ", ".join(f"{name} {value}" for name, value in row.settings.items() if name in _GROWS)
    name = (row.variant, row.measure, row.side, row.scheme, settings)
    if row.stats is None:
        return (*name, "not measured", "", _cell(row.error), "0", "")
    s = row.stats
    told = [f"{value:.4g} {key.replace('_', ' ')}" for key, value in row.figures.items()]
    shown = ", ".join([*told, *([f"INCOMPLETE: {_cell(row.error)}"] if row.error else [])])
    spread = f"{quantity(s.p25, row.unit)} to {quantity(s.p75, row.unit)}"
    return (*name, quantity(s.median, row.unit), spread, shown, str(len(row.samples)), _others(row))


def _ratio(row: Row) -> tuple[str, ...]:
    a = row.against
    assert a is not None  # chosen so
    goal, verdict = "", ""
    if a.goal is not None:
        goal = f">= {a.goal:g} x"
        verdict = "reached" if a.factor >= a.goal else f"short by {1 - a.factor / a.goal:.0%}"
    against = f"{row.side} {row.scheme} : {a.side}"
    within = f"{a.low:.2f} to {a.high:.2f}"
    return (row.variant, row.measure, against, f"{a.factor:.2f} x", within, goal, verdict, _others(row))


def _others(row: Row) -> str:
    if row.load is None:
        return "" if row.unit != "ns" else "unknown"
    return f"{row.load.others_mean:.1%}" + ("" if row.load.idle else " BUSY")


def quantity(value: float, unit: str) -> str:
    """A value in the unit of its row, for people."""
    if unit == "ns":
        return f"{value / 1e9:.3g} s" if value >= 1e9 else f"{value / 1e6:.3g} ms"
    if unit == "uJ":
        return f"{value / 1e6:.3g} J"
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


def _conditions(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        m = row.machine
        memory = "?" if m.memory_bytes is None else f"{m.memory_bytes / 2**30:.0f} GiB"
        reads = "" if m.read_bytes_per_s is None else f", reads {m.read_bytes_per_s / 1e9:.1f} GB/s"
        where = f"{m.cpu or 'unknown processor'}, {m.cores} cores, {memory}{reads}; {m.system}"
        state = f"{row.commit[:10]}{' with changes' if row.dirty else ''}"
        lines.append(f"- {where}, Python {m.python}; {row.threads} threads; commit {state}")
        versions = ", ".join(f"{name} {version}" for name, version in sorted(row.versions.items()))
        lines.append(f"- {row.side}: {_cell(versions)}")
        lines += [f"- {row.part}: {name} {value}" for name, value in row.settings.items()]
    return "Conditions:\n\n" + "\n".join(dict.fromkeys(lines)) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a table of markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    """Text that ends no cell and no row."""
    return " ".join(text.replace("|", "/").split())
