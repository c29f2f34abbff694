"""Charts of one click: its stages, the same click on several devices."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.report.choose import STAGES, Who, one_click
from pam_edge.benchmarks.report.figure import WIDTH, Figure, over, slug
from pam_edge.benchmarks.report.units import time_text, time_unit


def waterfalls(rows: Sequence[Row]) -> list[Figure]:
    """One click's stages, each where the one before ends."""
    return [_waterfall(who) for who in one_click(rows) if who.median("encode") is not None]


def _waterfall(who: Who) -> Figure:
    stages = {name: row.stats for name in STAGES if (row := who.rows.get(name)) and row.stats is not None}
    total = sum(s.median for s in stages.values())
    unit, factor = time_unit(total)
    values, begin = [], 0.0
    for name, s in stages.items():
        values.append(
            {
                "stage": name,
                "begin": begin / factor,
                "end": (begin + s.median) / factor,
                "low": (begin + s.p25) / factor,
                "high": (begin + s.p75) / factor,
                "label": f"{time_text(s.median)}, {s.median / total:.0%}",
                "median": time_text(s.median),
                "quartiles": f"{time_text(s.p25)} to {time_text(s.p75)}",
            }
        )
        begin += s.median
    base = over(values).encode(
        y=alt.Y("stage:N", sort=None, title=None), tooltip=["stage:N", "median:N", "quartiles:N"]
    )
    bars = base.mark_bar(cornerRadius=3, height=17).encode(
        x=alt.X("begin:Q", title=unit, scale=alt.Scale(domain=[0, 1.25 * total / factor])),
        x2="end:Q",
        color=alt.Color("stage:N", sort=None, legend=None),
    )
    quartiles = base.mark_rule().encode(x="low:Q", x2="high:Q")
    labels = base.transform_calculate(right="max(datum.end, datum.high)").mark_text(align="left", dx=6)
    first = who.median("first token")
    words = "" if first is None else f"; first token {time_text(first)} after the click"
    return Figure(
        name=slug(f"waterfall-{who.device}-{who.variant}-{who.scheme}-{who.side}-{who.threads}"),
        title=f"{who.name}, {who.place}",
        about=f"One click on a new picture: {time_text(total)} in stages{words}.",
        chart=alt.layer(bars, quartiles, labels.encode(x="right:Q", text="label:N")).properties(
            width=WIDTH, height=30 * len(values)
        ),
    )


_SHOWN = {"first mask": "first mask", "first token": "first token", "total": "click and answer"}


def devices(rows: Sequence[Row]) -> list[Figure]:
    """The same bundle on every device, where there are at least two."""
    whos = one_click(rows)
    figures = []
    for variant, scheme in dict.fromkeys((w.variant, w.scheme) for w in whos):
        held = {w.device: w for w in whos if (w.variant, w.scheme) == (variant, scheme)}
        if len(held) >= 2:
            figures.append(_devices(f"{variant} {scheme}", list(held.values())))
    return figures


def _devices(name: str, whos: Sequence[Who]) -> Figure:
    stats = {
        (w.device, label): row.stats
        for w in whos
        for measure, label in _SHOWN.items()
        if (row := w.rows.get(measure)) and row.stats is not None
    }
    unit, factor = time_unit(max((s.median for s in stats.values()), default=1.0))
    values = [
        {
            "device": device,
            "measure": label,
            "median": s.median / factor,
            "low": s.p25 / factor,
            "high": s.p75 / factor,
            "label": time_text(s.median),
        }
        for (device, label), s in stats.items()
    ]
    base = over(values).encode(
        y=alt.Y("measure:N", sort=list(_SHOWN.values()), title=None),
        yOffset=alt.YOffset("device:N", sort=None),
        tooltip=["device:N", "measure:N", "label:N"],
    )
    bars = base.mark_bar(cornerRadius=3).encode(
        x=alt.X("median:Q", title=unit),
        color=alt.Color("device:N", sort=None, title=None, legend=alt.Legend(orient="top")),
    )
    quartiles = base.mark_rule().encode(x="low:Q", x2="high:Q")
    labels = base.transform_calculate(right="max(datum.median, datum.high)").mark_text(align="left", dx=6)
    return Figure(
        name=f"devices-{slug(name)}",
        title=f"{name} by device",
        about="Medians; the thin line spans the middle half of the samples.",
        chart=alt.layer(bars, quartiles, labels.encode(x="right:Q", text="label:N")).properties(
            width=WIDTH, height=alt.Step(18)
        ),
    )
