"""The machine a measurement runs on: what it is, how fast it reads, and how much of it others use meanwhile.

Processor time is read by psutil. Knows no engine.
"""

from __future__ import annotations

import ctypes
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pam_edge.benchmarks.harness.rows import Load, Machine
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.cpu_kind import ENV, cpu_kind
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.core.system_info import available_memory, cores, cpu_features, total_memory
from pam_edge.runtimes.common.registry import engine_version

try:
    import psutil
except ImportError as e:
    raise EnvironmentProblem("measuring needs psutil: pip install 'pam-edge[bench]'") from e

IDLE = 0.05  # share of all cores that others may use while something is measured
_CPUINFO = Path("/proc/cpuinfo")  # psutil does not know what a processor is called
_READ = 512 << 20  # bytes each thread reads: many times any cache
_HERE = Path(__file__).resolve().parent


def this_machine(*, read_bytes_per_s: float | None) -> Machine:
    """The machine as it is now."""
    return Machine(
        device="local",
        cpu=cpu_name(),
        cores=cores(),
        memory_bytes=total_memory(),
        free_bytes=available_memory(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        features=cpu_features() or (),
        read_bytes_per_s=read_bytes_per_s,
    )


def where_run(bundle: Bundle) -> dict[str, str]:
    """Processor, kind of CPU as engines see it, and version of the engine that runs `bundle`; what the system
    does not say is "".
    """
    runtime = bundle.manifest.runtime
    return {
        "cpu": cpu_name() or "",
        "kind": cpu_kind() or "",
        "engine": f"{runtime} {engine_version(runtime) or ''}".strip(),
    }


def this_commit() -> tuple[str, bool]:
    """The commit of the source that runs, and whether its files differ from it; ("unknown", True) outside
    git.
    """
    try:
        found = [
            subprocess.run(
                ["git", *words], cwd=_HERE, capture_output=True, text=True, check=True, timeout=60
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return "unknown", True
    return found[0], bool(found[1])


def read_bandwidth(threads: int, *, size: int = _READ, rounds: int = 7) -> tuple[list[int], int]:
    """Nanoseconds of each round, and the bytes one round reads: every thread runs the C library's `memchr`
    over an array of its own that does not hold the byte looked for.

    That function reads memory in the widest loads there are and does nothing else.
    """
    find = ctypes.CDLL(None).memchr
    find.argtypes, find.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    arrays = [np.full(size, 1, np.uint8) for _ in range(threads)]
    samples = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):
            clock = time.perf_counter_ns()
            for found in pool.map(lambda a: find(a.ctypes.data, 2, a.nbytes), arrays):
                if found is not None:
                    raise RuntimeError("memchr found what is not there")
            samples.append(time.perf_counter_ns() - clock)
    return samples[1:], threads * size


@dataclass(frozen=True)
class Ticks:
    """Processor time since boot over all cores, in hundredths of a second."""

    total: int
    busy: int
    stolen: int
    own: int

    @classmethod
    def read(cls, pids: Iterable[int]) -> Ticks:
        """Now; `own` is the time of the processes `pids` and of their children that ended."""
        times = psutil.cpu_times()
        stolen = getattr(times, "steal", 0.0)  # Linux alone knows this and the next
        waiting = getattr(times, "iowait", 0.0)
        # A guest's time is part of its user's.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = total - times.idle - waiting
        own = sum(_process_seconds(pid) for pid in pids)
        return cls(*(round(seconds * 100) for seconds in (total, busy, stolen, own)))

    def since(self, before: Ticks) -> tuple[int, int, int]:
        """Ticks that passed: all, those of others, stolen ones."""
        others = (self.busy - before.busy) - (self.own - before.own)
        return self.total - before.total, max(0, others), self.stolen - before.stolen


@dataclass
class Watch:
    """Notes, sample by sample, how much of the machine others used. Times too short to tell are pooled."""

    limit: float = IDLE
    average_before: float = field(default_factory=lambda: os.getloadavg()[0])
    _spans: list[tuple[int, int, int]] = field(default_factory=list)  # all ticks, others', stolen

    def note(self, before: Ticks, after: Ticks) -> None:
        """A span between two readings of the same processes."""
        self.add(after.since(before))

    def add(self, span: tuple[int, int, int]) -> None:
        """A span as `Ticks.since` gives it, wherever it was read."""
        self._spans.append(span)

    def load(self) -> Load | None:
        """What was noted, None where no time passed."""
        total = sum(span for span, _, _ in self._spans)
        if not total:
            return None
        mean = sum(others for _, others, _ in self._spans) / total
        # Ticks are 10 ms: a span of fewer than 50 says nothing by itself.
        worst = max((others / span for span, others, _ in self._spans if span >= 50), default=mean)
        return Load(
            average_before=self.average_before,
            others_mean=mean,
            others_worst=worst,
            stolen=sum(stolen for _, _, stolen in self._spans) / total,
            idle=mean <= self.limit,
        )


def require_idle(*, limit: float = IDLE, seconds: float = 3.0) -> None:
    """Raise EnvironmentProblem where others use more than `limit` of the machine during `seconds`."""
    watch = Watch(limit)
    before = Ticks.read([os.getpid()])
    time.sleep(seconds)
    watch.note(before, Ticks.read([os.getpid()]))
    load = watch.load()
    if load is not None and not load.idle:
        raise EnvironmentProblem(
            f"the machine is busy: others use {load.others_mean:.0%} of its cores (limit {limit:.0%}); "
            "stop them, or give --busy and have the rows say so"
        )


def bandwidth_of(samples: list[int], size: int) -> float:
    """Bytes a second, of the median round."""
    return size / statistics.median(samples) * 1e9


def _process_seconds(pid: int) -> float:
    """Processor time of a process and of its children that ended, 0 once it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def cpu_name() -> str | None:
    """The processor, and what engines see of it where that is less than there is; None where not told."""
    name = _processor()
    seen = os.environ.get(ENV)
    return f"{name or 'processor not told'}, engines see {seen}" if seen else name


def _processor() -> str | None:
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return platform.processor() or None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or None
