"""The grid that `bench` goes through: lists with commas, every combination that a task can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pam_edge.benchmarks.devices.gates import Gate
from pam_edge.benchmarks.harness.rows import WorkloadId
from pam_edge.benchmarks.speed.tasks import TASKS, Task, Work
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError


@dataclass(frozen=True)
class Axes:
    """How much work, as lists. What a task does not read makes no rows of its own."""

    clicks: tuple[int, ...] = (1,)
    prompt: tuple[int, ...] = (1070,)
    frames: tuple[int, ...] = (16,)
    objects: tuple[int, ...] = (1,)
    size: tuple[int, ...] = (0,)
    tokens: tuple[int, ...] = (32,)
    threads: tuple[int, ...] = (0,)

    def works(self, task: Task) -> list[Work]:
        """Every combination that the task can tell apart, in order."""
        names = ("tokens", "clicks", "prompt", "frames", "objects", "size")
        found: dict[tuple[str, ...], Work] = {}
        for values in product(*(getattr(self, name) for name in names)):
            work = Work(**dict(zip(names, values, strict=True)))
            found.setdefault(tuple(work.settings(task).values()), work)
        return list(found.values())


@dataclass(frozen=True)
class Cell:
    """One cell of the grid. Several bundles of one cell are interleaved, iteration by iteration."""

    task: Task
    work: Work
    threads: int
    bundles: tuple[Bundle, ...]

    @property
    def text(self) -> str:
        """For people."""
        settings = ", ".join(f"{name} {value}" for name, value in self.work.settings(self.task).items())
        who = " and ".join(f"{b.manifest.variant.name} {b.manifest.scheme}" for b in self.bundles)
        return f"{self.task} of {who} ({settings})"


@dataclass(frozen=True)
class Plan:
    """Everything one command measures."""

    cells: tuple[Cell, ...]
    repeat: int
    warmup: int
    gates: tuple[Gate, ...] = ()
    cool_down: float = 300.0  # seconds to wait at a gate
    workload: WorkloadId | None = None  # that the cells are of


def grid(
    bundles: Sequence[Bundle], tasks: Sequence[Task], axes: Axes, *, interleave: bool
) -> tuple[Cell, ...]:
    """Every combination, bundles innermost. `interleave` puts all bundles into each cell."""
    groups = [tuple(bundles)] if interleave else [(bundle,) for bundle in bundles]
    return tuple(
        Cell(task, work, threads, group)
        for task in tasks
        for threads in axes.threads
        for work in axes.works(task)
        for group in groups
    )


def read_bundles(text: str) -> tuple[Bundle, ...]:
    """Folders, comma between. Raises like `Bundle.open`, and UsageError where one is named twice."""
    found = [Bundle.open(Path(part.strip()), check=False) for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError("no bundle is named")
    if len({bundle.manifest.sha256 for bundle in found}) < len(found):
        raise UsageError(f"{text} names one bundle twice")
    return tuple(found)


def read_task_names(text: str) -> tuple[Task, ...]:
    """Tasks, comma between. Raises UsageError for one that is unknown."""
    found: list[Task] = []
    for part in text.split(","):
        known = [task for task in TASKS if task == part.strip()]
        if not known:
            raise UsageError(f"--task {part.strip()!r} is unknown; known: {', '.join(TASKS)}")
        found += known
    return tuple(dict.fromkeys(found))


def read_numbers(text: str, option: str, *, least: int = 1) -> tuple[int, ...]:
    """Whole numbers, comma between. Raises UsageError otherwise."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and least <= int(part) <= 1_000_000 for part in parts):
        raise UsageError(f"{option} {text!r}: whole numbers from {least} on, comma between: {option} 1,4,16")
    return tuple(dict.fromkeys(int(part) for part in parts))
