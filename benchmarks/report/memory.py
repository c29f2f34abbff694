"""Charts of memory over time: what a process holds while it loads and runs its first iteration."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.table import quantity
from pam_edge.benchmarks.report.figure import WIDTH, Figure, over, slug


def memory(rows: Sequence[Row]) -> list[Figure]:
    """Resident memory from the start of a process to the end of its first iteration, a chart a bundle."""
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.series is not None and row.part in ("image", "video"):
            found[row.part, row.machine.device, row.variant, row.scheme] = row
    return [_memory(row) for row in found.values()]


def _memory(row: Row) -> Figure:
    series = row.series
    assert series is not None  # chosen so
    own = series.values.get("own", ())
    mapped = series.values.get("mapped", (0,) * len(own))
    values = [
        {"s": at / 1e9, "MB": held / 1e6, "kind": kind}
        for kind, line in (("process's own", own), ("mapped files", mapped))
        for at, held in zip(series.at_ns, line, strict=True)
    ]
    area = (
        over(values)
        .mark_area(opacity=0.6, line=True)
        .encode(
            x=alt.X("s:Q", title="seconds since the process began"),
            y=alt.Y("MB:Q", stack="zero"),
            color=alt.Color("kind:N", sort=None, title=None, legend=alt.Legend(orient="top")),
            tooltip=["kind:N", alt.Tooltip("s:Q", format=".2f"), alt.Tooltip("MB:Q", format=",.0f")],
        )
    )
    marks = sorted(series.marks.items(), key=lambda pair: pair[1])
    # Names of moments that lie close together would overlap: each stands one line below the one before.
    moments = [{"s": ns / 1e9, "moment": name, "line": 12 * (n % 4)} for n, (name, ns) in enumerate(marks)]
    at = over(moments).encode(x="s:Q", tooltip=["moment:N", alt.Tooltip("s:Q", format=".2f")])
    texts = [
        at.transform_filter(f"datum.line == {12 * n}")
        .mark_text(align="left", dx=4, fontSize=11)
        .encode(text="moment:N", y=alt.value(8 + 12 * n))
        for n in range(min(4, len(moments)))
    ]
    most = max(a + b for a, b in zip(own, mapped, strict=True))
    return Figure(
        name=f"memory-{row.part}-{slug(row.machine.device)}-{row.variant}-{row.scheme}",
        title=f"{row.variant} {row.scheme}, {row.machine.device}: memory, task {row.part}",
        about=f"At most {quantity(most, 'bytes')} resident, loading and first iteration included.",
        chart=alt.layer(area, at.mark_rule(strokeDash=[4, 4]), *texts).properties(width=WIDTH, height=210),
    )
