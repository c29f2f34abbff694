"""What one run of this command is told, and how its rows come about. Knows no peer and no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pam_edge.benchmarks.harness.rows import Against, Load, Machine, Row, Unit, stats

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Everything that all parts share."""

    cache: Path  # environments, models and bundles made for this
    bundles: tuple[Path, ...]  # given; others are exported into the cache
    peers: tuple[str, ...]  # sides to measure beside ours
    threads: int
    rounds: int
    warmup: int
    prompt: int  # tokens
    tokens: int  # decoded after it
    answer_tokens: int
    commit: str
    dirty: bool
    machine: Machine
    tell: Tell

    @property
    def logs(self) -> Path:
        """Where workers' words go."""
        return self.cache / "logs"


@dataclass(frozen=True)
class Subject:
    """What is measured: the same for every side."""

    part: str
    variant: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Who:
    """A side: whose engine, with which numbers."""

    side: str
    scheme: str
    runtime: str
    versions: Mapping[str, str] = field(default_factory=dict)
    bundle: str = ""

    def running(self, versions: Mapping[str, str]) -> Who:
        """The same side, with what its worker says it runs."""
        return replace(self, versions={**self.versions, **versions})


def figure(
    job: Job,
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
) -> Row:
    """One row: of samples, or of the reason why there are none."""
    return Row(
        part=subject.part,
        measure=measure,
        side=who.side,
        variant=subject.variant,
        scheme=who.scheme,
        runtime=who.runtime,
        versions=dict(who.versions),
        commit=job.commit,
        dirty=job.dirty,
        bundle=who.bundle,
        machine=job.machine,
        threads=job.threads,
        settings=dict(subject.settings),
        load=load,
        unit=unit,
        work=work,
        samples=tuple(samples),
        stats=stats(samples) if samples else None,
        figures=dict(figures or {}),
        against=against,
        error=error if samples else error or "no sample",
    )
