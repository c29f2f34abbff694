"""What comes of the sides of one task as rows: each side's own, ours against each, what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.pins import OURS, PYTORCH
from pam_edge.benchmarks.harness.rows import Row, Unit, against
from pam_edge.benchmarks.harness.turns import Side
from pam_edge.benchmarks.paper_claims.published import POINTS, Task, claimed
from pam_edge.benchmarks.paper_claims.side import FRAMES
from pam_edge.benchmarks.paper_claims.systems import NOT_REBUILT, SYSTEMS, System

PEAK = "peak memory"
MADE = "masks made too"  # of a side that is given its masks: what SAM takes for them is added


@dataclass
class Held:
    """A side: who it is, how it starts, what is known of it before."""

    who: Who
    command: list[str]
    size: int  # bytes of files; 0: unknown
    parameters: int | None  # None: not counted
    twice: int  # bytes of weights that lie in memory twice
    side: Side | None = None


def settings(task: Task, tokens: int) -> dict[str, str]:
    """What a row of this part depends on."""
    work = {"frames of the clip": str(FRAMES)} if task == "video" else {}
    return {"task": task, "tokens": str(tokens), **work}


def unit_of(measure: str) -> Unit:
    """What a side's samples of a measure are in."""
    return "bytes" if measure == PEAK else "ns"


def measured(job: Job, about: Subject, task: Task, held: Mapping[str, Held]) -> list[Row]:
    """Rows of all sides that took a turn or failed at one, and ours against each."""
    rows = [row for one in held.values() for row in side_rows(job, about, one)]
    return [*rows, *ratios(job, about, task, held)]


def side_rows(job: Job, about: Subject, one: Held) -> list[Row]:
    """A side's own: what was measured, what its files and its weights weigh; or why there is nothing."""
    side = one.side
    assert side is not None  # only loaded ones are held
    if not side.samples:
        failed = [figure(job, about, one.who, measure="total", error=side.error)]
        return failed if side.error else []
    rows = []
    for measure, samples in side.samples.items():
        figures = {"held_twice_bytes": float(one.twice)} if measure == PEAK and one.twice else {}
        rows.append(
            figure(
                job, about, one.who, measure=measure, samples=samples, unit=unit_of(measure), load=side.load,
                figures=figures,
            )
        )  # fmt: skip
    counted = {**about.settings, "how": "counted from shapes, 2 bytes a weight"}
    weights = Subject(about.part, about.variant, counted)
    if one.parameters is not None:
        size = 2 * one.parameters
        rows.append(figure(job, weights, one.who, measure="weights", samples=[size], unit="bytes"))
    if one.size:
        rows.append(figure(job, about, one.who, measure="files", samples=[one.size], unit="bytes"))
    return rows


def ratios(job: Job, about: Subject, task: Task, held: Mapping[str, Held]) -> list[Row]:
    """Ours against each side: time, time with the masks made too, memory."""
    ours = held.get(OURS)
    if ours is None or ours.side is None or not ours.side.samples:
        return []
    mine, rows = ours.side.samples, []

    def ratio(measure: str, theirs: Sequence[int], side: str, goal: float | None, figures: float = 0) -> None:
        assert ours is not None and ours.side is not None
        told = against(mine[measure], theirs, side=side, goal=goal)
        more = {"taken_off_bytes": figures} if figures else {}
        rows.append(
            figure(
                job, about, ours.who, measure=measure, samples=mine[measure], unit=unit_of(measure),
                load=ours.side.load, figures=more, against=told,
            )
        )  # fmt: skip

    for name, one in held.items():
        if name == OURS or one.side is None or not one.side.samples:
            continue
        theirs = one.side.samples
        ratio("total", theirs["total"], name, claimed(about.variant, name, task, "time"))
        if name != PYTORCH:
            with_masks = [a + b for a, b in zip(theirs["total"], mine["masks"], strict=False)]
            ratio("total", with_masks, f"{name}, {MADE}", None)
        if PEAK in theirs and PEAK in mine:
            peaks = [peak - one.twice for peak in theirs[PEAK]]
            ratio(PEAK, peaks, name, claimed(about.variant, name, task, "memory"), float(one.twice))
    return rows


def unmeasured(job: Job, about: Subject, task: Task, systems: Sequence[System]) -> list[Row]:
    """Systems of the figure that nothing was rebuilt of, or that were left out."""
    names = [p.system for p in POINTS if p.task == task and p.system in NOT_REBUILT]
    rows = [figure(job, about, Who(name, "", ""), measure="total", error=NOT_REBUILT[name]) for name in names]
    asked = {system.key for system in systems}
    for system in SYSTEMS:
        if task in system.tasks and system.key not in asked:
            why = "not measured: left out by --systems"
            rows.append(figure(job, about, Who(system.name, "", ""), measure="total", error=why))
    return rows
