"""What comes of the sides of one task as rows: each side's own, ours against each, what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pam_edge.benchmarks.competitors.job import Job, side_row
from pam_edge.benchmarks.competitors.pins import OURS, PYTORCH
from pam_edge.benchmarks.competitors.ratios import ratio
from pam_edge.benchmarks.harness.iterations import Side
from pam_edge.benchmarks.harness.row_builder import Subject, Who, make_row
from pam_edge.benchmarks.harness.rows import Row, Unit
from pam_edge.benchmarks.paper_claims.published import POINTS, Task, claimed
from pam_edge.benchmarks.paper_claims.side import FRAMES
from pam_edge.benchmarks.paper_claims.systems import NOT_REBUILT, SYSTEMS, System

PEAK = "peak memory"
MADE = "masks made too"  # of a side that is given its masks: what SAM takes for them is added


@dataclass
class Held:
    """A side, and what is known of it once it is opened."""

    side: Side
    size: int = 0  # bytes of files; 0: unknown
    parameters: int | None = None  # None: not counted
    twice: int = 0  # bytes of weights that lie in memory twice


def settings(task: Task, tokens: int) -> dict[str, str]:
    """What a row of this part depends on."""
    work = {"frames of the clip": str(FRAMES)} if task == "video" else {}
    return {"task": task, "tokens": str(tokens), **work}


def unit_of(measure: str) -> Unit:
    """What a side's samples of a measure are in."""
    return "bytes" if measure == PEAK else "ns"


def measured(job: Job, about: Subject, task: Task, held: Mapping[str, Held]) -> list[Row]:
    """Rows of all sides that made an iteration or failed, and ours against each."""
    rows = [row for one in held.values() for row in side_rows(job, about, one)]
    return [*rows, *ratios(job, about, task, held)]


def side_rows(job: Job, about: Subject, one: Held) -> list[Row]:
    """A side's own: what was measured, what its files and its weights weigh; or why there is nothing."""
    side = one.side
    if not side.samples:
        return [side_row(job, about, side, "total")] if side.error else []
    rows = []
    for measure in side.samples:
        figures = {"held_twice_bytes": float(one.twice)} if measure == PEAK and one.twice else {}
        rows.append(side_row(job, about, side, measure, unit=unit_of(measure), figures=figures))

    def weighed(measure: str, size: int, more: Mapping[str, str]) -> None:
        what = job.subject(about.part, about.variant, {**about.settings, **more})
        rows.append(make_row(job.conditions, what, side.who, measure=measure, samples=[size], unit="bytes"))

    if one.parameters is not None:
        weighed("weights", 2 * one.parameters, {"how": "counted from shapes, 2 bytes a weight"})
    if one.size:
        weighed("files", one.size, {})
    return rows


def ratios(job: Job, about: Subject, task: Task, held: Mapping[str, Held]) -> list[Row]:
    """Ours against each side: time, time with the masks made too, memory."""
    ours = held[OURS].side if OURS in held else None
    if ours is None or not ours.samples:
        return []
    rows = []
    for name, one in held.items():
        theirs = one.side.samples
        if name == OURS or not theirs:
            continue
        goal = claimed(about.variant, name, task, "time")
        rows.append(ratio(job, about, ours, "total", theirs["total"], name, goal=goal))
        if name != PYTORCH:
            with_masks = [a + b for a, b in zip(theirs["total"], ours.samples["masks"], strict=False)]
            rows.append(ratio(job, about, ours, "total", with_masks, f"{name}, {MADE}", goal=None))
        if PEAK in theirs and PEAK in ours.samples:
            peaks = [peak - one.twice for peak in theirs[PEAK]]
            goal = claimed(about.variant, name, task, "memory")
            off = {"taken_off_bytes": float(one.twice)} if one.twice else {}
            rows.append(ratio(job, about, ours, PEAK, peaks, name, goal=goal, unit="bytes", figures=off))
    return rows


def unmeasured(job: Job, about: Subject, task: Task, systems: Sequence[System]) -> list[Row]:
    """Systems of the figure that nothing was rebuilt of, or that were left out."""
    asked = {system.key for system in systems}
    whys = {p.system: NOT_REBUILT[p.system] for p in POINTS if p.task == task and p.system in NOT_REBUILT}
    for system in SYSTEMS:
        if task in system.tasks and system.key not in asked:
            whys[system.name] = "not measured: left out by --systems"
    return [
        make_row(job.conditions, about, Who(name, "", ""), measure="total", error=why)
        for name, why in whys.items()
    ]
