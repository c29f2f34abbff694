"""Measure what schemes cost in accuracy: bundles of one variant on the same scenes, the float one first.

    python -m pam_edge.benchmarks.quality.schemes FLOAT BUNDLE... --world 41 --n 500 [--out FILE]

Every bundle is asked the same; its figures become a line of the result file, in the place of an earlier one
of its variant, scheme and scenes. Knows what `pam-edge eval` measures, no scheme and no table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import msgspec

from pam_edge.benchmarks.harness.result_lines import put_lines
from pam_edge.benchmarks.quality.pictures import evaluate
from pam_edge.benchmarks.quality.report import Report
from pam_edge.benchmarks.quality.world_cases import world_source
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import PamEdgeError, UsageError
from pam_edge.core.system_info import describe_host
from pam_edge.pipeline.pam import load
from pam_edge.text.tokenization import Lang

RESULTS = Path("benchmarks/results/schemes.jsonl")
LANGS: tuple[Lang, ...] = ("en", "zh")


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One bundle on one set of scenes. IoU and category are shares of 1, averaged over objects."""

    schema: Literal[1] = 1
    variant: str
    scheme: str
    bundle: str  # sha256 in its bundle.json
    bundle_bytes: int
    world: int  # seed of the scenes, of the held-out split
    scenes: int
    objects: int = msgspec.field(name="things")  # as rows of before say
    click_iou: float
    box_iou: float
    category: float  # the right category named, averaged over languages
    host: str
    tools: dict[str, str]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What a newer line takes the place of."""
        return self.variant, self.scheme, self.world, self.scenes


def accuracy(bundle: Bundle, report: Report, *, world: int, scenes: int) -> Accuracy:
    """The line of a report. Raises UsageError where it holds no figure to compare."""
    named = [cells.category.value for cells in report.languages.values()]
    values = (report.click_iou.value, report.box_iou.value, *named)
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not named:
        raise UsageError(f"{bundle.folder} gave no figures on these scenes")
    manifest = bundle.manifest
    return Accuracy(
        variant=manifest.variant.name,
        scheme=manifest.scheme,
        bundle=manifest.sha256,
        bundle_bytes=bundle.total_bytes,
        world=world,
        scenes=scenes,
        objects=report.cases,
        click_iou=round(known[0], 5),
        box_iou=round(known[1], 5),
        category=round(fmean(known[2:]), 5),
        host=describe_host(),
        tools=manifest.tools,
    )


def points_lost(line: Accuracy, against: Accuracy) -> dict[str, float]:
    """Points of a hundred that a bundle loses against another on the same scenes; below 0 it gains."""
    if (line.world, line.scenes, line.objects) != (against.world, against.scenes, against.objects):
        raise ValueError("measured on different scenes")
    pairs = {
        "click": (against.click_iou, line.click_iou),
        "box": (against.box_iou, line.box_iou),
        "category": (against.category, line.category),
    }
    return {name: 100 * (wanted - found) for name, (wanted, found) in pairs.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (see errors.py)."""
    parser = argparse.ArgumentParser(prog="schemes", description=__doc__, allow_abbrev=False)
    parser.add_argument("bundles", nargs="+", help="the float bundle first")
    parser.add_argument("--world", type=int, default=41, help="seed of the scenes")
    parser.add_argument("--n", type=int, default=500, help="how many scenes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    try:
        opened = [Bundle.open(folder) for folder in given.bundles]
        if len({bundle.manifest.variant.name for bundle in opened}) > 1:
            raise UsageError("bundles of one variant can be compared, not of several")
        first: Accuracy | None = None
        for bundle in opened:
            source = world_source(given.world, given.n, langs=LANGS)
            report = evaluate(load(bundle, threads=given.threads), source, langs=LANGS)
            line = accuracy(bundle, report, world=given.world, scenes=given.n)
            put_lines(given.out, [line], Accuracy)
            first = first or line
            lost = ", ".join(f"{name} {points:+.2f}" for name, points in points_lost(line, first).items())
            print(f"{line.scheme}: points lost: {lost}", flush=True)  # noqa: T201 - a command of its own
    except PamEdgeError as e:
        print(f"schemes: {e}", file=sys.stderr)  # noqa: T201
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
