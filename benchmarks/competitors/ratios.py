"""Our side of a part against every other that was measured beside it. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pam_edge.benchmarks.competitors.job import Job
from pam_edge.benchmarks.competitors.pins import OURS
from pam_edge.benchmarks.harness.iterations import Side
from pam_edge.benchmarks.harness.row_builder import Subject, make_row
from pam_edge.benchmarks.harness.rows import Row, Unit, against

Goals = Mapping[tuple[str, str], float]  # the other side and the measure -> how often as fast ours should be


def ratio(
    job: Job,
    about: Subject,
    ours: Side,
    measure: str,
    theirs: Sequence[int],
    name: str,
    *,
    goal: float | None,
    unit: Unit = "ns",
    figures: Mapping[str, float] | None = None,
) -> Row:
    """Our samples of a measure against those of the side `name`."""
    samples = ours.samples[measure]
    return make_row(
        job.conditions,
        about,
        ours.who,
        measure=measure,
        samples=samples,
        unit=unit,
        load=ours.load,
        figures=figures,
        against=against(samples, theirs, side=name, goal=goal),
    )


def ratios(
    job: Job, about: Subject, sides: Sequence[Side], *, measures: Sequence[str], goals: Goals
) -> list[Row]:
    """A row a side and measure; none where ours failed."""
    by_name = {side.who.side: side for side in sides if side.samples}
    ours = by_name.pop(OURS, None)
    if ours is None:
        return []
    return [
        ratio(job, about, ours, measure, other.samples[measure], name, goal=goals.get((name, measure)))
        for name, other in by_name.items()
        for measure in measures
    ]
