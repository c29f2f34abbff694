"""The process that measures one bundle, wherever it runs: `python -m pam_edge.benchmarks.speed.runner`.

It answers the requests of `requests.py` over its pipe: report the machine, open a bundle, run an iteration.
It runs on a device that has the run side of this package alone, and imports no more.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from pam_edge.benchmarks.devices.energy import Energy
from pam_edge.benchmarks.devices.state import board, chip, gpu_bytes, gpu_name, read_state
from pam_edge.benchmarks.harness.machine import Ticks, read_bandwidth, this_machine
from pam_edge.benchmarks.harness.messages import Iteration
from pam_edge.benchmarks.harness.opened import Opened
from pam_edge.benchmarks.harness.rows import Machine, Series
from pam_edge.benchmarks.harness.watching import MemoryWatch
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.benchmarks.speed import requests
from pam_edge.benchmarks.speed.tasks import GRAPHS, iterate, open_for
from pam_edge.core.system_info import available_memory, cores
from pam_edge.runtimes.common.registry import ENGINES

PACKAGES = ("pam-edge", *dict.fromkeys(record.packages[0] for record in ENGINES), "numpy")


class Runner:
    """One bundle, opened once."""

    def __init__(self) -> None:
        self._memory = MemoryWatch()
        self._energy: Energy | None = None
        self._opened: Opened | None = None

    def machine(self, _: requests.AskMachine) -> Machine:
        """What this machine is; its bandwidth is asked for by itself."""
        machine = this_machine(read_bytes_per_s=None)
        return msgspec.structs.replace(machine, cpu=machine.cpu or chip(), model=board(), gpu=gpu_name())

    def bandwidth(self, asked: requests.AskBandwidth) -> requests.Bandwidth:
        """How fast memory is read, with an eye on how much of it there is."""
        threads = asked.threads or cores()
        free = available_memory() or 0
        size = max(1 << 20, min(asked.size, free // (4 * threads)))
        samples, read = read_bandwidth(threads, size=size)
        return requests.Bandwidth(tuple(samples), read)

    def load(self, asked: requests.Load) -> requests.Loaded:
        """Open a bundle's manifest and the graphs of a task."""
        self._memory.mark("load")
        clock = time.perf_counter_ns()
        opened = open_for(asked.task, Path(asked.bundle), asked.threads)
        opened.open(GRAPHS[asked.task])
        spent = time.perf_counter_ns() - clock
        self._opened, self._energy = opened, Energy()
        return requests.Loaded(spent, _versions(), os.getloadavg()[0])

    def iterate(self, asked: requests.Iterate) -> Iteration:
        """One iteration of a task, and what else the machine did meanwhile."""
        assert self._opened is not None and self._energy is not None, "load comes first"
        pid = os.getpid()
        before, begun = Ticks.read([pid]), self._energy.begin()
        found = iterate(self._opened, asked.task, asked.work, self._memory.mark)
        found.energy, after = self._energy.end(begun), Ticks.read([pid])
        self._memory.keep()
        found.memory, found.gpu = self._memory.most(), gpu_bytes(pid)
        found.ticks = after.since(before)
        return found

    def series(self, _: requests.AskSeries) -> Series | None:
        """Memory from the process's start to the end of its first iteration."""
        return self._memory.series()

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
    try:
        serve(
            {
                requests.AskMachine: runner.machine,
                requests.AskState: lambda _: read_state(),
                requests.AskBandwidth: runner.bandwidth,
                requests.Load: runner.load,
                requests.Iterate: runner.iterate,
                requests.AskSeries: runner.series,
            }
        )
    finally:
        runner.close()


if __name__ == "__main__":
    main()
