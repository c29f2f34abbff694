"""The report as one HTML file: charts drawn by Vega-Lite, every row in a table, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.table import quantity
from pam_edge.benchmarks.quality.schemes import Accuracy
from pam_edge.benchmarks.report import charts, claims, decode_chart, growing, memory, scheme_charts
from pam_edge.benchmarks.report.choose import Who, one_click
from pam_edge.benchmarks.report.conditions import conditions
from pam_edge.benchmarks.report.drawing import library
from pam_edge.benchmarks.report.figure import Figure
from pam_edge.benchmarks.report.html import render
from pam_edge.benchmarks.report.palette import Light
from pam_edge.benchmarks.report.theme import variables, vega_config
from pam_edge.benchmarks.report.units import time_text

_SECTIONS = {
    "stages": (
        "One click, stage by stage",
        "Each stage begins where the one before ends; the thin line spans the middle half of the samples.",
        "no click on a picture was measured",
    ),
    "schemes": (
        "Cost and accuracy of the schemes",
        "Accuracy on held-out rendered scenes against time or size; the dashed line joins the schemes "
        "that no other beats in both.",
        "no accuracy of two schemes is in these files (schemes.jsonl)",
    ),
    "decode": (
        "Decoding against memory bandwidth",
        "A token costs reading the weights once: no decoder is faster than memory allows, unless its "
        "weights fit into the processor's caches.",
        "no decoding with its bytes per token was measured",
    ),
    "memory": (
        "Memory over time",
        "From the start of the process to the end of its first iteration.",
        "no row has memory over time",
    ),
    "devices": ("Device by device", "The same bundle, the same click.", "only one device is in these files"),
    "growth": (
        "Cost as work grows",
        "A growth is named where the fit holds within a tenth, or within twice the spread.",
        "no list of clicks, prompts, frames, objects or sizes of three or more was measured",
    ),
}


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    about: str
    missing: str
    figures: Sequence[Figure]


@dataclass(frozen=True)
class _Tile:
    title: str
    value: str
    of: str


@dataclass(frozen=True)
class _Line:
    """A row of the table of all rows."""

    what: str
    values: Sequence[str]
    n: int
    derived: str
    load: str


def all_charts(rows: Sequence[Row], lines: Sequence[Accuracy]) -> dict[str, list[Figure]]:
    """Every chart by its section."""
    return {
        "stages": charts.waterfalls(rows),
        "schemes": scheme_charts.pareto(rows, lines),
        "decode": decode_chart.roofline(rows),
        "memory": memory.memory(rows),
        "devices": charts.devices(rows),
        "growth": growing.charts(rows),
    }


def page(rows: Sequence[Row], drawn: Mapping[str, Sequence[Figure]]) -> str:
    """The whole document."""
    devices = dict.fromkeys(row.machine.device for row in rows)
    commits = dict.fromkeys(row.commit[:10] + (" with changes" if row.dirty else "") for row in rows)
    bundles = dict.fromkeys(f"{row.variant} {row.scheme}" for row in rows if row.bundle)
    return render(
        "report.html.j2",
        rows=rows,
        variables=variables(),
        chips_of=[text for text in (*bundles, *devices, *commits) if text.strip()],
        samples=sum(len(row.samples) for row in rows),
        busy=sum(row.load is not None and not row.load.idle for row in rows),
        tiles=_tiles(rows),
        sections=[_Section(name, *texts, drawn[name]) for name, texts in _SECTIONS.items()],
        growths=growing.growths(rows),
        claims=claims.section(rows),
        failed=[row for row in rows if row.error],
        what=_what,
        lines=[_line(row) for row in rows if row.stats is not None],
        conditions=conditions(rows),
        library=library() if any(drawn.values()) else "",
        configs={light: vega_config(light) for light in get_args(Light)},
    )


def _tiles(rows: Sequence[Row]) -> list[_Tile]:
    whos = one_click(rows)
    tiles = []
    for title, measure in (("first mask", "first mask"), ("first token after the click", "first token")):
        if best := _least(whos, measure):
            tiles.append((title, time_text(best.median(measure) or 0), best))
    fast = max(whos, key=lambda w: w.figure("decode", "tokens_per_s") or 0, default=None)
    speed = None if fast is None else fast.figure("decode", "tokens_per_s")
    if fast is not None and speed is not None:
        tiles.append(("decoding", f"{speed:.3g} tok/s" if speed < 1000 else f"{speed:,.0f} tok/s", fast))
    if small := _least(whos, "peak memory"):
        tiles.append(("peak memory", quantity(small.median("peak memory") or 0, "bytes"), small))
    return [_Tile(title, value, f"{who.name}, {who.device}") for title, value, who in tiles]


def _least(whos: Sequence[Who], measure: str) -> Who | None:
    held = [who for who in whos if who.median(measure) is not None]
    return min(held, key=lambda who: who.median(measure) or 0) if held else None


def _what(row: Row) -> str:
    work = ", ".join(f"{name} {value}" for name, value in row.settings.items())
    return f"{row.part}: {row.measure}, {row.variant} {row.scheme}, {row.machine.device} ({work})"


def _line(row: Row) -> _Line:
    s = row.stats
    assert s is not None  # chosen so
    derived = ", ".join(f"{value:.4g} {name.replace('_', ' ')}" for name, value in row.figures.items())
    if row.against is not None:
        derived = f"{row.against.factor:.2f} x {row.against.side}"
    return _Line(
        what=_what(row),
        values=["" if v is None else quantity(v, row.unit) for v in (s.median, s.p05, s.p25, s.p75, s.p95)],
        n=len(row.samples),
        derived=derived,
        load="" if row.load is None else f"{row.load.others_mean:.1%}{'' if row.load.idle else ' busy'}",
    )
