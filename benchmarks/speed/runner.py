"""The process that measures one bundle, wherever it runs: `python -m pam_edge.benchmarks.speed.runner`.

It does what it is told over its pipe (`worker.serve`): tell of the machine, open a bundle, take a turn. It
runs on a device that has the run side of this package alone, and imports no more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from pam_edge.benchmarks.devices.energy import Energy
from pam_edge.benchmarks.devices.state import board, chip, gpu_bytes, gpu_name, read_state
from pam_edge.benchmarks.harness.machine import Ticks, read_bandwidth, this_machine
from pam_edge.benchmarks.harness.opened import Opened
from pam_edge.benchmarks.harness.watching import MemoryWatch
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.benchmarks.speed.tasks import GRAPHS, TASKS, as_work, open_for, take_turn
from pam_edge.core.errors import UsageError
from pam_edge.core.system_info import available_memory, cores
from pam_edge.runtimes.common.registry import ENGINES

PACKAGES = ("pam-edge", *dict.fromkeys(record.packages[0] for record in ENGINES), "numpy")
_READ = 256 << 20  # bytes a thread, where memory is plenty: many times any cache


class Runner:
    """One bundle, opened once."""

    def __init__(self) -> None:
        self._memory = MemoryWatch()
        self._energy: Energy | None = None
        self._opened: Opened | None = None
        self._kept = False

    def machine(self, _: Mapping[str, Any]) -> Any:
        """What this machine is; its bandwidth is asked for by itself."""
        machine = this_machine(read_bytes_per_s=None)
        machine = msgspec.structs.replace(machine, cpu=machine.cpu or chip(), model=board(), gpu=gpu_name())
        return msgspec.to_builtins(machine)

    def state(self, _: Mapping[str, Any]) -> Any:
        """What it tells of itself now."""
        return msgspec.to_builtins(read_state())

    def bandwidth(self, asked: Mapping[str, Any]) -> Any:
        """How fast memory is read, with an eye on how much of it there is."""
        threads = asked["threads"] or cores()
        free = available_memory() or 0
        size = max(1 << 20, min(asked.get("size", _READ), free // (4 * threads)))
        samples, read = read_bandwidth(threads, size=size)
        return {"samples": samples, "bytes": read}

    def load(self, asked: Mapping[str, Any]) -> Any:
        """Open a bundle's manifest and the graphs of a task."""
        if asked["task"] not in TASKS:
            raise UsageError(f"task {asked['task']!r} is unknown here; this side has another version")
        self._memory.mark("load")
        clock = time.perf_counter_ns()
        opened = open_for(asked["task"], Path(asked["bundle"]), asked["threads"])
        opened.open(GRAPHS[asked["task"]])
        spent = time.perf_counter_ns() - clock
        self._opened, self._energy = opened, Energy()
        return {"load": spent, "versions": _versions(), "average": os.getloadavg()[0]}

    def turn(self, asked: Mapping[str, Any]) -> Any:
        """One turn of a task, and what else the machine did meanwhile."""
        assert self._opened is not None and self._energy is not None, "load comes first"
        pid = os.getpid()
        before, begun = Ticks.read([pid]), self._energy.begin()
        turn = take_turn(self._opened, asked["task"], as_work(asked["work"]), self._memory.mark)
        energy, after = self._energy.end(begun), Ticks.read([pid])
        self._memory.keep()
        return {
            "times": turn.times,
            "work": turn.work,
            "figures": turn.figures,
            "energy": energy,
            "memory": self._memory.most(),
            "gpu": gpu_bytes(pid),
            "ticks": None if before is None or after is None else after.since(before),
        }

    def series(self, _: Mapping[str, Any]) -> Any:
        """Memory from the process's start to the end of its first turn."""
        found = self._memory.series()
        return None if found is None else msgspec.to_builtins(found)

    def close(self) -> None:
        """End what runs beside."""
        self._memory.close()
        if self._energy is not None:
            self._energy.close()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Serve until the pipe ends."""
    runner = Runner()
    names = ("machine", "state", "bandwidth", "load", "turn", "series")
    try:
        serve({name: getattr(runner, name) for name in names})
    finally:
        runner.close()


if __name__ == "__main__":
    main()
