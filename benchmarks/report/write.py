"""Files of rows in, a page and pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.quality.evaluation import write_whole
from pam_edge.benchmarks.quality.schemes import Accuracy
from pam_edge.benchmarks.report.drawing import png
from pam_edge.benchmarks.report.page import all_charts, page
from pam_edge.core.errors import IntegrityError, UsageError, cannot_write


def read_all(paths: Sequence[Path]) -> tuple[list[Row], list[Accuracy]]:
    """Rows and accuracy of every file; a line may be either. Raises UsageError, IntegrityError."""
    rows: list[Row] = []
    lines: list[Accuracy] = []
    for path in paths:
        if not path.is_file():
            raise UsageError(
                f"no file of rows at {path}: `pam-edge bench ... -o jsonl --out {path}` makes one"
            )
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                rows.append(msgspec.json.decode(line, type=Row))
            except msgspec.DecodeError as e:
                try:
                    lines.append(msgspec.json.decode(line, type=Accuracy))
                except msgspec.DecodeError:
                    raise IntegrityError(f"{path}, line {number} is no row: {e}; move the file away") from e
    if not rows and not lines:
        raise UsageError("these files hold no row")
    return rows, lines


def write(rows: Sequence[Row], lines: Sequence[Accuracy], out: Path, *, pictures: Path | None) -> int:
    """Write the page, and each chart in light and dark into the folder `pictures`; how many pictures.

    Raises WontFitError or EnvironmentProblem where something cannot be written.
    """
    drawn = all_charts(rows, lines)
    write_whole(out, page(rows, drawn).encode())
    if pictures is None:
        return 0
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise cannot_write(pictures, e) from e
    figures = [figure for found in drawn.values() for figure in found]
    for figure in figures:
        write_whole(pictures / f"{figure.name}.png", png(figure, "light"))
        write_whole(pictures / f"{figure.name}-dark.png", png(figure, "dark"))
    return 2 * len(figures)
