"""The table variant x scheme of the README, from committed rows alone.

    python -m pam_edge.benchmarks.quality.schemes_table

Sizes and times are rows of `pam-edge bench --task image` on this machine (part `image`; part `bundle` in rows
of before) in `results/bench.jsonl` and `results/peers.jsonl`, the last of a variant and scheme; accuracy is
lines of `results/schemes.jsonl` (schemes.py). A cell without a row says "not measured". Measures nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pam_edge.benchmarks.harness.result_lines import read_lines
from pam_edge.benchmarks.harness.rows import Row, read_rows
from pam_edge.benchmarks.quality import schemes
from pam_edge.bundle.builtin import NANO as TRAINED
from pam_edge.bundle.config import NANO, PAM_1_5B, PAM_3B
from pam_edge.quantize.schemes import SCHEMES

VARIANTS = tuple(variant.name for variant in (NANO, PAM_1_5B, PAM_3B))
NONE = "not measured"
FILES = ("peers.jsonl", "bench.jsonl")
PARTS = ("bundle", "image")
FLOAT = ("fp32", "fp16")  # what others are compared with, the first that is there
_HEAD = (
    "variant",
    "scheme",
    "bundle MB",
    "peak MB",
    "encode s",
    "first token s",
    "tok/s",
    "against float, points",
)


def table(rows: Sequence[Row], lines: Sequence[schemes.Accuracy]) -> str:
    """Markdown, a line for every variant and scheme."""
    found = [_HEAD, *(_line(v, s.name, rows, lines) for v in VARIANTS for s in SCHEMES)]
    text = ["| " + " | ".join(line) + " |" for line in found]
    return "\n".join([text[0], "|" + "---|" * len(_HEAD), *text[1:]])


def _line(
    variant: str, scheme: str, rows: Sequence[Row], lines: Sequence[schemes.Accuracy]
) -> tuple[str, ...]:
    def median(measure: str) -> float | None:
        held = [
            row.stats.median for row in rows if _is(row, measure, variant, scheme) and row.stats is not None
        ]
        return held[-1] if held else None

    def speed() -> float | None:
        held = [
            row.figures["tokens_per_s"]
            for row in rows
            if _is(row, "decode", variant, scheme) and "tokens_per_s" in row.figures
        ]
        return held[-1] if held else None

    size = median("size")
    if size is None:
        size = next(
            (float(x.bundle_bytes) for x in lines if (x.variant, x.scheme) == (variant, scheme)), None
        )
    return (
        variant,
        scheme,
        _cell(size, 1e6, ".1f" if size is not None and size < 1e8 else ".0f"),
        _cell(median("peak memory"), 1e6, ".0f"),
        _cell(median("encode"), 1e9, ".2f"),
        _cell(median("first token"), 1e9, ".2f"),
        _cell(speed(), 1, ".1f"),
        _accuracy(variant, scheme, lines),
    )


def _is(row: Row, measure: str, variant: str, scheme: str) -> bool:
    """Whether a row is of the measure, on this machine, of a picture as large as it was rendered."""
    return (
        row.part in PARTS
        and (row.measure, row.variant, row.scheme) == (measure, variant, scheme)
        and row.machine.device == "local"
        and row.settings.get("size", "0") == "0"
        and not row.error
    )


def _cell(value: float | None, unit: float, form: str) -> str:
    return NONE if value is None else format(value / unit, form)


def _accuracy(variant: str, scheme: str, lines: Sequence[schemes.Accuracy]) -> str:
    """Points gained or lost against float on the scenes of the largest comparison there is."""
    if variant != TRAINED:
        return "untrained here"
    held = {line.key: line for line in lines if line.variant == variant}
    pairs = [
        (line, held[variant, base, line.world, line.scenes])
        for base in FLOAT[::-1]
        for line in held.values()
        if line.scheme == scheme and (variant, base, line.world, line.scenes) in held
    ]
    if not pairs:
        return NONE
    line, base = max(pairs, key=lambda pair: (pair[0].scenes, -FLOAT.index(pair[1].scheme)))
    if line == base:
        return "the reference"
    lost = schemes.points_lost(line, base)
    shown = ", ".join(f"{name} {-points + 0.0:+.1f}" for name, points in lost.items())
    return f"{shown} ({line.scenes} scenes)"


def main() -> str:
    """The table of the committed result files."""
    here = Path(__file__).resolve().parents[1] / "results"
    rows = [row for name in FILES for row in read_rows(here / name)]
    return table(rows, read_lines(here / schemes.RESULTS.name, schemes.Accuracy))


if __name__ == "__main__":
    sys.stdout.write(main() + "\n")
