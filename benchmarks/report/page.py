"""The report as one HTML file: charts as SVG, every row in a table, nothing fetched and nothing run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from pam_edge.benchmarks.report import charts, claims, growing, memory
from pam_edge.benchmarks.report.choose import Who, one_click
from pam_edge.benchmarks.report.scales import told_time
from pam_edge.benchmarks.report.shapes import Chart
from pam_edge.benchmarks.report.style import style
from pam_edge.benchmarks.report.svg import svg
from pam_edge.benchmarks.rows import Machine, Row, State
from pam_edge.benchmarks.schemes import Accuracy
from pam_edge.benchmarks.table import quantity

_SECTIONS = {
    "stages": (
        "One click, stage by stage",
        "Each stage begins where the one before ends; the thin line spans the middle half of the samples.",
        "no click on a picture was measured",
    ),
    "schemes": (
        "What a scheme costs and what it is worth",
        "Accuracy on held-out rendered scenes against time or size; the dashed line joins those that none "
        "beats in both.",
        "no accuracy of two schemes is in these files (schemes.jsonl)",
    ),
    "decode": (
        "Decoding against memory",
        "A token costs reading the weights once: no decoder is faster than memory allows, but one whose "
        "weights fit into the processor's caches.",
        "no decoding with its bytes a token was measured",
    ),
    "memory": (
        "Memory over time",
        "From the start of the process to the end of its first turn.",
        "no row has memory over time",
    ),
    "devices": ("Device by device", "The same bundle, the same click.", "only one device is in these files"),
    "growth": (
        "Cost as work grows",
        "A growth is named where the fit holds within a tenth, or within twice the spread.",
        "no list of clicks, prompts, frames, things or sizes of three or more was measured",
    ),
}


def all_charts(rows: Sequence[Row], lines: Sequence[Accuracy]) -> dict[str, list[Chart]]:
    """Every chart by its section."""
    return {
        "stages": charts.waterfalls(rows),
        "schemes": charts.pareto(rows, lines),
        "decode": charts.roofline(rows),
        "memory": memory.memory(rows),
        "devices": charts.devices(rows),
        "growth": growing.charts(rows),
    }


def page(rows: Sequence[Row], drawn: Mapping[str, Sequence[Chart]]) -> str:
    """The whole document."""
    body = [_header(rows), _tiles(rows)]
    body += [_section(name, drawn[name]) for name in _SECTIONS]
    body += [_growths(rows), claims.section(rows), _failures(rows), _every(rows), _conditions(rows)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>pam-edge: measurements</title><style>{style()}</style></head>\n"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(rows: Sequence[Row]) -> str:
    devices = dict.fromkeys(row.machine.device for row in rows)
    commits = dict.fromkeys(row.commit[:10] + (" with changes" if row.dirty else "") for row in rows)
    bundles = dict.fromkeys(f"{row.variant} {row.scheme}" for row in rows if row.bundle)
    chips = "".join(f"<span>{escape(text)}</span>" for text in (*bundles, *devices, *commits) if text.strip())
    samples = sum(len(row.samples) for row in rows)
    busy = sum(row.load is not None and not row.load.idle for row in rows)
    warning = (
        f"<p class=warning>{busy} of {len(rows)} rows were taken while others used the device: read ratios "
        "there, not seconds.</p>"
        if busy
        else ""
    )
    return (
        f"<header><h1>Measurements</h1><p class=chips>{chips}</p>"
        f"<p class=lead>{len(rows)} rows, {samples:,} samples. Medians everywhere; what was not measured "
        f"says so.</p>{warning}</header>"
    )


def _tiles(rows: Sequence[Row]) -> str:
    whos = one_click(rows)
    if not whos:
        return ""
    tiles = []
    for title, measure in (("first mask", "first mask"), ("first token after the click", "first token")):
        best = _least(whos, measure)
        if best is not None:
            tiles.append((title, told_time(best.median(measure) or 0), best))
    fast = max(whos, key=lambda w: w.figure("decode", "tokens_per_s") or 0)
    speed = fast.figure("decode", "tokens_per_s")
    if speed is not None:
        tiles.append(("decoding", f"{speed:.3g} tok/s" if speed < 1000 else f"{speed:,.0f} tok/s", fast))
    small = _least(whos, "peak memory")
    if small is not None:
        tiles.append(("peak memory", quantity(small.median("peak memory") or 0, "bytes"), small))
    cells = "".join(
        f"<div class=tile><h3>{escape(title)}</h3><p>{escape(value)}"
        f"<small>best here: {escape(who.name)}, {escape(who.device)}</small></p></div>"
        for title, value, who in tiles
    )
    return f"<div class=tiles>{cells}</div>"


def _least(whos: Sequence[Who], measure: str) -> Who | None:
    held = [who for who in whos if who.median(measure) is not None]
    return min(held, key=lambda who: who.median(measure) or 0) if held else None


def _section(name: str, drawn: Sequence[Chart]) -> str:
    title, about, none = _SECTIONS[name]
    if not drawn:
        return f"<section id={name}><h2>{title}</h2><p class=none>Not measured: {none}.</p></section>"
    figures = "".join(
        f"<figure><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.about)}</p></figcaption>"
        f"{svg(chart)}</figure>"
        for chart in drawn
    )
    head = f"<h2>{title}</h2><p class=about>{about}</p>"
    return f"<section id={name}>{head}<div class=charts>{figures}</div></section>"


def _growths(rows: Sequence[Row]) -> str:
    found = growing.growths(rows)
    if not found:
        return ""
    body = "".join(
        f"<tr><td class=w>{escape(one.curve.part)}<td class=w>{escape(one.curve.measure)}"
        f"<td class=w>{escape(one.curve.who)}<td class=w>{escape(one.curve.axis)} "
        f"{one.curve.points[0][0]:g} to {one.curve.points[-1][0]:g}<td class=w>{escape(one.words)}"
        f"<td>{'' if one.fit is None else f'{one.fit.worst:.0%}'}"
        for one in found
    )
    head = "".join(f"<th class=w>{name}" for name in ("task", "measure", "of", "work", "growth"))
    table = f"<thead><tr>{head}<th>worst error</thead><tbody>{body}</tbody>"
    return f"<div class=scroll><table>{table}</table></div>"


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.error]
    if not failed:
        return ""
    body = "".join(
        f"<tr><td class=w>{escape(_what(row))}<td>{len(row.samples)}<td class=why>{escape(row.error)}"
        for row in failed
    )
    return (
        "<section><h2>What was not measured, and why</h2><div class=scroll><table><thead><tr><th class=w>"
        f"measurement<th>samples<th class=w>reason</thead><tbody>{body}</tbody></table></div></section>"
    )


def _what(row: Row) -> str:
    work = ", ".join(f"{name} {value}" for name, value in row.settings.items())
    return f"{row.part}: {row.measure}, {row.variant} {row.scheme}, {row.machine.device} ({work})"


def _every(rows: Sequence[Row]) -> str:
    names = ("measurement", "median", "p5", "p25", "p75", "p95", "n", "derived", "others")
    head = "".join(f"<th{' class=w' if n in ('measurement', 'derived') else ''}>{n}" for n in names)
    body = "".join(_line(row) for row in rows if row.stats is not None)
    return (
        "<section><h2>Every row</h2><details><summary>Show the table</summary><div class=scroll><table>"
        f"<thead><tr>{head}</thead><tbody>{body}</tbody></table></div></details></section>"
    )


def _line(row: Row) -> str:
    s = row.stats
    assert s is not None  # chosen so
    values = (s.median, s.p05, s.p25, s.p75, s.p95)
    cells = "".join(f"<td>{'' if v is None else quantity(v, row.unit)}" for v in values)
    derived = ", ".join(f"{value:.4g} {name.replace('_', ' ')}" for name, value in row.figures.items())
    if row.against is not None:
        derived = f"{row.against.factor:.2f} x {row.against.side}"
    others = "" if row.load is None else f"{row.load.others_mean:.1%}{'' if row.load.idle else ' busy'}"
    return (
        f"<tr><td class=w>{escape(_what(row))}{cells}<td>{len(row.samples)}<td class=w>{escape(derived)}"
        f"<td>{others}"
    )


def _conditions(rows: Sequence[Row]) -> str:
    parts = []
    for device in dict.fromkeys(row.machine.device for row in rows):
        held = [row for row in rows if row.machine.device == device]
        entries = [("machine", _machine(held[-1].machine))]
        before = next((row.before for row in held if row.before is not None), None)
        after = next((row.after for row in reversed(held) if row.after is not None), None)
        entries += [("before", _state(before)), ("after", _state(after))]
        versions = {name: version for row in held for name, version in row.versions.items()}
        entries.append(("versions", ", ".join(f"{name} {v}" for name, v in sorted(versions.items()))))
        listed = "".join(f"<dt>{name}<dd>{escape(text)}" for name, text in entries if text)
        parts.append(f"<h3>{escape(device)}</h3><dl>{listed}</dl>")
    return f"<section><h2>Conditions</h2>{''.join(parts)}</section>"


def _machine(m: Machine) -> str:
    told = [m.model, m.cpu, f"{m.cores} cores", m.gpu, m.system, f"Python {m.python}" if m.python else None]
    if m.memory_bytes is not None:
        told.append(f"{m.memory_bytes / 2**30:.0f} GiB")
    if m.read_bytes_per_s is not None:
        told.append(f"reads {m.read_bytes_per_s / 1e9:.1f} GB/s")
    return ", ".join(text for text in told if text)


def _state(state: State | None) -> str:
    if state is None:
        return ""
    told = []
    if state.power_mode is not None:
        told.append(f"power mode {state.power_mode}")
    if state.clocks_locked is not None:
        told.append("clocks locked" if state.clocks_locked else "clocks free")
    told += [f"{name} {hz / 1e6:.0f} MHz" for name, hz in state.clocks_hz.items()]
    told += [f"{name} {degrees:.1f} C" for name, degrees in state.temperatures_c.items()]
    told += [f"{name} {watts:.1f} W" for name, watts in state.power_w.items()]
    if state.battery is not None:
        told.append(f"battery {state.battery:.0%}")
    if state.charging is not None:
        told.append("charging" if state.charging else "not charging")
    if state.throttling is not None:
        told.append(f"throttling: {state.throttling}")
    if state.free_bytes is not None:
        told.append(f"{state.free_bytes / 1e9:.1f} GB free")
    return ", ".join(told)
