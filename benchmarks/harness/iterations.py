"""Sides of one run: opened one after the other, then interleaved, iteration by iteration: A, B, A, B, ...

The background load during each side's iterations is recorded. Knows no engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from pam_edge.benchmarks.harness.machine import Ticks, Watch
from pam_edge.benchmarks.harness.messages import Iteration
from pam_edge.benchmarks.harness.row_builder import Who
from pam_edge.benchmarks.harness.rows import Load
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.core.errors import PamEdgeError

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Started:
    """A side that is ready: its worker, what one iteration of it is, and who it is, versions included."""

    worker: Worker
    iterate: Callable[[], Iteration]
    who: Who


@dataclass
class Side:
    """One side, and what came of its iterations so far.

    `start` makes it ready and puts what must be closed onto the stack. `local`: its worker runs on this
    machine, whose other processes are the background load; else iterations say so themselves. A side that
    fails loses its samples, unless `keeps_partial`.
    """

    who: Who
    start: Callable[[ExitStack], Started]
    local: bool = True
    keeps_partial: bool = False
    started: Started | None = None
    samples: dict[str, list[int]] = field(default_factory=dict)  # by measure
    work: dict[str, float] = field(default_factory=dict)
    energy: dict[str, list[int]] = field(default_factory=dict)
    memory: dict[str, list[int]] = field(default_factory=dict)
    problem: PamEdgeError | None = None
    watch: Watch = field(default_factory=Watch)
    _figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """Why it failed; "" where it did not."""
        return "" if self.problem is None else str(self.problem)

    @property
    def load(self) -> Load | None:
        """What else the machine did during this side's iterations."""
        return self.watch.load()

    def figures(self, measure: str) -> dict[str, float]:
        """Medians of what iterations derived from their samples of a measure."""
        return {name: median(values) for name, values in self._figures.get(measure, {}).items()}

    def iterate(self, *, counts: bool) -> None:
        """One iteration. Of a warm-up (`counts` is false) only memory is kept, where the most counts."""
        assert self.started is not None  # open_sides did that
        if counts and self.local:
            pids = {os.getpid(), self.started.worker.pid}
            before = Ticks.read(pids)
            found = self.started.iterate()
            self.watch.note(before, Ticks.read(pids))
        else:
            found = self.started.iterate()
        self._note(found, counts=counts)

    def _note(self, found: Iteration, *, counts: bool) -> None:
        self.memory |= {kind: [size] for kind, size in found.memory.items()}
        if not counts:
            return
        if found.gpu is not None:
            self.memory.setdefault("gpu", []).append(found.gpu)
        for measure, samples in found.samples.items():
            self.samples.setdefault(measure, []).extend(samples)
        self.work |= found.work
        for measure, figures in found.figures.items():
            for name, value in figures.items():
                self._figures.setdefault(measure, {}).setdefault(name, []).append(value)
        for source, taken in found.energy.items():
            self.energy.setdefault(source, []).append(taken)
        if found.ticks is not None:
            self.watch.add(found.ticks)

    @contextmanager
    def keeps_problem(self, tell: Tell) -> Iterator[None]:
        """Keep one of our errors with this side instead of raising it."""
        try:
            yield
        except PamEdgeError as e:
            self.problem = e
            if not self.keeps_partial:
                self.samples = {}
            tell(f"{self.who.side}: {e}")


@contextmanager
def open_sides(sides: Sequence[Side], tell: Tell) -> Iterator[None]:
    """Start every side and let it rest; all are closed at the end. One that fails keeps its problem."""
    with ExitStack() as stack:
        for side in sides:
            with side.keeps_problem(tell):
                side.started = side.start(stack)
                side.who = side.started.who
                side.started.worker.rest()
        yield


def interleave(
    sides: Sequence[Side],
    *,
    repeat: int,
    warmup: int,
    tell: Tell,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Give every side `warmup` iterations that do not count and `repeat` that do.

    A side that fails drops out. `after_each` is called after each iteration that counts: what there is can be
    kept then.
    """
    for number in range(warmup + repeat):
        counts = number >= warmup
        for side in sides:
            if side.problem is not None or side.started is None:
                continue
            with side.keeps_problem(tell):
                try:
                    side.iterate(counts=counts)
                finally:
                    side.started.worker.rest()
            if counts and side.problem is None:
                after_each()
        tell(f"iteration {number + 1} of {warmup + repeat}")
