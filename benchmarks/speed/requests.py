"""What `bench` asks the process that measures a bundle (`runner.py`), and what that answers."""

from __future__ import annotations

import msgspec

from pam_edge.benchmarks.harness.messages import Iteration, Request, Versions
from pam_edge.benchmarks.harness.rows import Machine, Series, State
from pam_edge.benchmarks.speed.tasks import Task, Work


class AskMachine(Request[Machine], frozen=True, tag="machine"):
    """What the machine is; its bandwidth is asked for by itself."""


class AskState(Request[State], frozen=True, tag="state"):
    """What the machine reports of itself now."""


class Bandwidth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast memory was read."""

    samples: tuple[int, ...]  # ns
    bytes: int  # that one sample reads


class AskBandwidth(Request[Bandwidth], frozen=True, tag="bandwidth"):
    """Read memory."""

    threads: int  # 0: one a core
    size: int = 256 << 20  # bytes a thread, where memory is plenty: many times any cache


class Loaded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle is open."""

    ns: int
    versions: Versions
    average: float  # the system's one-minute load average


class Load(Request[Loaded], frozen=True, tag="load"):
    """Open a bundle's manifest and the graphs of a task."""

    bundle: str  # folder there
    task: Task
    threads: int  # 0 lets the engine choose


class Iterate(Request[Iteration], frozen=True, tag="iterate"):
    """One iteration of a task."""

    task: Task
    work: Work


class AskSeries(Request[Series | None], frozen=True, tag="series"):
    """Memory from the process's start to the end of its first iteration."""
