"""What one run of this command is asked for, and how its sides start. Knows no peer and no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pam_edge.benchmarks.harness.iterations import Side, Started, Tell, interleave, open_sides
from pam_edge.benchmarks.harness.messages import Iteration, Request, Versions
from pam_edge.benchmarks.harness.row_builder import Conditions, Subject, Who, make_row
from pam_edge.benchmarks.harness.rows import Row, Unit
from pam_edge.benchmarks.harness.worker import Worker


@dataclass(frozen=True)
class Job:
    """Everything that all parts share."""

    conditions: Conditions
    cache: Path  # environments, models and bundles made for this
    bundles: tuple[Path, ...]  # given; others are exported into the cache
    threads: int
    rounds: int
    warmup: int
    tell: Tell
    peers: tuple[str, ...] = ()  # sides to measure beside ours
    prompt: int = 0  # tokens
    tokens: int = 0  # decoded after it
    answer_tokens: int = 0

    def subject(self, part: str, variant: str, settings: Mapping[str, str]) -> Subject:
        """What a part measures."""
        return Subject(part, variant, self.threads, settings)


@dataclass(frozen=True)
class Command:
    """How a side's worker is started, and whose it is."""

    who: Who
    words: Sequence[str]


def worker_side(
    job: Job,
    who: Who,
    command: Callable[[], Command],
    load: Request[Versions],
    iterate: Callable[[Worker], Iteration],
    *,
    log: str,
    warm: Callable[[Worker], object] = lambda worker: None,
) -> Side:
    """A side that is a worker of its own. `command` may take long, and fail: it makes what the worker opens.

    `who` stands in its rows where it does; `warm` is called once after `load`.
    """

    def start(stack: ExitStack) -> Started:
        made = command()
        place = job.cache / "logs" / f"{log}-{who.side}.txt"
        worker = stack.enter_context(Worker(who.side, made.words, log=place))
        job.tell(f"{who.side}: loading for {log}")
        versions: Versions = worker.ask(load)
        warm(worker)
        return Started(worker, lambda: iterate(worker), made.who.running(versions))

    return Side(who, start)


def measure_sides(job: Job, sides: Sequence[Side], *, warmup: int) -> None:
    """Open all sides and interleave them."""
    with open_sides(sides, job.tell):
        interleave(sides, repeat=job.rounds, warmup=warmup, tell=job.tell)


def side_row(
    job: Job,
    about: Subject,
    side: Side,
    measure: str,
    *,
    work: float = 1.0,
    unit: Unit = "ns",
    figures: Mapping[str, float] | None = None,
) -> Row:
    """A side's row of one measure: its samples, or why there are none."""
    return make_row(
        job.conditions,
        about,
        side.who,
        measure=measure,
        samples=side.samples.get(measure, ()),
        unit=unit,
        work=work,
        load=side.load,
        figures=figures or side.figures(measure),
        error=side.error,
    )
