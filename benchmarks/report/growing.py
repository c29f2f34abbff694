"""Charts of cost as work grows, with the growth named by a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import altair as alt

from pam_edge.benchmarks.harness.rows import Row, Stats
from pam_edge.benchmarks.report.choose import Curve, curves
from pam_edge.benchmarks.report.figure import WIDTH, Figure, over, slug
from pam_edge.benchmarks.report.growth import Fit, fit
from pam_edge.benchmarks.report.units import time_text, time_unit

_UNITS = {"clicks": "click", "prompt": "token", "frames": "frame", "objects": "object", "size": "pixel"}


@dataclass(frozen=True)
class Grown:
    """A curve and what it is called; no fit where a cost is 0."""

    curve: Curve
    fit: Fit | None

    @property
    def words(self) -> str:
        """The growth for people: `linear: 12 ms and 3.1 ms for each click`."""
        found, unit = self.fit, _UNITS[self.curve.axis]
        if found is None:
            return "not named"
        match found.growth:
            case "constant":
                return f"constant: {time_text(found.fixed)}"
            case "linear":
                fixed = f"{time_text(found.fixed)} and " if found.fixed > 0.01 * found.each else ""
                return f"linear: {fixed}{time_text(found.each)} for each {unit}"
            case name:
                return f"{name}: x {2**found.exponent:.2f} for twice the work"


def growths(rows: Sequence[Row]) -> list[Grown]:
    """Every curve in the rows, with its growth."""
    found = []
    for curve in curves(rows):
        stats = [_stats(row) for _, row in curve.points]
        work = [amount for amount, _ in curve.points]
        found.append(
            Grown(curve, fit(work, [s.median for s in stats], spread=median(s.spread for s in stats)))
        )
    return found


def charts(rows: Sequence[Row]) -> list[Figure]:
    """One for each task, bundle and kind of work, all measures in it."""
    found: dict[tuple[str, str, str], list[Grown]] = {}
    for grown in growths(rows):
        curve = grown.curve
        found.setdefault((curve.part, curve.axis, curve.who), []).append(grown)
    return [_chart(*key, grown) for key, grown in found.items()]


def _chart(part: str, axis: str, who: str, grown: Sequence[Grown]) -> Figure:
    unit, factor = time_unit(max(_stats(row).median for one in grown for _, row in one.curve.points))
    points, fits = list[dict[str, object]](), list[dict[str, object]]()
    for one in grown:
        label = f"{one.curve.measure}, {one.words}"
        for amount, row in one.curve.points:
            s = _stats(row)
            points.append(
                {
                    "measure": label,
                    "work": amount,
                    "time": s.median / factor,
                    "low": s.p25 / factor,
                    "high": s.p75 / factor,
                    "median": time_text(s.median),
                }
            )
        named = one.fit is not None and one.fit.growth in ("constant", "linear")
        for amount, row in (one.curve.points[0], one.curve.points[-1]) if named else one.curve.points:
            at = one.fit.at(amount) if named and one.fit is not None else _stats(row).median
            fits.append({"measure": label, "work": amount, "time": max(0.0, at) / factor, "fit": named})
    x = alt.X("work:Q", title=axis)
    y = alt.Y("time:Q", title=unit)
    color = alt.Color(
        "measure:N", sort=None, title=None, legend=alt.Legend(orient="bottom", columns=1, labelLimit=0)
    )
    base = over(points).encode(x=x, color=color)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, tooltip=["measure:N", alt.Tooltip("work:Q", title=axis), "median:N"]
    )
    lines = (
        over(fits)
        .mark_line()
        .encode(x=x, y=y, color=color, strokeDash=alt.StrokeDash("fit:N", legend=None, scale=_DASHES))
    )
    return Figure(
        name=slug(f"growth-{part}-{axis}-{who}"),
        title=f"{part}: more {axis}; {who}",
        about="Medians with quartiles; dashed: the fit that the name stands for.",
        chart=alt.layer(lines, base.mark_rule().encode(y="low:Q", y2="high:Q"), dots).properties(
            width=WIDTH, height=260
        ),
    )


_DASHES = alt.Scale(domain=[True, False], range=[[6, 4], [1, 0]])


def _stats(row: Row) -> Stats:
    assert row.stats is not None  # chosen so
    return row.stats
