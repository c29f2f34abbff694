"""Sides in turns: A, B, A, B, ..., with an eye on what else the machine does. Knows no engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pam_edge.benchmarks.harness.machine import Ticks, Watch
from pam_edge.benchmarks.harness.rows import Load
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.core.errors import PamEdgeError

Turn = Callable[[], Mapping[str, Sequence[int]]]  # measure -> samples of one turn


@dataclass
class Side:
    """One side: its worker, what a turn of it is, and what came of its turns so far."""

    name: str
    worker: Worker
    turn: Turn
    samples: dict[str, list[int]] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    error: str = ""

    @property
    def load(self) -> Load | None:
        """What else the machine did during this side's turns."""
        return self.watch.load()


def take_turns(
    sides: Sequence[Side],
    *,
    rounds: int,
    warmup: int,
    tell: Callable[[str], None],
    counted: Callable[[], None] = lambda: None,
) -> None:
    """Give every side `warmup` turns that do not count and `rounds` that do. A side that fails drops out,
    without its samples. `counted` is called after each turn that counts: what there is can be kept then.
    """
    pids = {os.getpid(), *(side.worker.pid for side in sides)}  # a worker may serve two sides
    for number in range(warmup + rounds):
        for side in sides:
            if side.error:
                continue
            before = Ticks.read(pids)
            try:
                found = side.turn()
            except PamEdgeError as e:
                side.samples, side.error = {}, str(e)
                tell(f"{side.name}: {e}")
                continue
            finally:
                side.worker.rest()
            if number < warmup:
                continue
            side.watch.note(before, Ticks.read(pids))
            for measure, samples in found.items():
                side.samples.setdefault(measure, []).extend(samples)
            counted()
        tell(f"round {number + 1} of {warmup + rounds}")
