"""Which rows a chart is made of. Knows rows, draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pam_edge.benchmarks.harness.rows import Row

STAGES = ("preprocess", "encode", "mask", "perceiver", "prefill", "decode")
GROWS = ("clicks", "prompt", "frames", "objects", "size")
ONE_CLICK = ("image", "bundle")  # parts; the latter in rows of before
DECODE = ("decode", "image", "bundle", "decoder")


@dataclass(frozen=True)
class Who:
    """One bundle on one device with one number of threads, and its rows of one kind of work."""

    device: str
    variant: str
    scheme: str
    side: str
    threads: int
    rows: dict[str, Row]  # by measure; the last of each

    @property
    def name(self) -> str:
        """For a chart's label."""
        side = "" if self.side == "pam-edge" else f" ({self.side})"
        return f"{self.variant} {self.scheme}{side}"

    @property
    def place(self) -> str:
        """Device and, where they were set, threads."""
        return self.device + (
            "" if self.threads == 0 else f", {self.threads} thread{'s' * (self.threads > 1)}"
        )

    def median(self, measure: str) -> float | None:
        """Of the samples; None where it was not measured."""
        row = self.rows.get(measure)
        return None if row is None or row.stats is None else row.stats.median

    def figure(self, measure: str, name: str) -> float | None:
        """A derived figure of a measure."""
        row = self.rows.get(measure)
        return None if row is None else row.figures.get(name)


@dataclass(frozen=True)
class Curve:
    """One measure of one bundle as one kind of work grows."""

    part: str
    measure: str
    axis: str
    who: str
    points: tuple[tuple[float, Row], ...]  # work and row, ascending


def one_click(rows: Sequence[Row]) -> list[Who]:
    """One click on a picture as it was rendered, by bundle and device."""
    return grouped([r for r in rows if r.part in ONE_CLICK and r.settings.get("size", "0") == "0"])


def grouped(rows: Sequence[Row]) -> list[Who]:
    """Rows that have samples, by bundle, device and threads."""
    found: dict[tuple[str, str, str, str, int], dict[str, Row]] = {}
    for row in rows:
        if row.against is None and row.stats is not None:
            key = (row.machine.device, row.variant, row.scheme, row.side, row.threads)
            found.setdefault(key, {})[row.measure] = row
    return [Who(*key, rows=held) for key, held in found.items()]


def decodes(rows: Sequence[Row]) -> list[Row]:
    """Rows that say how fast tokens came and how many bytes each read; the shortest prompt of a bundle."""
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.measure != "decode" or row.part not in DECODE or row.against is not None:
            continue
        if row.stats is None or "tokens_per_s" not in row.figures or _bytes_per_token(row) is None:
            continue
        key = (row.machine.device, row.variant, row.scheme, row.side, str(row.threads))
        held = found.get(key)
        if held is None or _prompt(row) < _prompt(held):
            found[key] = row
    return list(found.values())


def bytes_per_token(row: Row) -> float:
    """Of a row that `decodes` gave."""
    found = _bytes_per_token(row)
    assert found is not None  # chosen so
    return found


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Measures taken at three or more amounts of one kind of work, all else equal."""
    found: dict[tuple[str, ...], dict[float, Row]] = {}
    for row in rows:
        if row.against is not None or row.stats is None or row.unit != "ns" or row.measure in _ASIDE:
            continue
        for axis in GROWS:
            value = row.settings.get(axis)
            if value is None or not value.isdecimal() or value == "0":
                continue
            rest = [f"{k}={v}" for k, v in sorted(row.settings.items()) if k != axis]
            who = (row.machine.device, row.variant, row.scheme, row.side, str(row.threads))
            found.setdefault((row.part, row.measure, axis, *who, *rest), {})[float(value)] = row
    return [
        Curve(part=key[0], measure=key[1], axis=key[2], who=_who(key), points=tuple(sorted(held.items())))
        for key, held in found.items()
        if len(held) >= 3
    ]


_ASIDE = ("load", "look", "encode", "remember", "first mask")  # do not depend on what grows, or say no more


def _who(key: tuple[str, ...]) -> str:
    device, variant, scheme, side, threads = key[3:8]
    more = "" if side == "pam-edge" else f", {side}"
    return f"{variant} {scheme}{more}, {device}" + (
        "" if threads == "0" else f", {threads} thread{'' if threads == '1' else 's'}"
    )


def _prompt(row: Row) -> int:
    text = row.settings.get("prompt", "0")
    return int(text) if text.isdecimal() else 0


def _bytes_per_token(row: Row) -> float | None:
    told = row.figures.get("bytes_per_token")
    if told is None and "gb_per_s" in row.figures:
        told = row.figures["gb_per_s"] * 1e9 / row.figures["tokens_per_s"]
    return told
