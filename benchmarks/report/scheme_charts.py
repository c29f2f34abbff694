"""Charts of what a quantization scheme costs, in time or bytes, against its accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.quality.schemes import Accuracy
from pam_edge.benchmarks.report.choose import one_click
from pam_edge.benchmarks.report.figure import WIDTH, Figure, over, slug
from pam_edge.benchmarks.report.units import time_unit


def pareto(rows: Sequence[Row], lines: Sequence[Accuracy]) -> list[Figure]:
    """Accuracy against time, a chart a variant and device where a click was measured, and against size."""
    return [
        figure
        for variant in dict.fromkeys(line.variant for line in lines)
        for figure in _pareto(variant, rows, _largest([line for line in lines if line.variant == variant]))
    ]


def _largest(lines: Sequence[Accuracy]) -> list[Accuracy]:
    """Those of the comparison with the most scenes, the last of each scheme."""
    sets = {(line.world, line.scenes) for line in lines}
    best = max(sets, key=lambda pair: (pair[1], pair[0]))
    held = {line.scheme: line for line in lines if (line.world, line.scenes) == best}
    return list(held.values())


def _pareto(variant: str, rows: Sequence[Row], lines: Sequence[Accuracy]) -> list[Figure]:
    figures = []
    whos = [who for who in one_click(rows) if who.variant == variant and who.side == "pam-edge"]
    for place in dict.fromkeys(who.place for who in whos):
        here = [who for who in whos if who.place == place]
        timed = {who.scheme: who.median("total") or who.median("whole") for who in here}
        known = [(line, t) for line in lines if (t := timed.get(line.scheme)) is not None]
        if len(known) >= 2:
            unit, factor = time_unit(max(t for _, t in known))
            costs = [(line, t / factor) for line, t in known]
            title = f"one click and its answer on {place}, {unit}"
            figures.append(_trade(variant, costs, cost=title, kind=f"time-{place}"))
    if len(lines) >= 2:
        sizes = [(line, line.bundle_bytes / 1e6) for line in lines]
        figures.append(_trade(variant, sizes, cost="bundle, MB", kind="size"))
    return figures


def _trade(variant: str, costs: Sequence[tuple[Accuracy, float]], *, cost: str, kind: str) -> Figure:
    values = []
    best = -math.inf
    for line, x in sorted(costs, key=lambda pair: (pair[1], -pair[0].category)):
        error = 1.96 * math.sqrt(line.category * (1 - line.category) / max(1, line.objects))
        values.append(
            {
                "scheme": line.scheme,
                "cost": x,
                "accuracy": line.category,
                "low": line.category - error,
                "high": line.category + error,
                "click IoU": line.click_iou,
                "best": line.category > best,
            }
        )
        best = max(best, line.category)
    base = over(values).encode(
        x=alt.X("cost:Q", title=cost, scale=alt.Scale(zero=False, padding=24)),
        tooltip=[
            "scheme:N",
            alt.Tooltip("accuracy:Q", format=".2%"),
            alt.Tooltip("click IoU:Q", format=".3f"),
            alt.Tooltip("cost:Q", title=cost, format=".3~g"),
        ],
    )
    y = alt.Y("accuracy:Q", title="right category named", axis=alt.Axis(format=".1%"))
    scale = alt.Scale(zero=False)
    front = base.transform_filter("datum.best").mark_line(strokeDash=[5, 4], color="gray", strokeWidth=1.5)
    errors = base.mark_rule().encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=y,
        color=alt.Color("scheme:N", sort=None, title=None),
        shape=alt.Shape("scheme:N", sort=None, title=None),
    )
    line = costs[0][0]
    return Figure(
        name=slug(f"pareto-{kind}-{variant}"),
        title=f"{variant}: cost and accuracy of each scheme",
        about=f"{line.objects:,} regions in {line.scenes} held-out scenes; bars: 95 % interval of sampling.",
        chart=alt.layer(errors, front.encode(y=y), dots).properties(width=WIDTH - 60, height=260),
    )
