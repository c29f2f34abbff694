"""Charts of cost as work grows, with the growth named by a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pam_edge.benchmarks.growth import Fit, fit
from pam_edge.benchmarks.report.axes import BOTTOM, LEFT, TOP, WIDTH, apart, standing_whisker, two_axes
from pam_edge.benchmarks.report.choose import Curve, curves
from pam_edge.benchmarks.report.scales import Scale, from_zero, short, time_unit, told_time
from pam_edge.benchmarks.report.shapes import SERIES, Chart, Dot, Path, Shape, Words
from pam_edge.benchmarks.rows import Row, Stats

_UNITS = {"clicks": "click", "prompt": "token", "frames": "frame", "objects": "thing", "size": "pixel"}


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
                return f"constant: {told_time(found.fixed)}"
            case "linear":
                fixed = f"{told_time(found.fixed)} and " if found.fixed > 0.01 * found.each else ""
                return f"linear: {fixed}{told_time(found.each)} for each {unit}"
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


def charts(rows: Sequence[Row]) -> list[Chart]:
    """One for each task, bundle and kind of work, all measures in it."""
    found: dict[tuple[str, str, str], list[Grown]] = {}
    for grown in growths(rows):
        curve = grown.curve
        found.setdefault((curve.part, curve.axis, curve.who), []).append(grown)
    return [_chart(*key, grown) for key, grown in found.items()]


def _chart(part: str, axis: str, who: str, grown: Sequence[Grown]) -> Chart:
    height, right = max(330.0, 52.0 * len(grown) + TOP + BOTTOM + 28), 206.0
    points = [(amount, _stats(row)) for one in grown for amount, row in one.curve.points]
    unit, factor = time_unit(max(s.median for _, s in points))
    amounts = sorted({amount for amount, _ in points})
    x = Scale(0, amounts[-1] * 1.04, LEFT, WIDTH - right)
    y = from_zero([s.p75 / factor for _, s in points], height - BOTTOM, TOP + 8)
    ticks = _spaced(amounts, x)
    shapes: list[Shape] = two_axes(x, y, x_name=axis, y_name=unit, x_told="{:,.0f}".format, x_ticks=ticks)
    ends = [y(_stats(one.curve.points[-1][1]).median / factor) for one in grown]
    places = apart(ends, 52, TOP + 12, height - BOTTOM - 28)
    for number, one in enumerate(grown):
        role, places_of = f"s{number % SERIES}", list[tuple[float, float]]()
        for amount, row in one.curve.points:
            s = _stats(row)
            at = x(amount), y(s.median / factor)
            places_of.append(at)
            shapes += standing_whisker(at[0], y(s.p25 / factor), y(s.p75 / factor), role)
            tip = f"{one.curve.measure} at {short(amount)} {axis}: {told_time(s.median)}"
            shapes.append(Dot(*at, role, 4.5, tip=tip))
        if one.fit is not None and one.fit.growth in ("constant", "linear"):
            line = [(a, max(0.0, one.fit.at(a) / factor)) for a in (amounts[0], amounts[-1])]
            shapes.append(Path(tuple((x(a), y(b)) for a, b in line), role, dashed=True))
        else:
            shapes.append(Path(tuple(places_of), role))
        beside = WIDTH - right + 12
        shapes.append(Words(beside, places[number], one.curve.measure, role, 13, bold=True))
        for below, text in enumerate(one.words.split(": ", 1)):
            shapes.append(Words(beside, places[number] + 15 * (below + 1), text, "soft", 11.5))
    return Chart(
        name="-".join(f"growth-{part}-{axis}-{who}".replace(",", "").replace(":", " ").split()),
        title=f"{part}: more {axis}; {who}",
        about="Medians with quartiles; dashed: the fit that the name stands for.",
        width=WIDTH,
        height=height,
        shapes=shapes,
    )


def _spaced(amounts: Sequence[float], x: Scale) -> list[float]:
    """Those whose labels do not touch, the largest always."""
    kept: list[float] = []
    for amount in reversed(amounts):
        if not kept or x(kept[-1]) - x(amount) > 34:
            kept.append(amount)
    return kept[::-1]


def _stats(row: Row) -> Stats:
    assert row.stats is not None  # chosen so
    return row.stats
