"""Charts of memory over time: what a process holds while it loads and takes its first turn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pam_edge.benchmarks.report.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, legend, two_axes
from pam_edge.benchmarks.report.charts import slug
from pam_edge.benchmarks.report.scales import from_zero
from pam_edge.benchmarks.report.shapes import Chart, Path, Words, wide
from pam_edge.benchmarks.rows import Row
from pam_edge.benchmarks.table import quantity


def memory(rows: Sequence[Row]) -> list[Chart]:
    """What a process holds, from its start to the end of its first turn."""
    return [_memory(row) for row in _last_series(rows)]


def _last_series(rows: Sequence[Row]) -> list[Row]:
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.series is not None and row.part in ("image", "video"):
            found[row.part, row.machine.device, row.variant, row.scheme] = row
    return list(found.values())


def _memory(row: Row) -> Chart:
    series = row.series
    assert series is not None  # chosen so
    height = 270.0
    seconds = [at / 1e9 for at in series.at_ns]
    own = [value / 1e6 for value in series.values.get("own", ())]
    mapped = [value / 1e6 for value in series.values.get("mapped", (0,) * len(own))]
    both = [a + b for a, b in zip(own, mapped, strict=True)]
    x, y = from_zero([seconds[-1]], LEFT, WIDTH - RIGHT), from_zero(both, height - BOTTOM, TOP + 26)
    shapes = two_axes(x, y, x_name="seconds since the process began", y_name="MB")
    base = ((x(seconds[-1]), y(0)), (x(seconds[0]), y(0)))
    upper = tuple((x(t), y(v)) for t, v in zip(seconds, both, strict=True))
    lower = tuple((x(t), y(v)) for t, v in zip(seconds, own, strict=True))
    shapes.append(Path((*upper, *base), fill="s5", opacity=0.35))
    shapes.append(Path((*lower, *base), fill="s0", opacity=0.6))
    shapes.append(Path(upper, "s5"))
    shapes.append(Path(lower, "s0"))
    edge = -math.inf
    for name, ns in sorted(series.marks.items(), key=lambda pair: pair[1]):
        at = x(ns / 1e9)
        shapes.append(Path(((at, TOP + 22), (at, height - BOTTOM)), "soft", width=1, dashed=True))
        if at - 2 > edge and at + wide(name, 11.5) < WIDTH:
            shapes.append(Words(at + 3, TOP + 30, name, "soft", 11.5))
            edge = at + 3 + wide(name, 11.5)
    shapes += legend([("own pages", "s0"), ("mapped files", "s5")], LEFT + 40, TOP + 2, room=400)[0]
    return Chart(
        name=f"memory-{row.part}-{slug(row.machine.device)}-{row.variant}-{row.scheme}",
        title=f"{row.variant} {row.scheme}, {row.machine.device}: memory, task {row.part}",
        about=f"At most {quantity(max(both) * 1e6, 'bytes')} resident, loading and first turn included.",
        width=WIDTH,
        height=height,
        shapes=shapes,
    )
