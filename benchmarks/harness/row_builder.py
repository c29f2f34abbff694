"""How every row comes about: what all rows of a run share, what is measured, whose figure it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from pam_edge.benchmarks.harness.machine import (
    Ticks,
    Watch,
    bandwidth_of,
    read_bandwidth,
    this_commit,
    this_machine,
)
from pam_edge.benchmarks.harness.rows import (
    Against,
    Load,
    Machine,
    Row,
    Series,
    State,
    Unit,
    WorkloadId,
    stats,
)


@dataclass(frozen=True)
class Conditions:
    """What all rows of one run share."""

    machine: Machine
    commit: str
    dirty: bool
    workload: WorkloadId | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured: the same for every side."""

    part: str
    variant: str
    threads: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Who:
    """A side: whose engine, with which numbers."""

    side: str
    scheme: str
    runtime: str
    versions: Mapping[str, str] = field(default_factory=dict)
    bundle: str = ""  # sha256 in bundle.json

    def running(self, versions: Mapping[str, str]) -> Who:
        """The same side, with what its worker says it runs."""
        return replace(self, versions={**self.versions, **versions})


def make_row(
    conditions: Conditions,
    subject: Subject,
    who: Who,
    *,
    measure: str,
    samples: Sequence[int] = (),
    unit: Unit = "ns",
    work: float = 1.0,
    load: Load | None = None,
    figures: Mapping[str, float] | None = None,
    against: Against | None = None,
    error: str = "",
    before: State | None = None,
    after: State | None = None,
    series: Series | None = None,
) -> Row:
    """One row: of samples, or of the reason why there are none. Arguments are as in `Row`."""
    return Row(
        part=subject.part,
        measure=measure,
        side=who.side,
        variant=subject.variant,
        scheme=who.scheme,
        runtime=who.runtime,
        versions=dict(who.versions),
        commit=conditions.commit,
        dirty=conditions.dirty,
        bundle=who.bundle,
        machine=conditions.machine,
        threads=subject.threads,
        settings=dict(subject.settings),
        workload=conditions.workload,
        load=load,
        unit=unit,
        work=work,
        samples=tuple(samples),
        stats=stats(samples) if samples else None,
        figures=dict(figures or {}),
        against=against,
        error=error if samples else error or "no sample",
        before=before,
        after=after,
        series=series,
    )


def with_bandwidth(
    machine: Machine,
    samples: Sequence[int],
    size: int,
    *,
    threads: int,
    load: Load | None = None,
    workload: WorkloadId | None = None,
) -> tuple[Conditions, Row]:
    """Conditions on a machine whose memory was read, `size` bytes in each of `samples` ns, and that row."""
    rate = bandwidth_of(list(samples), size)
    commit, dirty = this_commit()
    known = msgspec.structs.replace(machine, read_bytes_per_s=rate)
    conditions = Conditions(known, commit, dirty, workload)
    how = {"how": "memchr over an array a thread", "bytes": str(size)}
    row = make_row(
        conditions,
        Subject("bandwidth", "", threads, how),
        Who("machine", "", "libc"),
        measure="read",
        samples=samples,
        work=size,
        load=load,
        figures={"gb_per_s": rate / 1e9},
    )
    return conditions, row


def conditions_here(threads: int) -> tuple[Conditions, Row]:
    """Conditions on this machine, whose memory is read now with so many threads; and the row of that."""
    watch, own = Watch(), {os.getpid()}
    before = Ticks.read(own)
    samples, size = read_bandwidth(threads)
    watch.note(before, Ticks.read(own))
    return with_bandwidth(
        this_machine(read_bytes_per_s=None), samples, size, threads=threads, load=watch.load()
    )
