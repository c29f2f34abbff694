"""Rows as text: markdown for people, JSON, JSON lines and CSV for machines. Knows no device."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from pam_edge.benchmarks.harness.rows import Row, State
from pam_edge.benchmarks.harness.table import markdown
from pam_edge.core.errors import UsageError

Form = Literal["md", "json", "jsonl", "csv"]
_COLUMNS = (
    "part",
    "measure",
    "side",
    "variant",
    "scheme",
    "runtime",
    "device",
    "cpu",
    "model",
    "threads",
    "settings",
    "unit",
    "n",
    "median",
    "low",
    "p05",
    "p25",
    "p75",
    "p95",
    "high",
    "figures",
    "others",
    "power_mode",
    "hottest_before_c",
    "hottest_after_c",
    "charging",
    "free_bytes",
    "commit",
    "dirty",
    "bundle",
    "versions",
    "error",
    "samples",
)


def read_form(text: str) -> Form:
    """A form by name. Raises UsageError that lists them."""
    for form in get_args(Form):
        if form == text:
            known: Form = form
            return known
    raise UsageError(f"-o {text!r} is unknown; known: {', '.join(get_args(Form))}")


def as_text(rows: Sequence[Row], form: Form) -> str:
    """All rows, ending without a line end."""
    match form:
        case "md":
            return markdown(rows).rstrip()
        case "json":
            document = {"schema": 1, "rows": msgspec.to_builtins(rows)}
            return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()
        case "jsonl":
            return b"\n".join(msgspec.json.encode(row) for row in rows).decode()
        case "csv":
            return _csv(rows)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        s, m = row.stats, row.machine
        spread = ("",) * 7 if s is None else (s.median, s.low, s.p05, s.p25, s.p75, s.p95, s.high)
        hot = [
            max(x.temperatures_c.values()) if x and x.temperatures_c else "" for x in (row.before, row.after)
        ]
        state = row.before
        writer.writerow(
            [
                *(row.part, row.measure, row.side, row.variant, row.scheme, row.runtime),
                *(m.device, m.cpu or "", m.model or "", row.threads, _pairs(row.settings), row.unit),
                *(len(row.samples), *spread, _pairs(row.figures)),
                "" if row.load is None else f"{row.load.others_mean:.4f}",
                *("" if state is None else state.power_mode or "", *hot),
                "" if state is None or state.charging is None else str(state.charging).lower(),
                "" if state is None or state.free_bytes is None else state.free_bytes,
                *(row.commit, str(row.dirty).lower(), row.bundle, _pairs(row.versions), row.error),
                " ".join(map(str, row.samples)),
            ]
        )
    return text.getvalue().rstrip("\n")


def _hottest(state: State | None) -> float | str:
    return "" if state is None or not state.temperatures_c else max(state.temperatures_c.values())


def _pairs(values: object) -> str:
    assert isinstance(values, dict)
    return " ".join(f"{name}={value}" for name, value in values.items())
