"""Rows of measurements that describe themselves: what was timed, by whom, where, and how idle it was there.

A file of rows is JSON lines. A row that failed stays, with its reason; none is ever made up. Knows statistics
and files; no engine and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from pam_edge.benchmarks.harness.result_lines import put_lines, read_lines, replace_file
from pam_edge.core.errors import UsageError

Unit = Literal["ns", "bytes", "uJ"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every record in a file of rows."""


class Machine(_Strict, frozen=True):
    """Where a row was measured; what the system does not say is None."""

    device: str  # "local"
    cpu: str | None
    cores: int  # this process may use
    memory_bytes: int | None
    free_bytes: int | None  # when the measurement began
    system: str
    python: str
    features: tuple[str, ...]  # instructions that matter here
    read_bytes_per_s: float | None  # memory's read bandwidth, measured in the same run
    model: str | None = None  # of the board or the phone
    gpu: str | None = None


class Load(_Strict, frozen=True):
    """What else the machine did meanwhile, as a share of all its cores: 0 nothing, 1 everything."""

    average_before: float  # the system's one-minute load average
    others_mean: float  # share used by processes that are no part of the measurement, stolen time included
    others_worst: float  # the same of the worst sample
    stolen: float  # share a hypervisor gave to other machines
    idle: bool  # the mean was within the limit


class State(_Strict, frozen=True, omit_defaults=True):
    """What a device tells of itself at one moment; what it does not tell is None or empty."""

    power_mode: str | None = None  # nvpmodel's name, a processor's governor
    clocks_locked: bool | None = None  # jetson_clocks
    clocks_hz: dict[str, int] = {}
    temperatures_c: dict[str, float] = {}
    throttling: str | None = None  # Android's thermal status in words
    power_w: dict[str, float] = {}  # by rail
    battery: float | None = None  # 0 to 1
    charging: bool | None = None
    free_bytes: int | None = None  # memory a new process could use


class Series(_Strict, frozen=True):
    """A quantity over time, and what began when."""

    unit: Unit
    at_ns: tuple[int, ...]  # since the process began to watch
    values: dict[str, tuple[int, ...]]
    marks: dict[str, int] = {}  # ns


class Stats(_Strict, frozen=True):
    """Of a row's samples, in its unit."""

    median: float
    low: float
    p25: float
    p75: float
    high: float
    p05: float | None = None  # rows of before have none
    p95: float | None = None

    @property
    def spread(self) -> float:
        """(p75 - p25) / median."""
        return (self.p75 - self.p25) / self.median if self.median else 0.0


class Against(_Strict, frozen=True):
    """Another side's samples from the same run, and the factor between: above 1, this row's side wins."""

    side: str
    samples: tuple[int, ...]
    factor: float  # of medians
    low: float  # of pairs measured one after the other
    high: float
    goal: float | None


class WorkloadId(_Strict, frozen=True):
    """Which workload a row is part of (`workload.py`)."""

    name: str
    version: str
    sha256: str  # of the file


class Row(_Strict, frozen=True, kw_only=True):
    """One figure of one side: samples of the same work, or the reason why there are none."""

    schema: Literal[1, 2] = 2  # 1 has no `workload`
    part: str
    measure: str
    side: str  # whose figure: pam-edge, or a peer's name
    variant: str
    scheme: str
    runtime: str
    versions: dict[str, str]
    commit: str
    dirty: bool  # files differed from that commit
    bundle: str  # sha256 in bundle.json, "" where no bundle took part
    machine: Machine
    threads: int
    settings: dict[str, str]  # whatever else the figure depends on
    load: Load | None = None
    unit: Unit = "ns"
    work: float = 1.0  # what one sample does, in tokens or clicks
    samples: tuple[int, ...] = ()
    stats: Stats | None = None
    figures: dict[str, float] = {}  # derived, the unit in the name
    against: Against | None = None
    error: str = ""  # why there are no samples, or why there are fewer than were asked for
    before: State | None = None
    after: State | None = None
    series: Series | None = None
    workload: WorkloadId | None = None  # None: options said what is measured

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement, whenever it was made."""
        settings = (f"{name}={value}" for name, value in sorted(self.settings.items()))
        other = self.against.side if self.against else ""
        what = (self.part, self.measure, self.side, other, self.variant, self.scheme, str(self.threads))
        where = (self.machine.device, self.machine.cpu or "")
        of = () if self.workload is None else (f"{self.workload.name} {self.workload.version}",)
        return (*what, *where, self.commit, self.bundle, *settings, *of)

    @property
    def same(self) -> tuple[str, ...]:
        """What two rows must share to be compared: all but commit and bundle."""
        settings = (f"{name}={value}" for name, value in sorted(self.settings.items()))
        what = (self.part, self.measure, self.side, self.variant, self.scheme, self.runtime)
        return (*what, str(self.threads), self.machine.device, self.machine.cpu or "", *settings)


def stats(samples: Sequence[int]) -> Stats:
    """Median and spread. Raises ValueError where there is no sample."""
    places = [0, 5, 25, 50, 75, 95, 100]
    low, p05, p25, median, p75, p95, high = map(float, np.percentile(np.asarray(samples, np.float64), places))
    return Stats(median=median, low=low, p05=p05, p25=p25, p75=p75, p95=p95, high=high)


def against(
    ours: Sequence[int], theirs: Sequence[int], *, side: str, goal: float | None = None, scale: float = 1.0
) -> Against:
    """How many times faster `ours` is than `theirs`; samples at the same place were taken in one round.

    `scale` is how much more work a sample of ours does than one of theirs.
    """
    pairs = [b * scale / a for a, b in zip(ours, theirs, strict=False)]
    factor = stats(theirs).median * scale / stats(ours).median
    return Against(
        side=side, samples=tuple(theirs), factor=factor, low=min(pairs), high=max(pairs), goal=goal
    )


def read_rows(path: Path) -> list[Row]:
    """Every row of a file, none where there is no file. Raises IntegrityError for a line that is no row."""
    return read_lines(path, Row)


def read_file(path: Path) -> list[Row]:
    """Like `read_rows`, of a file that has to be there. Raises UsageError where it is not."""
    if not path.is_file():
        raise UsageError(f"no file of rows at {path}: `pam-edge bench ... -o jsonl --out {path}` makes one")
    return read_rows(path)


def put_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file, each in the place of an earlier one of the same measurement; whole or not at all.

    Raises like `read_rows`, and WontFitError or EnvironmentProblem where it cannot be written.
    """
    put_lines(path, rows, Row)


def write_rows(path: Path, text: str) -> None:
    """Rows that are text already, as a file; whole or not at all. Raises like `put_rows`."""
    replace_file(path, text.encode() + b"\n")
