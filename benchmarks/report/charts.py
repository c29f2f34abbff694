"""Charts of one click: its stages, what schemes cost, decoding against memory, devices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pam_edge.benchmarks.report.axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    apart,
    bar,
    legend,
    standing_whisker,
    two_axes,
    whisker,
)
from pam_edge.benchmarks.report.choose import STAGES, Who, bytes_per_token, decodes, one_click
from pam_edge.benchmarks.report.scales import Scale, around, by_ratio, from_zero, short, time_unit, told_time
from pam_edge.benchmarks.report.shapes import SERIES, Chart, Dot, Path, Shape, Words
from pam_edge.benchmarks.rows import Row
from pam_edge.benchmarks.schemes import Accuracy


def waterfalls(rows: Sequence[Row]) -> list[Chart]:
    """One click's stages, each where the one before ends."""
    return [_waterfall(who) for who in one_click(rows) if who.median("encode") is not None]


def _waterfall(who: Who) -> Chart:
    stages = [(s, who.rows[s]) for s in STAGES if s in who.rows]
    medians = {name: row.stats.median for name, row in stages if row.stats is not None}
    total = sum(medians.values())
    left, right, step = 96.0, 130.0, 30.0
    x = from_zero([total], left, WIDTH - right)
    unit, factor = time_unit(total)
    bottom = TOP + step * len(stages) + 4
    shapes: list[Shape] = []
    for tick in from_zero([total / factor], left, WIDTH - right).ticks():
        at = x(tick * factor)
        shapes.append(Path(((at, TOP - 4), (at, bottom)), "line", width=1))
        shapes.append(Words(at, bottom + 17, short(tick), "soft", 12, "middle"))
    shapes.append(Words(WIDTH - right, bottom + 34, unit, "soft", 12, "end"))
    begun = 0.0
    for number, (name, row) in enumerate(stages):
        assert row.stats is not None  # grouped so
        y, s = TOP + number * step, row.stats
        ends = begun + s.median
        tip = f"{name}: {told_time(s.median)}, quartiles {told_time(s.p25)} to {told_time(s.p75)}"
        shapes.append(Words(left - 12, y + 16, name, "ink", 13, "end"))
        shapes.append(bar(x(begun), y + 4, x(ends) - x(begun), 17, f"s{number % SERIES}", tip))
        shapes += whisker(x(begun + s.p25), min(x(begun + s.p75), WIDTH - right + 20), y + 12.5)
        beside = max(x(ends), min(x(begun + s.p75), WIDTH - right + 20)) + 8
        shapes.append(Words(beside, y + 16, f"{told_time(s.median)}, {s.median / total:.0%}", "soft", 12))
        begun = ends
    first = who.median("first token")
    words = "" if first is None else f"; first token {told_time(first)} after the click"
    return Chart(
        name=_file("waterfall", who),
        title=f"{who.name}, {_place(who)}",
        about=f"One click on a new picture: {told_time(total)} in stages{words}.",
        width=WIDTH,
        height=bottom + 40,
        shapes=shapes,
    )


def pareto(rows: Sequence[Row], lines: Sequence[Accuracy]) -> list[Chart]:
    """What each scheme costs and what it is worth, a chart a variant: by time where a click was measured,
    else by size.
    """
    return [
        chart
        for variant in dict.fromkeys(line.variant for line in lines)
        for chart in _pareto(variant, rows, _largest([line for line in lines if line.variant == variant]))
    ]


def _largest(lines: Sequence[Accuracy]) -> list[Accuracy]:
    """Those of the comparison with the most scenes, the last of each scheme."""
    sets = {(line.world, line.scenes) for line in lines}
    best = max(sets, key=lambda pair: (pair[1], pair[0]))
    held = {line.scheme: line for line in lines if (line.world, line.scenes) == best}
    return list(held.values())


def _pareto(variant: str, rows: Sequence[Row], lines: Sequence[Accuracy]) -> list[Chart]:
    charts = []
    whos = [who for who in one_click(rows) if who.variant == variant and who.side == "pam-edge"]
    for place in dict.fromkeys(map(_place, whos)):
        here = [who for who in whos if _place(who) == place]
        timed = {who.scheme: who.median("total") or who.median("whole") for who in here}
        known = [(line, t) for line in lines if (t := timed.get(line.scheme)) is not None]
        if len(known) >= 2:
            unit, factor = time_unit(max(t for _, t in known))
            costs = [(line, t / factor) for line, t in known]
            charts.append(
                _trade(variant, costs, f"one click and its answer on {place}, {unit}", f"time-{place}")
            )
    if len(lines) >= 2:
        sizes = [(line, line.bundle_bytes / 1e6) for line in lines]
        charts.append(_trade(variant, sizes, "bundle, MB", "size"))
    return charts


def _trade(variant: str, costs: Sequence[tuple[Accuracy, float]], x_name: str, kind: str) -> Chart:
    height = 330.0
    x = around([cost for _, cost in costs], LEFT, WIDTH - 70)
    worth = [_worth(line) for line, _ in costs]
    y = around(worth, height - BOTTOM, TOP + 8, least=0.02)
    shapes = two_axes(x, y, x_name=x_name, y_name="right category named", y_told=lambda v: f"{100 * v:.1f}%")
    best, front = -math.inf, list[tuple[float, float]]()
    for line, cost in sorted(costs, key=lambda pair: (pair[1], -_worth(pair[0]))):
        if _worth(line) > best:
            best = _worth(line)
            front.append((x(cost), y(best)))
    shapes.append(Path(tuple(front), "soft", width=1.5, dashed=True))
    for number, (line, cost) in enumerate(costs):
        role, value = f"s{number % SERIES}", _worth(line)
        error = 1.96 * math.sqrt(value * (1 - value) / max(1, line.things))
        low, high = max(value - error, y.low), min(value + error, y.high)
        shapes += standing_whisker(x(cost), y(low), y(high), role)
        tip = f"{line.scheme}: {value:.2%} right, click IoU {line.click_iou:.3f}, {x_name} {short(cost)}"
        shapes.append(Dot(x(cost), y(value), role, 6, tip=tip))
    places = apart([y(_worth(line)) - 10 for line, _ in costs], 17, TOP + 12, height - BOTTOM)
    for number, (line, cost) in enumerate(costs):
        role = f"s{number % SERIES}"
        shapes.append(Words(x(cost) + 10, places[number], line.scheme, role, 13, bold=True))
    line = costs[0][0]
    return Chart(
        name=slug(f"pareto-{kind}-{variant}"),
        title=f"{variant}: what a scheme costs and what it is worth",
        about=f"{line.things:,} things in {line.scenes} held-out scenes; bars: 95 % by chance alone.",
        width=WIDTH,
        height=height,
        shapes=shapes,
    )


def _worth(line: Accuracy) -> float:
    return line.category


def roofline(rows: Sequence[Row]) -> list[Chart]:
    """Tokens a second against bytes read for each, below the line that memory draws; a chart a device."""
    found = decodes(rows)
    return [
        _roofline(device, [row for row in found if row.machine.device == device])
        for device in dict.fromkeys(row.machine.device for row in found)
    ]


def _roofline(device: str, rows: Sequence[Row]) -> Chart:
    height = 360.0
    rates = [row.machine.read_bytes_per_s for row in rows if row.machine.read_bytes_per_s]
    rate = max(rates) if rates else None
    sizes = [bytes_per_token(row) / 1e6 for row in rows]
    speeds = [row.figures["tokens_per_s"] for row in rows]
    bounds = [] if rate is None else [rate / 1e6 / size for size in sizes]
    # Room on the left: the bound falls to the right, and no point is above it.
    x = Scale(min(sizes) / 6, max(sizes) * 1.6, LEFT, WIDTH - RIGHT, log=True)
    y = by_ratio([*speeds, *bounds], height - BOTTOM, TOP + 8)
    shapes = two_axes(x, y, x_name="MB of weights read for a token", y_name="tokens a second")
    if rate is not None:
        ends = [(size, rate / 1e6 / size) for size in (x.low, x.high)]
        inside = [_clipped(*ends[0], rate, y.high), _clipped(*ends[1], rate, y.low, lower=True)]
        shapes.append(Path(tuple((x(a), y(b)) for a, b in inside), "accent", width=2))
        left, top = x(inside[0][0]) + 14, y(inside[0][1]) + 10
        shapes.append(Words(left, top, f"memory: {rate / 1e9:.1f} GB/s", "accent", 12.5, bold=True))
    places = apart([y(speed) for speed in speeds], 17, TOP + 12, height - BOTTOM)
    for number, (row, size, speed) in enumerate(zip(rows, sizes, speeds, strict=True)):
        role = f"s{number % SERIES}"
        share = "" if rate is None else f", {speed * size * 1e6 / rate:.0%} of memory"
        who = f"{row.variant} {row.scheme}" + ("" if row.side == "pam-edge" else f" ({row.side})")
        shapes.append(Dot(x(size), y(speed), role, 6, tip=f"{who}: {speed:.1f} tokens a second{share}"))
        label, height_of = f"{who}: {short(speed)}{share}", places[number] + 4
        if x(size) < WIDTH / 2:  # labels of the first points would not fit on their left
            shapes.append(Words(x(size) + 12, height_of, label, "ink", 12.5))
        else:
            shapes.append(Words(x(size) - 12, height_of, label, "ink", 12.5, "end"))
    bound = "no bandwidth was measured" if rate is None else "the line is what reading weights alone allows"
    return Chart(
        name=f"decode-{slug(device)}",
        title=f"Decoding on {device}",
        about=f"Tokens a second of one answer; {bound}.",
        width=WIDTH,
        height=height,
        shapes=shapes,
    )


def _clipped(
    size: float, speed: float, rate: float, limit: float, *, lower: bool = False
) -> tuple[float, float]:
    """A point of the bound, moved along it into the chart."""
    if (speed < limit) if lower else (speed > limit):
        return rate / 1e6 / limit, limit
    return size, speed


def devices(rows: Sequence[Row]) -> list[Chart]:
    """The same bundle on every device, where there are at least two."""
    whos = one_click(rows)
    charts = []
    for variant, scheme in dict.fromkeys((w.variant, w.scheme) for w in whos):
        held = {w.device: w for w in whos if (w.variant, w.scheme) == (variant, scheme)}
        if len(held) >= 2:
            charts.append(_devices(f"{variant} {scheme}", list(held.values())))
    return charts


_SHOWN = (("first mask", "first mask"), ("first token", "first token"), ("total", "click and answer"))


def _devices(name: str, whos: Sequence[Who]) -> Chart:
    left, right = 120.0, 110.0
    shown = [(m, told) for m, told in _SHOWN if any(w.median(m) is not None for w in whos)]
    values = [v for w in whos for m, _ in shown if (v := w.median(m)) is not None]
    x = from_zero(values, left, WIDTH - right)
    entries = [(w.device, f"s{n % SERIES}") for n, w in enumerate(whos)]
    shapes, head = legend(entries, left, TOP + 4, room=WIDTH - left)
    y = TOP + head
    for measure, told in shown:
        shapes.append(Words(left - 12, y + 10 * len(whos) + 4, told, "ink", 13, "end"))
        for number, who in enumerate(whos):
            value, row = who.median(measure), who.rows.get(measure)
            if value is None or row is None or row.stats is None:
                shapes.append(Words(left + 6, y + 14, "not measured", "soft", 12))
            else:
                shapes.append(bar(left, y + 2, x(value) - left, 15, f"s{number % SERIES}", told_time(value)))
                shapes += whisker(x(row.stats.p25), x(row.stats.p75), y + 9.5)
                beside = max(x(value), x(row.stats.p75)) + 8
                shapes.append(Words(beside, y + 14, told_time(value), "soft", 12))
            y += 20
        y += 14
    return Chart(
        name=f"devices-{slug(name)}",
        title=f"{name} by device",
        about="Medians; the thin line spans the middle half of the samples.",
        width=WIDTH,
        height=y,
        shapes=shapes,
    )


def _place(who: Who) -> str:
    return who.device + ("" if who.threads == 0 else f", {who.threads} thread{'s' * (who.threads > 1)}")


def _file(kind: str, who: Who) -> str:
    return slug(f"{kind}-{who.device}-{who.variant}-{who.scheme}-{who.side}-{who.threads}")


def slug(text: str) -> str:
    """A text as part of a file's name."""
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in text.lower()).split())
