"""Decoding speed against the bytes that a token reads, below the limit that memory bandwidth sets."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.report.choose import bytes_per_token, decodes
from pam_edge.benchmarks.report.figure import WIDTH, Figure, over, slug
from pam_edge.benchmarks.report.units import short


def roofline(rows: Sequence[Row]) -> list[Figure]:
    """A chart a device: tokens per second of each bundle, and the line of the memory's bandwidth."""
    found = decodes(rows)
    return [
        _roofline(device, [row for row in found if row.machine.device == device])
        for device in dict.fromkeys(row.machine.device for row in found)
    ]


def _roofline(device: str, rows: Sequence[Row]) -> Figure:
    rates = [row.machine.read_bytes_per_s for row in rows if row.machine.read_bytes_per_s]
    rate = max(rates) if rates else None
    values = list[dict[str, object]]()
    for row in sorted(rows, key=lambda row: -row.figures["tokens_per_s"]):
        size, speed = bytes_per_token(row), row.figures["tokens_per_s"]
        share = "" if rate is None else f", {speed * size / rate:.0%} of memory"
        threads = "" if row.threads == 0 else f", {row.threads} thread{'s' * (row.threads > 1)}"
        side = "" if row.side == "pam-edge" else f" ({row.side})"
        name = f"{row.variant} {row.scheme}{side}{threads}: {short(speed)}{share}"
        values.append({"bundle": name, "MB a token": size / 1e6, "tokens per second": speed})
    x = alt.X(
        "MB a token:Q",
        title="MB of weights read for a token",
        scale=alt.Scale(type="log", padding=16, nice=False),
    )
    y = alt.Y(
        "tokens per second:Q", title="tokens per second", scale=alt.Scale(type="log", padding=16, nice=False)
    )
    # Labels beside points would overlap where bundles are alike: the legend lists them, fastest first.
    named = alt.Scale(domain=[str(one["bundle"]) for one in values])
    legend = alt.Legend(orient="bottom", columns=1)
    dots = (
        over(values)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color("bundle:N", scale=named, title=None, legend=legend),
            shape=alt.Shape("bundle:N", scale=named, title=None, legend=legend),
            tooltip=["bundle:N", alt.Tooltip("MB a token:Q", format=".4~g")],
        )
    )
    layers: list[alt.Chart] = [dots]
    if rate is not None:
        sizes = [bytes_per_token(row) / 1e6 for row in rows]
        ends = [
            {"MB a token": size, "tokens per second": rate / 1e6 / size}
            for size in (min(sizes) / 1.5, max(sizes) * 1.5)
        ]
        layers.insert(0, over(ends).mark_line(strokeWidth=2, color="gray").encode(x=x, y=y))
    bound = (
        "no bandwidth was measured"
        if rate is None
        else f"the line is what reading weights at {rate / 1e9:.1f} GB/s allows"
    )
    return Figure(
        name=f"decode-{slug(device)}",
        title=f"Decoding on {device}",
        about=f"Tokens per second of one answer; {bound}.",
        chart=alt.layer(*layers).properties(width=WIDTH, height=300),
    )
