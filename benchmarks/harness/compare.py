"""Two files of rows side by side: what became slower or bigger, and what is mere noise.

Rows are the same measurement where all but commit and bundle is equal. A difference counts where it is
larger than the two rows' own spread: half their quartiles' distances, added as errors are. A row that was
measured before and fails now is a regression. Knows no device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.table import quantity
from pam_edge.core.errors import UsageError

Verdict = Literal["worse", "better", "same", "noise", "fails now", "not in B", "not in A", "not measured"]
_WORSE: tuple[Verdict, ...] = ("worse", "fails now")


@dataclass(frozen=True)
class Pair:
    """One measurement of both files. `change` is B / A - 1, of medians: above 0, B takes more."""

    a: Row | None
    b: Row | None
    change: float | None
    noise: float | None  # share of the median that the spread explains
    verdict: Verdict

    @property
    def name(self) -> tuple[str, ...]:
        """What was measured, for people."""
        row = self.a or self.b
        assert row is not None  # a pair has one
        settings = " ".join(f"{key}={value}" for key, value in sorted(row.settings.items()))
        return (row.part, row.measure, row.variant, row.scheme, row.machine.device, settings)


def read_share(text: str) -> float:
    """`5%` or `0.05` as a share. Raises UsageError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(%?)", text.strip())
    if match is None:
        raise UsageError(f"--max-regress {text!r}: write 5% or 0.05")
    return float(match[1]) / (100 if match[2] else 1)


def compare(a: Sequence[Row], b: Sequence[Row], *, most: float) -> list[Pair]:
    """Every measurement of either file, in the order of A; `most` is the share by which B may be worse.

    Raises UsageError where the files have nothing in common.
    """
    before, after = _by_name(a), _by_name(b)
    if not before.keys() & after.keys():
        raise UsageError(
            "the files have no measurement in common: variant, scheme, device, threads and settings must be "
            "equal"
        )
    names = dict.fromkeys([*before, *after])
    return [_pair(before.get(name), after.get(name), most=most) for name in names]


def regressions(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that are worse by more than was allowed, and by more than noise."""
    return [pair for pair in pairs if pair.verdict in _WORSE]


def to_text(pairs: Sequence[Pair], *, most: float) -> str:
    """Markdown, a line a measurement, and what it comes to."""
    head = ("part", "measure", "variant", "scheme", "device", "work", "A", "B", "B / A", "spread", "")
    lines = [head, ("---",) * len(head), *(_line(pair) for pair in pairs)]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    worse, noisy = regressions(pairs), [pair for pair in pairs if pair.verdict == "noise"]
    text += ["", f"{len(worse)} of {len(pairs)} are worse by more than {most:.0%}."]
    if noisy:
        text.append(
            f"{len(noisy)} differ by more than {most:.0%}, but their spread is larger than the difference: "
            "measure again, on a quieter device or with more turns."
        )
    if any(_busy(pair.a) or _busy(pair.b) for pair in pairs):
        text.append("Some rows were measured while others used the device (BUSY).")
    return "\n".join(text)


def _by_name(rows: Sequence[Row]) -> dict[tuple[str, ...], Row]:
    """Rows without ratios; of several of one name the last."""
    return {row.same: row for row in rows if row.against is None}


def _pair(a: Row | None, b: Row | None, *, most: float) -> Pair:
    if a is None or b is None:
        return Pair(a, b, None, None, "not in A" if a is None else "not in B")
    if a.stats is None or b.stats is None or not a.stats.median:
        verdict: Verdict = "fails now" if a.stats is not None and b.stats is None else "not measured"
        return Pair(a, b, None, None, verdict)
    change = b.stats.median / a.stats.median - 1
    noise = math.hypot(a.stats.spread, b.stats.spread) / 2
    if abs(change) <= most:
        return Pair(a, b, change, noise, "same")
    if abs(change) <= noise:
        return Pair(a, b, change, noise, "noise")
    return Pair(a, b, change, noise, "worse" if change > 0 else "better")


def _line(pair: Pair) -> tuple[str, ...]:
    ratio = "" if pair.change is None else f"{1 + pair.change:.3f}"
    noise = "" if pair.noise is None else f"{pair.noise:.1%}"
    words = "spread larger than difference" if pair.verdict == "noise" else str(pair.verdict)
    if _busy(pair.a) or _busy(pair.b):
        words += " BUSY"
    return (*pair.name, _value(pair.a), _value(pair.b), ratio, noise, words)


def _busy(row: Row | None) -> bool:
    return row is not None and row.load is not None and not row.load.idle


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    return "not measured" if row.stats is None else quantity(row.stats.median, row.unit)
